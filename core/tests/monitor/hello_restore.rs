//! Hellos and restores: what is given back, when, and never over something newer.

use super::expect::{device_name, stateful};
use super::timetable::{House, filter, message, millis, secs};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Message, QoS};
use iotmonitor_core::model::spec::DeviceSpec;

const A: &str = "home/lamp/states/a";
const B: &str = "home/lamp/states/b";

/// A device that is restored on a hello alone.
fn on_hello(text: &str) -> DeviceSpec {
    DeviceSpec { restore_on_start: false, ..stateful(text) }
}

/// Running, the backlog in, `A` recorded, nothing restored yet.
fn quiet_house() -> House {
    let mut house = House::dark(vec![on_hello("lamp")]);
    house.recorded(A, "on");
    house.power_up();
    house.advance(secs(2));
    house.turn_the_page();
    house
}

fn quiet_house_311() -> House {
    let mut house = House::dark(vec![on_hello("lamp")]);
    house.broker.protocol = iotmonitor_core::model::message::Protocol::V311;
    house.recorded(A, "on");
    house.power_up();
    house.advance(secs(2));
    house.turn_the_page();
    house
}

#[test]
fn a_hello_brings_the_states_that_match_and_no_others() {
    let mut house = quiet_house();
    house.recorded(B, "off");
    house.recorded("home/lamp/statesman", "x");
    house.recorded("home/lamp2/states/a", "x");
    house.hear("home/lamp/hello");
    assert_eq!(house.restored(), [format!("{A}=on"), format!("{B}=off")]);
    assert_eq!(house.count(AlertKind::Restored), 1);
    assert_eq!(house.alerts(AlertKind::Restored)[0].1.device, Some(device_name("lamp")));
}

#[test]
fn a_restored_state_keeps_its_qos_and_its_retain_flag() {
    let mut house = quiet_house();
    house.recorded_as(A, "on", QoS::AtMostOnce, false);
    house.recorded_as(B, "off", QoS::AtLeastOnce, true);
    house.hear("home/lamp/hello");
    let shown: Vec<_> = house
        .all_published()
        .into_iter()
        .filter(|(_, p)| p.restored)
        .map(|(_, p)| (p.topic.to_string(), p.qos, p.retain))
        .collect();
    assert_eq!(
        shown,
        [(A.to_owned(), QoS::AtMostOnce, false), (B.to_owned(), QoS::AtLeastOnce, true)]
    );
}

#[test]
fn at_the_start_all_devices_get_their_states_and_those_that_opt_out_do_not() {
    let disabled = DeviceSpec { enabled: false, ..stateful("bell") };
    let mut house =
        House::dark(vec![stateful("lamp"), stateful("pump"), on_hello("door"), disabled]);
    for device in ["lamp", "pump", "door", "bell"] {
        house.recorded(&format!("home/{device}/states/a"), "1");
    }
    house.power_up();
    house.advance(secs(2));
    let mut restored = house.restored();
    restored.sort();
    assert_eq!(restored, ["home/lamp/states/a=1", "home/pump/states/a=1"]);
    assert_eq!(house.count(AlertKind::Restored), 1, "one entry for all");
    house.lose_state();
    house.connect_state();
    house.advance(secs(20));
    assert_eq!(house.restored().len(), 2, "a reconnection is no start");
}

#[test]
fn nothing_is_restored_before_both_markers_came_back_and_it_was_quiet() {
    let mut house = House::dark(vec![stateful("lamp")]);
    house.recorded(A, "old");
    house.broker.has_session = true;
    house.broker.delivers = false;
    house.power_up();
    house.advance(secs(1));
    assert!(house.restored().is_empty());
    let marker = house.payloads("marker/iotmonitor/1")[0].clone();
    house.state("home/monitoring/marker/iotmonitor/1", &marker);
    house.advance(secs(1));
    assert!(house.restored().is_empty(), "the second is still out");
    house.state(A, "new");
    let marker = house.payloads("marker/iotmonitor/2")[0].clone();
    house.state("home/monitoring/marker/iotmonitor/2", &marker);
    assert!(house.restored().is_empty(), "not quiet yet");
    house.advance(secs(2));
    assert_eq!(house.restored(), [format!("{A}=new")]);
}

