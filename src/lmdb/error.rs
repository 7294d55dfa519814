//! Errors of the store, described in sentences that a person can act on.

use std::path::{Path, PathBuf};

/// Explains why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The only fatal error: an older program would destroy the data of a newer one.
    #[error(
        "the store in {} has format {found}, this version of iotmonitor knows formats up to \
         {supported}: install the newer version again, or move the store away", path.display()
    )]
    NewerFormat { found: u32, supported: u32, path: PathBuf },
    /// The data file cannot be trusted; it is set aside.
    #[error("the store {} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// Another process holds the directory's lock.
    #[error(
        "the store in {} is in use by another process; each instance needs a directory of its own",
        path.display()
    )]
    InUse { path: PathBuf },
    /// The names of the store's files now lead elsewhere, or nowhere.
    #[error("the store in {} was removed or replaced while it was in use", path.display())]
    Replaced { path: PathBuf },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    /// The database failed; most often the disk is full or failing.
    #[error("cannot {action} the store in {}: {source}", path.display())]
    Database { action: &'static str, path: PathBuf, source: heed::Error },
}

impl StoreError {
    /// Whether the database refuses everything until it is reopened. An error of the disk leaves it
    /// unchanged, with the failed transaction undone.
    pub fn closes_the_database(&self) -> bool {
        match self {
            Self::Database { source: heed::Error::Io(_), .. } => false,
            Self::Database { .. }
            | Self::NewerFormat { .. }
            | Self::Damaged { .. }
            | Self::InUse { .. }
            | Self::Replaced { .. }
            | Self::File { .. } => true,
        }
    }

    /// Whether the directory is gone, and only another process can create it again.
    pub fn is_out_of_reach(&self) -> bool {
        use std::io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
        matches!(
            self,
            Self::File { source, .. }
                if matches!(source.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem)
        )
    }

    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    /// Distinguishes damage from a database that merely cannot work at the moment.
    pub fn database(action: &'static str, path: &Path, source: heed::Error) -> Self {
        use heed::MdbError;
        match source {
            heed::Error::Mdb(
                MdbError::Corrupted
                | MdbError::PageNotFound
                | MdbError::Invalid
                | MdbError::VersionMismatch
                | MdbError::Incompatible
                | MdbError::CursorFull,
            ) => Self::Damaged { path: path.to_owned(), reason: source.to_string() },
            source => Self::Database { action, path: path.to_owned(), source },
        }
    }
}
