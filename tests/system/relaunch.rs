//! Agents that end: for whatever reason and however often, one process comes back, and only one.

use super::harness::{Entry, Machine, config, eventually};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

const SLEEPER: &str = "[agent_sleeper]\nexec = \"exec sleep 424242\"\n";
const UNIT: &str = "iotmonitor-agent-sleeper.service";
const STARTED: &str = "home/monitoring/startedprocess/sleeper";

fn sleepers(machine: &Machine) -> String {
    machine.sh("pgrep -fc '^sleep 424242' || true")
}

#[test]
fn a_killed_agent_is_back_at_once_in_the_same_unit() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SLEEPER));
    bus.wait_topic(0, STARTED);
    let mut pid = machine.main_pid(UNIT);
    // With the first one three starts: a fourth so soon would be the start limit's business.
    for _ in 0..2 {
        let from = bus.end();
        let killed = Instant::now();
        machine.signal(Signal::SIGKILL, pid);
        pid = machine.await_new_main_pid(UNIT, pid);
        let gap = killed.elapsed();
        assert!(gap < Duration::from_secs(1), "back after {gap:?}");
        bus.wait_topic(from, STARTED);
        assert_eq!(sleepers(&machine), "1");
    }
    bus.let_seconds_pass(2);
    assert_eq!(machine.main_pid(UNIT), pid);
    assert_eq!(bus.count(0, STARTED), 3, "each start is published, and once");
}

#[test]
fn a_stop_by_hand_is_undone_and_the_log_says_so() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SLEEPER));
    bus.wait_topic(0, STARTED);
    let pid = machine.main_pid(UNIT);
    let from = bus.end();
    machine.ok(&["systemctl", "stop", UNIT]);
    machine.await_new_main_pid(UNIT, pid);
    bus.wait_topic(from, STARTED);
    let alert = machine.journal().wait_for_alert("agent-relaunched", "sleeper");
    assert!(alert.message().contains("stop"), "{}", alert.message());
    assert!(alert.message().contains("iotmonitor disable sleeper"), "{}", alert.message());
    bus.let_seconds_pass(2);
    assert_eq!(sleepers(&machine), "1");
}

#[test]
fn all_can_be_stopped_together_with_the_monitor() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SLEEPER));
    bus.wait_topic(0, STARTED);
    machine.ok(&["systemctl", "stop", "iotmonitor.service", "iotmonitor.slice"]);
    assert_eq!(sleepers(&machine), "0");
    assert!(!machine.is_active(UNIT));
}

/// Fails until a file says that all is well.
const FAILING: &str = "[agent_failing]\nrestartSec = 1\nrestartMaxSec = 4\n\
    exec = 'echo try; test -e /run/well || exit 3; exec sleep infinity'\n";

#[test]
fn a_failing_agent_is_tried_ever_more_slowly_and_never_given_up() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", FAILING));
    let journal = machine.journal();
    let unit = "iotmonitor-agent-failing.service";
    let is_try = |entry: &Entry| entry.message() == "try" && entry.field("_SYSTEMD_UNIT") == unit;
    let alert = journal.wait_for_alert("agent-failed", "failing");
    assert_eq!(alert.field("PRIORITY"), "3");
    assert!(alert.message().contains('3'), "its last exit: {}", alert.message());
    bus.let_seconds_pass(12);

    let tries: Vec<u64> = journal.now(&machine, is_try).iter().map(Entry::micros).collect();
    let steps = steps(&tries);
    assert!(steps.len() >= 3, "it is tried again and again: {steps:?}");
    for (_, starts) in steps.iter().skip(1) {
        assert!(*starts <= 3, "at most three starts to a step: {steps:?}");
    }
    let delays: Vec<u64> = steps.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(delays.iter().max() > delays.first(), "the delay grows: {delays:?}");
    assert_eq!(journal.alerts(&machine, "agent-failed", "failing"), 1, "one alert");

    machine.ok(&["touch", "/run/well"]);
    eventually("the agent to run", || machine.is_active(unit).then_some(()));
}

/// Bursts of starts less than 400 ms apart: when each began, in microseconds, and its starts.
fn steps(tries: &[u64]) -> Vec<(u64, usize)> {
    let mut steps: Vec<(u64, usize)> = Vec::new();
    let mut last = 0;
    for time in tries {
        match steps.last_mut() {
            Some(step) if time - last < 400_000 => step.1 += 1,
            _ => steps.push((*time, 1)),
        }
        last = *time;
    }
    steps
}

