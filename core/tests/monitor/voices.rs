//! Several nodes that pass a device from one to another, at random times, while it falls silent and
//! comes back: people learn of each alarm and of its end once.
//!
//! All nodes hear the device, and each hears what the others publish below the base topic.

use super::expect::{device_name, watched};
use super::sharing::{dark_of, node};
use super::timetable::{BASE, House, message, millis, secs};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::cluster::Item;
use iotmonitor_core::model::cluster::shard::shard_of;
use iotmonitor_core::model::cluster::sharing::ClusterReply;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::Publication;
use iotmonitor_core::model::spec::{DeviceSpec, MonitorSpec};
use iotmonitor_core::model::unit_name::UnitTemplate;
use std::time::Duration;

const NAMES: [&str; 3] = ["nas", "pi1", "pi2"];

/// Between two exchanges of what was published.
const STEP: Duration = Duration::from_millis(500);

/// A node that has died is replaced after this time.
const FAILOVER: Duration = Duration::from_millis(8_500);

/// How long a schedule lasts, and how long everything is in order at its end.
const LASTS: Duration = Duration::from_secs(900);
const SETTLES: Duration = Duration::from_secs(120);

/// More alarms in an hour are reported as one that flaps.
const MOST_SILENCES: usize = 4;

struct Voices {
    houses: Vec<House>,
    /// What each has published by now, as far as the others have heard it.
    heard: Vec<usize>,
    lives: Vec<bool>,
    owner: Option<usize>,
    /// The one that gets the device next, and when at the earliest.
    next: Option<(usize, Duration)>,
    epoch: u64,
    /// Whether the nodes hear each other.
    is_heard: bool,
}

fn shard() -> Item {
    shard_of(&device_name("lamp"))
}

fn notify() -> UnitTemplate {
    UnitTemplate::new("notify@.service").unwrap()
}

fn house(name: &str) -> House {
    let lamp = DeviceSpec { alert_unit: Some(notify()), ..watched("lamp", 30) };
    let mut spec = dark_of(vec![lamp], &[]).spec;
    spec.cluster.as_mut().unwrap().node = node(name);
    let mut house = House::of(MonitorSpec { alert_unit: Some(notify()), ..spec });
    house.join(&[]);
    house.power_up();
    house
}

impl Voices {
    fn new(is_heard: bool) -> Self {
        let houses: Vec<House> = NAMES.map(house).into();
        let (heard, lives) = (vec![0; houses.len()], vec![true; houses.len()]);
        let mut voices = Self { houses, heard, lives, owner: None, next: None, epoch: 1, is_heard };
        voices.step(secs(3));
        voices.give(0);
        voices.step(secs(1));
        voices
    }

    fn now(&self) -> Duration {
        self.houses[0].mono
    }

    fn living(&self) -> Vec<usize> {
        (0..self.houses.len()).filter(|at| self.lives[*at]).collect()
    }

    fn give(&mut self, to: usize) {
        self.epoch += 1;
        self.houses[to].own_part(shard(), self.epoch);
        self.owner = Some(to);
    }

    fn contact(&mut self) {
        for at in self.living() {
            self.houses[at].hear("home/lamp/x");
        }
        self.exchange();
    }

    fn step(&mut self, span: Duration) {
        let end = self.now() + span;
        while self.now() < end {
            let step = STEP.min(end - self.now());
            for (house, lives) in self.houses.iter_mut().zip(&self.lives) {
                if *lives { house.advance(step) } else { house.stall(step) }
            }
            self.exchange();
            self.hand_over();
        }
    }

    /// Passes on what has been published since the last time.
    fn exchange(&mut self) {
        for from in 0..self.houses.len() {
            let log = &self.houses[from].log[self.heard[from]..];
            let said: Vec<Publication> = log
                .iter()
                .filter_map(|(_, action)| match action {
                    Action::Publish(publication) => Some(publication.clone()),
                    _ => None,
                })
                .filter(|publication| publication.retain)
                .collect();
            self.heard[from] = self.houses[from].log.len();
            for publication in said {
                let at = publication.topic.as_str();
                let is_word = ["status", "nodes"]
                    .iter()
                    .any(|kind| at.starts_with(&format!("{BASE}/{kind}/")));
                let listeners = self.living().into_iter().filter(|to| *to != from);
                for to in listeners.filter(|_| is_word && self.is_heard).collect::<Vec<_>>() {
                    let mut message = message(at, "");
                    message.payload = publication.payload.clone();
                    self.houses[to].happen(Event::WatchMessage(message));
                }
            }
        }
    }

