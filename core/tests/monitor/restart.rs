//! A restart of the monitor is an outage like another.

use super::expect::watched;
use super::timetable::{House, START, secs};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, LossReason};
use iotmonitor_core::model::spec::DeviceSpec;
use std::time::Duration;

fn expiry(house: &House, device: &str) -> Vec<Duration> {
    house.published(&format!("expire/{device}")).iter().map(|(at, _)| *at).collect()
}

#[test]
fn the_long_dead_is_not_reported_again_and_recovers_all_the_same() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    house.advance(secs(100));
    assert_eq!(expiry(&house, "lamp").len(), 1);
    house.restart();
    house.turn_the_page();
    house.advance(secs(60));
    house.power_up();
    assert_eq!(house.monitor.summary().expired, 1);
    assert_eq!(house.status("lamp")["state"], "expired");
    assert_eq!(house.status("lamp")["lastContact"], START);
    assert_eq!(house.status("lamp")["since"], START + 30);
    house.advance(secs(1000));
    house.expect_silence_on("expire/lamp");
    assert_eq!(house.count(AlertKind::Expired), 0);
    house.hear("home/lamp/x");
    house.expect_published("recover/lamp", house.mono, &house.wall());
}

#[test]
fn an_expiry_survives_a_crash_at_once() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.advance(secs(31));
    assert_eq!(expiry(&house, "lamp").len(), 1);
    house.crash();
    house.turn_the_page();
    house.power_up();
    house.advance(secs(1000));
    house.expect_silence_on("expire/lamp");
}

#[test]
fn a_recovery_survives_a_crash_at_once() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.advance(secs(40));
    house.hear("home/lamp/x");
    house.advance(secs(2));
    house.crash();
    house.turn_the_page();
    house.power_up();
    assert_eq!(house.status("lamp")["state"], "alive");
    house.advance(secs(100));
    assert_eq!(expiry(&house, "lamp").len(), 1);
}

#[test]
fn a_timeout_of_25_hours_goes_on_over_daily_restarts() {
    let hour = secs(3600);
    let mut house = House::running(vec![watched("lamp", 25 * 3600)]);
    house.hear("home/lamp/x");
    house.advance(20 * hour);
    house.restart();
    house.advance(secs(30));
    house.power_up();
    let back = house.mono;
    house.advance(20 * hour);
    assert_eq!(expiry(&house, "lamp"), [back + 5 * hour]);
    assert_eq!(house.payloads("expire/lamp"), [START.to_string()]);
}

#[test]
fn a_crash_loses_no_more_than_a_batch_of_watched_time() {
    let hour = secs(3600);
    let mut house = House::running(vec![watched("lamp", 25 * 3600)]);
    house.hear("home/lamp/x");
    house.advance(20 * hour);
    house.crash();
    house.power_up();
    let back = house.mono;
    house.advance(20 * hour);
    let expired = expiry(&house, "lamp")[0];
    assert!(expired >= back + 5 * hour, "no false alarm");
    assert!(expired <= back + 5 * hour + secs(120), "batches are about a minute");
}

#[test]
fn after_a_restart_there_is_a_grace() {
    let mut house = House::running(vec![watched("lamp", 3600)]);
    house.hear("home/lamp/x");
    house.advance(secs(3590));
    house.restart();
    house.power_up();
    let back = house.mono;
    house.advance(secs(600));
    assert_eq!(expiry(&house, "lamp"), [back + secs(60)]);
}

#[test]
fn graces_are_counted_across_restarts() {
    let mut house = House::running(vec![watched("lamp", 60)]);
    house.hear("home/lamp/x");
    for _ in 0..4 {
        house.advance(secs(59));
        house.restart();
        house.power_up();
    }
    house.advance(secs(2));
    assert_eq!(
        expiry(&house, "lamp").len(),
        1,
        "a monitor that flaps does not hide a device for ever"
    );
}

