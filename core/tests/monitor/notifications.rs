//! Notifications: which alerts are delivered, when they are tried, and which are kept.

use super::expect::{agent, device_name, watched};
use super::timetable::{House, secs};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::{AlertKind, Priority};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, FilterRefusal, LossReason};
use iotmonitor_core::model::notification::Notification;
use iotmonitor_core::model::spec::{DeviceSpec, MonitorSpec};
use iotmonitor_core::model::unit::JobOutcome;
use iotmonitor_core::model::unit_name::UnitTemplate;
use iotmonitor_core::topic::TopicFilter;
use std::time::Duration;

fn notify() -> UnitTemplate {
    UnitTemplate::new("notify@.service").unwrap()
}

/// A house whose alerts are delivered by `notify@.service`.
fn dark(devices: Vec<DeviceSpec>) -> House {
    let with_unit = |spec| DeviceSpec { alert_unit: Some(notify()), ..spec };
    let devices = devices.into_iter().map(with_unit).collect();
    let spec = House::dark(devices).spec;
    House::of(MonitorSpec { alert_unit: Some(notify()), ..spec })
}

fn running(devices: Vec<DeviceSpec>) -> House {
    let mut house = dark(devices);
    house.power_up();
    house
}

fn crowd(count: usize, timeout: u64) -> Vec<DeviceSpec> {
    (0..count).map(|at| watched(&format!("d{at:03}"), timeout)).collect()
}

/// What people have heard, as `instance: event`.
fn notified(house: &House) -> Vec<String> {
    house.way.notified.iter().map(|it| format!("{}: {}", it.instance, it.event)).collect()
}

/// When each message was tried.
fn tries(house: &House) -> Vec<(Duration, Notification)> {
    let tried = house.log.iter().filter_map(|(at, action)| match action {
        Action::SendNotification(it) => Some((*at, it.as_ref().clone())),
        _ => None,
    });
    tried.collect()
}

fn pending(house: &House) -> usize {
    house.monitor.summary().notifications.pending
}

#[test]
fn an_alarm_and_its_end_are_delivered() {
    let mut house = running(vec![watched("lamp", 30)]);
    house.advance(secs(31));
    house.hear("home/lamp/x");
    assert_eq!(notified(&house), ["lamp: expired", "lamp: recovered"]);
    let first = &house.way.notified[0];
    assert_eq!(
        (first.device.clone(), first.priority),
        (Some(device_name("lamp")), Priority::Warning)
    );
    assert!(!first.message.contains("late"), "{}", first.message);
    assert_eq!(pending(&house), 0);
}

#[test]
fn alerts_for_the_journal_alone_and_alerts_without_a_unit_are_not_delivered() {
    let mut house = running(vec![agent("box", 30)]);
    house.unit_restarted_by_systemd("iotmonitor-agent-box.service");
    assert_eq!(notified(&house), [""; 0]);
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.advance(secs(31));
    assert_eq!((notified(&house), pending(&house)), (vec![], 0));
}

#[test]
fn a_failed_delivery_is_retried_with_growing_delays_and_marked_late() {
    let mut house = running(vec![watched("lamp", 30)]);
    house.way.fails = true;
    let fell = house.mono + secs(30);
    house.advance(secs(3_600));
    let at: Vec<u64> = tries(&house).iter().map(|(at, _)| (*at - fell).as_secs()).collect();
    assert_eq!(at, [0, 10, 30, 70, 150, 310, 630, 1_270, 2_170, 3_070]);
    assert_eq!(house.count(AlertKind::AlertUnitFailed), 1);
    assert_eq!(pending(&house), 1);
    house.way.fails = false;
    house.advance(secs(900));
    assert_eq!(notified(&house), ["lamp: expired"]);
    let message = &house.way.notified[0].message;
    assert!(message.ends_with("(delivered 1 h 6 min late)"), "{message}");
    assert_eq!(house.count(AlertKind::AlertUnitBack), 1);
    assert_eq!(pending(&house), 0);
    house.hear("home/lamp/x");
    assert_eq!(notified(&house)[1..], ["lamp: recovered"]);
}

