//! Random schedules against a naive model of the liveness rules.
//!
//! The model knows the contract's sentences and keeps every figure by itself: how long the monitor
//! could hear, since when each device is silent, how often it came back. From these follow the
//! earliest moment at which an alarm is allowed and the latest at which it is owed.

use super::expect::watched;
use super::timetable::{House, name, secs};
use iotmonitor::monitor::Event;
use iotmonitor::monitor::event::{Connection, LossReason};
use proptest::prelude::*;
use std::time::Duration;

const TIMEOUTS: [u64; 5] = [3, 20, 60, 61, 300];
const GRACE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Contact(usize),
    Lose(u8),
    Connect {
        acknowledged: bool,
    },
    SubscriptionsAcknowledged,
    Restart {
        orderly: bool,
    },
    WallClock(i64),
    /// Held up for so long; messages of these devices wait on the socket.
    Stall {
        millis: u64,
        waiting: Vec<usize>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let device = 0..TIMEOUTS.len();
    prop_oneof![
        6 => (1_u64..4_000).prop_map(Step::Wait),
        6 => (1_u64..120_000).prop_map(Step::Wait),
        10 => device.clone().prop_map(Step::Contact),
        3 => (0_u8..4).prop_map(Step::Lose),
        4 => Just(Step::Connect { acknowledged: true }),
        1 => Just(Step::Connect { acknowledged: false }),
        2 => Just(Step::SubscriptionsAcknowledged),
        1 => any::<bool>().prop_map(|orderly| Step::Restart { orderly }),
        1 => (-100_000_i64..100_000).prop_map(Step::WallClock),
        1 => (1_u64..400_000, prop::collection::vec(device, 0..4))
            .prop_map(|(millis, waiting)| Step::Stall { millis, waiting }),
    ]
}

struct Silence {
    topic: String,
    name: String,
    timeout: Duration,
    /// On the time that the monitor could hear.
    since: Duration,
    /// How often the monitor came back since the last contact.
    returns: u32,
    expired: bool,
}

struct Model {
    house: House,
    devices: Vec<Silence>,
    connected: bool,
    /// Since when it can hear, on monotonic time, and what it had heard before.
    hearing_since: Option<Duration>,
    heard_before: Duration,
    /// `heard` at the last return.
    returned_at: Duration,
    last_packet: Duration,
    stall_end: Option<Duration>,
    /// `heard` at the last crash, which may have lost contacts that nobody can be blamed for.
    crashed_at: Duration,
}

impl Model {
    fn new() -> Self {
        let specs =
            TIMEOUTS.iter().enumerate().map(|(at, timeout)| watched(&format!("d{at}"), *timeout));
        let mut house = House::dark(specs.collect());
        house.open_store();
        let devices = TIMEOUTS.iter().enumerate().map(|(at, timeout)| Silence {
            topic: format!("home/d{at}/x"),
            name: format!("d{at}"),
            timeout: secs(*timeout),
            since: Duration::ZERO,
            returns: 0,
            expired: false,
        });
        Self {
            devices: devices.collect(),
            connected: false,
            hearing_since: None,
            heard_before: Duration::ZERO,
            returned_at: Duration::ZERO,
            last_packet: house.mono,
            stall_end: None,
            crashed_at: Duration::ZERO,
            house,
        }
    }

    fn heard(&self, at: Duration) -> Duration {
        self.heard_before + self.hearing_since.map_or(Duration::ZERO, |since| at - since)
    }

    fn take(&mut self, step: &Step) {
        self.house.turn_the_page();
        match step {
            Step::Wait(millis) => {
                self.house.advance(Duration::from_millis(*millis));
                self.judge_alarms();
                self.nothing_is_owed(true);
            }
            Step::Contact(device) => self.contact(*device),
            Step::Lose(how) => self.lose(*how),
            Step::Connect { acknowledged } => self.connect(*acknowledged),
            Step::SubscriptionsAcknowledged => self.subscriptions_acknowledged(),
            Step::Restart { orderly } => self.restart(*orderly),
            Step::WallClock(step) => self.house.wall_step += step,
            Step::Stall { millis, waiting } => self.stall(Duration::from_millis(*millis), waiting),
        }
        self.judge_alarms();
        self.nothing_is_owed(false);
    }

    fn contact(&mut self, device: usize) {
        if self.hearing_since.is_none() {
            return;
        }
        let heard = self.heard(self.house.mono);
        let silence = &mut self.devices[device];
        let recovers = std::mem::replace(&mut silence.expired, false);
        silence.since = heard;
        silence.returns = 0;
        let (topic, on) = (silence.topic.clone(), format!("recover/{}", silence.name));
        let before = self.house.published(&on).len();
        self.house.hear(&topic);
        self.last_packet = self.house.mono;
        let recovered = self.house.published(&on).len() - before;
        assert_eq!(recovered, usize::from(recovers), "recovered if and only if it was expired");
    }

