//! Parquet files of messages, sorted by topic and time.
//!
//! The Parquet library trusts what it reads, and a damaged file could end the process. Therefore
//! each file carries checksums: that of each row group is in the footer, and that of the footer is
//! behind the file's first four bytes, where no other reader looks.

mod summary;

pub use summary::{Status, TopicSummary, Topics, add_to};

use crate::error::Error;
use crate::message::{Row, number};
use crc32fast::Hasher;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type,
};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{KeyValue, RowGroupMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SCHEMA: &str = "message message {
    required int64 time (TIMESTAMP(MICROS, true));
    required binary topic (STRING);
    required binary payload;
    optional double number;
    required int32 qos (INTEGER(8, false));
    required boolean retain;
}";
/// The places of the columns in the schema.
const TIME: usize = 0;
const TOPIC: usize = 1;
const PAYLOAD: usize = 2;
const NUMBER: usize = 3;
const QOS: usize = 4;
const RETAIN: usize = 5;

/// Rows that are compressed together and can be passed over together. With these bounds, a file that
/// is being written or read takes a few megabytes, however large it is.
const GROUP_ROWS: usize = 16_384;
const GROUP_BYTES: usize = 4 << 20;
const PAGE_ROWS: usize = 4_096;
const PAGE_BYTES: usize = 256 << 10;
/// Rows that a cursor decodes at once.
const BATCH_ROWS: usize = 512;
/// The entry of the footer that says up to which number a day's messages are in the file.
const THROUGH: &str = "through";
/// The entry of the footer with the checksums of the row groups, in hexadecimal.
const CHECKSUMS: &str = "crc32";

fn schema() -> Result<TypePtr> {
    parse_message_type(SCHEMA).map(Arc::new)
}

fn properties() -> WriterProperties {
    let sorting = [TOPIC, TIME].map(|column| SortingColumn {
        column_idx: column as i32,
        descending: false,
        nulls_first: false,
    });
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(sorting.to_vec()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_column_dictionary_enabled(ColumnPath::from("time"), false)
        .set_column_encoding(ColumnPath::from("time"), Encoding::DELTA_BINARY_PACKED)
        .set_created_by(concat!("iotmonitor-recorder ", env!("CARGO_PKG_VERSION")).to_owned())
        .build()
}

/// The columns of a row group that is being filled.
#[derive(Default)]
struct Group {
    times: Vec<i64>,
    topics: Vec<ByteArray>,
    payloads: Vec<ByteArray>,
    numbers: Vec<f64>,
    /// 1 for each row that has a number, 0 for each other.
    has_number: Vec<i16>,
    qos: Vec<i32>,
    retain: Vec<bool>,
    bytes: usize,
}

impl Group {
    fn push(&mut self, row: Row) {
        let number = number(row.payload.data());
        self.bytes += row.topic.len() + row.payload.len();
        self.has_number.push(number.is_some().into());
        self.numbers.extend(number);
        self.times.push(row.time);
        self.topics.push(row.topic);
        self.payloads.push(row.payload);
        self.qos.push(row.qos.into());
        self.retain.push(row.retain);
    }

    fn is_full(&self) -> bool {
        self.times.len() >= GROUP_ROWS || self.bytes >= GROUP_BYTES
    }

    fn write(&self, group: &mut SerializedRowGroupWriter<'_, Checked>) -> Result<()> {
        write_column::<Int64Type>(group, &self.times, None)?;
        write_column::<ByteArrayType>(group, &self.topics, None)?;
        write_column::<ByteArrayType>(group, &self.payloads, None)?;
        write_column::<DoubleType>(group, &self.numbers, Some(&self.has_number))?;
        write_column::<Int32Type>(group, &self.qos, None)?;
        write_column::<BoolType>(group, &self.retain, None)
    }
}

fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Checked>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<()> {
    let column = group.next_column()?;
    let mut column = column.ok_or_else(|| ParquetError::General("a column is missing".into()))?;
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()
}

/// A file that is being written.
pub struct TableWriter {
    path: PathBuf,
    file: SerializedFileWriter<Checked>,
    group: Group,
    checksums: Vec<u32>,
}

impl TableWriter {
    /// Begins a file. What is there of that name is replaced.
    pub fn create(path: &Path) -> std::result::Result<Self, Error> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        let file = begin(file).map_err(Error::parquet("write", path))?;
        Ok(Self { path: path.to_owned(), file, group: Group::default(), checksums: Vec::new() })
    }

    /// Appends a row, which comes behind all others in the order of a file.
    pub fn push(&mut self, row: Row) -> std::result::Result<(), Error> {
        self.group.push(row);
        if self.group.is_full() {
            self.write_group().map_err(Error::parquet("write", &self.path))?;
        }
        Ok(())
    }

    fn write_group(&mut self) -> Result<()> {
        self.file.inner_mut().restart();
        let mut group = self.file.next_row_group()?;
        self.group.write(&mut group)?;
        group.close()?;
        self.file.flush()?;
        self.checksums.push(self.file.inner().checksum());
        self.group = Group::default();
        Ok(())
    }

    /// Ends the file, and makes its content durable.
    pub fn finish(mut self, through: Option<u64>) -> std::result::Result<(), Error> {
        if !self.group.times.is_empty() {
            self.write_group().map_err(Error::parquet("write", &self.path))?;
        }
        let checksums: Vec<String> =
            self.checksums.iter().map(|sum| format!("{sum:08x}")).collect();
        self.append(CHECKSUMS, checksums.join(" "));
        if let Some(through) = through {
            self.append(THROUGH, through.to_string());
        }
        self.file.inner_mut().restart();
        let tail = self.file.inner().length;
        let ended = self.file.into_inner().map_err(Error::parquet("write", &self.path))?;
        let head = Head { tail, checksum: ended.checksum() }.bytes();
        ended.file.write_all_at(&head, Head::PLACE).map_err(Error::io("write to", &self.path))?;
        ended.file.sync_all().map_err(Error::io("sync", &self.path))
    }

    fn append(&mut self, key: &str, value: String) {
        self.file.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
    }
}

