//! The key `availabilityTopic`.

use super::{MQTT, errors, parsed};

#[test]
fn a_device_may_have_nothing_but_a_will() {
    let text = format!("{MQTT}[device_lamp]\navailabilityTopic = \"home/lamp/LWT\"\n");
    let loaded = parsed(&text);
    let lamp = &loaded.config.monitor.devices[0];
    assert_eq!(lamp.availability.as_ref().unwrap().as_str(), "home/lamp/LWT");
    assert!(lamp.watch.is_empty() && loaded.warnings.is_empty());
}

#[test]
fn it_is_one_topic() {
    for wrong in ["home/+/LWT", "home/#/LWT"] {
        let text = format!("{MQTT}[device_lamp]\navailabilityTopic = \"{wrong}\"\n");
        let errors = errors(&text);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].message.starts_with("availabilityTopic: "), "{errors:?}");
    }
    let own =
        format!("{MQTT}[device_lamp]\navailabilityTopic = \"home/monitoring/availability\"\n");
    assert!(parsed(&own).warnings[0].to_string().contains("below baseTopic"));
}

#[test]
fn state_topics_where_devices_are_only_asked_get_a_warning() {
    for asked in ["zigbee2mqtt/lamp/get", "shelly/+/rpc"] {
        let text = format!("{MQTT}[device_lamp]\nstateTopics = [\"a/#\", \"{asked}\"]\n");
        let loaded = parsed(&text);
        let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
        assert!(warning.to_string().contains(&format!("`{asked}` is a state")), "{warning}");
    }
    let set = format!("{MQTT}[device_lamp]\nstateTopics = [\"cmnd/x/POWER\", \"z/+/set\"]\n");
    assert_eq!(parsed(&set).warnings.as_slice(), []);
}
