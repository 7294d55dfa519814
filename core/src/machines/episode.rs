//! The alarm of one device, from its beginning to its end, and the stage of its one alert.

use crate::model::alert::Reason;
use crate::model::time::ClockStep;
use std::time::Duration;

/// The stage of an alarm's alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertStage {
    /// It has been sent.
    Sent,
    /// It waits for the state of a device that this one depends on.
    Held,
    /// It is suppressed, because the silence is that of a device that this one depends on.
    Upstream,
    /// That device is back, and this one has a grace period to follow.
    Returning,
    /// One alert reported that the device flaps, and no other follows.
    Flapping,
}

/// Whether a device is alarmed, and the stage of the alarm.
#[derive(Debug, Clone, Default)]
pub struct Episode {
    /// Boxed, since few devices have one at a time.
    open: Option<Box<Open>>,
}

#[derive(Debug, Clone)]
struct Open {
    /// The wall clock at the beginning.
    since: Duration,
    cause: Reason,
    stage: AlertStage,
}

/// An alarm that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The wall clock at its beginning.
    pub since: Duration,
    pub stage: AlertStage,
}

impl Episode {
    /// Continues from an earlier run. An alert that had not been sent then waits for the state of
    /// the devices that this one depends on.
    #[must_use]
    pub fn resumed(since: Duration, cause: Reason, unsent: bool) -> Self {
        let stage = if unsent { AlertStage::Upstream } else { AlertStage::Sent };
        Self { open: Some(Box::new(Open { since, cause, stage })) }
    }

    /// Begins an alarm, unless there is one. Its alert counts as sent unless it is moved to another
    /// stage.
    pub fn begin(&mut self, wall: Duration, cause: Reason) {
        self.open
            .get_or_insert_with(|| Box::new(Open { since: wall, cause, stage: AlertStage::Sent }));
    }

    /// Moves its alert to another stage; without an alarm there is none.
    pub fn move_to(&mut self, stage: AlertStage) {
        if let Some(open) = &mut self.open {
            open.stage = stage;
        }
    }

    /// Notes another cause.
    pub fn put_down_to(&mut self, cause: Reason) {
        if let Some(open) = &mut self.open {
            open.cause = cause;
        }
    }

    /// The wall clock has stepped.
    pub fn follow_clock(&mut self, step: ClockStep) {
        if let Some(open) = &mut self.open {
            open.since = step.follow(open.since);
        }
    }

    /// Ends the alarm, if there is one.
    pub fn end(&mut self) -> Option<Ended> {
        self.open.take().map(|open| Ended { since: open.since, stage: open.stage })
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The wall clock at the beginning of the alarm, if there is one.
    #[must_use]
    pub fn since(&self) -> Option<Duration> {
        self.open.as_ref().map(|open| open.since)
    }

    #[must_use]
    pub fn stage(&self) -> Option<AlertStage> {
        self.open.as_ref().map(|open| open.stage)
    }

    #[must_use]
    pub fn cause(&self) -> Reason {
        self.open.as_ref().map_or_else(Reason::default, |open| open.cause)
    }

    /// Whether there is an alarm whose alert has not been sent.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.stage().is_some_and(|stage| stage != AlertStage::Sent)
    }

    /// Whether its alert waits for a time at which it may be due.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(self.stage(), Some(AlertStage::Held | AlertStage::Returning))
    }

    /// Whether its alert depends on the state of another device.
    #[must_use]
    pub fn hangs_on_another(&self) -> bool {
        matches!(
            self.stage(),
            Some(AlertStage::Held | AlertStage::Upstream | AlertStage::Returning)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn an_alarm_begins_once_and_ends_with_where_its_alert_was() {
        let mut episode = Episode::default();
        assert_eq!((episode.is_open(), episode.stage(), episode.end()), (false, None, None));
        episode.begin(T(5), Reason::Silent);
        episode.begin(T(6), Reason::AgentHung);
        assert_eq!((episode.since(), episode.cause()), (Some(T(5)), Reason::Silent));
        episode.move_to(AlertStage::Held);
        assert!(episode.is_unsent() && episode.waits() && episode.hangs_on_another());
        assert_eq!(episode.end(), Some(Ended { since: T(5), stage: AlertStage::Held }));
        assert!(!episode.is_open());
    }

    #[test]
    fn without_an_alarm_there_is_no_alert_to_move() {
        let mut episode = Episode::default();
        episode.move_to(AlertStage::Flapping);
        episode.put_down_to(Reason::AgentHung);
        assert_eq!((episode.stage(), episode.cause()), (None, Reason::Silent));
    }

    #[test]
    fn one_that_was_unsent_in_an_earlier_run_hangs_on_another_device() {
        assert_eq!(
            Episode::resumed(T(1), Reason::Silent, true).stage(),
            Some(AlertStage::Upstream)
        );
        assert_eq!(Episode::resumed(T(1), Reason::Silent, false).stage(), Some(AlertStage::Sent));
    }
}