#[test]
fn a_backlog_that_trickles_in_behind_the_markers_is_waited_for() {
    let mut house = House::dark(vec![stateful("lamp")]);
    house.recorded(A, "old");
    house.broker.has_session = true;
    house.broker.session.insert(filter("home/monitoring/marker/iotmonitor/+"), QoS::AtLeastOnce);
    house.power_up();
    for value in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        house.advance(std::time::Duration::from_millis(50));
        house.state(A, value);
    }
    assert!(house.restored().is_empty());
    house.advance(secs(2));
    assert_eq!(house.restored(), [format!("{A}=8")]);
}

#[test]
fn markers_of_an_earlier_connection_do_not_count() {
    let mut house = House::dark(vec![stateful("lamp")]);
    house.recorded(A, "old");
    house.broker.has_session = true;
    house.broker.delivers = false;
    house.power_up();
    let stale: Vec<String> = house.payloads("marker/iotmonitor/1");
    house.lose_state();
    house.connect_state();
    house.state("home/monitoring/marker/iotmonitor/1", &stale[0]);
    house.state("home/monitoring/marker/iotmonitor/2", &stale[0]);
    house.advance(secs(2));
    assert!(house.restored().is_empty());
}

#[test]
fn markers_that_never_come_are_given_up_after_a_while() {
    let mut house = House::dark(vec![stateful("lamp")]);
    house.recorded(A, "on");
    house.broker.delivers = false;
    house.power_up();
    house.advance(secs(3));
    assert!(house.restored().is_empty());
    house.advance(secs(60));
    assert_eq!(house.restored(), [format!("{A}=on")]);
}

#[test]
fn a_hello_waits_for_the_backlog() {
    let mut house = quiet_house();
    house.lose_state();
    house.hear("home/lamp/hello");
    house.advance(secs(100));
    assert!(house.restored().is_empty());
    house.broker.delivers = false;
    house.connect_state();
    house.hear("home/lamp/hello");
    house.advance(secs(1));
    assert!(house.restored().is_empty());
    house.state(A, "off");
    for number in [1, 2] {
        let on = format!("marker/iotmonitor/{number}");
        let marker = house.payloads(&on).last().unwrap().clone();
        house.state(&format!("home/monitoring/{on}"), &marker);
    }
    house.advance(secs(1));
    assert_eq!(house.restored(), [format!("{A}=off")], "once, and the newest");
}

#[test]
fn a_restored_state_is_not_recorded_as_new() {
    for mut house in [quiet_house(), quiet_house_311()] {
        house.hear("home/lamp/hello");
        assert_eq!(house.restored(), [format!("{A}=on")]);
        use iotmonitor_core::model::state::StateChange;
        assert_eq!(house.records().len(), 2, "the echo came, and the marker behind it");
        assert!(house.records().iter().all(|(_, change)| **change == StateChange::Nothing));
        assert_eq!(house.acknowledged().len(), 2);
    }
}

#[test]
fn in_311_one_copy_is_swallowed_and_the_next_is_a_value() {
    let mut house = quiet_house_311();
    house.hear("home/lamp/hello");
    house.state(A, "on");
    assert!(house.records().last().is_some_and(|(_, change)| change.state().is_some()));
}

/// `home/lamp/#` is watched too, so that restored states come back on the watch connection.
fn watching_its_states(protocol: iotmonitor_core::model::message::Protocol) -> House {
    let spec = DeviceSpec {
        watch: vec![filter("home/lamp/states/#")],
        hello: Some(filter("hello/lamp")),
        ..on_hello("lamp")
    };
    House::settled(protocol, vec![spec], A)
}

#[test]
fn a_restored_state_is_no_contact_on_either_protocol() {
    use iotmonitor_core::model::message::Protocol;
    for protocol in [Protocol::V5, Protocol::V311] {
        let mut house = watching_its_states(protocol);
        house.hear("hello/lamp");
        let deadline = house.mono + secs(30);
        house.advance(secs(10));
        house.happen(Event::RestoreRequested { device: device_name("lamp") });
        assert_eq!(house.restored().len(), 2);
        house.advance(secs(60));
        house.expect_published("expire/lamp", deadline, &(super::timetable::START + 2).to_string());
    }
}

