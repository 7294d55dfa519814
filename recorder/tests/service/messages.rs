//! What is recorded, and what is not.

use crate::broker::Broker;
use crate::house::{House, VERSIONS, config, lasting_broker, numbers, publish, until};
use iotmonitor_recorder::Store;
use nix::sys::signal::Signal;
use std::fs;
use std::process::Command;
use std::time::Duration;

#[test]
fn messages_of_every_kind_are_recorded_as_they_were_sent() {
    for protocol in VERSIONS {
        let broker = Broker::start();
        let mut house = House::beside(&broker, protocol, "");
        house.start();
        house.until_subscribed(&["#"]);
        let bytes: Vec<u8> = (0..=255).collect();
        broker.publish_bytes("home/binary", false, &bytes);
        publish_nothing(&broker, "home/empty");
        broker.publish_bytes("home/large", false, &vec![7; 1 << 20]);
        broker.publish_bytes("home/kept", true, b"on");
        publish(&broker, "home/zero", &numbers(0..3), &["-q", "0"]);
        publish(&broker, "home/two", &numbers(0..3), &["-q", "2"]);
        house.until_recorded("home/two", &numbers(0..3));
        house.until_recorded("home/zero", &numbers(0..3));
        house.until_recorded("home/kept", &["on".to_owned()]);
        until(|| house.recorded("home/large").len() == 1, || "the large one".to_owned());
        let recorded = |topic: &str| house.recorded(topic).remove(0);
        assert_eq!(recorded("home/binary").payload, bytes);
        assert_eq!(recorded("home/empty").payload, "");
        assert_eq!(recorded("home/large").payload, vec![7; 1 << 20]);
        // A message of this moment is not marked: the flag marks what the broker had kept.
        assert!(!recorded("home/kept").retain);
        let qos = ["home/zero", "home/kept", "home/two"].map(|topic| recorded(topic).qos);
        assert_eq!(qos, [0, 1, 1]);
    }
}

fn publish_nothing(broker: &Broker, topic: &str) {
    let port = broker.port().to_string();
    let mut publisher = Command::new("mosquitto_pub");
    publisher.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-n", "-t", topic]);
    assert!(publisher.status().unwrap().success());
}

#[test]
fn what_is_excluded_is_acknowledged_and_not_recorded() {
    for protocol in VERSIONS {
        let broker = lasting_broker();
        let topics =
            "topics = [\"home/#\", \"garden/+\"]\nexclude = [\"home/+/camera\", \"garden/x\"]\n";
        let mut house = House::beside(&broker, protocol, topics);
        house.start();
        house.until_subscribed(&["home/#", "garden/+"]);
        for topic in ["home/door/camera", "garden/x", "garden/x/y", "other"] {
            publish(&broker, topic, &numbers(0..100), &[]);
        }
        publish(&broker, "home/door", &numbers(0..100), &[]);
        publish(&broker, "garden/y", &numbers(0..2), &[]);
        house.until_recorded("home/door", &numbers(0..100));
        house.until_recorded("garden/y", &numbers(0..2));
        house.stop();
        // What was not acknowledged would come again.
        house.configure(&config(&broker, protocol, "topics = [\"home/#\", \"garden/+\"]\n"));
        house.start();
        publish(&broker, "home/door", &numbers(100..101), &[]);
        house.until_recorded("home/door", &numbers(0..101));
        for topic in ["home/door/camera", "garden/x", "garden/x/y", "other"] {
            assert_eq!(house.payloads(topic), Vec::<String>::new(), "{topic}");
        }
    }
}

#[test]
fn retained_messages_are_recorded_once_and_marked() {
    for protocol in VERSIONS {
        let mut broker = lasting_broker();
        broker.publish_bytes("home/old", true, b"kept");
        let mut house = House::beside(&broker, protocol, "topics = \"home/#\"\n");
        house.start();
        house.until_recorded("home/old", &["kept".to_owned()]);
        assert!(house.recorded("home/old")[0].retain);
        // A restart of the recorder, one of the broker, and both.
        house.stop();
        house.start();
        house.until_subscribed(&["home/#"]);
        broker.stop();
        house.until_said("closed the connection", 1);
        broker.restart();
        house.until_said("again", 1);
        house.kill();
        broker.stop();
        broker.restart();
        house.start();
        publish(&broker, "home/new", &numbers(0..1), &[]);
        house.until_recorded("home/new", &numbers(0..1));
        assert_eq!(house.payloads("home/old"), ["kept"], "{protocol}");
    }
}

