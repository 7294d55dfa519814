//! The timetable of former identities.

use super::broker::{HOLD, LONG_LOOK, LOOK};
use super::*;
use crate::model::message::{LossReason, Message, QoS};
use crate::model::spec::HomeAssistant;
use crate::model::spec::Origin;
use crate::model::state::StateRecord;
use crate::model::unit::UnitsOutcome;
use crate::topic::TopicFilter;

const HERE: &str = "tcp://localhost:1883";

fn identity(client_id: &str, base_topic: &str) -> Identity {
    Identity {
        machine: Some("here".to_owned()),
        client_id: client_id.to_owned(),
        node: None,
        base_topic: base_topic.to_owned(),
        discovery_prefix: None,
        server: HERE.to_owned(),
    }
}

fn known(names: &[&str]) -> Known {
    let devices = names.iter().map(|name| DeviceName::new(*name).unwrap()).collect();
    Known { devices, prefixes: BTreeSet::new() }
}

fn used_by(identity: Identity) -> IdentityRecord {
    IdentityRecord { current: Some(identity), ..IdentityRecord::default() }
}

/// A monitor of this identity that records states.
fn takedown(own: &Identity) -> Takedown {
    takedown_with(own, false)
}

fn takedown_with(own: &Identity, main_defaults: bool) -> Takedown {
    let spec = MonitorSpec {
        client_id: own.client_id.clone(),
        base_topic: TopicName::new(own.base_topic.clone()).unwrap(),
        devices: Vec::new(),
        fleets: Vec::new(),
        max_subscriptions: crate::model::spec::DEFAULT_MAX_SUBSCRIPTIONS,
        home_assistant: HomeAssistant::default(),
        alert_unit: None,
        broker_grace: std::time::Duration::from_secs(60),
        origin: Origin { main_defaults, ..Origin::default() },
        command: "iotmonitor".into(),
        cluster: None,
    };
    let mut takedown = Takedown::new(own.clone(), &spec);
    takedown.records = true;
    takedown
}

fn opened(takedown: &mut Takedown, record: Option<IdentityRecord>, known: Known) -> Vec<Order> {
    takedown.store_opened(record, known)
}

fn saved(orders: &[Order]) -> &IdentityRecord {
    let saved = orders.iter().rev().find_map(|order| match order {
        Order::Save(record) => Some(record),
        _ => None,
    });
    saved.unwrap_or_else(|| panic!("nothing was saved: {orders:?}"))
}

/// How the work on former identities came to an end, for those of which it has.
fn ends(orders: &[Order]) -> Vec<TakedownEnd> {
    let ends = found(orders).into_iter().filter_map(|finding| match finding {
        Finding::Ended { end, .. } => Some(*end),
        _ => None,
    });
    ends.collect()
}

