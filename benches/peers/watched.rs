//! Processor time of a watched message, how many a second are kept up with, and what limits that.
//!
//! Each subject gets the same stream from a broker of its own, one after the other in each round.
//! It has a processor to itself, beside that of broker and publisher: where the scheduler has it
//! wait for the broker to pause, it reads a thousand messages at once and seems to cost nothing.
//! Beside `mosquitto_sub` stand the programs of [`references`], which show where the floor is; one
//! of them also with as many subscriptions as the monitor has, for the broker matches each message
//! with all of them.

use crate::broker::Broker;
use crate::client::Client;
use crate::common::fleet::{self, BARRIER_COUNT, BARRIER_HELLO};
use crate::common::monitor::Monitor;
use crate::references::{self, CLIENT_ID};
use crate::table::{Figure, Goal, Row};
use crate::{Settings, process, until_watching};
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

const FLEETS: [(usize, f64); 4] = [(10, 0.5), (1_000, 0.5), (10_000, 0.5), (100_000, 0.6)];

/// What one subject took for one stream.
struct Taken {
    micros_per_message: f64,
    messages_per_second: f64,
    /// Percent of a processor that the subject had meanwhile, and the broker.
    share: f64,
    broker_share: f64,
}

pub fn rows(settings: &Settings) -> Vec<Row> {
    process::on_first_processor(|| {
        let mut rows: Vec<Row> = FLEETS
            .into_iter()
            .filter(|(devices, _)| settings.takes(*devices))
            .flat_map(|(devices, goal)| measure(settings, devices, goal))
            .collect();
        rows.push(publisher_alone(settings));
        rows
    })
}

fn measure(settings: &Settings, devices: usize, goal: f64) -> [Row; 3] {
    let messages = if settings.quick { 60_000 } else { 200_000 };
    let topics: Vec<String> = (0..devices).map(fleet::watched_topic).collect();
    let mut taken: [Vec<Taken>; 6] = Default::default();
    for _ in 0..settings.rounds_of(devices) {
        taken[0].push(monitor(devices, &topics, messages));
        for (at, name) in [(1, "mosquitto_sub"), (2, "loop"), (3, "decode"), (4, "split")] {
            taken[at].push(reference(name, &topics, messages, None));
        }
        taken[5].push(reference("decode", &topics, messages, Some(devices)));
    }
    let [monitor, sub, events, codec, frames, many] = &taken;
    let figure = |taken: &[Taken], value: fn(&Taken) -> f64, unit| {
        Figure::new(taken.iter().map(value).collect(), unit)
    };
    let micros = |taken| figure(taken, |taken| taken.micros_per_message, "µs");
    let rate = |taken| figure(taken, |taken| taken.messages_per_second, "/s");
    let share = |taken| figure(taken, |taken| taken.share, "%");
    let fleet = format!("{devices} devices");
    [
        Row {
            work: format!("processor time of a watched message, {fleet}"),
            references: vec![
                ("mosquitto_sub", micros(sub)),
                ("rumqttc loop", micros(events)),
                ("codec alone", micros(codec)),
                ("frames alone", micros(frames)),
            ],
            monitor: micros(monitor),
            goal: Some(Goal::Ratio(goal)),
        },
        Row {
            work: format!("watched messages kept up with, {fleet}"),
            references: vec![
                ("codec alone with as many subscriptions", rate(many)),
                ("mosquitto_sub with one", rate(sub)),
            ],
            monitor: rate(monitor),
            goal: Some(Goal::RatioAtLeast(0.9)),
        },
        Row {
            work: format!("share of a processor meanwhile, {fleet}"),
            references: vec![("the broker", figure(monitor, |taken| taken.broker_share, "%"))],
            monitor: share(monitor),
            goal: None,
        },
    ]
}

/// The broker with a publisher and no subscriber: no subject can receive more than this.
fn publisher_alone(settings: &Settings) -> Row {
    let messages = if settings.quick { 60_000 } else { 200_000 };
    let topics: Vec<String> = (0..10).map(fleet::watched_topic).collect();
    let rates = (0..settings.rounds()).map(|_| {
        let broker = Broker::start(20);
        let mut publisher = Client::connect(broker.port, "publisher");
        let began = Instant::now();
        publisher.flood(&topics, messages, false);
        publisher.ping();
        per_second(messages, began.elapsed())
    });
    Row {
        work: "messages that the publisher brings to the broker, without subscribers".to_owned(),
        references: Vec::new(),
        monitor: Figure::new(rates.collect(), "/s"),
        goal: None,
    }
}

fn monitor(devices: usize, topics: &[String], messages: usize) -> Taken {
    let broker = Broker::start(20);
    let config = fleet::config(devices, broker.port);
    let mut observer = Client::connect(broker.port, "observer");
    observer.subscribe("home/monitoring/#", None);
    let monitor = Monitor::start(broker.directory(), &config, &process::on_second_processor());
    until_watching(&mut observer, devices);
    let mut publisher = Client::connect(broker.port, "publisher");
    // The first contact of each device is announced, which is not what is measured here.
    publisher.flood(topics, topics.len(), false);
    publisher.publish(BARRIER_HELLO, b"", None);
    observer.until(BARRIER_COUNT);
    let began = Began::now(&broker, process::cpu(monitor.child.id()));
    publisher.flood(topics, messages, false);
    publisher.publish(BARRIER_HELLO, b"", None);
    observer.until(BARRIER_COUNT);
    let taken = began.taken(process::cpu(monitor.child.id()), messages);
    monitor.stop();
    taken
}

fn reference(name: &str, topics: &[String], messages: usize, devices: Option<usize>) -> Taken {
    let broker = Broker::start_verbose(20);
    let wrapper = process::on_second_processor();
    let mut child = references::start(&wrapper, name, broker.port, messages, devices);
    match child.stdout.take() {
        Some(said) => {
            let mut line = String::new();
            BufReader::new(said).read_line(&mut line).expect("it says when it has subscribed");
        }
        None => broker.until_subscribed(CLIENT_ID),
    }
    let mut publisher = Client::connect(broker.port, "publisher");
    let before = process::cpu_of_ended_children() + process::cpu(child.id());
    let began = Began::now(&broker, before);
    publisher.flood(topics, messages, false);
    let status = child.wait().expect("it is a child");
    assert!(status.success(), "{name} ended with {status}");
    began.taken(process::cpu_of_ended_children(), messages)
}

/// The beginning of a stream: the time, and the processor time of broker and subject so far.
struct Began {
    at: Instant,
    subject: Duration,
    broker: (u32, Duration),
}

impl Began {
    fn now(broker: &Broker, subject: Duration) -> Self {
        let broker = (broker.pid(), process::cpu(broker.pid()));
        Self { at: Instant::now(), subject, broker }
    }

    #[allow(clippy::cast_precision_loss, reason = "some hundred thousand messages")]
    fn taken(self, subject: Duration, messages: usize) -> Taken {
        let elapsed = self.at.elapsed();
        let (pid, before) = self.broker;
        let broker = process::cpu(pid) - before;
        let subject = subject - self.subject;
        let percent = |cpu: Duration| cpu.as_secs_f64() / elapsed.as_secs_f64() * 100.0;
        Taken {
            micros_per_message: process::micros_of_each(subject, messages),
            messages_per_second: per_second(messages, elapsed),
            share: percent(subject),
            broker_share: percent(broker),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "some hundred thousand messages")]
pub fn per_second(messages: usize, elapsed: Duration) -> f64 {
    messages as f64 / elapsed.as_secs_f64()
}
