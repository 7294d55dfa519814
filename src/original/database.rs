//! Reads the states that the original recorded. They are in a LevelDB in its working directory,
//! `iotdb.leveldb`, whose keys are topics and whose values are payloads. It contains neither QoS
//! nor times.
//!
//! Opening a LevelDB with a library would change it, since its log is replayed and its files are
//! rewritten. Here, its files are only read, and the original can still be used afterwards.

use super::leveldb::{self, CURRENT, Damage, DatabaseFiles, What};
use iotmonitor_core::topic::TopicName;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The database's name in the original's working directory.
const NAME: &str = "iotdb.leveldb";

/// The file that a process locks while it uses a LevelDB.
const LOCK: &str = "LOCK";

/// The size in bytes above which a database is not taken for one of the original's. The states of a
/// house have never needed as much.
const LARGEST: u64 = 1 << 30;

/// Everything that a database contained.
#[derive(Debug)]
pub struct States {
    /// The states in the order of their topics.
    pub states: Vec<(TopicName, Vec<u8>)>,
    /// The latest possible time at which the last of them was recorded, since the Unix epoch.
    pub time: Duration,
    /// The number of keys that are not topics.
    pub passed_over: usize,
    /// The parts that could not be read. Their states are missing or have an older value.
    pub damage: Vec<Damage>,
}

/// The reason why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error(
        "there is no LevelDB database in {}: name the directory in which the original ran, which holds {NAME}",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("the original iotmonitor still uses {} (PID {pid}): stop it first", .path.display())]
    InUse { path: PathBuf, pid: i32 },
    #[error("cannot read {}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} takes more than 1 GiB, more than any database of the original iotmonitor", .0.display())]
    TooLarge(PathBuf),
}

/// Reads the database in the original's working directory, or the one that is `directory` itself.
///
/// Damaged parts are left out and reported.
///
/// # Errors
/// Returns an error if there is no database, if it is in use, or if this user may not read one of
/// its files.
pub fn read(directory: &Path) -> Result<States, DatabaseError> {
    let candidates = [directory.join(NAME), directory.to_owned()];
    let found = candidates.into_iter().find(|path| path.join(CURRENT).is_file());
    let path = found.ok_or_else(|| DatabaseError::Missing(directory.to_owned()))?;
    refuse_in_use(&path)?;
    let (files, time, mut damage) = files(&path)?;
    let contents = leveldb::read(&files);
    damage.extend(contents.damage);
    let mut read = States { states: Vec::new(), time, passed_over: 0, damage };
    for (key, value) in contents.entries {
        match TopicName::from_bytes(key.into()) {
            Ok(topic) => read.states.push((topic, value)),
            Err(_) => read.passed_over += 1,
        }
    }
    Ok(read)
}

/// Returns an error if the database is in use. An open LevelDB holds a lock on one of its files.
fn refuse_in_use(path: &Path) -> Result<(), DatabaseError> {
    let Ok(file) = File::open(path.join(LOCK)) else { return Ok(()) };
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // A file system that does not support locks has none.
    let asked = fcntl(&file, FcntlArg::F_GETLK(&mut lock));
    if asked.is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short {
        return Err(DatabaseError::InUse { path: path.to_owned(), pid: lock.l_pid });
    }
    Ok(())
}

/// Returns the files, the time at which the last of them was written, and the files that the disk
/// failed to read.
fn files(path: &Path) -> Result<(DatabaseFiles, Duration, Vec<Damage>), DatabaseError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| DatabaseError::File { path, source }
    };
    let (mut files, mut left, mut newest) = (DatabaseFiles::new(), LARGEST, UNIX_EPOCH);
    let mut damage = Vec::new();
    for entry in fs::read_dir(path).map_err(fail(path))? {
        let file = entry.map_err(fail(path))?.path();
        let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
        let metadata = fs::metadata(&file).map_err(fail(&file))?;
        if !metadata.is_file() || !leveldb::is_data(name) {
            continue;
        }
        left = left
            .checked_sub(metadata.len())
            .ok_or_else(|| DatabaseError::TooLarge(path.to_owned()))?;
        newest = newest.max(metadata.modified().unwrap_or_else(|_| SystemTime::now()));
        let bytes = match fs::read(&file) {
            Ok(bytes) => Some(bytes),
            // The other files on a worn-out card may still be readable.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                let what = What::Unreadable(error.to_string());
                damage.push(Damage { file: name.to_owned(), what });
                None
            }
            Err(error) => return Err(fail(&file)(error)),
        };
        files.insert(name.to_owned(), bytes);
    }
    Ok((files, newest.duration_since(UNIX_EPOCH).unwrap_or_default(), damage))
}