#[test]
fn the_end_of_an_alarm_that_was_not_delivered_is_not_delivered() {
    let mut house = running(vec![watched("lamp", 30), watched("bell", 30)]);
    house.way.fails = true;
    house.advance(secs(31));
    house.hear("home/lamp/x");
    assert_eq!(pending(&house), 1);
    house.way.fails = false;
    house.advance(secs(20));
    house.hear("home/lamp/x");
    assert_eq!(notified(&house), ["bell: expired"]);
    house.hear("home/bell/x");
    assert_eq!(notified(&house)[1..], ["bell: recovered"]);
}

#[test]
fn the_end_of_what_is_under_way_waits_for_how_that_ends() {
    for arrives in [true, false] {
        let mut house = running(vec![watched("lamp", 30)]);
        house.way.answers = false;
        house.advance(secs(31));
        house.hear("home/lamp/x");
        house.way.notified.clear();
        house.way.answers = true;
        let outcome =
            if arrives { JobOutcome::Done } else { JobOutcome::Failed("no route".to_owned()) };
        house.happen(Event::NotificationEnded { instance: "lamp".to_owned(), outcome });
        house.advance(secs(20));
        let expected: &[&str] = if arrives { &["lamp: recovered"] } else { &[] };
        assert_eq!(notified(&house), expected);
        assert_eq!(pending(&house), 0);
    }
}

#[test]
fn after_a_delivered_alarm_the_final_state_is_delivered() {
    let mut house = running(vec![watched("lamp", 30)]);
    house.advance(secs(31));
    house.way.fails = true;
    house.hear("home/lamp/x");
    house.advance(secs(31));
    house.hear("home/lamp/x");
    house.way.fails = false;
    for _ in 0..10 {
        house.advance(secs(20));
        house.hear("home/lamp/x");
    }
    assert_eq!(notified(&house), ["lamp: expired", "lamp: recovered"]);
}

#[test]
fn a_message_that_arrives_makes_the_others_due() {
    let mut house = running(vec![watched("lamp", 30), watched("bell", 2_000)]);
    house.way.fails = true;
    house.advance(secs(1_990));
    house.way.fails = false;
    let before = tries(&house).len();
    house.advance(secs(10));
    assert_eq!(notified(&house), ["bell: expired", "lamp: expired"]);
    assert_eq!(tries(&house).len(), before + 2);
}

#[test]
fn it_is_kept_over_a_restart_and_over_a_crash() {
    for orderly in [true, false] {
        let mut house = running(vec![watched("lamp", 30), watched("bell", 0)]);
        house.way.fails = true;
        house.advance(secs(31));
        if orderly {
            house.restart();
        } else {
            house.crash();
        }
        house.way.fails = false;
        house.advance(secs(600));
        house.power_up();
        house.advance(secs(1));
        assert_eq!(notified(&house), ["lamp: expired"], "orderly: {orderly}");
        assert!(house.way.notified[0].message.contains(" late)"));
        house.restart();
        house.power_up();
        house.advance(secs(20));
        assert_eq!(notified(&house).len(), 1, "once");
        house.hear("home/lamp/x");
        assert_eq!(notified(&house)[1..], ["lamp: recovered"]);
        assert!(!house.way.notified[1].message.contains(" late)"), "{:?}", house.way.notified[1]);
    }
}

#[test]
fn one_that_is_back_after_a_restart_is_not_delivered() {
    let mut house = running(vec![watched("lamp", 30)]);
    house.way.fails = true;
    house.advance(secs(31));
    house.restart();
    house.connect_watch();
    house.hear("home/lamp/x");
    house.open_store();
    house.way.fails = false;
    house.advance(secs(20));
    assert_eq!(notified(&house), [""; 0]);
}

#[test]
fn the_record_of_an_alarm_includes_its_pending_notification() {
    let mut house = running(vec![watched("lamp", 30)]);
    house.way.answers = false;
    house.advance(secs(31));
    let record = &house.store.devices[&device_name("lamp")];
    assert!(record.expired_since.is_some());
    assert_eq!(record.unheard[0].news.as_ref().unwrap().event, "expired");
}

