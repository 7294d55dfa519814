//! A new configuration over a running monitor: what did not change goes on.

use super::expect::{agent, agent_running, device_name, stateful, watched};
use super::timetable::{House, filter, secs};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::Connection;
use iotmonitor_core::model::spec::DeviceSpec;

const UNIT: &str = "iotmonitor-agent-box.service";

#[test]
fn a_deadline_goes_on() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    let deadline = house.mono + secs(30);
    house.advance(secs(20));
    house.reload(vec![watched("new", 500), watched("lamp", 30)]);
    house.advance(secs(100));
    assert_eq!(house.published("expire/lamp").len(), 1);
    assert_eq!(house.published("expire/lamp")[0].0, deadline);
}

#[test]
fn a_new_timeout_counts_from_the_last_contact() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    let contact = house.mono;
    house.advance(secs(20));
    house.reload(vec![watched("lamp", 50)]);
    house.advance(secs(100));
    assert_eq!(house.published("expire/lamp").len(), 1);
    assert_eq!(house.published("expire/lamp")[0].0, contact + secs(50));
}

#[test]
fn a_new_device_has_its_full_timeout_from_the_reload() {
    let mut house = House::running(vec![watched("lamp", 3000)]);
    house.advance(secs(1000));
    house.reload(vec![watched("lamp", 3000), watched("new", 30)]);
    let deadline = house.mono + secs(30);
    assert_eq!(house.status("new")["state"], "unknown");
    house.advance(secs(100));
    house.expect_published("expire/new", deadline, "0");
}

#[test]
fn an_expired_device_stays_expired_and_is_not_reported_again() {
    let mut house = House::running(vec![watched("lamp", 30), watched("pump", 3000)]);
    house.advance(secs(40));
    house.turn_the_page();
    house.reload(vec![watched("pump", 3000), watched("lamp", 30)]);
    house.advance(secs(100));
    house.expect_silence_on("expire/lamp");
    assert_eq!(house.status("lamp")["state"], "expired");
    assert_eq!(house.monitor.summary().expired, 1);
    house.hear("home/lamp/x");
    assert_eq!(house.published("recover/lamp").len(), 1);
}

#[test]
fn one_that_is_no_longer_watched_is_no_longer_expired() {
    let mut house = House::running(vec![watched("lamp", 30), watched("pump", 30)]);
    house.advance(secs(40));
    let unwatched = DeviceSpec { watch: Vec::new(), ..stateful("pump") };
    house.reload(vec![watched("lamp", 0), unwatched]);
    assert_eq!(house.monitor.summary().expired, 0, "nothing could ever be overdue again");
}

#[test]
fn a_reload_during_the_round_trip_neither_loses_nor_confuses_a_device() {
    let mut house = House::running(vec![watched("lamp", 30), watched("pump", 300)]);
    house.broker.acknowledges = false;
    house.advance(secs(31));
    house.reload(vec![watched("pump", 300), watched("lamp", 30)]);
    house.broker.acknowledges = true;
    house.settle_acknowledgements();
    house.advance(secs(5));
    assert_eq!(house.published("expire/lamp").len(), 1);
    house.expect_silence_on("expire/pump");
}

#[test]
fn what_left_is_watched_no_more_and_its_status_is_cleared() {
    let mut house = House::running(vec![watched("lamp", 30), watched("pump", 3000)]);
    house.turn_the_page();
    house.reload(vec![watched("pump", 3000)]);
    assert_eq!(house.payloads("status/lamp"), [""]);
    assert!(house.published("status/lamp")[0].1.retain);
    assert_eq!(house.unsubscribed(Connection::Watch), [&filter("home/lamp/#")]);
    house.advance(secs(100));
    house.hear("home/lamp/x");
    house.expect_silence_on("expire/lamp");
    assert!(!house.store.devices.contains_key(&device_name("lamp")));
    assert!(house.store.devices.contains_key(&device_name("pump")));
}

