//! One alert for each fault: a gateway with the devices behind it, and a device that flaps.

use super::for_both_protocols;
use super::harness::{Machine, config};

const HOUSE: &str = "[device_lamp]\nwatchTimeOut = 2\nwatchTopics = \"home/lamp\"\n\
    dependsOn = \"gateway\"\n\
    [device_bell]\nwatchTimeOut = 8\nwatchTopics = \"home/bell\"\ndependsOn = [\"gateway\"]\n\
    [device_gateway]\nwatchTimeOut = 5\nwatchTopics = \"home/gateway\"\n";

for_both_protocols!(a_gateway_and_what_is_behind_it_are_one_alert);

fn a_gateway_and_what_is_behind_it_are_one_alert(protocol: &str) {
    let machine = Machine::boot();
    let bus = machine.launch(&config(protocol, HOUSE));
    for name in ["lamp", "bell", "gateway"] {
        machine.make_alive(&bus, name, &format!("home/{name}"));
    }
    let from = bus.end();
    for name in ["lamp", "gateway", "bell"] {
        bus.wait_topic(from, &format!("home/monitoring/expire/{name}"));
    }
    for name in ["lamp", "bell"] {
        bus.wait_from(from, "the reason", |message| {
            message.topic == format!("home/monitoring/status/{name}")
                && message.json()["reason"] == "upstream"
        });
    }
    let alert = machine.journal().wait_for_alert("expired", "gateway");
    assert!(alert.message().contains("; 2 devices that depend on it"), "{}", alert.message());
    assert_eq!(machine.journal().alerts(&machine, "expired", ""), 1);
    let said = machine.ok(&["iotmonitor", "status", "--json", "lamp"]);
    assert!(said.contains("\"reason\":\"upstream\""), "{said}");
    let property = machine.ok(&[
        "busctl",
        "get-property",
        "org.iotmonitor.Monitor1",
        "/org/iotmonitor/Monitor1/device/bell",
        "org.iotmonitor.Device1",
        "Reason",
    ]);
    assert_eq!(property, "s \"upstream\"");

    // It is still so for the next process, and only a device that does not follow is reported.
    machine.restart_monitor();
    machine.make_alive(&bus, "gateway", "home/gateway");
    machine.journal().wait_for_alert("recovered", "gateway");
    for _ in 0..10 {
        machine.publish("home/gateway", "here");
        machine.publish("home/lamp", "here");
        bus.let_seconds_pass(1);
    }
    machine.journal().wait_for_alert("expired", "bell");
    assert_eq!(machine.journal().alerts(&machine, "expired", "lamp"), 0);
    assert_eq!(machine.journal().alerts(&machine, "recovered", "lamp"), 0);
}

#[test]
fn a_device_that_comes_and_goes_is_reported_once() {
    let machine = Machine::boot();
    let lamp = "[device_lamp]\nwatchTimeOut = 1\nwatchTopics = \"home/lamp\"\n";
    let bus = machine.launch(&config("auto", lamp));
    for _ in 0..7 {
        let from = bus.end();
        machine.publish("home/lamp", "on");
        bus.wait_topic(from, "home/monitoring/expire/lamp");
    }
    let alert = machine.journal().wait_for_alert("flapping", "lamp");
    assert_eq!(alert.field("IOTMONITOR_REASON"), "flapping");
    assert_eq!(alert.field("PRIORITY"), "4");
    assert_eq!(machine.journal().alerts(&machine, "flapping", "lamp"), 1);
    assert_eq!(machine.journal().alerts(&machine, "expired", "lamp"), 4);
    let said = machine.ok(&["iotmonitor", "status", "lamp"]);
    assert!(said.contains("expired (flapping)"), "{said}");
}