#[test]
fn more_than_sixteen_become_one_summary() {
    let mut house = running(crowd(17, 30));
    house.way.fails = true;
    house.advance(secs(31));
    let events =
        |house: &House| -> Vec<&str> { tries(house).iter().map(|(_, it)| it.event).collect() };
    assert_eq!(events(&house), ["pending"]);
    house.way.fails = false;
    house.advance(secs(20));
    assert_eq!(notified(&house), ["pending: pending"]);
    let message = &house.way.notified[0].message;
    assert!(message.starts_with("17 alerts in one message"), "{message}");
    assert!(message.contains("expired (17): d000, d001"), "{message}");
    assert!(message.contains("d009 and 7 more"), "{message}");
    assert_eq!(house.way.notified[0].priority, Priority::Warning);
    assert_eq!(pending(&house), 0);
    house.hear("home/d003/x");
    assert_eq!(notified(&house)[1..], ["d003: recovered"]);
}

#[test]
fn sixteen_are_delivered_one_by_one_four_at_a_time() {
    let mut house = running(crowd(16, 30));
    house.way.answers = false;
    house.advance(secs(31));
    assert_eq!(tries(&house).len(), 4);
    house.way.answers = true;
    let outcome = JobOutcome::Done;
    house.happen(Event::NotificationEnded { instance: "d000".to_owned(), outcome });
    for instance in ["d001", "d002", "d003"] {
        let outcome = JobOutcome::Done;
        house.happen(Event::NotificationEnded { instance: instance.to_owned(), outcome });
    }
    assert_eq!(tries(&house).len(), 16);
    assert!(tries(&house).iter().all(|(_, it)| it.event == "expired"));
}

#[test]
fn a_fleet_that_falls_while_the_way_is_down_is_tried_as_one() {
    let mut house = running(crowd(500, 30));
    house.way.fails = true;
    house.advance(secs(3_600));
    assert!(tries(&house).len() <= 12, "{}", tries(&house).len());
    house.way.fails = false;
    for at in 0..490 {
        house.happen(Event::Disabled { device: device_name(&format!("d{at:03}")) });
    }
    house.turn_the_page();
    house.advance(secs(900));
    assert_eq!(notified(&house).len(), 10, "those that are still silent, one by one");
    assert!(tries(&house).iter().all(|(_, it)| it.event == "expired"));
}

#[test]
fn after_a_day_of_failures_only_changes_are_tried() {
    let mut house = running(vec![watched("lamp", 30), watched("bell", 200_000)]);
    house.way.fails = true;
    house.advance(secs(25 * 3_600));
    house.turn_the_page();
    house.advance(secs(48 * 3_600));
    assert_eq!(tries(&house).len(), 1, "the bell, once");
    assert_eq!(house.count(AlertKind::AlertUnitFailed), 0, "it is not raised again");
    assert_eq!(house.monitor.summary().notifications.last_delivered, Some(false));
    house.restart();
    house.power_up();
    house.turn_the_page();
    house.advance(secs(3_600));
    assert_eq!(tries(&house).len(), 0, "a restart changes nothing of that");
    house.way.fails = false;
    house.hear("home/lamp/x");
    house.advance(secs(31));
    assert_eq!(notified(&house), ["lamp: expired", "bell: expired"]);
}

#[test]
fn after_a_day_of_failures_a_crowd_rests_too() {
    let mut devices = crowd(20, 30);
    devices.push(watched("bell", 200_000));
    let mut house = running(devices);
    house.way.fails = true;
    house.advance(secs(25 * 3_600));
    house.turn_the_page();
    house.advance(secs(24 * 3_600));
    assert_eq!(tries(&house).len(), 0, "nothing has changed");
    house.advance(secs(24 * 3_600));
    assert_eq!(tries(&house).len(), 1, "the bell, once, and the others with it");
    house.restart();
    house.power_up();
    house.turn_the_page();
    house.advance(secs(3_600));
    assert_eq!(tries(&house).len(), 0, "a restart changes nothing of that");
    house.way.fails = false;
    house.hear("home/d001/x");
    house.advance(secs(31));
    assert_eq!(notified(&house), ["pending: pending"]);
}

