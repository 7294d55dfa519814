//! Detects that the store's thread is stuck in the kernel, with a disk that does not answer.
//!
//! A restart does not help such a thread: the kernel releases no process, not even a killed one,
//! before the disk has answered. The daemon decides how long is too long, and raises the alert.

use nix::unistd::gettid;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Shared between the thread and the handle.
#[derive(Debug, Default)]
pub struct Stuck {
    /// The thread's id; 0 while there is none.
    thread: AtomicI32,
    /// The outage has been reported, and its end has not.
    is_reported: AtomicBool,
}

impl Stuck {
    /// Registers the calling thread; the thread calls it first.
    pub fn watch_this_thread(&self) {
        self.thread.store(gettid().as_raw(), Ordering::Relaxed);
    }

    /// Watches the thread that another one watches.
    pub fn watch(&self, other: &Self) {
        self.thread.store(other.thread.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether the thread sleeps in the kernel and no signal can wake it: state `D` of
    /// proc_pid_stat(5).
    pub fn waits_for_disk(&self) -> bool {
        let thread = self.thread.load(Ordering::Relaxed);
        std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"))
            .is_ok_and(|stat| state_of(&stat) == Some('D'))
    }

    pub fn is_reported(&self) -> bool {
        self.is_reported.load(Ordering::Relaxed)
    }

    /// Notes that the outage is reported. Returns whether it was not before.
    pub fn report(&self) -> bool {
        !self.is_reported.swap(true, Ordering::Relaxed)
    }

    /// Withdraws the report. Returns whether there was one.
    pub fn take_back(&self) -> bool {
        self.is_reported.swap(false, Ordering::Relaxed)
    }
}

/// The field behind the name, which is in parentheses and may contain any character.
fn state_of(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_behind_the_name() {
        assert_eq!(state_of("72 (store) D 1 70 70"), Some('D'));
        assert_eq!(state_of("72 (a) R (b) S 1 70 70"), Some('S'));
        assert_eq!(state_of(""), None);
    }

    #[test]
    fn a_thread_that_runs_waits_for_no_disk() {
        let stuck = Stuck::default();
        assert!(!stuck.waits_for_disk(), "no thread is known");
        stuck.watch_this_thread();
        assert!(!stuck.waits_for_disk());
        assert!(stuck.report() && !stuck.report());
        assert!(stuck.take_back() && !stuck.take_back());
    }
}
