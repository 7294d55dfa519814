//! The unit that the package ships for telling people, and the dead man's switch.

use super::harness::{GARDEN, Machine, config, eventually};

const ALERTS: &str = "[alerts]\nalertUnit = \"iotmonitor-notify@.service\"\n";
const LAMP: &str = "[device_lamp]\nwatchTimeOut = 2\nwatchTopics = \"home/lamp/#\"\n";
const NOTIFY: &str = include_str!("../../packaging/etc/notify.conf");
const ALIVE: &str = include_str!("../../packaging/etc/alive.conf");

/// Takes what the program of the package `apprise` takes, writes down its arguments, its configuration
/// and its input, and fails for one address.
const APPRISE: &str = "#!/bin/sh\n\
    for word; do printf 'argument %s\\n' \"$word\"; case $word in --config=*) file=${word#*=};; esac; done\n\
    printf 'address %s\\n' \"$(cat \"$file\")\"; sed 's/^/input /'\n\
    ! grep -q broken \"$file\"\n";

fn with_apprise() -> Machine {
    let machine = Machine::boot();
    machine.write_file("/usr/bin/apprise", APPRISE);
    machine.sh("chmod 755 /usr/bin/apprise");
    machine.write_file("/etc/iotmonitor/notify.conf", NOTIFY);
    machine
}

fn printed(machine: &Machine) -> Vec<String> {
    let entries = machine
        .journal()
        .now(machine, |entry| entry.field("_SYSTEMD_UNIT").starts_with("iotmonitor-notify@"));
    entries.iter().map(|entry| entry.message().to_owned()).collect()
}

#[test]
fn every_shipped_unit_is_clean() {
    let machine = Machine::boot();
    let units = machine.sh("ls /usr/lib/systemd/system/iotmonitor*");
    assert!(units.lines().count() >= 6, "{units}");
    machine.sh("cp /usr/share/doc/iotmonitor/examples/notify@.service /etc/systemd/system/; \
         install -m 755 /usr/share/doc/iotmonitor/examples/notify /usr/local/bin/iotmonitor-notify");
    for unit in units.lines().chain(["/etc/systemd/system/notify@.service"]) {
        let unit = unit.replace("@.", "@x.");
        let output = machine.run(&["systemd-analyze", "verify", "--man=no", &unit]);
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("iotmonitor")).collect();
        assert!(output.status.success() && ours.is_empty(), "{unit}: {said}");
    }
}

#[test]
fn nothing_is_set_up_until_the_file_is_filled_in() {
    let machine = with_apprise();
    machine.launch(&config("auto", &format!("{ALERTS}{LAMP}")));
    machine.journal().wait_for_alert("alert-unit-failed", "");
    machine.journal().wait_for("the reason", |entry| {
        entry.message() == "not set up: no way is in /etc/iotmonitor/notify.conf"
    });
    let test = machine.run(&["iotmonitor", "notify", "--test"]);
    assert!(!test.status.success());
    let said = String::from_utf8_lossy(&test.stderr);
    assert!(said.contains("iotmonitor-notify@test.service ended as `failed`"), "{said}");
}

#[test]
fn every_way_is_gone_and_one_that_accepts_is_enough() {
    let machine = with_apprise();
    machine.write_file(
        "/etc/iotmonitor/notify.conf",
        &format!("{NOTIFY}\n  broken://first\nntfy://secret-token@example.org\n"),
    );
    machine.launch(&config("auto", &format!("{ALERTS}{LAMP}")));
    let test = machine.ok(&["iotmonitor", "notify", "--test", "lamp"]);
    assert!(test.contains("has succeeded"), "{test}");
    eventually("the alert to be delivered", || {
        printed(&machine).iter().any(|line| line == "input lamp: expired (silent)").then_some(())
    });
    let lines = printed(&machine);
    for line in [
        "address broken://first",
        "address ntfy://secret-token@example.org",
        "argument --title=iotmonitor",
        "input lamp: test",
        "way 1 of /etc/iotmonitor/notify.conf has failed (exit code 1)",
    ] {
        assert!(lines.iter().any(|it| it == line), "{line} is missing: {lines:#?}");
    }
    let shown: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("argument"))
        .filter(|line| line.contains("secret") || line.contains("lamp"))
        .collect();
    assert!(shown.is_empty(), "everybody sees {shown:?}");
    assert_eq!(machine.journal().alerts(&machine, "alert-unit-failed", ""), 0);
}