#[test]
fn one_that_left_and_came_back_at_once_keeps_its_record() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.advance(secs(2));
    house.store.holds_saves = true;
    house.advance(secs(60));
    house.reload(Vec::new());
    house.reload(vec![watched("lamp", 30)]);
    house.store.holds_saves = false;
    house.settle_save();
    house.advance(secs(70));
    for (_, action) in &house.log {
        if let Action::SaveDevices { changed, gone, .. } = action {
            assert!(changed.iter().all(|record| !gone.contains(&record.name)));
        }
    }
    assert!(house.store.devices.contains_key(&device_name("lamp")));
}

#[test]
fn only_what_changed_is_subscribed_and_nothing_is_dropped_first() {
    let mut house = House::running(vec![watched("lamp", 30), watched("pump", 30)]);
    house.turn_the_page();
    house.reload(vec![watched("lamp", 30), watched("door", 30)]);
    let subscribed: Vec<_> =
        house.subscribed(Connection::Watch).iter().map(|s| s.filter.as_str().to_owned()).collect();
    assert_eq!(subscribed, ["home/door/#"]);
    let new = house.position("subscribe", |a| matches!(a, Action::Subscribe { .. }));
    let old = house.position("unsubscribe", |a| matches!(a, Action::Unsubscribe { .. }));
    assert!(new < old);
    assert!(house.monitor.summary().watching, "without losing a session");
}

#[test]
fn an_unchanged_file_touches_no_connection_and_no_agent() {
    let devices = || vec![watched("lamp", 30), stateful("door"), agent("box", 30)];
    let mut house = House::running(devices());
    house.advance(secs(2));
    house.turn_the_page();
    house.reload(devices());
    for (_, action) in &house.log {
        assert!(
            matches!(action, Action::Publish(p) if p.retain)
                || matches!(action, Action::SaveDevices { .. } | Action::Raise(_)),
            "{action:?}"
        );
    }
}

#[test]
fn an_agent_whose_definition_did_not_change_goes_on() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.turn_the_page();
    house.reload(vec![watched("lamp", 30), agent("box", 60)]);
    assert!(house.stops(UNIT).is_empty() && house.starts(UNIT).is_empty());
    assert_eq!(house.monitor.summary().agents_running, 1);
    house.unit_fails(UNIT);
    house.advance(secs(2));
    assert_eq!(house.starts(UNIT).len(), 1, "it is watched as before");
}

#[test]
fn an_agent_whose_definition_changed_is_restarted_once() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.turn_the_page();
    house.reload(vec![agent_running("box", "another command")]);
    assert_eq!((house.stops(UNIT).len(), house.starts(UNIT).len()), (1, 1));
    house.advance(secs(100));
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn a_failing_agent_with_a_new_definition_is_started_at_once() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.unit_fails(UNIT);
    house.turn_the_page();
    house.reload(vec![agent_running("box", "another command")]);
    assert_eq!(house.starts(UNIT), [house.mono]);
}

#[test]
fn an_agent_that_waits_for_its_relaunch_still_gets_it() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.unit_fails(UNIT);
    house.turn_the_page();
    house.reload(vec![watched("lamp", 30), agent("box", 30)]);
    house.advance(secs(2));
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn an_agent_that_left_is_stopped_and_a_new_one_started() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.turn_the_page();
    house.reload(vec![agent("radio", 30)]);
    assert_eq!(house.stops(UNIT).len(), 1);
    assert_eq!(house.starts("iotmonitor-agent-radio.service").len(), 1);
    house.advance(secs(100));
    assert!(house.starts(UNIT).is_empty());
    assert_eq!(house.monitor.summary().agents, 1);
}

#[test]
fn an_agent_that_became_a_device_is_stopped() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.turn_the_page();
    house.reload(vec![watched("box", 30)]);
    assert_eq!(house.stops(UNIT).len(), 1);
    assert_eq!(house.status("box")["kind"], "device");
    house.advance(secs(100));
    assert!(house.starts(UNIT).is_empty());
}

