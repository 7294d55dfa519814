//! A device that comes and goes, or an agent whose process ends again and again.
//!
//! All times are watched time, so that an outage of the broker does not count as stability; only
//! the time of the next check is on the monotonic clock. Alarms and the spell are stored, so that a
//! restart of the monitor neither ends nor repeats anything.

use crate::model::snapshot::{FlapsRecord, SpellRecord};
use std::collections::VecDeque;
use std::time::Duration;

/// This many alarms, or unexpected ends of a process, within [`WINDOW`] are flapping.
const MANY: usize = 5;
const WINDOW: Duration = Duration::from_secs(30 * 60);

/// After this long without a change it is stable again.
pub const STABLE: Duration = Duration::from_secs(15 * 60);

/// The record of one that was alarmed recently.
#[derive(Debug, Clone, Default)]
pub struct Flaps {
    /// The latest alarms, [`MANY`] at most.
    alarms: VecDeque<Duration>,
    spell: Option<Spell>,
}

/// The spell, from its one alert on.
#[derive(Debug, Clone)]
struct Spell {
    begun: Duration,
    count: usize,
    last_change: Duration,
    /// The monotonic time at which to check whether it is over.
    look_at: Duration,
}

/// The meaning of an alarm in relation to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flap {
    Single,
    /// This alarm makes it flapping.
    Begins,
    GoesOn,
}

/// The result of a check of a spell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// Another check will follow, or there is no spell.
    NotDue,
    /// It is stable unless it changes within this time.
    In(Duration),
    Stable,
}

impl Flaps {
    /// Notes an alarm.
    pub fn note(&mut self, watched: Duration) -> Flap {
        if let Some(spell) = &mut self.spell {
            spell.count += 1;
            spell.last_change = watched;
            return Flap::GoesOn;
        }
        self.alarms.push_back(watched);
        while self.alarms.front().is_some_and(|first| *first + WINDOW < watched) {
            self.alarms.pop_front();
        }
        if self.alarms.len() < MANY {
            return Flap::Single;
        }
        let begun = self.alarms.pop_front().unwrap_or(watched);
        self.alarms.clear();
        let (last_change, look_at) = (watched, Duration::ZERO);
        self.spell = Some(Spell { begun, count: MANY, last_change, look_at });
        Flap::Begins
    }

    /// Notes a change within a spell, in either direction.
    pub fn changed(&mut self, watched: Duration) {
        if let Some(spell) = &mut self.spell {
            spell.last_change = watched;
        }
    }

    #[must_use]
    pub fn is_flapping(&self) -> bool {
        self.spell.is_some()
    }

    /// Sets the monotonic time of the next check; returns whether there is anything to check.
    pub fn look_at(&mut self, due: Duration) -> bool {
        if let Some(spell) = &mut self.spell {
            spell.look_at = due;
        }
        self.spell.is_some()
    }

    /// The monotonic time of the next check.
    #[must_use]
    pub fn next_look(&self) -> Option<Duration> {
        self.spell.as_ref().map(|spell| spell.look_at)
    }

    /// The result of the check that was set for the monotonic time `due`.
    #[must_use]
    pub fn judge(&self, due: Duration, watched: Duration) -> Stability {
        let Some(spell) = self.spell.as_ref().filter(|spell| spell.look_at == due) else {
            return Stability::NotDue;
        };
        let stable_at = spell.last_change + STABLE;
        if stable_at > watched { Stability::In(stable_at - watched) } else { Stability::Stable }
    }

    /// The number of alarms, and the time in which they occurred.
    #[must_use]
    pub fn account(&self, watched: Duration) -> (usize, Duration) {
        self.spell
            .as_ref()
            .map_or((MANY, WINDOW), |spell| (spell.count, watched.saturating_sub(spell.begun)))
    }

    /// Less time was watched than assumed: nothing happened later than now.
    pub fn step_back(&mut self, watched: Duration) {
        self.alarms.iter_mut().for_each(|alarm| *alarm = (*alarm).min(watched));
        if let Some(spell) = &mut self.spell {
            spell.begun = spell.begun.min(watched);
            spell.last_change = spell.last_change.min(watched);
        }
    }

    /// The part that the store keeps; `None` where there is nothing to keep. `holds_alert` says that the
    /// present alarm is one of the spell.
    #[must_use]
    pub fn record(&self, holds_alert: bool) -> Option<Box<FlapsRecord>> {
        let spell = self.spell.as_ref().map(|spell| SpellRecord {
            begun: spell.begun,
            count: spell.count,
            last_change: spell.last_change,
            holds_alert,
        });
        let alarms: Vec<Duration> = self.alarms.iter().copied().collect();
        let is_empty = spell.is_none() && alarms.is_empty();
        (!is_empty).then(|| Box::new(FlapsRecord { alarms, spell }))
    }

    /// Continues from an earlier run, which ended at this watched time: nothing of it is later. What
    /// this run has noted comes after it.
    pub fn resume(&mut self, record: &FlapsRecord, ended: Duration) {
        let own = std::mem::take(self);
        let earlier = record.alarms.iter().map(|alarm| (*alarm).min(ended));
        self.alarms = earlier.chain(own.alarms).collect();
        // The next alarm decides.
        while self.alarms.len() >= MANY {
            self.alarms.pop_front();
        }
        let earlier = record.spell.as_ref().map(|spell| Spell {
            begun: spell.begun.min(ended),
            count: spell.count,
            last_change: spell.last_change.min(ended),
            look_at: Duration::ZERO,
        });
        self.spell = match (earlier, own.spell) {
            (Some(earlier), Some(own)) => {
                Some(Spell { begun: earlier.begun, count: earlier.count + own.count, ..own })
            }
            (Some(mut earlier), None) => {
                earlier.count += self.alarms.len();
                let last = self.alarms.drain(..).next_back();
                earlier.last_change = last.unwrap_or(earlier.last_change);
                Some(earlier)
            }
            (None, own) => own,
        };
    }

