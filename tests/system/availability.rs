//! A device with a real will, on a real broker.

use super::for_both_protocols;
use super::harness::{Machine, config};

/// Its silence alone would be noticed after an hour.
const LAMP: &str = "[device_lamp]\nwatchTimeOut = 3600\nwatchTopics = \"home/lamp/#\"\n\
    availabilityTopic = \"home/lamp/LWT\"\n";
const EXPIRE: &str = "home/monitoring/expire/lamp";
const RECOVER: &str = "home/monitoring/recover/lamp";

for_both_protocols!(
    a_device_whose_connection_breaks_expires_at_once,
    a_retained_will_beside_a_device_that_speaks_raises_no_alarm,
    what_a_gateway_remembers_of_a_dead_device_is_no_recovery,
    a_device_with_two_topics_is_gone_while_either_says_so,
    a_sparkplug_node_is_gone_with_its_present_session_only,
);

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

    // The broker has retained it, which is not news after a restart.
    let from = bus.end();
    machine.restart_monitor();
    bus.wait_exact(from, "home/monitoring/up", "3");
    assert_eq!(bus.count(from, EXPIRE), 0);
    assert!(machine.ok(&["iotmonitor", "status", "lamp"]).contains("expired (lwt-offline)"));

    // It comes back while the monitor is away, and its birth message is retained.
    machine.stop_monitor();
    machine.publish_retained("home/lamp/LWT", "Online");
    let from = bus.end();
    machine.start_monitor();
    bus.wait_topic(from, RECOVER);
}

/// Its birth message is not retained, so the broker's last word is a will of long ago.
fn a_retained_will_beside_a_device_that_speaks_raises_no_alarm(protocol: &str) {
    let machine = Machine::boot();
    machine.publish_retained("home/lamp/LWT", "offline");
    let bus = machine.launch(&config(protocol, LAMP));
    machine.make_alive(&bus, "lamp", "home/lamp/state");
    for _ in 0..3 {
        machine.publish("home/lamp/state", "I am here");
        machine.publish("home/lamp/LWT", "online");
        let from = bus.end();
        machine.restart_monitor();
        bus.wait_exact(from, "home/monitoring/up", "3");
        assert_eq!((bus.count(0, EXPIRE), bus.count(0, RECOVER)), (0, 0));
    }
    let from = bus.end();
    machine.publish_retained("home/lamp/LWT", "Connection Lost");
    bus.wait_topic(from, EXPIRE);
}

/// As Zigbee2MQTT does when it restarts: first the device is gone, then its last known values.
fn what_a_gateway_remembers_of_a_dead_device_is_no_recovery(protocol: &str) {
    const SECTIONS: &str = "[device_gateway]\navailabilityTopic = \"z/bridge/state\"\n\
        [device_sensor]\nwatchTimeOut = \"25h\"\nwatchTopics = \"z/sensor\"\n\
        availabilityTopic = \"z/sensor/availability\"\ndependsOn = \"gateway\"\n";
    const GONE: &str = "home/monitoring/expire/sensor";
    const BACK: &str = "home/monitoring/recover/sensor";
    let machine = Machine::boot();
    let bus = machine.launch(&config(protocol, SECTIONS));
    machine.make_alive(&bus, "gateway", "z/bridge/state");
    machine.make_alive(&bus, "sensor", "z/sensor");
    machine.publish_retained("z/sensor/availability", "{\"state\":\"offline\"}");
    bus.wait_topic(0, GONE);
    machine.publish_retained("z/bridge/state", "{\"state\":\"offline\"}");
    bus.wait_topic(0, "home/monitoring/expire/gateway");
    machine.publish_retained("z/bridge/state", "{\"state\":\"online\"}");
    bus.wait_topic(0, "home/monitoring/recover/gateway");
    machine.publish_retained("z/sensor/availability", "{\"state\":\"offline\"}");
    let from = bus.end();
    machine.publish("z/sensor", "{\"temperature\":21.5}");
    bus.let_seconds_pass(2);
    assert_eq!(bus.count(from, BACK), 0, "the gateway has it from memory");
    machine.publish("z/sensor", "{\"temperature\":21.6}");
    bus.wait_topic(from, BACK);
}

