//! What any local user can do over D-Bus, on either of the buses that a Debian system may have.

use super::for_both_buses;
use super::harness::{Bus, Machine, config};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

const UNIT: &str = "iotmonitor-agent-sleeper.service";
const SLEEPER: &str = "[agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const SYSTEMD: &str = "/org/freedesktop/systemd1 org.freedesktop.systemd1.Manager";

/// What may be added to the monitor's memory by users who may not command it.
const MEMORY_KIB: u64 = 4 * 1024;

for_both_buses!(
    forged_signals_of_systemd_or_logind_do_not_stop_relaunching,
    four_hundred_calls_of_one_user_cost_root_no_connection_and_delay_no_other_user,
);

/// The bus lets every user send any signal to any connection.
fn forged_signals_of_systemd_or_logind_do_not_stop_relaunching(bus: Bus) {
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

/// None of them wants an answer, so that the bus does not count them; and polkit answers none.
fn four_hundred_calls_of_one_user_cost_root_no_connection_and_delay_no_other_user(bus: Bus) {
    let machine = Machine::boot_on(bus);
    machine.launch(&config("auto", SLEEPER));
    machine.ok(&["systemctl", "start", "polkit"]);
    let polkit = machine.main_pid("polkit.service");
    let monitor = machine.monitor_pid();
    let status = ["runuser", "-u", "daemon", "--", "iotmonitor", "status"];
    machine.ok(&status);
    let (connections, memory) = (connections_of(&machine, monitor), memory_of(&machine, monitor));
    machine.signal(Signal::SIGSTOP, polkit);
    machine.sh("runuser -u nobody -- bash -c 'for number in {1..400}; do \
             busctl call --expect-reply=no org.iotmonitor.Monitor1 /org/iotmonitor/Monitor1 \
                 org.iotmonitor.Monitor1 Reload || true & done 2> /dev/null; wait'");
    // All of them have been taken in when a later one is answered.
    let begun = Instant::now();
    machine.ok(&status);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    machine.ok(&["iotmonitor", "restart", "sleeper"]);
    assert_eq!(connections_of(&machine, monitor), connections);
    let grown = memory_of(&machine, monitor).saturating_sub(memory);
    assert!(grown < MEMORY_KIB, "{grown} KiB more than the {memory} before");
    machine.signal(Signal::SIGCONT, polkit);
    machine.ok(&status);
    assert_eq!(machine.monitor_pid(), monitor);
}

/// KiB of memory that a process has for itself.
fn memory_of(machine: &Machine, pid: u32) -> u64 {
    let said = machine.sh(&format!("grep RssAnon /proc/{pid}/status"));
    said.split_whitespace().nth(1).and_then(|count| count.parse().ok()).expect("proc(5)")
}

/// The unique names of a process's connections to the system bus.
fn connections_of(machine: &Machine, pid: u32) -> Vec<String> {
    let listed = machine.ok(&["busctl", "list", "--unique", "--no-legend", "--no-pager"]);
    let of_process = |line: &&str| line.split_whitespace().nth(1) == Some(&pid.to_string());
    let name = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    listed.lines().filter(of_process).map(name).collect()
}