#[test]
fn a_dead_mans_switch_is_called_only_while_devices_are_heard() {
    let machine = Machine::boot();
    machine.write_file("/usr/bin/curl", "#!/bin/sh\nsed 's/^/called /'\n");
    machine.sh("chmod 755 /usr/bin/curl");
    machine.write_file("/etc/iotmonitor/alive.conf", ALIVE);
    machine.launch(&config("auto", LAMP));
    let call = || {
        machine.ok(&["systemctl", "start", "iotmonitor-alive.service"]);
        let calls = machine
            .journal()
            .now(&machine, |entry| entry.message() == "called url = \"https://hc-ping.com/1234\"");
        calls.len()
    };
    assert_eq!(call(), 0, "it is off until the file is filled in");
    machine.write_file("/etc/iotmonitor/alive.conf", &format!("{ALIVE}https://hc-ping.com/1234\n"));
    eventually("the devices to be heard", || (call() > 0).then_some(()));
    machine.sh("systemctl stop mosquitto");
    machine.journal().wait_for_alert("broker-lost", "");
    let before = call();
    assert_eq!(call(), before, "without the broker it is not called");
    machine.ok(&["systemctl", "enable", "--now", "iotmonitor-alive.timer"]);
    assert!(machine.is_active("iotmonitor-alive.timer"));
}

#[test]
fn silenced_alerts_are_not_delivered_until_the_silence_is_over() {
    let machine = with_apprise();
    machine.write_file("/etc/iotmonitor/notify.conf", "ntfy://somewhere\n");
    machine.launch(&config("auto", &format!("{ALERTS}{LAMP}")).replace("Out = 2", "Out = 5"));
    machine.ok(&["iotmonitor", "silence", "lamp", "--for", "2h"]);
    machine.journal().wait_for_alert("silenced", "lamp");
    machine.journal().wait_for_alert("expired", "lamp");
    let status = machine.ok(&["iotmonitor", "status", "lamp"]);
    assert!(status.contains("silenced:     notifications resume in "), "{status}");
    machine.restart_monitor();
    let status = machine.ok(&["iotmonitor", "status", "lamp"]);
    assert!(status.contains("silenced:"), "a restart ends it: {status}");
    assert_eq!(printed(&machine), [""; 0]);
    let other = machine.run(&["iotmonitor", "unsilence", "--all"]);
    assert!(!other.status.success(), "{other:?}");
    machine.ok(&["iotmonitor", "unsilence", "lamp"]);
    eventually("the alert to be delivered", || {
        printed(&machine).iter().any(|line| line == "input lamp: expired (silent)").then_some(())
    });
}

/// By the commands of the page on alerts.
#[test]
fn an_instance_notifies_people_by_a_copy_of_the_unit() {
    let machine = with_apprise();
    let page = include_str!("../../docs/alerts.md");
    let (_, commands) = page.split_once("```sh\nsed ").expect("the page shows how");
    let (commands, _) = commands.split_once("```").expect("the block has an end");
    machine.sh(&format!("sed {commands}"));
    machine.write_file("/etc/iotmonitor/notify.conf", "ntfy://somewhere\n");
    machine.write_garden(&ALERTS.replace("notify@", "notify-garden@"));
    machine.ok(&["systemctl", "start", GARDEN]);
    let test = machine.ok(&["iotmonitor", "--clientid", "garden", "notify", "--test"]);
    assert!(test.contains("has succeeded"), "{test}");
}
