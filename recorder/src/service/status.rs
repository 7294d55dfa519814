//! The line that `systemctl status` shows.

use super::STATUS_INTERVAL;
use super::recording::Figures;
use iotmonitor_core::model::words::counted;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// What the line is made of.
#[derive(Debug)]
pub struct Status {
    pub server: String,
    /// Messages that the broker has sent since the start, and those of them that are not recorded.
    pub received: u64,
    pub passed_over: u64,
    pub is_failing: bool,
    shown: String,
    was_connected: bool,
    next: Instant,
}

impl Status {
    pub fn new(server: String) -> Self {
        Self {
            server,
            received: 0,
            passed_over: 0,
            is_failing: false,
            shown: String::new(),
            was_connected: false,
            next: Instant::now(),
        }
    }

    /// When to ask for the line again.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// The line, if it has changed: at once for the connection, and a little later for figures.
    pub fn renewed(&mut self, is_connected: bool, figures: &Figures) -> Option<String> {
        let now = Instant::now();
        if now < self.next && self.was_connected == is_connected {
            return None;
        }
        (self.next, self.was_connected) = (now + STATUS_INTERVAL, is_connected);
        let (messages, bytes) =
            (figures.messages.load(Ordering::Relaxed), figures.bytes.load(Ordering::Relaxed));
        let line = self.line(is_connected, messages, bytes);
        if line == self.shown {
            return None;
        }
        self.shown.clone_from(&line);
        Some(line)
    }

    fn line(&self, is_connected: bool, messages: u64, bytes: u64) -> String {
        let connection = if is_connected { "connected to" } else { "waiting for" };
        let waiting = self.received.saturating_sub(self.passed_over + messages);
        let mut line = format!(
            "{connection} {} · {} ({bytes} bytes) recorded, {waiting} waiting",
            self.server,
            counted(usize::try_from(messages).unwrap_or(usize::MAX), "message")
        );
        if self.is_failing {
            line.push_str(" · cannot write");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_line_is_renewed_when_something_has_changed() {
        let mut status = Status::new("tcp://localhost:1883".to_owned());
        let figures = Figures::default();
        let first = status.renewed(false, &figures).unwrap();
        assert_eq!(
            first,
            "waiting for tcp://localhost:1883 · 0 messages (0 bytes) recorded, 0 waiting"
        );
        assert!(status.renewed(true, &figures).is_some(), "the connection is shown at once");
        (status.received, status.passed_over) = (10, 2);
        figures.messages.store(5, Ordering::Relaxed);
        figures.bytes.store(100, Ordering::Relaxed);
        assert_eq!(status.renewed(true, &figures), None);
        tokio::time::advance(STATUS_INTERVAL).await;
        assert_eq!(
            status.renewed(true, &figures).unwrap(),
            "connected to tcp://localhost:1883 · 5 messages (100 bytes) recorded, 3 waiting"
        );
        status.is_failing = true;
        tokio::time::advance(STATUS_INTERVAL).await;
        assert!(status.renewed(true, &figures).unwrap().ends_with(" · cannot write"));
        tokio::time::advance(STATUS_INTERVAL).await;
        assert_eq!(status.renewed(true, &figures), None);
    }
}
