//! Silence: when a device expires, what is published and logged, and which silences raise none.

use super::for_both_protocols;
use super::harness::{Machine, config, unix_now};
use nix::sys::signal::Signal;
use std::time::Duration;

const LAMP: &str = "[device_lamp]\nwatchTimeOut = 3\nwatchTopics = \"home/lamp/#\"\n";
const EXPIRE: &str = "home/monitoring/expire/lamp";
const RECOVER: &str = "home/monitoring/recover/lamp";
const STATUS: &str = "home/monitoring/status/lamp";

/// How late an alarm may come on a busy machine; a poll each second or two would be later.
const LATENESS: Duration = Duration::from_millis(700);

/// How much earlier the monitor may have heard a message than our subscriber.
const HEAD_START: Duration = Duration::from_millis(300);

for_both_protocols!(
    silence_is_announced_once_and_on_time,
    a_device_that_was_never_seen_expires_with_zero,
    a_retained_replay_is_no_contact_but_a_live_retained_message_is,
    a_broker_restart_raises_no_false_alarm,
);

fn silence_is_announced_once_and_on_time(protocol: &str) {
    let machine = Machine::boot();
    let bus = machine.launch(&config(protocol, LAMP));
    machine.make_alive(&bus, "lamp", "home/lamp/warm-up");

    let from = bus.end();
    let before = unix_now();
    machine.publish("home/lamp/light", "on");
    let contact = bus.wait_exact(from, "home/lamp/light", "on");
    let after = unix_now();
    let expiry = bus.wait_topic(from, EXPIRE);

    let silence = expiry.at.duration_since(contact.at);
    let timeout = Duration::from_secs(3);
    assert!(silence + HEAD_START >= timeout && silence <= timeout + LATENESS, "{silence:?}");
    let last_contact: u64 = expiry.text().parse().expect("seconds in decimal");
    assert!((before..=after).contains(&last_contact), "{expiry:?}, sent in {before}..={after}");
    assert_eq!((expiry.qos, expiry.retain), (1, false));
    let expired = bus.wait_from(from, "the status `expired`", |message| {
        message.topic == STATUS && message.json()["state"] == "expired"
    });
    assert_eq!(expired.json()["lastContact"], last_contact);

    bus.let_seconds_pass(4);
    assert_eq!(bus.count(from, EXPIRE), 1, "expiry is announced once: {:#?}", bus.since(from));

    let back = unix_now();
    machine.publish("home/lamp/light", "off");
    let recovery = bus.wait_topic(from, RECOVER);
    let recovered: u64 = recovery.text().parse().expect("seconds in decimal");
    assert!((back..=unix_now()).contains(&recovered), "{recovery:?}");
    assert_eq!((recovery.qos, recovery.retain), (1, false));

    let journal = machine.journal();
    let alert = journal.wait_for_alert("expired", "lamp");
    assert_eq!(alert.field("PRIORITY"), "4");
    assert_eq!(alert.field("MESSAGE_ID").len(), 32);
    assert_eq!(journal.wait_for_alert("recovered", "lamp").field("PRIORITY"), "5");
    assert_eq!(journal.alerts(&machine, "expired", "lamp"), 1);
    let of_unit = ["journalctl", "-u", "iotmonitor", "-x", "IOTMONITOR_EVENT=expired"];
    let shown = machine.ok(&of_unit);
    assert!(shown.contains("lamp"), "{shown}");
    assert!(shown.contains("Subject: lamp"), "the journal catalog explains it: {shown}");
}

fn a_device_that_was_never_seen_expires_with_zero(protocol: &str) {
    let machine = Machine::boot();
    let sections = "[device_lamp]\nwatchTimeOut = 2\nwatchTopics = [\"home/lamp/#\"]\n\
         [device_patient]\nwatchTimeOut = 0\nwatchTopics = \"home/patient\"\n\
         [device_deaf]\nhelloTopic = \"home/deaf\"\n";
    let bus = machine.launch(&config(protocol, sections));
    assert_eq!(bus.wait_topic(0, EXPIRE).text(), "0");
    bus.let_seconds_pass(2);
    for quiet in ["patient", "deaf"] {
        assert_eq!(bus.count(0, &format!("home/monitoring/expire/{quiet}")), 0, "{quiet}");
    }
}

fn a_retained_replay_is_no_contact_but_a_live_retained_message_is(protocol: &str) {
    let machine = Machine::boot();
    machine.publish_retained("home/lamp/light", "long ago");
    let bus = machine.launch(&config(protocol, LAMP));
    assert_eq!(bus.wait_topic(0, EXPIRE).text(), "0", "the replay was taken for a contact");
    let before = unix_now();
    machine.publish_retained("home/lamp/light", "just now");
    let recovered: u64 = bus.wait_topic(0, RECOVER).text().parse().expect("seconds in decimal");
    assert!(recovered >= before);
}

