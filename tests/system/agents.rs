//! What an agent's process is given, and what it survives.

use super::harness::{Machine, config, eventually, unix_now};

const SLEEPER: &str = "[agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const UNIT: &str = "iotmonitor-agent-sleeper.service";

/// Processes of a unit's cgroup with this command line.
fn living(machine: &Machine, unit: &str) -> usize {
    let group = machine.property(unit, "ControlGroup");
    let script = format!("cat /sys/fs/cgroup{group}/cgroup.procs 2>/dev/null | wc -l");
    machine.sh(&script).parse().expect("wc prints a number")
}

#[test]
fn an_agent_finds_its_name_and_the_broker_and_speaks_under_its_own_unit() {
    let machine = Machine::boot();
    let sections = "[agent_talker]\n\
        exec = 'echo \"$IOTMONITOR_AGENT at $MQTT_SERVER as $(id -un)\"; exec sleep infinity'\n";
    let before = unix_now();
    let bus = machine.launch(&config("auto", sections));
    let journal = machine.journal();
    let word = "talker at tcp://localhost:1883 as iotmonitor";
    let entry = journal.wait_for(word, |entry| entry.message() == word);
    let unit = "iotmonitor-agent-talker.service";
    assert_eq!(entry.field("_SYSTEMD_UNIT"), unit);
    assert_eq!(entry.field("IOTMONITOR_AGENT"), "talker");
    assert_eq!(machine.property(unit, "Slice"), "iotmonitor.slice");

    let started = bus.wait_topic(0, "home/monitoring/startedprocess/talker");
    let time: u64 = started.text().parse().expect("seconds in decimal");
    assert!((before..=unix_now()).contains(&time), "{started:?}");
    assert_eq!((started.qos, started.retain), (1, false));
    journal.wait_for_alert("agent-started", "talker");
    let of = |unit: &str| {
        machine.ok(&["journalctl", "-u", unit, "-o", "cat", "IOTMONITOR_EVENT=agent-started"])
    };
    assert!(of("iotmonitor").contains("talker"), "the alert is the monitor's");
    assert!(of(unit).contains("talker"), "and is found under the agent's unit too");
}

/// Everything that a shell, systemd or TOML could take for its own.
const NASTY: &str = r#"
A='x  y'
printf '%s|' "$A" $A '$A' '$$' '$${A}' '%n %i %% %h' '\n' "\\\\" \\ 'tab	end' "a\"b" 'it'"'"'s' > "$OUT"
printf '%s\n' "two
lines" 'ends in backslash\' "é ☂ ${A}x" >> "$OUT"
printf '\101\x42%%' >> "$OUT"
printf '%s' "$(printf '<%s>' "$A")" `echo back` ; >> "$OUT" printf '%s' "$0" "$#"
"#;

#[test]
fn exec_reaches_the_shell_byte_for_byte() {
    let machine = Machine::boot();
    let sections = format!(
        "[agent_nasty]\nuser = \"root\"\nenvironment = {{ OUT = \"/run/got\" }}\nexec = '''{NASTY}\
         touch /run/done; exec sleep infinity'''\n"
    );
    machine.launch(&config("auto", &sections));
    eventually("the agent to have written", || {
        machine.run(&["test", "-e", "/run/done"]).status.success().then_some(())
    });
    machine.ok(&["env", "OUT=/run/want", "/bin/bash", "-c", &NASTY[1..]]);
    let text = |path| String::from_utf8_lossy(&machine.read_file(path)).into_owned();
    assert_eq!(text("/run/got"), text("/run/want"));
    assert!(text("/run/got").contains("$$|$${A}|%n %i %% %h|\\n|\\\\|"), "{}", text("/run/got"));
}

