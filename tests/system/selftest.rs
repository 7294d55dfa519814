//! The harness itself, without iotmonitor: if these fail, no other failure means anything.

use super::harness::{Machine, unix_now};

#[test]
fn a_message_passes_the_broker_unchanged() {
    let machine = Machine::boot();
    let bus = machine.subscribe(&["a/#"]);
    let payload = b"\0 \xff % ' \" \\ \n";
    machine.publish_with(&["-r"], "a/b c", payload);
    let message = bus.wait_topic(0, "a/b c");
    assert_eq!((message.payload.as_slice(), message.qos, message.retain), (&payload[..], 1, false));
    let late = machine.subscribe(&["a/#"]);
    assert!(late.wait_topic(0, "a/b c").retain);
}

#[test]
fn the_journal_is_followed_from_the_boot_on() {
    let machine = Machine::boot();
    machine.journal().wait_for("systemd's start of mosquitto", |entry| {
        entry.field("UNIT") == "mosquitto.service"
    });
    machine.ok(&["systemd-run", "--unit=talker", "--wait", "echo", "a word"]);
    let entry = machine.journal().wait_for("the word", |entry| entry.message() == "a word");
    assert_eq!(entry.field("_SYSTEMD_UNIT"), "talker.service");
    assert!(entry.micros() / 1_000_000 <= unix_now());
    assert_eq!(machine.journal().now(&machine, |entry| entry.message() == "a word").len(), 1);
}

#[test]
fn a_machine_is_private_and_leaves_nothing() {
    let (first, second) = (Machine::boot(), Machine::boot());
    first.write_file("/var/lib/note", "mine");
    assert_eq!(first.read_file("/var/lib/note"), b"mine");
    assert!(!second.run(&["test", "-e", "/var/lib/note"]).status.success());
    first.ok(&["systemctl", "stop", "mosquitto"]);
    assert!(second.is_active("mosquitto.service"));
    let name = first.name().to_owned();
    drop(first);
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"] {
        assert!(!std::path::Path::new(root).join(&name).exists(), "{root}/{name} is left");
    }
    assert!(second.is_active("mosquitto.service"));
}

#[test]
fn what_is_installed_is_what_systemd_accepts() {
    let machine = Machine::boot();
    machine.ok(&["getent", "passwd", "iotmonitor"]);
    machine.ok(&["test", "-x", "/usr/bin/iotmonitor"]);
    for unit in ["system/iotmonitor.service", "system/iotmonitor.slice", "user/iotmonitor.service"]
    {
        let manager = if unit.starts_with("user") { "--user" } else { "--system" };
        let path = format!("/usr/lib/systemd/{unit}");
        let said = machine.sh(&format!(
            "export XDG_RUNTIME_DIR=/run; systemd-analyze verify --man=no {manager} {path} 2>&1"
        ));
        assert!(!said.contains("iotmonitor"), "{said}");
    }
}
