//! The many files of a day become one.

use crate::error::Error;
use crate::files;
use crate::layout::{Day, Span, Store, live};
use crate::message::Row;
use crate::table::{Cursor, Table, TableWriter};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files that are merged at once, which bounds the open files and the memory.
const FAN_IN: usize = 64;

/// What a compaction did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Days whose file was written.
    pub days: Vec<Day>,
    /// Files that could not be read, and where they were put.
    pub damaged: Vec<PathBuf>,
}

impl Store {
    /// Merges the small files of each day into the file of the day. A writer may be at work
    /// meanwhile.
    pub fn compact(&self) -> Result<Compaction, Error> {
        let _lock = files::lock(&self.directory().join("compaction.lock"))?;
        let mut done = Compaction::default();
        let mut first_error = None;
        for day in self.days()? {
            match self.compact_day(day, &mut done.damaged) {
                Ok(true) => done.days.push(day),
                Ok(false) => {}
                // A day that the disk has no room for does not keep a smaller one from it.
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        first_error.map_or(Ok(done), Err)
    }

    fn compact_day(&self, day: Day, damaged: &mut Vec<PathBuf>) -> Result<bool, Error> {
        loop {
            match self.merge_day(day) {
                Err(Error::Damaged { path, .. }) if path.starts_with(self.day(day)) => {
                    damaged.push(self.put_aside(day, &path)?);
                }
                merged => return merged,
            }
        }
    }

    fn merge_day(&self, day: Day) -> Result<bool, Error> {
        let of_day = open(&self.day_file(day))?;
        let through = of_day.as_ref().map_or(Ok(0), |table| through(table, &self.day_file(day)))?;
        let (mut spans, replaced) = live(self.small_files(day)?, through);
        self.remove_small(day, &replaced)?;
        while spans.len() > FAN_IN {
            let parts: Vec<_> = spans.chunks(FAN_IN).map(<[_]>::to_vec).collect();
            spans =
                parts.iter().map(|part| self.merge_part(day, part)).collect::<Result<_, _>>()?;
        }
        let Some(last) = spans.last().map(|span| span.last) else { return Ok(false) };
        let small = spans.iter().map(|span| Table::open(&self.small_file(day, *span)));
        let inputs: Vec<Table> =
            of_day.map(Ok).into_iter().chain(small).collect::<Result<_, _>>()?;
        self.merge(inputs, &self.day_file(day), Some(last))?;
        self.remove_small(day, &spans)?;
        Ok(true)
    }

    /// Merges small files that follow each other into one that replaces them.
    fn merge_part(&self, day: Day, spans: &[Span]) -> Result<Span, Error> {
        let ([only] | [only, ..]) = spans else { return Err(nothing_to_merge(&self.day(day))) };
        let whole = Span { first: only.first, last: spans.last().unwrap_or(only).last };
        if spans.len() > 1 {
            let inputs = spans.iter().map(|span| Table::open(&self.small_file(day, *span)));
            let inputs = inputs.collect::<Result<_, _>>()?;
            self.merge(inputs, &self.small_file(day, whole), None)?;
            self.remove_small(day, spans)?;
        }
        Ok(whole)
    }

    fn merge(&self, inputs: Vec<Table>, to: &Path, through: Option<u64>) -> Result<(), Error> {
        let temporary = self.temporary("merged.parquet");
        let mut table = TableWriter::create(&temporary)?;
        let mut merge = Merge::of(inputs.into_iter().map(Table::cursor))?;
        while let Some(row) = merge.next()? {
            table.push(row)?;
        }
        table.finish(through)?;
        files::rename(&temporary, to)
    }

    fn remove_small(&self, day: Day, spans: &[Span]) -> Result<(), Error> {
        spans.iter().try_for_each(|span| files::remove(&self.small_file(day, *span)))
    }

    fn put_aside(&self, day: Day, path: &Path) -> Result<PathBuf, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut to = self.damaged(&format!("{day}-{name}"));
        let mut again = 1;
        while fs::exists(&to).map_err(Error::io("look for", &to))? {
            again += 1;
            to = self.damaged(&format!("{day}-{again}-{name}"));
        }
        files::rename(path, &to)?;
        files::sync_directory(&self.day(day))?;
        Ok(to)
    }
}

fn nothing_to_merge(path: &Path) -> Error {
    Error::Damaged { path: path.to_owned(), reason: "there is nothing to merge".to_owned() }
}

fn open(path: &Path) -> Result<Option<Table>, Error> {
    match Table::open(path) {
        Err(error) if error.is_missing() => Ok(None),
        table => table.map(Some),
    }
}

/// Only the number in its footer shows which small files the day's file replaces.
fn through(table: &Table, path: &Path) -> Result<u64, Error> {
    table.through().ok_or_else(|| Error::Damaged {
        path: path.to_owned(),
        reason: "its footer does not say up to which message it reaches".to_owned(),
    })
}

/// The rows of several files in the order of one. Of rows with the same topic and time, those of the
/// earlier file come first.
struct Merge {
    cursors: Vec<Cursor>,
    heads: BinaryHeap<Reverse<Head>>,
}

struct Head {
    row: Row,
    cursor: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.row.order(&other.row).then(self.cursor.cmp(&other.cursor))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

impl Merge {
    fn of(cursors: impl Iterator<Item = Cursor>) -> Result<Self, Error> {
        let cursors: Vec<Cursor> = cursors.collect();
        let count = cursors.len();
        let mut merge = Self { cursors, heads: BinaryHeap::new() };
        (0..count).try_for_each(|cursor| merge.advance(cursor))?;
        Ok(merge)
    }

    fn advance(&mut self, cursor: usize) -> Result<(), Error> {
        let row = self.cursors.get_mut(cursor).map_or(Ok(None), Cursor::next)?;
        self.heads.extend(row.map(|row| Reverse(Head { row, cursor })));
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Row>, Error> {
        let Some(Reverse(head)) = self.heads.pop() else { return Ok(None) };
        self.advance(head.cursor)?;
        Ok(Some(head.row))
    }
}