#[test]
fn graces_are_counted_across_crashes_too() {
    let mut house = House::running(vec![watched("lamp", 60)]);
    house.hear("home/lamp/x");
    for _ in 0..8 {
        house.advance(secs(61));
        house.crash();
        house.power_up();
    }
    assert_eq!(expiry(&house, "lamp").len(), 1);
}

#[test]
fn a_restart_under_another_wall_clock_changes_nothing() {
    let mut house = House::running(vec![watched("lamp", 3600)]);
    house.hear("home/lamp/x");
    house.advance(secs(600));
    house.restart();
    house.wall_step = -86_400 * 300;
    house.power_up();
    let back = house.mono;
    house.advance(secs(4000));
    assert_eq!(expiry(&house, "lamp"), [back + secs(3000)]);
}

#[test]
fn a_device_that_left_while_the_monitor_was_down_has_its_status_cleared() {
    let mut house = House::running(vec![watched("lamp", 30), watched("pump", 30)]);
    house.restart();
    house.spec.devices.pop();
    house.crash();
    house.turn_the_page();
    house.power_up();
    assert_eq!(house.payloads("status/pump"), [""]);
    assert!(house.published("status/pump")[0].1.retain);
    house.advance(secs(5));
    assert!(!house.store.devices.contains_key(&super::timetable::name("pump")));
    assert!(house.store.devices.contains_key(&super::timetable::name("lamp")));
}

#[test]
fn a_device_never_seen_that_leaves_has_its_status_cleared_too() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.advance(secs(2));
    house.spec.devices.clear();
    house.crash();
    house.turn_the_page();
    house.power_up();
    assert_eq!(house.payloads("status/lamp"), [""]);
}

#[test]
fn a_store_that_opens_late_still_restores_expired_devices() {
    let mut house = House::running(vec![watched("lamp", 30), watched("pump", 30)]);
    house.hear("home/lamp/x");
    house.hear("home/pump/x");
    house.advance(secs(100));
    house.restart();
    house.connect_manager();
    house.connect_watch();
    house.advance(secs(5));
    house.turn_the_page();
    house.hear("home/pump/x");
    house.open_store();
    assert_eq!(house.monitor.summary().expired, 1);
    assert_eq!(house.published("recover/pump").len(), 1, "its contact is what recovers it");
    house.advance(secs(20));
    house.expect_silence_on("expire/lamp");
}

#[test]
fn expire_goes_on_being_repeated_after_a_restart() {
    let repeating = DeviceSpec { expire_repeat: Some(secs(10)), ..watched("lamp", 30) };
    let mut house = House::running(vec![repeating]);
    house.advance(secs(31));
    house.restart();
    house.turn_the_page();
    house.power_up();
    house.advance(secs(25));
    assert_eq!(expiry(&house, "lamp").len(), 2);
    assert_eq!(house.count(AlertKind::Expired), 0);
}

#[test]
fn contacts_are_saved_in_batches_and_at_the_stop() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.advance(secs(1));
    house.turn_the_page();
    for _ in 0..100 {
        house.hear("home/lamp/x");
        house.advance(secs(1));
    }
    let saves = house.log.iter().filter(|(_, a)| matches!(a, Action::SaveDevices { .. })).count();
    assert!((1..=3).contains(&saves), "{saves} batches in 100 s");
    house.hear("home/lamp/x");
    let contact = house.now().wall;
    house.happen(Event::Stopping);
    let record = &house.store.devices[&super::timetable::name("lamp")];
    assert_eq!(record.last_contact, Some(contact));
}

#[test]
fn at_most_one_batch_is_outstanding_and_nothing_is_lost_meanwhile() {
    let mut house = House::running(vec![watched("lamp", 30), watched("pump", 60)]);
    house.advance(secs(5));
    house.store.holds_saves = true;
    house.turn_the_page();
    house.advance(secs(300));
    let saves = |house: &House| {
        house.log.iter().filter(|(_, a)| matches!(a, Action::SaveDevices { .. })).count()
    };
    assert_eq!(saves(&house), 1);
    house.settle_save();
    house.advance(secs(5));
    assert_eq!(saves(&house), 2);
    let pump = &house.store.devices[&super::timetable::name("pump")];
    assert!(pump.expired_since.is_some());
}

