//! A fleet whose devices are learned, from the first message to the command that forgets one.

use super::harness::{Machine, config};
use serde_json::Value;

const FLEET: &str = "[fleet_esp]\nnames = \"auto\"\nwatchTimeOut = 3\n\
    helloTopic = \"home/{name}\"\nwatchTopics = \"home/{name}/sensors/#\"\n\
    stateTopics = \"home/{name}/set/#\"\n";

fn names(machine: &Machine) -> Vec<String> {
    let listed: Value = serde_json::from_str(&machine.ok(&["iotmonitor", "status", "--json"]))
        .expect("status prints JSON");
    let devices = listed.as_array().expect("a list");
    devices.iter().map(|device| device["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn devices_are_learned_remembered_and_forgotten() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", FLEET));
    assert_eq!(names(&machine), [""; 0]);
    for device in ["attic", "cellar", "shed"] {
        machine.make_alive(&bus, device, &format!("home/{device}/sensors/t"));
        let found = machine.journal().wait_for_alert("device-found", device);
        assert!(found.message().contains("`esp`"), "{}", found.message());
    }
    assert_eq!(names(&machine), ["attic", "cellar", "shed"]);
    machine.publish_with(&["-q", "1"], "home/attic/set/lamp", b"on");

    // They fall silent, and are remembered by a process that is killed.
    bus.wait_topic(0, "home/monitoring/expire/shed");
    let from = bus.end();
    machine.crash_monitor();
    bus.wait_from(from, "the status of shed", |message| {
        message.topic == "home/monitoring/status/shed" && message.json()["state"] == "expired"
    });
    assert_eq!(names(&machine), ["attic", "cellar", "shed"]);
    assert!(machine.ok(&["iotmonitor", "status", "shed"]).contains("fleet:        esp"));

    let from = bus.end();
    machine.ok(&["iotmonitor", "forget", "attic"]);
    bus.wait_exact(from, "home/monitoring/status/attic", "");
    machine.journal().wait_for_alert("device-forgotten", "attic");
    assert_eq!(names(&machine), ["cellar", "shed"]);
    let listed = machine.run(&["iotmonitor", "states", "list"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(!listed.contains("home/attic/set/lamp"), "{listed}");

    // Its messages do not bring it back, and neither does a restart.
    let stays_out = |other: &str| {
        machine.publish("home/attic/sensors/t", "1");
        // What is published behind it has been heard, and so it has.
        machine.make_alive(&bus, other, &format!("home/{other}/sensors/t"));
        names(&machine) == ["cellar", "shed"]
    };
    assert!(stays_out("cellar"));
    machine.crash_monitor();
    assert!(stays_out("shed"));
    let again = machine.run(&["iotmonitor", "forget", "attic"]);
    assert!(!again.status.success());
    assert_eq!(machine.journal().alerts(&machine, "device-found", "attic"), 1);
}
