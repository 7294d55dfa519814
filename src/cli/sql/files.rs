//! The files that an engine reads: recorded ones, which are held open, and a directory for others.

use super::SqlError;
use crate::recorder::{self, RecordedFile};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How often the files are opened before it is given up. A compaction, which may replace some
/// meanwhile, runs once an hour.
const TRIES: usize = 10;

/// The directory of the recorded files.
pub const MESSAGES: &str = "message";

#[derive(Debug)]
pub struct Files {
    directory: TempDir,
    /// Keeps the directory's path short and without special characters, whatever TMPDIR is.
    handle: File,
    recorded: Vec<File>,
}

impl Files {
    /// Opens the recorded files that count, as they were at one moment.
    pub fn open() -> Result<Self, SqlError> {
        allow_many_files();
        let recorded = open_recorded()?;
        let directory = tempfile::Builder::new().prefix("iotmonitor-sql-").tempdir();
        let directory = directory.map_err(SqlError::Write)?;
        let handle = File::open(directory.path()).map_err(SqlError::Write)?;
        let files = Self { directory, handle, recorded };
        files.link().map_err(SqlError::Write)?;
        Ok(files)
    }

    /// Gives each open file a name, which also leads to one that has been removed.
    fn link(&self) -> io::Result<()> {
        let messages = self.directory.path().join(MESSAGES);
        fs::create_dir(&messages)?;
        for (place, file) in self.recorded.iter().enumerate() {
            symlink(of_descriptor(file), messages.join(format!("{place:06}.parquet")))?;
        }
        Ok(())
    }

    pub fn has_messages(&self) -> bool {
        !self.recorded.is_empty()
    }

    /// The path of a file of the directory, by way of this process.
    pub fn path(&self, name: &str) -> PathBuf {
        of_descriptor(&self.handle).join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::write(self.directory.path().join(name), bytes)
    }
}

fn of_descriptor(file: &File) -> PathBuf {
    Path::new("/proc")
        .join(std::process::id().to_string())
        .join("fd")
        .join(file.as_raw_fd().to_string())
}

/// A day has a file at least, and years of days are more files than a process usually may open. Where
/// the system allows no more, opening them fails with its reason.
fn allow_many_files() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

fn open_recorded() -> Result<Vec<File>, SqlError> {
    for _ in 0..TRIES {
        let listed = recorder::read(recorder::command(["files", "--json"]))?;
        let listed: Vec<RecordedFile> = recorder::parse(&listed)?;
        let opened: io::Result<Option<Vec<File>>> = listed.iter().map(open_listed).collect();
        if let Some(files) = opened.map_err(SqlError::Files)? {
            return Ok(files);
        }
    }
    Err(SqlError::Changing)
}

/// The file, or `None` if it has been replaced since it was listed.
fn open_listed(listed: &RecordedFile) -> io::Result<Option<File>> {
    let file = match File::open(&listed.path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let found = file.metadata()?;
    Ok((found.ino() == listed.inode && found.len() == listed.bytes).then_some(file))
}
