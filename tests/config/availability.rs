//! The key `availabilityTopic`.

use super::{MQTT, errors, parsed};
use iotmonitor_core::topic::TopicName;

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

#[test]
fn a_device_may_have_nothing_but_a_will() {
    let text = format!("{MQTT}[device_lamp]\navailabilityTopic = \"home/lamp/LWT\"\n");
    let loaded = parsed(&text);
    let lamp = &loaded.config.monitor.devices[0];
    assert_eq!(lamp.availability, [topic("home/lamp/LWT")]);
    assert!(lamp.watch.is_empty() && loaded.warnings.is_empty());
}

#[test]
fn it_has_no_wildcards() {
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
fn there_may_be_several_topics_and_words_of_its_own() {
    let text = format!(
        "{MQTT}[device_lamp]\navailabilityTopic = [\"z/bridge/state\", \"z/lamp/a\", \"z/lamp/a\"]\n\
         availabilityOffline = \"weg\"\navailabilityOnline = [\"da\", \"wieder da\"]\n"
    );
    let loaded = parsed(&text);
    let lamp = &loaded.config.monitor.devices[0];
    assert_eq!(lamp.availability, [topic("z/bridge/state"), topic("z/lamp/a")]);
    let words = lamp.availability_words.as_ref().unwrap();
    assert_eq!((&words.offline[..], words.online.len()), (&["weg".to_owned()][..], 2));
    assert!(loaded.warnings.is_empty());
}

#[test]
fn what_cannot_be_meant_by_words_of_its_own_is_found() {
    let both =
        "availabilityTopic = \"a\"\navailabilityOffline = \"1\"\navailabilityOnline = [\" 1\"]";
    let errors_of = |keys: &str| errors(&format!("{MQTT}[device_lamp]\n{keys}\n"));
    assert!(errors_of(both)[0].message.contains("is in availabilityOffline and in"));
    let topics: Vec<String> = (0..17).map(|number| format!("\"a/{number}\"")).collect();
    let many = format!("availabilityTopic = [{}]", topics.join(", "));
    assert!(errors_of(&many)[0].message.contains("more than 16 topics"));
    assert!(errors_of("availabilityTopic = \"a\"\navailabilityOffline = 1").len() == 1);
    let alone = format!("{MQTT}[device_lamp]\nwatchTopics = \"a\"\navailabilityOnline = \"da\"\n");
    let warnings = parsed(&alone).warnings;
    assert!(warnings[0].to_string().contains("has no effect without availabilityTopic"));
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