fn begin(file: File) -> Result<SerializedFileWriter<Checked>> {
    let file = Checked { file, hasher: Hasher::new(), length: 0 };
    let mut file = SerializedFileWriter::new(file, schema()?, Arc::new(properties()))?;
    file.write_all(&[0; Head::LENGTH])?;
    file.flush()?;
    Ok(file)
}

/// A file with a checksum of what was written since it was restarted.
struct Checked {
    file: File,
    hasher: Hasher,
    length: u64,
}

impl Checked {
    fn restart(&mut self) {
        self.hasher.reset();
    }

    fn checksum(&self) -> u32 {
        self.hasher.clone().finalize()
    }
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Says where the row groups end, and has the checksum of what is behind them and its own.
struct Head {
    tail: u64,
    checksum: u32,
}

impl Head {
    /// Behind `PAR1`.
    const PLACE: u64 = 4;
    const LENGTH: usize = 8 + 4 + 4;

    fn bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&self.tail.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.checksum.to_le_bytes());
        let own = crc32fast::hash(&bytes[..12]);
        bytes[12..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    fn read(file: &File) -> io::Result<Self> {
        let mut bytes = [0; Self::LENGTH];
        file.read_exact_at(&mut bytes, Self::PLACE)?;
        let number = |from: usize, to: usize| {
            bytes[from..to].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let head = Self { tail: number(0, 8), checksum: number(8, 12) as u32 };
        if head.bytes() == bytes { Ok(head) } else { Err(differs("the head")) }
    }
}

fn differs(part: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{part} differs from its checksum"))
}

/// Checks a part of a file against its checksum.
fn check(file: &File, part: &str, range: Range<u64>, checksum: u32) -> io::Result<()> {
    const BUFFER: u64 = 64 << 10;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER as usize];
    let mut at = range.start;
    while at < range.end {
        let length = BUFFER.min(range.end - at) as usize;
        let piece = buffer.get_mut(..length).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        hasher.update(piece);
        at += length as u64;
    }
    if hasher.finalize() == checksum { Ok(()) } else { Err(differs(part)) }
}

/// A file that is there, and stays readable after it was replaced.
pub struct Table {
    path: PathBuf,
    file: File,
    reader: SerializedFileReader<File>,
    checksums: Vec<u32>,
}

impl Table {
    pub fn open(path: &Path) -> std::result::Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        Self::read(path, file).map_err(Error::parquet("read", path))
    }

