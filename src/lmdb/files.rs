//! The store's files as files: the lock against a second process, the check of the data file that
//! LMDB itself does not make, and setting a damaged file aside. Nothing here opens the database.

use super::error::StoreError;
use super::pages::{self, Extent, Flaw, Tree};
use crate::pulse::Pulse;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// LMDB's names in the directory of an environment.
pub const DATA_FILE: &str = "data.mdb";
const LMDB_LOCK_FILE: &str = "lock.mdb";
/// The store's own lock, because LMDB allows several writing processes and the store does not.
const LOCK_FILE: &str = "iotmonitor.lock";

/// The directory in which a new store is created before it is moved to its place.
const WORKSHOP: &str = "new";

/// More than LMDB needs for its reader table.
const LMDB_LOCK_BYTES: u64 = 16 * 1024;

/// LMDB does not write pages that a transaction took at the file's end and freed again, so a
/// healthy file may be shorter than its last page number suggests, but by no more than a
/// transaction can allocate.
const LARGEST_SHORTFALL: u64 = 1 << 30;

/// The directory's lock, released when dropped, or when the process ends in any way.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
    place: FileIdentity,
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing the file is not enough where another thread has just forked: the child has a copy until it
        // runs its program. Unlocking fails for no file that is locked.
        let _ = self.file.unlock();
    }
}

impl DirectoryLock {
    /// Whether another process would find this lock.
    pub fn is_in_place(&self) -> bool {
        self.place.is_kept()
    }
}

/// An open file and the name by which it was opened. While it is open, no other file can have its
/// number, so one check of the name shows whether it still leads there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub fn of(path: PathBuf, file: &File) -> std::io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self { path, device: found.dev(), inode: found.ino() })
    }

    /// Whether the name still leads to the file. A removed file has no name; the name of one that
    /// was replaced, or lies below a mount, leads to another.
    pub fn is_kept(&self) -> bool {
        fs::metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

/// How thoroughly a data file is checked before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Every page, because their writer is unknown.
    Whole,
    /// The first two pages, because this process has had the file open all the time.
    Head,
}

/// The result of a check of the data file.
#[derive(Debug)]
pub enum DataFile {
    Missing,
    Whole,
    /// Shorter than its last page number suggests, but only free pages are missing.
    Short {
        expected: u64,
    },
    Damaged(String),
    /// LMDB's own format is newer.
    Newer(u32),
}

/// Creates the directory if necessary and locks it.
pub fn lock(directory: &Path) -> Result<DirectoryLock, StoreError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(StoreError::file("make the directory", directory))?;
    let path = directory.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(StoreError::file("open", &path))?;
    match file.try_lock() {
        Ok(()) => {
            let place = FileIdentity::of(path.clone(), &file)
                .map_err(StoreError::file("look at", &path))?;
            Ok(DirectoryLock { file, place })
        }
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(StoreError::File { action: "lock", path, source }),
    }
}

/// Gives LMDB's reader table its blocks, since LMDB maps it sparse and a full disk would then kill
/// the process with SIGBUS instead of giving an error.
pub fn allocate_lock_file(directory: &Path) -> Result<(), StoreError> {
    let path = directory.join(LMDB_LOCK_FILE);
    let allocate = || {
        let mut file =
            OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&path)?;
        let length = file.metadata()?.len();
        let missing = usize::try_from(LMDB_LOCK_BYTES.saturating_sub(length)).unwrap_or(0);
        file.write_all(&vec![0; missing])
    };
    allocate().map_err(StoreError::file("make", &path))
}

/// The directory in which a new store is created, empty.
pub fn open_workshop(directory: &Path) -> Result<PathBuf, StoreError> {
    let workshop = directory.join(WORKSHOP);
    close_workshop(&workshop)?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&workshop)
        .map_err(StoreError::file("make the directory", &workshop))?;
    Ok(workshop)
}

/// Moves a new store that is on disk to its place.
pub fn move_in(workshop: &Path, directory: &Path) -> Result<(), StoreError> {
    let data = workshop.join(DATA_FILE);
    fs::rename(&data, directory.join(DATA_FILE)).map_err(StoreError::file("move", &data))?;
    sync_directory(directory)?;
    close_workshop(workshop)
}

/// Removes a workshop directory, which a power cut or a full disk may have left.
fn close_workshop(workshop: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(workshop) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => {
            Err(StoreError::File { action: "remove", path: workshop.to_owned(), source })
        }
    }
}

/// Makes the names in the directory durable, which fsync of the files does not.
pub fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(StoreError::file("sync the directory", directory))
}

/// Checks the data file's size and the structure of all pages: reading a mapped page behind the
/// file's end would cause SIGBUS, and LMDB trusts the contents of every page.
///
/// Reading all pages of a large file on a slow disk takes minutes, during which `pulse` beats.
pub fn inspect(directory: &Path, look: Look, pulse: &Pulse) -> Result<DataFile, StoreError> {
    let path = directory.join(DATA_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(DataFile::Missing),
        Err(source) => return Err(StoreError::File { action: "open", path, source }),
    };
    let size = file.metadata().map_err(StoreError::file("look at", &path))?.len();
    if size == 0 {
        return Ok(DataFile::Damaged("the file is empty".to_owned()));
    }
    let metas = Meta::read(&file, 0).and_then(|first| {
        let second = Meta::read(&file, u64::from(first.page_size))?;
        Ok((first, second))
    });
    let (first, second) = match metas {
        Ok(metas) => metas,
        Err(MetaError::Damaged(reason)) => return Ok(DataFile::Damaged(reason.to_owned())),
        Err(MetaError::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
            return Ok(DataFile::Damaged(format!("the file ends after {size} bytes")));
        }
        Err(MetaError::Io(source)) => {
            return Err(StoreError::File { action: "read", path, source });
        }
    };
    judge(&file, &first, &second, (size, look, pulse)).map_err(StoreError::file("read", &path))
}