#[test]
fn nothing_is_saved_before_the_store_was_read() {
    let mut house = House::dark(vec![watched("lamp", 30)]);
    house.happen(Event::StoreFailed { error: "disk on fire".into() });
    house.connect_watch();
    house.advance(secs(500));
    assert!(!house.log.iter().any(|(_, a)| matches!(a, Action::SaveDevices { .. })));
    assert_eq!(house.count(AlertKind::StoreFailed), 1);
    assert_eq!(expiry(&house, "lamp").len(), 1, "the watching goes on with what is left");
}

#[test]
fn one_that_expired_before_the_store_opened_is_not_reported_twice() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    house.advance(secs(10));
    house.restart();
    house.connect_watch();
    house.advance(secs(40));
    assert_eq!(expiry(&house, "lamp").len(), 1);
    house.open_store();
    house.advance(secs(100));
    assert_eq!(expiry(&house, "lamp").len(), 1);
    assert_eq!(house.status("lamp")["state"], "expired");
}

#[test]
fn a_large_fleet_is_saved_in_batches_one_after_the_other() {
    let devices = (0..5_000).map(|number| watched(&format!("d{number}"), 3_000)).collect();
    let mut house = House::running(devices);
    house.advance(secs(1));
    for number in 0..5_000 {
        house.hear(&format!("home/d{number}/x"));
    }
    house.turn_the_page();
    house.advance(secs(60));
    let batches: Vec<usize> = house
        .log
        .iter()
        .filter_map(|(_, action)| match action {
            Action::SaveDevices { changed, .. } => Some(changed.len()),
            _ => None,
        })
        .collect();
    assert_eq!(batches.iter().sum::<usize>(), 5_000);
    assert!(batches.iter().all(|&batch| batch <= 1_000), "{batches:?}");
    assert!(house.store.devices.values().all(|record| record.last_contact.is_some()));
}

/// The store keeps neighbours on one page.
#[test]
fn several_batches_go_out_in_the_order_of_the_names() {
    let devices = (0..5_000).map(|number| watched(&format!("d{number}"), 3_000)).collect();
    let mut house = House::running(devices);
    house.advance(secs(1));
    for number in 0..5_000 {
        house.hear(&format!("home/d{}/x", number * 7 % 5_000));
    }
    house.turn_the_page();
    house.advance(secs(60));
    let saved = house.log.iter().filter_map(|(_, action)| match action {
        Action::SaveDevices { changed, .. } => Some(changed.iter().map(|record| &record.name)),
        _ => None,
    });
    let saved: Vec<_> = saved.flatten().collect();
    assert_eq!(saved.len(), 5_000);
    assert!(saved.is_sorted(), "{saved:?}");
}

#[test]
fn a_store_that_was_replaced_is_given_all_that_is_known() {
    let mut house = House::running(vec![watched("lamp", 30), watched("pump", 30)]);
    house.hear("home/lamp/x");
    house.advance(secs(70));
    let known = house.store.devices.clone();
    assert_eq!(known.len(), 2);
    let identity = house.store.identity.clone();
    house.store.devices.clear();
    house.store.identity = None;
    house.happen(Event::StoreReplaced { path: "/var/lib/iotmonitor".to_owned() });
    assert_eq!(house.store.devices, known);
    assert_eq!(house.store.identity, identity);
    assert_eq!(house.count(AlertKind::StoreReplaced), 1);
}

