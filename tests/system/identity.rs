//! A changed clientid, baseTopic or broker, and what was left under the former one.

use super::for_both_protocols;
use super::harness::{GARDEN, Machine, Subscriber, eventually};
use std::io::{Read as _, Write as _};
use std::time::Duration;

const SECTIONS: &str = "[homeassistant]\ndiscovery = true\n\
    [device_lamp]\nhelloTopic = \"home/lamp\"\nstateTopics = \"home/lamp/set/#\"\n\
    [agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const BEFORE: &str = "iotmonitor-agent-sleeper.service";
const AFTER: &str = "iotmonitor-attic-agent-sleeper.service";

/// A look at the former identity takes ten seconds by design.
const TAKEDOWN: Duration = Duration::from_secs(60);

fn config(names: &str) -> String {
    format!("[mqtt]\nserverAddress = \"tcp://localhost:1883\"\n{names}\n{SECTIONS}")
}

/// Topics that hold a retained message.
fn retained(machine: &Machine) -> Vec<String> {
    let listed = machine.sh("mosquitto_sub -t '#' --retained-only -F %t -W 1 2>/dev/null || true");
    listed.lines().map(str::to_owned).collect()
}

/// Whether the broker keeps a session for this client, which has it resumed (MQTT 3.1.1, 3.2.2.2).
fn has_session(machine: &Machine, client_id: &str) -> bool {
    let mut stream = machine.connect(1883).expect("the broker listens");
    let length = u8::try_from(client_id.len()).expect("it is short");
    let connect = [0x10, 12 + length, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0, 0, length];
    stream.write_all(&[&connect, client_id.as_bytes()].concat()).expect("the broker reads");
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("the broker answers");
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
    connack[2] & 1 == 1
}

fn sleepers(machine: &Machine) -> String {
    machine.sh("pgrep -fxc 'sleep infinity' || true")
}

fn await_taken_down(machine: &Machine) {
    machine.journal().wait_for_within("the end of the takedown", TAKEDOWN, |entry| {
        entry.is_alert("identity-changed", "") && entry.message().contains("has been taken down")
    });
}

fn launched(machine: &Machine, config: &str) -> Subscriber {
    let bus = machine.launch(config);
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    let described = machine.subscribe(&["homeassistant/#"]);
    described.wait_topic(0, "homeassistant/device/iotmonitor/lamp/config");
    bus
}

for_both_protocols!(a_changed_clientid_and_base_topic_leave_nothing_behind);

fn a_changed_clientid_and_base_topic_leave_nothing_behind(protocol: &str) {
    let machine = Machine::boot();
    let names = |names: &str| config(&format!("protocol = \"{protocol}\"\n{names}"));
    let bus = launched(&machine, &names(""));
    let mut before = retained(&machine);
    before.retain(|topic| topic.starts_with("home/monitoring/") || topic.contains("/iotmonitor/"));
    assert_eq!(before.len(), 5, "{before:?}");
    machine.await_recording(&bus, "home/lamp/set/colour", "home/lamp");

    // What is set while no monitor records is kept by the broker under the former clientid.
    machine.stop_monitor();
    machine.publish("home/lamp/set/colour", "kept for the former session");
    let haus = machine.subscribe(&["haus/#", "home/lamp/#"]);
    machine.write_config(&names("clientid = \"attic\"\nbaseTopic = \"haus/mon\""));
    machine.start_monitor();
    haus.wait_topic(0, "haus/mon/startedprocess/sleeper");
    assert_eq!(sleepers(&machine), "1");
    assert_eq!(machine.main_pid(BEFORE), 0);
    assert_ne!(machine.main_pid(AFTER), 0);

    haus.wait_from(0, "the state that the former session held", |message| {
        message.is("home/lamp/set/colour", "kept for the former session")
    });
    await_taken_down(&machine);
    let after = retained(&machine);
    assert!(after.iter().all(|topic| !before.contains(topic)), "{after:?}");
    assert!(after.contains(&"haus/mon/status/lamp".to_owned()), "{after:?}");
    let said =
        machine.ok(&["iotmonitor", "states", "get", "--clientid", "attic", "home/lamp/set/colour"]);
    assert_eq!(said, "kept for the former session");
    // It is done once.
    let from = haus.end();
    machine.restart_monitor();
    haus.wait_exact(from, "haus/mon/availability", "online");
    let changes = machine.journal().alerts(&machine, "identity-changed", "");
    assert_eq!(changes, 2, "one at the start, one at the end");

    machine.stop_monitor();
    assert!(has_session(&machine, "attic-states"));
    assert!(!has_session(&machine, "iotmonitor-states"));
}

