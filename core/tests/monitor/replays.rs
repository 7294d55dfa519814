//! What the broker retains and sends again with every subscription: what is news in it, and what is
//! stale.

use super::expect::stateful;
use super::timetable::{House, START, message, millis, secs, topic};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Message, Protocol, QoS};
use iotmonitor_core::model::spec::DeviceSpec;

const A: &str = "home/lamp/states/a";
const BOTH: [Protocol; 2] = [Protocol::V5, Protocol::V311];

fn lamp() -> DeviceSpec {
    DeviceSpec { restore_on_start: false, ..stateful("lamp") }
}

/// Running, with the backlog in and nothing recorded.
fn settled(protocol: Protocol) -> House {
    let mut house = House::dark(vec![lamp()]);
    house.broker.protocol = protocol;
    house.power_up();
    house.advance(secs(2));
    house.turn_the_page();
    house
}

/// A client publishes while the monitor listens.
fn says(house: &mut House, payload: &str, retain: bool) {
    let at = Message { qos: QoS::AtLeastOnce, ..message(A, payload) };
    if retain {
        house.broker.retained.insert(topic(A), at.clone());
    }
    let shows_retain = house.broker.protocol == Protocol::V5;
    house.state_message(Message { retain: retain && shows_retain, ..at });
    house.advance(secs(1));
}

/// The same at QoS 0 while it does not, for which no broker keeps it.
fn says_unheard(house: &mut House, payload: &str, retain: bool) {
    if retain {
        house.broker.retained.insert(topic(A), message(A, payload));
    }
}

fn reconnect(house: &mut House) {
    house.lose_state();
    house.connect_state();
    house.advance(secs(2));
}

fn restart(house: &mut House) {
    house.restart();
    house.power_up();
    house.advance(secs(2));
}

fn marker_returns(house: &mut House, number: u8) {
    let on = format!("marker/iotmonitor/{number}");
    let marker = house.payloads(&on).last().unwrap().clone();
    house.state(&format!("home/monitoring/{on}"), &marker);
}

fn recorded(house: &House) -> String {
    let state = house.store.states.get(&topic(A));
    state.map(|s| String::from_utf8_lossy(&s.payload).into_owned()).unwrap_or_default()
}

#[test]
fn a_retained_value_does_not_come_back_after_a_live_one_that_is_not_retained() {
    for protocol in BOTH {
        for again in [reconnect, restart] {
            let mut house = settled(protocol);
            says(&mut house, "on", true);
            says(&mut house, "off", false);
            let before = house.store.states[&topic(A)].clone();
            again(&mut house);
            again(&mut house);
            assert_eq!(house.store.states[&topic(A)], before, "{protocol:?}");
            house.turn_the_page();
            house.hear("home/lamp/hello");
            assert_eq!(house.restored(), [format!("{A}=off")]);
        }
    }
}

#[test]
fn what_was_retained_while_the_monitor_was_away_is_news() {
    for protocol in BOTH {
        for again in [reconnect, restart] {
            let mut house = settled(protocol);
            says(&mut house, "on", true);
            says(&mut house, "off", false);
            says_unheard(&mut house, "dim", true);
            again(&mut house);
            assert_eq!(recorded(&house), "dim", "{protocol:?}");
            assert!(house.store.states[&topic(A)].retain);
            // Back to what it was before that.
            says_unheard(&mut house, "on", true);
            again(&mut house);
            assert_eq!(recorded(&house), "on", "{protocol:?}");
        }
    }
}

#[test]
fn in_5_a_retained_value_is_the_only_one_that_is_stale() {
    let mut house = settled(Protocol::V5);
    says(&mut house, "dim", false);
    says(&mut house, "on", true);
    says(&mut house, "off", false);
    // `dim` was not retained when it was heard.
    says_unheard(&mut house, "dim", true);
    reconnect(&mut house);
    assert_eq!(recorded(&house), "dim");
}

#[test]
fn in_311_any_value_that_was_heard_live_since_the_last_replay_is_stale() {
    let mut house = settled(Protocol::V311);
    for value in ["on", "dim", "off"] {
        says(&mut house, value, value == "dim");
    }
    reconnect(&mut house);
    assert_eq!(recorded(&house), "off");
    // It is known now which one is retained, so that another one is news.
    says_unheard(&mut house, "on", true);
    reconnect(&mut house);
    assert_eq!(recorded(&house), "on");
}

#[test]
fn in_311_a_replay_of_the_recorded_value_tells_its_retain_flag() {
    let mut house = settled(Protocol::V311);
    says(&mut house, "on", true);
    assert!(!house.store.states[&topic(A)].retain);
    let time = house.store.states[&topic(A)].time;
    reconnect(&mut house);
    let state = &house.store.states[&topic(A)];
    assert_eq!((state.retain, state.time), (true, time), "and nothing else");
}

#[test]
fn a_live_value_is_news_whatever_was_retained() {
    for protocol in BOTH {
        let mut house = settled(protocol);
        says(&mut house, "on", true);
        says(&mut house, "off", false);
        reconnect(&mut house);
        says(&mut house, "on", true);
        assert_eq!(recorded(&house), "on", "{protocol:?}");
    }
}

/// It is in the session's queue, ahead of the replays.
#[test]
fn a_queued_value_is_news_whatever_was_retained() {
    for protocol in BOTH {
        let mut house = settled(protocol);
        says(&mut house, "on", true);
        says(&mut house, "off", false);
        house.lose_state();
        house.broker.delivers = false;
        house.connect_state();
        let retain = protocol == Protocol::V5;
        house.broker.retained.clear();
        house.state_message(Message { qos: QoS::AtLeastOnce, retain, ..message(A, "on") });
        marker_returns(&mut house, 1);
        marker_returns(&mut house, 2);
        house.advance(secs(2));
        assert_eq!(recorded(&house), "on", "{protocol:?}");
    }
}

