//! Wildcards in place of many subscriptions.

use super::expect::{stateful, watched};
use super::timetable::{House, filter, message, secs};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, FilterRefusal, Message, QoS};
use iotmonitor_core::model::spec::DeviceSpec;
use std::collections::BTreeSet;

/// So many subscriptions are allowed, of which the monitor needs two for its own words.
const ALLOWED: usize = 10;
const DEVICES: usize = 20;

const WILDCARD: &str = "home/+/sensors/#";

fn sensor(number: usize) -> DeviceSpec {
    let name = format!("d{number}");
    DeviceSpec { watch: vec![filter(&format!("home/{name}/sensors/#"))], ..watched(&name, 30) }
}

fn fleet(count: usize) -> Vec<DeviceSpec> {
    (0..count).map(sensor).collect()
}

fn dark(devices: Vec<DeviceSpec>) -> House {
    let mut house = House::dark(Vec::new());
    house.spec.devices = devices;
    house.spec.max_subscriptions = ALLOWED;
    House::of(house.spec)
}

fn running(devices: Vec<DeviceSpec>) -> House {
    let mut house = dark(devices);
    house.power_up();
    house
}

fn is_subscribed(house: &House, text: &str) -> bool {
    house.broker.watch_subscriptions.contains_key(&filter(text))
}

fn is_covered(house: &House) -> bool {
    is_subscribed(house, WILDCARD) && !is_subscribed(house, "home/d0/sensors/#")
}

fn is_single(house: &House) -> bool {
    let of_each = |n| is_subscribed(house, &format!("home/d{n}/sensors/#"));
    !is_subscribed(house, WILDCARD) && (0..DEVICES).all(of_each)
}

/// So many messages a second that match a device, and that match none.
fn stream(house: &mut House, seconds: u64, wanted: usize, surplus: usize) {
    for _ in 0..seconds {
        (0..wanted).for_each(|n| house.hear(&format!("home/d{}/sensors/x", n % DEVICES)));
        (0..surplus).for_each(|n| house.hear(&format!("home/stranger{n}/sensors/x")));
        house.advance(secs(1));
    }
}

/// What of the log is asked of the broker on the watch connection, in its order.
fn asked(house: &House) -> Vec<(&'static str, BTreeSet<String>)> {
    let asked = house.log.iter().filter_map(|(_, action)| match action {
        Action::Subscribe { connection: Connection::Watch, subscriptions } => {
            let filters = subscriptions.iter().map(|s| s.filter.as_str().to_owned());
            Some(("subscribe", filters.collect()))
        }
        Action::Unsubscribe { connection: Connection::Watch, filters } => {
            let filters = filters.iter().map(|filter| filter.as_str().to_owned());
            Some(("unsubscribe", filters.collect()))
        }
        _ => None,
    });
    asked.collect()
}

fn singles() -> BTreeSet<String> {
    (0..DEVICES).map(|n| format!("home/d{n}/sensors/#")).collect()
}

fn wildcard() -> BTreeSet<String> {
    BTreeSet::from([WILDCARD.to_owned()])
}

#[test]
fn a_fleet_is_heard_through_one_wildcard() {
    let mut house = running(fleet(DEVICES));
    assert!(is_covered(&house));
    for second in 0..60 {
        (1..DEVICES).for_each(|n| house.hear(&format!("home/d{n}/sensors/temperature")));
        house.hear("home/stranger/sensors/x");
        house.advance(secs(1));
        let expired = house.published("expire/d0").len();
        assert_eq!(expired, usize::from(second >= 29), "{second}");
    }
    (1..DEVICES).for_each(|n| house.expect_silence_on(&format!("expire/d{n}")));
    house.hear("home/d0/sensors/temperature");
    assert_eq!(house.published("recover/d0").len(), 1);
    assert!(is_covered(&house));
}

#[test]
fn few_devices_and_states_are_subscribed_to_one_by_one() {
    let house = running(fleet(ALLOWED - 2));
    assert!(is_subscribed(&house, "home/d0/sensors/#") && !is_subscribed(&house, WILDCARD));
    let house = running((0..DEVICES).map(|n| stateful(&format!("d{n}"))).collect());
    assert!(house.broker.session.len() > DEVICES, "{:?}", house.broker.session);
    assert!(house.broker.session.keys().all(|filter| !filter.as_str().starts_with("home/+")));
}