    fn read(path: &Path, file: File) -> Result<Self> {
        let head = Head::read(&file)?;
        check(&file, "the footer", head.tail..file.metadata()?.len(), head.checksum)?;
        let options = ReadOptionsBuilder::new().with_page_index().build();
        let reader = SerializedFileReader::new_with_options(file.try_clone()?, options)?;
        if *reader.metadata().file_metadata().schema_descr().root_schema_ptr() != *schema()? {
            return Err(ParquetError::General("it has other columns".to_owned()));
        }
        let mut table = Self { path: path.to_owned(), file, reader, checksums: Vec::new() };
        let checksums = table.entry(CHECKSUMS).unwrap_or_default().split_whitespace();
        table.checksums = checksums.filter_map(|sum| u32::from_str_radix(sum, 16).ok()).collect();
        Ok(table)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn entry(&self, key: &str) -> Option<&str> {
        let entries = self.reader.metadata().file_metadata().key_value_metadata()?;
        entries.iter().find(|entry| entry.key == key)?.value.as_deref()
    }

    /// A row group whose bytes are what was written.
    fn group(&self, place: usize) -> Result<Box<dyn RowGroupReader + '_>> {
        let columns = self.reader.metadata().row_group(place).columns();
        let start = columns.iter().map(|column| column.byte_range().0).min().unwrap_or(0);
        let end = columns.iter().map(|column| column.byte_range()).map(|(at, length)| at + length);
        let checksum = self.checksums.get(place).copied();
        let checksum = checksum.ok_or_else(|| differs("the footer"))?;
        check(&self.file, "a row group", start..end.max().unwrap_or(0), checksum)?;
        self.reader.get_row_group(place)
    }

    /// The number that a day's file holds all messages up to.
    pub fn through(&self) -> Option<u64> {
        self.entry(THROUGH)?.parse().ok()
    }

    /// The rows of a topic in a span of time, in their order.
    pub fn rows(&self, topic: &str, times: &Range<i64>) -> std::result::Result<Vec<Row>, Error> {
        let mut found = Vec::new();
        for place in 0..self.reader.num_row_groups() {
            if may_hold(self.reader.metadata().row_group(place), topic, times) {
                self.group(place)
                    .and_then(|group| rows_of_group(group.as_ref(), topic, times, &mut found))
                    .map_err(Error::parquet("read", &self.path))?;
            }
        }
        Ok(found)
    }

    /// All rows, from first to last.
    pub fn cursor(self) -> Cursor {
        Cursor { table: self, group: 0, columns: None, batch: Vec::new().into_iter() }
    }
}

/// What the statistics say. Those of a long topic are cut, and are bounds all the same.
fn may_hold(group: &RowGroupMetaData, topic: &str, times: &Range<i64>) -> bool {
    let topic = topic.as_bytes();
    let outside = |column: usize| match group.column(column).statistics() {
        Some(Statistics::ByteArray(bounds)) => {
            bounds.min_opt().is_some_and(|first| topic < first.data())
                || bounds.max_opt().is_some_and(|last| topic > last.data())
        }
        Some(Statistics::Int64(bounds)) => {
            bounds.min_opt().is_some_and(|first| times.end <= *first)
                || bounds.max_opt().is_some_and(|last| times.start > *last)
        }
        _ => false,
    };
    !outside(TOPIC) && !outside(TIME)
}

fn rows_of_group(
    group: &dyn RowGroupReader,
    topic: &str,
    times: &Range<i64>,
    found: &mut Vec<Row>,
) -> Result<()> {
    let all = row_count(group)?;
    let topics = values(&mut column::<ByteArrayType>(group, TOPIC)?, 0..all)?;
    let topic = topic.as_bytes();
    let of_topic = topics.partition_point(|other| other.data() < topic)
        ..topics.partition_point(|other| other.data() <= topic);
    if of_topic.is_empty() {
        return Ok(());
    }
    let of_times = values(&mut column::<Int64Type>(group, TIME)?, of_topic.clone())?;
    let wanted = of_topic.start + of_times.partition_point(|time| *time < times.start)
        ..of_topic.start + of_times.partition_point(|time| *time < times.end);
    if wanted.is_empty() {
        return Ok(());
    }
    let payloads = values(&mut column::<ByteArrayType>(group, PAYLOAD)?, wanted.clone())?;
    let qos = values(&mut column::<Int32Type>(group, QOS)?, wanted.clone())?;
    let retain = values(&mut column::<BoolType>(group, RETAIN)?, wanted.clone())?;
    let times = of_times.into_iter().skip(wanted.start - of_topic.start);
    let topics = topics.into_iter().skip(wanted.start);
    found.extend(rows(times, topics, payloads, qos, retain));
    Ok(())
}

