//! The monitor's job on brokers of several makers: to hear, to expire, to recover, to restore, over a
//! restart of the broker, and to say so where the password is wrong.
//!
//! Those of Debian are fetched into a root file system below target/ and run there, which takes root;
//! the others come from npm and PyPI, and run with `make brokers`.

mod broker;
#[path = "../common/installed.rs"]
mod installed;
mod kinds;
mod monitor;
#[path = "../common/process.rs"]
mod process;

use broker::{Broker, Kind};
use monitor::{Monitor, Subscriber};

const EXPIRE: &str = "home/monitoring/expire/lamp";
const RECOVER: &str = "home/monitoring/recover/lamp";
const COLOUR: &str = "home/lamp/set/colour";

/// The whole job on one kind of broker.
fn does_its_job(kind: &'static Kind) {
    let mut broker = Broker::start(kind);
    let mut monitor = Monitor::start(&broker);
    let connected = format!("to the broker ({})", kind.protocol);
    monitor.until_said(1, &connected);
    let bus = Subscriber::to(&broker, "home/#");
    expires_and_recovers(&broker, &bus);
    records(&broker, &bus, "red");

    // Over a restart of the broker.
    broker.publish("home/kept", "yes", true);
    drop(bus);
    monitor.stop();
    broker.publish(COLOUR, "green", false);
    broker.stop();
    broker.go_on();
    let kept = Subscriber::to(&broker, "home/kept");
    let is_kept = kept.hears_soon("home/kept", "yes");
    assert_eq!(is_kept, kind.keeps_retained, "retained messages over a restart");
    let bus = Subscriber::to(&broker, "home/#");
    monitor.go_on();
    monitor.until_said(1, &connected);
    let colour = if kind.keeps_sessions { "green" } else { "red" };
    assert_eq!(bus.first(COLOUR), colour, "what came while the monitor was away");

    // And under the running monitor.
    drop(bus);
    broker.stop();
    monitor.until_said(1, "warning: the broker");
    broker.go_on();
    monitor.until_said(2, &connected);
    let bus = Subscriber::to(&broker, "home/#");
    expires_and_recovers(&broker, &bus);
    records(&broker, &bus, "blue");
    monitor.stop();

    monitor.has_password("wrong");
    monitor.go_on();
    monitor.until_said(1, "user name or password");
}

fn expires_and_recovers(broker: &Broker, bus: &Subscriber) {
    broker.publish("home/lamp/sensors/light", "1", false);
    let before = bus.count(EXPIRE);
    bus.until_more(EXPIRE, before);
    let before = bus.count(RECOVER);
    broker.publish("home/lamp/sensors/light", "2", false);
    bus.until_more(RECOVER, before);
}

/// Publishes a state, and says hello until the device gets it back: the two arrive on different
/// connections of the monitor, so that the first hello may overtake the state.
fn records(broker: &Broker, bus: &Subscriber, colour: &str) {
    broker.publish(COLOUR, colour, false);
    bus.until_after(COLOUR, colour, 2, || broker.publish("home/lamp/hello", "here", false));
}

#[test]
fn mosquitto_of_debian_12() {
    does_its_job(&kinds::MOSQUITTO_12);
}

#[test]
fn mosquitto_of_debian_13() {
    does_its_job(&kinds::MOSQUITTO_13);
}

#[test]
fn rabbitmq() {
    does_its_job(&kinds::RABBITMQ);
}

#[test]
fn ejabberd() {
    does_its_job(&kinds::EJABBERD);
}

#[test]
#[ignore = "it comes from npm; `make brokers` runs it"]
fn aedes() {
    does_its_job(&kinds::AEDES);
}

#[test]
#[ignore = "it comes from PyPI; `make brokers` runs it"]
fn amqtt() {
    does_its_job(&kinds::AMQTT);
}
