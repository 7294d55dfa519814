//! A small board: its card is mounted read-only, and it starts with neither network nor clock.

use super::harness::{Machine, config, eventually, unix_now};
use std::process::Command;

const LAMP: &str = "[device_lamp]\nwatchTimeOut = 3\nwatchTopics = \"home/lamp/sensors/#\"\n\
    stateTopics = \"home/lamp/set\"\nhelloTopic = \"home/lamp/hello\"\n";
const SLEEPER: &str = "[agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const UNIT: &str = "iotmonitor-agent-sleeper.service";

#[test]
fn a_read_only_root_needs_no_more_than_a_place_for_the_states() {
    let machine = Machine::boot();
    machine.write_config(&config("auto", &format!("{LAMP}{SLEEPER}")));
    machine.sh("mkdir -p /var/lib/iotmonitor; mount -t tmpfs tmpfs /var/lib/iotmonitor; \
         mount -o remount,bind,ro /");
    assert!(!machine.run(&["touch", "/root/file"]).status.success(), "the root is read-only");
    let bus = machine.subscribe(&["home/#"]);
    machine.start_monitor();
    bus.wait_exact(0, "home/monitoring/availability", "online");
    machine.await_new_main_pid(UNIT, 0);
    let state = machine.await_recording(&bus, "home/lamp/set", "home/lamp/hello");
    // Its last word was the hello.
    bus.wait_topic(0, "home/monitoring/expire/lamp");
    let from = bus.end();
    machine.restart_monitor();
    bus.wait_exact(from, "home/lamp/set", &state);
    for kind in ["store-failed", "history-failed", "config-warning"] {
        assert_eq!(machine.journal().alerts(&machine, kind, ""), 0, "{kind}");
    }
}

/// The session that the broker keeps has nothing left to deliver.
#[test]
fn what_waits_for_its_commit_is_acknowledged_at_a_stop() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("5", LAMP));
    machine.await_recording(&bus, "home/lamp/set", "home/lamp/hello");
    // The end of the stream after which commits wait.
    bus.let_seconds_pass(2);
    machine.publish("home/lamp/set", "the last one");
    machine.stop_monitor();
    let left = machine.run(&[
        "mosquitto_sub",
        "-V",
        "5",
        "-i",
        "iotmonitor-states",
        "-c",
        "-x",
        "60",
        "-q",
        "1",
        "-W",
        "3",
        "-t",
        "home/nothing",
    ]);
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert!(!left.contains("the last one"), "{left}");
    machine.start_monitor();
    eventually("the state in the store", || {
        machine.ok(&["iotmonitor", "states", "list"]).contains("the last one").then_some(())
    });
}

#[test]
fn a_state_that_a_kill_overtakes_comes_again() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", LAMP));
    machine.await_recording(&bus, "home/lamp/set", "home/lamp/hello");
    for number in 0..3 {
        bus.let_seconds_pass(2);
        let state = format!("before the kill {number}");
        machine.publish("home/lamp/set", &state);
        machine.crash_monitor();
        eventually("the state in the store", || {
            machine.ok(&["iotmonitor", "states", "list"]).contains(&state).then_some(())
        });
    }
}