#[test]
fn a_backlog_survives_a_restart_in_its_order_and_a_stop_leaves_files() {
    for protocol in VERSIONS {
        let broker = lasting_broker();
        let mut house = House::beside(&broker, protocol, "flush = \"1h\"\n");
        house.start();
        house.until_subscribed(&["#"]);
        publish(&broker, "home/a", &numbers(0..500), &[]);
        house.until_recorded("home/a", &numbers(0..500));
        assert!(house.has_segments(), "an hour has not passed");
        publish(&broker, "home/a", &numbers(500..600), &[]);
        let (status, took) = house.stop();
        assert!(status.success(), "{:#?}", house.said());
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(!house.has_segments(), "a stop makes files of what is there");
        publish(&broker, "home/a", &numbers(600..2_000), &[]);
        house.start();
        house.until_recorded("home/a", &numbers(0..2_000));
    }
}

#[test]
fn a_file_appears_when_the_flush_is_due() {
    let broker = Broker::start();
    let mut house = House::beside(&broker, "5", "flush = \"1s\"\n");
    house.start();
    house.until_subscribed(&["#"]);
    publish(&broker, "home/a", &numbers(0..10), &[]);
    let files = || Store::new(&house.store).days().map_or(0, |days| days.len());
    until(|| files() == 1 && !house.has_segments(), || format!("{:#?}", house.said()));
    house.until_recorded("home/a", &numbers(0..10));
}

#[test]
fn the_service_manager_is_told_of_everything() {
    let mut broker = Broker::start();
    let mut house = House::beside(&broker, "5", "");
    house.environment = vec![("WATCHDOG_USEC", "600000".into())];
    house.start();
    house.until_told("WATCHDOG=1");
    house
        .until_told(&format!("STATUS=connected to tcp://127.0.0.1:{} · 0 messages", broker.port()));
    publish(&broker, "home/a", &["twelve bytes".to_owned()], &[]);
    house.until_told("1 message (18 bytes) recorded, 0 waiting");
    broker.kill();
    house.until_told("STATUS=waiting for ");
    house.signal(Signal::SIGTERM);
    house.until_told("STOPPING=1");
    assert!(house.ended().success());
}

#[test]
fn a_reload_changes_what_is_recorded_and_a_mistake_changes_nothing() {
    for protocol in VERSIONS {
        let broker = Broker::start();
        let mut house = House::beside(&broker, protocol, "topics = \"home/#\"\n");
        house.start();
        house.until_subscribed(&["home/#"]);
        house.configure(&config(&broker, protocol, "topics = 3\n"));
        house.signal(Signal::SIGHUP);
        house.until_said("topics must be", 1);
        publish(&broker, "home/a", &numbers(0..1), &[]);
        house.until_recorded("home/a", &numbers(0..1));
        house.configure(&config(
            &broker,
            protocol,
            "topics = [\"garden/#\", \"home/b\"]\nexclude = \"garden/x\"\n",
        ));
        house.signal(Signal::SIGHUP);
        house.until_subscribed(&["garden/#", "home/b"]);
        for topic in ["home/a", "garden/x"] {
            publish(&broker, topic, &numbers(1..2), &[]);
        }
        publish(&broker, "garden/a", &numbers(0..1), &[]);
        house.until_recorded("garden/a", &numbers(0..1));
        house.until_recorded("home/a", &numbers(0..1));
        assert_eq!(house.recorded("garden/x").len(), 0);
        house.until_told("RELOADING=1");
    }
}

#[test]
fn two_recorders_do_not_share_a_directory_and_mistakes_have_an_exit_code() {
    let broker = Broker::start();
    let mut house = House::beside(&broker, "5", "");
    house.start();
    let mut second = House::beside(&broker, "5", "");
    second.store.clone_from(&house.store);
    second.launch();
    assert_eq!(second.ended().code(), Some(78));
    second.until_said("another iotmonitor-recorder is at work in", 1);
    second.configure("[recorder]\nkeep = 3\n");
    second.launch();
    assert_eq!(second.ended().code(), Some(78));
    second.until_said("the section [mqtt] is missing", 1);
}

/// The directory may be removed by a person who does not want the past any more.
#[test]
fn a_directory_that_is_removed_is_made_anew() {
    let broker = lasting_broker();
    let mut house = House::beside(&broker, "5", "flush = \"1s\"\n");
    house.start();
    house.until_subscribed(&["#"]);
    fs::remove_dir_all(&house.store).unwrap();
    publish(&broker, "home/a", &numbers(0..100), &[]);
    assert_eq!(house.ended().code(), Some(1), "systemd starts it again");
    house.start();
    house.until_recorded("home/a", &numbers(0..100));
}
