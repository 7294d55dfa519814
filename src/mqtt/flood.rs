//! Recognizes a flood of messages, in which a wake-up of the process for each of them costs more than
//! its handling.

use std::time::Duration;
use tokio::time::Instant;

/// The rate is looked at after this time.
const WINDOW: Duration = Duration::from_millis(20);

/// The messages of a window from which on it is dense: 3,200 a second.
const DENSE: u32 = 64;

/// As many dense windows in a row are a flood, so that a burst is none.
const WINDOWS: u8 = 2;

#[derive(Debug)]
pub(super) struct FloodDetector {
    began: Instant,
    messages: u32,
    /// Whether the broker waits for the acknowledgement of one of them before it sends more.
    is_acknowledged: bool,
    dense_windows: u8,
}

impl FloodDetector {
    pub fn new(now: Instant) -> Self {
        Self { began: now, messages: 0, is_acknowledged: false, dense_windows: 0 }
    }

    /// Notes a message. `is_acknowledged` says whether it has QoS 1: of these, the broker sends as many
    /// as its window allows, and a delay of one delays those behind it.
    pub fn note(&mut self, is_acknowledged: bool) {
        self.messages = self.messages.saturating_add(1);
        self.is_acknowledged |= is_acknowledged;
    }

    /// Returns whether there is a flood. `now` is the time of the last read.
    pub fn is_flood(&mut self, now: Instant) -> bool {
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
        detector: FloodDetector,
        now: Instant,
    }

    impl SteadyFlow {
        fn new() -> Self {
            let now = Instant::now();
            Self { detector: FloodDetector::new(now), now }
        }

        /// So many milliseconds with so many messages in each. Returns after how many of them there
        /// was a flood.
        fn run(&mut self, ticks: u32, messages: u32, is_acknowledged: bool) -> Option<u32> {
            (1..=ticks).filter(|_| self.tick(messages, is_acknowledged)).min_by_key(|tick| *tick)
        }

        fn tick(&mut self, messages: u32, is_acknowledged: bool) -> bool {
            self.now += TICK;
            (0..messages).for_each(|_| self.detector.note(is_acknowledged));
            self.detector.is_flood(self.now)
        }
    }

    #[test]
    fn a_flood_is_a_flood_after_forty_milliseconds() {
        assert_eq!(SteadyFlow::new().run(100, 50, false), Some(40));
        assert_eq!(SteadyFlow::new().run(100, 4, false), Some(40));
    }

    #[test]
    fn neither_a_usual_stream_nor_a_burst_is_one() {
        assert_eq!(SteadyFlow::new().run(1_000, 3, false), None);
        let mut stream = SteadyFlow::new();
        assert_eq!(stream.run(1, 1_000, false), None);
        assert_eq!(stream.run(200, 1, false), None);
    }

    #[test]
    fn it_ends_within_a_window_after_the_last_dense_one() {
        let mut stream = SteadyFlow::new();
        assert!(stream.run(60, 50, false).is_some());
        assert!(stream.tick(0, false));
        let still = (0..40).take_while(|_| stream.tick(1, false)).count();
        assert!(still <= 20, "{still} ms");
        assert!(!stream.tick(50, false));
    }

    #[test]
    fn a_pause_ends_it_with_the_first_message_after_it() {
        let mut stream = SteadyFlow::new();
        assert!(stream.run(60, 50, false).is_some());
        stream.now += Duration::from_secs(3_600);
        assert!(!stream.tick(50, false));
    }

    #[test]
    fn what_the_broker_wants_acknowledged_is_never_held_back() {
        assert_eq!(SteadyFlow::new().run(100, 50, true), None);
        let mut stream = SteadyFlow::new();
        assert!(stream.run(60, 50, false).is_some());
        assert!(!stream.tick(1, true), "at once");
    }
}
