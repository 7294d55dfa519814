//! A device with a real will, on a real broker.

use super::for_both_protocols;
use super::harness::{Machine, config};

/// Its silence alone would be noticed after an hour.
const LAMP: &str = "[device_lamp]\nwatchTimeOut = 3600\nwatchTopics = \"home/lamp/#\"\n\
    availabilityTopic = \"home/lamp/LWT\"\n";
const EXPIRE: &str = "home/monitoring/expire/lamp";
const RECOVER: &str = "home/monitoring/recover/lamp";

for_both_protocols!(a_device_whose_connection_breaks_expires_at_once);

fn a_device_whose_connection_breaks_expires_at_once(protocol: &str) {
    let machine = Machine::boot();
    let bus = machine.launch(&config(protocol, LAMP));
    let will = ["--will-topic", "home/lamp/LWT", "--will-payload", "Offline", "--will-retain"];
    let _device = machine.subscribe_with(&will, &["home/lamp/cmnd"]);
    machine.make_alive(&bus, "lamp", "home/lamp/LWT");
    machine.publish_retained("home/lamp/LWT", "Online");
    let from = bus.end();
    // Not the command that says so.
    machine.ok(&["pkill", "-KILL", "--full", "[w]ill-topic"]);
    bus.wait_topic(from, EXPIRE);
    let status = bus.wait_from(from, "the reason", |message| {
        message.topic == "home/monitoring/status/lamp" && message.json()["state"] == "expired"
    });
    assert_eq!(status.json()["reason"], "lwt-offline");
    let alert = machine.journal().wait_for_alert("expired", "lamp");
    assert!(alert.message().contains("availabilityTopic"), "{}", alert.message());
    assert_eq!(alert.field("IOTMONITOR_REASON"), "lwt-offline");
    let said = machine.ok(&["iotmonitor", "status", "lamp"]);
    assert!(said.contains("expired (lwt-offline)"), "{said}");

    // The broker has retained it, which is no news after a restart.
    let from = bus.end();
    machine.restart_monitor();
    bus.wait_exact(from, "home/monitoring/up", "3");
    assert_eq!(bus.count(from, EXPIRE), 0);
    assert!(machine.ok(&["iotmonitor", "status", "lamp"]).contains("expired (lwt-offline)"));

    // It comes back while nobody watches, and its birth message is retained.
    machine.stop_monitor();
    machine.publish_retained("home/lamp/LWT", "Online");
    let from = bus.end();
    machine.start_monitor();
    bus.wait_topic(from, RECOVER);
}
