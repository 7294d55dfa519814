//! Determines which tables and logs are in force, which is the sum of a manifest's edits
//! (google/leveldb, db/version_edit.cc).

use super::coding::Bytes;
use super::log::Record;
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(super) struct Manifest {
    tables: BTreeSet<(u64, u64)>,
    /// Logs from this number on contain entries that are not in a table yet, as does
    /// `previous_log` while it is merged.
    log: u64,
    previous_log: u64,
}

impl Manifest {
    /// Applies an edit, and returns `false` if it cannot be understood.
    pub fn apply(&mut self, edit: &Record) -> bool {
        let mut bytes = Bytes(&edit.data);
        while !bytes.0.is_empty() {
            if self.field(&mut bytes).is_none() {
                return false;
            }
        }
        true
    }

    fn field(&mut self, bytes: &mut Bytes<'_>) -> Option<()> {
        match bytes.varint()? {
            // This is the name of the comparator.
            1 => {
                bytes.prefixed()?;
            }
            2 => self.log = bytes.varint()?,
            // These are the next number of a file and the last sequence number of an entry.
            3 | 4 => {
                bytes.varint()?;
            }
            // This is the key at which the next compaction of a level begins.
            5 => {
                bytes.varint()?;
                bytes.prefixed()?;
            }
            6 => {
                let table = (bytes.varint()?, bytes.varint()?);
                self.tables.remove(&table);
            }
            7 => {
                let table = (bytes.varint()?, bytes.varint()?);
                // These are its size, its first key and its last key.
                bytes.varint()?;
                bytes.prefixed()?;
                bytes.prefixed()?;
                self.tables.insert(table);
            }
            9 => self.previous_log = bytes.varint()?,
            _ => return None,
        }
        Some(())
    }

    pub fn tables(&self) -> impl Iterator<Item = u64> + '_ {
        self.tables.iter().map(|(_, number)| *number)
    }

    pub fn has_log(&self, number: u64) -> bool {
        number >= self.log || number == self.previous_log
    }
}
