//! What the store costs when it already holds very many states: the start, a restore, and the rate
//! at which further ones are recorded. The reference is a store that holds those of one device.

use crate::broker::Broker;
use crate::client::Client;
use crate::common::fleet::{self, PAYLOAD};
use crate::table::{Figure, Row};
use crate::{Settings, process, size, states, until_watching};
use bytes::Bytes;
use iotmonitor::pulse::Pulse;
use iotmonitor::store::{self, StoreCommand, StoreFull, StoreSettings};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Delivery, QoS};
use iotmonitor_core::model::state::{StateChange, StateRecord};
use iotmonitor_core::topic::TopicName;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Beside these there is one that holds nothing yet, which shows when a stream is recorded.
const DEVICES: usize = 1_000;
const STATES_OF_A_DEVICE: usize = 1_000;

/// What a monitor over one store took, a value for each round.
#[derive(Default)]
struct Taken {
    ready: Vec<f64>,
    restore: Vec<f64>,
    rate: Vec<f64>,
    resident: Vec<f64>,
}

pub fn rows(settings: &Settings) -> Vec<Row> {
    let devices = if settings.quick { DEVICES / 10 } else { DEVICES };
    let one = measure(settings, 1);
    let many = measure(settings, devices);
    let states = devices * STATES_OF_A_DEVICE;
    let row = |work: String, one: Vec<f64>, many: Vec<f64>, unit| Row {
        work: format!("{states} states recorded: {work}"),
        references: vec![("1000 recorded", Figure::new(one, unit))],
        monitor: Figure::new(many, unit),
        goal: None,
    };
    vec![
        row("start to READY=1".to_owned(), one.ready, many.ready, "ms"),
        row(
            format!("restore of one device's {STATES_OF_A_DEVICE}"),
            one.restore,
            many.restore,
            "ms",
        ),
        row("further ones recorded".to_owned(), one.rate, many.rate, "/s"),
        row("resident memory after that".to_owned(), one.resident, many.resident, "MB"),
    ]
}

fn measure(settings: &Settings, devices: usize) -> Taken {
    let mut taken = Taken::default();
    let broker = Broker::start(1_000);
    fill(&broker.directory().join("store"), devices);
    let config = fleet::config(DEVICES + 1, broker.port);
    let mut observer = Client::connect(broker.port, "observer");
    observer.subscribe("home/monitoring/#", None);
    for _ in 0..settings.rounds() {
        let (monitor, milliseconds) = size::start_until_ready(broker.directory(), &config);
        taken.ready.push(milliseconds);
        until_watching(&mut observer, DEVICES + 1);
        let (mut publisher, mut restored) =
            (Client::connect(broker.port, "publisher"), Client::connect(broker.port, "restored"));
        let messages = if settings.quick { 20_000 } else { 60_000 };
        let stream = states::Stream::begin(&mut publisher, &mut restored, DEVICES + 1);
        taken.rate.push(stream.rate(&mut publisher, &mut restored, messages));
        let mut restored = Client::connect(broker.port, "device");
        restored.subscribe("b/d0/actuators/#", None);
        taken.restore.push(restore(&mut publisher, &mut restored));
        // Pages that are not needed are let go of when nothing has been asked for a moment.
        thread::sleep(Duration::from_secs(2));
        taken.resident.push(process::resident(monitor.child.id()));
        monitor.stop();
    }
    taken
}

/// Milliseconds from the hello of the device `d0` to its last state.
fn restore(publisher: &mut Client, restored: &mut Client) -> f64 {
    let began = Instant::now();
    publisher.publish("b/d0/hello", b"", None);
    restored.until(&topic(0, STATES_OF_A_DEVICE - 1));
    began.elapsed().as_secs_f64() * 1e3
}

/// Makes a store of these states, with the store's own means.
fn fill(directory: &Path, devices: usize) {
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let settings = StoreSettings::new(directory);
    let store = store::spawn(settings, sender, Pulse::new()).expect("there is a thread for it");
    let mut last = Delivery(0);
    for device in 0..devices {
        for state in 0..STATES_OF_A_DEVICE {
            last = Delivery(last.0 + 1);
            let record = StateRecord {
                topic: TopicName::new(topic(device, state)).expect("it is a topic"),
                payload: Bytes::from_static(PAYLOAD),
                qos: QoS::AtLeastOnce,
                retain: false,
                time: Duration::from_secs(1_700_000_000),
            };
            let change = StateChange::Put(record);
            let mut command = StoreCommand::Record { delivery: last, change };
            while let Err(StoreFull(refused)) = store.send(command) {
                command = *refused;
                // It commits what it has, and reports that.
                let _ = events.blocking_recv();
            }
        }
    }
    loop {
        match events.blocking_recv() {
            Some(Event::StatesCommitted { through }) if through == last => break,
            Some(_) => {}
            None => panic!("the store ended"),
        }
    }
    assert!(store.close(Duration::from_secs(10)), "the store is on disk");
}

fn topic(device: usize, state: usize) -> String {
    format!("b/d{device}/actuators/{state:04}")
}
