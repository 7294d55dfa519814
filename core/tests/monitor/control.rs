//! What a person asks for: out of the monitoring and into it, a restart, the end.

use super::expect::{agent, device_name, watched};
use super::timetable::{House, secs};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::spec::DeviceSpec;

const UNIT: &str = "iotmonitor-agent-box.service";

fn disable(house: &mut House, device: &str) {
    house.happen(Event::Disabled { device: device_name(device) });
}

fn enable(house: &mut House, device: &str) {
    house.happen(Event::Enabled { device: device_name(device) });
}

#[test]
fn a_disabled_device_neither_expires_nor_recovers() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    disable(&mut house, "lamp");
    assert_eq!(house.status("lamp")["state"], "disabled");
    assert_eq!(house.count(AlertKind::Disabled), 1);
    house.advance(secs(100));
    house.hear("home/lamp/x");
    house.expect_silence_on("expire/lamp");
    house.expect_silence_on("recover/lamp");
    assert_eq!(house.status("lamp")["state"], "disabled");
}

#[test]
fn an_expired_device_that_is_disabled_counts_as_expired_no_more() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.advance(secs(31));
    disable(&mut house, "lamp");
    assert_eq!(house.monitor.summary().expired, 0);
    enable(&mut house, "lamp");
    let deadline = house.mono + secs(30);
    house.turn_the_page();
    house.advance(secs(100));
    assert_eq!(house.published("expire/lamp").len(), 1);
    assert_eq!(house.published("expire/lamp")[0].0, deadline);
}

#[test]
fn one_that_is_disabled_during_the_round_trip_does_not_expire() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.broker.acknowledges = false;
    house.advance(secs(31));
    disable(&mut house, "lamp");
    house.settle_acknowledgements();
    house.expect_silence_on("expire/lamp");
}

#[test]
fn an_enabled_device_has_its_full_timeout() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    disable(&mut house, "lamp");
    house.advance(secs(1000));
    enable(&mut house, "lamp");
    assert_eq!(house.count(AlertKind::Enabled), 1);
    let deadline = house.mono + secs(30);
    house.advance(secs(100));
    assert_eq!(house.published("expire/lamp").len(), 1);
    assert_eq!(house.published("expire/lamp")[0].0, deadline);
}

#[test]
fn a_disabled_agent_is_stopped_for_good_and_an_enabled_one_started() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.turn_the_page();
    disable(&mut house, "box");
    assert_eq!(house.stops(UNIT).len(), 1);
    house.advance(secs(1000));
    assert!(house.starts(UNIT).is_empty());
    assert_eq!(house.monitor.summary().agents_running, 0);
    enable(&mut house, "box");
    assert_eq!(house.starts(UNIT), [house.mono]);
}

#[test]
fn an_agent_that_is_disabled_within_its_delay_is_not_started() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.turn_the_page();
    house.unit_fails(UNIT);
    disable(&mut house, "box");
    house.advance(secs(1000));
    assert!(house.starts(UNIT).is_empty());
}

#[test]
fn one_enabled_again_while_it_still_stops_is_started_after_the_stop() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.turn_the_page();
    house.manager.answers = false;
    disable(&mut house, "box");
    enable(&mut house, "box");
    assert!(house.starts(UNIT).is_empty(), "never two");
    house.manager.answers = true;
    let unit = iotmonitor_core::model::unit_name::UnitName::from_systemd(UNIT);
    house.manager.units.remove(&unit);
    let outcome = iotmonitor_core::model::unit::JobOutcome::Done;
    house.happen(Event::StopFinished { unit, outcome });
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn one_disabled_again_while_it_restarts_stays_down() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.turn_the_page();
    house.manager.answers = false;
    house.happen(Event::RestartRequested { device: device_name("box") });
    disable(&mut house, "box");
    let unit = iotmonitor_core::model::unit_name::UnitName::from_systemd(UNIT);
    house.manager.units.remove(&unit);
    let outcome = iotmonitor_core::model::unit::JobOutcome::Done;
    house.happen(Event::StopFinished { unit, outcome });
    house.advance(secs(100));
    assert!(house.starts(UNIT).is_empty());
}

