//! One table a convention: what passes, and the sections that come of it.

use crate::Traffic;

#[test]
fn tasmota() {
    let traffic = Traffic::default()
        .retained("tele/plug1/LWT", "Online")
        .retained(
            "tasmota/discovery/A4CF12FFEE00/config",
            r#"{"t":"plug1","ft":"%prefix%/%topic%/"}"#,
        )
        .once(3, "tele/plug1/INFO1", r#"{"Info1":{"Module":"Generic","Version":"14.2.0"}}"#)
        .every(10, "tele/plug1/STATE", r#"{"POWER":"ON"}"#)
        .every(10, "tele/plug1/SENSOR", r#"{"ENERGY":{"Power":3}}"#)
        .once(7, "cmnd/plug1/POWER", "ON")
        .once(7, "stat/plug1/POWER", "ON");
    assert_eq!(
        traffic.sections(),
        r#"[device_plug1]
watchTopics = ["tele/plug1/+", "stat/plug1/+"]
watchTimeOut = "auto"
availabilityTopic = "tele/plug1/LWT"
helloTopic = "tele/plug1/INFO1"
"#
    );
    let (text, ..) = traffic.file();
    assert!(text.contains("\n# stateTopics = [\"cmnd/plug1/POWER\"]\n"), "{text}");
    assert!(text.contains("#   tele/plug1/STATE: 12 messages, at most 10 s apart\n"), "{text}");
}

#[test]
fn tasmota_with_another_order_of_levels_and_a_telemetry_that_was_not_waited_for() {
    let traffic = Traffic::default()
        .retained("home/pump/tele/LWT", "Online")
        .once(20, "home/pump/tele/STATE", r#"{"POWER":"ON"}"#)
        .retained("home/old/tele/LWT", "Offline");
    assert_eq!(
        traffic.sections(),
        r#"[device_pump]
watchTopics = ["home/pump/tele/+", "home/pump/stat/+"]
watchTimeOut = "auto"
availabilityTopic = "home/pump/tele/LWT"
"#
    );
    let (text, ..) = traffic.file();
    assert!(text.contains("gone. Remove the `#` to watch it:\n# [device_old]\n"), "{text}");
}

#[test]
fn zigbee2mqtt() {
    let list = r#"[{"friendly_name":"Coordinator","type":"Coordinator","ieee_address":"0x00"},
        {"friendly_name":"kitchen/floor","type":"Router"},{"friendly_name":"door","type":"EndDevice"}]"#;
    let traffic = Traffic::default()
        .retained("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#)
        .retained("zigbee2mqtt/bridge/devices", list)
        .once(3, "zigbee2mqtt/bridge/logging", r#"{"level":"info"}"#)
        .once(9, "zigbee2mqtt/bridge/request/permit_join", "{}")
        .retained("zigbee2mqtt/kitchen/floor/availability", r#"{"state":"online"}"#)
        .every(5, "zigbee2mqtt/kitchen/floor", r#"{"state":"ON"}"#)
        .once(8, "zigbee2mqtt/kitchen/floor/set", r#"{"state":"OFF"}"#)
        .once(8, "zigbee2mqtt/unlisted/set", r#"{"state":"OFF"}"#)
        .once(8, "zigbee2mqtt/unlisted", r#"{"state":"OFF"}"#);
    assert_eq!(
        traffic.sections(),
        r#"[device_zigbee2mqtt]
availabilityTopic = "zigbee2mqtt/bridge/state"
[device_kitchen-floor]
watchTopics = "zigbee2mqtt/kitchen/floor"
watchTimeOut = "auto"
availabilityTopic = "zigbee2mqtt/kitchen/floor/availability"
dependsOn = "zigbee2mqtt"
"#
    );
    let (text, ..) = traffic.file();
    assert!(
        text.contains("still exists:\n# [device_door]\n# watchTopics = \"zigbee2mqtt/door\"\n"),
        "{text}"
    );
}

#[test]
fn no_device_depends_on_a_bridge_that_is_not_watched() {
    let traffic = Traffic::default()
        .retained("zigbee2mqtt/bridge/state", r#"{"state":"offline"}"#)
        .every(10, "zigbee2mqtt/door", r#"{"contact":true}"#);
    let sections = traffic.sections();
    assert!(sections.contains("[device_door]") && !sections.contains("dependsOn"), "{sections}");
}

#[test]
fn esphome() {
    let traffic = Traffic::default()
        .retained("garage/status", "online")
        .retained("esphome/discover/garage", r#"{"name":"garage","board":"esp32dev"}"#)
        .every(10, "garage/sensor/temperature/state", "21.5")
        .once(5, "garage/switch/relay/state", "ON")
        .once(4, "garage/switch/relay/command", "ON")
        .once(5, "garage/debug", "[D][switch:055]: ON");
    assert_eq!(
        traffic.sections(),
        r#"[device_garage]
watchTopics = "garage/+/+/state"
watchTimeOut = "auto"
availabilityTopic = "garage/status"
"#
    );
    // Without a sign of ESPHome it is a matter of shape.
    let alike = Traffic::default().every(10, "garage/sensor/temperature/state", "21.5");
    assert!(alike.sections().contains("\"garage/sensor/temperature/state\""));
}

#[test]
fn homie() {
    let traffic = Traffic::default()
        .retained("homie/heater/$homie", "4.0.0")
        .retained("homie/heater/$state", "ready")
        .retained("homie/heater/$nodes", "valve")
        .retained("homie/heater/valve/$name", "Valve")
        .retained("homie/heater/valve/position", "20")
        .every(5, "homie/heater/valve/temperature", "21")
        .once(9, "homie/heater/valve/position/set", "40")
        .retained("homie/5/meter/$state", "ready")
        .retained("homie/5/meter/$description", r#"{"homie":"5.0"}"#)
        .every(5, "homie/5/meter/phase/power", "800");
    assert_eq!(
        traffic.sections(),
        r#"[device_meter]
watchTopics = "homie/5/meter/+/+"
watchTimeOut = "auto"
availabilityTopic = "homie/5/meter/$state"
[device_heater]
watchTopics = "homie/heater/+/+"
watchTimeOut = "auto"
availabilityTopic = "homie/heater/$state"
"#
    );
}

#[test]
fn shelly_of_both_generations() {
    let traffic = Traffic::default()
        .retained("shellies/shelly1pm-ABCDEF/online", "true")
        .once(2, "shellies/shelly1pm-ABCDEF/announce", r#"{"id":"shelly1pm-ABCDEF"}"#)
        .once(2, "shellies/announce", r#"{"id":"shelly1pm-ABCDEF"}"#)
        .every(30, "shellies/shelly1pm-ABCDEF/relay/0", "on")
        .every(30, "shellies/shelly1pm-ABCDEF/relay/0/power", "12.1")
        .once(40, "shellies/shelly1pm-ABCDEF/relay/0/command", "on")
        .once(40, "shellies/command", "announce")
        .retained("shellyplus1-a8032abe54dc/online", "true")
        .every(
            20,
            "shellyplus1-a8032abe54dc/events/rpc",
            r#"{"src":"shellyplus1-a8032abe54dc","method":"NotifyStatus"}"#,
        )
        .every(20, "shellyplus1-a8032abe54dc/status/switch:0", "{}")
        .once(30, "shellyplus1-a8032abe54dc/rpc", "{}")
        .once(30, "shellyplus1-a8032abe54dc/command/switch:0", "on");
    assert_eq!(
        traffic.sections(),
        r#"[device_shelly1pm-ABCDEF]
watchTopics = ["shellies/shelly1pm-ABCDEF/relay/+", "shellies/shelly1pm-ABCDEF/relay/+/power"]
watchTimeOut = "auto"
availabilityTopic = "shellies/shelly1pm-ABCDEF/online"
helloTopic = "shellies/shelly1pm-ABCDEF/announce"
[device_shellyplus1-a8032abe54dc]
watchTopics = ["shellyplus1-a8032abe54dc/events/rpc", "shellyplus1-a8032abe54dc/status/+"]
watchTimeOut = "auto"
availabilityTopic = "shellyplus1-a8032abe54dc/online"
"#
    );
}

#[test]
fn home_assistant_discovery() {
    let sensor = r#"{"~":"gw/solar","name":"Power","stat_t":"~/power","avty_t":"~/lwt","exp_aft":600,
        "dev":{"ids":["inv1"],"name":"Solar Inverter","mf":"Acme","mdl":"X1"}}"#;
    let switch = r#"{"state_topic":"gw/solar/relay","command_topic":"gw/solar/relay/do",
        "availability":[{"topic":"gw/status"},{"topic":"gw/solar/lwt"}],
        "device":{"identifiers":"inv1","name":"Solar Inverter"}}"#;
    let other = r#"{"dev":{"ids":["bat2"],"name":"Battery"},"avty":{"t":"gw/status"},
        "cmps":{"soc":{"p":"sensor","stat_t":"gw/battery"},"v":{"p":"sensor","stat_t":"gw/battery"}}}"#;
    let traffic = Traffic::default()
        .retained("homeassistant/sensor/inv1/power/config", sensor)
        .retained("homeassistant/switch/inv1/relay/config", switch)
        .retained("homeassistant/device/bat2/config", other)
        .retained("homeassistant/sensor/broken/config", "{")
        .retained("homeassistant/status", "online")
        .retained("gw/status", "online")
        .retained("gw/solar/lwt", "online")
        .every(60, "gw/solar/power", "120")
        .once(2, "gw/solar/relay", "ON")
        .once(2, "gw/solar/relay/do", "ON")
        .every(10, "gw/battery", r#"{"soc":80}"#);
    assert_eq!(
        traffic.sections(),
        r#"[device_Battery]
watchTopics = "gw/battery"
watchTimeOut = "auto"
dependsOn = "gw"
[device_Solar_Inverter]
watchTopics = ["gw/solar/power", "gw/solar/relay"]
watchTimeOut = "10min"
availabilityTopic = "gw/solar/lwt"
dependsOn = "gw"
[device_gw]
availabilityTopic = "gw/status"
"#
    );
    let (text, ..) = traffic.file();
    assert!(text.contains("# Home Assistant discovery, Acme X1.\n"), "{text}");
}