/// What was begun is brought to its end by a later start.
#[test]
fn a_crash_in_the_middle_has_it_done_at_the_next_start() {
    let machine = Machine::boot();
    launched(&machine, &config(""));
    machine.write_config(&config("clientid = \"attic\"\nbaseTopic = \"haus/mon\""));
    let haus = machine.subscribe(&["haus/#"]);
    machine.restart_monitor();
    haus.wait_topic(0, "haus/mon/startedprocess/sleeper");
    let sleeper = machine.main_pid(AFTER);
    machine.crash_monitor();
    await_taken_down(&machine);
    assert_eq!(machine.main_pid(AFTER), sleeper);
    let after = retained(&machine);
    assert!(after.iter().all(|topic| !topic.starts_with("home/monitoring/")), "{after:?}");
}

/// An instance that had the main monitor's names by mistake, and is given its own.
#[test]
fn what_another_monitor_goes_by_now_is_left_to_it() {
    let machine = Machine::boot();
    let names = "clientid = \"attic\"\nbaseTopic = \"haus/mon\"";
    machine.write_file("/etc/iotmonitor/garden.toml", &config(names));
    let haus = machine.subscribe(&["haus/#"]);
    machine.ok(&["systemctl", "start", GARDEN]);
    haus.wait_topic(0, "haus/mon/startedprocess/sleeper");
    machine.ok(&["systemctl", "stop", GARDEN]);
    haus.wait_exact(0, "haus/mon/availability", "offline");
    let from = haus.end();
    machine.write_config(&config(names));
    machine.start_monitor();
    haus.wait_exact(from, "haus/mon/availability", "online");
    let sleeper = machine.await_new_main_pid(AFTER, 0);

    machine.write_file("/etc/iotmonitor/garden.toml", &config(""));
    let garden = machine.subscribe(&["home/monitoring-garden/#"]);
    machine.ok(&["systemctl", "start", GARDEN]);
    garden.wait_topic(0, "home/monitoring-garden/startedprocess/sleeper");
    machine.journal().wait_for_alert("left-behind", "");
    assert_eq!(machine.main_pid(AFTER), sleeper);
    assert_eq!(haus.count(from, "haus/mon/availability"), 1);
    assert!(retained(&machine).contains(&"haus/mon/status/sleeper".to_owned()));
}

/// MQTT does not show whether it is: it is given the time to come back, and nothing is taken from it.
#[test]
fn a_client_that_is_connected_under_the_former_clientid_keeps_its_session() {
    let machine = Machine::boot();
    launched(&machine, &config(""));
    machine.stop_monitor();
    let live = machine.subscribe_with(&["-c", "-i", "iotmonitor-states"], &["other/#"]);
    machine.write_config(&config("clientid = \"attic\""));
    machine.start_monitor();
    machine.journal().wait_for_within("what is left to it", TAKEDOWN, |entry| {
        entry.is_alert("left-behind", "") && entry.message().contains("takes the connection away")
    });
    eventually("the client to be back", || {
        machine.publish("other/x", "heard");
        live.within(0, Duration::from_millis(500), |message| message.is("other/x", "heard"))
    });
    // It would have been taken down by now, had it been unused.
    let done = machine.journal().now(&machine, |entry| entry.message().contains("been taken down"));
    assert_eq!(done.len(), 0);
    drop(live);
    assert!(has_session(&machine, "iotmonitor-states"));
}

#[test]
fn what_is_left_on_a_former_broker_is_named_once() {
    let machine = Machine::boot();
    machine.sh("printf 'listener 1884\\nallow_anonymous true\\n' > /etc/mosquitto/second.conf; \
         systemd-run --unit=second mosquitto -c /etc/mosquitto/second.conf");
    launched(&machine, &config(""));
    machine.write_config(&config("").replace("1883", "1884"));
    for _ in 0..2 {
        machine.restart_monitor();
        machine.journal().wait_for("the second broker", |entry| {
            entry.is_alert("broker-back", "") || entry.is_alert("started", "")
        });
    }
    let left = machine.journal().wait_for_alert("left-behind", "");
    for word in ["tcp://localhost:1883", "tcp://localhost:1884", "home/monitoring/status"] {
        assert!(left.message().contains(word), "{}", left.message());
    }
    assert_eq!(machine.journal().alerts(&machine, "left-behind", ""), 1);
    eventually("the former broker to keep what it has", || {
        retained(&machine).contains(&"home/monitoring/status/lamp".to_owned()).then_some(())
    });
}
