//! Gives memory back that a fleet needed for a moment.
//!
//! A configuration of thousands of devices, their subscriptions and their statuses pass through
//! memory once, in small pieces between others that stay. The allocator keeps those holes for
//! itself unless it is asked; at 100,000 devices they are a third of what is resident. Deliberately
//! absent: any regular trimming, since in between nothing large comes and goes.

use std::time::Duration;
use tokio::time::Instant;

/// A turn with more actions than this concerned a fleet.
pub const LARGE_TURN: usize = 256;

/// By then its actions have mostly been carried out.
const DELAY: Duration = Duration::from_secs(5);

/// From this size on a block of memory is mapped by itself, and given back as soon as it is free.
/// Left to itself, the allocator raises the limit to the size of whatever large block was freed, and
/// then clears with its own hands what LMDB asks for and never uses.
const LARGE_BLOCK: i32 = 128 * 1024;

/// So much free memory at its end the allocator keeps, for a flood takes and frees all the time.
const KEPT: i32 = 512 * 1024;

/// When memory is to be given back next.
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

/// Has the allocator keep to the limits above; to be called before there is a second thread.
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
