//! The retained `status/NAME`, byte for byte: programs read it.

use super::expect::{agent, device_name, watched};
use super::timetable::{House, millis, secs};
use iotmonitor_core::model::spec::DeviceSpec;
use iotmonitor_core::model::status::DeviceStatus;

fn last(house: &House, device: &str) -> String {
    house.payloads(&format!("status/{device}")).pop().unwrap()
}

#[test]
fn a_device_is_published_with_these_bytes() {
    let short = DeviceSpec { watch_timeout: Some(millis(2_500)), ..watched("short", 1) };
    let never = DeviceSpec { watch_timeout: None, ..watched("never", 1) };
    let mut house = House::running(vec![watched("lamp", 30), short, never]);
    let start: u64 = house.wall().parse().unwrap();
    assert_eq!(
        last(&house, "lamp"),
        format!(
            r#"{{"name":"lamp","kind":"device","state":"unknown","since":{start},"lastContact":null,"watchTimeOut":30}}"#
        )
    );
    assert!(last(&house, "short").ends_with(r#","lastContact":null,"watchTimeOut":2.5}"#));
    assert!(last(&house, "never").ends_with(r#","lastContact":null,"watchTimeOut":0}"#));
    house.hear("home/lamp/x");
    house.advance(secs(31));
    assert_eq!(
        last(&house, "lamp"),
        format!(
            r#"{{"name":"lamp","kind":"device","state":"expired","reason":"silent","since":{},"lastContact":{start},"watchTimeOut":30}}"#,
            start + 30
        )
    );
}

/// A program that compares the bytes sees no change when a person names rooms.
#[test]
fn the_area_and_dependences_are_shown_and_not_published() {
    let gateway = watched("gateway", 30);
    let lamp = DeviceSpec {
        area: Some("Kitchen".into()),
        depends_on: vec![gateway.name.clone()],
        ..watched("lamp", 30)
    };
    let mut house = House::running(vec![gateway, lamp]);
    let published = last(&house, "lamp");
    assert!(!published.contains("area") && !published.contains("dependsOn"), "{published}");
    let shown = |house: &House| {
        let view = house.monitor.view(&device_name("lamp")).unwrap();
        (DeviceStatus::of(&view).to_json(), DeviceStatus::with_rhythm(&view).to_json())
    };
    let (in_list, alone) = shown(&house);
    assert!(in_list.contains(r#""kind":"device","area":"Kitchen","dependsOn":["gateway"],"#));
    assert!(!in_list.contains("rhythm"), "{in_list}");
    let unlearned = r#","rhythm":{"usual":null,"rare":null,"longest":null,"auto":null}}"#;
    assert!(alone.ends_with(unlearned), "{alone}");
    for _ in 0..=60 {
        house.hear("home/lamp/x");
        house.advance(secs(10));
    }
    let (_, alone) = shown(&house);
    let learned = r#","rhythm":{"usual":10,"rare":10,"longest":10,"auto":"#;
    assert!(alone.contains(learned), "{alone}");
}

#[test]
fn an_agent_is_published_with_these_bytes() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.advance(secs(1));
    let start: u64 = house.wall().parse().unwrap();
    assert_eq!(
        last(&house, "box"),
        format!(
            r#"{{"name":"box","kind":"agent","state":"unknown","since":{},"lastContact":null,"watchTimeOut":30,"agent":{{"unit":"iotmonitor-agent-box.service","state":"active","restarts":0}}}}"#,
            start - 1
        )
    );
}
