//! What the recorded store is given to do, and what it then has to hold.

use super::recorder::MARKS;
use crate::dice::Dice;
use crate::{Running, state, topic};
use iotmonitor::store::{StoreCommand, StoreSettings};
use iotmonitor_core::model::alert::Reason;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::identity::{Identity, IdentityRecord};
use iotmonitor_core::model::message::Delivery;
use iotmonitor_core::model::snapshot::{DeviceRecord, Heartbeat, RhythmRecord, Snapshot};
use iotmonitor_core::model::state::{StateChange, StateRecord};
use iotmonitor_core::topic::TopicFilter;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Everything that a store holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    pub heartbeat: Heartbeat,
    pub devices: BTreeMap<DeviceName, DeviceRecord>,
    pub filters: Vec<TopicFilter>,
    pub identity: IdentityRecord,
    pub states: BTreeMap<String, StateRecord>,
}

impl Content {
    fn follow(&mut self, command: &StoreCommand) {
        match command {
            StoreCommand::Record { change, .. } | StoreCommand::RecordFormer { change, .. } => {
                self.change(change, false);
            }
            StoreCommand::WriteStates { changes, keep_newer, .. } => {
                changes.iter().for_each(|change| self.change(change, *keep_newer));
            }
            StoreCommand::ReadStates { .. } => {}
            StoreCommand::SaveDevices { heartbeat, changed, gone } => {
                self.heartbeat.clone_from(heartbeat);
                for device in changed {
                    self.devices.insert(device.name.clone(), device.clone());
                }
                gone.iter().for_each(|name| drop(self.devices.remove(name)));
            }
            StoreCommand::SaveSessionFilters(filters) => self.filters.clone_from(filters),
            StoreCommand::SaveIdentity(identity) => self.identity.clone_from(identity),
        }
    }

    fn change(&mut self, change: &StateChange, keep_newer: bool) {
        match change {
            StateChange::Nothing => {}
            // No payload comes twice, so each replay is news.
            StateChange::Put(state)
            | StateChange::PutUnflagged(state)
            | StateChange::Replay(state) => {
                let recorded = self.states.get(state.topic.as_str());
                if !keep_newer || recorded.is_none_or(|recorded| recorded.time <= state.time) {
                    self.states.insert(state.topic.as_str().to_owned(), state.clone());
                }
            }
            StateChange::Forget(topic) => drop(self.states.remove(topic.as_str())),
        }
    }
}

/// The contents after each command, the first one before all.
pub fn histories(before: Content, commands: &[StoreCommand]) -> Vec<Content> {
    let mut all = vec![before];
    for command in commands {
        let mut content = all[all.len() - 1].clone();
        content.follow(command);
        all.push(content);
    }
    all
}

/// The same commands for the same seed, with deliveries numbered from 1 by their place.
pub fn workload(seed: u64, commands: usize) -> Vec<StoreCommand> {
    let mut dice = Dice(seed | 1);
    (1..=commands).map(|place| command(place as u64, &mut dice)).collect()
}

fn command(place: u64, dice: &mut Dice) -> StoreCommand {
    let long = "l".repeat(600);
    let name = match dice.below(10) {
        0 => format!("home/{long}/{}", dice.below(5)),
        _ => format!("home/{}", dice.below(40)),
    };
    let change = match dice.below(20) {
        0..=1 => return save_devices(place, dice),
        2 if place.is_multiple_of(2) => {
            return StoreCommand::SaveIdentity(Box::new(identity(place)));
        }
        2 => return StoreCommand::SaveSessionFilters(filters(place)),
        3 => StateChange::Nothing,
        4..=5 => StateChange::Forget(topic(&name)),
        6 => StateChange::Put(state(&name, vec![b'x'; 5_000 + dice.below(20_000)])),
        kind => {
            let state = state(&name, format!("{place} {}", "y".repeat(dice.below(400))));
            match kind {
                7..=9 => StateChange::PutUnflagged(StateRecord { retain: false, ..state }),
                10..=11 => StateChange::Put(StateRecord { retain: false, ..state }),
                12 => StateChange::Replay(state),
                _ => StateChange::Put(state),
            }
        }
    };
    StoreCommand::Record { delivery: Delivery(place), change }
}

fn filters(place: u64) -> Vec<TopicFilter> {
    vec![TopicFilter::new(format!("home/{place}/#")).unwrap()]
}

fn identity(place: u64) -> IdentityRecord {
    let current = Identity {
        machine: None,
        client_id: format!("client {place}"),
        node: None,
        base_topic: "home/monitoring".to_owned(),
        discovery_prefix: None,
        server: "tcp://localhost:1883".to_owned(),
    };
    IdentityRecord { current: Some(current), ..IdentityRecord::default() }
}