#[test]
fn a_stale_replay_is_not_published_behind_an_echo() {
    for protocol in BOTH {
        let mut house = settled(protocol);
        says(&mut house, "on", true);
        says(&mut house, "off", false);
        house.broker.delivers = false;
        house.hear("home/lamp/hello");
        house.lose_state();
        house.broker.retained.clear();
        house.connect_state();
        marker_returns(&mut house, 1);
        house.state_message(Message { retain: true, ..message(A, "on") });
        let restored = protocol == Protocol::V5;
        house.state_message(Message { qos: QoS::AtLeastOnce, restored, ..message(A, "off") });
        marker_returns(&mut house, 2);
        house.advance(secs(30));
        assert_eq!(house.restored(), [format!("{A}=off")]);
        assert_eq!(recorded(&house), "off");
    }
}

#[test]
fn a_device_that_comes_back_by_a_reload_keeps_what_is_newer_than_the_retained_value() {
    for protocol in BOTH {
        let mut house = settled(protocol);
        says(&mut house, "on", true);
        says(&mut house, "off", false);
        house.reload(vec![stateful("pump")]);
        house.reload(vec![stateful("pump"), lamp()]);
        house.advance(secs(2));
        assert_eq!(recorded(&house), "off", "{protocol:?}");
        house.hear("home/lamp/hello");
        assert_eq!(house.restored(), [format!("{A}=off")]);
    }
}

#[test]
fn a_hello_beside_a_reload_that_adds_filters_waits_for_what_they_bring() {
    for protocol in BOTH {
        let mut house = House::dark(vec![stateful("pump")]);
        house.broker.protocol = protocol;
        house.power_up();
        house.advance(secs(2));
        house.recorded(A, "old");
        house.broker.retained.insert(topic(A), message(A, "new"));
        house.reload(vec![stateful("pump"), lamp()]);
        house.hear("home/lamp/hello");
        house.advance(secs(2));
        assert_eq!(house.restored(), [format!("{A}=new")], "{protocol:?}");
    }
}

/// A person's choice waits for the device; what the broker still retains is older.
#[test]
fn a_state_that_was_given_while_the_broker_was_away_outlives_the_replay() {
    use iotmonitor_core::model::state::{StateOrder, StateRecord, WriteId};
    for protocol in BOTH {
        let mut house = settled(protocol);
        says(&mut house, "on", true);
        house.lose_state();
        let state = StateRecord { payload: "off".into(), ..house.store.states[&topic(A)].clone() };
        let order = StateOrder::Set(StateRecord { retain: true, ..state });
        house.happen(Event::StatesOrdered { write: WriteId::Order(1), order });
        house.connect_state();
        house.advance(secs(2));
        assert_eq!(recorded(&house), "off", "{protocol:?}");
    }
}

#[test]
fn a_first_replay_is_recorded_and_not_again() {
    for protocol in BOTH {
        let mut house = House::dark(vec![lamp()]);
        house.broker.protocol = protocol;
        house.broker.retained.insert(topic(A), message(A, "on"));
        house.power_up();
        house.advance(secs(2));
        let state = house.store.states[&topic(A)].clone();
        assert_eq!((&state.payload[..], state.retain, state.time), (&b"on"[..], true, secs(START)));
        reconnect(&mut house);
        assert_eq!(house.store.states[&topic(A)], state);
        assert_eq!(house.acknowledged().len(), house.records().len());
        house.advance(millis(1));
    }
}

/// The values that a restore has published bear its mark at the broker.
#[test]
fn after_a_store_was_put_aside_retained_values_are_learned_again() {
    for protocol in BOTH {
        for restored in [false, true] {
            let mut house = settled(protocol);
            let restored = restored && protocol == Protocol::V5;
            says(&mut house, "on", true);
            house.broker.retained.insert(topic(A), Message { restored, ..message(A, "on") });
            reconnect(&mut house);
            house.store.states.clear();
            let error = "a page is wrong".to_owned();
            house.happen(Event::StorePutAside { path: "/damaged".into(), error });
            house.advance(secs(2));
            assert_eq!(recorded(&house), "on", "{protocol:?} {restored}");
            house.turn_the_page();
            house.hear("home/lamp/hello");
            assert_eq!(house.restored(), [format!("{A}=on")]);
        }
    }
}

#[test]
fn a_store_that_was_put_aside_before_the_connection_learns_with_it() {
    let mut house = House::dark(vec![lamp()]);
    house.broker.retained.insert(topic(A), Message { restored: true, ..message(A, "on") });
    let error = "a page is wrong".to_owned();
    house.happen(Event::StorePutAside { path: "/damaged".into(), error });
    house.power_up();
    house.advance(secs(2));
    assert_eq!(recorded(&house), "on");
}

/// No marker comes back there, so what was queued cannot be distinguished from what is retained.
#[test]
fn a_replay_is_one_too_where_the_broker_is_known_to_refuse_the_markers() {
    let mut house = settled(Protocol::V5);
    house.broker.delivers = false;
    house.broker.refused.insert(super::timetable::filter("home/monitoring/marker/iotmonitor/+"));
    reconnect(&mut house);
    says(&mut house, "on", true);
    says(&mut house, "off", false);
    reconnect(&mut house);
    assert_eq!(recorded(&house), "off");
}
