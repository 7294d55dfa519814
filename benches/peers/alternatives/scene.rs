//! A broker, a subject and its devices.
//!
//! The device `barrier` shows how far a subject is: it is silent by design, and what is published for it
//! when it speaks follows everything that the subject was sent before.

use super::subjects::{Device, Running, Subject};
use crate::broker::Broker;
use crate::client::{Client, PATIENCE};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const BARRIER: &str = "b/barrier/sensors/x";
const BARRIER_EXPIRES: &str = "home/monitoring/expire/barrier";
const BARRIER_RECOVERS: &str = "home/monitoring/recover/barrier";
/// How long an expiry of the barrier is waited for before it speaks again, and how long a late recovery.
const TRY: Duration = Duration::from_secs(4);
const QUIET: Duration = Duration::from_millis(500);
/// Between two messages of a device that speaks.
const BREATH: Duration = Duration::from_millis(200);

pub struct Scene {
    pub broker: Broker,
    pub running: Running,
    pub publisher: Client,
    barrier: Client,
    subject: Subject,
    devices: Vec<Device>,
    wrapper: Vec<String>,
}

impl Scene {
    /// A subject that watches these devices and the barrier.
    pub fn begin(subject: &Subject, devices: &[Device], wrapper: &[String]) -> Self {
        Self::begin_at(Broker::start(20), subject, devices, wrapper)
    }

    /// The same with this broker.
    pub fn begin_at(
        broker: Broker,
        subject: &Subject,
        devices: &[Device],
        wrapper: &[String],
    ) -> Self {
        let mut devices = devices.to_vec();
        devices.push(("barrier".to_owned(), 1));
        let barrier = barrier(&broker);
        let publisher = Client::connect(broker.port, "publisher");
        let running = subject.start(broker.directory(), broker.port, &devices, wrapper);
        let (subject, wrapper) = (subject.clone(), wrapper.to_vec());
        let mut scene = Self { broker, running, publisher, barrier, subject, devices, wrapper };
        scene.until_watching();
        scene
    }

    /// Waits until the subject hears, and the barrier is silent.
    pub fn until_watching(&mut self) {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "{} watches", self.subject.name());
            self.publisher.publish(BARRIER, b"1", None);
            let at_most = Instant::now() + TRY;
            let is_expired = self.barrier.until_deadline(BARRIER_EXPIRES, at_most).is_some();
            let at_most = Instant::now() + QUIET;
            if is_expired && self.barrier.next_until(at_most).is_none() {
                return;
            }
        }
    }

    /// Waits until everything that was published before has been handled.
    pub fn until_handled(&mut self) {
        self.publisher.publish(BARRIER, b"1", None);
        self.barrier.until(BARRIER_RECOVERS);
    }

    /// Starts the subject again where it was.
    pub fn start_again(&mut self) {
        let (directory, port) = (self.broker.directory(), self.broker.port);
        self.running = self.subject.start(directory, port, &self.devices, &self.wrapper);
    }

    /// Has the broker end, and start again after this time.
    pub fn outage(&mut self, lasting: Duration) {
        self.broker.kill();
        thread::sleep(lasting);
        self.broker.go_on();
        self.publisher = Client::connect(self.broker.port, "publisher");
        self.barrier = barrier(&self.broker);
    }
}

fn barrier(broker: &Broker) -> Client {
    let mut client = Client::connect(broker.port, "barrier");
    let topics = [BARRIER_EXPIRES, BARRIER_RECOVERS].map(str::to_owned);
    client.subscribe_all(&topics, None);
    client
}

/// Devices that speak, until this is dropped.
pub struct Speaking {
    goes_on: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Speaking {
    pub fn begin(port: u16, devices: impl IntoIterator<Item = usize>) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let topics: Vec<String> =
            devices.into_iter().map(|device| format!("b/d{device}/sensors/x")).collect();
        let mut client = Client::connect(port, "devices");
        let speaks = Arc::clone(&goes_on);
        let thread = thread::spawn(move || {
            while speaks.load(Ordering::Relaxed) {
                for topic in &topics {
                    client.publish(topic, b"1", None);
                }
                thread::sleep(BREATH);
            }
        });
        Self { goes_on, thread: Some(thread) }
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
        let ended = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        assert!(ended || thread::panicking(), "the devices speak");
    }
}