/// The device has a session with a will, and the bridge before it reports for both.
fn a_device_with_two_topics_is_gone_while_either_says_so(protocol: &str) {
    const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 3600\nwatchTopics = \"home/lamp/#\"\n\
        availabilityTopic = [\"home/lamp/LWT\", \"z/bridge/state\"]\n";
    let machine = Machine::boot();
    let bus = machine.launch(&config(protocol, SECTIONS));
    let will = ["--will-topic", "home/lamp/LWT", "--will-payload", "offline", "--will-retain"];
    let _device = machine.subscribe_with(&will, &["home/lamp/cmnd"]);
    machine.make_alive(&bus, "lamp", "home/lamp/LWT");
    machine.publish_retained("home/lamp/LWT", "online");
    machine.publish_retained("z/bridge/state", "{\"state\":\"online\"}");
    assert_eq!(bus.count(0, EXPIRE), 0);

    machine.publish_retained("z/bridge/state", "{\"state\":\"offline\"}");
    bus.wait_topic(0, EXPIRE);
    let from = bus.end();
    machine.ok(&["pkill", "-KILL", "--full", "[w]ill-topic"]);
    bus.wait_exact(from, "home/lamp/LWT", "offline");
    machine.publish_retained("z/bridge/state", "{\"state\":\"online\"}");
    bus.let_seconds_pass(2);
    assert_eq!(bus.count(0, RECOVER), 0, "its own will still says that it is gone");
    assert!(machine.ok(&["iotmonitor", "status", "lamp"]).contains("expired (lwt-offline)"));

    machine.publish_retained("home/lamp/LWT", "online");
    bus.wait_topic(0, RECOVER);
    assert_eq!((bus.count(0, EXPIRE), bus.count(0, RECOVER)), (1, 1));
}

/// The will of an edge node is its NDEATH, with the number of the session that it ends. The node is
/// back with another session before the broker notices the end of the former one.
fn a_sparkplug_node_is_gone_with_its_present_session_only(protocol: &str) {
    const SECTIONS: &str = "[device_press]\nwatchTimeOut = 3600\n\
        watchTopics = \"spBv1.0/plant/NDATA/press\"\n\
        availabilityTopic = \"spBv1.0/plant/NDEATH/press\"\n";
    const DEATH: &str = "spBv1.0/plant/NDEATH/press";
    const GONE: &str = "home/monitoring/expire/press";
    const BACK: &str = "home/monitoring/recover/press";
    // A payload (org.eclipse.tahu.protobuf.Payload) with one metric: its name, its type (Int32)
    // and its value.
    let payload = |session: u8| {
        let metric = [b"\x0a\x05bdSeq\x20\x03\x50".as_slice(), &[session]].concat();
        let length = u8::try_from(metric.len()).unwrap();
        String::from_utf8([&[0x12, length], metric.as_slice()].concat()).unwrap()
    };
    let machine = Machine::boot();
    let bus = machine.launch(&config(protocol, SECTIONS));
    let connect = |session: u8| {
        let (id, will) = (format!("press{session}"), payload(session));
        let arguments = ["--id", &id, "--will-topic", DEATH, "--will-payload", &will];
        let node = machine.subscribe_with(&arguments, &["spBv1.0/plant/NCMD/press"]);
        machine.publish("spBv1.0/plant/NBIRTH/press", &will);
        node
    };
    let kill = |session: u8| {
        machine.ok(&["pkill", "-KILL", "--full", &format!("[p]ress{session}")]);
    };
    let deaths = machine.subscribe_with(&[], &[DEATH]);
    machine.make_alive(&bus, "press", "spBv1.0/plant/NDATA/press");
    let _former = connect(7);
    let _present = connect(8);
    kill(7);
    deaths.wait_topic(0, DEATH);
    bus.let_seconds_pass(2);
    assert_eq!(bus.count(0, GONE), 0, "that was the end of the former session");
    kill(8);
    bus.wait_topic(0, GONE);
    assert!(machine.ok(&["iotmonitor", "status", "press"]).contains("expired (lwt-offline)"));
    let _next = connect(9);
    bus.wait_topic(0, BACK);
    assert_eq!((bus.count(0, GONE), bus.count(0, BACK)), (1, 1));
}
