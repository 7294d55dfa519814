//! Returns memory to the system that a fleet needed for a moment.
//!
//! A configuration of thousands of devices, their subscriptions and their statuses pass through
//! memory once, in small pieces between others that stay. The allocator keeps these holes unless it
//! is asked to release them; at 100,000 devices they are a third of the resident memory. The same goes
//! for the first messages of a fleet, each of which leads to a status and a record, and for a round
//! of records. The start also runs through most of the program's code, which then stays mapped.
//!
//! Memory is returned once a minute, and soon after something that concerns a fleet. That takes about a
//! millisecond, and what is used again comes back from the kernel's cache.

use crate::mapped_files;
use std::time::Duration;
use tokio::time::Instant;

/// A turn with more actions than this concerns a fleet.
pub const LARGE_TURN: usize = 256;

/// After this time most of the actions have been carried out.
const DELAY: Duration = Duration::from_secs(5);

/// The interval at which memory is returned. The records of the devices are saved as often, so that each
/// round of them is followed by it.
const INTERVAL: Duration = Duration::from_secs(60);

/// A block of memory of at least this size is mapped by itself, and returned as soon as it is free.
/// By default the allocator raises the limit to the size of whatever large block was freed, and
/// then clears memory that LMDB requests and never uses.
const LARGE_BLOCK: i32 = 128 * 1024;

/// The amount of free memory that the allocator keeps at its end, because a flood allocates and
/// frees all the time.
const KEPT: i32 = 512 * 1024;

/// The times at which memory is returned.
#[derive(Debug)]
pub struct Trimming {
    regular: Instant,
    /// After a large turn.
    early: Option<Instant>,
}

impl Trimming {
    /// It is due for the first time when the start is over.
    pub fn after_start(now: Instant) -> Self {
        Self { regular: now + DELAY, early: None }
    }

    /// Notes a turn with so many actions. As long as large ones follow, nothing is returned early.
    pub fn note(&mut self, actions: usize) {
        if actions > LARGE_TURN {
            self.early = Some(Instant::now() + DELAY);
        }
    }

    pub fn next(&self) -> Instant {
        self.early.map_or(self.regular, |early| early.min(self.regular))
    }

    pub fn trim_if_due(&mut self) {
        let now = Instant::now();
        if self.is_due(now) {
            give_back();
            mapped_files::release_program();
        }
    }

    /// Whether memory is returned now. The next time is then set.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next() <= now;
        if is_due {
            self.early = None;
        }
        while self.regular <= now {
            self.regular += INTERVAL;
        }
        is_due
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

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn memory_is_returned_after_the_start_and_then_once_a_minute() {
        let start = Instant::now();
        let mut trimming = Trimming::after_start(start);
        let seconds: Vec<u32> =
            (0..200).filter(|&second| trimming.is_due(start + second * SECOND)).collect();
        assert_eq!(seconds, [5, 65, 125, 185]);
    }

    #[test]
    fn a_large_turn_is_followed_by_an_early_return() {
        let start = Instant::now();
        let mut trimming = Trimming::after_start(start);
        assert!(trimming.is_due(start + DELAY));
        trimming.note(LARGE_TURN);
        assert_eq!(trimming.next(), start + DELAY + INTERVAL);
        trimming.note(LARGE_TURN + 1);
        let early = trimming.next();
        assert!(early < start + INTERVAL);
        assert!(trimming.is_due(early) && !trimming.is_due(early));
    }

    #[test]
    fn a_process_that_was_held_up_does_not_make_up_for_it() {
        let start = Instant::now();
        let mut trimming = Trimming::after_start(start);
        assert!(trimming.is_due(start + 1_000 * SECOND));
        assert!(!trimming.is_due(start + 1_001 * SECOND));
    }
}