#[test]
fn in_311_the_next_equal_message_is_a_contact() {
    let mut house = watching_its_states(iotmonitor_core::model::message::Protocol::V311);
    house.hear("hello/lamp");
    house.advance(secs(10));
    house.hear_payload(A, "on");
    let deadline = house.mono + secs(30);
    house.advance(secs(60));
    assert_eq!(house.published("expire/lamp")[0].0, deadline);
}

#[test]
fn a_newer_value_between_read_and_publication_wins() {
    let mut house = quiet_house();
    house.recorded(B, "off");
    house.store.holds_reads = true;
    house.hear("home/lamp/hello");
    // The store has read, its answer is under way, and the old value is in it.
    let old = house.store.states.clone();
    house.state(A, "newer");
    house.store.states = old;
    house.settle_reads();
    assert_eq!(house.restored(), [format!("{B}=off")]);
}

#[test]
fn a_newer_value_between_publication_and_echo_is_published_once_more() {
    for mut house in [quiet_house(), quiet_house_311()] {
        let v5 = house.broker.protocol == iotmonitor_core::model::message::Protocol::V5;
        house.broker.delivers = false;
        house.hear("home/lamp/hello");
        house.state_message(Message { qos: QoS::AtLeastOnce, retain: v5, ..message(A, "newer") });
        assert_eq!(house.restored(), [format!("{A}=on")]);
        house.state_message(Message { restored: v5, ..message(A, "on") });
        assert_eq!(house.restored(), [format!("{A}=on"), format!("{A}=newer")]);
        house.state_message(Message { restored: v5, ..message(A, "newer") });
        house.advance(secs(100));
        assert_eq!(house.restored().len(), 2, "once");
        assert_eq!(&house.store.states[&super::timetable::topic(A)].payload[..], b"newer");
    }
}

#[test]
fn a_newer_value_behind_the_echo_needs_nothing() {
    let mut house = quiet_house();
    house.hear("home/lamp/hello");
    house.state(A, "newer");
    house.advance(secs(100));
    assert_eq!(house.restored(), [format!("{A}=on")]);
}

#[test]
fn two_devices_that_share_a_topic_leave_its_newest_value_on_the_wire() {
    let sharing = |text: &str| DeviceSpec {
        state: vec![filter("home/lamp/states/#")],
        hello: Some(filter(&format!("hello/{text}"))),
        ..on_hello(text)
    };
    for protocol in [
        iotmonitor_core::model::message::Protocol::V5,
        iotmonitor_core::model::message::Protocol::V311,
    ] {
        let mut house = House::dark(vec![sharing("lamp"), sharing("panel")]);
        house.broker.protocol = protocol;
        house.recorded(A, "old");
        house.power_up();
        house.advance(secs(2));
        house.broker.delivers = false;
        house.hear("hello/lamp");
        house.hear("hello/panel");
        assert_eq!(house.restored(), [format!("{A}=old"), format!("{A}=old")]);
        // At the broker: old, newer, old.
        let restored = protocol == iotmonitor_core::model::message::Protocol::V5;
        let echo = |value: &str| Message { restored, ..message(A, value) };
        house.state_message(echo("old"));
        house.state(A, "newer");
        house.state_message(echo("old"));
        assert_eq!(house.restored().last(), Some(&format!("{A}=newer")));
        house.state_message(echo("newer"));
        house.advance(secs(100));
        assert_eq!(&house.store.states[&super::timetable::topic(A)].payload[..], b"newer");
        assert_eq!(house.restored().len(), 3);
    }
}

