//! Reads a LevelDB from its files, and reports what cannot be read.
//!
//! The library `rusty-leveldb` silently skips each block whose checksum is wrong, and a whole table
//! whose index is damaged. Here, every checksum is verified, and failures are reported. The module
//! is pure: it turns bytes into entries (google/leveldb, doc/impl.md).
//!
//! Only the bytewise comparator is supported.

mod coding;
mod log;
mod manifest;
mod table;

use manifest::Manifest;
use std::collections::BTreeMap;
use std::fmt;

/// The file that names the manifest in force.
pub const CURRENT: &str = "CURRENT";

/// The files of a database by their names. `None` is a file whose failure to be read has been
/// reported already.
pub type DatabaseFiles = BTreeMap<String, Option<Vec<u8>>>;

/// The contents of a database, and the parts of it that are lost.
#[derive(Debug, Default)]
pub struct Contents {
    pub entries: BTreeMap<Vec<u8>, Vec<u8>>,
    pub damage: Vec<Damage>,
}

/// A part of a file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    pub file: String,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The system could not read the file, and reported this error.
    Unreadable(String),
    Missing,
    /// The index of a table, without which none of its entries can be found.
    Index,
    /// A block of a table, by the offset at which it begins.
    Block(u64),
    /// A record of a log, by the offset at which it begins.
    Record(u64),
    /// The manifest, without which it is unknown which tables are in force.
    Manifest,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.file;
        match &self.what {
            What::Unreadable(error) => write!(formatter, "{file} cannot be read: {error}"),
            What::Missing => write!(formatter, "{file} is missing"),
            What::Index => write!(formatter, "{file} is damaged in its index, and lost as a whole"),
            What::Block(at) => write!(formatter, "{file} is damaged in its block at byte {at}"),
            What::Record(at) => write!(formatter, "{file} is damaged or cut off at byte {at}"),
            What::Manifest => {
                write!(formatter, "{file} is damaged, so that deleted entries may come back")
            }
        }
    }
}

/// For each key, the sequence number of its last write, and its value unless it was deleted.
type Entries = BTreeMap<Vec<u8>, (u64, Option<Vec<u8>>)>;

/// Reads everything that can be read.
#[must_use]
pub fn read(files: &DatabaseFiles) -> Contents {
    let mut reading = Reading { files, entries: Entries::new(), damage: Vec::new() };
    let manifest = reading.manifest();
    for number in reading.tables(manifest.as_ref()) {
        reading.table(number);
    }
    for (number, name) in numbered(files, &["log"]) {
        if manifest.as_ref().is_none_or(|manifest| manifest.has_log(number)) {
            reading.log(name);
        }
    }
    let entries = reading.entries.into_iter();
    let entries = entries.filter_map(|(key, (_, value))| Some((key, value?))).collect();
    let mut damage = reading.damage;
    damage.sort();
    damage.dedup();
    Contents { entries, damage }
}

struct Reading<'a> {
    files: &'a DatabaseFiles,
    entries: Entries,
    damage: Vec<Damage>,
}