fn save_devices(place: u64, dice: &mut Dice) -> StoreCommand {
    let name = |number: usize| DeviceName::new(format!("device{number}")).unwrap();
    let record = |number| DeviceRecord {
        name: name(number),
        last_contact: Some(Duration::from_secs(place)),
        silent_since: Duration::from_millis(place),
        expired_since: (number % 2 == 0).then_some(Duration::from_secs(place)),
        cause: Reason::Silent,
        unsent: false,
        graces: 1,
        enabled: None,
        pause: None,
        unheard: Vec::new(),
        invocation: None,
        announced: None,
        offline: false,
        availability: Vec::new(),
        rhythm: RhythmRecord::default(),
        fleet: None,
        flaps: None,
        restarts: 0,
        forgotten: false,
    };
    let changed = (0..1 + dice.below(4)).map(|_| record(dice.below(12))).collect();
    let gone = (0..dice.below(2)).map(|_| name(12 + dice.below(3))).collect();
    StoreCommand::SaveDevices {
        heartbeat: Box::new(Heartbeat {
            watched: Duration::from_secs(place),
            ..Heartbeat::default()
        }),
        changed,
        gone,
    }
}

/// What a store holds that was just started. But for a damaged file, which is put aside, it may
/// show nothing else: what it then says comes back.
pub fn content(running: &mut Running, damaged: bool) -> Result<Content, Box<Event>> {
    let mut event = running.next();
    if damaged && matches!(event, Event::StorePutAside { .. }) {
        event = running.next();
    }
    let Event::StoreOpened(snapshot) = event else { return Err(Box::new(event)) };
    let Snapshot { heartbeat, devices, session_filters: filters, identity } = *snapshot;
    let identity = identity.unwrap_or_default();
    let devices = devices.into_iter().map(|record| (record.name.clone(), record)).collect();
    let mut states = BTreeMap::new();
    let mut read = running.send_read(&["#"], None);
    loop {
        match running.next() {
            Event::StatesRead { read: answered, states: some, next } if answered == read => {
                states.extend(some.into_iter().map(|s| (s.topic.as_str().to_owned(), s)));
                if next.is_none() {
                    return Ok(Content { heartbeat, devices, filters, identity, states });
                }
                read = running.send_read(&["#"], next);
            }
            other => return Err(Box::new(other)),
        }
    }
}

/// Started as a process of its own below the recorder: three sessions of a store, in each of which
/// commands come in bursts. Alone it has nothing to do.
#[test]
fn child_that_works_until_it_is_done() {
    let Ok(work) = std::env::var("POWER_WORK") else { return };
    let root = std::env::var("RECORDER_ROOT").unwrap();
    let (seed, commands) = work.split_once(' ').unwrap();
    let (seed, commands) = (seed.parse().unwrap(), commands.parse::<usize>().unwrap());
    let mut dice = Dice(seed | 1);
    let all = workload(seed, commands);
    let mut done = 0;
    for session in all.chunks(commands.div_ceil(3)) {
        // Small, so that it has to grow.
        let mut settings = StoreSettings::new(Path::new(&root));
        settings.map_bytes = 128 * 1024;
        let mut running = Running::start_with(settings);
        content(&mut running, true).unwrap();
        let mut rest = session;
        while !rest.is_empty() {
            let burst = burst(rest, &mut dice);
            for command in &rest[..burst] {
                running.handle.send(command.clone()).unwrap();
            }
            wait_until_done(&mut running, &rest[..burst], done, Path::new(&root));
            done += burst;
            rest = &rest[burst..];
        }
        running.close();
    }
}

/// The length of a burst; it ends with a saving of devices, for only one may be outstanding.
fn burst(rest: &[StoreCommand], dice: &mut Dice) -> usize {
    let length = (1 + dice.below(25)).min(rest.len());
    let saves = |command: &StoreCommand| matches!(command, StoreCommand::SaveDevices { .. });
    rest[..length].iter().position(saves).map_or(length, |at| at + 1)
}

/// Notes each report, and returns when everything was reported that is.
fn wait_until_done(running: &mut Running, burst: &[StoreCommand], before: usize, root: &Path) {
    let reported = |command: &StoreCommand| {
        !matches!(command, StoreCommand::SaveSessionFilters(_) | StoreCommand::SaveIdentity(_))
    };
    let Some(last) = burst.iter().rposition(reported) else { return };
    let mut marks = OpenOptions::new().create(true).append(true).open(root.join(MARKS)).unwrap();
    let mut done = before;
    while done <= before + last {
        done = match running.next() {
            Event::StatesCommitted { through } => usize::try_from(through.0).unwrap().max(done),
            Event::DevicesSaved => before + burst.len(),
            other => panic!("{other:?}"),
        };
        // In one write, because each is read by itself.
        marks.write_all(format!("{done}\n").as_bytes()).unwrap();
    }
}
