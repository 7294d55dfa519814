//! `watchTimeOut = "auto"` over weeks or months, for devices with rhythms of many kinds.
//!
//! The figures are those of docs/liveness.md: `make rhythms` prints them for half a year. A death is
//! seen when the timeout has passed after the last message, so that the timeout is how long it takes.

use crate::checked;
use crate::month::{DAY, HOUR, START, Watch};
use fastrand::Rng;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::topic::TopicName;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;

/// A kind of device: its name, and the seconds until its next message, from the second of its last one
/// since the midnight of a Monday.
struct Kind {
    name: &'static str,
    next: fn(&mut Rng, u64) -> u64,
    /// Alarms that are accepted, in all.
    false_alarms: usize,
    /// The longest timeout after three hours and after two days, in seconds.
    timeouts: [u64; 2],
}

const MINUTE: u64 = 60;
const UNLEARNED: u64 = 25 * HOUR;

const KINDS: [Kind; 13] = [
    Kind {
        name: "energy meter, 30 s",
        next: |rng, _| lossy(rng, 30, 200),
        false_alarms: 0,
        timeouts: [15 * MINUTE, 10 * MINUTE],
    },
    Kind {
        name: "plug, 5 min and when switched",
        next: plug,
        false_alarms: 0,
        timeouts: [UNLEARNED, HOUR],
    },
    Kind {
        name: "sensor node, 1 min, weak radio",
        next: |rng, _| lossy(rng, 60, 20),
        false_alarms: 0,
        timeouts: [15 * MINUTE, 30 * MINUTE],
    },
    Kind {
        name: "robot, 1 min, restarts weekly",
        next: restarting,
        false_alarms: 1,
        timeouts: [15 * MINUTE, 30 * MINUTE],
    },
    Kind {
        name: "climate sensor on battery",
        next: climate,
        false_alarms: 0,
        timeouts: [UNLEARNED, 6 * HOUR],
    },
    Kind {
        name: "door with a heartbeat of 50 min",
        next: |rng, _| exponential(rng, 4 * HOUR).min(50 * MINUTE),
        false_alarms: 0,
        timeouts: [UNLEARNED, 3 * HOUR],
    },
    Kind { name: "motion sensor", next: motion, false_alarms: 1, timeouts: [UNLEARNED, 3 * DAY] },
    Kind {
        name: "solar inverter, by day",
        next: solar,
        false_alarms: 1,
        timeouts: [15 * MINUTE, 2 * DAY],
    },
    Kind {
        name: "computer, in working hours",
        next: computer,
        false_alarms: 2,
        timeouts: [15 * MINUTE, 3 * DAY],
    },
    Kind {
        name: "deep sleeper, 30 min",
        next: |rng, _| lossy(rng, 1_800, 200),
        false_alarms: 0,
        timeouts: [UNLEARNED, 4 * HOUR],
    },
    Kind {
        name: "Bluetooth thermometer, 1 min",
        next: |rng, _| lossy(rng, 60, 3),
        false_alarms: 0,
        timeouts: [UNLEARNED, HOUR],
    },
    Kind {
        name: "refrigerator by its power",
        next: refrigerator,
        false_alarms: 0,
        timeouts: [UNLEARNED, 4 * HOUR],
    },
    Kind {
        name: "water meter, once a day",
        next: daily,
        false_alarms: 0,
        timeouts: [UNLEARNED, UNLEARNED],
    },
];

/// Every so many seconds with some jitter; one of so many messages is lost.
fn lossy(rng: &mut Rng, seconds: u64, lost_of: u32) -> u64 {
    let mut pause = seconds + rng.u64(0..=seconds / 20);
    while rng.u32(0..lost_of) == 0 {
        pause += seconds;
    }
    pause
}

fn exponential(rng: &mut Rng, mean: u64) -> u64 {
    (-rng.f64().max(1e-9).ln() * mean as f64) as u64 + 1
}

fn hour(at: u64) -> u64 {
    at / HOUR % 24
}

/// The next telemetry, or it is switched before.
fn plug(rng: &mut Rng, at: u64) -> u64 {
    let telemetry = 300 - at % 300 + rng.u64(0..3);
    let switched = if (6..23).contains(&hour(at)) { exponential(rng, 2 * HOUR) } else { u64::MAX };
    telemetry.min(switched)
}

fn restarting(rng: &mut Rng, _: u64) -> u64 {
    let restarts = rng.u32(0..7 * 24 * 60) == 0;
    if restarts { 300 + rng.u64(0..120) } else { lossy(rng, 60, 500) }
}

fn climate(rng: &mut Rng, at: u64) -> u64 {
    let mean = if (6..22).contains(&hour(at)) { 15 * MINUTE } else { 50 * MINUTE };
    exponential(rng, mean).clamp(10, HOUR)
}

fn motion(rng: &mut Rng, at: u64) -> u64 {
    let mean = if (7..23).contains(&hour(at)) { 10 * MINUTE } else { 3 * HOUR };
    exponential(rng, mean)
}