#[test]
fn a_device_that_became_an_agent_is_started() {
    let mut house = House::running(vec![watched("box", 30)]);
    house.reload(vec![agent("box", 30)]);
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn an_agent_that_the_file_disables_is_stopped_and_enables_is_started() {
    let off = || DeviceSpec { enabled: false, ..agent("box", 30) };
    let mut house = House::running(vec![agent("box", 30)]);
    house.turn_the_page();
    house.reload(vec![off()]);
    assert_eq!(house.stops(UNIT).len(), 1);
    assert_eq!(house.status("box")["state"], "disabled");
    house.advance(secs(100));
    assert!(house.starts(UNIT).is_empty());
    house.reload(vec![agent("box", 30)]);
    assert_eq!(house.starts(UNIT), [house.mono]);
    let deadline = house.mono + secs(30);
    house.advance(secs(100));
    assert_eq!(house.published("expire/box").last().unwrap().0, deadline);
}

#[test]
fn a_persons_choice_outlives_a_reload() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.happen(Event::Disabled { device: device_name("lamp") });
    house.reload(vec![watched("lamp", 60)]);
    house.advance(secs(100));
    assert_eq!(house.status("lamp")["state"], "disabled");
    house.expect_silence_on("expire/lamp");
}

#[test]
fn a_new_filter_that_the_broker_refuses_lets_its_device_not_expire() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.broker.refused.insert(filter("home/door/#"));
    house.reload(vec![watched("lamp", 30), watched("door", 30)]);
    house.advance(secs(100));
    house.expect_silence_on("expire/door");
    assert_eq!(house.published("expire/lamp").len(), 1);
    assert_eq!(house.count(AlertKind::FilterRefused), 1);
}

#[test]
fn a_restore_that_is_under_way_is_finished_after_the_reload() {
    let mut house = House::dark(vec![stateful("lamp")]);
    house.recorded("home/lamp/states/a", "on");
    house.store.holds_reads = true;
    house.power_up();
    house.advance(secs(2));
    house.reload(vec![watched("door", 30), stateful("lamp")]);
    house.store.holds_reads = false;
    house.settle_reads();
    house.advance(secs(2));
    assert_eq!(house.restored(), ["home/lamp/states/a=on"]);
}

#[test]
fn expire_goes_on_being_repeated() {
    let repeating = || DeviceSpec { expire_repeat: Some(secs(10)), ..watched("lamp", 30) };
    let mut house = House::running(vec![repeating()]);
    house.advance(secs(31));
    house.turn_the_page();
    house.reload(vec![watched("door", 3000), repeating()]);
    house.advance(secs(35));
    assert_eq!(house.published("expire/lamp").len(), 3, "one series, not two");
}

#[test]
fn a_refused_filter_that_leaves_the_file_leaves_its_device_no_longer_deaf() {
    let both = |filters: &[&str]| DeviceSpec {
        watch: filters.iter().map(|text| filter(text)).collect(),
        ..watched("lamp", 30)
    };
    let mut house = House::dark(vec![both(&["home/lamp/#", "secret/#"])]);
    house.broker.refused.insert(filter("secret/#"));
    house.power_up();
    house.advance(secs(300));
    house.expect_silence_on("expire/lamp");
    house.reload(vec![both(&["home/lamp/#"])]);
    house.advance(secs(31));
    assert_eq!(house.published("expire/lamp").len(), 1);
}

#[test]
fn a_refused_filter_is_asked_for_again_by_a_reload() {
    let mut house = House::dark(vec![watched("lamp", 30)]);
    house.broker.refused.insert(filter("home/lamp/#"));
    house.power_up();
    house.advance(secs(300));
    house.expect_silence_on("expire/lamp");
    house.broker.refused.clear();
    house.reload(vec![watched("lamp", 30)]);
    house.advance(secs(31));
    assert_eq!(house.published("expire/lamp").len(), 1);
    assert_eq!(house.count(AlertKind::FilterRefused), 1);
}
