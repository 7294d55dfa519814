//! How long one device has been silent, and when that becomes too long.
//!
//! Silence is measured in watched time (see [`super::clock`]), so an outage of the broker never
//! counts as silence. An entry in the table of deadlines stays where it is when the device speaks:
//! when its time comes, the device is checked, and gets a later entry.

pub mod rhythm;

use crate::model::snapshot::DeviceRecord;
use crate::model::time::{ClockStep, Nanos};
use crate::model::view::Learned;
use rhythm::{Rhythm, TIMES, UNLEARNED};
use std::num::NonZeroU64;
use std::time::Duration;

/// After an outage a living device has this long, or its own timeout if that is shorter.
pub const GRACE: Duration = Duration::from_secs(60);

/// The number of consecutive graces for a device that stays silent.
const MAX_GRACES: u8 = 3;

/// Messages of a device are lost while the device through which it is heard is down. After the
/// return of that one its timeout starts again; of a longer timeout it gets this much, or the rest
/// that it had before.
const LONGEST_RETURN: Duration = Duration::from_secs(3600);

/// A silence that raised an alarm counts as at most this many timeouts: a device that was broken
/// for a week must not be waited for from then on, and one that was only slow is waited for longer.
const ALARMED: u32 = 2;

/// The configuration of a device's silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The longest allowed silence; `None` never ends.
    pub timeout: Option<Duration>,
    /// The timeout is derived from the learned silences, and the one above is the first.
    pub auto: bool,
    /// Whether silence can be heard at all: there are watchTopics.
    pub is_watched: bool,
}

/// The silence of one device. Where no other clock is named, times are watched time.
///
/// The fields are laid out in this order, and those that each contact needs come first.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct Silence {
    /// Wall clock of the last contact.
    last_contact: Option<Nanos>,
    since: Nanos,
    /// In milliseconds, which take half the room of a [`Duration`].
    timeout: Option<NonZeroU64>,
    /// The stretch of watched time in which the last grace was granted.
    grace_stretch: u32,
    /// Granted since the last contact.
    graces: u8,
    auto: bool,
    is_watched: bool,
    /// The broker refused one of its watch filters, so its silence means nothing.
    is_deaf: bool,
    /// The table of deadlines has an entry for it, or it is about to be checked.
    is_pending: bool,
    /// The alerts of other devices wait for its next message.
    is_awaited: bool,
    rhythm: Rhythm,
}

/// The kind of silence that a contact ends, which decides what is learned from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The device is disabled: nothing is learned.
    Disabled,
    Quiet,
    Alarmed,
}

/// A contact, in terms of the silence that it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedSilence {
    /// There was no earlier contact.
    pub is_first: bool,
    /// The length of the silence.
    pub silence: Duration,
    /// The alerts of other devices have waited for it.
    pub is_awaited: bool,
}

/// Whether an excessive silence is forgiven for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grace {
    /// No outage is recent enough, or too many graces have passed.
    None,
    /// Until this time.
    Until { end: Duration, is_new: bool },
}

impl Silence {
    /// An unknown device, silent from now on.
    #[must_use]
    pub fn new(terms: Terms, watched: Duration) -> Self {
        Self {
            last_contact: None,
            since: watched.into(),
            timeout: terms.timeout.map(to_millis),
            rhythm: Rhythm::default(),
            grace_stretch: 0,
            graces: 0,
            auto: terms.auto,
            is_watched: terms.is_watched,
            is_deaf: false,
            is_pending: false,
            is_awaited: false,
        }
    }

    /// A contact ends the silence, and a new one begins.
    pub fn end(&mut self, wall: Duration, watched: Duration, standing: Standing) -> EndedSilence {
        let ended = EndedSilence {
            is_first: self.last_contact.is_none(),
            silence: watched.saturating_sub(self.since()),
            is_awaited: self.is_awaited,
        };
        if ended.silence.as_secs() > 0 && !ended.is_first && !self.is_deaf {
            self.learn(ended.silence, watched, standing);
        }
        self.last_contact = Some(wall.into());
        self.since = watched.into();
        self.graces = 0;
        ended
    }

