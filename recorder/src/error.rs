//! What can go wrong, in one sentence each.

use parquet::errors::ParquetError;
use std::io;
use std::path::{Path, PathBuf};

/// A file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} cannot be read as a Parquet file of messages: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("another process is at work in {}", path.display())]
    InUse { path: PathBuf },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Distinguishes the system's errors from those of the file's content, because a file is put aside
    /// only for its content.
    pub(crate) fn parquet(action: &'static str, path: &Path) -> impl FnOnce(ParquetError) -> Self {
        move |error| {
            let path = path.to_owned();
            match error {
                ParquetError::External(source) => match source.downcast::<io::Error>() {
                    Ok(source) if source.raw_os_error().is_some() => {
                        Self::Io { action, path, source: *source }
                    }
                    Ok(source) => Self::Damaged { path, reason: source.to_string() },
                    Err(source) => Self::Damaged { path, reason: source.to_string() },
                },
                error => Self::Damaged { path, reason: error.to_string() },
            }
        }
    }

    /// Whether the file, or a directory on its path, does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether there is no room left, which a later try may find.
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        )
    }
}

/// A message that the writer does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("the messages that wait for a commit fill the memory that they may take")]
    Full,
    #[error("the topic has {length} bytes, and MQTT allows 65535")]
    TopicTooLong { length: usize },
    #[error("the payload has {length} bytes, and MQTT allows 268435455")]
    PayloadTooLong { length: usize },
}
