//! What a person asks of the running monitor: disable, enable, restart, restore.

use super::harness::{Machine, config, eventually};

const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 2\nhelloTopic = \"home/lamp\"\n\
    watchTopics = \"home/lamp/sensors/#\"\nstateTopics = \"home/lamp/set/#\"\n\
    [agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const UNIT: &str = "iotmonitor-agent-sleeper.service";
const STARTED: &str = "home/monitoring/startedprocess/sleeper";

#[test]
fn a_disabled_agent_stays_down_over_restarts_until_it_is_enabled() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, STARTED);
    machine.ok(&["iotmonitor", "disable", "sleeper"]);
    eventually("the agent to be stopped", || (machine.main_pid(UNIT) == 0).then_some(()));
    bus.wait_from(0, "the status `disabled`", |message| {
        message.topic == "home/monitoring/status/sleeper" && message.json()["state"] == "disabled"
    });
    for disturb in [Machine::restart_monitor, Machine::crash_monitor] {
        let from = bus.end();
        disturb(&machine);
        bus.wait_exact(from, "home/monitoring/up", "3");
        assert_eq!(machine.main_pid(UNIT), 0);
    }
    assert!(machine.reload_monitor().status.success());
    let from = bus.end();
    machine.ok(&["iotmonitor", "enable", "sleeper"]);
    bus.wait_topic(from, STARTED);
    let pid = machine.await_new_main_pid(UNIT, 0);
    machine.restart_monitor();
    bus.let_seconds_pass(2);
    assert_eq!(machine.main_pid(UNIT), pid);
}

#[test]
fn a_disabled_device_raises_no_alarm() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, "home/monitoring/expire/lamp");
    machine.make_alive(&bus, "lamp", "home/lamp/sensors/light");
    machine.ok(&["iotmonitor", "disable", "lamp"]);
    let from = bus.end();
    bus.let_seconds_pass(4);
    machine.restart_monitor();
    bus.let_seconds_pass(4);
    assert_eq!(bus.count(from, "home/monitoring/expire/lamp"), 0);
    machine.ok(&["iotmonitor", "enable", "lamp"]);
    bus.wait_topic(from, "home/monitoring/expire/lamp");
}

#[test]
fn a_section_can_start_out_disabled() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", &format!("{SECTIONS}enabled = false\n")));
    bus.wait_topic(0, "home/monitoring/expire/lamp");
    assert_eq!(bus.count(0, STARTED), 0);
    machine.ok(&["iotmonitor", "enable", "sleeper"]);
    bus.wait_topic(0, STARTED);
}

#[test]
fn restart_and_restore_by_hand() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, STARTED);
    let pid = machine.main_pid(UNIT);
    machine.ok(&["iotmonitor", "restart", "sleeper"]);
    machine.await_new_main_pid(UNIT, pid);

    let state = machine.await_recording(&bus, "home/lamp/set/color", "home/lamp");
    let from = bus.end();
    machine.ok(&["iotmonitor", "restore", "lamp"]);
    bus.wait_exact(from, "home/lamp/set/color", &state);
}

#[test]
fn a_name_that_is_not_there_is_refused_in_words() {
    let machine = Machine::boot();
    machine.launch(&config("auto", SECTIONS));
    for verb in ["disable", "enable", "restore", "restart"] {
        let output = machine.run(&["iotmonitor", verb, "lammp"]);
        assert!(!output.status.success(), "{verb}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("lammp"), "{verb}: {said}");
    }
}

#[test]
fn others_than_root_may_not_command() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, STARTED);
    let pid = machine.main_pid(UNIT);
    let as_nobody = ["runuser", "-u", "nobody", "--", "iotmonitor", "restart", "sleeper"];
    assert!(!machine.run(&as_nobody).status.success());
    bus.let_seconds_pass(1);
    assert_eq!(machine.main_pid(UNIT), pid);
}

/// Takes a while to end, and can be made to fail. systemd sends SIGTERM to what a process has begun
/// meanwhile too, and so its last `sleep` ignores it.
const SLOW: &str = "[agent_slow]\nuser = \"root\"\nexec = '''\n\
    test ! -e /run/broken || exit 7\n\
    trap 'trap \"\" TERM; sleep 2; exit 0' TERM; while :; do sleep 0.1; done'''\n";
const SLOW_UNIT: &str = "iotmonitor-agent-slow.service";

#[test]
fn an_order_returns_when_it_has_happened() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SLOW));
    bus.wait_topic(0, "home/monitoring/startedprocess/slow");
    let pid = machine.main_pid(SLOW_UNIT);
    machine.ok(&["iotmonitor", "restart", "slow"]);
    let next = machine.main_pid(SLOW_UNIT);
    assert!(next != 0 && next != pid, "{pid} {next}");
    machine.ok(&["iotmonitor", "disable", "slow"]);
    assert_eq!(machine.property(SLOW_UNIT, "ActiveState"), "inactive");
    machine.ok(&["iotmonitor", "enable", "slow"]);
    let pid = machine.main_pid(SLOW_UNIT);
    assert_ne!(pid, 0);

    machine.ok(&["iotmonitor", "restart", "--no-block", "slow"]);
    assert_eq!(machine.main_pid(SLOW_UNIT), pid, "it still ends");
    machine.await_new_main_pid(SLOW_UNIT, pid);

    machine.ok(&["touch", "/run/broken"]);
    let output = machine.run(&["iotmonitor", "restart", "slow"]);
    // The script has begun, which is a start; that it ends is the next thing to be known.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || said.contains("exited with 7"), "{said}");
    let text = eventually("its next try to be shown", || {
        let text = machine.ok(&["iotmonitor", "status", "slow"]);
        text.contains("next try:").then_some(text)
    });
    assert!(text.contains("last exit:    exited with 7"), "{text}");
}

#[test]
fn an_order_that_fails_says_why() {
    let machine = Machine::boot();
    machine.launch(&config("auto", "[agent_lost]\nexec = [\"/nothere\"]\nenabled = false\n"));
    let output = machine.run(&["iotmonitor", "enable", "lost"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("203") && said.contains("tried again"), "{said}");
    machine.ok(&["iotmonitor", "disable", "lost"]);
    let output = machine.run(&["iotmonitor", "restart", "lost"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("iotmonitor enable lost"), "{said}");
}

#[test]
fn what_is_disabled_for_a_time_is_taken_back_also_over_a_restart() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, STARTED);
    machine.ok(&["iotmonitor", "disable", "sleeper", "--for", "10s"]);
    assert!(!machine.is_active(UNIT));
    let text = machine.ok(&["iotmonitor", "status", "sleeper"]);
    assert!(text.contains("disabled") && text.contains("enabled:      in "), "{text}");
    machine.restart_monitor();
    let from = bus.end();
    bus.wait_exact(from, "home/monitoring/up", "2");
    assert!(!machine.is_active(UNIT), "it holds over the restart");
    machine.await_new_main_pid(UNIT, 0);
    let text = machine.ok(&["iotmonitor", "status", "sleeper"]);
    assert!(!text.contains("disabled"), "{text}");

    let output = machine.run(&["iotmonitor", "disable", "sleeper", "--for", "0"]);
    assert!(!output.status.success());
}
