//! Returns memory to the system that a fleet needed for a moment.
//!
//! A configuration of thousands of devices, their subscriptions and their statuses pass through
//! memory once, in small pieces between others that stay. The allocator keeps these holes unless it
//! is asked to release them; at 100,000 devices they are a third of the resident memory. The same goes
//! for the first messages of a fleet, each of which leads to a status and a record. The start
//! also runs through most of the program's code, which then stays mapped. Memory is not trimmed
//! regularly, because in between nothing large is allocated.

use crate::mapped_files;
use std::time::Duration;
use tokio::time::Instant;

/// A turn with more actions than this concerns a fleet.
pub const LARGE_TURN: usize = 256;

/// After so many actions, in one turn or in many, something that had been allocated may be free. An idle
/// monitor takes an hour for them.
const MANY_ACTIONS: usize = 4_096;

/// After this time most of the actions have been carried out.
const DELAY: Duration = Duration::from_secs(5);

/// A block of memory of at least this size is mapped by itself, and returned as soon as it is free.
/// By default the allocator raises the limit to the size of whatever large block was freed, and
/// then clears memory that LMDB requests and never uses.
const LARGE_BLOCK: i32 = 128 * 1024;

/// The amount of free memory that the allocator keeps at its end, because a flood allocates and
/// frees all the time.
const KEPT: i32 = 512 * 1024;

/// The time at which memory is returned next.
#[derive(Debug)]
pub struct Trimming {
    due: Option<Instant>,
    /// Those since it was last decided that memory is returned.
    actions: usize,
}

impl Trimming {
    /// It is due for the first time when the start is over.
    pub fn after_start(now: Instant) -> Self {
        Self { due: Some(now + DELAY), actions: 0 }
    }

    /// Notes a turn with so many actions. As long as there are many, nothing is returned.
    pub fn note(&mut self, actions: usize) {
        self.actions += actions;
        if actions > LARGE_TURN || self.actions > MANY_ACTIONS {
            self.due = Some(Instant::now() + DELAY);
            self.actions = 0;
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.due
    }

    pub fn trim_if_due(&mut self) {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.due = None;
            give_back();
            mapped_files::release_program();
        }
    }
}

/// Makes the allocator keep to the limits above. It must be called before there is a second thread.
#[cfg(target_env = "gnu")]
pub fn keep_to_limits() {
    for (parameter, value) in
        [(nix::libc::M_MMAP_THRESHOLD, LARGE_BLOCK), (nix::libc::M_TRIM_THRESHOLD, KEPT)]
    {
        #[expect(unsafe_code, reason = "the allocator's call has no safe wrapper")]
        // SAFETY: mallopt(3) only sets a parameter, and there is no other thread yet.
        let _set = unsafe { nix::libc::mallopt(parameter, value) };
    }
}

/// Other allocators decide for themselves.
#[cfg(not(target_env = "gnu"))]
pub fn keep_to_limits() {}

#[cfg(target_env = "gnu")]
fn give_back() {
    #[expect(unsafe_code, reason = "the allocator's call has no safe wrapper")]
    // SAFETY: malloc_trim(3) has no preconditions and may be called at any time from any thread;
    // it touches only memory that is free.
    unsafe {
        nix::libc::malloc_trim(0)
    };
}

/// Other allocators decide for themselves.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Trimming {
        Trimming { due: None, actions: 0 }
    }

    #[test]
    fn a_large_turn_and_many_small_ones_are_followed_by_a_trimming() {
        let mut trimming = idle();
        trimming.note(LARGE_TURN + 1);
        assert!(trimming.next().is_some());
        let mut trimming = idle();
        (0..MANY_ACTIONS).for_each(|_| trimming.note(1));
        assert_eq!(trimming.next(), None);
        trimming.note(1);
        assert!(trimming.next().is_some());
    }

    #[test]
    fn a_start_is_followed_by_a_trimming() {
        let now = Instant::now();
        assert_eq!(Trimming::after_start(now).next(), Some(now + DELAY));
    }
}