    fn learn(&mut self, silence: Duration, watched: Duration, standing: Standing) {
        let was_known = self.rhythm.timeout(watched.saturating_sub(silence)).is_some();
        let most = match (standing, self.timeout()) {
            (Standing::Disabled, _) => return,
            (Standing::Alarmed, Some(timeout)) if was_known => timeout.saturating_mul(ALARMED),
            // A night that raised an alarm counts as a night, and there is only one such alarm.
            (Standing::Alarmed, Some(timeout)) => timeout.saturating_mul(ALARMED).max(UNLEARNED),
            (Standing::Alarmed, None) | (Standing::Quiet, _) => Duration::MAX,
        };
        self.rhythm.note(silence.min(most), watched);
    }

    /// The alerts of other devices wait for the next message.
    pub fn await_word(&mut self) {
        self.is_awaited = true;
    }

    /// Nothing waits for it any more.
    pub fn await_no_word(&mut self) {
        self.is_awaited = false;
    }

    /// The wall clock has stepped; returns whether the time of the last contact has changed.
    pub fn follow_clock(&mut self, step: ClockStep) -> bool {
        let followed = self.last_contact.map(|contact| step.follow(contact.get()).into());
        std::mem::replace(&mut self.last_contact, followed) != followed
    }

    /// Another node has heard the device at this wall clock, and this one never has.
    pub fn learn_of(&mut self, contact: Duration) {
        self.last_contact.get_or_insert(contact.into());
    }

    /// Starts again without a contact.
    pub fn begin_anew(&mut self, watched: Duration) {
        self.since = watched.into();
    }

    /// Less time was watched than assumed: a record that was read late counts as recent as
    /// possible.
    pub fn begin_no_later(&mut self, watched: Duration) {
        self.since = self.since.min(watched.into());
    }

    /// Excludes the time from `from` on in which the device could not be heard because another one
    /// was down.
    pub fn leave_out(&mut self, from: Duration, watched: Duration) {
        let since = self.since();
        let since = since + watched.saturating_sub(from.max(since));
        self.since = since.into();
        let Some(timeout) = self.timeout() else { return };
        let least = watched + timeout.min(LONGEST_RETURN);
        if since + timeout < least && self.graces < MAX_GRACES {
            self.graces += 1;
            self.since = least.saturating_sub(timeout).into();
        }
    }

    /// Grants the rest of a grace after watching was resumed, once a stretch of watched time.
    pub fn grant(&mut self, resumed_at: Duration, stretch: u32, watched: Duration) -> Grace {
        let end = resumed_at + self.grace();
        if watched >= end {
            return Grace::None;
        }
        let is_new = self.grace_stretch != stretch;
        if is_new {
            if self.graces >= MAX_GRACES {
                return Grace::None;
            }
            self.graces += 1;
            self.grace_stretch = stretch;
        }
        Grace::Until { end, is_new }
    }

    /// Sets whether it can be heard; returns whether that changed. A device that can be heard again
    /// was not silent before.
    pub fn set_deaf(&mut self, is_deaf: bool, watched: Duration) -> bool {
        if self.is_deaf && !is_deaf {
            self.since = watched.into();
        }
        std::mem::replace(&mut self.is_deaf, is_deaf) != is_deaf
    }

    /// Applies the learned timeout, where the file requests it; returns whether it has changed. A
    /// shorter one waits until the device speaks in time for it: better knowledge never expires a
    /// device.
    pub fn adopt_timeout(&mut self, watched: Duration) -> bool {
        if !self.auto {
            return false;
        }
        let learned = self.rhythm.timeout(watched);
        let learned = learned.or_else(|| self.rhythm.early_timeout(watched)).unwrap_or(UNLEARNED);
        let is_late = watched.saturating_sub(self.since()) > learned / TIMES;
        if self.timeout().is_some_and(|before| learned < before) && is_late {
            return false;
        }
        let learned = to_millis(learned);
        self.timeout.replace(learned) != Some(learned)
    }

    /// The time at which the table of deadlines must check the device, unless it will anyway or
    /// never has to.
    pub fn enter(&mut self) -> Option<Duration> {
        let due = self.deadline().filter(|_| !self.is_pending)?;
        self.is_pending = true;
        Some(due)
    }

    /// Another part of the monitor ensures that the device is checked.
    pub fn hold(&mut self) {
        self.is_pending = true;
    }

