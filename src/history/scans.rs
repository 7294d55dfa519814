//! Questions about all devices, which are answered in small steps, so that no batch and no alert waits
//! long for one.

use super::PastReader;
use super::coding::from_json;
use super::disk::{self, KnownRecord, PastRecords};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::EpisodeRecord;
use iotmonitor_core::model::history::figures::{FiguresMaker, PastFigures};
use std::ops::Bound;
use std::time::Duration;

/// The number of episodes, and of devices, that one step looks at.
const EPISODES_STEP: usize = 2_000;
const DEVICES_STEP: usize = 200;

/// A question that is under way.
pub(super) enum Scan {
    Incidents(IncidentScan),
    Figures(FiguresScan),
}

impl Scan {
    /// Takes a step; returns what is still to do.
    pub fn step(self, disk: &PastRecords) -> Option<Self> {
        match self {
            Self::Incidents(mut scan) => match scan.step(disk) {
                Ok(false) => return Some(Self::Incidents(scan)),
                Ok(true) => scan.reader.take(Ok(scan.found)),
                Err(error) => scan.reader.take(Err(disk.fail("read", error).to_string())),
            },
            Self::Figures(mut scan) => match scan.step(disk) {
                Ok(false) => return Some(Self::Figures(scan)),
                Ok(true) => scan.reader.take(Ok(scan.found)),
                Err(error) => scan.reader.take(Err(disk.fail("read", error).to_string())),
            },
        }
        None
    }

    /// Answers that there are no records at the moment.
    pub fn give_up(self) {
        let sentence = "the history cannot be read at the moment".to_owned();
        match self {
            Self::Incidents(scan) => scan.reader.take(Err(sentence)),
            Self::Figures(scan) => scan.reader.take(Err(sentence)),
        }
    }
}

/// The latest incidents, of one device or of all.
pub(super) struct IncidentScan {
    since: Duration,
    limit: usize,
    /// The prefix of the keys.
    prefix: Vec<u8>,
    /// The last key that was looked at, and whether it was one of those that last.
    at: Option<Vec<u8>>,
    in_open: bool,
    found: Vec<EpisodeRecord>,
    reader: PastReader<Vec<EpisodeRecord>>,
}

impl IncidentScan {
    pub fn new(
        device: Option<&DeviceName>,
        since: Duration,
        limit: usize,
        reader: PastReader<Vec<EpisodeRecord>>,
    ) -> Self {
        let prefix = device.map_or_else(Vec::new, |device| disk::subject_key(Some(device)));
        Self { since, limit, prefix, at: None, in_open: false, found: Vec::new(), reader }
    }

    /// Returns whether that was all.
    fn step(&mut self, disk: &PastRecords) -> heed::Result<bool> {
        let transaction = disk.env.read_txn()?;
        let table = if self.in_open { disk.open } else { disk.episodes };
        let from = match &self.at {
            Some(at) => Bound::Excluded(at.clone()),
            // An empty key is none.
            None if self.prefix.is_empty() => Bound::Unbounded,
            None => Bound::Included(self.prefix.clone()),
        };
        let range = (from.as_ref().map(Vec::as_slice), Bound::Unbounded);
        let mut looked_at = 0;
        for entry in table.range(&transaction, &range)?.take(EPISODES_STEP) {
            let (key, value) = entry?;
            if !key.starts_with(&self.prefix) {
                break;
            }
            looked_at += 1;
            self.at = Some(key.to_vec());
            let since = self.since;
            let is_meant =
                |it: &EpisodeRecord| it.kind.is_incident() && it.end.is_none_or(|end| end >= since);
            self.found.extend(from_json::<EpisodeRecord>(key, value).filter(is_meant));
        }
        let is_done = looked_at < EPISODES_STEP && self.in_open;
        if looked_at < EPISODES_STEP {
            (self.at, self.in_open) = (None, true);
        }
        if is_done || self.found.len() > 4 * self.limit {
            self.found.sort_unstable_by_key(|it| std::cmp::Reverse((it.begin, it.id)));
            self.found.truncate(self.limit);
        }
        Ok(is_done)
    }
}

/// The figures of all devices.
pub(super) struct FiguresScan {
    now: Duration,
    keep: Duration,
    /// Made of the monitor's own episodes in the first step.
    maker: Option<FiguresMaker>,
    /// From when on those are complete.
    complete: Duration,
    at: Vec<u8>,
    found: Vec<PastFigures>,
    reader: PastReader<Vec<PastFigures>>,
}

impl FiguresScan {
    pub fn new(now: Duration, keep: Duration, reader: PastReader<Vec<PastFigures>>) -> Self {
        let (maker, complete) = (None, Duration::ZERO);
        Self { now, keep, maker, complete, at: disk::subject_key(None), found: Vec::new(), reader }
    }

    /// Returns whether that was all.
    fn step(&mut self, disk: &PastRecords) -> heed::Result<bool> {
        let transaction = disk.env.read_txn()?;
        let Some(maker) = &self.maker else {
            let monitor = disk.known_of(&transaction, None)?;
            self.complete = Duration::from_millis(monitor.map_or(0, |it| it.complete_millis));
            let unwatched = episodes(disk, &transaction, &disk::subject_key(None), |_| true)?;
            self.maker = Some(FiguresMaker::new(self.now, unwatched));
            return Ok(false);
        };
        let range = (Bound::Excluded(self.at.as_slice()), Bound::Unbounded);
        let mut at = None;
        let mut looked_at = 0;
        for entry in disk.known.range(&transaction, &range)?.take(DEVICES_STEP) {
            let (key, value) = entry?;
            looked_at += 1;
            at = Some(key.to_vec());
            let Some(KnownRecord { name, known }) = from_json(key, value) else { continue };
            let own = Duration::from_millis(known.name_millis.max(known.complete_millis));
            let since = own.max(self.complete).max(self.now.saturating_sub(self.keep));
            let own = episodes(disk, &transaction, key, |episode| maker.concerns(episode))?;
            self.found.push(maker.figures(name, since, &own, known.incidents));
        }
        if let Some(at) = at {
            self.at = at;
        }
        if looked_at < DEVICES_STEP {
            self.found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            self.found.shrink_to_fit();
            return Ok(true);
        }
        Ok(false)
    }
}

/// The episodes of a subject that are meant.
fn episodes(
    disk: &PastRecords,
    transaction: &heed::RoTxn,
    subject: &[u8],
    is_meant: impl Fn(&EpisodeRecord) -> bool,
) -> heed::Result<Vec<EpisodeRecord>> {
    let mut found = Vec::new();
    for table in [disk.episodes, disk.open] {
        for entry in table.prefix_iter(transaction, subject)? {
            let (key, value) = entry?;
            found.extend(from_json::<EpisodeRecord>(key, value).filter(&is_meant));
        }
    }
    Ok(found)
}
