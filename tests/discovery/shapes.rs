//! Devices that no convention knows, and those that are watched already.

use crate::{LISTENED, Traffic, checked};

#[test]
fn topics_with_the_same_beginning_are_one_device() {
    let traffic = Traffic::default()
        .every(10, "home/esp04/sensors/temperature", "21")
        .every(20, "home/esp04/sensors/humidity", "40")
        .once(2, "home/esp04/hello", "1")
        .once(4, "home/esp04/actuators/lamp/set", "on")
        .retained("home/esp05/status", "online")
        .every(10, "home/esp05/temperature", "20")
        .every(10, "home/esp05/light/level", "20")
        .every(10, "rain", "0");
    assert_eq!(
        traffic.sections(),
        r#"[device_esp04]
watchTopics = "home/esp04/sensors/#"
watchTimeOut = "auto"
helloTopic = "home/esp04/hello"
[device_esp05]
watchTopics = "home/esp05/#"
watchTimeOut = "auto"
availabilityTopic = "home/esp05/status"
[device_rain]
watchTopics = "rain"
watchTimeOut = "auto"
"#
    );
}

#[test]
fn a_filter_takes_neither_others_nor_orders() {
    let traffic = Traffic::default()
        .every(10, "home/door", "closed")
        .every(10, "home/window", "open")
        .every(10, "home/lamp/power", "3")
        .every(10, "home/lamp/level", "3")
        .every(10, "home/lamp/level/set", "3");
    assert_eq!(
        traffic.sections(),
        r#"[device_door]
watchTopics = "home/door"
watchTimeOut = 0
[device_lamp]
watchTopics = ["home/lamp/level", "home/lamp/power"]
watchTimeOut = "auto"
[device_window]
watchTopics = "home/window"
watchTimeOut = 0
"#
    );
}

#[test]
fn a_lamp_that_is_on_or_off_is_not_taken_for_a_will() {
    for payload in ["1", "0", "true", "false"] {
        let sections = Traffic::default().every(10, "home/lamp/state", payload).sections();
        assert!(!sections.contains("availabilityTopic"), "{sections}");
    }
    let sections =
        Traffic::default().retained("home/lamp/state", "offline").every(5, "home/lamp/a", "1");
    assert!(sections.sections().contains("availabilityTopic = \"home/lamp/state\""));
}

#[test]
fn what_is_only_retained_is_offered_and_not_watched() {
    let traffic = Traffic::default().retained("home/old/temperature", "20");
    let (text, config, devices) = traffic.file();
    assert_eq!((config.monitor.devices.len(), devices.len()), (0, 1));
    assert!(
        text.contains("\n# [device_old]\n# watchTopics = \"home/old/temperature\"\n"),
        "{text}"
    );
    // Without the marks it is a configuration too.
    let uncommented: String = text
        .lines()
        .map(|line| {
            let entry = line
                .strip_prefix("# ")
                .filter(|entry| entry.starts_with('[') || entry.contains(" = "));
            format!("{}\n", entry.unwrap_or(line))
        })
        .collect();
    assert_eq!(checked(&uncommented).monitor.devices.len(), 1);
}

#[test]
fn what_is_watched_already_is_left_out_and_its_name_is_not_given_twice() {
    let existing = checked(
        "[mqtt]\nserverAddress = \"tcp://localhost:1883\"\nbaseTopic = \"mon\"\n\
         [device_lamp]\nwatchTopics = \"home/lamp/#\"\navailabilityTopic = \"home/will\"\n",
    );
    let discovery = Traffic::default()
        .every(10, "home/lamp/power", "3")
        .every(10, "home/will", "online")
        .every(1, "mon/up", "1")
        .every(10, "garden/lamp/power", "3")
        .discovery(&existing.monitor);
    let devices = discovery.found(LISTENED).devices;
    let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!((names, discovery.heard_again()), (vec!["lamp-2"], vec!["lamp"]));
    assert_eq!(discovery.topics(), 1);
}

#[test]
fn the_members_of_a_fleet_are_left_out_whether_their_names_are_listed_or_learned() {
    for (names, left_out) in [("[\"attic\", \"shed\"]", "attic"), ("\"auto\"", "[fleet_esp]")] {
        let existing = checked(&format!(
            "[mqtt]\nserverAddress = \"tcp://localhost:1883\"\n[fleet_esp]\nnames = {names}\n\
             watchTopics = \"esp/{{name}}/sensors/#\"\nstateTopics = \"esp/{{name}}/set\"\n\
             availabilityTopic = \"esp/{{name}}/LWT\"\n"
        ));
        let discovery = Traffic::default()
            .every(10, "esp/attic/sensors/t", "3")
            .every(10, "esp/attic/LWT", "online")
            .every(10, "esp/attic/set", "on")
            .every(10, "garden/lamp/power", "3")
            .discovery(&existing.monitor);
        let devices = discovery.found(LISTENED).devices;
        let found: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!((found, discovery.heard_again()), (vec!["lamp"], vec![left_out]));
    }
}
