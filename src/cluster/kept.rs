//! The parts of the watching that this node has, in a file for its next process.
//!
//! Agents outlive the monitor, and systemd says which of them run. A part ends with the process, so
//! the next one has to know which parts were not given up. The store cannot say that: the plan may
//! be about to change, since an earlier process has given a part up, or it may be an old one, which a
//! store that has lost writes holds again while another node has the part.
//!
//! The file therefore loses a part before the rule learns that it has ended. It lies below `/run`,
//! and holds for one lease: each renewal is written into it before the guard gets it, so that a
//! process that does not know the file makes it worthless by its first renewal.

use iotmonitor_core::machines::cluster::Guarded;
use iotmonitor_core::model::cluster::store::Revision;
use iotmonitor_core::model::cluster::{Item, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "parts";

/// The file, and what it holds.
#[derive(Debug)]
pub struct KeptParts {
    file: PathBuf,
    written: PartsRecord,
    /// The last renewal of this process.
    renewal: Option<Renewal>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PartsRecord {
    renewal: Option<Renewal>,
    parts: BTreeMap<Item, Revision>,
}

/// A renewal of a session, of which later ones have larger numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Renewal {
    session: SessionId,
    n: u64,
}

impl From<Guarded> for Renewal {
    fn from(Guarded { session, n, .. }: Guarded) -> Self {
        Self { session, n }
    }
}

impl KeptParts {
    /// Reads the file in this runtime directory, for a process that goes on with this lease of the
    /// guard. One that is missing, has another form or is older holds nothing.
    #[must_use]
    pub fn read(directory: &Path, lease: Option<Guarded>) -> Self {
        let file = directory.join(FILE);
        let bytes = std::fs::read(&file).unwrap_or_default();
        let found: Option<PartsRecord> = serde_json::from_slice(&bytes).ok();
        let holds = |contents: &PartsRecord| {
            let pair = contents.renewal.zip(lease);
            pair.is_some_and(|(is, lease)| is.session == lease.session && is.n >= lease.n)
        };
        Self { file, written: found.filter(holds).unwrap_or_default(), renewal: None }
    }

    /// What an earlier process of the session has not given up, with the plans by which it had that.
    #[must_use]
    pub fn parts(&self) -> &BTreeMap<Item, Revision> {
        &self.written.parts
    }

    /// Notes a renewal that the guard is about to get.
    pub(super) fn renewed(&mut self, guarded: Guarded) {
        self.renewal = Some(guarded.into());
        let contents = self.present();
        let _ = self.write(contents);
    }

    /// Notes what this node has got by the last renewal. A part of which that fails is as one of
    /// another session after a restart.
    pub(super) fn add(&mut self, item: &Item, epoch: Revision) {
        if item.needs_broker() {
            let mut contents = self.present();
            contents.parts.insert(item.clone(), epoch);
            let _ = self.write(contents);
        }
    }

    /// Takes out what is about to be given up.
    ///
    /// # Errors
    /// Returns an error if the file may still hold it.
    pub(super) fn remove(&mut self, item: &Item) -> io::Result<()> {
        if !self.written.parts.contains_key(item) {
            return Ok(());
        }
        let mut contents = self.present();
        contents.parts.remove(item);
        // Where nothing can be written any more, such as on a full disk, a file can be removed.
        self.write(contents).or_else(|_| self.clear())
    }

    /// What belongs into the file now.
    fn present(&self) -> PartsRecord {
        let Some(renewal) = self.renewal else { return self.written.clone() };
        let written = self.written.renewal;
        let is_same = written.is_some_and(|written| written.session == renewal.session);
        let parts = if is_same { self.written.parts.clone() } else { BTreeMap::new() };
        PartsRecord { renewal: Some(renewal), parts }
    }

    fn write(&mut self, contents: PartsRecord) -> io::Result<()> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&contents)?)?;
        std::fs::rename(new, &self.file)?;
        self.written = contents;
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => {
                self.written = PartsRecord::default();
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tempfile::TempDir;

    type Parts = BTreeMap<Item, Revision>;

    const fn lease(session: u64, n: u64) -> Guarded {
        let session = SessionId { boot: u128::MAX, number: session };
        Guarded { session, n, deadline: Duration::from_secs(6) }
    }

    /// A file with two parts, of which the second one is returned.
    fn kept() -> (TempDir, KeptParts, Parts) {
        let directory = tempfile::tempdir().unwrap();
        let mut kept = KeptParts::read(directory.path(), None);
        kept.renewed(lease(7, 1));
        kept.add(&Item::Shard(3), Revision(5));
        kept.add(&Item::House, Revision(9));
        (directory, kept, [(Item::House, Revision(9))].into())
    }

    fn read(directory: &TempDir, lease: Guarded) -> Parts {
        KeptParts::read(directory.path(), Some(lease)).parts().clone()
    }

    #[test]
    fn the_next_process_of_the_session_finds_what_was_not_given_up() {
        let (directory, mut kept, rest) = kept();
        kept.add(&"rules".parse().unwrap(), Revision(9));
        kept.remove(&Item::Shard(3)).unwrap();
        assert_eq!(read(&directory, lease(7, 1)), rest);
        let mut next = KeptParts::read(directory.path(), Some(lease(7, 1)));
        next.renewed(lease(7, 2));
        assert_eq!(read(&directory, lease(7, 2)), rest);
        next.remove(&Item::House).unwrap();
        assert_eq!(read(&directory, lease(7, 2)), Parts::new());
    }

    #[test]
    fn the_guard_may_have_the_last_renewal_later_and_none_that_the_file_does_not_know() {
        let (directory, mut kept, _) = kept();
        kept.renewed(lease(7, 2));
        assert_eq!(read(&directory, lease(7, 1)).len(), 2);
        assert_eq!(read(&directory, lease(7, 2)).len(), 2);
        assert_eq!(read(&directory, lease(7, 3)), Parts::new(), "another process has renewed");
        let mut next = KeptParts::read(directory.path(), Some(lease(7, 3)));
        next.renewed(lease(7, 4));
        assert_eq!(read(&directory, lease(7, 4)), Parts::new(), "and it stays so");
    }

    #[test]
    fn what_was_of_another_session_is_not_found_and_not_kept() {
        let (directory, mut kept, _) = kept();
        assert_eq!(read(&directory, lease(8, 1)), Parts::new());
        kept.renewed(lease(8, 2));
        kept.add(&Item::Shard(4), Revision(12));
        assert_eq!(read(&directory, lease(8, 2)), [(Item::Shard(4), Revision(12))].into());
        assert_eq!(read(&directory, lease(7, 1)), Parts::new());
    }

    #[test]
    fn a_file_of_another_form_and_one_that_is_missing_hold_nothing() {
        let (directory, _, _) = kept();
        let file = directory.path().join(FILE);
        for text in ["", "{", r#"{"renewal":7,"parts":{}}"#] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&directory, lease(7, 1)), Parts::new(), "{text}");
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(read(&directory, lease(7, 1)), Parts::new());
    }

    /// A directory in the way of the new file lets no file be written.
    #[test]
    fn a_file_that_cannot_be_written_is_removed_and_one_that_cannot_be_removed_is_an_error() {
        let (directory, mut kept, rest) = kept();
        let way = directory.path().join("parts.new");
        std::fs::create_dir(&way).unwrap();
        kept.add(&Item::Shard(4), Revision(12));
        kept.remove(&Item::Shard(4)).unwrap();
        assert!(read(&directory, lease(7, 1)).keys().eq([&Item::House, &Item::Shard(3)]));
        kept.remove(&Item::Shard(3)).unwrap();
        assert_eq!(read(&directory, lease(7, 1)), Parts::new());
        std::fs::remove_dir(&way).unwrap();
        kept.add(&Item::House, Revision(9));
        assert_eq!(read(&directory, lease(7, 1)), rest);

        std::fs::create_dir(&way).unwrap();
        let file = directory.path().join(FILE);
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(kept.remove(&Item::House).is_err());
        std::fs::remove_dir(&file).unwrap();
        assert!(kept.remove(&Item::House).is_ok(), "it is not there any more");
    }
}