fn found(orders: &[Order]) -> Vec<&Finding> {
    let findings = orders.iter().filter_map(|order| match order {
        Order::Report(finding) => Some(finding),
        _ => None,
    });
    findings.collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn message(topic: &str, payload: &str, retain: bool) -> Message {
    Message {
        topic: TopicName::new(topic).unwrap(),
        payload: Bytes::from(payload.to_owned()),
        qos: QoS::AtLeastOnce,
        retain,
        restored: false,
        waited_micros: 0,
    }
}

fn state_of(message: &Message) -> StateRecord {
    StateRecord {
        topic: message.topic.clone(),
        payload: message.payload.clone(),
        qos: message.qos,
        retain: message.retain,
        time: secs(0),
    }
}

mod record {
    use super::*;

    #[test]
    fn the_first_use_is_remembered_and_the_same_one_again_is_no_news() {
        let own = identity("iotmonitor", "home/monitoring");
        for record in [None, Some(IdentityRecord::default())] {
            let orders = opened(&mut takedown(&own), record, known(&["lamp"]));
            assert_eq!(orders, [Order::Save(used_by(own.clone()))]);
        }
        let again = opened(&mut takedown(&own), Some(used_by(own.clone())), known(&["lamp"]));
        assert_eq!(again, []);
    }

    #[test]
    fn names_that_were_given_up_are_remembered_until_they_are_taken_again() {
        let (first, second) = (identity("a", "base"), identity("b", "base"));
        let orders = opened(&mut takedown(&second), Some(used_by(first.clone())), known(&["lamp"]));
        let renamed = Finding::Renamed { last: first.clone(), now: second.clone() };
        assert_eq!(found(&orders), [&renamed]);
        let record = saved(&orders).clone();
        assert_eq!(record.current.as_ref(), Some(&second));
        assert_eq!(record.former.len(), 1);
        assert_eq!(record.former[0].identity, first);
        assert_eq!(record.former[0].devices, known(&["lamp"]).devices);

        // A crash changes nothing, and neither does the way back and forth.
        let orders = opened(&mut takedown(&second), Some(record.clone()), known(&["lamp"]));
        assert_eq!(orders, []);
        let orders = opened(&mut takedown(&first), Some(record), known(&["door"]));
        let record = saved(&orders).clone();
        assert_eq!(record.former.len(), 1);
        assert_eq!(record.former[0].identity, second);
        let orders = opened(&mut takedown(&second), Some(record), known(&["lamp"]));
        assert_eq!(saved(&orders).former.len(), 1);
        assert_eq!(saved(&orders).former[0].identity, first);
    }

    #[test]
    fn a_store_of_another_machine_has_nothing_taken_down_and_says_so_once() {
        let there = Identity { machine: Some("there".to_owned()), ..identity("a", "base") };
        let mut record = used_by(there);
        let old = Identity {
            machine: record.current.as_ref().unwrap().machine.clone(),
            ..identity("z", "base")
        };
        record.former.push(Former {
            identity: old,
            devices: Vec::new(),
            prefixes: Vec::new(),
            units_done: false,
            broker_done: false,
        });
        let own = identity("b", "other");
        let mut takedown = takedown(&own);
        let orders = opened(&mut takedown, Some(record), known(&["lamp"]));
        assert_eq!(found(&orders), [&Finding::CopiedStore]);
        assert_eq!(saved(&orders), &used_by(own.clone()));
        assert!(takedown.is_copied());
        assert_eq!(takedown.manager_connected(), []);
        assert_eq!(takedown.watching(), []);
        let next = opened(&mut super::takedown(&own), Some(used_by(own.clone())), known(&["lamp"]));
        assert_eq!(next, []);
    }

    #[test]
    fn a_machine_without_a_number_is_taken_for_the_same() {
        let own = Identity { machine: None, ..identity("a", "base") };
        let record = Some(used_by(identity("a", "base")));
        let orders = opened(&mut takedown(&own), record, Known::default());
        assert_eq!(orders, [Order::Save(used_by(own))]);
    }

    #[test]
    fn whether_an_instance_goes_by_the_main_monitors_names_is_kept() {
        let own = identity("iotmonitor", "home/monitoring");
        let orders = opened(&mut takedown_with(&own, true), None, Known::default());
        assert!(saved(&orders).main_defaults);
    }

    #[test]
    fn what_is_left_on_a_former_broker_is_named_once() {
        let own = Identity { server: "tcp://new:1883".to_owned(), ..identity("a", "base") };
        let orders =
            opened(&mut takedown(&own), Some(used_by(identity("a", "base"))), known(&["lamp"]));
        let [Finding::Elsewhere { former, server }] = found(&orders)[..] else {
            panic!("{orders:?}")
        };
        assert_eq!((former.identity.server.as_str(), server.as_str()), (HERE, "tcp://new:1883"));
        assert_eq!(saved(&orders), &used_by(own));
    }
}

mod units {
    use super::*;

    fn unit(client_id: &str, agent: &str) -> UnitName {
        UnitName::for_agent(client_id, agent).unwrap()
    }

    /// A monitor that was `a` and is `b`, with the record that it has saved.
    fn renamed() -> (Takedown, IdentityRecord) {
        let mut takedown = takedown(&identity("b", "base"));
        let orders =
            opened(&mut takedown, Some(used_by(identity("a", "base"))), known(&["x", "y"]));
        let record = saved(&orders).clone();
        (takedown, record)
    }

    fn stop_order() -> Order {
        let units = vec![unit("a", "x"), unit("a", "y")];
        Order::StopUnits { client_id: "a".to_owned(), units }
    }

    #[test]
    fn the_units_of_the_former_clientid_are_stopped_before_any_starts() {
        let (mut takedown, _) = renamed();
        assert!(!takedown.has_stopped_units());
        assert_eq!(takedown.manager_connected(), [stop_order()]);
        assert!(!takedown.has_stopped_units());
        let orders = takedown.units_stopped(secs(1), "a", UnitsOutcome::Stopped { count: 2 });
        assert!(takedown.has_stopped_units());
        assert_eq!(
            found(&orders),
            [&Finding::UnitsStopped { client_id: "a".to_owned(), count: 2 }]
        );
        assert!(saved(&orders).former[0].units_done && !saved(&orders).former[0].broker_done);
    }

    #[test]
    fn a_store_that_opens_late_has_them_stopped_then() {
        let mut takedown = takedown(&identity("b", "base"));
        assert_eq!(takedown.manager_connected(), []);
        assert!(takedown.has_stopped_units(), "nothing is known that could run");
        let orders =
            opened(&mut takedown, Some(used_by(identity("a", "base"))), known(&["x", "y"]));
        assert!(orders.contains(&stop_order()), "{orders:?}");
    }

    #[test]
    fn units_stay_where_the_clientid_did() {
        let mut takedown = takedown(&identity("a", "other"));
        opened(&mut takedown, Some(used_by(identity("a", "base"))), known(&["x"]));
        assert!(takedown.has_stopped_units());
        assert_eq!(takedown.manager_connected(), []);
    }

    #[test]
    fn a_loss_of_the_manager_and_a_crash_have_it_asked_again() {
        let (mut takedown, record) = renamed();
        takedown.manager_connected();
        takedown.manager_lost();
        assert_eq!(takedown.manager_connected(), [stop_order()]);
        let mut next = super::takedown(&identity("b", "base"));
        opened(&mut next, Some(record), known(&["x"]));
        assert_eq!(next.manager_connected(), [stop_order()]);
    }

    #[test]
    fn what_cannot_be_stopped_is_tried_again_and_reported_once() {
        let (mut takedown, _) = renamed();
        takedown.manager_connected();
        let failed = || UnitsOutcome::Failed { reason: "busy".to_owned() };
        let orders = takedown.units_stopped(secs(1), "a", failed());
        assert_eq!(
            found(&orders),
            [&Finding::UnitsNotStopped { client_id: "a".to_owned(), reason: "busy".to_owned() }]
        );
        assert!(orders.contains(&Order::WakeAt(secs(1) + UNITS_RETRY)));
        assert_eq!(takedown.time_passed(secs(2)), []);
        assert_eq!(takedown.time_passed(secs(1) + UNITS_RETRY), [stop_order()]);
        assert!(found(&takedown.units_stopped(secs(12), "a", failed())).is_empty());
        assert!(!takedown.has_stopped_units());
    }

    /// The main monitor, whose clientid an instance had by mistake.
    #[test]
    fn a_clientid_that_another_monitor_of_the_machine_goes_by_is_left_to_it() {
        let (mut takedown, _) = renamed();
        takedown.manager_connected();
        takedown.watching();
        let orders = takedown.units_stopped(secs(1), "a", UnitsOutcome::InUse);
        assert!(takedown.has_stopped_units());
        assert_eq!(found(&orders), [&Finding::ClientIdInUse { client_id: "a".to_owned() }]);
        assert_eq!(saved(&orders), &used_by(identity("b", "base")));
        assert!(!orders.iter().any(|order| matches!(order, Order::Connect { .. })), "{orders:?}");
        assert!(!takedown.holds_restores());
    }
}

mod at_the_broker {
    use super::*;

    fn connect(part: FormerPart, client_id: &str) -> Order {
        Order::Connect { part, client_id: client_id.to_owned() }
    }

    fn is_acknowledgement(order: &Order) -> bool {
        matches!(order, Order::Acknowledge { .. })
    }

    fn cleared_topics(orders: &[Order]) -> Vec<&str> {
        let topics = orders.iter().filter_map(|order| match order {
            Order::Publish { topic, payload, retain: true, .. } if payload.is_empty() => {
                Some(topic.as_str())
            }
            _ => None,
        });
        topics.collect()
    }

    fn filters(orders: &[Order]) -> Vec<&TopicFilter> {
        let all = orders.iter().filter_map(|order| match order {
            Order::Subscribe { subscriptions, .. } => Some(subscriptions),
            _ => None,
        });
        all.flatten().map(|subscription| &subscription.filter).collect()
    }

    /// A monitor that was `a` below `old` and is `b` below `new`, with its units stopped and the
    /// broker reached at 0 s.
    fn moved() -> Takedown {
        let (mut takedown, _) = moved_with_orders();
        takedown.session_stands(secs(0));
        takedown
    }

    fn moved_with_orders() -> (Takedown, Vec<Order>) {
        let mut takedown = takedown(&identity("b", "new"));
        let former = Identity { discovery_prefix: Some("ha".to_owned()), ..identity("a", "old") };
        opened(&mut takedown, Some(used_by(former)), known(&["lamp"]));
        takedown.manager_connected();
        takedown.units_stopped(secs(0), "a", UnitsOutcome::Stopped { count: 0 });
        let orders = takedown.watching();
        (takedown, orders)
    }

    /// The same, with what is retained cleared and the session connected at 20 s.
    fn draining() -> (Takedown, Message) {
        let mut takedown = moved();
        takedown.connected(secs(1), FormerPart::Look, false);
        takedown.time_passed(secs(1) + LOOK);
        takedown.cleared();
        let orders = takedown.connected(secs(20), FormerPart::Drain, true);
        let marker = orders.iter().find_map(|order| match order {
            Order::Publish { topic, payload, .. } => {
                Some(message(topic.as_str(), std::str::from_utf8(payload).unwrap(), false))
            }
            _ => None,
        });
        assert_eq!(filters(&orders)[0].as_str(), "old/marker/a/+");
        (takedown, marker.unwrap())
    }

    #[test]
    fn everything_is_taken_down_step_by_step() {
        let (mut takedown, orders) = moved_with_orders();
        assert_eq!(orders, [connect(FormerPart::Look, "b")]);
        let orders = takedown.connected(secs(1), FormerPart::Look, false);
        let looked: Vec<&str> = filters(&orders).iter().map(|filter| filter.as_str()).collect();
        assert_eq!(looked, ["old/up", "old/availability"]);
        let seen = message("old/availability", "offline", true);
        takedown.message(secs(2), (FormerPart::Look, Delivery(1)), &seen, None);
        assert_eq!(takedown.time_passed(secs(10)), []);

        let orders = takedown.time_passed(secs(1) + LOOK);
        let topics = cleared_topics(&orders);
        assert_eq!(topics, ["old/status/lamp", "old/availability", "ha/device/a/lamp/config"]);
        let awaited = |order: &Order| matches!(order, Order::Publish { awaited: true, .. });
        assert_eq!(orders.iter().position(awaited), Some(2), "the last one is awaited");

        // Its own session has to stand first.
        assert_eq!(takedown.cleared(), [Order::Disconnect]);
        let orders = takedown.session_stands(secs(13));
        assert!(orders.contains(&connect(FormerPart::Drain, "a")), "{orders:?}");
        assert!(takedown.holds_restores());
        let orders = takedown.connected(secs(14), FormerPart::Drain, false);
        assert_eq!(orders, [connect(FormerPart::End, "a"), Order::LetRestore]);
        let orders = takedown.connected(secs(15), FormerPart::End, false);
        assert_eq!(orders[0], Order::Disconnect);
        assert_eq!(ends(&orders), [TakedownEnd::Done]);
        assert_eq!(saved(&orders), &used_by(identity("b", "new")));
    }

    #[test]
    fn nothing_begins_before_units_are_stopped_and_the_broker_is_reached() {
        let mut takedown = takedown(&identity("b", "new"));
        let orders = opened(&mut takedown, Some(used_by(identity("a", "old"))), known(&["lamp"]));
        assert!(!orders.iter().any(|order| matches!(order, Order::Connect { .. })));
        assert_eq!(takedown.watching(), []);
        takedown.manager_connected();
        let orders = takedown.units_stopped(secs(2), "a", UnitsOutcome::Stopped { count: 0 });
        assert!(orders.contains(&connect(FormerPart::Look, "b")), "{orders:?}");
    }

    #[test]
    fn a_monitor_that_is_heard_keeps_everything() {
        for live in [message("old/up", "17", false), message("old/availability", "online", false)] {
            let mut takedown = moved();
            takedown.connected(secs(1), FormerPart::Look, false);
            let orders = takedown.message(secs(5), (FormerPart::Look, Delivery(1)), &live, None);
            assert_eq!(ends(&orders), [TakedownEnd::InUse(Sign::Publishes)]);
            assert!(orders.contains(&Order::Disconnect) && orders.contains(&Order::LetRestore));
            assert_eq!(saved(&orders), &used_by(identity("b", "new")));
            assert_eq!(takedown.time_passed(secs(100)), []);
        }
    }

    #[test]
    fn one_that_is_only_said_to_live_is_waited_for_longer() {
        let mut takedown = moved();
        takedown.connected(secs(1), FormerPart::Look, false);
        let online = message("old/availability", "online", true);
        takedown.message(secs(2), (FormerPart::Look, Delivery(1)), &online, None);
        let long = secs(1) + LONG_LOOK;
        assert_eq!(takedown.time_passed(secs(1) + LOOK), [Order::WakeAt(long)]);
        assert_eq!(cleared_topics(&takedown.time_passed(long)).len(), 3);
    }

    #[test]
    fn a_broker_that_shows_nothing_has_nothing_taken_down() {
        let mut takedown = moved();
        takedown.connected(secs(1), FormerPart::Look, false);
        let orders = takedown.subscribed(FormerPart::Look, true);
        assert_eq!(ends(&orders), [TakedownEnd::Unseen]);
        assert_eq!(saved(&orders), &used_by(identity("b", "new")));
    }

    #[test]
    fn a_connection_that_was_lost_begins_its_part_again() {
        let mut takedown = moved();
        takedown.connected(secs(1), FormerPart::Look, false);
        let lost = LossReason::Other("gone".to_owned());
        takedown.disconnected(FormerPart::Look, &lost);
        assert_eq!(takedown.time_passed(secs(1) + LOOK), []);
        takedown.connected(secs(20), FormerPart::Look, false);
        assert_eq!(takedown.time_passed(secs(21)), []);
        assert_eq!(cleared_topics(&takedown.time_passed(secs(20) + LOOK)).len(), 3);
    }

    #[test]
    fn only_the_base_topic_changed_has_no_session_to_end() {
        let mut takedown = takedown(&identity("a", "new"));
        opened(&mut takedown, Some(used_by(identity("a", "old"))), known(&["lamp"]));
        assert!(!takedown.holds_restores());
        assert_eq!(takedown.watching(), [connect(FormerPart::Look, "a")]);
        takedown.connected(secs(0), FormerPart::Look, false);
        let orders = takedown.time_passed(LOOK);
        assert_eq!(cleared_topics(&orders), ["old/status/lamp", "old/availability"]);
        let orders = takedown.cleared();
        assert_eq!(orders[0], Order::Disconnect);
        assert_eq!(saved(&orders), &used_by(identity("a", "new")));
        assert!(takedown.owns(&TopicName::new("old/status/lamp").unwrap()));
        assert!(!takedown.owns(&TopicName::new("older/status/lamp").unwrap()));
    }

    #[test]
    fn a_changed_clientid_keeps_the_statuses_and_respects_other_monitors_below_them() {
        let mut takedown = takedown(&identity("b", "base"));
        opened(&mut takedown, Some(used_by(identity("a", "base"))), known(&["lamp"]));
        takedown.manager_connected();
        takedown.units_stopped(secs(0), "a", UnitsOutcome::Stopped { count: 1 });
        takedown.watching();
        takedown.session_stands(secs(0));
        let orders = takedown.connected(secs(0), FormerPart::Look, false);
        assert_eq!(filters(&orders).len(), 0);
        let orders = takedown.another_heard();
        assert_eq!(ends(&orders), [TakedownEnd::InUse(Sign::SharesBase)]);
        assert!(!takedown.owns(&TopicName::new("base/status/lamp").unwrap()));
        assert!(takedown.owns(&TopicName::new("ha/device/a/lamp/config").unwrap()));
        assert!(!takedown.owns(&TopicName::new("ha/device/c/lamp/config").unwrap()));
    }

    #[test]
    fn what_the_session_holds_is_on_disk_before_it_ends() {
        let (mut takedown, marker) = draining();
        let colour = message("lamp/colour", "red", false);
        let from = (FormerPart::Drain, Delivery(1));
        let orders = takedown.message(secs(21), from, &colour, Some(state_of(&colour)));
        let change = StateChange::PutUnflagged(state_of(&colour));
        assert_eq!(orders[0], Order::Record { delivery: Delivery(1), change });
        let from = (FormerPart::Drain, Delivery(2));
        let orders = takedown.message(secs(22), from, &marker, None);
        let change = StateChange::Nothing;
        assert_eq!(orders[0], Order::Record { delivery: Delivery(2), change });
        assert_eq!(takedown.time_passed(secs(23)), [], "not on disk yet");
        assert_eq!(takedown.committed(secs(24), Delivery(1)), []);
        let orders = takedown.committed(secs(25), Delivery(2));
        assert_eq!(orders, [Order::LetRestore], "no client has had the time to come back");
        let orders = takedown.time_passed(secs(20) + HOLD);
        assert_eq!(orders[0], Order::Acknowledge { through: Delivery(2) });
        assert!(orders.contains(&connect(FormerPart::End, "a")), "{orders:?}");
    }

    #[test]
    fn a_marker_that_does_not_come_back_is_given_up() {
        let (mut takedown, _) = draining();
        assert_eq!(takedown.time_passed(secs(29)), []);
        let orders = takedown.time_passed(secs(30));
        assert!(orders.contains(&connect(FormerPart::End, "a")), "{orders:?}");
    }

    #[test]
    fn what_came_live_meanwhile_wins_over_what_the_session_holds() {
        let (mut takedown, _) = draining();
        let (live, replayed) = (message("lamp/a", "old", false), message("lamp/b", "new", false));
        takedown.state_arrived(&live.topic, false);
        takedown.state_arrived(&replayed.topic, true);
        for (number, message, wins) in [(1, live, false), (2, replayed, true)] {
            let from = (FormerPart::Drain, Delivery(number));
            let orders = takedown.message(secs(21), from, &message, Some(state_of(&message)));
            let Order::Record { change, .. } = &orders[0] else { panic!("{orders:?}") };
            assert_eq!(change.state().is_some(), wins, "{}", message.topic);
        }
    }

    #[test]
    fn whoever_takes_the_session_keeps_it_as_it_was() {
        let (mut takedown, marker) = draining();
        let from = (FormerPart::Drain, Delivery(1));
        takedown.message(secs(21), from, &marker, None);
        assert!(!takedown.committed(secs(22), Delivery(1)).iter().any(is_acknowledgement));
        let orders = takedown.disconnected(FormerPart::Drain, &LossReason::TakenOver);
        assert_eq!(orders[0], Order::Disconnect);
        assert_eq!(ends(&orders), [TakedownEnd::InUse(Sign::TakesConnection)]);
        assert!(!orders.iter().any(|order| matches!(order, Order::Connect { .. })));
        assert_eq!(saved(&orders), &used_by(identity("b", "new")));
    }

    /// Not every broker says that a connection was taken over.
    #[test]
    fn a_session_that_is_lost_twice_belongs_to_another_client() {
        let (mut takedown, _) = draining();
        let lost = LossReason::Other("closed".to_owned());
        let orders = takedown.disconnected(FormerPart::Drain, &lost);
        assert_eq!(orders, [connect(FormerPart::Look, "b")]);
        takedown.connected(secs(22), FormerPart::Look, false);
        takedown.time_passed(secs(22) + LOOK);
        let orders = takedown.cleared();
        assert!(orders.contains(&connect(FormerPart::Drain, "a")), "{orders:?}");
        takedown.connected(secs(33), FormerPart::Drain, true);
        let orders = takedown.disconnected(FormerPart::Drain, &lost);
        assert_eq!(ends(&orders), [TakedownEnd::InUse(Sign::TakesConnection)]);
        assert_eq!(orders[0], Order::Disconnect);
    }

    #[test]
    fn a_crash_at_any_point_has_it_done_again() {
        let (takedown, _) = draining();
        let record = takedown.record.clone();
        let mut next = super::takedown(&identity("b", "new"));
        let orders = opened(&mut next, record, known(&["lamp"]));
        assert_eq!(orders, []);
        assert!(next.has_stopped_units() && next.holds_restores());
        assert_eq!(next.watching(), [connect(FormerPart::Look, "b")]);
    }

    #[test]
    fn restores_do_not_wait_for_ever() {
        let (mut takedown, _) = moved_with_orders();
        assert_eq!(takedown.session_stands(secs(5)), [Order::WakeAt(secs(5) + RESTORE_PATIENCE)]);
        assert!(takedown.holds_restores());
        let orders = takedown.time_passed(secs(5) + RESTORE_PATIENCE);
        assert_eq!(orders, [Order::LetRestore]);
        assert!(!takedown.holds_restores());
    }

    #[test]
    fn a_broker_that_is_changed_meanwhile_ends_it() {
        let mut takedown = moved();
        takedown.connected(secs(1), FormerPart::Look, false);
        let own = Identity { server: "tcp://new:1883".to_owned(), ..identity("b", "new") };
        let spec = MonitorSpec {
            client_id: "b".to_owned(),
            base_topic: TopicName::new("new").unwrap(),
            devices: Vec::new(),
            fleets: Vec::new(),
            max_subscriptions: crate::model::spec::DEFAULT_MAX_SUBSCRIPTIONS,
            home_assistant: HomeAssistant::default(),
            alert_unit: None,
            broker_grace: std::time::Duration::from_secs(60),
            origin: Origin::default(),
            command: "iotmonitor".into(),
            cluster: None,
        };
        let orders = takedown.reconfigured(own.clone(), &spec, known(&["lamp"]));
        assert_eq!(orders[0], Order::Disconnect);
        assert!(matches!(
            found(&orders)[..],
            [Finding::Elsewhere { .. }, Finding::Elsewhere { .. }]
        ));
        assert_eq!(saved(&orders).former.len(), 0);
    }
}
