//! Processor time of a message on streams as houses have them: evenly spread, with another subscriber.
//!
//! The monitor and `mosquitto_sub` subscribe to one broker and get the same messages at the same time.
//! They share a processor, the broker and the publisher have the other one. Every device was heard once
//! before. A flood is sent as fast as the broker takes it.

#[path = "../../tests/common/certificates.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod certificates;

use crate::broker::Broker;
use crate::client::{Client, Pace};
use crate::common::fleet::{self, BARRIER_COUNT, BARRIER_HELLO};
use crate::common::monitor::Monitor;
use crate::references::{CLIENT_ID, STREAM};
use crate::table::{Figure, Goal, Row};
use crate::{Settings, process, until_watching};
use certificates::Certificates;
use std::process::{Child, Command, Stdio};

/// One stream.
struct Stream {
    /// Messages a second; `None` is a flood.
    rate: Option<usize>,
    devices: usize,
    payload: usize,
    qos: u8,
    /// States in place of watched messages.
    states: bool,
    tls: bool,
    goal: Option<f64>,
}

const PLAIN: Stream =
    Stream { rate: None, devices: 10, payload: 20, qos: 0, states: false, tls: false, goal: None };

const STREAMS: [Stream; 14] = [
    Stream { rate: Some(1_000), goal: Some(0.25), ..PLAIN },
    Stream { rate: Some(10_000), goal: Some(0.4), ..PLAIN },
    Stream { rate: Some(50_000), goal: Some(0.2), ..PLAIN },
    Stream { goal: Some(0.15), ..PLAIN },
    Stream { devices: 1_000, goal: Some(0.15), ..PLAIN },
    Stream { devices: 10_000, goal: Some(0.2), ..PLAIN },
    Stream { devices: 100_000, goal: Some(0.25), ..PLAIN },
    Stream { rate: Some(10_000), payload: 200, ..PLAIN },
    Stream { rate: Some(10_000), payload: 2_000, ..PLAIN },
    Stream { payload: 200, ..PLAIN },
    Stream { payload: 2_000, ..PLAIN },
    Stream { rate: Some(10_000), tls: true, ..PLAIN },
    Stream { tls: true, ..PLAIN },
    Stream { rate: Some(1_000), qos: 1, states: true, ..PLAIN },
];

pub fn rows(settings: &Settings) -> Vec<Row> {
    process::on_first_processor(|| {
        let streams = STREAMS.iter().filter(|stream| settings.takes(stream.devices));
        streams.map(|stream| stream.row(settings)).collect()
    })
}

impl Stream {
    fn row(&self, settings: &Settings) -> Row {
        let rounds = 0..settings.rounds_of(self.devices);
        let (monitor, reference) = rounds.map(|_| self.measure(settings)).unzip();
        Row {
            work: format!("processor time of {}", self.name()),
            references: vec![("mosquitto_sub beside it", Figure::new(reference, "µs"))],
            monitor: Figure::new(monitor, "µs"),
            goal: self.goal.map(Goal::Ratio),
        }
    }

    fn name(&self) -> String {
        let kind = if self.states { "a state at QoS 1" } else { "a watched message" };
        let rate =
            self.rate.map_or("a flood of them".to_owned(), |rate| format!("{rate} a second"));
        let tls = if self.tls { ", TLS" } else { "" };
        format!("{kind}, {rate}, {} devices, {} bytes{tls}", self.devices, self.payload)
    }

    fn messages(&self, settings: &Settings) -> usize {
        let most = if settings.quick { 60_000 } else { 200_000 };
        self.rate.map_or(most, |rate| (5 * rate).min(most))
    }

    /// Microseconds of a message, of the monitor and of `mosquitto_sub`.
    fn measure(&self, settings: &Settings) -> (f64, f64) {
        let certificates = self.tls.then(Certificates::make);
        let broker =
            Broker::start_for_stream(certificates.as_ref().map(|made| made.directory.path()));
        let mut observer = Client::connect(broker.port, "observer");
        observer.subscribe("home/monitoring/#", None);
        let config = self.config(&broker, certificates.as_ref());
        let monitor = Monitor::start(broker.directory(), &config, &process::on_second_processor());
        until_watching(&mut observer, self.devices);
        let topic = if self.states { fleet::state_topic } else { fleet::watched_topic };
        let topics: Vec<String> = (0..self.devices).map(topic).collect();
        let payload = vec![b'x'; self.payload];
        let mut publisher = Client::connect(broker.port, "publisher");
        let warm_up: Vec<String> = (0..self.devices).map(fleet::watched_topic).collect();
        publisher.flood(&warm_up, warm_up.len(), false);
        publisher.publish(BARRIER_HELLO, b"", None);
        observer.until(BARRIER_COUNT);
        let messages = self.messages(settings);
        let mut reference = self.reference(&broker, messages, certificates.as_ref());
        broker.until_subscribed(CLIENT_ID);
        let pid = monitor.child.id();
        let ended = process::cpu_of_ended_children();
        let before = (process::cpu(pid), process::cpu(reference.id()));
        let pace = Pace { messages, rate: self.rate, at_least_once: self.qos > 0 };
        publisher.stream(&payload, &topics, &pace);
        publisher.publish(BARRIER_HELLO, b"", None);
        observer.until(BARRIER_COUNT);
        let monitor_took = process::cpu(pid) - before.0;
        let status = reference.wait().expect("it is a child");
        assert!(status.success(), "mosquitto_sub ended with {status}");
        let reference_took = process::cpu_of_ended_children() - ended - before.1;
        monitor.stop();
        (
            process::micros_of_each(monitor_took, messages),
            process::micros_of_each(reference_took, messages),
        )
    }

    fn config(&self, broker: &Broker, certificates: Option<&Certificates>) -> String {
        let config = fleet::config(self.devices, broker.port);
        let Some(certificates) = certificates else { return config };
        let plain = format!("tcp://127.0.0.1:{}\"", broker.port);
        let tls = format!(
            "ssl://localhost:{}\"\ncaFile = \"{}\"",
            broker.tls_port,
            certificates.path("ca.crt").display()
        );
        config.replace(&plain, &tls)
    }

    fn reference(
        &self,
        broker: &Broker,
        messages: usize,
        certificates: Option<&Certificates>,
    ) -> Child {
        let mut command = Command::new("taskset");
        let port = if self.tls { broker.tls_port } else { broker.port };
        command.args([
            "-c",
            "1",
            "mosquitto_sub",
            "-h",
            "localhost",
            "-i",
            CLIENT_ID,
            "-t",
            STREAM,
        ]);
        command.args(["-p", &port.to_string(), "-q", &self.qos.to_string()]);
        command.args(["-C", &messages.to_string()]);
        if let Some(certificates) = certificates {
            command.arg("--cafile").arg(certificates.path("ca.crt"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().expect("taskset and mosquitto_sub are installed; `make deps` does it")
    }
}