/// What the page shows is done without apt, and with less patience.
#[test]
fn the_commands_for_a_fresh_system_end_with_a_ringing_phone() {
    let page = include_str!("../../docs/raspberry-pi.md");
    let commands = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    let commands: Vec<&str> = commands.expect("the page has commands").lines().collect();
    assert_eq!(commands.len(), 10);
    let machine = Machine::boot();
    machine.write_file("/etc/iotmonitor/config.toml", include_str!("../../config.toml"));
    let notify = include_str!("../../packaging/etc/notify.conf");
    machine.write_file("/etc/iotmonitor/notify.conf", notify);
    // It takes what the program of the package takes, and keeps the address and the text.
    machine.write_file(
        "/usr/bin/apprise",
        "#!/bin/sh\nfor word; do case $word in --config=*) cat \"${word#*=}\";; esac; done\ncat\n",
    );
    machine.ok(&["chmod", "755", "/usr/bin/apprise"]);
    machine.sh("systemd-run --quiet --unit=talker -p Restart=always bash -c \
         'while sleep 0.3; do echo 21; done | mosquitto_pub -l -t tele/plug1/STATE'");
    let script: Vec<String> = commands
        .iter()
        .filter(|command| !command.starts_with("apt "))
        .map(|command| command.replace("15min", "8s"))
        .collect();
    assert_eq!(script.len(), 8, "all but the two of apt");
    machine.sh(&format!("cd /root\n{}", script.join("\n")));
    let bus = machine.subscribe(&["home/monitoring/#"]);
    bus.wait_from(0, "the device to be alive", |message| {
        message.topic == "home/monitoring/status/plug1" && message.json()["state"] == "alive"
    });
    machine.journal().wait_for("the address on the phone", |entry| {
        entry.field("_SYSTEMD_UNIT").starts_with("iotmonitor-notify@")
            && entry.message().contains("ntfy://ntfy.sh/YOUR-TOPIC")
    });
}

/// Shows a wall clock that starts in 1970, as that of a board without a battery, until a file says that
/// it has been set.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *time)
{
    int result = syscall(SYS_clock_gettime, id, time);
    if (id == CLOCK_REALTIME && access("/run/clock-is-set", F_OK) != 0)
        time->tv_sec -= NOW;
    return result;
}
"#;

/// Gives the service that clock.
fn take_the_clock(machine: &Machine) {
    let directory = tempfile::tempdir().expect("there is room");
    let (source, library) = (directory.path().join("clock.c"), directory.path().join("clock.so"));
    std::fs::write(&source, CLOCK).expect("there is room");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O", &format!("-DNOW={}L", unix_now()), "-o"])
        .args([&library, &source])
        .status();
    assert!(compiled.is_ok_and(|status| status.success()), "cc makes a library");
    machine.write_file("/usr/lib/clock.so", &std::fs::read(library).expect("it was made"));
    machine.write_file(
        "/etc/systemd/system/iotmonitor.service.d/clock.conf",
        "[Service]\nEnvironment=LD_PRELOAD=/usr/lib/clock.so\n",
    );
    machine.ok(&["systemctl", "daemon-reload"]);
}

#[test]
fn a_start_with_neither_network_nor_clock_ends_well_when_both_appear() {
    let machine = Machine::boot();
    take_the_clock(&machine);
    let text = config("auto", &format!("{LAMP}{SLEEPER}"));
    machine.write_config(&text.replace("localhost", "broker.home"));
    let began = unix_now();
    machine.start_monitor();
    machine.await_new_main_pid(UNIT, 0);
    let lost = machine.journal().wait_for_alert("broker-lost", "");
    assert!(lost.message().contains("broker.home"), "{}", lost.message());
    let shown = machine.ok(&["iotmonitor", "status", "--json"]);
    assert!(shown.contains("\"lamp\""), "{shown}");

    // The clock first, while the name of the broker is still unknown, and then the network.
    machine.ok(&["touch", "/run/clock-is-set"]);
    machine.sh("echo 127.0.0.1 broker.home >> /etc/hosts");
    let bus = machine.subscribe(&["home/#"]);
    bus.wait_exact(0, "home/monitoring/availability", "online");
    let state = machine.await_recording(&bus, "home/lamp/set", "home/lamp/hello");
    // Its last word was the hello. Before, it may have been reported as never heard.
    let expired = bus.wait_from(0, "the silence", |message| {
        message.topic == "home/monitoring/expire/lamp" && message.text() != "0"
    });
    let heard: u64 = expired.text().parse().expect("seconds since 1970");
    assert!((began..=unix_now()).contains(&heard), "{heard}");
    eventually("the state in the store", || {
        machine.ok(&["iotmonitor", "states", "list"]).contains(&state).then_some(())
    });
    assert_eq!(machine.journal().alerts(&machine, "broker-lost", ""), 1, "once for both");
    assert_eq!(machine.journal().alerts(&machine, "agent-failed", "sleeper"), 0);
    assert_eq!(machine.property("iotmonitor", "NRestarts"), "0");
}