#[test]
fn a_disabled_agent_that_is_started_by_hand_is_stopped() {
    let mut house = House::running(vec![agent("box", 30)]);
    disable(&mut house, "box");
    house.turn_the_page();
    let unit = iotmonitor_core::model::unit_name::UnitName::from_systemd(UNIT);
    let report = house.manager.run(&unit, "x");
    house.happen(Event::UnitChanged(Box::new(report)));
    assert_eq!(house.stops(UNIT).len(), 1);
}

#[test]
fn a_choice_made_at_run_time_survives_a_crash_and_wins_over_the_file() {
    let mut house = House::running(vec![agent("box", 30), watched("lamp", 30)]);
    disable(&mut house, "box");
    disable(&mut house, "lamp");
    house.crash();
    house.turn_the_page();
    house.power_up();
    house.advance(secs(100));
    assert!(house.starts(UNIT).is_empty());
    assert_eq!(house.status("lamp")["state"], "disabled");
    house.expect_silence_on("expire/lamp");
    enable(&mut house, "box");
    house.crash();
    house.spec.devices[0].enabled = false;
    house.crash();
    house.turn_the_page();
    house.power_up();
    assert_eq!(house.status("box")["state"], "unknown", "the person's choice wins");
    assert_eq!(house.count(AlertKind::AgentAdopted), 1);
}

#[test]
fn a_disabled_agent_found_running_at_the_start_is_stopped() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.restart();
    house.spec.devices[0].enabled = false;
    house.crash();
    house.turn_the_page();
    house.power_up();
    assert_eq!(house.stops(UNIT).len(), 1);
    house.advance(secs(100));
    assert!(house.starts(UNIT).is_empty());
}

#[test]
fn a_store_that_opens_late_stops_the_agent_that_a_person_disabled() {
    let mut house = House::running(vec![agent("box", 30)]);
    disable(&mut house, "box");
    house.restart();
    house.turn_the_page();
    house.happen(Event::StoreFailed { error: "busy".into() });
    house.connect_manager();
    assert_eq!(house.starts(UNIT).len(), 1, "it is not known yet");
    house.open_store();
    assert_eq!(house.stops(UNIT).len(), 1);
    house.advance(secs(100));
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn a_choice_made_before_the_store_opened_is_kept() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.restart();
    house.connect_watch();
    disable(&mut house, "lamp");
    house.open_store();
    assert_eq!(house.status("lamp")["state"], "disabled");
    house.advance(secs(5));
    house.crash();
    house.power_up();
    assert_eq!(house.status("lamp")["state"], "disabled");
}

#[test]
fn disabled_in_the_file_means_disabled() {
    let off = DeviceSpec { enabled: false, ..watched("lamp", 30) };
    let mut house = House::running(vec![off]);
    house.advance(secs(100));
    assert_eq!(house.status("lamp")["state"], "disabled");
    house.expect_silence_on("expire/lamp");
    enable(&mut house, "lamp");
    house.advance(secs(31));
    assert_eq!(house.published("expire/lamp").len(), 1);
}

#[test]
fn a_restart_by_hand_stops_first_and_starts_then() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.advance(secs(1));
    house.turn_the_page();
    house.happen(Event::RestartRequested { device: device_name("box") });
    assert_eq!((house.stops(UNIT).len(), house.starts(UNIT).len()), (1, 1));
    assert_eq!(house.published("startedprocess/box").len(), 1);
    house.advance(secs(100));
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn a_restart_by_hand_during_the_delay_starts_at_once() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.unit_fails(UNIT);
    house.turn_the_page();
    house.happen(Event::RestartRequested { device: device_name("box") });
    assert_eq!(house.starts(UNIT), [house.mono]);
    house.advance(secs(100));
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn unknown_names_are_ignored() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.turn_the_page();
    for event in [
        Event::Enabled { device: device_name("x") },
        Event::Disabled { device: device_name("x") },
        Event::RestartRequested { device: device_name("x") },
        Event::RestartRequested { device: device_name("lamp") },
    ] {
        house.happen(event);
    }
    assert!(house.log.is_empty(), "{:?}", house.log);
}
