//! What a file holds, as far as possible without decoding it.

use super::{NUMBER, TIME, TOPIC, Table, column, row_count, values};
use crate::error::Error;
use crate::message::Row;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArrayType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::statistics::Statistics;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

/// How large a file is, and which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub bytes: u64,
    /// The number of the file in its file system. A file that takes its place has another one.
    pub inode: u64,
    pub messages: u64,
}

/// The messages of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSummary {
    pub messages: u64,
    /// Those whose payload is a number.
    pub numbers: u64,
    /// When the last one was received, in microseconds since 1970 in UTC.
    pub last: i64,
}

impl TopicSummary {
    /// One message.
    pub(crate) fn of(row: &Row) -> Self {
        let numbers = crate::message::number(row.payload.data()).is_some().into();
        Self { messages: 1, numbers, last: row.time }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.numbers += other.numbers;
        self.last = self.last.max(other.last);
    }
}

/// The messages by their topics.
pub type Topics = BTreeMap<Vec<u8>, TopicSummary>;

pub fn add_to(topics: &mut Topics, topic: &[u8], summary: TopicSummary) {
    match topics.get_mut(topic) {
        Some(known) => known.add(summary),
        None => drop(topics.insert(topic.to_vec(), summary)),
    }
}

impl Table {
    pub fn status(&self) -> std::result::Result<Status, Error> {
        let file = self.file.metadata().map_err(Error::io("look at", &self.path))?;
        let messages = self.reader.metadata().file_metadata().num_rows();
        let messages = u64::try_from(messages).unwrap_or(0);
        Ok(Status { bytes: file.len(), inode: file.ino(), messages })
    }

    /// The topics that begin with this prefix. A row group of one topic is not decoded, because its
    /// statistics say everything.
    pub fn topics(&self, prefix: &[u8]) -> std::result::Result<Topics, Error> {
        let mut topics = Topics::new();
        for place in 0..self.reader.num_row_groups() {
            let metadata = self.reader.metadata().row_group(place);
            if !may_begin_with(metadata, prefix) {
                continue;
            }
            if let Some((topic, summary)) = only_topic(metadata) {
                add_to(&mut topics, topic, summary);
                continue;
            }
            self.group(place)
                .and_then(|group| topics_of_group(group.as_ref(), &mut topics))
                .map_err(Error::parquet("read", &self.path))?;
        }
        topics.retain(|topic, _| topic.starts_with(prefix));
        Ok(topics)
    }
}

/// What the statistics say. Those of a long topic are cut, and are bounds all the same.
fn may_begin_with(group: &RowGroupMetaData, prefix: &[u8]) -> bool {
    let Some(Statistics::ByteArray(bounds)) = group.column(TOPIC).statistics() else { return true };
    let is_before = bounds
        .max_opt()
        .is_some_and(|last| last.data() < prefix && !prefix.starts_with(last.data()));
    let is_behind = bounds
        .min_opt()
        .is_some_and(|first| first.data() > prefix && !first.data().starts_with(prefix));
    !is_before && !is_behind
}

/// The topic of all rows, if the statistics are exact about that.
fn only_topic(group: &RowGroupMetaData) -> Option<(&[u8], TopicSummary)> {
    let Statistics::ByteArray(topics) = group.column(TOPIC).statistics()? else { return None };
    let Statistics::Int64(times) = group.column(TIME).statistics()? else { return None };
    let (first, last) = (topics.min_opt()?, topics.max_opt()?);
    if first != last || !topics.min_is_exact() || !topics.max_is_exact() {
        return None;
    }
    let messages = u64::try_from(group.num_rows()).ok()?;
    let without = group.column(NUMBER).statistics()?.null_count_opt()?;
    let numbers = messages.checked_sub(without)?;
    Some((first.data(), TopicSummary { messages, numbers, last: *times.max_opt()? }))
}

fn topics_of_group(group: &dyn RowGroupReader, found: &mut Topics) -> Result<()> {
    let all = row_count(group)?;
    let topics = values(&mut column::<ByteArrayType>(group, TOPIC)?, 0..all)?;
    let times = values(&mut column::<Int64Type>(group, TIME)?, 0..all)?;
    let has_number = levels(&mut column::<DoubleType>(group, NUMBER)?, all)?;
    let mut rows = topics.iter().zip(times).zip(has_number).peekable();
    // They are sorted by topic, so that each topic is looked up once.
    while let Some(((topic, last), number)) = rows.next() {
        let mut summary = TopicSummary { messages: 1, numbers: number.into(), last };
        while let Some(((_, last), number)) = rows.next_if(|((other, _), _)| *other == topic) {
            summary.add(TopicSummary { messages: 1, numbers: number.into(), last });
        }
        add_to(found, topic.data(), summary);
    }
    Ok(())
}

/// Whether each row of a column has a value.
fn levels(column: &mut ColumnReaderImpl<DoubleType>, count: usize) -> Result<Vec<bool>> {
    let (mut values, mut levels) = (Vec::new(), Vec::with_capacity(count));
    let (found, _, _) = column.read_records(count, Some(&mut levels), None, &mut values)?;
    if found != count || levels.len() != count {
        let sentence = format!("a column ends after {found} of {count} rows");
        return Err(ParquetError::General(sentence));
    }
    Ok(levels.iter().map(|level| *level > 0).collect())
}