    /// The time for which it has to stay as it is to be stable; `None` when it does not flap.
    #[must_use]
    pub fn stable_in(&self, watched: Duration) -> Option<Duration> {
        self.spell.as_ref().map(|spell| (spell.last_change + STABLE).saturating_sub(watched))
    }

    /// Moves its times when the watched time of earlier runs becomes known.
    pub fn carry_over(&mut self, earlier: Duration) {
        self.alarms.iter_mut().for_each(|alarm| *alarm += earlier);
        if let Some(spell) = &mut self.spell {
            spell.begun += earlier;
            spell.last_change += earlier;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: fn(u64) -> Duration = |minutes| Duration::from_secs(60 * minutes);

    #[test]
    fn the_fifth_alarm_within_half_an_hour_begins_a_spell() {
        let mut flaps = Flaps::default();
        for minute in [0, 7, 14, 21] {
            assert_eq!(flaps.note(MIN(minute)), Flap::Single);
        }
        assert_eq!((flaps.note(MIN(30)), flaps.note(MIN(31))), (Flap::Begins, Flap::GoesOn));
        assert_eq!(flaps.account(MIN(31)), (6, MIN(31)));
    }

    #[test]
    fn alarms_of_more_than_half_an_hour_ago_do_not_count() {
        let mut flaps = Flaps::default();
        for minute in [0, 8, 16, 24, 32, 40] {
            assert_eq!(flaps.note(MIN(minute)), Flap::Single);
        }
    }

    #[test]
    fn a_quarter_of_an_hour_without_a_change_is_stable_at_the_look_that_was_set() {
        let mut flaps = Flaps::default();
        for minute in 0..5 {
            flaps.note(MIN(minute));
        }
        assert!(flaps.look_at(MIN(100)));
        flaps.changed(MIN(6));
        assert_eq!(flaps.judge(MIN(99), MIN(30)), Stability::NotDue);
        assert_eq!(flaps.judge(MIN(100), MIN(20)), Stability::In(MIN(1)));
        assert_eq!(flaps.judge(MIN(100), MIN(21)), Stability::Stable);
        flaps.carry_over(MIN(60));
        assert_eq!(flaps.judge(MIN(100), MIN(81)), Stability::Stable);
    }

    #[test]
    fn a_spell_that_began_in_time_that_was_not_watched_is_as_young_as_can_be() {
        let mut flaps = Flaps::default();
        for second in 0..5 {
            flaps.note(MIN(40) + Duration::from_secs(second));
        }
        flaps.look_at(MIN(100));
        assert_eq!(flaps.account(MIN(20)), (5, Duration::ZERO));
        flaps.step_back(MIN(20));
        assert_eq!(flaps.judge(MIN(100), MIN(34)), Stability::In(MIN(1)));
        assert_eq!(flaps.judge(MIN(100), MIN(35)), Stability::Stable);
        assert_eq!(flaps.account(MIN(35)), (5, MIN(15)));
    }

    #[test]
    fn what_an_earlier_run_has_counted_counts_on() {
        let mut before = Flaps::default();
        for minute in [0, 7, 14] {
            before.note(MIN(minute));
        }
        let record = before.record(false).unwrap();
        let mut after = Flaps::default();
        after.note(MIN(20));
        after.resume(&record, MIN(15));
        assert_eq!(after.note(MIN(21)), Flap::Begins, "it is the fifth");
        assert_eq!(after.account(MIN(21)), (5, MIN(21)));
    }

    #[test]
    fn a_spell_goes_on_until_it_is_stable() {
        let mut before = Flaps::default();
        assert_eq!(before.record(false), None);
        for minute in 0..6 {
            before.note(MIN(minute));
        }
        let record = before.record(true).unwrap();
        assert!(record.spell.as_ref().unwrap().holds_alert);
        let mut after = Flaps::default();
        after.resume(&record, MIN(6));
        assert_eq!(after.stable_in(MIN(10)), Some(MIN(10)));
        assert!(after.look_at(MIN(50)));
        assert_eq!(after.judge(MIN(50), MIN(19)), Stability::In(MIN(1)));
        assert_eq!(after.note(MIN(19)), Flap::GoesOn);
        assert_eq!(after.account(MIN(20)), (7, MIN(20)));
        assert_eq!(after.judge(MIN(50), MIN(34)), Stability::Stable);
    }

    #[test]
    fn nothing_is_later_than_the_end_of_the_run_in_which_it_was() {
        let mut before = Flaps::default();
        for minute in 0..5 {
            before.note(MIN(minute));
        }
        let mut after = Flaps::default();
        after.resume(&before.record(false).unwrap(), MIN(3));
        assert_eq!(after.stable_in(MIN(3)), Some(STABLE));
    }

    #[test]
    fn alarms_before_the_records_were_read_belong_to_the_spell() {
        let mut before = Flaps::default();
        for minute in 0..5 {
            before.note(MIN(minute));
        }
        let record = before.record(false).unwrap();
        let mut after = Flaps::default();
        after.note(MIN(8));
        after.note(MIN(9));
        after.resume(&record, MIN(5));
        assert_eq!(after.account(MIN(9)), (7, MIN(9)));
        assert_eq!(after.stable_in(MIN(9)), Some(STABLE));
    }
}