fn judge(
    file: &File,
    first: &Meta,
    second: &Meta,
    (size, look, pulse): (u64, Look, &Pulse),
) -> std::io::Result<DataFile> {
    let known = 1;
    let damaged = |reason: String| Ok(DataFile::Damaged(reason));
    match (first.version, second.version) {
        (a, b) if a == known && b == known => {}
        // Both pages agree, so this is a different LMDB rather than a flipped bit.
        (a, b) if a == b && a > known => return Ok(DataFile::Newer(a)),
        _ => return damaged("the meta pages disagree on their version".to_owned()),
    }
    // Transactions write the two pages in turn, the even ones the first.
    let current = match (first.transaction, second.transaction) {
        (0, 0) => first,
        (a, b) if a % 2 == 0 && b % 2 == 1 && a.abs_diff(b) == 1 => {
            if b > a {
                second
            } else {
                first
            }
        }
        _ => return damaged("the meta pages disagree on the last transaction".to_owned()),
    };
    let page_size = u64::from(current.page_size);
    let used = current.last_page.saturating_add(1);
    let expected = used.saturating_mul(page_size);
    let missing = expected.saturating_sub(size);
    if missing > LARGEST_SHORTFALL {
        return damaged(format!("{missing} bytes are missing at the file's end"));
    }
    let extent = Extent { page_size: current.page_size as usize, in_file: size / page_size, used };
    let [free, main] = current.trees;
    let checked = match look {
        Look::Whole => pages::check(file, extent, free, main, pulse),
        Look::Head => Ok(()),
    };
    match checked {
        Ok(()) if missing == 0 => Ok(DataFile::Whole),
        Ok(()) => Ok(DataFile::Short { expected }),
        Err(Flaw::Page(page, what)) if missing == 0 => damaged(format!("page {page} {what}")),
        Err(Flaw::Page(..)) => damaged(format!("{missing} bytes are missing at the file's end")),
        Err(Flaw::Io(error)) => Err(error),
    }
}

/// Extends a short file with a hole, so that no page of the map lies behind its end.
pub fn fill_up(directory: &Path, size: u64) -> Result<(), StoreError> {
    let path = directory.join(DATA_FILE);
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(size))
        .map_err(StoreError::file("extend", &path))
}

/// Renames the data file to `data.mdb.damaged-SECONDS` and returns its new path.
pub fn put_aside(directory: &Path) -> Result<PathBuf, StoreError> {
    let data = directory.join(DATA_FILE);
    let seconds =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let aside = (0u32..)
        .map(|number| match number {
            0 => directory.join(format!("{DATA_FILE}.damaged-{seconds}")),
            number => directory.join(format!("{DATA_FILE}.damaged-{seconds}-{number}")),
        })
        .find(|path| !path.exists())
        .unwrap_or_else(|| directory.join(format!("{DATA_FILE}.damaged")));
    fs::rename(&data, &aside).map_err(StoreError::file("put aside", &data))?;
    sync_directory(directory)?;
    Ok(aside)
}

/// The fields of LMDB's `MDB_meta` (mdb.c) that matter here.
struct Meta {
    version: u32,
    page_size: u32,
    last_page: u64,
    transaction: u64,
    /// The roots of the free pages, and of the tables.
    trees: [Tree; 2],
}

enum MetaError {
    Damaged(&'static str),
    Io(std::io::Error),
}

impl Meta {
    const MAGIC: u32 = 0xBEEF_C0DE;
    /// LMDB's numbers are native words.
    const WORD: usize = size_of::<usize>();
    /// Size of `MDB_page` without its data: page number, pad and flags, bounds.
    const PAGE_HEADER: usize = Self::WORD + 8;
    /// Behind magic, version, address and map size follow two `MDB_db`, the first of which holds
    /// the page size, then the last page and the transaction.
    const DATABASES: usize = 8 + 2 * Self::WORD;
    const LAST_PAGE: usize = Self::DATABASES + 2 * pages::TABLE_BYTES;
    const BYTES: usize = Self::LAST_PAGE + 2 * Self::WORD;

    fn read(file: &File, offset: u64) -> Result<Self, MetaError> {
        let mut page = [0; Self::PAGE_HEADER + Self::BYTES];
        file.read_exact_at(&mut page, offset).map_err(MetaError::Io)?;
        let meta = &page[Self::PAGE_HEADER..];
        let u32_at = |at| pages::u32_at(meta, at).unwrap_or(0);
        let word_at = |at| pages::word_at(meta, at).unwrap_or(0);
        if pages::u32_at(meta, 0) != Some(Self::MAGIC) {
            return Err(MetaError::Damaged("the file is not an LMDB database"));
        }
        let page_size = u32_at(Self::DATABASES);
        if !page_size.is_power_of_two() || !(512..=65_536).contains(&page_size) {
            return Err(MetaError::Damaged("the page size is invalid"));
        }
        let tree = |number: usize| {
            let table = &meta[Self::DATABASES + number * pages::TABLE_BYTES..];
            Tree::read(table).ok_or(MetaError::Damaged("a meta page is too short"))
        };
        Ok(Self {
            version: u32_at(4),
            page_size,
            last_page: word_at(Self::LAST_PAGE),
            transaction: word_at(Self::LAST_PAGE + Self::WORD),
            trees: [tree(0)?, tree(1)?],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_value_even_if_a_child_has_a_copy_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock(directory.path()).unwrap();
        let _copy = first.file.try_clone().unwrap();
        assert!(matches!(lock(directory.path()), Err(StoreError::InUse { .. })));
        drop(first);
        lock(directory.path()).unwrap();
    }
}