/// The rows of a group, which a damaged footer may claim to be any number.
fn row_count(group: &dyn RowGroupReader) -> Result<usize> {
    let claimed = group.metadata().num_rows();
    usize::try_from(claimed)
        .ok()
        .filter(|rows| *rows <= GROUP_ROWS)
        .ok_or_else(|| ParquetError::General(format!("a row group has {claimed} rows")))
}

fn column<T: DataType>(group: &dyn RowGroupReader, place: usize) -> Result<ColumnReaderImpl<T>> {
    let reader: ColumnReader = group.get_column_reader(place)?;
    T::get_column_reader(reader)
        .ok_or_else(|| ParquetError::General("a column has another type".to_owned()))
}

/// The values of some rows of a required column of which nothing was read.
fn values<T: DataType>(column: &mut ColumnReaderImpl<T>, rows: Range<usize>) -> Result<Vec<T::T>> {
    if rows.start > 0 {
        column.skip_records(rows.start)?;
    }
    next_values(column, rows.len())
}

fn next_values<T: DataType>(column: &mut ColumnReaderImpl<T>, count: usize) -> Result<Vec<T::T>> {
    let mut values = Vec::with_capacity(count);
    let (found, _, _) = column.read_records(count, None, None, &mut values)?;
    if found == count && values.len() == count {
        Ok(values)
    } else {
        Err(ParquetError::General(format!("a column ends after {found} of {count} rows")))
    }
}

fn rows(
    times: impl IntoIterator<Item = i64>,
    topics: impl IntoIterator<Item = ByteArray>,
    payloads: Vec<ByteArray>,
    qos: Vec<i32>,
    retain: Vec<bool>,
) -> impl Iterator<Item = Row> {
    let flags = qos.into_iter().zip(retain);
    let texts = topics.into_iter().zip(payloads);
    times.into_iter().zip(texts).zip(flags).map(|((time, (topic, payload)), (qos, retain))| Row {
        time,
        topic,
        payload,
        qos: qos as u8,
        retain,
    })
}

/// Goes through a file with a small part of it in memory.
pub struct Cursor {
    table: Table,
    /// The next row group.
    group: usize,
    /// The columns of the present one, with the rows that are left in it.
    columns: Option<(Columns, usize)>,
    batch: std::vec::IntoIter<Row>,
}

struct Columns {
    times: ColumnReaderImpl<Int64Type>,
    topics: ColumnReaderImpl<ByteArrayType>,
    payloads: ColumnReaderImpl<ByteArrayType>,
    qos: ColumnReaderImpl<Int32Type>,
    retain: ColumnReaderImpl<BoolType>,
}

impl Columns {
    fn of(group: &dyn RowGroupReader) -> Result<Self> {
        Ok(Self {
            times: column(group, TIME)?,
            topics: column(group, TOPIC)?,
            payloads: column(group, PAYLOAD)?,
            qos: column(group, QOS)?,
            retain: column(group, RETAIN)?,
        })
    }

    fn next(&mut self, count: usize) -> Result<Vec<Row>> {
        let rows = rows(
            next_values(&mut self.times, count)?,
            next_values(&mut self.topics, count)?,
            next_values(&mut self.payloads, count)?,
            next_values(&mut self.qos, count)?,
            next_values(&mut self.retain, count)?,
        );
        Ok(rows.collect())
    }
}

impl Cursor {
    /// The next row, or `None` behind the last one.
    pub fn next(&mut self) -> std::result::Result<Option<Row>, Error> {
        if let Some(row) = self.batch.next() {
            return Ok(Some(row));
        }
        self.batch =
            self.next_batch().map_err(Error::parquet("read", &self.table.path))?.into_iter();
        Ok(self.batch.next())
    }

    /// Rows of the present group, or of the next one that has any. Empty behind the last one.
    fn next_batch(&mut self) -> Result<Vec<Row>> {
        loop {
            if let Some((columns, left)) = self.columns.as_mut().filter(|(_, left)| *left > 0) {
                let count = BATCH_ROWS.min(*left);
                *left -= count;
                return columns.next(count);
            }
            if self.group == self.table.reader.num_row_groups() {
                return Ok(Vec::new());
            }
            let group = self.table.group(self.group)?;
            let rows = row_count(group.as_ref())?;
            self.columns = Some((Columns::of(group.as_ref())?, rows));
            self.group += 1;
        }
    }
}
