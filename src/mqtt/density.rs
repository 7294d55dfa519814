//! Recognizes a stream that is so dense that a wake-up of the process for each of its messages costs more
//! than their handling.

use std::time::Duration;
use tokio::time::Instant;

/// The rate is looked at after this time.
const WINDOW: Duration = Duration::from_millis(50);

/// The messages of a window from which on it is dense: 300 a second, more than two in each interval at
/// which a collecting link reads.
const DENSE: u32 = 15;

/// As many dense windows in a row are a dense stream, so that a burst is none.
const WINDOWS: u8 = 2;

#[derive(Debug)]
pub(super) struct DensityMeter {
    began: Instant,
    messages: u32,
    /// Whether the broker waits for the acknowledgement of one of them before it sends more.
    is_acknowledged: bool,
    dense_windows: u8,
}

impl DensityMeter {
    pub fn new(now: Instant) -> Self {
        Self { began: now, messages: 0, is_acknowledged: false, dense_windows: 0 }
    }

    /// Notes a message. `is_acknowledged` says whether it has QoS 1: of these, the broker sends as many
    /// as its window allows, and a delay of one delays those behind it.
    pub fn note(&mut self, is_acknowledged: bool) {
        self.messages = self.messages.saturating_add(1);
        self.is_acknowledged |= is_acknowledged;
    }

    /// Returns whether the stream is dense.
    pub fn is_dense(&mut self, now: Instant) -> bool {
        let length = now - self.began;
        if length >= WINDOW {
            // A window may end late, with the first message after a pause.
            let is_dense = u128::from(self.messages) * WINDOW.as_micros()
                >= u128::from(DENSE) * length.as_micros();
            let counts = is_dense && !self.is_acknowledged;
            self.dense_windows = if counts { (self.dense_windows + 1).min(WINDOWS) } else { 0 };
            (self.began, self.messages, self.is_acknowledged) = (now, 0, false);
        }
        self.dense_windows >= WINDOWS && !self.is_acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    struct SteadyFlow {
        meter: DensityMeter,
        now: Instant,
    }

    impl SteadyFlow {
        fn new() -> Self {
            let now = Instant::now();
            Self { meter: DensityMeter::new(now), now }
        }

        /// So many milliseconds with so many messages in each. Returns after how many of them the
        /// stream was dense.
        fn run(&mut self, ticks: u32, messages: u32, is_acknowledged: bool) -> Option<u32> {
            (1..=ticks).filter(|_| self.tick(messages, is_acknowledged)).min_by_key(|tick| *tick)
        }

        fn tick(&mut self, messages: u32, is_acknowledged: bool) -> bool {
            self.now += TICK;
            (0..messages).for_each(|_| self.meter.note(is_acknowledged));
            self.meter.is_dense(self.now)
        }
    }

    #[test]
    fn a_thousand_messages_a_second_are_dense_after_a_tenth_of_it() {
        assert_eq!(SteadyFlow::new().run(200, 50, false), Some(100));
        assert_eq!(SteadyFlow::new().run(200, 1, false), Some(100));
    }

    #[test]
    fn neither_a_usual_stream_nor_a_burst_is() {
        let mut usual = SteadyFlow::new();
        assert_eq!((0..1_000).find(|tick| usual.tick(u32::from(tick % 4 == 0), false)), None);
        let mut burst = SteadyFlow::new();
        assert_eq!(burst.run(1, 1_000, false), None);
        assert_eq!((0..200).find(|tick| burst.tick(u32::from(tick % 4 == 0), false)), None);
    }

    #[test]
    fn it_ends_within_a_window_after_the_last_dense_one() {
        let mut stream = SteadyFlow::new();
        assert!(stream.run(150, 50, false).is_some());
        let still = (0..200).take_while(|_| stream.tick(0, false)).count();
        assert!((1..=100).contains(&still), "{still} ms");
        assert!(!stream.tick(50, false));
    }

    #[test]
    fn a_pause_ends_it_with_the_first_message_after_it() {
        let mut stream = SteadyFlow::new();
        assert!(stream.run(150, 50, false).is_some());
        stream.now += Duration::from_secs(3_600);
        assert!(!stream.tick(50, false));
    }

    #[test]
    fn what_the_broker_wants_acknowledged_is_never_held_back() {
        assert_eq!(SteadyFlow::new().run(200, 50, true), None);
        let mut stream = SteadyFlow::new();
        assert!(stream.run(150, 50, false).is_some());
        assert!(!stream.tick(1, true), "at once");
    }
}
