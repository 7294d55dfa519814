//! One alarm from its beginning to its end, and the alerts that it raises.
//!
//! Each test takes one way through the table at the top of `monitor/alarms.rs`.

use super::expect::{device_name, watched};
use super::timetable::{House, secs};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::spec::DeviceSpec;

/// What can be seen of the lamp's alarm: its state and reason, and how many alerts there were that
/// it expired, that it recovered, and that it flaps.
type Seen<'a> = (&'a str, &'a str, [usize; 3]);

#[track_caller]
fn expect_lamp(house: &House, expected: Seen<'_>) {
    let status = house.status("lamp");
    let text = |key: &str| status[key].as_str().unwrap_or_default();
    let of = |kind| {
        let alerts = house.alerts(kind).into_iter();
        alerts.filter(|(_, alert)| alert.device == Some(device_name("lamp"))).count()
    };
    let kinds = [AlertKind::Expired, AlertKind::Recovered, AlertKind::Flapping];
    assert_eq!((text("state"), text("reason"), kinds.map(of)), expected);
}

/// A lamp that is heard by way of a gateway, each with its watchTimeOut in seconds.
fn house(lamp: u64, gateway: u64) -> House {
    let lamp = DeviceSpec { depends_on: vec![device_name("gateway")], ..watched("lamp", lamp) };
    let mut house = House::running(vec![lamp, watched("gateway", gateway)]);
    house.hear("home/gateway/x");
    house.hear("home/lamp/x");
    house
}

#[test]
fn an_alarm_is_held_for_the_gateway_then_sent_and_ends_with_the_return() {
    let mut house = house(30, 90);
    expect_lamp(&house, ("alive", "", [0, 0, 0]));
    house.advance(secs(31));
    // Held: the expiry is published and shown, and no alert is raised yet.
    expect_lamp(&house, ("expired", "silent", [0, 0, 0]));
    assert_eq!(house.published("expire/lamp").len(), 1);
    // Sent: the gateway lives.
    house.hear("home/gateway/x");
    expect_lamp(&house, ("expired", "silent", [1, 0, 0]));
    // Over.
    house.hear("home/lamp/x");
    expect_lamp(&house, ("alive", "", [1, 1, 0]));
    assert_eq!(house.published("recover/lamp").len(), 1);
}

#[test]
fn an_alarm_behind_a_gateway_that_is_down_is_sent_only_if_the_device_does_not_follow_it_back() {
    let mut house = house(30, 40);
    house.advance(secs(60));
    // Upstream: the gateway's alert speaks for both.
    expect_lamp(&house, ("expired", "upstream", [0, 0, 0]));
    // Returning: it has its timeout to follow.
    house.hear("home/gateway/x");
    house.advance(secs(29));
    expect_lamp(&house, ("expired", "upstream", [0, 0, 0]));
    // Sent: it did not.
    house.hear("home/gateway/x");
    house.advance(secs(2));
    expect_lamp(&house, ("expired", "silent", [1, 0, 0]));
}

#[test]
fn an_alarm_that_was_never_sent_ends_without_an_alert() {
    let mut house = house(30, 40);
    house.advance(secs(60));
    expect_lamp(&house, ("expired", "upstream", [0, 0, 0]));
    house.hear("home/gateway/x");
    house.hear("home/lamp/x");
    expect_lamp(&house, ("alive", "", [0, 0, 0]));
}

#[test]
fn the_fifth_alarm_within_half_an_hour_says_that_it_flaps_and_the_next_say_nothing() {
    let mut house = House::running(vec![watched("lamp", 60)]);
    for round in 1..=4 {
        house.hear("home/lamp/x");
        house.advance(secs(61));
        expect_lamp(&house, ("expired", "silent", [round, round - 1, 0]));
    }
    house.hear("home/lamp/x");
    house.advance(secs(61));
    expect_lamp(&house, ("expired", "flapping", [4, 4, 1]));
    house.hear("home/lamp/x");
    house.advance(secs(61));
    expect_lamp(&house, ("expired", "flapping", [4, 4, 1]));
    // Sent: it has not changed for a quarter of an hour, and it is silent.
    house.advance(secs(15 * 60));
    expect_lamp(&house, ("expired", "silent", [5, 4, 1]));
}