fn solar(rng: &mut Rng, at: u64) -> u64 {
    let next = at + lossy(rng, 30, 500);
    if (7..19).contains(&hour(next)) { next - at } else { until(next, 7) + next - at }
}

/// Seconds until this hour comes next.
fn until(at: u64, hour: u64) -> u64 {
    (hour * HOUR + DAY - at % DAY) % DAY
}

fn computer(rng: &mut Rng, at: u64) -> u64 {
    let next = at + lossy(rng, 60, 1_000);
    let works = |at: u64| (8..18).contains(&hour(at)) && at / DAY % 7 < 5;
    if works(next) {
        return next - at;
    }
    let mut morning = next + until(next, 8);
    while !works(morning) {
        morning += DAY;
    }
    morning - at + rng.u64(0..900)
}

/// On for some twenty minutes, off for some forty.
fn refrigerator(rng: &mut Rng, _: u64) -> u64 {
    if rng.bool() { rng.u64(15 * MINUTE..25 * MINUTE) } else { rng.u64(30 * MINUTE..55 * MINUTE) }
}

fn daily(rng: &mut Rng, at: u64) -> u64 {
    until(at, 6).max(12 * HOUR) + rng.u64(0..1_500)
}

/// What came of a kind.
#[derive(Default)]
struct Outcome {
    false_alarms: [usize; 2],
    timeouts: Vec<u64>,
}

/// When the timeouts are looked at, after the start.
const LOOKS: [u64; 4] = [3 * HOUR, DAY, 2 * DAY, 7 * DAY];

fn simulate(days: u64) -> Vec<Outcome> {
    let mut file = "[mqtt]\nserverAddress = \"tcp://localhost:1883\"\n".to_owned();
    for number in 0..KINDS.len() {
        let section =
            format!("[device_k{number}]\nwatchTopics = \"k/{number}\"\nwatchTimeOut = \"auto\"\n");
        file.push_str(&section);
    }
    let mut watch = Watch::start(checked(&file).monitor);
    let mut rng = Rng::with_seed(7);
    let topics: Vec<TopicName> =
        (0..KINDS.len()).map(|number| TopicName::new(format!("k/{number}")).unwrap()).collect();
    let mut next: BinaryHeap<Reverse<(u64, usize)>> =
        (0..KINDS.len()).map(|number| Reverse((START + rng.u64(1..60), number))).collect();
    let mut outcomes: Vec<Outcome> = KINDS.iter().map(|_| Outcome::default()).collect();
    let mut looks = LOOKS.iter().copied().chain([days * DAY]).map(|after| START + after).peekable();
    let end = START + days * DAY;
    while let Some(Reverse((at, number))) = next.pop() {
        while let Some(look) = looks.next_if(|look| *look <= at) {
            watch.pass(look * 1000);
            for (number, outcome) in outcomes.iter_mut().enumerate() {
                let name = DeviceName::new(format!("k{number}")).unwrap();
                let timeout = watch.monitor.view(&name).unwrap().watch_timeout.unwrap();
                outcome.timeouts.push(timeout.as_secs());
            }
        }
        if at >= end {
            break;
        }
        watch.hear(at * 1000, &topics[number], "1");
        next.push(Reverse((at + (KINDS[number].next)(&mut rng, at), number)));
    }
    for (at, name) in &watch.expired {
        let number: usize = name[1..].parse().unwrap();
        let is_late = at / 1000 > START + DAY + HOUR;
        outcomes[number].false_alarms[usize::from(is_late)] += 1;
    }
    outcomes
}

fn span(seconds: u64) -> String {
    iotmonitor_core::model::words::RoundedDuration(std::time::Duration::from_secs(seconds))
        .to_string()
}

#[test]
fn automatic_timeouts_fit_devices_of_many_kinds() {
    let days = std::env::var("RHYTHM_DAYS").map_or(15, |days| days.parse().unwrap());
    let outcomes = simulate(days);
    let mut table = format!(
        "{:<33}{:>10}{:>7}   {:<12}{:<12}{:<12}{:<12}{days} d\n",
        "KIND", "FIRST DAY", "LATER", "3 h", "1 d", "2 d", "7 d"
    );
    for (kind, outcome) in KINDS.iter().zip(&outcomes) {
        let [first, later] = outcome.false_alarms;
        let _ = write!(table, "{:<33}{first:>10}{later:>7}  ", kind.name);
        for timeout in &outcome.timeouts {
            let _ = write!(table, " {:<11}", span(*timeout));
        }
        table.push('\n');
    }
    println!("{table}");
    for (kind, outcome) in KINDS.iter().zip(&outcomes) {
        let alarms: usize = outcome.false_alarms.iter().sum();
        assert!(alarms <= kind.false_alarms, "{}: {alarms} false alarms\n{table}", kind.name);
        let [early, known] = [outcome.timeouts[0], outcome.timeouts[2]];
        assert!(early <= kind.timeouts[0] && known <= kind.timeouts[1], "{}\n{table}", kind.name);
    }
}
