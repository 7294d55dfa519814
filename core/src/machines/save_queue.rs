//! The records that wait to be saved, and the time at which a batch of them goes to the store.
//!
//! Changes accumulate until something is worth a round, and a round goes out in batches, one at a
//! time. Later changes belong to the next round, so that a fleet that never pauses does not keep
//! the store writing.

use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use std::time::Duration;

/// The number of devices in one batch, because the store holds a batch in memory until it is on
/// disk.
pub const LARGEST_BATCH: usize = 1_000;

/// The records that wait to be saved.
#[derive(Debug, Default)]
pub struct SaveQueue {
    /// Devices whose record has changed; a flag ensures that each occurs once.
    changed: Vec<DeviceId>,
    /// Devices that are being saved, batch after batch.
    round: Vec<DeviceId>,
    /// Names whose records must be deleted.
    gone: Vec<DeviceName>,
    /// Names whose records only say that they are forgotten.
    forgotten: Vec<DeviceName>,
    /// A change that should not wait for the next interval.
    is_urgent: bool,
    is_outstanding: bool,
    /// The store has been read, so saving cannot overwrite unknown records.
    is_known: bool,
    /// The watched time at the last batch.
    saved_watched: Duration,
}

/// The next write to the store.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    pub changed: Vec<DeviceId>,
    pub gone: Vec<DeviceName>,
    pub forgotten: Vec<DeviceName>,
}

impl SaveQueue {
    /// The store has been read; returns whether that is news.
    pub fn store_read(&mut self) -> bool {
        !std::mem::replace(&mut self.is_known, true)
    }

    #[must_use]
    pub fn is_store_read(&self) -> bool {
        self.is_known
    }

    /// Notes a change of a device's record. The flag is the device's own: it is set while the device
    /// waits here.
    pub fn changed(&mut self, id: DeviceId, waits: &mut bool) {
        if !std::mem::replace(waits, true) {
            self.changed.push(id);
        }
    }

    /// Whether the change should not wait for the next interval.
    pub fn hurry_if(&mut self, urgent: bool) {
        self.is_urgent |= urgent;
    }

    /// The record of a removed device must be deleted.
    pub fn left(&mut self, name: DeviceName) {
        self.gone.push(name);
    }

    /// A name is remembered that is no device's.
    pub fn forgot_name(&mut self, name: DeviceName) {
        self.gone.retain(|gone| *gone != name);
        self.forgotten.push(name);
    }

    /// A device that was taken out is not saved any more.
    pub fn drop_device(&mut self, id: DeviceId) {
        self.changed.retain(|changed| *changed != id);
        self.round.retain(|changed| *changed != id);
    }

    /// There is a device of this name again.
    pub fn is_back(&mut self, name: &DeviceName) {
        self.gone.retain(|gone| gone != name);
        self.forgotten.retain(|forgotten| forgotten != name);
    }

    /// Keeps the records of devices that have returned.
    pub fn keep(&mut self, is_back: impl Fn(&DeviceName) -> bool) {
        self.gone.retain(|name| !is_back(name));
        self.forgotten.retain(|name| !is_back(name));
    }

    /// Called at intervals: starts a round if anything has moved.
    pub fn interval_passed(&mut self, watched: Duration) {
        self.is_urgent |= watched != self.saved_watched || !self.changed.is_empty();
    }

    /// Less time was watched than assumed; returns whether more than that was saved, which must not
    /// remain after a crash.
    pub fn watched_less(&mut self, watched: Duration) -> bool {
        let too_much = watched < self.saved_watched;
        self.is_urgent |= too_much;
        too_much
    }

    /// The outstanding batch is on disk.
    pub fn saved(&mut self) {
        self.is_outstanding = false;
    }

