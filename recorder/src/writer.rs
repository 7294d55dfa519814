//! The one writer of a store: messages become segments, and segments become Parquet files.

use crate::error::{AppendError, Error};
use crate::files::{self, FileLock};
use crate::layout::{Day, Span, Store};
use crate::message::{Received, Row};
use crate::segment::{self, Frame};
use crate::table::{Table, TableWriter};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// When a segment becomes a Parquet file, and how much memory messages may take before.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The time after the first message of a segment.
    pub flush: Duration,
    pub rows: u64,
    pub bytes: u64,
    /// The bytes of messages that wait for a commit.
    pub window: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { flush: Duration::from_secs(10), rows: 20_000, bytes: 8 << 20, window: 4 << 20 }
    }
}

/// A segment with durable messages that could not be read back, which is kept in this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub kept: PathBuf,
    pub lost: u64,
}

/// The segment that commits are appended to.
#[derive(Debug)]
struct Active {
    file: File,
    first: u64,
    /// Bytes that are durable.
    length: u64,
    since: Instant,
}

/// A segment that takes no more messages, from its first one up to that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sealed {
    first: u64,
    end: u64,
}

/// Appends messages to a store. There is one writer of a store at a time.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    limits: Limits,
    window: Frame,
    /// The number of the first message that is not durable.
    next: u64,
    active: Option<Active>,
    sealed: VecDeque<Sealed>,
    /// Found by a flush that did not come to its end.
    damages: Vec<Damage>,
    _lock: FileLock,
}

impl Writer {
    /// Opens a store, and makes it if there is none. The segments that a former writer left become
    /// Parquet files at the next [`flush`](Self::flush), which is due at once.
    pub fn open(store: &Store, limits: Limits) -> Result<Self, Error> {
        store.create()?;
        let lock = files::lock(&store.directory().join("writer.lock"))?;
        let sealed = left_segments(store)?;
        let behind_segments = sealed.back().map_or(1, |sealed| sealed.end);
        let next = behind_segments.max(last_number(store)?.saturating_add(1));
        let window = Frame::new(limits.window);
        let store = store.clone();
        Ok(Self {
            store,
            limits,
            window,
            next,
            active: None,
            sealed,
            damages: Vec::new(),
            _lock: lock,
        })
    }

    /// Takes a message, which is durable after the next commit. It is refused if too many wait for
    /// that.
    pub fn append<'m>(&mut self, message: impl Into<Received<'m>>) -> Result<u64, AppendError> {
        self.window.push(message)?;
        Ok(self.next + u64::from(self.window.rows()) - 1)
    }

    /// Makes all messages durable that were appended, and returns the number of the last durable
    /// one: the messages up to it may be acknowledged. After an error they are still waiting, and
    /// another commit may succeed.
    pub fn commit(&mut self, now: Instant) -> Result<u64, Error> {
        if self.window.rows() == 0 {
            return Ok(self.next - 1);
        }
        let path =
            self.store.segment(self.active.as_ref().map_or(self.next, |active| active.first));
        let is_new = self.active.is_none();
        let active = match &mut self.active {
            Some(active) => active,
            none => {
                let file = File::create(&path).map_err(Error::io("create", &path))?;
                none.insert(Active { file, first: self.next, length: 0, since: now })
            }
        };
        let frame = self.window.finish(self.next);
        // After an error, the next try writes over what is there.
        active.file.write_all_at(frame, active.length).map_err(Error::io("write to", &path))?;
        let synced = active.file.sync_data().map_err(Error::io("sync", &path));
        let synced = synced.and_then(|()| {
            if is_new { files::sync_directory(&self.store.segments()) } else { Ok(()) }
        });
        if let Err(error) = synced {
            // The kernel may have dropped what it could not write, and a second sync would report
            // success. The messages go into a new segment, whose name says where this one ends.
            self.seal();
            return Err(error);
        }
        active.length += frame.len() as u64;
        self.next += u64::from(self.window.rows());
        self.window.clear();
        Ok(self.next - 1)
    }

    /// Takes other limits, that of the window excepted.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The time at which [`flush_due`](Self::flush_due) comes to hold, unless messages make it hold
    /// before. `None` while there is no segment.
    pub fn flush_deadline(&self, now: Instant) -> Option<Instant> {
        let active = self.active.as_ref().map(|active| active.since + self.limits.flush);
        if self.sealed.is_empty() { active } else { Some(now) }
    }

    /// The number of messages that wait for a commit.
    pub fn waiting(&self) -> u32 {
        self.window.rows()
    }

    /// Whether there is a segment that has to become a Parquet file now.
    pub fn flush_due(&self, now: Instant) -> bool {
        let full = |active: &Active| {
            self.next - active.first >= self.limits.rows
                || active.length >= self.limits.bytes
                || now.saturating_duration_since(active.since) >= self.limits.flush
        };
        !self.sealed.is_empty() || self.active.as_ref().is_some_and(full)
    }

    /// Makes Parquet files of all segments. After an error the segments that are left keep their
    /// messages, and another flush may succeed.
    pub fn flush(&mut self) -> Result<Vec<Damage>, Error> {
        self.seal();
        while self.flush_oldest()? {}
        Ok(self.take_damages())
    }

    /// Makes Parquet files of the oldest of the segments that take no more messages. There are many
    /// after a time without room. Returns whether there was one.
    pub fn flush_oldest(&mut self) -> Result<bool, Error> {
        let Some(sealed) = self.sealed.front().copied() else { return Ok(false) };
        self.damages.extend(store_segment(&self.store, sealed)?);
        self.sealed.pop_front();
        Ok(true)
    }

    /// What the flushes have found since the last call.
    pub fn take_damages(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damages)
    }

    /// Lets the present segment take no more messages.
    pub fn seal(&mut self) {
        if let Some(active) = self.active.take()
            && active.first < self.next
        {
            self.sealed.push_back(Sealed { first: active.first, end: self.next });
        }
    }
}

