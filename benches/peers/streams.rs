//! Processor time of a message on streams as houses have them: evenly spread, with another subscriber.
//!
//! The monitor and `mosquitto_sub` get the same stream one after the other, each with a processor to itself:
//! of two that share one, the first to wake would pay for waking the processor. The broker, the publisher
//! and the other subscriber have the other one. Every device was heard once before. A flood is sent as
//! fast as the broker takes it.

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
use std::thread;
use std::time::Duration;

/// The client id of the other subscriber.
const OTHER: &str = "other";

/// So long nothing is taken any more where everything was.
const REST: Duration = Duration::from_millis(200);

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
        let (monitor, reference) =
            rounds.map(|_| (self.of_monitor(settings), self.of_reference(settings))).unzip();
        Row {
            work: format!("processor time of {}", self.name()),
            references: vec![("mosquitto_sub", Figure::new(reference, "µs"))],
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

    /// Microseconds of a message.
    fn of_monitor(&self, settings: &Settings) -> f64 {
        let certificates = self.certificates();
        let broker = self.broker(certificates.as_ref());
        let mut observer = Client::connect(broker.port, "observer");
        observer.subscribe("home/monitoring/#", None);
        let config = self.config(&broker, certificates.as_ref());
        let monitor = Monitor::start(broker.directory(), &config, &process::on_second_processor());
        until_watching(&mut observer, self.devices);
        let mut publisher = Client::connect(broker.port, "publisher");
        let warm_up: Vec<String> = (0..self.devices).map(fleet::watched_topic).collect();
        publisher.flood(&warm_up, warm_up.len(), false);
        publisher.publish(BARRIER_HELLO, b"", None);
        observer.until(BARRIER_COUNT);
        let mut other = self.subscriber(&broker, OTHER, certificates.as_ref(), &[]);
        let before = process::cpu(monitor.child.id());
        let messages = self.publish(&mut publisher, settings);
        publisher.publish(BARRIER_HELLO, b"", None);
        observer.until(BARRIER_COUNT);
        let took = process::cpu(monitor.child.id()) - before;
        monitor.stop();
        end(&mut other);
        process::micros_of_each(took, messages)
    }

    /// Microseconds of a message of `mosquitto_sub`.
    fn of_reference(&self, settings: &Settings) -> f64 {
        let certificates = self.certificates();
        let broker = self.broker(certificates.as_ref());
        let mut publisher = Client::connect(broker.port, "publisher");
        let mut other = self.subscriber(&broker, OTHER, certificates.as_ref(), &[]);
        let wrapper = process::on_second_processor();
        let mut subject = self.subscriber(&broker, CLIENT_ID, certificates.as_ref(), &wrapper);
        let before = process::cpu(subject.id());
        let messages = self.publish(&mut publisher, settings);
        // The broker answers when it has taken all of it, and passes it on meanwhile.
        publisher.ping();
        let mut took = process::cpu(subject.id()) - before;
        loop {
            thread::sleep(REST);
            let now = process::cpu(subject.id()) - before;
            if std::mem::replace(&mut took, now) == now {
                break;
            }
        }
        end(&mut subject);
        end(&mut other);
        process::micros_of_each(took, messages)
    }

    /// Publishes the stream, and returns how many messages it had.
    fn publish(&self, publisher: &mut Client, settings: &Settings) -> usize {
        let topic = if self.states { fleet::state_topic } else { fleet::watched_topic };
        let topics: Vec<String> = (0..self.devices).map(topic).collect();
        let messages = self.messages(settings);
        let pace = Pace { messages, rate: self.rate, at_least_once: self.qos > 0 };
        publisher.stream(&vec![b'x'; self.payload], &topics, &pace);
        messages
    }

    fn certificates(&self) -> Option<Certificates> {
        self.tls.then(Certificates::make)
    }

    fn broker(&self, certificates: Option<&Certificates>) -> Broker {
        Broker::start_for_stream(certificates.map(|made| made.directory.path()))
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

    /// A `mosquitto_sub` that has subscribed; `wrapper` is a program, with arguments, that runs it.
    fn subscriber(
        &self,
        broker: &Broker,
        client_id: &str,
        certificates: Option<&Certificates>,
        wrapper: &[String],
    ) -> Child {
        let port = if self.tls { broker.tls_port } else { broker.port }.to_string();
        let qos = self.qos.to_string();
        let program = "mosquitto_sub".to_owned();
        let mut words = wrapper.iter().chain([&program]);
        let mut command = Command::new(words.next().unwrap_or(&program));
        command.args(words).args(["-h", "localhost", "-p", &port, "-i", client_id]);
        command.args(["-q", &qos, "-t", STREAM]);
        if let Some(certificates) = certificates {
            command.arg("--cafile").arg(certificates.path("ca.crt"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("mosquitto_sub is installed; `make deps` does it");
        broker.until_subscribed(client_id);
        child
    }
}

fn end(child: &mut Child) {
    child.kill().expect("it is a child");
    child.wait().expect("it is a child");
}
