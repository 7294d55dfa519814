//! Orders that hold for a time, with their ends on the boot clock.
//!
//! That clock starts with the machine, includes suspension, and cannot be set. So a step of the
//! wall clock ends no order, and a restart of the monitor moves none. The remaining time is kept
//! over a boot; the time for which the machine was off is unknown and does not count.

use std::collections::BTreeMap;
use std::time::Duration;

/// The subjects of such orders, each with its end and a value. There are only a few at a time.
#[derive(Debug, Clone)]
pub struct BootEnds<K, V> {
    ends: BTreeMap<K, (Duration, V)>,
}

impl<K, V> Default for BootEnds<K, V> {
    fn default() -> Self {
        Self { ends: BTreeMap::new() }
    }
}

/// Ends of one order on two machines differ by less.
const SAME_END: Duration = Duration::from_secs(5);

/// The remaining time of an order that had this much left at a time of the boot clock, perhaps of
/// an earlier boot: then the clock has started again, and its present count has passed at least.
#[must_use]
pub fn remaining(left: Duration, at: Duration, boot: Duration) -> Duration {
    left.saturating_sub(boot.checked_sub(at).unwrap_or(boot))
}

impl<K: Ord + Clone, V: Copy> BootEnds<K, V> {
    /// Adds one that ends this much later than `boot`. It replaces the end of an earlier one, but
    /// not the value.
    pub fn set(&mut self, subject: K, boot: Duration, span: Duration, value: V) {
        let end = boot.saturating_add(span);
        self.ends.entry(subject).and_modify(|earlier| earlier.0 = end).or_insert((end, value));
    }

    /// Removes one, and returns whether there was one.
    pub fn end(&mut self, subject: &K) -> bool {
        self.ends.remove(subject).is_some()
    }

    /// Drops those of subjects that no longer exist.
    pub fn retain(&mut self, is_known: impl Fn(&K) -> bool) {
        self.ends.retain(|subject, _| is_known(subject));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    #[must_use]
    pub fn contains(&self, subject: &K) -> bool {
        self.ends.contains_key(subject)
    }

    /// The remaining time of one, and its value.
    #[must_use]
    pub fn get(&self, subject: &K, boot: Duration) -> Option<(Duration, V)> {
        self.ends.get(subject).map(|(end, value)| (end.saturating_sub(boot), *value))
    }

    /// Whether there is one that ends in so long, but for what the clocks of two machines and whole
    /// seconds make of it.
    #[must_use]
    pub fn ends_at_about(&self, subject: &K, boot: Duration, left: Duration) -> bool {
        self.get(subject, boot).is_some_and(|(own, _)| own.abs_diff(left) <= SAME_END)
    }

    /// The time until the next one ends.
    #[must_use]
    pub fn next(&self, boot: Duration) -> Option<Duration> {
        self.ends.values().map(|(end, _)| end.saturating_sub(boot)).min()
    }

    /// Removes those that have ended.
    pub fn take_ended(&mut self, boot: Duration) -> Vec<(K, V)> {
        let mut ended = Vec::new();
        self.ends.retain(|subject, (end, value)| {
            let is_over = *end <= boot;
            if is_over {
                ended.push((subject.clone(), *value));
            }
            !is_over
        });
        ended
    }

    pub fn subjects(&self) -> impl Iterator<Item = &K> {
        self.ends.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_counted_on_after_a_restart_and_after_a_boot() {
        let secs = Duration::from_secs;
        let left = |boot| remaining(secs(500), secs(1_100), secs(boot));
        assert_eq!(left(1_150), secs(450), "the same boot");
        assert_eq!(left(30), secs(470), "another one, up for 30 s");
        assert_eq!(left(9_999), secs(0));
    }
}
