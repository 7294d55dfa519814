//! Files and directories that are there after a power cut.

use crate::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}

/// Makes a directory and its name durable, unless it is there. Its parent has to be there.
pub fn create_directory(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io("create", path)(error)),
    }
}

/// Renames a file whose content is durable, and makes the new name durable.
pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::io("rename", from))?;
    to.parent().map_or(Ok(()), sync_directory)
}

/// Removes a file that may be gone already. Its name may come back after a power cut.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// The names in a directory, in their order. One that does not exist has none.
pub fn names(path: &Path) -> Result<Vec<OsString>, Error> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", path))?,
    };
    let names = entries.map(|entry| Ok(entry.map_err(Error::io("list", path))?.file_name()));
    let mut names: Vec<OsString> = names.collect::<Result<_, Error>>()?;
    names.sort();
    Ok(names)
}

/// A locked file.
#[derive(Debug)]
pub struct FileLock(File);

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing the file is not enough where another thread has just forked: the child has a copy until it
        // runs its program. Unlocking fails for no file that is locked.
        let _ = self.0.unlock();
    }
}

/// Locks a file for this process for as long as the returned value lives. The kernel also releases
/// it when the process is killed.
pub fn lock(path: &Path) -> Result<FileLock, Error> {
    let options = fs::OpenOptions::new().create(true).append(true).to_owned();
    let file = options.open(path).map_err(Error::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(FileLock(file)),
        Err(fs::TryLockError::WouldBlock) => Err(Error::InUse { path: path.to_owned() }),
        Err(fs::TryLockError::Error(error)) => Err(Error::io("lock", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_value_even_if_a_child_has_a_copy_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = lock(&path).unwrap();
        let _copy = first.0.try_clone().unwrap();
        assert!(matches!(lock(&path), Err(Error::InUse { .. })));
        drop(first);
        lock(&path).unwrap();
    }
}
