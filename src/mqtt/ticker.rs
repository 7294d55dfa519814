//! A timer for a short interval, exact to microseconds (timerfd_create(2)). The runtime's own timers are
//! exact to a millisecond, and setting one of them costs a system call as well.

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(super) struct Ticker {
    timer: AsyncFd<Timer>,
}

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Ticker {
    /// Starts it.
    ///
    /// # Errors
    /// Returns an error where the process may not open a further file.
    pub(super) fn every(interval: Duration) -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        timer.set(
            Expiration::Interval(TimeSpec::from_duration(interval)),
            TimerSetTimeFlags::empty(),
        )?;
        #[expect(unsafe_code, reason = "tokio cannot know how long the file is open")]
        // SAFETY: the timer has the same file as long as it lives, and only its end closes that.
        let timer = unsafe { AsyncFd::register_with_interest(Timer(timer), Interest::READABLE)? };
        Ok(Self { timer })
    }

    /// Returns whether an interval has ended since the last call; otherwise, the end of the present one
    /// wakes the task.
    pub(super) fn poll_tick(&self, context: &mut Context<'_>) -> bool {
        let mut has_ticked = false;
        while let Poll::Ready(Ok(mut end)) = self.timer.poll_read_ready(context) {
            // The kernel begins the next interval when the end of this one is read.
            has_ticked |= end.get_inner().0.wait().is_ok();
            end.clear_ready();
        }
        has_ticked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::time::Instant;

    #[tokio::test]
    async fn each_interval_is_reported_once() {
        let interval = Duration::from_millis(20);
        // Before the timer starts, so that no pause between the two makes an interval look shorter.
        let began = Instant::now();
        let ticker = Ticker::every(interval).unwrap();
        for number in 1..=3 {
            poll_fn(
                |context| {
                    if ticker.poll_tick(context) { Poll::Ready(()) } else { Poll::Pending }
                },
            )
            .await;
            assert!(began.elapsed() >= interval * number);
        }
    }
}
