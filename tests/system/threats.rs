//! What a person who is not the administrator of the machine can and cannot do: the lines of
//! `docs/threat-model.md` that no other test shows.

use super::harness::{Machine, config};
use std::process::Output;

const AGENT: &str = "iotmonitor-agent-pump.service";
const SECRET: &str = "hunter2";

/// A monitor that knows the broker's password, has recorded a state, and has passed its login on.
fn house() -> Machine {
    let machine = Machine::boot();
    let sections = "[device_lamp]\nhelloTopic = \"home/lamp\"\nstateTopics = \"home/lamp/set/#\"\n\
        [agent_pump]\nexec = \"exec sleep 86399\"\nenvironment = { OPEN = \"seen\" }\n\
        passCredentials = true\n";
    let login = format!("[mqtt]\nuser = \"house\"\npassword = \"{SECRET}\"\n");
    let bus = machine.launch(&config("auto", sections).replace("[mqtt]\n", &login));
    machine.await_recording(&bus, "home/lamp/set/color", "home/lamp");
    bus.wait_topic(0, "home/monitoring/startedprocess/pump");
    machine
}

/// Runs a script as an unprivileged user.
fn as_user(machine: &Machine, user: &str, script: &str) -> Output {
    machine.run(&["runuser", "-u", user, "--", "bash", "-uc", script])
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_an_agent_runs_is_public_and_no_secret_of_the_monitor_is() {
    let machine = house();
    let shown = as_user(&machine, "nobody", &format!("systemctl show {AGENT}"));
    let shown = stdout(&shown);
    assert!(shown.contains("exec sleep 86399") && shown.contains("OPEN=seen"), "{shown}");
    let all = "systemctl show iotmonitor.service iotmonitor-agent-pump.service; \
        systemctl cat iotmonitor.service; ps axeww; iotmonitor status; iotmonitor status --json; \
        busctl introspect org.iotmonitor.Monitor1 /org/iotmonitor/Monitor1";
    let shown = stdout(&as_user(&machine, "nobody", all));
    assert!(shown.contains("iotmonitor run") && !shown.contains(SECRET), "{shown}");
}

#[test]
fn a_local_user_forges_no_alert_of_the_unit() {
    let machine = house();
    let fields = "MESSAGE=forged\\nIOTMONITOR_EVENT=expired\\nIOTMONITOR_DEVICE=lamp\\n\
        SYSLOG_IDENTIFIER=iotmonitor\\nUNIT=iotmonitor.service\\n\
        OBJECT_SYSTEMD_UNIT=iotmonitor.service\\n_SYSTEMD_UNIT=iotmonitor.service\\n";
    let forged = as_user(&machine, "nobody", &format!("printf '{fields}' | logger --journald"));
    assert!(forged.status.success(), "{forged:?}");
    machine.journal().wait_for("the forged entry", |entry| entry.message() == "forged");
    let of_the_unit = machine.sh("journalctl --no-pager -u iotmonitor");
    assert!(of_the_unit.contains("connected to the broker"), "{of_the_unit}");
    assert!(!of_the_unit.contains("forged"), "{of_the_unit}");
}

#[test]
fn a_local_user_reads_neither_secrets_nor_states() {
    let machine = house();
    let places = "/etc/iotmonitor /var/lib/iotmonitor /run/iotmonitor /run/credentials";
    let readable = format!("find {places} -type f -readable 2> /dev/null; true");
    let by_root = machine.sh(&readable);
    for place in ["/etc/iotmonitor/config.toml", "/var/lib/iotmonitor/data.mdb", "mqtt-password"] {
        assert!(by_root.contains(place), "{by_root}");
    }
    assert_eq!(stdout(&as_user(&machine, "nobody", &readable)), "");
    let store = as_user(&machine, "nobody", "cat /proc/$(pidof iotmonitor)/{environ,maps,fd/0}");
    assert_eq!(stdout(&store), "");
}

#[test]
fn a_local_user_cannot_be_the_monitor_on_the_bus() {
    let machine = house();
    let call = "busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus \
        RequestName su org.iotmonitor.Monitor1.garden 0";
    let refused = as_user(&machine, "nobody", call);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("denied"), "{said}");
    machine.ok(&["bash", "-c", call]);
}

#[test]
fn a_local_user_ends_nothing() {
    let machine = house();
    let (monitor, agent) = (machine.monitor_pid(), machine.main_pid(AGENT));
    for user in ["nobody", "iotmonitor"] {
        for script in [
            format!("kill -KILL {monitor}"),
            "systemctl --no-ask-password stop iotmonitor.service".to_owned(),
            format!("systemctl --no-ask-password stop {AGENT}"),
            "systemctl --no-ask-password stop iotmonitor.slice".to_owned(),
        ] {
            let output = as_user(&machine, user, &script);
            assert!(!output.status.success(), "{user}: {script}");
        }
    }
    assert!(!as_user(&machine, "nobody", &format!("kill -KILL {agent}")).status.success());
    assert_eq!((machine.monitor_pid(), machine.main_pid(AGENT)), (monitor, agent));
}

#[test]
fn the_service_listens_nowhere_by_default() {
    let machine = house();
    let listening = "awk '$4 == \"0A\" { print $10 }' /proc/net/tcp /proc/net/tcp6; \
        awk 'NR > 1 { print $10 }' /proc/net/udp /proc/net/udp6";
    let listening = machine.sh(listening);
    assert!(!listening.is_empty(), "mosquitto listens");
    let own = machine.sh("readlink /proc/$(pidof iotmonitor)/fd/*");
    assert!(own.contains("socket:["), "{own}");
    for socket in listening.lines() {
        assert!(!own.contains(&format!("socket:[{socket}]")), "{socket}: {own}");
    }
}