/// The segments in the store's directory, made durable as they are.
fn left_segments(store: &Store) -> Result<VecDeque<Sealed>, Error> {
    let mut sealed = VecDeque::new();
    let firsts = store.segment_list()?;
    for (place, first) in firsts.iter().copied().enumerate() {
        if let Some(end) = firsts.get(place + 1).copied() {
            sealed.push_back(Sealed { first, end });
            continue;
        }
        // Its last frame may be whole and not durable, after the writer was killed between the two.
        let path = store.segment(first);
        File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io("sync", &path))?;
        let bytes = Bytes::from(fs::read(&path).map_err(Error::io("read", &path))?);
        let end = segment::read(&bytes, first, u64::MAX).end;
        if end > first {
            sealed.push_back(Sealed { first, end });
        } else {
            files::remove(&path)?;
        }
    }
    files::sync_directory(&store.segments())?;
    Ok(sealed)
}

/// The highest number that a file of the store names.
fn last_number(store: &Store) -> Result<u64, Error> {
    let mut last = 0;
    for day in store.days()? {
        last = store.small_files(day)?.iter().fold(last, |last, span| last.max(span.last));
        match Table::open(&store.day_file(day)) {
            Ok(table) => last = last.max(table.through().unwrap_or(0)),
            // A compaction puts it aside, and no other file is compared with it from then on.
            Err(Error::Damaged { .. }) => {}
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(last)
}

/// Makes a file for each day of which the segment has messages, and removes the segment. If this
/// ends in between, it is done again and makes the same files.
fn store_segment(store: &Store, sealed: Sealed) -> Result<Option<Damage>, Error> {
    let path = store.segment(sealed.first);
    let bytes = Bytes::from(fs::read(&path).map_err(Error::io("read", &path))?);
    let content = segment::read(&bytes, sealed.first, sealed.end);
    let mut days: BTreeMap<Day, Vec<Row>> = BTreeMap::new();
    for row in content.rows {
        days.entry(Day::of(row.time)).or_default().push(row);
    }
    let span = Span { first: sealed.first, last: sealed.end - 1 };
    for (day, mut rows) in days {
        rows.sort_by(Row::order);
        let temporary = store.temporary("flush.parquet");
        let mut table = TableWriter::create(&temporary)?;
        rows.into_iter().try_for_each(|row| table.push(row))?;
        table.finish(None)?;
        files::create_directory(&store.day(day))?;
        files::rename(&temporary, &store.small_file(day, span))?;
    }
    let lost = content.lost + sealed.end.saturating_sub(content.end);
    let damage = (lost > 0)
        .then(|| Damage { kept: store.damaged(&format!("{:020}.segment", sealed.first)), lost });
    match &damage {
        Some(damage) => files::rename(&path, &damage.kept)?,
        None => files::remove(&path)?,
    }
    // A segment must not come back without the one behind it, whose name says where it ends.
    files::sync_directory(&store.segments())?;
    Ok(damage)
}