#[test]
fn a_fleet_that_never_pauses_does_not_keep_the_store_writing() {
    let devices = (0..3_000).map(|number| watched(&format!("d{number}"), 3_000)).collect();
    let mut house = House::running(devices);
    house.advance(secs(1));
    let hear_all = |house: &mut House| {
        for number in 0..3_000 {
            house.hear(&format!("home/d{number}/x"));
        }
    };
    hear_all(&mut house);
    house.turn_the_page();
    house.store.holds_saves = true;
    house.advance(secs(60));
    // All are heard anew between two batches.
    for _ in 0..10 {
        hear_all(&mut house);
        house.settle_save();
    }
    let batches =
        house.log.iter().filter(|(_, action)| matches!(action, Action::SaveDevices { .. }));
    assert_eq!(batches.count(), 3, "what was heard meanwhile waits for the next interval");
}

/// It would be taken for silent a minute after the start, and talks only every five.
#[test]
fn a_crash_does_not_take_the_contact_of_one_that_seldom_talks_along() {
    let mut house = House::running(vec![watched("lamp", 300)]);
    house.hear("home/lamp/x");
    house.advance(secs(290));
    house.hear("home/lamp/x");
    let contact = house.mono;
    house.advance(secs(2));
    house.crash();
    house.power_up();
    house.advance(secs(400));
    let [expired] = expiry(&house, "lamp")[..] else { panic!("it is silent") };
    assert!(expired >= contact + secs(300) && expired <= contact + secs(302));
}

#[test]
fn one_that_gets_its_watch_topics_at_a_restart_is_silent_from_then_on() {
    let unwatched = DeviceSpec { watch: Vec::new(), ..watched("lamp", 300) };
    let mut house = House::running(vec![unwatched]);
    house.advance(secs(5000));
    house.restart();
    house.spec.devices = vec![watched("lamp", 300)];
    house.crash();
    house.power_up();
    let start = house.mono;
    house.advance(secs(1000));
    assert_eq!(expiry(&house, "lamp"), [start + secs(300)]);
}

#[test]
fn silence_from_before_it_lost_its_watch_topics_is_forgotten() {
    let unwatched = DeviceSpec { watch: Vec::new(), ..watched("lamp", 300) };
    let mut house = House::running(vec![watched("lamp", 300)]);
    house.advance(secs(200));
    for devices in [vec![unwatched], vec![watched("lamp", 300)]] {
        house.restart();
        house.spec.devices = devices;
        house.crash();
        house.power_up();
    }
    let start = house.mono;
    house.advance(secs(1000));
    assert_eq!(expiry(&house, "lamp"), [start + secs(300)]);
}

/// What a broker that fell silent has made of the watched time is known before the next round.
#[test]
fn a_crash_does_not_bring_back_time_that_was_not_watched() {
    let mut house = House::running(vec![watched("lamp", 300)]);
    house.hear("home/lamp/x");
    house.advance(secs(100));
    let (sentence, quiet) = ("no answer".into(), secs(70));
    house.lose(Connection::Watch, LossReason::Silent { sentence, quiet });
    house.crash();
    house.power_up();
    let start = house.mono;
    house.advance(secs(1000));
    assert_eq!(expiry(&house, "lamp"), [start + secs(270)]);
}

/// Each save wears a card, and a crash that loses such a contact makes no silence of it.
#[test]
fn contacts_long_before_the_timeout_wait_for_the_next_batch() {
    let mut house = House::running(vec![watched("lamp", 600)]);
    house.hear("home/lamp/x");
    house.turn_the_page();
    for _ in 0..20 {
        house.advance(secs(90));
        house.hear("home/lamp/x");
    }
    let saves = house.log.iter().filter(|(_, a)| matches!(a, Action::SaveDevices { .. })).count();
    assert!(saves <= 31, "{saves} saves in half an hour");
    let contact = house.mono;
    house.crash();
    house.power_up();
    house.advance(secs(500));
    assert!(expiry(&house, "lamp").is_empty());
    house.advance(secs(200));
    let [expired] = expiry(&house, "lamp")[..] else { panic!("it is silent") };
    assert!(expired >= contact + secs(500) && expired <= contact + secs(602), "{expired:?}");
}