#[test]
fn a_hello_during_a_restore_starts_one_more_after_it() {
    let mut house = quiet_house();
    house.broker.acknowledges = false;
    house.hear("home/lamp/hello");
    house.hear("home/lamp/hello");
    house.hear("home/lamp/hello");
    assert_eq!(house.restored().len(), 1, "not two beside each other");
    house.settle_acknowledgements();
    assert_eq!(house.restored().len(), 2);
    house.settle_acknowledgements();
    house.advance(secs(10));
    assert_eq!(house.restored().len(), 2, "one more, not one for each");
}

#[test]
fn a_hello_during_the_reading_starts_one_more_after_it() {
    let mut house = quiet_house();
    house.store.holds_reads = true;
    house.hear("home/lamp/hello");
    house.hear("home/lamp/hello");
    assert_eq!(house.reads(), 1);
    house.settle_reads();
    assert_eq!(house.reads(), 2);
    house.settle_reads();
    assert_eq!(house.reads(), 2);
    assert_eq!(house.restored().len(), 2);
}

#[test]
fn many_states_come_chunk_by_chunk_each_once() {
    let mut house = quiet_house();
    house.store.states.clear();
    house.store.chunk = 3;
    for number in 0..10 {
        house.recorded(&format!("home/lamp/states/{number}"), "1");
    }
    house.broker.acknowledges = false;
    house.hear("home/lamp/hello");
    assert_eq!(house.restored().len(), 3, "the next chunk waits for the acknowledgements");
    house.broker.acknowledges = true;
    house.settle_acknowledgements();
    let mut restored = house.restored();
    restored.sort();
    restored.dedup();
    assert_eq!((restored.len(), house.restored().len()), (10, 10));
}

#[test]
fn a_restore_that_a_loss_interrupts_is_finished_afterwards() {
    let mut house = quiet_house();
    house.store.states.clear();
    house.store.chunk = 3;
    for number in 0..7 {
        house.recorded(&format!("home/lamp/states/{number}"), "1");
    }
    house.broker.acknowledges = false;
    house.hear("home/lamp/hello");
    house.lose_state();
    house.advance(secs(10));
    house.connect_state();
    house.broker.acknowledges = true;
    house.settle_acknowledgements();
    house.advance(secs(5));
    let mut restored = house.restored();
    restored.sort();
    restored.dedup();
    assert_eq!(restored.len(), 7);
    assert_eq!(house.count(AlertKind::Restored), 1);
}

#[test]
fn a_loss_while_the_store_reads_restores_nothing_stale() {
    let mut house = quiet_house();
    house.store.holds_reads = true;
    house.hear("home/lamp/hello");
    house.lose_state();
    house.settle_reads();
    assert!(house.restored().is_empty());
    house.connect_state();
    house.state(A, "newer");
    house.store.holds_reads = false;
    house.advance(secs(5));
    assert_eq!(house.restored(), [format!("{A}=newer")]);
}

#[test]
fn a_restored_state_at_qos_0_ends_its_restore_without_an_acknowledgement() {
    let mut house = quiet_house();
    house.recorded_as(A, "on", QoS::AtMostOnce, false);
    house.hear("home/lamp/hello");
    assert_eq!(house.count(AlertKind::Restored), 1);
    house.hear("home/lamp/hello");
    assert_eq!(house.restored().len(), 2);
}

#[test]
fn a_disabled_device_gets_nothing_on_a_hello() {
    let mut house = quiet_house();
    house.happen(Event::Disabled { device: device_name("lamp") });
    house.hear("home/lamp/hello");
    house.advance(secs(10));
    assert!(house.restored().is_empty());
    house.happen(Event::Enabled { device: device_name("lamp") });
    house.hear("home/lamp/hello");
    assert_eq!(house.restored().len(), 1);
}

#[test]
fn a_person_can_ask_for_a_restore() {
    let mut house = quiet_house();
    house.happen(Event::RestoreRequested { device: device_name("lamp") });
    assert_eq!(house.restored(), [format!("{A}=on")]);
    house.happen(Event::RestoreRequested { device: device_name("unknown") });
    assert_eq!(house.restored().len(), 1);
}

#[test]
fn what_was_forgotten_is_not_restored() {
    let mut house = quiet_house();
    house.state_message(Message { retain: true, ..message(A, "") });
    house.hear("home/lamp/hello");
    assert!(house.restored().is_empty());
}

