//! The states that the original recorded: a LevelDB in its working directory, `iotdb.leveldb`, whose
//! keys are topics and whose values are payloads. It knows neither QoS nor times.
//!
//! To open a LevelDB is to change it: its log is replayed and its files are renewed. So it is opened
//! as a copy in memory, and the files stay as they are, which leaves the way back open.

use iotmonitor_core::topic::TopicName;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rusty_leveldb::env::Env as _;
use rusty_leveldb::{DB, LdbIterator as _, MemEnv, Options, Status};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The database's name in the original's working directory.
const NAME: &str = "iotdb.leveldb";

/// The file without which there is no LevelDB, and the one that its user holds locked.
const CURRENT: &str = "CURRENT";
const LOCK: &str = "LOCK";

/// More than a house's states ever took, in bytes: a larger one is none of the original's.
const LARGEST: u64 = 1 << 30;

/// A table's last bytes, what they end with, and what follows each block, in bytes.
const FOOTER: usize = 48;
const MAGIC: [u8; 8] = 0xDB47_7524_8B80_FB57_u64.to_le_bytes();
const TRAILER: u64 = 5;

/// Where the copy lies in its memory.
const COPY: &str = "copy";

/// All that a database held.
#[derive(Debug)]
pub struct States {
    /// In the order of their topics.
    pub states: Vec<(TopicName, Vec<u8>)>,
    /// When the last of them can have been recorded at the latest, since the Unix epoch.
    pub time: Duration,
    /// Keys that are no topics.
    pub passed_over: usize,
}

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error(
        "there is no LevelDB in {}: name the directory in which the original ran, which holds {NAME}",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("the original still uses {} (PID {pid}): stop it first", .path.display())]
    InUse { path: PathBuf, pid: i32 },
    #[error("cannot read {}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} takes more than 1 GiB, which no database of the original's does", .0.display())]
    TooLarge(PathBuf),
    #[error("{} is damaged", .0.display())]
    DamagedTable(PathBuf),
    #[error("{} is damaged, or no LevelDB: {source}", .path.display())]
    Damaged { path: PathBuf, source: Status },
}

/// Reads the database in the original's working directory, or the one that is named itself.
///
/// # Errors
/// When there is none, it is in use, or it cannot be read whole.
pub fn read(directory: &Path) -> Result<States, DatabaseError> {
    let candidates = [directory.join(NAME), directory.to_owned()];
    let found = candidates.into_iter().find(|path| path.join(CURRENT).is_file());
    let path = found.ok_or_else(|| DatabaseError::Missing(directory.to_owned()))?;
    refuse_in_use(&path)?;
    let (copy, time) = copy(&path)?;
    let damaged = |source| DatabaseError::Damaged { path: path.clone(), source };
    let options = Options {
        env: Rc::new(Box::new(copy)),
        create_if_missing: false,
        paranoid_checks: true,
        ..Options::default()
    };
    let mut database = DB::open(COPY, options).map_err(damaged)?;
    let mut entries = database.new_iter().map_err(damaged)?;
    let mut read = States { states: Vec::new(), time, passed_over: 0 };
    while let Some((key, value)) = entries.next() {
        match TopicName::from_bytes(key.into()) {
            Ok(topic) => read.states.push((topic, value)),
            Err(_) => read.passed_over += 1,
        }
    }
    Ok(read)
}

/// LevelDB holds a lock on one of its files as long as it is open.
fn refuse_in_use(path: &Path) -> Result<(), DatabaseError> {
    let Ok(file) = File::open(path.join(LOCK)) else { return Ok(()) };
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // A file system without locks holds none.
    let asked = fcntl(&file, FcntlArg::F_GETLK(&mut lock));
    if asked.is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short {
        return Err(DatabaseError::InUse { path: path.to_owned(), pid: lock.l_pid });
    }
    Ok(())
}

/// The files in memory, and when the last of them was written.
fn copy(path: &Path) -> Result<(MemEnv, Duration), DatabaseError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| DatabaseError::File { path, source }
    };
    let (memory, mut left, mut newest) = (MemEnv::new(), LARGEST, UNIX_EPOCH);
    for entry in fs::read_dir(path).map_err(fail(path))? {
        let file = entry.map_err(fail(path))?.path();
        let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
        let metadata = fs::metadata(&file).map_err(fail(&file))?;
        if !metadata.is_file() || !is_data(name) {
            continue;
        }
        left = left
            .checked_sub(metadata.len())
            .ok_or_else(|| DatabaseError::TooLarge(path.to_owned()))?;
        let bytes = fs::read(&file).map_err(fail(&file))?;
        if is_table(name) && !has_sound_footer(&bytes) {
            return Err(DatabaseError::DamagedTable(file));
        }
        let kept = memory.open_writable_file(&Path::new(COPY).join(name));
        kept.map_err(|error| io::Error::new(ErrorKind::OutOfMemory, error))
            .and_then(|mut kept| kept.write_all(&bytes))
            .map_err(fail(&file))?;
        newest = newest.max(metadata.modified().unwrap_or_else(|_| SystemTime::now()));
    }
    Ok((memory, newest.duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// The files of a LevelDB that hold something (google/leveldb, doc/impl.md).
fn is_data(name: &str) -> bool {
    is_table(name) || name.ends_with(".log") || name == CURRENT || name.starts_with("MANIFEST-")
}

fn is_table(name: &str) -> bool {
    name.ends_with(".ldb") || name.ends_with(".sst")
}

/// Whether a table's footer points to two blocks inside it (google/leveldb, doc/table_format.md).
/// It is the one part that no checksum covers, and that the library trusts.
fn has_sound_footer(table: &[u8]) -> bool {
    let Some((blocks, footer)) = table.split_last_chunk::<FOOTER>() else { return false };
    let (mut handles, magic) = footer.split_at(FOOTER - MAGIC.len());
    let mut handle = || Some((varint(&mut handles)?, varint(&mut handles)?));
    let is_inside = |(offset, size): (u64, u64)| {
        let end = offset.checked_add(size).and_then(|end| end.checked_add(TRAILER));
        end.is_some_and(|end| end <= blocks.len() as u64)
    };
    magic == MAGIC && handle().is_some_and(is_inside) && handle().is_some_and(is_inside)
}

/// Seven bits a byte, the lowest first, the highest bit set on all bytes but the last.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7F).checked_shl(shift)?;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
