//! Out of the monitoring for a time, and how far an order has come.

use super::expect::{agent, device_name, watched};
use super::timetable::{House, millis, secs};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::progress::{Goal, Progress};
use iotmonitor_core::model::spec::DeviceSpec;
use iotmonitor_core::model::unit::{ActiveState, JobOutcome};
use iotmonitor_core::model::unit_name::UnitName;
use std::time::Duration;

const UNIT: &str = "iotmonitor-agent-box.service";

fn pause(house: &mut House, device: &str, span: Duration) {
    house.happen(Event::Paused { device: device_name(device), span });
}

fn state(house: &House) -> String {
    house.monitor.view(&device_name("box")).unwrap().state.as_str().to_owned()
}

#[test]
fn a_pause_ends_by_itself_and_at_its_time() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.turn_the_page();
    pause(&mut house, "box", secs(7_200));
    assert_eq!((house.stops(UNIT).len(), state(&house).as_str()), (1, "disabled"));
    let alert = house.alerts(AlertKind::Disabled)[0].1;
    assert!(alert.message.contains("for 2 h"), "{}", alert.message);
    let until = house.mono + secs(7_200);
    house.advance(secs(7_199));
    assert!(house.starts(UNIT).is_empty());
    house.advance(secs(2));
    assert_eq!(house.starts(UNIT), [until]);
    assert_eq!(house.count(AlertKind::Enabled), 1);
    assert_eq!(house.monitor.view(&device_name("box")).unwrap().disabled_until, None);
}

/// A pause is not a permanent choice: afterwards the file decides, as before.
#[test]
fn after_a_pause_the_section_decides_again() {
    let disabled = || DeviceSpec { enabled: false, ..agent("box", 30) };
    let mut house = House::running(vec![agent("box", 30)]);
    pause(&mut house, "box", secs(3_600));
    house.turn_the_page();
    house.reload(vec![disabled()]);
    house.advance(secs(3_700));
    assert!(house.starts(UNIT).is_empty(), "its section took it out meanwhile");
    house.reload(vec![agent("box", 30)]);
    house.advance(secs(1));
    assert_eq!(house.starts(UNIT).len(), 1);
    house.turn_the_page();
    house.reload(vec![disabled()]);
    house.advance(secs(1));
    assert_eq!(state(&house), "disabled");
}

/// What a person enabled against its section is enabled again.
#[test]
fn after_a_pause_an_earlier_choice_holds_again() {
    for restarts in [false, true] {
        let mut house = House::running(vec![DeviceSpec { enabled: false, ..agent("box", 30) }]);
        house.happen(Event::Enabled { device: device_name("box") });
        pause(&mut house, "box", secs(3_600));
        pause(&mut house, "box", secs(3_600));
        if restarts {
            house.restart();
            house.power_up();
        }
        house.turn_the_page();
        house.advance(secs(3_700));
        assert_eq!(house.starts(UNIT).len(), 1);
    }
}