impl Reading<'_> {
    fn report(&mut self, file: &str, what: What) {
        self.damage.push(Damage { file: file.to_owned(), what });
    }

    /// Returns the tables and logs in force, or `None` where this is unknown.
    fn manifest(&mut self) -> Option<Manifest> {
        let files = self.files;
        let current = files.get(CURRENT).and_then(Option::as_deref);
        let name = current.and_then(|name| std::str::from_utf8(name).ok()).map(str::trim_end);
        let Some(name) = name.filter(|name| name.starts_with("MANIFEST-")) else {
            self.report(CURRENT, What::Manifest);
            return None;
        };
        let bytes = match files.get(name) {
            Some(Some(bytes)) => bytes,
            Some(None) => return None,
            None => {
                self.report(name, What::Missing);
                return None;
            }
        };
        let mut is_whole = true;
        let mut manifest = Manifest::default();
        log::records(bytes, |record| is_whole &= record.is_ok_and(|edit| manifest.apply(&edit)));
        if is_whole {
            return Some(manifest);
        }
        self.report(name, What::Manifest);
        None
    }

    /// Returns the tables in force, or all that exist if it is unknown which are in force.
    fn tables(&self, manifest: Option<&Manifest>) -> Vec<u64> {
        match manifest {
            Some(manifest) => manifest.tables().collect(),
            None => numbered(self.files, &TABLES).map(|(number, _)| number).collect(),
        }
    }

    fn table(&mut self, number: u64) {
        let files = self.files;
        let Some((_, name)) = numbered(files, &TABLES).find(|(found, _)| *found == number) else {
            self.report(&format!("{number:06}.{}", TABLES[0]), What::Missing);
            return;
        };
        // A file that could not be read has been reported already.
        let Some(Some(bytes)) = files.get(name) else { return };
        let entries = &mut self.entries;
        let lost = table::entries(bytes, |key, value| put_internal(entries, key, value));
        for what in lost {
            self.report(name, what);
        }
    }

    fn log(&mut self, name: &str) {
        let Some(Some(bytes)) = self.files.get(name) else { return };
        let mut lost = Vec::new();
        log::records(bytes, |record| match record {
            Ok(batch) => {
                if put_batch(&mut self.entries, &batch).is_none() {
                    lost.push(What::Record(batch.at));
                }
            }
            Err(at) => lost.push(What::Record(at)),
        });
        for what in lost {
            self.report(name, what);
        }
    }
}

const TABLES: [&str; 2] = ["ldb", "sst"];

/// Returns the files with these endings, by their numbers.
fn numbered<'a>(
    files: &'a DatabaseFiles,
    endings: &'a [&str],
) -> impl Iterator<Item = (u64, &'a str)> + 'a {
    files.keys().filter_map(move |name| {
        let (number, ending) = name.split_once('.')?;
        Some((number.parse().ok()?, name.as_str())).filter(|_| endings.contains(&ending))
    })
}

/// Returns whether a file of this name belongs to a database and contains data.
#[must_use]
pub fn is_data(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    name == CURRENT || name.starts_with("MANIFEST-") || ending == "log" || TABLES.contains(&ending)
}

const VALUE: u64 = 1;
const DELETION: u64 = 0;

/// Adds an entry unless a later one with the same key is known.
fn put(entries: &mut Entries, key: &[u8], sequence: u64, value: Option<&[u8]>) {
    let known = entries.get(key).map(|(sequence, _)| *sequence);
    if known.is_none_or(|known| known <= sequence) {
        entries.insert(key.to_vec(), (sequence, value.map(<[u8]>::to_vec)));
    }
}

/// Adds an entry of a table, whose key ends with its sequence number and its kind. Returns `None`
/// if it does not.
fn put_internal(entries: &mut Entries, key: &[u8], value: &[u8]) -> Option<()> {
    let (key, tail) = key.split_last_chunk::<8>()?;
    let tail = u64::from_le_bytes(*tail);
    let value = match tail & 0xFF {
        VALUE => Some(value),
        DELETION => None,
        _ => return None,
    };
    put(entries, key, tail >> 8, value);
    Some(())
}

/// Adds the entries of a log's record (google/leveldb, db/write_batch.cc). Returns `None` if it
/// breaks off.
fn put_batch(entries: &mut Entries, batch: &log::Record) -> Option<()> {
    let mut bytes = coding::Bytes(&batch.data);
    let sequence = bytes.fixed64()?;
    let count = bytes.fixed32()?;
    for number in 0..count {
        let kind = bytes.byte()?;
        let key = bytes.prefixed()?;
        let value = match u64::from(kind) {
            VALUE => Some(bytes.prefixed()?),
            DELETION => None,
            _ => return None,
        };
        put(entries, key, sequence.checked_add(u64::from(number))?, value);
    }
    Some(())
}
