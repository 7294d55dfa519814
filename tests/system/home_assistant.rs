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
    a_press_on_restart_restarts_the_agent
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
