//! The core: events and the time in, actions out.
//!
//! Deliberately absent: clocks, files, sockets, tasks, randomness and failure.

pub mod action;
pub mod alert;
pub mod event;
pub mod snapshot;
pub mod spec;

pub use action::Action;
pub use event::{Event, Now};
