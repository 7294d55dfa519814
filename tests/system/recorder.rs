//! iotmonitor-recorder as its package installs it: it records, survives, is hardened, and goes.

use super::harness::{Machine, config, eventually};
use super::package::packages;
use std::io::Write as _;

const UNIT: &str = "iotmonitor-recorder.service";
const STORE: &str = "/var/lib/iotmonitor-recorder";

/// Installs both packages; the recorder's is used without a start of the monitor.
fn install(machine: &Machine) {
    for (name, inside) in
        [("0.0.2-1.deb", "/root/monitor.deb"), ("recorder-0.0.2-1.deb", "/root/recorder.deb")]
    {
        machine.write_file(inside, &std::fs::read(packages().join(name)).expect("it was packed"));
        machine.sh(&format!("apt-get install --yes {inside} 2>&1"));
    }
}

/// The figures of the status line: messages that were recorded, and that wait.
fn figures(machine: &Machine) -> Option<(u64, u64)> {
    let line = machine.property(UNIT, "StatusText");
    let (before, after) = line.split_once(" recorded, ")?;
    let recorded = before.split(" · ").nth(1)?.split(' ').next()?;
    Some((recorded.parse().ok()?, after.split(' ').next()?.parse().ok()?))
}

/// Publishes messages and waits until the recorder has written that many since its start.
fn publish(machine: &Machine, count: u64) {
    machine.sh(&format!("seq {count} | mosquitto_pub -q 1 -t home/lamp/power -l"));
}

fn await_recorded(machine: &Machine, count: u64) {
    eventually(&format!("{count} messages to be recorded"), || {
        figures(machine).filter(|(recorded, waiting)| *recorded >= count && *waiting == 0)
    });
}

fn life(suite: &str) {
    let machine = Machine::boot_without_monitor(suite);
    install(&machine);
    assert!(!machine.is_active(UNIT), "an installation starts nothing");
    it_records_as_a_user_of_its_own(&machine);
    what_comes_while_it_is_away_is_recorded(&machine);
    a_reload_checks_first(&machine);
    a_password_is_passed_by_a_drop_in(&machine);
    the_service_is_hardly_exposed(&machine, suite);
    a_removal_keeps_the_messages_and_a_purge_does_not(&machine);
}

fn it_records_as_a_user_of_its_own(machine: &Machine) {
    machine.write_config(&config("auto", "[recorder]\ntopics = \"home/#\"\nflush = \"1s\"\n"));
    machine.sh("mkdir -p /etc/iotmonitor/config.d");
    assert_eq!(machine.sh("stat -c '%U %a' /etc/iotmonitor/config.toml"), "root 600");
    machine.ok(&["systemctl", "enable", "--now", UNIT]);
    let pid = machine.main_pid(UNIT);
    assert_eq!(machine.sh(&format!("stat -c %U /proc/{pid}")), "iotmonitor-recorder");
    assert_eq!(
        machine.sh(&format!("grep CapBnd /proc/{pid}/status | cut -f2")),
        "0000000000000000"
    );
    eventually("the subscription", || {
        machine
            .run(&["grep", "--quiet", "granted", &format!("{STORE}/subscriptions.json")])
            .status
            .success()
            .then_some(())
    });
    publish(machine, 100);
    await_recorded(machine, 100);
    eventually("a file", || {
        let files = machine.sh(&format!("find {STORE}/messages -name '*.parquet' | wc -l"));
        (files != "0").then_some(())
    });
    // The group may read it, and nobody else.
    let modes = machine.sh(&format!(
        "stat -c '%U %G %a' {STORE}; \
         find {STORE} -type f -perm /007"
    ));
    assert_eq!(modes, "iotmonitor-recorder iotmonitor-recorder 750");
    // The monitor may, for its commands and its page.
    machine.ok(&["systemctl", "start", "iotmonitor"]);
    let group = machine.sh("getent group iotmonitor-recorder | cut -d: -f3");
    let groups = machine.sh(&format!("grep ^Groups: /proc/{}/status", machine.monitor_pid()));
    assert!(groups.split_whitespace().any(|one| one == group), "{groups}, not {group}");
    machine.ok(&["systemctl", "stop", "iotmonitor"]);
}

