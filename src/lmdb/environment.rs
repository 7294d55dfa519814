//! Opens an environment, after the check that LMDB does not make, and enlarges its map.

use super::error::StoreError;
use super::files::{self, DataFile, Look};
use crate::pulse::Pulse;
use heed::{Env, EnvOpenOptions, WithoutTls};
use std::path::Path;

/// Checks the data file and creates it where there is none, with what `make` writes into an empty
/// one. The directory's lock must be held. `newer` is the error for a file of a newer LMDB.
pub fn prepare(
    directory: &Path,
    look: Look,
    pulse: &Pulse,
    make: impl FnOnce(&Path) -> Result<(), StoreError>,
    newer: impl FnOnce(u32) -> StoreError,
) -> Result<(), StoreError> {
    let damaged = |reason| StoreError::Damaged { path: directory.join(files::DATA_FILE), reason };
    match files::inspect(directory, look, pulse)? {
        DataFile::Whole => {}
        DataFile::Missing => create(directory, make)?,
        DataFile::Short { expected } => files::fill_up(directory, expected)?,
        DataFile::Damaged(reason) => return Err(damaged(reason)),
        DataFile::Newer(found) => return Err(newer(found)),
    }
    files::allocate_lock_file(directory)
}

/// Creates an empty file beside its place and moves it there when it is on disk, so that a power cut
/// or a full disk in between leaves nothing that looks like a damaged one.
fn create(
    directory: &Path,
    make: impl FnOnce(&Path) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let workshop = files::open_workshop(directory)?;
    files::allocate_lock_file(&workshop)?;
    make(&workshop)?;
    files::move_in(&workshop, directory)
}

/// Opens a prepared file with up to this many tables.
pub fn open(directory: &Path, map_bytes: usize, tables: u32) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_bytes).max_dbs(tables).max_readers(8);
    #[expect(unsafe_code, reason = "opening a memory map is unsafe in heed")]
    // SAFETY: the file's size was checked, and the directory's lock excludes every other process of
    // this program, so that only LMDB changes the mapped file.
    let env = unsafe { options.open(directory) }?;
    env.clear_stale_readers()?;
    Ok(env)
}

/// Gives an environment a map of so many bytes. No transaction may be alive, which the mutable
/// borrow shows, because each borrows the environment.
pub fn resize(env: &mut Env<WithoutTls>, bytes: usize) -> heed::Result<()> {
    #[expect(unsafe_code, reason = "moving a memory map is unsafe in heed")]
    // SAFETY: `&mut` shows that no transaction is alive.
    unsafe {
        env.resize(bytes)
    }
}