#[test]
fn a_crowd_of_one_way_holds_up_no_other() {
    let ring = UnitTemplate::new("ring@.service").unwrap();
    let mut spec = running(crowd(17, 30)).spec;
    for (name, timeout) in [("bell", 300), ("gong", 1_000)] {
        let alert_unit = Some(ring.clone());
        spec.devices.push(DeviceSpec { alert_unit, ..watched(name, timeout) });
    }
    let mut house = House::of(spec);
    house.power_up();
    house.way.broken = Some(notify());
    house.advance(secs(299));
    house.way.fails = true;
    house.turn_the_page();
    house.advance(secs(70));
    let at = |house: &House, name: &str| -> Vec<u64> {
        let tries = tries(house).into_iter().filter(|(_, it)| it.instance == name);
        tries.map(|(at, _)| at.as_secs()).collect()
    };
    let [first, rest @ ..] = &at(&house, "bell")[..] else { panic!("the bell waits") };
    assert_eq!(rest, [first + 10, first + 30], "it has delays of its own");
    house.way.fails = false;
    house.advance(secs(700));
    assert_eq!(notified(&house), ["bell: expired", "gong: expired"]);
    assert_eq!(at(&house, "gong"), [first + 700]);
}

#[test]
fn two_facts_that_have_no_end_are_both_delivered() {
    let refused = |filter: &str| {
        let filter = TopicFilter::new(filter).unwrap();
        FilterRefusal { filter, reason: "not authorized".to_owned() }
    };
    let mut house = running(vec![watched("lamp", 30), watched("bell", 30)]);
    house.way.fails = true;
    let refused = vec![refused("home/lamp/#"), refused("home/bell/#")];
    house.happen(Event::Subscribed { connection: Connection::Watch, refused });
    house.way.fails = false;
    house.advance(secs(11));
    let message = &house.way.notified[0].message;
    assert!(message.contains("home/lamp/#") && message.contains("home/bell/#"), "{message}");
}

#[test]
fn one_that_leaves_the_monitoring_is_not_delivered() {
    let mut house = running(vec![watched("lamp", 30), watched("bell", 30)]);
    house.way.fails = true;
    house.advance(secs(31));
    house.happen(Event::Disabled { device: device_name("lamp") });
    let bell = house.spec.devices[1].clone();
    assert_eq!(pending(&house), 1);
    house.reload(vec![bell]);
    house.reload(vec![]);
    house.way.fails = false;
    house.advance(secs(100));
    assert_eq!((notified(&house), pending(&house)), (vec![], 0));
}

#[test]
fn the_file_of_a_failed_one_is_dropped_when_it_is_no_longer_needed() {
    let mut house = running(vec![watched("lamp", 30)]);
    house.way.fails = true;
    house.advance(secs(35));
    let dropped = |house: &House| {
        let is_drop =
            |action: &Action| *action == Action::DropNotification { instance: "lamp".to_owned() };
        house.log.iter().filter(|(_, action)| is_drop(action)).count()
    };
    assert_eq!(dropped(&house), 0);
    house.hear("home/lamp/x");
    assert_eq!(dropped(&house), 1);
}

#[test]
fn all_matters_of_a_device_are_one_message() {
    let mut house = running(vec![agent("box", 30)]);
    house.way.fails = true;
    house.advance(secs(31));
    for _ in 0..10 {
        house.unit_fails("iotmonitor-agent-box.service");
        house.advance(secs(1));
    }
    assert_eq!(house.count(AlertKind::AgentFailed), 1);
    house.way.fails = false;
    house.advance(secs(900));
    assert_eq!(notified(&house)[0], "box: agent-failed");
    let it = &house.way.notified[0];
    assert_eq!(it.message.lines().count(), 2, "{}", it.message);
    assert_eq!(it.priority, Priority::Error);
    assert!(it.unit.is_some() && it.account.is_some());
}

fn lose_broker(house: &mut House) {
    house.lose(Connection::Watch, LossReason::Other("the broker closed the connection".into()));
}

