//! Whether the store's thread is stuck in the kernel, with a disk that does not answer.
//!
//! Such a thread cannot be helped by a restart: the kernel lets no process go, not even a killed
//! one, before the disk has answered. The daemon decides how long is too long, and raises the alert.

use nix::unistd::gettid;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Shared between the thread and the handle.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    /// 0 while there is none.
    thread: AtomicI32,
    /// It has been told that the disk does not answer, and not yet that it does.
    told: AtomicBool,
}

impl Stuck {
    /// To be called by the thread, as its first act.
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

    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// Notes that it is told. Returns whether it was not before.
    pub fn tell(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    /// Takes back what was told. Returns whether there was anything.
    pub fn take_back(&self) -> bool {
        self.told.swap(false, Ordering::Relaxed)
    }
}

/// The field behind the name, which stands in parentheses and may hold anything.
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
        assert!(stuck.tell() && !stuck.tell());
        assert!(stuck.take_back() && !stuck.take_back());
    }
}
