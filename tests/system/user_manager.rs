//! iotmonitor in a user's service manager, without any privilege.

use super::harness::{Machine, config, eventually};

/// Runs systemctl for the user's manager.
fn systemctl(machine: &Machine, arguments: &str) -> String {
    machine.sh(&format!("systemctl --user --machine=pi@ {arguments}"))
}

const FILE: &str = "/home/pi/.config/iotmonitor/config.toml";

/// Gives the machine a person with a manager and a configuration.
fn settle_in(machine: &Machine, sections: &str) {
    // People may read their own entries of a journal on disk, and none of one in memory.
    machine.write_file("/etc/systemd/journald.conf.d/z.conf", "[Journal]\nStorage=persistent\n");
    machine.ok(&["systemctl", "restart", "systemd-journald"]);
    machine.ok(&["journalctl", "--flush"]);
    machine.ok(&["useradd", "--create-home", "--shell", "/bin/bash", "pi"]);
    machine.ok(&["loginctl", "enable-linger", "pi"]);
    machine.write_file(FILE, &config("auto", sections));
    machine.ok(&["chown", "-R", "pi:", "/home/pi"]);
    eventually("the user's manager", || machine.is_active("user@1000.service").then_some(()));
}

#[test]
fn a_users_own_monitor_reports_the_users_agents() {
    let machine = Machine::boot();
    let unit = include_str!("../../systemd/usr/share/doc/iotmonitor/examples/notify@.service");
    let script = include_str!("../../systemd/usr/share/doc/iotmonitor/examples/notify");
    // As it says there.
    let unit = unit.replace("DynamicUser=yes\n", "");
    machine.write_file("/home/pi/.config/systemd/user/notify@.service", &unit);
    machine.write_file("/usr/local/bin/iotmonitor-notify", script);
    machine.ok(&["chmod", "755", "/usr/local/bin/iotmonitor-notify"]);
    settle_in(
        &machine,
        "[alerts]\nalertUnit = \"notify@.service\"\n\
         [agent_mute]\nwatchTopics = \"home/mute\"\nwatchTimeOut = 3\n\
         exec = 'echo \"last words\"; exec sleep infinity'\n",
    );
    systemctl(&machine, "enable --now iotmonitor");
    // The script may have ended before journald looks up its unit, which is a field of no entry then.
    for line in ["mute: expired (agent-hung)", "last words"] {
        machine.journal().wait_for(line, |entry| {
            entry.message() == line && entry.field("SYSLOG_IDENTIFIER") == "iotmonitor-notify"
        });
    }
    let left = "ls -A /run/user/1000/iotmonitor/alerts";
    eventually("the file to be gone", || machine.sh(left).is_empty().then_some(()));
}

#[test]
fn a_users_own_monitor_runs_the_users_agents() {
    let machine = Machine::boot();
    let agent = "[device_lamp]\nhelloTopic = \"home/lamp\"\nstateTopics = \"home/lamp/set/#\"\n\
        [agent_own]\npassCredentials = true\n\
        exec = 'echo \"own agent of $(id -un)\"; exec sleep infinity'\n";
    settle_in(&machine, agent);

    let bus = machine.subscribe(&["home/#"]);
    systemctl(&machine, "enable --now iotmonitor");
    bus.wait_exact(0, "home/monitoring/availability", "online");
    bus.wait_topic(0, "home/monitoring/startedprocess/own");
    machine.journal().wait_for("the agent's word", |entry| {
        entry.message() == "own agent of pi"
            && entry.field("_SYSTEMD_USER_UNIT") == "iotmonitor-agent-own.service"
    });
    let pi = "runuser -u pi -- env XDG_RUNTIME_DIR=/run/user/1000";
    let logs = machine.sh(&format!("{pi} iotmonitor --user logs own -- --output=cat"));
    assert!(logs.lines().any(|line| line == "own agent of pi"), "{logs}");
    assert!(logs.contains("agent `own` has started"), "{logs}");
    let given =
        "runuser -u pi -- cat /run/user/1000/credentials/iotmonitor-agent-own.service/mqtt-server";
    assert_eq!(machine.sh(given), "tcp://localhost:1883");
    let properties = machine.sh(&format!(
        "{pi} busctl --user get-property org.iotmonitor.Monitor1 \
         /org/iotmonitor/Monitor1/device/own org.iotmonitor.Agent1 UnitState"
    ));
    assert_eq!(properties, "s \"active\"");
    let pid = || systemctl(&machine, "show --value -p MainPID iotmonitor-agent-own.service");
    let monitor_pid = || systemctl(&machine, "show --value -p MainPID iotmonitor.service");
    let first = pid();
    systemctl(&machine, "restart iotmonitor");
    bus.let_seconds_pass(2);
    assert_eq!(pid(), first);
    let state = machine.await_recording(&bus, "home/lamp/set/color", "home/lamp");
    assert_eq!(machine.sh("stat -c '%U %a' /home/pi/.local/state/iotmonitor").trim(), "pi 700");
    machine.ok(&["test", "-e", "/home/pi/.local/state/iotmonitor/data.mdb"]);
    machine.ok(&["test", "!", "-e", "/home/pi/.config/iotmonitor/data.mdb"]);
    let (crashed, from) = (monitor_pid(), bus.end());
    machine.ok(&["kill", "-9", &crashed]);
    eventually("the monitor again", || {
        let now = monitor_pid();
        (now != "0" && now != crashed).then_some(())
    });
    bus.wait_exact(from, "home/lamp/set/color", &state);
    assert_eq!(pid(), first);
    let journal =
        "runuser -u pi -- env XDG_RUNTIME_DIR=/run/user/1000 journalctl --user -u iotmonitor";
    assert!(machine.sh(journal).contains("was running already and is adopted"));
    let listed = machine.sh("runuser -u pi -- env XDG_RUNTIME_DIR=/run/user/1000 \
         DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus iotmonitor status --user own");
    assert!(listed.contains("iotmonitor-agent-own.service, active"), "{listed}");

    systemctl(&machine, "reload iotmonitor");
    systemctl(&machine, "stop iotmonitor-agent-own.service");
    eventually("a new process", || {
        let now = pid();
        (now != "0" && now != first).then_some(())
    });
    machine.write_file(FILE, &config("auto", "[agent_own]\nexex = \"\"\n"));
    machine.ok(&["chown", "pi:", FILE]);
    let reload = ["systemctl", "--user", "--machine=pi@", "reload", "iotmonitor"];
    assert!(!machine.run(&reload).status.success());
}

#[test]
fn a_users_own_monitor_is_no_node_of_a_cluster() {
    let machine = Machine::boot();
    settle_in(&machine, "[cluster]\nname = \"house\"\nendpoints = \"http://127.0.0.1:2379\"\n");
    let pi = "runuser -u pi -- env XDG_RUNTIME_DIR=/run/user/1000";
    let said = machine.sh(&format!("! {pi} iotmonitor --user check 2>&1"));
    assert!(said.contains("a cluster needs the system's service manager"), "{said}");
    machine.sh("! systemctl --user --machine=pi@ start iotmonitor");
    machine.journal().wait_for("the refusal", |entry| {
        entry.is_alert("start-failed", "")
            && entry.message().contains("a cluster needs the system's service manager")
    });
}