    /// Nothing will check the device any more.
    pub fn leave_table(&mut self) {
        self.is_pending = false;
    }

    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// The time at which the silence becomes too long; `None` without watchTopics or a timeout, and
    /// where the broker refused a filter.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        if !self.is_watched || self.is_deaf {
            return None;
        }
        Some(self.since() + self.timeout()?)
    }

    /// Whether the configuration gives it a deadline.
    #[must_use]
    pub fn has_timeout(&self) -> bool {
        self.is_watched && self.timeout.is_some()
    }

    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout.map(|millis| Duration::from_millis(millis.get()))
    }

    #[must_use]
    pub fn is_auto(&self) -> bool {
        self.auto
    }

    #[must_use]
    pub fn since(&self) -> Duration {
        self.since.get()
    }

    /// Whether a contact came at that time or later.
    #[must_use]
    pub fn has_spoken_since(&self, watched: Duration) -> bool {
        self.since >= watched.into() && self.last_contact.is_some()
    }

    /// The wall clock at the last contact.
    #[must_use]
    pub fn last_contact(&self) -> Option<Duration> {
        self.last_contact.map(Nanos::get)
    }

    /// The least time of the device after it could not be heard.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.timeout().map_or(GRACE, |timeout| timeout.min(GRACE))
    }

    #[must_use]
    pub fn learned(&self, watched: Duration) -> Option<Learned> {
        self.rhythm.learned(watched)
    }

    /// Continues with the learned silences of an earlier run.
    pub fn know(&mut self, record: &DeviceRecord) {
        self.rhythm = Rhythm::restored(record.rhythm);
    }

    /// Continues the silence of an earlier run, which ended at this watched time: a record cannot
    /// be more recent.
    pub fn resume(&mut self, record: &DeviceRecord, watched: Duration) {
        self.last_contact = record.last_contact.map(Nanos::from);
        self.since = record.silent_since.min(watched).into();
        self.graces = record.graces;
    }

    /// Continues from the device of the same name in the previous configuration, in which it was
    /// enabled or not.
    pub fn inherit(&mut self, before: &Self, was_enabled: bool) {
        if before.is_watched && was_enabled {
            self.since = before.since;
        }
        self.last_contact = before.last_contact;
        self.rhythm = before.rhythm;
        self.graces = before.graces;
        self.grace_stretch = before.grace_stretch;
        self.is_deaf = before.is_deaf;
    }

    /// Moves its times when the watched time of earlier runs becomes known.
    pub fn carry_over(&mut self, earlier: Duration) {
        self.since = (self.since() + earlier).into();
        // It was learned on another time base, and in seconds.
        self.rhythm = Rhythm::default();
    }

    /// Writes the part that the store keeps.
    #[must_use]
    pub fn record(&self, record: DeviceRecord) -> DeviceRecord {
        DeviceRecord {
            last_contact: self.last_contact(),
            // The monitor has not listened so far, so the silence of a device that gets watchTopics
            // before the next start begins at that start: a record counts as no more recent than
            // its run.
            silent_since: if self.is_watched { self.since() } else { Duration::MAX },
            graces: self.graces,
            rhythm: self.rhythm.record(),
            ..record
        }
    }
}

