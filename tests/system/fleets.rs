//! Fleets, and the files of `config.d`.

use super::harness::{Machine, config};

const FLEET_FILE: &str = "/etc/iotmonitor/config.d/fleet.toml";
const LAMP: &str = "[device_lamp]\nwatchTimeOut = 3\nwatchTopics = \"home/lamp/#\"\n";

fn fleet(names: &str) -> String {
    format!(
        "[fleet_esp]\nnames = [{names}]\nwatchTimeOut = 3\nwatchTopics = \"home/{{name}}/sensors/#\"\n"
    )
}

#[test]
fn members_of_a_fleet_and_devices_of_other_files_are_watched() {
    let machine = Machine::boot();
    machine.sh("mkdir --parents --mode=700 /etc/iotmonitor/config.d");
    machine.write_file("/etc/iotmonitor/config.d/lamp.toml", LAMP);
    machine.write_file(FLEET_FILE, &fleet("\"attic\", \"cellar\""));
    let bus = machine.launch(&config("auto", "[device_attic]\nexpireRepeat = \"1h\"\n"));
    for (name, topic) in [("attic", "home/attic/sensors/t"), ("lamp", "home/lamp/light")] {
        machine.make_alive(&bus, name, topic);
        bus.wait_topic(0, &format!("home/monitoring/expire/{name}"));
    }
    bus.wait_topic(0, "home/monitoring/expire/cellar");
    assert!(machine.ok(&["iotmonitor", "check"]).contains("3 devices (2 of [fleet_esp])"));

    // A reload reads all files, and an error names its own.
    machine.write_file(FLEET_FILE, &format!("{}watchTimeout = 5\n", fleet("\"shed\"")));
    assert!(!machine.reload_monitor().status.success());
    machine.journal().wait_for("the error with its file", |entry| {
        entry.is_alert("reload-failed", "") && entry.message().contains("config.d/fleet.toml:5:1")
    });
    let checked = machine.run(&["iotmonitor", "check"]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(78), "{said}");
    assert!(said.contains("--> /etc/iotmonitor/config.d/fleet.toml:5:1"), "{said}");

    machine.write_file(FLEET_FILE, &fleet("\"attic\", \"shed\""));
    assert!(machine.reload_monitor().status.success());
    bus.wait_topic(0, "home/monitoring/expire/shed");
}
