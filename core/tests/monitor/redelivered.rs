//! What the broker sends once more, since it had no acknowledgement.

use super::expect::stateful;
use super::timetable::{House, message, secs, topic};
use iotmonitor_core::model::message::{Delivery, Message, Protocol, QoS, Redelivery};
use iotmonitor_core::model::state::StateChange;

const A: &str = "home/lamp/states/a";

fn settled(protocol: Protocol) -> House {
    let mut house = House::dark(vec![stateful("lamp")]);
    house.broker.protocol = protocol;
    house.power_up();
    house.advance(secs(2));
    house
}

fn kept(payload: &str) -> Message {
    Message { qos: QoS::AtLeastOnce, ..message(A, payload) }
}

#[test]
fn a_redelivered_message_does_not_replace_one_that_was_heard_after_its_first_delivery() {
    for protocol in [Protocol::V5, Protocol::V311] {
        let mut house = settled(protocol);
        house.store.holds_commits = true;
        house.state_message(kept("first"));
        house.state_message(message(A, "second"));
        house.lose_state();
        house.connect_state();
        let again = house.redelivered(kept("first"), Redelivery::Reported(Delivery(1)));
        assert_eq!(&house.store.states[&topic(A)].payload[..], b"second");
        // It is acknowledged in its turn, behind the commit of its first delivery.
        assert_eq!(house.records().last(), Some(&(again, &StateChange::Nothing)));
        house.advance(secs(2));
        house.hear("home/lamp/hello");
        assert_eq!(house.restored().last(), Some(&format!("{A}=second")));
    }
}

#[test]
fn what_was_sent_before_and_did_not_arrive_is_news() {
    for protocol in [Protocol::V5, Protocol::V311] {
        let mut house = settled(protocol);
        house.state_message(message(A, "first"));
        house.lose_state();
        house.connect_state();
        house.redelivered(kept("second"), Redelivery::Unknown);
        assert_eq!(&house.store.states[&topic(A)].payload[..], b"second");
    }
}

/// The process that had it on the wire ended before it was acknowledged.
#[test]
fn a_redelivered_replay_is_one_still() {
    let mut house = settled(Protocol::V5);
    house.state_message(Message { retain: true, ..kept("on") });
    house.state_message(kept("off"));
    house.crash();
    house.broker.delivers = false;
    house.power_up();
    house.redelivered(Message { retain: true, ..kept("on") }, Redelivery::Unknown);
    assert_eq!(&house.store.states[&topic(A)].payload[..], b"off");
    // So is what it had published itself.
    house.state_message(message(A, "dim"));
    let echo = Message { retain: true, restored: true, ..kept("off") };
    house.redelivered(echo, Redelivery::Unknown);
    assert_eq!(&house.store.states[&topic(A)].payload[..], b"dim");
}
