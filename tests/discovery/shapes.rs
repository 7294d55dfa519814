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

#[test]
fn devices_of_one_shape_are_drafted_as_a_fleet_and_watched_as_if_each_had_a_section() {
    let names = ["attic", "cellar", "garage", "kitchen", "shed"];
    let mut traffic = Traffic::default().every(20, "home/hall/sensors/temperature", "20");
    for name in names {
        traffic = traffic
            .every(10, &format!("home/{name}/sensors/temperature"), "21")
            .every(20, &format!("home/{name}/sensors/humidity"), "40")
            .once(2, &format!("home/{name}/hello"), "1");
    }
    let (text, config, found) = traffic.file();
    let fleet = r#"
# By the shape of its topics: 5 devices of one shape.
[fleet_home]
# With names = "auto" instead, devices that are heard later become members as well.
names = [
    "attic",  # 12 messages, at most 10 s apart
    "cellar",  # 12 messages, at most 10 s apart
    "garage",  # 12 messages, at most 10 s apart
    "kitchen",  # 12 messages, at most 10 s apart
    "shed",  # 12 messages, at most 10 s apart
]
watchTopics = "home/{name}/sensors/#"
watchTimeOut = "auto"  # so far silent for at most 10 s in 55 intervals
helloTopic = "home/{name}/hello"  # what it says after a start
"#;
    assert!(text.contains(fleet), "{text}");
    assert!(text.contains("\n[device_hall]\n"), "{text}");
    // Each member is watched by its own topics.
    assert_eq!((config.monitor.devices.len(), found.len()), (6, 6));
    for device in &config.monitor.devices {
        let found = found.iter().find(|found| found.name == device.name).unwrap();
        assert_eq!((&device.watch, device.auto_timeout), (&found.watch, true));
        let hello = found.hello.as_ref().map(|topic| topic.as_str());
        assert_eq!(device.hello.as_ref().map(|filter| filter.as_str()), hello);
    }
    // As the comment says, the names can be learned.
    let start = text.find("names = [").unwrap();
    let end = start + text[start..].find(']').unwrap() + 1;
    let learned = checked(&text.replace(&text[start..end], "names = \"auto\""));
    assert_eq!((learned.monitor.devices.len(), learned.monitor.fleets.len()), (1, 1));
}
