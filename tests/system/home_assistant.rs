//! Home Assistant's side: what it finds on the broker, and what its buttons do.

use super::for_both_protocols;
use super::harness::{Machine, config};

const SECTIONS: &str = "[homeassistant]\ndiscovery = true\nallowCommands = true\n\
    [device_lamp]\nwatchTopics = \"home/lamp/#\"\n\
    [agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const UNIT: &str = "iotmonitor-agent-sleeper.service";
const LAMP: &str = "homeassistant/device/iotmonitor/lamp/config";
const SLEEPER: &str = "homeassistant/device/iotmonitor/sleeper/config";

for_both_protocols!(
    descriptions_are_retained_until_the_device_leaves,
    a_press_on_restart_restarts_the_agent,
    an_own_description_ends_no_alarm,
);

fn descriptions_are_retained_until_the_device_leaves(protocol: &str) {
    let machine = Machine::boot();
    let bus = machine.launch(&config(protocol, SECTIONS));
    bus.wait_topic(0, "home/monitoring/status/lamp");
    // Whoever comes later finds them, as Home Assistant does when it starts.
    let late = machine.subscribe(&["homeassistant/#"]);
    let lamp = late.wait_topic(0, LAMP).json();
    let state_topic = lamp["state_topic"].as_str().unwrap().to_owned();
    assert_eq!(late.wait_topic(0, SLEEPER).json()["device"]["model"], "MQTT agent");
    let values = machine.subscribe(&[&state_topic]);
    assert_eq!(values.wait_topic(0, &state_topic).json()["name"], "lamp");

    let without = SECTIONS.split("[agent_").next().unwrap();
    machine.write_config(&config(protocol, without));
    let from = late.end();
    assert!(machine.reload_monitor().status.success());
    late.wait_exact(from, SLEEPER, "");
}

fn a_press_on_restart_restarts_the_agent(protocol: &str) {
    let machine = Machine::boot();
    let bus = machine.launch(&config(protocol, SECTIONS));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    bus.wait_topic(0, "home/monitoring/status/lamp");
    let late = machine.subscribe(&["homeassistant/#"]);
    let found = late.wait_topic(0, SLEEPER).json();
    let pid = machine.main_pid(UNIT);
    let on = found["command_topic"].as_str().unwrap();
    let press = found["components"]["restart"]["payload_press"].as_str().unwrap();
    machine.publish(on, press);
    machine.await_new_main_pid(UNIT, pid);
}

/// Descriptions are published at each start, to all subscribers of the prefix.
fn an_own_description_ends_no_alarm(protocol: &str) {
    const WATCHING: &str = "[homeassistant]\ndiscovery = true\n\
        [device_keeper]\nwatchTimeOut = 2\nwatchTopics = \"homeassistant/#\"\n";
    let machine = Machine::boot();
    let bus = machine.launch(&config(protocol, WATCHING));
    bus.wait_topic(0, "home/monitoring/expire/keeper");
    let from = bus.end();
    machine.restart_monitor();
    bus.wait_exact(from, "home/monitoring/up", "3");
    assert_eq!(bus.count(0, "home/monitoring/recover/keeper"), 0);
    // What another program publishes there is a contact.
    machine.publish("homeassistant/sensor/tv/config", "{}");
    bus.wait_topic(from, "home/monitoring/recover/keeper");
}