#[test]
fn an_agent_that_cannot_be_started_is_an_alert_and_no_end() {
    let machine = Machine::boot();
    let sections = format!("[agent_broken]\nexec = \"true\"\nuser = \"nosuchuser\"\n{SLEEPER}");
    let bus = machine.launch(&config("auto", &sections));
    bus.wait_topic(0, STARTED);
    let alert = machine.journal().wait_for_alert("agent-failed", "broken");
    assert!(alert.message().contains("broken"), "{}", alert.message());
    bus.let_seconds_pass(5);
    assert_eq!(machine.journal().alerts(&machine, "agent-failed", "broken"), 1);
    machine.ok(&["useradd", "nosuchuser"]);
    machine.journal().wait_for_alert("agent-started", "broken");
}

#[test]
fn a_silent_agent_is_restarted_where_its_section_asks_for_it() {
    let machine = Machine::boot();
    let sections = format!(
        "{SLEEPER}watchTopics = \"home/sleeper\"\nwatchTimeOut = 3\nrestartOnExpire = true\n"
    );
    let bus = machine.launch(&config("auto", &sections));
    let first = bus.wait_topic(0, STARTED);
    let pid = machine.main_pid(UNIT);
    let expiry = bus.wait_topic(0, "home/monitoring/expire/sleeper");
    assert!(expiry.at > first.at);
    let again = bus.wait_from(0, "the second start", |message| {
        message.topic == STARTED && message.at > expiry.at
    });
    machine.await_new_main_pid(UNIT, pid);
    // It has its full timeout from the restart on.
    let third = bus.wait_from(0, "the third start", |message| {
        message.topic == STARTED && message.at > again.at
    });
    let gap = third.at.duration_since(again.at);
    assert!(gap >= Duration::from_millis(2800), "restarted again after {gap:?}");
    assert_eq!(sleepers(&machine), "1");
}

#[test]
fn a_silent_agent_is_left_alone_otherwise() {
    let machine = Machine::boot();
    let sections = format!("{SLEEPER}watchTopics = \"home/sleeper\"\nwatchTimeOut = 2\n");
    let bus = machine.launch(&config("auto", &sections));
    bus.wait_topic(0, STARTED);
    let pid = machine.main_pid(UNIT);
    bus.wait_topic(0, "home/monitoring/expire/sleeper");
    bus.let_seconds_pass(2);
    assert_eq!(machine.main_pid(UNIT), pid);
    let alert = machine.journal().wait_for_alert("expired", "sleeper");
    assert_eq!(alert.field("IOTMONITOR_REASON"), "agent-hung");
    assert!(alert.message().contains(&format!("PID {pid}")), "{}", alert.message());
}

/// needrestart and people in doubt do so. No restart of theirs says anything of the agent.
#[test]
fn restarts_by_hand_in_a_row_are_not_a_failure() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SLEEPER));
    bus.wait_topic(0, STARTED);
    for _ in 0..8 {
        // systemd refuses some: they are more than its start limit allows.
        machine.run(&["systemctl", "restart", UNIT]);
    }
    let limit = machine
        .journal()
        .wait_for("the start limit", |entry| entry.message().contains("repeated too quickly"));
    eventually("the agent to run", || machine.is_active(UNIT).then_some(()));
    bus.let_seconds_pass(2);
    assert_eq!(machine.journal().alerts(&machine, "agent-failed", "sleeper"), 0);
    let reported = machine.journal().wait_for_alert("agent-relaunched", "sleeper");
    assert!(reported.message().contains("by hand"), "{}", reported.message());
    assert!(reported.micros() >= limit.micros(), "{}", reported.message());
    assert_eq!(sleepers(&machine), "1");
}

/// A stop by hand is one also where the program answers it with an error, as a Java program does.
#[test]
fn a_stop_by_hand_that_ends_with_an_error_is_not_a_failure() {
    let machine = Machine::boot();
    let exec = "trap 'exit 143' TERM; while :; do sleep 424242 & wait; done";
    let bus = machine.launch(&config("auto", &format!("[agent_sleeper]\nexec = \"{exec}\"\n")));
    bus.wait_topic(0, STARTED);
    let from = bus.end();
    machine.run(&["systemctl", "stop", UNIT]);
    let reported = machine.journal().wait_for_alert("agent-relaunched", "sleeper");
    assert!(reported.message().contains("was stopped"), "{}", reported.message());
    bus.wait_topic(from, STARTED);
    assert_eq!(machine.journal().alerts(&machine, "agent-failed", "sleeper"), 0);
}

/// No person has requested these restarts, though each process ends as it does at a stop.
#[test]
fn an_agent_that_ends_itself_by_sigterm_keeps_failing() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", "[agent_sleeper]\nexec = \"kill -TERM $$\"\n"));
    let reported = machine.journal().wait_for_alert("agent-failed", "sleeper");
    assert!(reported.message().contains("killed by SIGTERM"), "{}", reported.message());
    bus.let_seconds_pass(2);
    assert_eq!(machine.journal().alerts(&machine, "agent-relaunched", "sleeper"), 0);
}
