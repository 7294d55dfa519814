//! Divides a large batch into parts, each of which is a transaction.
//!
//! LMDB keeps the memory of the largest transaction until its file is closed, and a fleet has records for
//! each of its devices.

use iotmonitor_core::model::history::HistoryBatch;

/// The number of records in one part.
const LARGEST_PART: usize = 2_048;

/// A batch, or a part of one.
pub(super) struct BatchPart {
    pub batch: HistoryBatch,
    /// With it, the batch is written.
    pub is_last: bool,
}

/// Divides a batch. Only with the last part is it known until when the monitor has run.
pub(super) fn divide(batch: HistoryBatch) -> Vec<BatchPart> {
    // The clock's steps concern the records before them, and some of the same batch.
    if batch.records() <= LARGEST_PART || !batch.steps.is_empty() {
        return vec![BatchPart { batch, is_last: true }];
    }
    let HistoryBatch {
        mark,
        last_id,
        episodes,
        mut tallies,
        restarts,
        mut known,
        forgotten,
        steps: _,
    } = batch;
    // Neighbours in the file are in one part.
    known.sort_unstable();
    tallies.sort_by(|a, b| a.device.cmp(&b.device));
    let empty = || HistoryBatch { mark, last_id, ..HistoryBatch::default() };
    // A name may be forgotten and known again. An incident is counted where its device is known.
    let mut parts = vec![HistoryBatch { forgotten, ..empty() }];
    parts.extend(chunks(known).map(|known| HistoryBatch { known, ..empty() }));
    parts.extend(chunks(tallies).map(|tallies| HistoryBatch { tallies, ..empty() }));
    parts.extend(chunks(restarts).map(|restarts| HistoryBatch { restarts, ..empty() }));
    parts.extend(chunks(episodes).map(|episodes| HistoryBatch { episodes, ..empty() }));
    parts.retain(|part| part.records() > 0 || !part.forgotten.is_empty());
    let last = parts.len() - 1;
    let parts = parts.into_iter().enumerate();
    parts.map(|(at, batch)| BatchPart { batch, is_last: at == last }).collect()
}

fn chunks<T>(all: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut all = all.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<T> = all.by_ref().take(LARGEST_PART).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::device_name::DeviceName;
    use iotmonitor_core::model::history::{ContactTally, HourTally};
    use iotmonitor_core::model::time::ClockStep;
    use std::time::Duration;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn name(number: usize) -> DeviceName {
        DeviceName::new(format!("d{number}")).unwrap()
    }

    fn fleet(devices: usize) -> HistoryBatch {
        let tally = ContactTally { contacts: 1, longest_silence: 0 };
        let hour = |device| HourTally { device, hour: 5, tally, usage: None };
        HistoryBatch {
            mark: T(100),
            last_id: 7,
            tallies: (0..devices).map(|number| hour(name(number))).collect(),
            known: (0..devices).map(|number| (name(number), T(50))).collect(),
            forgotten: vec![name(3)],
            ..HistoryBatch::default()
        }
    }

    #[test]
    fn a_small_batch_stays_as_it_is() {
        let [part] = divide(fleet(1_024)).try_into().ok().unwrap();
        assert!(part.is_last);
        assert_eq!(part.batch, fleet(1_024));
    }

    #[test]
    fn a_large_one_is_written_in_parts_in_order_and_nothing_is_lost() {
        let parts = divide(fleet(5_000));
        assert_eq!(parts[0].batch.forgotten, [name(3)], "before it is known again");
        assert!(parts.iter().all(|part| part.batch.records() <= LARGEST_PART));
        assert!(parts.iter().all(|part| (part.batch.mark, part.batch.last_id) == (T(100), 7)));
        let lasts: Vec<bool> = parts.iter().map(|part| part.is_last).collect();
        assert!(lasts.ends_with(&[false, true]) && lasts.iter().filter(|last| **last).count() == 1);
        let (mut known, mut tallies) = (Vec::new(), Vec::new());
        for BatchPart { batch, .. } in parts {
            assert!(tallies.is_empty() || batch.known.is_empty());
            known.extend(batch.known);
            tallies.extend(batch.tallies);
        }
        let HistoryBatch { known: mut all_known, tallies: mut all, .. } = fleet(5_000);
        all_known.sort();
        all.sort_by(|a, b| a.device.cmp(&b.device));
        assert_eq!((known, tallies), (all_known, all));
    }

    #[test]
    fn one_with_a_step_of_the_clock_stays_whole() {
        let steps = vec![ClockStep { started: T(0), from: T(10), to: T(20) }];
        assert_eq!(divide(HistoryBatch { steps, ..fleet(5_000) }).len(), 1);
    }
}
