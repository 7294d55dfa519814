//! The session of the state connection: its markers, its backlog and its losses.

use super::*;
use crate::model::message::QoS;
use crate::model::plan::{plan, wanted};

const T: fn(u64) -> Duration = Duration::from_secs;

fn at(seconds: u64) -> Now {
    Now { mono: T(seconds), wall: T(seconds), boot: T(seconds) }
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn plan_of(filters: &[&str]) -> Plan {
    plan(filters.iter().map(|text| wanted(filter(text), QoS::AtLeastOnce)))
}

fn connected(session_present: bool) -> StateSession {
    let mut session = StateSession::default();
    session.connected(at(100), Protocol::V311, session_present);
    session
}

const TAKEN_IN: BacklogProgress = BacklogProgress::TakenIn { swallows: false };

#[test]
fn the_backlog_is_in_when_both_markers_are_back_and_it_was_quiet() {
    let mut session = connected(true);
    session.marker_returned(Marker::Second);
    assert_eq!(session.message_arrived(T(101)), BacklogProgress::WaitUntil(T(111)));
    session.marker_returned(Marker::First);
    assert_eq!(session.message_arrived(T(102)), BacklogProgress::WaitUntil(T(102) + QUIET));
    assert_eq!(session.look(T(102)), BacklogProgress::WaitUntil(T(102) + QUIET));
    assert_eq!(session.look(T(103)), TAKEN_IN);
    assert!(session.is_taken_in());
    assert_eq!(session.message_arrived(T(104)), BacklogProgress::Nothing);
}

#[test]
fn without_a_kept_session_the_second_marker_is_enough() {
    let mut session = connected(false);
    session.marker_returned(Marker::Second);
    session.message_arrived(T(100));
    assert_eq!(session.look(T(101)), TAKEN_IN);
}

#[test]
fn a_trickle_is_waited_for_and_no_longer_than_is_reasonable() {
    let mut session = connected(false);
    session.marker_returned(Marker::Second);
    let tenth = |number: u64| T(100) + Duration::from_millis(number * 100);
    for number in 0..20 {
        assert_ne!(session.message_arrived(tenth(number)), TAKEN_IN, "{number}");
    }
    assert_eq!(session.message_arrived(tenth(20)), TAKEN_IN);
}

#[test]
fn a_marker_that_stays_away_from_a_quiet_broker_was_swallowed() {
    let mut session = connected(false);
    assert_eq!(session.look(T(110)), BacklogProgress::TakenIn { swallows: true });
    assert!(session.is_swallowed());
    session.connected(at(200), Protocol::V311, false);
    assert_eq!(session.look(T(210)), TAKEN_IN, "it is reported once");
    assert!(session.marker_returned(Marker::Second).passes_again);
    assert!(!session.marker_returned(Marker::Second).passes_again && !session.is_swallowed());
}

#[test]
fn a_marker_that_stays_away_from_a_busy_broker_may_be_late() {
    let mut session = connected(false);
    for second in 100..400 {
        assert_ne!(session.message_arrived(T(second)), TAKEN_IN, "{second}");
    }
    assert_eq!(session.message_arrived(T(400)), TAKEN_IN);
    assert!(!session.is_swallowed());
}

#[test]
fn a_filter_that_left_is_stale_until_a_marker_behind_its_end_is_back() {
    let (had, plan) = (plan_of(&["a", "b"]), plan_of(&["b", "c"]));
    let mut session = connected(true);
    assert_eq!(session.filters_to_store(&had).map(|filters| filters.len()), Some(2));
    assert_eq!(session.filters_to_store(&had), None);
    assert_eq!(session.replan(&had, &plan), plan_of(&["c"]));
    let all = ["b", "c", "a"].map(filter);
    assert_eq!(session.filters_to_store(&plan).as_deref(), Some(&all[..]));
    assert_eq!(session.stale(), [filter("a")]);
    assert!(!session.marker_returned(Marker::Second).filters_left, "it was sent before");
    session.leave_stale();
    assert!(session.marker_returned(Marker::Second).filters_left);
    assert!(session.stale().is_empty());
}

#[test]
fn replays_come_behind_the_first_marker_and_in_311_alone_at_any_time() {
    let mut session = connected(true);
    assert!(session.is_replay(false));
    session.connected(at(200), Protocol::V5, true);
    assert!(!session.is_replay(false) && session.is_replay(true), "it is queued");
    session.marker_returned(Marker::First);
    assert!(session.is_replay(false));
    session.marker_returned(Marker::Second);
    session.message_arrived(T(200));
    assert!(session.is_replay(false), "some brokers are late");
    session.look(T(201));
    assert!(session.is_taken_in() && !session.is_replay(false));
    let before = session.subscription();
    assert_eq!(session.subscribes_again(T(300)), T(310));
    assert!(session.is_replay(false) && session.subscription() != before);
    session.marker_returned(Marker::Second);
    session.message_arrived(T(300));
    assert_eq!(session.look(T(301)), TAKEN_IN, "no first marker is published");
}

#[test]
fn filters_go_with_the_session() {
    let plan = plan_of(&["a"]);
    let mut session = StateSession::default();
    session.filters_known(["a", "old"].map(filter).to_vec(), &plan);
    assert_eq!(session.filters_to_store(&plan), None, "the store has them");
    session.connected(at(1), Protocol::V5, false);
    assert!(session.stale().is_empty());
    assert_eq!(session.filters_to_store(&plan).as_deref(), Some(&[filter("a")][..]));
}

#[test]
fn a_refusal_is_news_once() {
    let mut session = connected(false);
    let refused = [FilterRefusal { filter: filter("a"), reason: "not authorized".into() }];
    let is_marker = |filter: &TopicFilter| *filter == self::filter("a");
    assert_eq!(session.subscribed(&refused, is_marker).len(), 1);
    assert_eq!(session.subscribed(&refused, is_marker).len(), 0);
    assert!(session.waits_in_vain());
    session.connected(at(200), Protocol::V5, true);
    assert!(session.is_replay(false), "it is not known to be queued");
    session.subscribed(&[], is_marker);
    assert!(!session.waits_in_vain() && !session.is_replay(false));
    assert_eq!(session.subscribed(&refused, is_marker).len(), 1);
}

#[test]
fn a_loss_is_reported_after_a_while_beside_a_living_connection() {
    let mut session = connected(false);
    let due = session.disconnected(T(200), LossReason::TakenOver);
    assert_eq!(session.loss_due(T(205), due, false), Loss::WaitUntil(T(210)));
    assert_eq!(session.loss_due(T(210), due, true), Loss::Nothing, "this is another one's time");
    assert_eq!(session.loss_due(T(210), T(210), true), Loss::Report(LossReason::TakenOver));
    assert!(session.connected(at(220), Protocol::V5, true).is_back);
    let due = session.disconnected(T(300), LossReason::TakenOver);
    assert!(!session.connected(at(301), Protocol::V5, true).is_back);
    assert_eq!(session.loss_due(due, due, true), Loss::Nothing);
}