    fn lose(&mut self, how: u8) {
        if !self.connected {
            return;
        }
        let reason = match how {
            0 => LossReason::Silent("no answer".into()),
            1 => LossReason::TakenOver,
            2 => LossReason::Refused("bad password".into()),
            _ => LossReason::Other("closed".into()),
        };
        let until = if how == 0 { self.last_packet } else { self.house.mono };
        self.heard_before = self.heard(until);
        self.hearing_since = None;
        self.connected = false;
        self.house.lose(Connection::Watch, reason);
    }

    fn connect(&mut self, acknowledged: bool) {
        if self.connected {
            return;
        }
        self.connected = true;
        self.house.broker.answers_subscribe = acknowledged;
        self.house.connect_watch();
        if acknowledged {
            self.hears_again();
        }
    }

    fn subscriptions_acknowledged(&mut self) {
        if self.connected && self.hearing_since.is_none() {
            let (connection, refused) = (Connection::Watch, Vec::new());
            self.house.happen(Event::Subscribed { connection, refused });
            self.hears_again();
        }
    }

    fn hears_again(&mut self) {
        self.hearing_since = Some(self.house.mono);
        self.last_packet = self.house.mono;
        self.returned_at = self.heard_before;
        for silence in &mut self.devices {
            silence.returns += 1;
        }
    }

    fn restart(&mut self, orderly: bool) {
        self.heard_before = self.heard(self.house.mono);
        self.hearing_since = None;
        self.connected = false;
        if orderly {
            self.house.restart();
        } else {
            self.house.crash();
            // What was not in a batch yet is lost; what was is all that the next run can know.
            self.heard_before = self.house.store.heartbeat.watched;
            self.crashed_at = self.heard_before;
            for silence in &mut self.devices {
                let record = &self.house.store.devices[&name(&silence.name)];
                silence.since = record.silent_since;
                silence.expired = record.expired_since.is_some();
                silence.returns = u32::from(record.graces);
            }
        }
        self.house.open_store();
    }

    fn stall(&mut self, duration: Duration, waiting: &[usize]) {
        self.house.broker.acknowledges = false;
        self.house.stall(duration);
        self.house.happen(Event::TimePassed);
        self.stall_end = Some(self.house.mono);
        for device in waiting {
            self.contact(*device);
        }
        self.house.broker.acknowledges = true;
        self.house.settle_acknowledgements();
        self.judge_alarms();
        self.house.turn_the_page();
        // The wake-ups that were missed meanwhile.
        self.house.advance(Duration::ZERO);
    }

    /// Each alarm in the log is one that was allowed, and no later than owed.
    fn judge_alarms(&mut self) {
        for at in 0..self.devices.len() {
            let on = format!("expire/{}", self.devices[at].name);
            let times: Vec<Duration> = self.house.published(&on).iter().map(|p| p.0).collect();
            for time in times {
                let (heard, owed) = (self.heard(time), self.owed_at(at));
                let silence = &mut self.devices[at];
                assert!(!silence.expired, "{on}: once an episode");
                assert!(self.hearing_since.is_some(), "{on}: while nothing can be heard");
                assert!(heard >= silence.since + silence.timeout, "{on}: not silent for so long");
                if silence.returns <= 3 {
                    let grace = self.returned_at + silence.timeout.min(GRACE);
                    assert!(heard >= grace, "{on}: within its grace");
                }
                assert!(heard <= owed || self.stall_end == Some(time), "{on}: late");
                silence.expired = true;
            }
        }
        let probes = self.house.published("marker/iotmonitor/watch");
        if let Some((time, _)) = probes.last() {
            self.last_packet = self.last_packet.max(*time);
        }
        self.house.turn_the_page();
    }

    /// When, on the time that it can hear, the alarm is due at the latest.
    fn owed_at(&self, device: usize) -> Duration {
        let silence = &self.devices[device];
        let deadline = silence.since + silence.timeout;
        deadline.max(self.returned_at + silence.timeout.min(GRACE))
    }

    fn nothing_is_owed(&self, time_passed: bool) {
        if self.hearing_since.is_none() {
            return;
        }
        let heard = self.heard(self.house.mono);
        for (at, silence) in self.devices.iter().enumerate() {
            if silence.expired {
                continue;
            }
            assert!(heard <= self.owed_at(at), "no alarm for {}", silence.name);
            let for_ever = (silence.since + silence.timeout).max(self.crashed_at) + 3 * GRACE;
            assert!(!time_passed || heard <= for_ever, "{} is hidden for ever", silence.name);
        }
        let expired = self.devices.iter().filter(|silence| silence.expired).count();
        assert_eq!(self.house.monitor.summary().expired, expired);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn no_false_alarm_no_missed_alarm_one_an_episode(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut model = Model::new();
        model.connect(true);
        for step in &steps {
            model.take(step);
        }
    }
}