fn a_broker_restart_raises_no_false_alarm(protocol: &str) {
    let machine = Machine::boot();
    let bus = machine.launch(&config(protocol, LAMP));
    machine.make_alive(&bus, "lamp", "home/lamp/light");
    // The subscriber comes back by itself, but perhaps after the alarm: a fresh one decides.
    drop(bus);
    machine.sh("systemctl stop mosquitto; sleep 5; systemctl start mosquitto");
    let bus = machine.subscribe(&["home/#"]);
    let first = bus.wait_topic(0, "home/monitoring/up");
    let expiry = bus.wait_topic(0, EXPIRE);
    let grace = expiry.at.duration_since(first.at);
    assert!(grace + HEAD_START >= Duration::from_secs(2), "expired {grace:?} after the outage");
    let expiries = bus.count(0, EXPIRE);
    assert_eq!(expiries, 1);
    machine.journal().wait_for_alert("broker-back", "");
    assert_eq!(machine.journal().alerts(&machine, "broker-lost", ""), 1);
    assert_eq!(machine.journal().alerts(&machine, "expired", "lamp"), 1);
}

#[test]
fn an_outage_longer_than_the_timeout_alarms_no_device_that_speaks_after_it() {
    let machine = Machine::boot();
    let sections = "[device_lamp]\nwatchTimeOut = 4\nwatchTopics = \"home/lamp/#\"\n";
    let bus = machine.launch(&config("auto", sections));
    machine.make_alive(&bus, "lamp", "home/lamp/light");
    drop(bus);
    machine.sh("systemctl stop mosquitto; sleep 6; systemctl start mosquitto");
    let bus = machine.subscribe(&["home/#"]);
    bus.wait_topic(0, "home/monitoring/up");
    machine.publish("home/lamp/light", "back");
    bus.let_seconds_pass(2);
    assert_eq!(bus.count(0, EXPIRE), 0);
    assert_eq!(machine.journal().alerts(&machine, "expired", "lamp"), 0);
}

#[test]
fn a_held_up_monitor_reads_first_and_judges_then() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", LAMP));
    machine.make_alive(&bus, "lamp", "home/lamp/light");
    let pid = machine.monitor_pid();
    machine.signal(Signal::SIGSTOP, pid);
    machine.sh("for i in 1 2 3 4 5 6; do sleep 1; mosquitto_pub -t home/lamp/light -m $i; done");
    machine.signal(Signal::SIGCONT, pid);
    bus.let_seconds_pass(1);
    machine.publish("home/lamp/light", "still here");
    bus.let_seconds_pass(1);
    assert_eq!(machine.journal().alerts(&machine, "expired", "lamp"), 0);
    assert_eq!(bus.count(0, EXPIRE), 0);
    assert_eq!(machine.monitor_pid(), pid);
}

#[test]
fn an_expiry_is_repeated_where_the_section_asks_for_it() {
    let machine = Machine::boot();
    let sections = "[device_lamp]\nwatchTimeOut = 1\nexpireRepeat = 1\nwatchTopics = \"home/l\"\n";
    let bus = machine.launch(&config("auto", sections));
    let mut from = 0;
    for _ in 0..3 {
        let expiry = bus.wait_topic(from, EXPIRE);
        assert_eq!(expiry.text(), "0");
        from = bus.end();
    }
    assert_eq!(machine.journal().alerts(&machine, "expired", "lamp"), 1);
    machine.publish("home/l", "here");
    bus.wait_topic(0, RECOVER);
}

#[test]
fn neither_own_messages_nor_the_brokers_are_contacts() {
    let machine = Machine::boot();
    let sections = "[device_lamp]\nwatchTimeOut = 3\nwatchTopics = \"#\"\n";
    machine.write_file("/etc/mosquitto/conf.d/sys.conf", "sys_interval 1\n");
    machine.sh("chmod 644 /etc/mosquitto/conf.d/sys.conf; systemctl restart mosquitto");
    let bus = machine.launch(&config("auto", sections));
    assert_eq!(bus.wait_topic(0, EXPIRE).text(), "0");
    assert!(bus.count(0, "home/monitoring/up") >= 2);
    machine.publish("anything/else", "counts");
    bus.wait_topic(0, RECOVER);
}

#[test]
fn a_restart_neither_alarms_again_nor_forgets() {
    let machine = Machine::boot();
    let sections = "[device_lamp]\nwatchTimeOut = 2\nwatchTopics = \"home/lamp/#\"\n\
         [device_seldom]\nwatchTimeOut = \"25h\"\nwatchTopics = \"home/seldom\"\n";
    let bus = machine.launch(&config("auto", sections));
    machine.make_alive(&bus, "seldom", "home/seldom");
    let expiry = bus.wait_topic(0, EXPIRE);
    let status = |device: &str| {
        let topic = format!("home/monitoring/status/{device}");
        machine.subscribe(&[&topic]).wait_topic(0, &topic).json()
    };
    let (lamp, seldom) = (status("lamp"), status("seldom"));
    assert_eq!((&lamp["state"], &seldom["state"]), (&"expired".into(), &"alive".into()));

    for restart in [Machine::restart_monitor, Machine::crash_monitor] {
        let from = bus.end();
        restart(&machine);
        bus.wait_exact(from, "home/monitoring/up", "1");
        bus.let_seconds_pass(3);
        assert_eq!(bus.count(from, EXPIRE), 0, "it had been said before: {expiry:?}");
        assert_eq!(status("lamp")["state"], "expired");
        assert_eq!(status("lamp")["since"], lamp["since"]);
        assert_eq!(status("seldom")["state"], "alive");
        assert_eq!(status("seldom")["lastContact"], seldom["lastContact"]);
    }
    assert_eq!(machine.journal().alerts(&machine, "expired", "lamp"), 1);
    machine.publish("home/lamp/light", "back");
    bus.wait_topic(0, RECOVER);
}