fn what_comes_while_it_is_away_is_recorded(machine: &Machine) {
    machine.ok(&["systemctl", "stop", UNIT]);
    publish(machine, 300);
    machine.ok(&["systemctl", "start", UNIT]);
    await_recorded(machine, 300);
    let pid = machine.main_pid(UNIT);
    machine.signal(nix::sys::signal::Signal::SIGKILL, pid);
    machine.await_new_main_pid(UNIT, pid);
    publish(machine, 50);
    await_recorded(machine, 50);
}

fn a_reload_checks_first(machine: &Machine) {
    let pid = machine.main_pid(UNIT);
    machine.write_file("/etc/iotmonitor/config.d/x.toml", "[recorder]\ntopics = 3\n");
    machine.write_config(&config("auto", ""));
    assert!(!machine.run(&["systemctl", "reload", UNIT]).status.success());
    assert_eq!(machine.main_pid(UNIT), pid, "it goes on");
    assert!(machine.is_active(UNIT));
    machine.write_file(
        "/etc/iotmonitor/config.d/x.toml",
        "[recorder]\ntopics = [\"home/#\", \"garden/#\"]\nflush = \"1s\"\n",
    );
    machine.ok(&["systemctl", "reload", UNIT]);
    machine.await_new_main_pid(UNIT, pid);
    eventually("the other subscription", || {
        let known = machine.sh(&format!("cat {STORE}/subscriptions.json"));
        known.contains("garden/#\": \"granted").then_some(())
    });
}

fn a_password_is_passed_by_a_drop_in(machine: &Machine) {
    let secret = "[mqtt]\nuser = \"house\"\npasswordFile = \"/etc/iotmonitor/secret\"\n";
    machine.write_config(&config("auto", "").replace("[mqtt]\n", secret));
    machine.write_file("/etc/iotmonitor/secret", "hunter2\n");
    machine.ok(&["systemctl", "stop", UNIT]);
    assert!(!machine.run(&["systemctl", "start", UNIT]).status.success());
    machine.journal().wait_for("what to do", |entry| {
        entry.message().contains("`LoadCredential=secret:/etc/iotmonitor/secret`")
    });
    machine.write_file(
        &format!("/etc/systemd/system/{UNIT}.d/secret.conf"),
        "[Service]\nLoadCredential=secret:/etc/iotmonitor/secret\n",
    );
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.ok(&["systemctl", "start", UNIT]);
    publish(machine, 10);
    await_recorded(machine, 10);
}

fn the_service_is_hardly_exposed(machine: &Machine, suite: &str) {
    let said = machine.ok(&["systemd-analyze", "security", "--no-pager", UNIT]);
    let verdict = said.lines().rfind(|line| line.contains("Overall exposure level")).unwrap();
    // Not by a macro, whose output is shown of failed tests only.
    let _ = writeln!(std::io::stderr(), "{suite}: {verdict}");
    let level = verdict.split(": ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(level.parse::<f64>().unwrap() <= 1.3, "{said}");
    let file =
        include_str!("../../recorder/systemd/usr/lib/systemd/system/iotmonitor-recorder.service");
    let reasons: String = file.lines().filter(|line| line.starts_with('#')).collect();
    for fault in said.lines().filter_map(|line| line.strip_prefix("✗ ")) {
        let setting = fault.split_whitespace().next().unwrap().split('/').next().unwrap();
        assert!(reasons.contains(setting), "no reason is given for {setting}");
    }
    let verified = machine.run(&["systemd-analyze", "verify", "--man=no", UNIT]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

fn a_removal_keeps_the_messages_and_a_purge_does_not(machine: &Machine) {
    machine.ok(&["dpkg", "--remove", "iotmonitor-recorder"]);
    assert!(!machine.is_active(UNIT));
    machine.ok(&["test", "-d", &format!("{STORE}/messages")]);
    machine.ok(&["systemctl", "start", "iotmonitor"]);
    machine.ok(&["dpkg", "--purge", "iotmonitor-recorder"]);
    let left = machine.sh("find / -xdev -name '*iotmonitor-recorder*' -not -path '/proc/*' \
         -not -path '/var/lib/dpkg/*' -not -path '/run/systemd/*' -not -path '/tmp/*'");
    assert_eq!(left, "", "a purge has left files");
}

#[test]
fn on_debian_12() {
    life("bookworm");
}

#[test]
fn on_debian_13() {
    life("trixie");
}
