//! The monitor has too few file descriptors, from its start on or from one moment on: it says so
//! and does what it can, or ends and is restarted. It never panics, and is well when it has enough.

use crate::effort::Effort;
use crate::harness::{Machine, Subscriber, config, eventually, eventually_within};
use crate::row::Row;
use std::time::Duration;

const MONITOR: &str = "iotmonitor.service";
const DROP_IN: &str = "/etc/systemd/system/iotmonitor.service.d/limit.conf";

const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 1\nhelloTopic = \"home/lamp\"\n\
    watchTopics = \"home/lamp/sensors/#\"\nstateTopics = \"home/lamp/set/#\"\n\
    [agent_sleeper]\nexec = \"exec sleep infinity\"\n";

/// Fewer than the first systemd itself cannot start a process with; with the last all is well.
const LIMITS: std::ops::RangeInclusive<u32> = 6..=26;

pub fn run_out(effort: &Effort) -> Row {
    let mut row = Row::new("without file descriptors the monitor says so, and does not panic");
    row.lost = Some(0);
    let machine = Machine::boot();
    machine.write_config(&config("auto", SECTIONS));
    let bus = machine.subscribe(&["home/#"]);
    let step = effort.either(3, 1);
    for limit in LIMITS.step_by(step) {
        start_with(&machine, &bus, limit, &mut row);
    }
    machine.ok(&["rm", DROP_IN]);
    machine.sh("systemctl daemon-reload; systemctl restart iotmonitor");
    let state = machine.await_recording(&bus, "home/lamp/set/colour", "home/lamp");
    let mut rounds = 0;
    while effort.goes_on(rounds, 1) {
        rounds += 1;
        run_out_while_running(&machine, &bus, &mut row);
    }
    let from = bus.end();
    machine.publish("home/lamp", "hello");
    let restored = bus.within(from, Duration::from_secs(10), |message| {
        message.is("home/lamp/set/colour", &state)
    });
    row.lost = Some(usize::from(restored.is_none()));
    let panics = machine.journal().now(&machine, |entry| entry.message().contains("panicked"));
    row.broken.extend(panics.iter().map(|entry| entry.message().to_owned()));
    row
}

/// What the monitor may say of too few descriptors.
const COMPLAINTS: [&str; 4] = ["broker-lost", "manager-lost", "store-failed", "start-failed"];

/// A start with so many descriptors ends in one of three ways: it complains and goes on, it
/// complains and ends, or it has enough.
fn start_with(machine: &Machine, bus: &Subscriber, limit: u32, row: &mut Row) {
    let from = bus.end();
    let before: Vec<usize> = complaints(machine);
    machine.write_file(DROP_IN, &format!("[Service]\nLimitNOFILE={limit}\n"));
    machine.sh("systemctl daemon-reload; systemctl stop iotmonitor
         systemctl start --no-block iotmonitor");
    let outcome = eventually_within(Duration::from_secs(30), "an outcome of the start", || {
        if complaints(machine) != before {
            return Some("complaint");
        }
        let works = bus.since(from).iter().any(|message| message.is("home/monitoring/up", "3"));
        works.then_some("enough")
    });
    row.faults += 1;
    if outcome == "complaint" {
        // Either it runs or systemd tries again: nothing rests.
        let state = machine.property(MONITOR, "ActiveState");
        let rests = matches!(state.as_str(), "failed" | "inactive");
        row.expect(!rests, || format!("with {limit} descriptors it stays {state}"));
    }
}

fn complaints(machine: &Machine) -> Vec<usize> {
    COMPLAINTS.iter().map(|event| machine.journal().alerts(machine, event, "")).collect()
}

/// No descriptor more is to be had while broker and bus come and go.
fn run_out_while_running(machine: &Machine, bus: &Subscriber, row: &mut Row) {
    let agent = machine.await_new_main_pid("iotmonitor-agent-sleeper.service", 0);
    let pid = machine.monitor_pid();
    let alerts = |event: &str| machine.journal().alerts(machine, event, "");
    let lost = alerts("broker-lost");
    machine.ok(&["prlimit", "--pid", &pid.to_string(), "--nofile=3:"]);
    machine.ok(&["systemctl", "restart", "mosquitto.service", "dbus.service"]);
    let reported = || (alerts("broker-lost") > lost).then_some(());
    eventually("the loss of the broker to be reported", reported);
    machine.ok(&["systemctl", "stop", "iotmonitor-agent-sleeper.service"]);
    machine.ok(&["prlimit", "--pid", &pid.to_string(), "--nofile=1024:"]);
    let from = bus.end();
    eventually_within(Duration::from_secs(60), "the monitor to be well", || {
        machine.publish("home/lamp/sensors/light", "here");
        bus.within(from, Duration::from_secs(2), |message| {
            message.topic == "home/monitoring/expire/lamp"
        })
    });
    machine.await_new_main_pid("iotmonitor-agent-sleeper.service", agent);
    row.expect(machine.monitor_pid() == pid, || "it did not survive".to_owned());
    row.faults += 1;
}