    /// Gives the device to its next owner, when the former one has ended.
    fn hand_over(&mut self) {
        let Some((to, from)) = self.next else { return };
        let has_ended = self.owner.is_none_or(|owner| {
            self.houses[owner].replies().contains(&ClusterReply::Stopped(shard()))
        });
        if has_ended && self.now() >= from {
            self.next = None;
            self.give(to);
        }
    }

    /// Moves the device as planned, or lets its owner die.
    fn change(&mut self, random: &mut fastrand::Rng) {
        let Some(owner) = self.owner.filter(|_| self.next.is_none()) else { return };
        let others: Vec<usize> = self.living().into_iter().filter(|at| *at != owner).collect();
        let Some(to) = random.choice(&others).copied() else { return };
        if random.u8(..4) == 0 {
            self.lives[owner] = false;
            self.owner = None;
            self.next = Some((to, self.now() + FAILOVER));
        } else {
            // Only the answer to this one counts.
            let log = &mut self.houses[owner].log;
            log.retain(|(_, action)| !matches!(action, Action::Reply(ClusterReply::Stopped(_))));
            self.heard[owner] = log.len();
            self.houses[owner].release_part(shard());
            self.next = Some((to, self.now()));
        }
    }

    fn count(&self, kind: AlertKind) -> usize {
        self.houses.iter().map(|house| house.count(kind)).sum()
    }

    fn notified(&self, event: &str) -> usize {
        let all = self.houses.iter().flat_map(|house| &house.way.notified);
        all.filter(|it| it.event == event).count()
    }
}

/// What people have learned after a schedule, and how often the device was silent.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    silences: usize,
    expired: [usize; 2],
    recovered: [usize; 2],
}

fn told(seed: u64, is_heard: bool) -> Told {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut voices = Voices::new(is_heard);
    voices.contact();
    let end = voices.now() + LASTS;
    let mut silences = 0;
    let mut contact = voices.now() + secs(5);
    let mut change = voices.now() + secs(random.u64(5..60));
    while voices.now() < end {
        let next = contact.min(change);
        voices.step(next - voices.now());
        if next == contact {
            voices.contact();
            let may_be = silences < MOST_SILENCES && voices.now() + secs(200) < end;
            let is_silent = may_be && random.u8(..3) == 0;
            silences += usize::from(is_silent);
            // Neither of them is so near to the timeout that a failover decides.
            let gap = if is_silent { random.u64(60_000..150_000) } else { random.u64(500..18_000) };
            contact = voices.now() + millis(gap);
        } else {
            voices.change(&mut random);
            change = voices.now() + millis(random.u64(1_000..60_000));
        }
    }
    let settled = voices.now() + SETTLES;
    while voices.now() < settled {
        voices.contact();
        voices.step(secs(5));
    }
    let both = |kind: AlertKind, event| [voices.count(kind), voices.notified(event)];
    Told {
        silences,
        expired: both(AlertKind::Expired, "expired"),
        recovered: both(AlertKind::Recovered, "recovered"),
    }
}

#[test]
fn each_alarm_is_told_once_whoever_has_the_device_when() {
    let mut silences = 0;
    for seed in 0..300 {
        let told = told(seed, true);
        let once = [told.silences; 2];
        assert_eq!((told.expired, told.recovered), (once, once), "seed {seed}: {told:?}");
        silences += told.silences;
    }
    assert!(silences > 1_000, "{silences}");
}

/// The test above finds an owner that does not know what was told.
#[test]
fn without_a_word_of_the_former_owner_alarms_would_be_told_twice() {
    let is_wrong = |seed| {
        let told = told(seed, false);
        told.expired[0] > told.silences
    };
    assert!((0..10).any(is_wrong));
}