#[test]
fn a_blip_of_the_broker_is_no_news() {
    let mut house = running(vec![watched("lamp", 0)]);
    lose_broker(&mut house);
    assert_eq!(house.count(AlertKind::BrokerLost), 1, "in the journal at once");
    house.advance(secs(59));
    house.connect_watch();
    house.advance(secs(600));
    assert_eq!(notified(&house), [""; 0]);
    lose_broker(&mut house);
    house.advance(secs(60));
    assert_eq!(notified(&house), ["broker-lost: broker-lost"]);
    assert!(!house.way.notified[0].message.contains("late"), "{}", house.way.notified[0].message);
    house.connect_watch();
    assert_eq!(notified(&house)[1..], ["broker-back: broker-back"]);
}

#[test]
fn the_return_of_a_broker_is_delivered_by_the_next_run_too() {
    let mut house = running(vec![watched("lamp", 0)]);
    lose_broker(&mut house);
    house.advance(secs(61));
    house.restart();
    house.power_up();
    assert_eq!(notified(&house), ["broker-lost: broker-lost", "broker-back: broker-back"]);
    house.restart();
    house.power_up();
    assert_eq!(notified(&house).len(), 2, "a first connection is no news");
}

#[test]
fn a_person_is_reminded_of_what_is_still_silent() {
    let mut house =
        running(vec![DeviceSpec { expire_repeat: Some(secs(3_600)), ..watched("lamp", 30) }]);
    house.advance(secs(2 * 3_600 + 31));
    assert_eq!(notified(&house), ["lamp: expired"; 3]);
    assert_eq!(house.count(AlertKind::Expired), 1, "the journal has it once");
    assert!(
        house.way.notified[2].message.starts_with("still so: "),
        "{}",
        house.way.notified[2].message
    );
    house.hear("home/lamp/x");
    house.advance(secs(20));
    house.hear("home/lamp/x");
    assert_eq!(notified(&house)[3..], ["lamp: recovered"]);
}

#[test]
fn silenced_alerts_are_not_delivered_and_those_still_true_afterwards_are() {
    let mut house = running(vec![watched("lamp", 30), watched("bell", 30), watched("door", 30)]);
    house.happen(Event::Silenced { device: Some(device_name("lamp")), span: secs(7_200) });
    house.advance(secs(31));
    assert_eq!(notified(&house), ["bell: expired", "door: expired"]);
    assert_eq!(house.count(AlertKind::Expired), 3);
    assert_eq!(house.published("expire/lamp").len(), 1);
    let view = house.monitor.view(&device_name("lamp")).unwrap();
    assert_eq!(view.silenced_until, Some(house.now().wall + secs(7_200 - 31)));
    house.restart();
    house.power_up();
    house.advance(secs(7_000));
    assert_eq!(notified(&house).len(), 2);
    house.advance(secs(200));
    assert_eq!(notified(&house)[2..], ["lamp: expired"]);
    assert_eq!(house.monitor.view(&device_name("lamp")).unwrap().silenced_until, None);
    assert_eq!((house.count(AlertKind::Silenced), house.count(AlertKind::Unsilenced)), (1, 1));
}

#[test]
fn what_came_and_went_while_everything_was_silenced_is_not_delivered() {
    let mut house = running(vec![watched("lamp", 30)]);
    house.happen(Event::Silenced { device: None, span: secs(7_200) });
    house.advance(secs(31));
    house.hear("home/lamp/x");
    lose_broker(&mut house);
    house.advance(secs(100));
    assert_eq!(notified(&house), [""; 0]);
    house.happen(Event::Unsilenced { device: None });
    assert_eq!(notified(&house), ["broker-lost: broker-lost"]);
}

#[test]
fn a_test_goes_the_whole_way_and_says_what_came_of_it() {
    let mut house = running(vec![watched("lamp", 0)]);
    house.happen(Event::NotificationTested { device: None });
    assert_eq!(notified(&house), ["test: test"]);
    assert!(!house.monitor.is_testing_notification());
    assert_eq!(house.monitor.failure_of_test(), None);
    house.way.fails = true;
    house.happen(Event::NotificationTested { device: Some(device_name("lamp")) });
    assert_eq!(house.monitor.failure_of_test(), Some("notify@.service is down"));
    let summary = house.monitor.summary().notifications;
    assert_eq!((summary.last_delivered, summary.pending), (Some(false), 0));
}