    /// The next batch, if one is to go out now. `begin` is called when a round begins, with the devices
    /// that no longer wait here, and returns them in the order in which they are to be saved.
    pub fn next_batch(
        &mut self,
        watched: Duration,
        begin: impl FnOnce(Vec<DeviceId>) -> Vec<DeviceId>,
    ) -> Option<Batch> {
        if self.is_outstanding || !self.is_known {
            return None;
        }
        if self.round.is_empty() {
            if !self.is_urgent {
                return None;
            }
            self.begin_round(begin);
        }
        Some(self.take(watched, LARGEST_BATCH))
    }

    /// Everything in one batch, at the end, when no further one can follow.
    pub fn last_batch(
        &mut self,
        watched: Duration,
        begin: impl FnOnce(Vec<DeviceId>) -> Vec<DeviceId>,
    ) -> Option<Batch> {
        self.is_known.then(|| {
            self.begin_round(begin);
            self.take(watched, usize::MAX)
        })
    }

    /// Applies a new configuration, in which the devices have other indices.
    pub fn forget_devices(&mut self) {
        self.changed.clear();
        self.round.clear();
    }

    fn begin_round(&mut self, begin: impl FnOnce(Vec<DeviceId>) -> Vec<DeviceId>) {
        self.is_urgent = false;
        self.round.append(&mut begin(std::mem::take(&mut self.changed)));
    }

    fn take(&mut self, watched: Duration, most: usize) -> Batch {
        self.saved_watched = watched;
        self.is_outstanding = true;
        let count = most.min(self.round.len());
        Batch {
            changed: self.round.drain(..count).collect(),
            gone: std::mem::take(&mut self.gone),
            forgotten: std::mem::take(&mut self.forgotten),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn ids(range: std::ops::Range<usize>) -> Vec<DeviceId> {
        range.map(DeviceId::at).collect()
    }

    #[test]
    fn nothing_is_saved_before_the_store_has_been_read() {
        let mut queue = SaveQueue::default();
        queue.hurry_if(true);
        assert_eq!(queue.next_batch(T(1), |changed| changed), None);
        assert!(queue.store_read() && !queue.store_read());
        assert_eq!(
            queue.next_batch(T(1), |changed| changed),
            Some(Batch { changed: vec![], gone: vec![], forgotten: vec![] }),
            "the watched time alone is worth a batch"
        );
    }

    #[test]
    fn a_device_waits_once_and_may_wait_again_when_its_round_has_begun() {
        let (mut queue, mut waits) = (SaveQueue::default(), false);
        queue.store_read();
        queue.changed(DeviceId::at(3), &mut waits);
        queue.changed(DeviceId::at(3), &mut waits);
        assert_eq!(queue.next_batch(T(1), |changed| changed), None, "it is not urgent");
        queue.hurry_if(true);
        let begin = |changed| {
            waits = false;
            changed
        };
        let batch = queue.next_batch(T(1), begin).unwrap();
        assert_eq!((batch.changed, waits), (ids(3..4), false));
    }

    #[test]
    fn a_round_goes_out_in_batches_one_at_a_time() {
        let mut queue = SaveQueue::default();
        queue.store_read();
        ids(0..1_500).into_iter().for_each(|id| queue.changed(id, &mut false));
        queue.interval_passed(T(0));
        assert_eq!(queue.next_batch(T(1), |changed| changed).unwrap().changed.len(), 1_000);
        assert_eq!(queue.next_batch(T(1), |changed| changed), None, "one is outstanding");
        queue.saved();
        assert_eq!(queue.next_batch(T(1), |changed| changed).unwrap().changed, ids(1_000..1_500));
        queue.saved();
        assert_eq!(queue.next_batch(T(1), |changed| changed), None);
    }

    #[test]
    fn a_watched_time_that_was_too_long_is_saved_anew() {
        let mut queue = SaveQueue::default();
        queue.store_read();
        queue.interval_passed(T(60));
        queue.next_batch(T(60), |changed| changed).unwrap();
        queue.saved();
        assert!(!queue.watched_less(T(60)) && queue.watched_less(T(50)));
        assert!(queue.next_batch(T(50), |changed| changed).is_some());
    }
}
