//! Proof for the watchdog that a part is alive: a part signals every completed turn of its loop, and
//! the watchdog is fed only while every part's last signal is recent.
//!
//! A part that has nothing to do is asked for a signal each time the watchdog is fed, so that it
//! needs no timer of its own, and an idle process stays asleep. The daemon decides which parts are
//! checked and which age is too high.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How often a part beats that has something to check all the time.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Stands for the last beat of a part that rests.
const RESTING: u64 = u64::MAX;

/// Shared between a part and the daemon; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pulse {
    start: Instant,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// In milliseconds since the start, or [`RESTING`].
    last_beat: AtomicU64,
    request: Mutex<BeatRequest>,
}

/// What is asked of a part that waits.
#[derive(Debug)]
enum BeatRequest {
    /// Nothing; the part is woken for the next request if it waits.
    None(Option<Waker>),
    /// A beat that it has not noticed yet.
    Beat,
}

impl Default for BeatRequest {
    fn default() -> Self {
        Self::None(None)
    }
}

impl Pulse {
    /// A pulse that has just beaten.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a pulse starts at a moment, it has no default")]
    pub fn new() -> Self {
        Self::since(Instant::now())
    }

    /// A pulse that has beaten at `start`. Parts whose pulses have the same start check what they
    /// have to check at the same moments: an idle process wakes once for all of them.
    #[must_use]
    pub fn since(start: Instant) -> Self {
        Self { start, shared: Arc::default() }
    }

    /// A pulse of another part, with the same start, that has just beaten.
    #[must_use]
    pub fn sibling(&self) -> Self {
        let sibling = Self::since(self.start);
        sibling.beat();
        sibling
    }

    /// The next multiple of [`BEAT_INTERVAL`] since the start.
    #[must_use]
    pub fn next_moment(&self) -> Instant {
        let passed = self.start.elapsed().as_secs() / BEAT_INTERVAL.as_secs();
        self.start + BEAT_INTERVAL * u32::try_from(passed + 1).unwrap_or(u32::MAX)
    }

    /// To be called by a part that lives, with each turn of its loop.
    pub fn beat(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(RESTING - 1);
        self.shared.last_beat.store(millis, Ordering::Relaxed);
    }

    /// Asks the part to beat.
    pub fn ask(&self) {
        let mut request = self.shared.request.lock().unwrap_or_else(PoisonError::into_inner);
        if let BeatRequest::None(Some(waiter)) = std::mem::replace(&mut *request, BeatRequest::Beat)
        {
            drop(request);
            waiter.wake();
        }
    }

    /// Waits until the part is asked to beat. Only the last one of several waiters is woken.
    pub async fn asked(&self) {
        poll_fn(|context| self.poll_asked(context)).await;
    }

    fn poll_asked(&self, context: &Context<'_>) -> Poll<()> {
        let mut request = self.shared.request.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *request {
            BeatRequest::Beat => {
                *request = BeatRequest::None(None);
                Poll::Ready(())
            }
            BeatRequest::None(Some(waiter)) => {
                waiter.clone_from(context.waker());
                Poll::Pending
            }
            BeatRequest::None(none) => {
                *none = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Waits for a future, and beats whenever it is asked to.
    pub async fn beat_during<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        self.beat();
        poll_fn(|context| {
            while self.poll_asked(context).is_ready() {
                self.beat();
            }
            future.as_mut().poll(context)
        })
        .await
    }

    /// The part now waits for something to do, in a call that cannot hang, and does not beat.
    pub fn rest(&self) {
        self.shared.last_beat.store(RESTING, Ordering::Relaxed);
    }

    /// To be called before a part that may rest is given something to do: from then on it must beat.
    pub fn rouse(&self) {
        if self.is_resting() {
            self.beat();
        }
    }

    /// Whether the part waits for something to do.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.shared.last_beat.load(Ordering::Relaxed) == RESTING
    }

    /// Time since the last beat, which a part that rests does not owe.
    #[must_use]
    pub fn age(&self) -> Duration {
        match self.shared.last_beat.load(Ordering::Relaxed) {
            RESTING => Duration::ZERO,
            millis => self.start.elapsed().saturating_sub(Duration::from_millis(millis)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    fn old() -> Pulse {
        Pulse::since(Instant::now() - Duration::from_millis(60_720))
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn siblings_check_at_the_same_moments() {
        let pulse = old();
        let sibling = pulse.sibling();
        assert!(sibling.age() < Duration::from_millis(100), "it has just beaten");
        assert_eq!(pulse.next_moment(), sibling.next_moment());
        let left = pulse.next_moment().saturating_duration_since(Instant::now());
        assert!(left <= Duration::from_millis(280), "{left:?}");
    }

    #[test]
    fn a_part_that_rests_is_not_late_before_it_has_something_to_do() {
        let pulse = old();
        pulse.rouse();
        assert!(pulse.age() > Duration::from_secs(60), "only one that rests is roused");
        pulse.rest();
        assert_eq!(pulse.age(), Duration::ZERO);
        pulse.rouse();
        std::thread::sleep(Duration::from_millis(2));
        assert!(pulse.age() > Duration::ZERO, "it owes a beat again");
    }

    #[test]
    fn a_part_that_waits_is_woken_once_for_each_request_and_beats() {
        let pulse = old();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let mut part = pin!(pulse.beat_during(pending::<()>()));
        for round in 1..4 {
            assert!(part.as_mut().poll(&mut context).is_pending());
            assert!(pulse.age() < Duration::from_secs(60));
            // This stands for a last beat long ago: only another beat ends it.
            pulse.rest();
            pulse.ask();
            pulse.ask();
            assert_eq!(wakes.0.load(Ordering::Relaxed), round);
            assert!(part.as_mut().poll(&mut context).is_pending());
            assert!(!pulse.is_resting(), "it has beaten");
        }
    }

    #[test]
    fn a_part_that_is_asked_before_it_waits_notices_it_when_it_does() {
        let pulse = old();
        pulse.ask();
        let context = Context::from_waker(Waker::noop());
        assert!(pulse.poll_asked(&context).is_ready());
        assert!(pulse.poll_asked(&context).is_pending());
    }
}