#[test]
fn states_at_qos_0_that_were_lost_with_the_connection_are_restored_again() {
    let mut house = quiet_house();
    house.recorded_as(A, "on", QoS::AtMostOnce, false);
    house.broker.acknowledges = false;
    house.hear("home/lamp/hello");
    assert_eq!(house.restored(), [format!("{A}=on")]);
    assert_eq!(house.count(AlertKind::Restored), 0, "not before the broker has had it");
    house.lose_state();
    house.connect_state();
    house.broker.acknowledges = true;
    house.settle_acknowledgements();
    house.advance(secs(5));
    assert_eq!(house.restored(), [format!("{A}=on"), format!("{A}=on")]);
    assert_eq!(house.count(AlertKind::Restored), 1);
}

#[test]
fn a_house_that_is_never_quiet_gets_its_restores_all_the_same() {
    let mut house = House::dark(vec![on_hello("lamp"), on_hello("chatty")]);
    house.recorded(A, "on");
    house.power_up();
    house.hear("home/lamp/hello");
    for number in 0..100 {
        house.state("home/chatty/states/x", &number.to_string());
        house.advance(millis(100));
    }
    assert_eq!(house.restored(), [format!("{A}=on")]);
}

/// The device spoke after its state was published, and the acknowledgement was lost.
#[test]
fn a_restore_ends_with_its_connection_and_is_read_again_after_the_next_backlog() {
    use iotmonitor_core::model::message::{Lifetime, Protocol};
    for mut house in [quiet_house(), quiet_house_311()] {
        let restored = house.broker.protocol == Protocol::V5;
        for reaches_the_broker in [true, false] {
            house.recorded(A, "old");
            house.turn_the_page();
            (house.broker.acknowledges, house.broker.delivers) = (false, false);
            house.hear("home/lamp/hello");
            assert_eq!(house.restored(), [format!("{A}=old")]);
            house.lose_state();
            house.advance(secs(2));
            (house.broker.acknowledges, house.broker.delivers) = (true, true);
            house.broker.owed.clear();
            house.connect_state();
            // The backlog.
            if reaches_the_broker {
                house.state_message(Message { restored, ..message(A, "old") });
            }
            house.state(A, "new");
            assert_eq!(house.restored().len(), 1);
            house.advance(secs(2));
            assert_eq!(house.restored(), [format!("{A}=old"), format!("{A}=new")]);
            assert_eq!(&house.store.states[&super::timetable::topic(A)].payload[..], b"new");
            let raised = house.alerts(AlertKind::Restored);
            let [(_, alert)] = raised.as_slice() else { panic!("one is wanted: {raised:?}") };
            assert!(alert.message.contains("1 state "), "counted once: {}", alert.message);
            // No echo of the first connection is waited for any more.
            house.state(A, "old");
            assert_eq!(&house.store.states[&super::timetable::topic(A)].payload[..], b"old");
            assert_eq!(house.restored().len(), 2);
        }
        let state = |p: &iotmonitor_core::model::message::Publication| {
            p.connection == iotmonitor_core::model::message::Connection::State
        };
        for (_, publication) in house.all_published() {
            if state(publication) {
                assert_eq!(publication.lifetime, Lifetime::Connection, "{}", publication.topic);
            }
        }
    }
}

#[test]
fn a_chunk_that_was_half_acknowledged_is_counted_once() {
    let mut house = quiet_house();
    house.store.chunk = 2;
    house.recorded(B, "off");
    house.recorded("home/lamp/states/c", "3");
    house.broker.acknowledges = false;
    house.hear("home/lamp/hello");
    let token = house.broker.owed.remove(0);
    house.happen(Event::Published { token });
    house.lose_state();
    house.broker.owed.clear();
    house.broker.acknowledges = true;
    house.connect_state();
    house.advance(secs(5));
    let raised = house.alerts(AlertKind::Restored);
    let [(_, alert)] = raised.as_slice() else { panic!("one is wanted: {raised:?}") };
    assert!(alert.message.contains("restored 3 states"), "{}", alert.message);
}
