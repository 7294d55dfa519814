//! Which commands share a commit, and which commit waits for more of them.
//!
//! Each commit rewrites whole pages, so that a house whose states change one by one wears an SD card
//! out with a hundred times the bytes that it records. A commit may wait a moment where nothing but
//! deliveries is to be written: the broker holds those until they are acknowledged.

use super::StoreCommand;
use iotmonitor_core::model::state::StateChange;
use std::time::{Duration, Instant};

/// A group ends after this many commands or payload bytes, whichever comes first, so that a burst
/// is acknowledged in steps and a transaction stays small.
const GROUP_COMMANDS: usize = 4_096;
const GROUP_BYTES: usize = 4 << 20;

/// The longest wait of a commit.
const LINGER: Duration = Duration::from_secs(1);

/// The number of deliveries that do not wait any longer: a broker holds further ones back when many
/// are unacknowledged, often from twenty on.
const MOST_WAITING: usize = 10;

/// A delivery that arrives so soon after an acknowledgement is one of a stream, or was held back for
/// lack of it. It does not wait, so that a broker that sends one at a time is not slowed down.
const STREAM_GAP: Duration = Duration::from_millis(50);

/// The commands of one commit.
#[derive(Default)]
pub(super) struct CommitGroup {
    commands: Vec<StoreCommand>,
    bytes: usize,
    deliveries: usize,
    /// Something has to be written.
    is_needed: bool,
    /// Someone waits for the commit, or nobody else holds what is to be written.
    is_urgent: bool,
}

impl CommitGroup {
    pub fn add(&mut self, command: StoreCommand) {
        self.bytes += payload_bytes(&command);
        match &command {
            StoreCommand::Record { change, .. } | StoreCommand::RecordFormer { change, .. } => {
                self.deliveries += 1;
                self.is_needed |= *change != StateChange::Nothing;
            }
            StoreCommand::ReadStates { .. } => self.is_urgent = true,
            StoreCommand::WriteStates { .. }
            | StoreCommand::SaveDevices { .. }
            | StoreCommand::SaveSessionFilters(_)
            | StoreCommand::SaveIdentity(_) => {
                self.is_needed = true;
                self.is_urgent = true;
            }
        }
        self.commands.push(command);
    }

    pub fn is_full(&self) -> bool {
        self.commands.len() >= GROUP_COMMANDS || self.bytes >= GROUP_BYTES
    }

    /// Whether anything is to be written.
    pub fn needs_commit(&self) -> bool {
        self.is_needed
    }

    /// Whether the commit may wait for further deliveries.
    fn may_wait(&self) -> bool {
        self.is_needed && !self.is_urgent && self.deliveries < MOST_WAITING
    }

    pub fn commands(&self) -> &[StoreCommand] {
        &self.commands
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}

/// Determines how long commits wait.
#[derive(Default)]
pub(super) struct Lingering {
    /// The time of the last report that makes the broker send more.
    reported: Option<Instant>,
    until: Option<Instant>,
}

impl Lingering {
    /// The first command of a group has arrived.
    pub fn begin(&mut self, now: Instant) {
        let is_stream = self.reported.is_some_and(|reported| now < reported + STREAM_GAP);
        self.until = (!is_stream).then_some(now + LINGER);
    }

    /// Deliveries were reported as committed.
    pub fn reported(&mut self, now: Instant) {
        self.reported = Some(now);
    }

    /// How long this group waits for another command.
    pub fn patience(&self, group: &CommitGroup, now: Instant) -> Option<Duration> {
        let left = self.until?.checked_duration_since(now)?;
        group.may_wait().then_some(left)
    }
}

fn payload_bytes(command: &StoreCommand) -> usize {
    let of_change = |change: &StateChange| change.state().map_or(0, |state| state.payload.len());
    match command {
        StoreCommand::Record { change, .. } | StoreCommand::RecordFormer { change, .. } => {
            of_change(change)
        }
        StoreCommand::WriteStates { changes, .. } => changes.iter().map(of_change).sum(),
        StoreCommand::ReadStates { .. }
        | StoreCommand::SaveDevices { .. }
        | StoreCommand::SaveSessionFilters(_)
        | StoreCommand::SaveIdentity(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::message::{Delivery, QoS};
    use iotmonitor_core::model::state::{ReadId, StateRecord};
    use iotmonitor_core::topic::TopicName;

    fn record(number: u64) -> StoreCommand {
        let state = StateRecord {
            topic: TopicName::new(format!("lamp/{number}")).unwrap(),
            payload: "on".into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            time: Duration::ZERO,
        };
        StoreCommand::Record { delivery: Delivery(number), change: StateChange::Put(state) }
    }

    fn nothing() -> StoreCommand {
        StoreCommand::Record { delivery: Delivery(1), change: StateChange::Nothing }
    }

    fn group(commands: impl IntoIterator<Item = StoreCommand>) -> CommitGroup {
        let mut group = CommitGroup::default();
        commands.into_iter().for_each(|command| group.add(command));
        group
    }

    #[test]
    fn only_a_few_deliveries_wait_and_nothing_else() {
        let now = Instant::now();
        let mut lingering = Lingering::default();
        lingering.begin(now);
        let patience = |commands: Vec<StoreCommand>| lingering.patience(&group(commands), now);
        assert_eq!(patience(vec![record(1)]), Some(LINGER));
        assert_eq!(patience((1..=9).map(record).collect()), Some(LINGER));
        assert_eq!(patience((1..=10).map(record).collect()), None);
        assert_eq!(patience(vec![nothing()]), None, "there is nothing to write");
        assert_eq!(patience(vec![record(1), nothing()]), Some(LINGER));
        let filters = StoreCommand::SaveSessionFilters(Vec::new());
        assert_eq!(patience(vec![record(1), filters]), None);
        let read = ReadId::Question(1);
        let read = StoreCommand::ReadStates { read, filters: Vec::new(), after: None };
        assert_eq!(patience(vec![record(1), read]), None);
        assert_eq!(lingering.patience(&group([record(1)]), now + LINGER * 2), None);
    }

    #[test]
    fn what_comes_at_once_behind_an_acknowledgement_does_not_wait() {
        let now = Instant::now();
        let mut lingering = Lingering::default();
        lingering.reported(now);
        lingering.begin(now + STREAM_GAP / 2);
        assert_eq!(lingering.patience(&group([record(1)]), now + STREAM_GAP / 2), None);
        lingering.begin(now + STREAM_GAP);
        assert_eq!(lingering.patience(&group([record(1)]), now + STREAM_GAP), Some(LINGER));
    }
}