#[test]
fn a_hello_keeps_its_own_subscription() {
    let mut devices = fleet(DEVICES);
    for (number, device) in devices.iter_mut().enumerate() {
        device.hello = Some(filter(&format!("home/d{number}/hello")));
    }
    let mut house = running(devices);
    assert!(is_covered(&house));
    for number in 0..DEVICES {
        let hello = filter(&format!("home/d{number}/hello"));
        assert_eq!(house.broker.watch_subscriptions.get(&hello), Some(&QoS::AtLeastOnce));
    }
    house.hear("home/d3/hello");
    assert_eq!(house.payloads("helloTopicCount/d3"), ["1"]);
}

#[test]
fn a_wildcard_that_the_broker_refuses_gives_way_to_single_filters() {
    let mut house = dark(fleet(DEVICES));
    house.broker.refused.insert(filter(WILDCARD));
    house.power_up();
    assert!(is_single(&house));
    assert_eq!(house.count(AlertKind::FilterRefused), 0, "every device is heard");
    assert_eq!(house.count(AlertKind::BrokerLimited), 1);
    let asked = asked(&house);
    assert_eq!(asked[1..], [("subscribe", singles()), ("unsubscribe", wildcard())]);
    // Neither a reconnection nor another hour asks for it again.
    house.turn_the_page();
    house.lose_watch();
    house.connect_watch();
    house.advance(secs(31));
    assert!(is_single(&house));
    assert_eq!(house.published("expire/d7").len(), 1);
    assert_eq!(house.count(AlertKind::BrokerLimited), 0);
    // A person who reloads may have mended the broker.
    house.broker.refused.clear();
    house.reload(fleet(DEVICES));
    assert!(is_covered(&house));
}

#[test]
fn no_device_behind_a_refused_wildcard_has_a_deadline_before_the_single_filters_are_granted() {
    let pump = DeviceSpec { watch: vec![filter("pump/#")], ..watched("pump", 30) };
    let mut house = dark([fleet(DEVICES), vec![pump]].concat());
    house.broker.refused.insert(filter(WILDCARD));
    house.broker.refused.insert(filter("home/d5/sensors/#"));
    house.broker.answers_subscribe = false;
    house.power_up();
    let refused = vec![refusal(WILDCARD)];
    house.happen(Event::Subscribed { connection: Connection::Watch, refused });
    house.advance(secs(300));
    house.expect_silence_on("expire/d3");
    assert_eq!(house.published("expire/pump").len(), 1);
    let refused = vec![refusal("home/d5/sensors/#")];
    house.happen(Event::Subscribed { connection: Connection::Watch, refused });
    let granted = house.mono;
    house.advance(secs(300));
    house.expect_silence_on("expire/d5");
    house.expect_published("expire/d3", granted + secs(30), "0");
    let raised = house.alerts(AlertKind::FilterRefused);
    assert_eq!(raised.len(), 1);
    assert!(raised[0].1.message.contains("home/d5/sensors/#"), "{raised:?}");
}

fn refusal(text: &str) -> FilterRefusal {
    FilterRefusal { filter: filter(text), reason: "not authorized".to_owned() }
}

#[test]
fn a_surplus_of_more_than_half_gives_the_wildcards_up_for_good() {
    let mut house = running(fleet(DEVICES));
    house.turn_the_page();
    house.broker.answers_subscribe = false;
    stream(&mut house, 11, 40, 50);
    assert_eq!(asked(&house), [("subscribe", singles())]);
    assert!(is_subscribed(&house, WILDCARD), "until the others are acknowledged");
    house.broker.answers_subscribe = true;
    house.happen(Event::Subscribed { connection: Connection::Watch, refused: Vec::new() });
    assert_eq!(asked(&house)[1..], [("unsubscribe", wildcard())]);
    assert!(is_single(&house));
    assert_eq!(house.count(AlertKind::BrokerLimited), 1);
    house.lose_watch();
    house.connect_watch();
    assert!(is_single(&house));
    house.reload(fleet(DEVICES + 1));
    assert!(is_single(&house));
    (0..DEVICES).for_each(|n| house.expect_silence_on(&format!("expire/d{n}")));
}

#[test]
fn a_small_surplus_or_a_short_one_changes_nothing() {
    let mut house = running(fleet(DEVICES));
    house.turn_the_page();
    stream(&mut house, 30, 40, 30);
    stream(&mut house, 60, 1, 5);
    stream(&mut house, 20, 300, 0);
    stream(&mut house, 3, 0, 300);
    stream(&mut house, 20, 300, 0);
    assert_eq!(asked(&house), []);
}

