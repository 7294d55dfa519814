//! Releases the part of the data file that is mapped into the process and counts as its memory.
//!
//! LMDB reads through a map of the whole file, so every page that was ever read stays with the
//! process: in time the whole store, although the kernel holds it for all and takes it when it
//! needs room. The kernel's cache of the file stays as it is.

use super::files::DATA_FILE;
use crate::mapped_files;
use std::fs;
use std::path::{Path, PathBuf};

/// The pages of a data file that a thread has mapped by using it.
#[derive(Debug)]
pub struct MappedPages {
    directory: PathBuf,
    /// They are released after so many uses, even in the middle of a flood.
    most: usize,
    /// Uses since they were last released.
    uses: usize,
}

impl MappedPages {
    #[must_use]
    pub fn new(directory: &Path, most: usize) -> Self {
        Self { directory: directory.to_owned(), most, uses: 0 }
    }

    pub fn note(&mut self, uses: usize) {
        self.uses += uses;
        if self.uses >= self.most {
            self.release();
        }
    }

    /// Releases them, if the file was used.
    pub fn release_if_used(&mut self) {
        if self.uses > 0 {
            self.release();
        }
    }

    pub fn release(&mut self) {
        self.uses = 0;
        let_go(&self.directory);
    }
}

/// Releases all pages of the data file in this directory.
fn let_go(directory: &Path) {
    let Ok(path) = fs::canonicalize(directory.join(DATA_FILE)) else { return };
    mapped_files::release_file(&path);
}

#[cfg(test)]
mod tests {
    use super::*;
    use heed::types::Bytes;
    use heed::{CommitOrAbort, EnvOpenOptions};

    /// Kilobytes of the map of this file that are resident (proc_pid_smaps(5)).
    fn resident(path: &Path) -> usize {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let lines = maps.lines().skip_while(|line| !line.ends_with(path.to_str().unwrap()));
        let line = lines.skip(1).find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn pages_are_let_go_of_and_can_be_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut options = EnvOpenOptions::new();
        options.map_size(1 << 24).max_dbs(1);
        #[expect(unsafe_code, reason = "opening a memory map is unsafe in heed")]
        // SAFETY: no other thread or process knows the directory.
        let env = unsafe { options.open(directory.path()) }.unwrap();
        let transaction = env.write_txn().unwrap();
        let table = env
            .create_databases_and_commit(transaction, |opener, transaction| {
                let table = opener.create_database::<Bytes, Bytes>(transaction, None)?;
                for number in 0..1_000_u32 {
                    table.put(transaction, &number.to_be_bytes(), &[1; 1_000])?;
                }
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(table))
            })
            .unwrap()
            .commit()
            .unwrap();
        let read = || {
            let transaction = env.read_txn().unwrap();
            table
                .iter(&transaction)
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().1 == [1; 1_000])
                .count()
        };
        let path = fs::canonicalize(directory.path().join(DATA_FILE)).unwrap();
        assert_eq!(read(), 1_000);
        assert!(resident(&path) > 1_000);
        let_go(directory.path());
        assert!(resident(&path) < 100, "{} kB stay", resident(&path));
        assert_eq!(read(), 1_000);
    }
}
