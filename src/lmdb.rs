//! What every LMDB environment of the program needs around LMDB itself: a lock against a second
//! process, a check of all pages before the file is opened, a checksum in every record, setting a
//! damaged file aside, and noticing a disk that does not answer.

pub mod environment;
pub mod error;
pub mod files;
mod pages;
pub mod residence;
pub mod seal;
pub mod stuck;

pub use error::StoreError;