#[test]
fn exec_as_a_list_runs_without_a_shell() {
    let machine = Machine::boot();
    let arguments = r#"'a  b', '', '$HOME', '${HOME}', '$$', '%n', '%%', "it's", '"q"', '\', '*'"#;
    let sections = format!(
        "[agent_list]\nuser = \"root\"\nexec = ['/bin/sh', '-c', '''\
         printf '%s|' \"$@\" > /run/got; touch /run/done; exec sleep infinity''', 'sh', {arguments}]\n"
    );
    machine.launch(&config("auto", &sections));
    eventually("the agent to have written", || {
        machine.run(&["test", "-e", "/run/done"]).status.success().then_some(())
    });
    let got = machine.read_file("/run/got");
    assert_eq!(String::from_utf8_lossy(&got), r#"a  b||$HOME|${HOME}|$$|%n|%%|it's|"q"|\|*|"#);
}

#[test]
fn the_sections_keys_become_the_units_properties() {
    let machine = Machine::boot();
    let sections = "[agent_keyed]\nexec = 'pwd; id -un; id -gn; echo \"$COLOR $SIZE\"; exec sleep 9d'\n\
        user = \"daemon\"\ngroup = \"mail\"\nworkingDirectory = \"/usr/share\"\n\
        environment = { COLOR = \"deep $red %n\" }\nenvironmentFile = \"/etc/keyed.env\"\n\
        tasksMax = 17\nstopTimeout = 7\n";
    machine.write_file("/etc/keyed.env", "SIZE=large\n");
    machine.launch(&config("auto", sections));
    let unit = "iotmonitor-agent-keyed.service";
    for word in ["/usr/share", "daemon", "mail", "deep $red %n large"] {
        machine.journal().wait_for(word, |entry| {
            entry.field("_SYSTEMD_UNIT") == unit && entry.message() == word
        });
    }
    assert_eq!(machine.property(unit, "TasksMax"), "17");
    assert_eq!(machine.property(unit, "TimeoutStopUSec"), "7s");
}

#[test]
fn a_name_is_escaped_as_systemd_does_it() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", "[\"agent_my pump-1\"]\nexec = \"sleep infinity\"\n"));
    let escaped = machine.ok(&["systemd-escape", "my pump-1"]);
    bus.wait_topic(0, "home/monitoring/startedprocess/my pump-1");
    assert!(machine.is_active(&format!("iotmonitor-agent-{escaped}.service")));
}

/// Something that happens around an agent, and its name.
type Disturbance<'a> = (&'a str, &'a dyn Fn(&Machine));

#[test]
fn an_agent_outlives_the_monitor_and_is_adopted() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SLEEPER));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    let pid = machine.main_pid(UNIT);
    assert_ne!(pid, 0);
    let daemon_reexec = |machine: &Machine| {
        machine.ok(&["systemctl", "daemon-reexec"]);
        machine.ok(&["systemctl", "daemon-reload"]);
    };
    let dbus_restart = |machine: &Machine| {
        machine.ok(&["systemctl", "restart", "dbus.service"]);
    };
    let disturbances: [Disturbance; 4] = [
        ("restart", &Machine::restart_monitor),
        ("crash", &Machine::crash_monitor),
        ("daemon-reexec and daemon-reload", &daemon_reexec),
        ("restart of D-Bus", &dbus_restart),
    ];
    for (name, disturb) in disturbances {
        disturb(&machine);
        bus.let_seconds_pass(2);
        assert_eq!(machine.main_pid(UNIT), pid, "after a {name}");
        assert_eq!(living(&machine, UNIT), 1, "after a {name}");
        assert_eq!(bus.count(0, "home/monitoring/startedprocess/sleeper"), 1, "after a {name}");
    }
    // It is watched as before.
    machine.ok(&["systemctl", "stop", UNIT]);
    machine.await_new_main_pid(UNIT, pid);
    assert_eq!(living(&machine, UNIT), 1);
}

#[test]
fn an_agent_that_died_while_the_monitor_was_away_is_up_again() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SLEEPER));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    let pid = machine.main_pid(UNIT);
    machine.stop_monitor();
    machine.signal(nix::sys::signal::Signal::SIGKILL, pid);
    let next = machine.await_new_main_pid(UNIT, pid);
    machine.start_monitor();
    bus.let_seconds_pass(2);
    assert_eq!(machine.main_pid(UNIT), next, "systemd had restarted it already");

    machine.stop_monitor();
    machine.ok(&["systemctl", "stop", UNIT]);
    machine.start_monitor();
    machine.await_new_main_pid(UNIT, next);
}

#[test]
fn foreign_units_are_left_alone() {
    let machine = Machine::boot();
    let foreign = "iotmonitor-agent-foreign.service";
    machine.ok(&["systemd-run", &format!("--unit={foreign}"), "sleep", "infinity"]);
    let pid = machine.main_pid(foreign);
    let bus = machine.launch(&config("auto", SLEEPER));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    machine.restart_monitor();
    bus.let_seconds_pass(2);
    assert!(machine.reload_monitor().status.success());
    assert_eq!(machine.main_pid(foreign), pid);
}

#[test]
fn two_monitors_with_two_ids_do_not_meet() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", SLEEPER));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    let pid = machine.main_pid(UNIT);
    machine.stop_monitor();
    // Another monitor has a store of its own: over the first one's, it would be the first one
    // under another name.
    machine.sh("rm -r /var/lib/iotmonitor");
    let other = "[mqtt]\nserverAddress = \"tcp://localhost:1883\"\nclientid = \"second\"\n\
        [agent_sleeper]\nexec = \"exec sleep infinity\"\n";
    let from = bus.end();
    machine.write_config(other);
    machine.start_monitor();
    bus.wait_topic(from, "home/monitoring/startedprocess/sleeper");
    assert!(machine.is_active("iotmonitor-second-agent-sleeper.service"));
    assert_eq!(machine.main_pid(UNIT), pid, "the first one's agent is not the second one's");
    let output = machine.reload_monitor();
    assert!(output.status.success(), "{output:?}");
}
