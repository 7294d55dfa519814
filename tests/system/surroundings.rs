//! What surrounds an agent's process: its environment, its names with odd characters, and the order
//! in which it ends with the system.

use super::harness::{Machine, config, eventually};

fn said(machine: &Machine, unit: &str, word: &str) {
    machine
        .journal()
        .wait_for(word, |entry| entry.field("_SYSTEMD_UNIT") == unit && entry.message() == word);
}

#[test]
fn the_sections_environment_wins_over_what_every_agent_is_given() {
    let machine = Machine::boot();
    let exec =
        "exec = 'echo \"$IOTMONITOR_AGENT|$MQTT_SERVER|$PYTHONUNBUFFERED\"; exec sleep 9d'\n";
    let environment = "environment = { IOTMONITOR_AGENT = \"me\", PYTHONUNBUFFERED = \"\", \
        MQTT_SERVER = \"tcp://other:1883\" }\n";
    machine
        .launch(&config("auto", &format!("[agent_given]\n{exec}[agent_own]\n{exec}{environment}")));
    said(&machine, "iotmonitor-agent-given.service", "given|tcp://localhost:1883|1");
    said(&machine, "iotmonitor-agent-own.service", "me|tcp://other:1883|");
}

/// systemd reads a transient unit again from its file, in which a blank parts the words.
#[test]
fn names_with_blanks_are_known_again_after_a_daemon_reload() {
    let machine = Machine::boot();
    let file = config("auto", "['agent_my \"pump\" 50 % ü']\nexec = 'exec sleep infinity'\n")
        .replace("[mqtt]\n", "[mqtt]\nclientid = \"the house\"\n");
    let bus = machine.launch(&file);
    let name = "my \"pump\" 50 % ü";
    let started = format!("home/monitoring/startedprocess/{name}");
    bus.wait_topic(0, &started);
    let escaped = machine.ok(&["systemd-escape", name]);
    let unit = &format!(r"iotmonitor-the\x20house-agent-{escaped}.service");
    let pid = machine.main_pid(unit);
    let fields = machine.property(unit, "LogExtraFields");
    machine.ok(&["systemctl", "daemon-reload"]);
    assert_eq!(machine.property(unit, "LogExtraFields"), fields);

    machine.restart_monitor();
    machine.journal().wait_for_alert("agent-adopted", name);
    bus.let_seconds_pass(2);
    assert_eq!(machine.main_pid(unit), pid);
    assert_eq!(bus.count(0, &started), 1);

    machine.ok(&["systemctl", "stop", unit]);
    machine.await_new_main_pid(unit, pid);
}

#[test]
fn an_agent_in_the_strict_sandbox_may_have_a_colon_in_its_name() {
    let machine = Machine::boot();
    let sections = "[\"agent_lamp:1\"]\nsandbox = \"strict\"\n\
        exec = 'touch $STATE_DIRECTORY/mark; echo \"$STATE_DIRECTORY\"; exec sleep infinity'\n";
    machine.launch(&config("auto", sections));
    let unit = "iotmonitor-agent-lamp:1.service";
    let place = "/var/lib/iotmonitor-agents/iotmonitor-agent-lamp_x3a1";
    said(&machine, unit, place);
    let pid = machine.main_pid(unit);
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.signal(nix::sys::signal::Signal::SIGKILL, pid);
    machine.await_new_main_pid(unit, pid);
    assert_eq!(machine.sh("ls /var/lib/iotmonitor-agents"), "iotmonitor-agent-lamp_x3a1");
}

/// Takes its time to say goodbye, so that a broker which ends at the same time is gone by then. What it
/// does that with ignores SIGTERM, which systemd sends to the new processes of the unit too.
const FAREWELL: &str = "[agent_polite]\nexec = '''\n\
    trap 'trap \"\" TERM; sleep 2; mosquitto_pub -t home/polite -m goodbye; exit' TERM\n\
    echo ready; while :; do sleep 0.1; done'''\n";

#[test]
fn a_farewell_at_the_shutdown_reaches_the_broker() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", FAREWELL));
    said(&machine, "iotmonitor-agent-polite.service", "ready");
    machine.ok(&["systemctl", "poweroff", "--no-block"]);
    bus.wait_exact(0, "home/polite", "goodbye");
}

/// What a script starts in the background is not the agent: it ends with the script.
#[test]
fn a_child_that_a_script_leaves_behind_is_named() {
    let machine = Machine::boot();
    let sections = "[agent_forked]\nexec = 'sleep 424242 & echo left'\n\
        [agent_stubborn]\nstopTimeout = \"15s\"\n\
        exec = '(trap \"\" TERM; for i in $(seq 999); do sleep 0.1; done) & sleep 1'\n";
    machine.launch(&config("auto", sections));
    let alert = machine.journal().wait_for_alert("agent-failed", "forked");
    assert!(alert.message().contains("in the background"), "{}", alert.message());
    assert!(alert.message().contains("exited with 0"), "{}", alert.message());
    let alert = machine.journal().wait_for_alert("agent-lingers", "stubborn");
    assert!(alert.message().contains("exited with 0"), "{}", alert.message());
    assert!(alert.message().contains("left"), "{}", alert.message());
    let unit = "iotmonitor-agent-stubborn.service";
    let pid = eventually("its next process", || {
        let pid = machine.main_pid(unit);
        (pid != 0).then_some(pid)
    });
    assert_ne!(pid, 0);
}
