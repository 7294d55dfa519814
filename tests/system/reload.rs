//! `systemctl reload`: what did not change goes on as if nothing had happened.

use super::for_both_protocols;
use super::harness::{Machine, config, eventually};
use std::time::Duration;

const LAMP: &str = "[device_lamp]\nwatchTimeOut = 6\nhelloTopic = \"home/lamp\"\n\
    watchTopics = \"home/lamp/sensors/#\"\nstateTopics = \"home/lamp/set/#\"\n";
const KEEP: &str = "[agent_keep]\nexec = \"exec sleep infinity\"\n";

for_both_protocols!(a_good_file_takes_effect_and_leaves_the_rest_alone);

fn a_good_file_takes_effect_and_leaves_the_rest_alone(protocol: &str) {
    let machine = Machine::boot();
    let before = format!(
        "{LAMP}{KEEP}[device_leave]\nwatchTopics = \"home/leave\"\n\
         [agent_change]\nexec = \"exec sleep 1000\"\n[agent_gone]\nexec = \"exec sleep infinity\"\n"
    );
    let after = format!(
        "[device_new]\nwatchTimeOut = 1\nwatchTopics = \"home/new\"\n{LAMP}{KEEP}\
         [agent_change]\nexec = \"exec sleep 2000\"\n"
    );
    let bus = machine.launch(&config(protocol, &before));
    for agent in ["keep", "change", "gone"] {
        bus.wait_topic(0, &format!("home/monitoring/startedprocess/{agent}"));
    }
    let pid_of = |agent: &str| machine.main_pid(&format!("iotmonitor-agent-{agent}.service"));
    let (monitor, keep, change) = (machine.monitor_pid(), pid_of("keep"), pid_of("change"));
    bus.wait_topic(0, "home/monitoring/status/leave");
    machine.make_alive(&bus, "lamp", "home/lamp/sensors/light");

    let from = bus.end();
    machine.publish("home/lamp/sensors/light", "last word");
    let contact = bus.wait_exact(from, "home/lamp/sensors/light", "last word");
    bus.let_seconds_pass(3);
    machine.write_config(&config(protocol, &after));
    let output = machine.reload_monitor();
    assert!(output.status.success(), "{output:?}");

    let expiry = bus.wait_topic(from, "home/monitoring/expire/lamp");
    let silence = expiry.at.duration_since(contact.at);
    assert!(silence < Duration::from_millis(7500), "the deadline was moved: {silence:?}");
    bus.wait_topic(from, "home/monitoring/expire/new");
    machine.await_new_main_pid("iotmonitor-agent-change.service", change);
    eventually("the agent that left to be stopped", || (pid_of("gone") == 0).then_some(()));
    assert_eq!((machine.monitor_pid(), pid_of("keep")), (monitor, keep));
    for left in ["leave", "gone"] {
        bus.wait_exact(from, &format!("home/monitoring/status/{left}"), "");
    }
    let replay = machine.subscribe(&["home/monitoring/status/#"]);
    replay.wait_topic(0, "home/monitoring/status/new");
    replay.wait_topic(0, "home/monitoring/status/lamp");
    assert_eq!(replay.count(0, "home/monitoring/status/leave"), 0);
    assert_eq!(bus.count(from, "home/monitoring/availability"), 0, "the session was kept");
    machine.journal().wait_for_alert("reloaded", "");
}

#[test]
fn a_broken_file_fails_and_changes_nothing() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", &format!("{LAMP}{KEEP}")));
    bus.wait_topic(0, "home/monitoring/startedprocess/keep");
    let pids = || (machine.monitor_pid(), machine.main_pid("iotmonitor-agent-keep.service"));
    let before = pids();
    machine.write_config(&config(
        "auto",
        "[device_lamp]\nwatchTimeout = 5\nwatchTopics = \"home/lamp/#/x\"\n",
    ));
    assert!(!machine.reload_monitor().status.success());
    let journal = machine.journal();
    journal.wait_for_alert("reload-failed", "");
    journal.wait_for("the first error", |entry| entry.message().contains("watchTimeOut"));
    journal.wait_for("the second error", |entry| entry.message().contains("home/lamp/#/x"));
    assert_eq!(pids(), before);
    assert!(machine.is_active("iotmonitor.service"));
    bus.wait_topic(0, "home/monitoring/expire/lamp");

    machine.write_config(&config("auto", KEEP));
    assert!(machine.reload_monitor().status.success());
    bus.wait_exact(0, "home/monitoring/status/lamp", "");
    assert_eq!(pids(), before);
}

#[test]
fn filters_that_left_are_unsubscribed_from_the_persistent_session() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", LAMP));
    machine.await_recording(&bus, "home/lamp/set/color", "home/lamp");
    machine.stop_monitor();
    // The filter is gone while the monitor is away, and comes back: what was said in between
    // was lost.
    let other = LAMP.replace("home/lamp/set/#", "home/lamp/other");
    machine.write_config(&config("auto", &other));
    let from = bus.end();
    machine.start_monitor();
    bus.wait_exact(from, "home/monitoring/availability", "online");
    machine.await_recording(&bus, "home/lamp/other", "home/lamp");
    machine.publish("home/lamp/set/color", "unheard");
    machine.write_config(&config("auto", LAMP));
    assert!(machine.reload_monitor().status.success());
    machine.await_recording(&bus, "home/lamp/set/level", "home/lamp");
    let from = bus.end();
    machine.publish("home/lamp", "hello");
    bus.wait_topic(from, "home/lamp/set/level");
    bus.let_seconds_pass(2);
    let heard = bus.since(from).into_iter().any(|m| m.is("home/lamp/set/color", "unheard"));
    assert!(!heard, "the session was still subscribed");
}
