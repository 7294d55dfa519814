//! The state that the two connections of one monitor share.
//!
//! A broker that identifies clients by their user names ends each of the two when the other one
//! connects, which looks like a conflict with another program.

use iotmonitor_core::model::message::Connection;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The longest time between the end of a connection and the beginning of the one that displaced it.
const TOGETHER: Duration = Duration::from_secs(1);

/// Longer than the longest delay after a displacement.
const RECENT: Duration = Duration::from_secs(30 * 60);

/// Shared by two connections; clones refer to the same two.
#[derive(Debug, Clone, Default)]
pub struct Pair(Arc<Mutex<Both>>);

#[derive(Debug, Default)]
struct Both {
    watch: One,
    state: One,
}

#[derive(Debug, Default, Clone, Copy)]
struct One {
    /// The time since which the connection has been established.
    since: Option<Instant>,
    /// The last time that it ended as the other one began.
    displaced: Option<Instant>,
}

impl Pair {
    pub(super) fn stands(&self, connection: Connection, since: Option<Instant>) {
        if let Some(one) = self.lock().of(connection) {
            one.since = since;
        }
    }

    /// Notes that the broker closed a connection. Returns whether the other one began then, and is
    /// established.
    pub(super) fn note_end(&self, connection: Connection, ended: Instant) -> bool {
        let mut both = self.lock();
        let other = match connection {
            Connection::Watch => both.state,
            Connection::State => both.watch,
            Connection::Former(_) => return false,
        };
        let is_displaced =
            other.since.is_some_and(|since| since + TOGETHER > ended && ended + TOGETHER > since);
        if is_displaced && let Some(one) = both.of(connection) {
            one.displaced = Some(ended);
        }
        is_displaced
    }

    /// Whether each has displaced the other: a single displacement may be coincidence, when both
    /// have just connected.
    pub(super) fn is_proven(&self) -> bool {
        let both = self.lock();
        let is_recent = |one: One| one.displaced.is_some_and(|at| at.elapsed() < RECENT);
        is_recent(both.watch) && is_recent(both.state)
    }

    fn lock(&self) -> MutexGuard<'_, Both> {
        // A panic elsewhere leaves no partial change that would matter.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Both {
    fn of(&mut self, connection: Connection) -> Option<&mut One> {
        match connection {
            Connection::Watch => Some(&mut self.watch),
            Connection::State => Some(&mut self.state),
            Connection::Former(_) => None,
        }
    }
}
