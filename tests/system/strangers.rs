//! What any local user can do over D-Bus, on either of the buses that a Debian system may have.

use super::for_both_buses;
use super::harness::{Bus, Machine, config};

const UNIT: &str = "iotmonitor-agent-sleeper.service";
const SLEEPER: &str = "[agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const SYSTEMD: &str = "/org/freedesktop/systemd1 org.freedesktop.systemd1.Manager";

for_both_buses!(what_nobody_pretends_to_be_systemd_or_logind_ends_no_relaunching);

/// The bus lets every user send any signal to any connection.
fn what_nobody_pretends_to_be_systemd_or_logind_ends_no_relaunching(bus: Bus) {
    let machine = Machine::boot_on(bus);
    let mqtt = machine.launch(&config("auto", SLEEPER));
    mqtt.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    let ours = connections_of(&machine, machine.monitor_pid());
    assert!(ours.len() >= 3, "{ours:?}");
    for name in &ours {
        for signal in [
            "/x org.freedesktop.login1.Manager PrepareForShutdown b true",
            "/org/freedesktop/login1 org.freedesktop.login1.Manager PrepareForShutdown b true",
            &format!("{SYSTEMD} Reloading b true"),
            &format!("{SYSTEMD} JobNew uos 7 /x shutdown.target"),
            "/org/freedesktop/DBus org.freedesktop.DBus NameOwnerChanged sss \
             org.freedesktop.systemd1 :1.0 ''",
        ] {
            machine.sh(&format!("runuser -u nobody -- busctl emit --destination={name} {signal}"));
        }
    }
    for _ in 0..2 {
        let pid = machine.main_pid(UNIT);
        machine.ok(&["systemctl", "stop", UNIT]);
        machine.await_new_main_pid(UNIT, pid);
    }
    // And systemd itself is heard, also after it has come back to the bus under another name.
    machine.ok(&["systemctl", "daemon-reexec"]);
    let pid = machine.main_pid(UNIT);
    machine.ok(&["systemctl", "stop", UNIT]);
    machine.await_new_main_pid(UNIT, pid);
}

/// The unique names of a process's connections to the system bus.
fn connections_of(machine: &Machine, pid: u32) -> Vec<String> {
    let listed = machine.ok(&["busctl", "list", "--unique", "--no-legend", "--no-pager"]);
    let of_process = |line: &&str| line.split_whitespace().nth(1) == Some(&pid.to_string());
    let name = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    listed.lines().filter(of_process).map(name).collect()
}
