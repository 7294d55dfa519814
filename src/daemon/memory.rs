//! Returns memory to the system that a fleet needed for a moment.
//!
//! A configuration of thousands of devices, their subscriptions and their statuses pass through
//! memory once, in small pieces between others that stay. The allocator keeps these holes unless it
//! is asked to release them; at 100,000 devices they are a third of the resident memory. Memory is
//! not trimmed regularly, because in between nothing large is allocated.

use std::time::Duration;
use tokio::time::Instant;

/// A turn with more actions than this concerns a fleet.
pub const LARGE_TURN: usize = 256;

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
#[derive(Debug, Default)]
pub struct Trimming {
    due: Option<Instant>,
}

impl Trimming {
    /// Notes a turn with so many actions.
    pub fn note(&mut self, actions: usize) {
        if actions > LARGE_TURN {
            self.due = Some(Instant::now() + DELAY);
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.due
    }

    pub fn trim_if_due(&mut self) {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.due = None;
            give_back();
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