#[test]
fn a_step_of_the_clock_ends_no_pause() {
    let mut house = House::running(vec![agent("box", 30)]);
    pause(&mut house, "box", secs(3_600));
    house.turn_the_page();
    house.wall_step += 100_000;
    house.advance(secs(3_000));
    house.wall_step -= 300_000;
    house.advance(secs(500));
    assert!(house.starts(UNIT).is_empty());
    house.advance(secs(200));
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn a_pause_goes_on_over_restarts_and_crashes() {
    for orderly in [true, false] {
        let mut house = House::running(vec![agent("box", 30)]);
        pause(&mut house, "box", secs(3_600));
        let until = house.mono + secs(3_600);
        house.advance(secs(1_000));
        if orderly {
            house.restart()
        } else {
            house.crash()
        }
        house.advance(secs(1_000));
        house.turn_the_page();
        house.power_up();
        house.advance(secs(1_500));
        assert!(house.starts(UNIT).is_empty(), "it holds");
        house.advance(secs(1_000));
        assert_eq!(house.starts(UNIT), [until], "time without the monitor counts");
    }
}

#[test]
fn one_that_ended_while_the_monitor_was_away_is_over_when_it_is_back() {
    let mut house = House::running(vec![agent("box", 30)]);
    pause(&mut house, "box", secs(100));
    house.restart();
    house.advance(secs(1_000));
    house.turn_the_page();
    house.power_up();
    house.advance(millis(1_500));
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn a_boot_begins_the_clock_anew_and_what_is_left_holds() {
    let mut house = House::running(vec![agent("box", 30)]);
    pause(&mut house, "box", secs(3_600));
    house.advance(secs(1_000));
    house.crash();
    let record = &house.store.devices[&device_name("box")];
    let pause = record.pause.expect("it is written down");
    assert!(pause.left <= secs(2_700) && pause.left >= secs(2_590), "{pause:?}");
    house.reboot(secs(20));
    house.turn_the_page();
    house.power_up();
    house.advance(pause.left - secs(22));
    assert!(house.starts(UNIT).is_empty());
    house.advance(secs(5));
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn a_later_word_replaces_a_pause() {
    let mut house = House::running(vec![agent("box", 30), watched("lamp", 30)]);
    pause(&mut house, "box", secs(100));
    house.happen(Event::Disabled { device: device_name("box") });
    house.turn_the_page();
    house.advance(secs(1_000));
    assert!(house.starts(UNIT).is_empty(), "for good now");
    pause(&mut house, "box", secs(100));
    house.happen(Event::Enabled { device: device_name("box") });
    assert_eq!(house.starts(UNIT).len(), 1);
    house.happen(Event::Disabled { device: device_name("box") });
    house.advance(secs(1_000));
    assert_eq!(state(&house), "disabled", "the pause is not remembered");
    pause(&mut house, "lamp", secs(10));
    house.advance(secs(11));
    assert_eq!(house.status("lamp")["state"], "unknown");
}

fn progress(house: &House, goal: &Goal) -> Progress {
    house.monitor.progress(&device_name("box"), goal)
}

#[test]
fn a_restart_is_done_when_another_process_runs() {
    let mut house = House::running(vec![agent("box", 30)]);
    let goal = Goal::Started { before: house.monitor.invocation(&device_name("box")) };
    house.manager.answers = false;
    house.happen(Event::RestartRequested { device: device_name("box") });
    assert_eq!(progress(&house, &goal), Progress::Pending);
    let unit = UnitName::from_systemd(UNIT);
    house.manager.units.remove(&unit);
    house.manager.answers = true;
    house.happen(Event::UnitRemoved { unit: unit.clone() });
    house.happen(Event::StopFinished { unit, outcome: JobOutcome::Done });
    assert_eq!(progress(&house, &goal), Progress::Done);
}

#[test]
fn a_restart_that_fails_says_why() {
    let mut house = House::running(vec![agent("box", 30)]);
    let goal = Goal::Started { before: house.monitor.invocation(&device_name("box")) };
    house.manager.fails = Some("no such thing".to_owned());
    house.happen(Event::RestartRequested { device: device_name("box") });
    let Progress::Failed(sentence) = progress(&house, &goal) else { panic!("it failed") };
    assert!(sentence.contains("no such thing") && sentence.contains("tried again"), "{sentence}");
    let view = house.monitor.view(&device_name("box")).unwrap().agent.unwrap();
    assert!(view.last_exit.unwrap().contains("no such thing"));
    assert!(view.next_start.is_some());
}

#[test]
fn a_stop_is_done_when_nothing_is_left_of_the_unit() {
    let mut house = House::running(vec![agent("box", 30), watched("lamp", 30)]);
    house.manager.answers = false;
    house.happen(Event::Disabled { device: device_name("box") });
    assert_eq!(progress(&house, &Goal::Stopped), Progress::Pending);
    house.unit_becomes(UNIT, |report| report.active = ActiveState::Deactivating);
    assert_eq!(progress(&house, &Goal::Stopped), Progress::Pending);
    let unit = UnitName::from_systemd(UNIT);
    house.manager.units.remove(&unit);
    house.happen(Event::UnitRemoved { unit: unit.clone() });
    house.happen(Event::StopFinished { unit, outcome: JobOutcome::Done });
    assert_eq!(progress(&house, &Goal::Stopped), Progress::Done);
    house.happen(Event::Enabled { device: device_name("box") });
    assert!(matches!(progress(&house, &Goal::Stopped), Progress::Failed(_)));
    let lamp = house.monitor.progress(&device_name("lamp"), &Goal::Stopped);
    assert_eq!(lamp, Progress::Done, "a device has no process");
}

#[test]
fn orders_do_not_wait_for_a_systemd_that_is_away() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.happen(Event::ManagerLost { reason: "the bus is away".to_owned() });
    house.happen(Event::Disabled { device: device_name("box") });
    assert!(matches!(progress(&house, &Goal::Stopped), Progress::Failed(_)));
}

#[test]
fn the_last_exit_is_known_until_there_is_another() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.unit_fails(UNIT);
    let view = |house: &House| house.monitor.view(&device_name("box")).unwrap().agent.unwrap();
    assert_eq!(view(&house).last_exit.as_deref(), Some("exited with 7"));
    assert_eq!(view(&house).last_exit_at, Some(house.now().wall));
    assert!(view(&house).next_start.is_some_and(|next| next > house.now().wall));
    house.advance(secs(5));
    assert_eq!(view(&house).last_exit.as_deref(), Some("exited with 7"), "in another unit, too");
    assert_eq!(view(&house).next_start, None);
}
