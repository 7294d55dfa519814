//! The monitor's own signs of life: `up`, `availability`, `status`, the service's status line.

use super::for_both_protocols;
use super::harness::{Machine, config, eventually, unix_now};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

const UP: &str = "home/monitoring/up";
const AVAILABILITY: &str = "home/monitoring/availability";
const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 60\nwatchTopics = \"home/lamp/#\"\n\
    [agent_sleeper]\nexec = \"exec sleep infinity\"\n";

/// A unit that boots with the system stays loaded, and with it what systemd knows of its end.
fn keep_loaded(machine: &Machine) {
    machine.ok(&["systemctl", "enable", "iotmonitor"]);
}

fn assert_exited_with_zero(machine: &Machine) {
    let property = |name| machine.property("iotmonitor", name);
    let end = (property("Result"), property("ExecMainCode"), property("ExecMainStatus"));
    // CLD_EXITED is 1 (siginfo_t, sigaction(2)).
    assert_eq!(end, ("success".to_owned(), "1".to_owned(), "0".to_owned()));
}

for_both_protocols!(
    up_counts_the_seconds_from_one_at_each_start,
    a_stop_says_offline_and_a_crash_has_it_said,
    the_status_of_each_device_is_retained,
);

fn up_counts_the_seconds_from_one_at_each_start(protocol: &str) {
    let machine = Machine::boot();
    let bus = machine.launch(&config(protocol, SECTIONS));
    bus.wait_exact(0, UP, "6");
    let ups: Vec<_> = bus.all().into_iter().filter(|message| message.topic == UP).collect();
    let counts: Vec<_> = ups.iter().map(super::harness::Message::text).collect();
    assert_eq!(counts, ["1", "2", "3", "4", "5", "6"]);
    assert!(ups.iter().all(|up| up.qos == 0 && !up.retain), "{ups:?}");
    let five = ups[5].at.duration_since(ups[0].at);
    assert!(five > Duration::from_millis(4500) && five < Duration::from_millis(5700), "{five:?}");

    let from = bus.end();
    machine.restart_monitor();
    let first = bus.wait_from(from, "`up` after the restart", |message| {
        message.topic == UP && message.text().parse::<u64>().is_ok_and(|count| count < 6)
    });
    assert_eq!(first.text(), "1");
    let late = machine.subscribe(&[UP]);
    assert!(!late.wait_topic(0, UP).retain);
}

fn a_stop_says_offline_and_a_crash_has_it_said(protocol: &str) {
    let machine = Machine::boot();
    keep_loaded(&machine);
    let bus = machine.launch(&config(protocol, SECTIONS));
    let retained = || machine.subscribe(&[AVAILABILITY]).wait_topic(0, AVAILABILITY);
    assert_eq!((retained().text(), retained().retain), ("online".to_owned(), true));

    let from = bus.end();
    machine.crash_monitor();
    bus.wait_exact(from, AVAILABILITY, "offline");
    bus.wait_exact(from, AVAILABILITY, "online");
    eventually("`online` to be retained", || (retained().text() == "online").then_some(()));

    let from = bus.end();
    let start = Instant::now();
    machine.stop_monitor();
    let duration = start.elapsed();
    assert!(duration < Duration::from_secs(3), "the stop took {duration:?}");
    bus.wait_exact(from, AVAILABILITY, "offline");
    assert_eq!((retained().text(), retained().retain), ("offline".to_owned(), true));
    assert_exited_with_zero(&machine);
    assert_eq!(bus.count(from, AVAILABILITY), 1, "the will is not sent beside the goodbye");
}

fn the_status_of_each_device_is_retained(protocol: &str) {
    let machine = Machine::boot();
    let start = unix_now();
    let bus = machine.launch(&config(protocol, SECTIONS));
    let lamp = "home/monitoring/status/lamp";
    let unknown = bus.wait_topic(0, lamp).json();
    assert_eq!((&unknown["name"], &unknown["state"]), (&"lamp".into(), &"unknown".into()));
    assert_eq!(unknown["kind"], "device");
    assert_eq!(unknown["watchTimeOut"].as_f64(), Some(60.0));
    assert!(unknown["lastContact"].is_null() || unknown["lastContact"] == 0, "{unknown}");
    machine.make_alive(&bus, "lamp", "home/lamp/light");

    let alive = machine.subscribe(&[lamp]).wait_topic(0, lamp);
    assert!(alive.retain);
    assert_eq!(alive.json()["state"], "alive");
    for time in ["since", "lastContact"] {
        let value = alive.json()[time].as_u64().expect("seconds");
        assert!((start..=unix_now()).contains(&value), "{time} in {alive:?}");
    }
    let agent = "home/monitoring/status/sleeper";
    let status = bus.wait_from(0, "the agent's status with its unit", |message| {
        message.topic == agent && message.text().contains("iotmonitor-agent-sleeper.service")
    });
    assert_eq!(status.json()["kind"], "agent");
}

#[test]
fn systemctl_status_shows_one_live_line() {
    let machine = Machine::boot();
    let sections = format!(
        "{SECTIONS}[agent_second]\nexec = \"exec sleep infinity\"\n\
         [device_dead]\nwatchTimeOut = 1\nwatchTopics = \"dead\"\n"
    );
    let _bus = machine.launch(&config("auto", &sections));
    let line = "connected to tcp://localhost:1883 · 2 devices, 1 expired · 2 agents, 2 running";
    eventually(line, || (machine.property("iotmonitor", "StatusText") == line).then_some(()));
}

#[test]
fn sigterm_ends_in_two_seconds_without_a_broker_too() {
    let machine = Machine::boot();
    keep_loaded(&machine);
    let _bus = machine.launch(&config("auto", SECTIONS));
    machine.signal(Signal::SIGSTOP, machine.main_pid("mosquitto.service"));
    let start = Instant::now();
    machine.stop_monitor();
    let duration = start.elapsed();
    assert!(duration < Duration::from_secs(3), "the stop took {duration:?}");
    assert_exited_with_zero(&machine);
}