#[test]
fn what_is_retained_by_strangers_is_no_surplus() {
    let mut house = running(fleet(DEVICES));
    house.turn_the_page();
    for number in 0..11 {
        for stranger in 0..1_000 {
            let at = format!("home/stranger{stranger}/sensors/x");
            house.happen(Event::WatchMessage(Message { retain: true, ..message(&at, "1") }));
        }
        house.hear(&format!("home/d{number}/sensors/x"));
        house.advance(secs(1));
    }
    assert_eq!(asked(&house), []);
}

#[test]
fn where_the_broker_refuses_the_single_filters_the_wildcards_stay() {
    let mut house = running(fleet(DEVICES));
    house.turn_the_page();
    house.broker.refused = singles().iter().skip(5).map(|text| filter(text)).collect();
    stream(&mut house, 60, 40, 50);
    assert!(is_covered(&house), "{:?}", house.broker.watch_subscriptions);
    assert_eq!(house.count(AlertKind::FilterRefused), 0, "all are heard");
    assert_eq!(asked(&house), [("subscribe", singles()), ("unsubscribe", singles())]);
    // Who falls silent is noticed, also behind a filter that was refused.
    house.advance(secs(31));
    assert_eq!(house.published("expire/d19").len(), 1);
}

#[test]
fn a_connection_that_ends_between_the_two_plans_begins_with_the_new_one() {
    let mut house = running(fleet(DEVICES));
    house.broker.answers_subscribe = false;
    stream(&mut house, 11, 40, 50);
    house.lose_watch();
    house.broker.answers_subscribe = true;
    house.turn_the_page();
    house.connect_watch();
    assert!(is_single(&house));
    assert_eq!(asked(&house).len(), 1, "there is nothing to end");
}

#[test]
fn a_reload_asks_for_the_new_before_it_ends_the_old() {
    let few = ALLOWED - 2;
    let mut house = running(fleet(few));
    let before: BTreeSet<String> = (0..few).map(|n| format!("home/d{n}/sensors/#")).collect();
    house.turn_the_page();
    house.broker.answers_subscribe = false;
    house.reload(fleet(DEVICES));
    assert_eq!(asked(&house), [("subscribe", wildcard())]);
    house.happen(Event::Subscribed { connection: Connection::Watch, refused: Vec::new() });
    assert_eq!(asked(&house)[1..], [("unsubscribe", before.clone())]);
    assert!(is_covered(&house));
    house.turn_the_page();
    house.reload(fleet(few));
    assert_eq!(asked(&house), [("subscribe", before.clone())]);
    house.happen(Event::Subscribed { connection: Connection::Watch, refused: Vec::new() });
    assert_eq!(asked(&house)[1..], [("unsubscribe", wildcard())]);
    // Back again, and this time it is refused: what is still subscribed to is not asked for anew.
    house.turn_the_page();
    house.reload(fleet(DEVICES));
    let refused = vec![refusal(WILDCARD)];
    house.happen(Event::Subscribed { connection: Connection::Watch, refused });
    let new: BTreeSet<String> = singles().difference(&before).cloned().collect();
    assert_eq!(asked(&house), [("subscribe", wildcard()), ("subscribe", new)]);
    house.happen(Event::Subscribed { connection: Connection::Watch, refused: Vec::new() });
    assert!(is_single(&house));
}

#[test]
fn a_reload_between_the_two_plans_ends_no_wildcard_early() {
    let mut house = running(fleet(DEVICES));
    house.broker.answers_subscribe = false;
    stream(&mut house, 11, 40, 50);
    house.turn_the_page();
    house.reload(fleet(DEVICES));
    assert_eq!(asked(&house), [], "the single filters are not acknowledged yet");
    house.happen(Event::Subscribed { connection: Connection::Watch, refused: Vec::new() });
    assert!(is_single(&house));
}

#[test]
fn the_limit_itself_can_be_changed_by_a_reload() {
    let mut house = running(fleet(DEVICES));
    house.spec.max_subscriptions = 1_000;
    house.reload(fleet(DEVICES));
    assert!(is_single(&house));
    house.spec.max_subscriptions = ALLOWED;
    house.reload(fleet(DEVICES));
    assert!(is_covered(&house));
}

#[test]
fn many_refusals_for_one_reason_are_one_alert() {
    let mut house = dark(fleet(DEVICES));
    house.spec.max_subscriptions = 1_000;
    let mut house = House::of(house.spec);
    house.broker.refused = singles().iter().map(|text| filter(text)).collect();
    house.power_up();
    let raised = house.alerts(AlertKind::FilterRefused);
    assert_eq!(raised.len(), 1);
    assert!(raised[0].1.message.contains("20 subscriptions"), "{raised:?}");
    house.advance(secs(300));
    (0..DEVICES).for_each(|n| house.expect_silence_on(&format!("expire/d{n}")));
}
