//! What the monitor showed before a restart it shows after it: alerts, flapping and counters.

use super::harness::{Machine, config, eventually};
use serde_json::Value;

const HOUSE: &str = "[device_lamp]\nwatchTimeOut = 1\nwatchTopics = \"home/lamp\"\n\
    [agent_pump]\nexec = \"exec sleep infinity\"\n";
const PUMP: &str = "iotmonitor-agent-pump.service";

fn alerts(machine: &Machine) -> Vec<Value> {
    let said = machine.ok(&["iotmonitor", "alerts", "--json"]);
    serde_json::from_str::<Vec<Value>>(&said).unwrap()
}

/// The alerts of one kind, oldest first.
fn of(machine: &Machine, event: &str) -> Vec<Value> {
    let mut found = alerts(machine);
    found.retain(|alert| alert["event"] == event);
    found.reverse();
    found
}

fn restarts(machine: &Machine) -> u64 {
    let said = machine.ok(&["iotmonitor", "status", "pump", "--json"]);
    serde_json::from_str::<Value>(&said).unwrap()["agent"]["restarts"].as_u64().unwrap()
}

#[test]
fn alerts_flapping_and_restarts_go_on_over_a_restart_and_a_crash() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", HOUSE));
    let fall_silent = |times: usize| {
        for _ in 0..times {
            let from = bus.end();
            machine.make_alive(&bus, "lamp", "home/lamp");
            bus.wait_topic(from, "home/monitoring/expire/lamp");
        }
    };
    let pid = machine.main_pid(PUMP);
    machine.signal(nix::sys::signal::Signal::SIGKILL, pid);
    machine.await_new_main_pid(PUMP, pid);
    eventually("the restart of the agent to be counted", || {
        (restarts(&machine) == 1).then_some(())
    });
    // It has never been heard, which is the first alarm.
    eventually("an alert", || (of(&machine, "expired").len() == 1).then_some(()));
    fall_silent(2);
    eventually("three alerts", || (of(&machine, "expired").len() == 3).then_some(()));
    let before = of(&machine, "expired");
    let first = before[0]["id"].as_u64().unwrap().to_string();
    machine.ok(&["iotmonitor", "acknowledge", &first]);

    machine.restart_monitor();
    eventually("the alerts of before", || (of(&machine, "expired").len() >= 3).then_some(()));
    let after = of(&machine, "expired");
    assert_eq!(after[1..3], before[1..3]);
    assert!(after[0]["acknowledged"].is_u64(), "{after:?}");
    assert_eq!(of(&machine, "stopped").len(), 1);
    assert_eq!(restarts(&machine), 1);

    // Two more are five within half an hour.
    fall_silent(2);
    machine.journal().wait_for_alert("flapping", "lamp");
    eventually("the alert to be recorded", || (of(&machine, "flapping").len() == 1).then_some(()));
    let warnings = |machine: &Machine| {
        machine.ok(&["iotmonitor", "alerts", "lamp", "--priority", "warning", "--json"])
    };
    let before = warnings(&machine);
    // What is a second old outlives a crash.
    bus.let_seconds_pass(1);
    machine.crash_monitor();
    eventually("the alerts of before the crash", || (warnings(&machine) == before).then_some(()));
    eventually("the device to flap on", || {
        let said = machine.ok(&["iotmonitor", "status", "lamp"]);
        said.contains("(flapping)").then_some(())
    });
    fall_silent(2);
    assert_eq!(of(&machine, "flapping").len(), 1, "it does not begin twice");
    assert_eq!(of(&machine, "expired").len(), 4);
    assert_eq!(restarts(&machine), 1);
}