/// A timeout below a millisecond counts as a millisecond.
fn to_millis(timeout: Duration) -> NonZeroU64 {
    let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    NonZeroU64::new(millis).unwrap_or(NonZeroU64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device_name::DeviceName;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn of(seconds: u64) -> Silence {
        let terms = Terms { timeout: Some(T(seconds)), auto: false, is_watched: true };
        Silence::new(terms, T(100))
    }

    fn until(end: u64, is_new: bool) -> Grace {
        Grace::Until { end: T(end), is_new }
    }

    #[test]
    fn a_contact_moves_the_deadline_and_leaves_the_entry_in_the_table() {
        let mut silence = of(30);
        assert_eq!((silence.enter(), silence.enter()), (Some(T(130)), None));
        let ended = silence.end(T(1_000), T(120), Standing::Quiet);
        assert_eq!(ended, EndedSilence { is_first: true, silence: T(20), is_awaited: false });
        assert!(silence.is_pending() && silence.has_spoken_since(T(120)));
        assert_eq!((silence.deadline(), silence.last_contact()), (Some(T(150)), Some(T(1_000))));
        silence.leave_table();
        assert_eq!(silence.enter(), Some(T(150)));
    }

    #[test]
    fn without_watch_topics_or_a_timeout_or_a_granted_filter_there_is_no_deadline() {
        for (timeout, is_watched) in [(None, true), (Some(T(30)), false)] {
            let mut silence = Silence::new(Terms { timeout, auto: false, is_watched }, T(0));
            assert!(silence.enter().is_none() && !silence.is_pending() && !silence.has_timeout());
        }
        let mut silence = of(30);
        assert!(silence.set_deaf(true, T(110)) && !silence.set_deaf(true, T(111)));
        assert_eq!(silence.deadline(), None);
        assert!(silence.set_deaf(false, T(500)));
        assert_eq!(silence.deadline(), Some(T(530)), "it could not be heard before");
    }

    #[test]
    fn three_graces_in_a_row_are_granted_and_one_a_stretch() {
        let mut silence = of(300);
        assert_eq!(silence.grant(T(500), 1, T(560)), Grace::None, "the outage is too long ago");
        assert_eq!(silence.grant(T(500), 1, T(501)), until(560, true));
        assert_eq!(silence.grant(T(500), 1, T(502)), until(560, false));
        assert_eq!(silence.grant(T(600), 2, T(601)), until(660, true));
        assert_eq!(silence.grant(T(700), 3, T(701)), until(760, true));
        assert_eq!(silence.grant(T(800), 4, T(801)), Grace::None);
        silence.end(T(0), T(802), Standing::Quiet);
        assert_eq!(silence.grant(T(900), 5, T(901)), until(960, true));
    }

    #[test]
    fn what_could_not_be_heard_is_left_out_and_an_hour_is_given_at_most() {
        let mut silence = of(7_200);
        silence.leave_out(T(200), T(1_200));
        assert_eq!(silence.deadline(), Some(T(8_300)), "a hundred seconds of silence were its own");
        let mut silence = of(30);
        silence.leave_out(T(120), T(1_200));
        assert_eq!(silence.deadline(), Some(T(1_230)));
    }

    #[test]
    fn once_a_device_is_known_an_alarm_teaches_two_timeouts_at_most() {
        let longest = |standing, known: bool| {
            let mut silence = of(30);
            let contacts = if known { 10_001 } else { 1 };
            for number in 0..contacts {
                silence.end(T(0), T(10 * number), Standing::Quiet);
            }
            let back = T(10 * contacts + 1_000);
            silence.end(T(0), back, standing);
            silence.learned(back).map(|learned| learned.longest)
        };
        assert_eq!(longest(Standing::Quiet, true), Some(T(1_010)));
        assert_eq!(longest(Standing::Alarmed, true), Some(T(60)));
        assert_eq!(longest(Standing::Alarmed, false), Some(T(1_010)), "it may have been a night");
        assert_eq!(longest(Standing::Disabled, false), None, "nothing is learned meanwhile");
    }

    #[test]
    fn a_shorter_timeout_waits_until_the_device_speaks_in_time_for_it() {
        let terms = Terms { timeout: Some(UNLEARNED), auto: true, is_watched: true };
        let mut silence = Silence::new(terms, T(0));
        for number in 0..=1_000 {
            silence.end(T(0), T(100 * number), Standing::Quiet);
        }
        assert!(!silence.adopt_timeout(T(100_101)) && silence.adopt_timeout(T(100_100)));
        assert_eq!(silence.timeout(), Some(T(300)));
        assert!(!silence.adopt_timeout(T(100_100)), "it is the same");
    }

    #[test]
    fn another_run_is_gone_on_with_and_no_younger_than_it_was() {
        let mut before = of(30);
        before.end(T(1_000), T(120), Standing::Quiet);
        let record = before.record(DeviceRecord::new(DeviceName::new("lamp").unwrap()));
        assert_eq!((record.last_contact, record.silent_since), (Some(T(1_000)), T(120)));
        let mut silence = of(30);
        silence.resume(&record, T(110));
        assert_eq!((silence.since(), silence.last_contact()), (T(110), Some(T(1_000))));
        silence.carry_over(T(50));
        assert_eq!(silence.since(), T(160));
        silence.begin_no_later(T(150));
        assert_eq!(silence.since(), T(150));
    }
}
