//! Whatever traffic passes, the file can be used as it is, and watches the devices that were heard.

use crate::{LISTENED, Traffic};
use iotmonitor::discovery::DeviceStanding;
use iotmonitor_core::topic::TopicName;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Levels that conventions know, beside texts that break quotes, lines and terminals.
fn level() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "",
        "",
        "tele",
        "stat",
        "cmnd",
        "LWT",
        "STATE",
        "homie",
        "$state",
        "$homie",
        "$nodes",
        "set",
        "bridge",
        "state",
        "devices",
        "shellies",
        "online",
        "relay",
        "0",
        "events",
        "rpc",
        "status",
        "sensor",
        "temperature",
        "homeassistant",
        "config",
        "device",
        "a",
        "b",
        "$share",
        "$SYS",
        "%prefix%",
        "zigbee2mqtt",
        "availability",
        "hello",
    ]);
    prop_oneof![
        4 => known.prop_map(str::to_owned),
        1 => "[\"'\\\\\\n\\t\\u{1b}\\u{7f}\\u{85}\\u{2028}\\u{202e}\\]\\[=#. ~é🦀-]{1,6}"
            .prop_map(|text| text.replace('#', "")),
        1 => "[^+#/\\x00]{0,8}",
    ]
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..6).prop_map(|levels| levels.join("/"))
}

fn payload(topics: Vec<String>) -> impl Strategy<Value = String> {
    let described = prop::sample::select(topics).prop_flat_map(|topic| {
        let text = serde_json::Value::from(topic.as_str()).to_string();
        prop::sample::select(vec![
            format!(r#"{{"stat_t":{text},"avty_t":{text},"dev":{{"ids":[{text}],"name":{text},"mf":{text}}}}}"#),
            format!(r#"{{"cmps":{{"x":{{"t":{text}}}}},"~":{text},"exp_aft":18446744073709551615}}"#),
            format!(r#"[{{"friendly_name":{text}}}]"#),
        ])
    });
    prop_oneof![
        2 => prop::sample::select(vec!["online", "Offline", "true", "0", "", "{", "{\"state\":\"online\"}"])
            .prop_map(str::to_owned),
        1 => described,
    ]
}

fn traffic() -> impl Strategy<Value = Vec<(String, String, bool, u64)>> {
    prop::collection::vec(topic(), 1..12).prop_flat_map(|topics| {
        let valid: Vec<String> = topics
            .into_iter()
            .filter(|topic| TopicName::new(topic.as_str()).is_ok())
            .chain(["a/b".to_owned()])
            .collect();
        let message =
            (prop::sample::select(valid.clone()), payload(valid), any::<bool>(), 1_u64..120);
        prop::collection::vec(message, 1..40)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_file_passes_the_reader_and_watches_the_devices_that_were_heard(messages in traffic()) {
        let mut all = Traffic::default();
        for (topic, payload, retained, at) in &messages {
            all = if *retained { all.retained(topic, payload) } else { all.once(*at, topic, payload) };
        }
        the_file_watches_what_was_heard(&all);
    }
}

#[test]
fn the_file_watches_the_members_of_a_fleet_beside_a_single_device() {
    let mut traffic = Traffic::default().once(1, "a/b", "online");
    for topic in ["device", ".ù", "sensor", "zigbee2mqtt", "a"] {
        traffic = traffic.once(1, topic, "online");
    }
    assert!(traffic.file().0.contains("[fleet_"));
    the_file_watches_what_was_heard(&traffic);
}

fn the_file_watches_what_was_heard(traffic: &Traffic) {
    // It has passed the reader in here.
    let (text, config, devices) = traffic.file();
    let heard: Vec<_> =
        devices.iter().filter(|device| device.standing == DeviceStanding::Heard).collect();
    // The reader takes single devices before the members of fleets.
    let read: BTreeMap<_, _> =
        config.monitor.devices.iter().map(|device| (&device.name, device)).collect();
    assert_eq!(config.monitor.devices.len(), heard.len());
    for device in &heard {
        let read = read.get(&device.name).unwrap_or_else(|| panic!("no {device:?} in {text}"));
        assert_eq!(device.watch, read.watch);
        assert!(device.availability.iter().eq(&read.availability));
    }
    // Whoever spoke is watched, wherever it spoke.
    for device in heard {
        for seen in device.seen.iter().filter(|seen| seen.is_contact && seen.live > 0) {
            let is_watched = device.watch.iter().any(|filter| filter.matches(&seen.topic));
            assert!(is_watched || seen.topic.as_filter().is_none(), "{seen:?} of {device:?}");
        }
    }
    let is_safe = |c: char| c == '\n' || !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c);
    assert!(text.chars().all(is_safe), "{}", text.escape_debug());
}

#[test]
fn a_flood_is_bounded_and_delays_no_other_device() {
    let mut traffic = Traffic::default();
    for number in 0..30_000 {
        traffic = traffic.once(1, &format!("flood/{}/{}/x", number % 200, number), "1");
    }
    let began = std::time::Instant::now();
    let (text, _, devices) = traffic.file();
    assert!(devices.len() <= 20_000 && text.len() < 16 << 20, "{} bytes", text.len());
    assert!(text.contains("# Not examined because there were too many topics"), "{}", &text[..400]);
    assert!(began.elapsed() < LISTENED, "{:?}", began.elapsed());
}
