//! Stores MQTT messages durably, as Parquet files that any SQL engine reads.
//!
//! A [`Writer`] appends messages to a segment, a file of frames with checksums, and makes them
//! durable with one `fdatasync` for many. From then on they may be acknowledged to the broker, which
//! allows only few messages in flight. At each flush the segment becomes a Parquet file in the
//! directory of its day. A [`Store`] merges the many small files of a day into one, removes days
//! that are too old or too many, and reads the messages of a topic, while a writer may be at work in
//! another process.
//!
//! ```text
//! segments/00000000000000000101.segment               messages from number 101 on
//! messages/date=2026-07-01/day.parquet                 those up to the number in its footer
//! messages/date=2026-07-01/FIRST-LAST.parquet          those of one flush
//! damaged/                                             what cannot be read, put aside
//! ```
//!
//! No step depends on another one being carried out at the same time: a file replaces others by what
//! its name or its footer says, so that a crash between its appearance and their removal neither
//! loses nor doubles a message.

// No input, no fault and no race may end the process.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]
#![deny(clippy::todo, clippy::unimplemented, clippy::exit)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
mod compaction;
mod contents;
mod error;
mod files;
mod layout;
mod message;
mod read;
pub mod report;
mod retention;
mod segment;
pub mod service;
mod summary;
mod table;
mod writer;

pub use compaction::Compaction;
pub use contents::{Files, Point, StoredFile};
pub use error::{AppendError, Error};
pub use layout::{Day, Store};
pub use message::{Message, Received};
pub use read::Messages;
pub use retention::{Keep, Removal};
pub use table::{Status, TopicSummary};
pub use writer::{Damage, Limits, Writer};
