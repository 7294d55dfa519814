//! What is learned of the devices' silences, and timeouts that follow from it.

use super::expect::watched;
use super::timetable::{House, secs};
use iotmonitor_core::machines::silence::rhythm::{SHORTEST_EARLY, UNLEARNED};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::spec::DeviceSpec;
use iotmonitor_core::model::view::Learned;
use std::time::Duration;

const DAY: u64 = 86_400;

fn auto() -> DeviceSpec {
    DeviceSpec { watch_timeout: Some(UNLEARNED), auto_timeout: true, ..watched("lamp", 30) }
}

fn learned(house: &House) -> Learned {
    house.monitor.view(&DeviceName::new("lamp").unwrap()).unwrap().learned.unwrap()
}

fn timeout(house: &House) -> Duration {
    house.monitor.view(&DeviceName::new("lamp").unwrap()).unwrap().watch_timeout.unwrap()
}

/// Speaks in this interval for so long.
fn speak(house: &mut House, every: u64, seconds: u64) {
    for _ in 0..seconds / every {
        house.hear("home/lamp/x");
        house.advance(secs(every));
    }
}

/// A house whose lamp speaks every five minutes, and has been known for a day.
fn known() -> House {
    let mut house = House::running(vec![auto()]);
    speak(&mut house, 300, DAY + 600);
    assert_eq!(timeout(&house), secs(900));
    house
}

#[test]
fn silences_are_learned_with_any_timeout_and_survive_a_restart() {
    let mut house = House::running(vec![watched("lamp", 900)]);
    speak(&mut house, 10, 600);
    house.hear("home/lamp/x");
    house.hear("home/lamp/y");
    let before = learned(&house);
    assert_eq!((before.intervals, before.usual, before.longest), (60, secs(10), secs(10)));
    house.restart();
    house.power_up();
    assert_eq!(learned(&house), before);
    house.advance(secs(40));
    house.hear("home/lamp/x");
    assert_eq!((learned(&house).intervals, learned(&house).longest), (61, secs(40)));
    house.reload(vec![watched("lamp", 500)]);
    assert_eq!(learned(&house).intervals, 61);
    assert_eq!(timeout(&house), secs(500), "only auto follows");
}

#[test]
fn an_automatic_timeout_is_a_day_until_a_day_is_known_and_then_follows_the_rhythm() {
    let mut house = House::running(vec![auto()]);
    house.hear("home/lamp/x");
    house.advance(secs(2_000));
    speak(&mut house, 300, DAY - 600);
    assert_eq!(timeout(&house), UNLEARNED);
    speak(&mut house, 300, 1_200);
    assert_eq!(timeout(&house), secs(7_200), "three times the longest");
}

#[test]
fn a_device_that_speaks_regularly_is_followed_after_an_hour() {
    let mut house = House::running(vec![auto()]);
    speak(&mut house, 60, 3_600);
    assert_eq!(timeout(&house), UNLEARNED);
    speak(&mut house, 60, 180);
    assert_eq!(timeout(&house), SHORTEST_EARLY);
    let died = house.mono;
    house.advance(secs(1_000));
    let expired: Vec<Duration> = house.published("expire/lamp").iter().map(|(at, _)| *at).collect();
    assert_eq!(expired, [died + SHORTEST_EARLY - secs(60)]);
}

#[test]
fn a_device_that_sleeps_at_night_is_taken_for_dead_once_at_most() {
    let mut house = House::running(vec![auto()]);
    for _ in 0..4 {
        speak(&mut house, 60, 43_200);
        house.advance(secs(43_200));
    }
    assert_eq!(house.published("expire/lamp").len(), 1);
}

#[test]
fn what_is_learned_in_a_day_is_in_force() {
    let mut house = known();
    assert_eq!(timeout(&house), secs(900));
    assert_eq!(house.status("lamp")["watchTimeOut"], 900);
    house.hear("home/lamp/x");
    let heard = house.mono;
    house.advance(secs(1_000));
    let expired: Vec<Duration> = house.published("expire/lamp").iter().map(|(at, _)| *at).collect();
    assert_eq!(expired, [heard + secs(900)]);
}

#[test]
fn a_shorter_learned_timeout_raises_no_alarm_by_itself() {
    let mut house = House::running(vec![auto()]);
    house.hear("home/lamp/x");
    house.advance(secs(1_500));
    speak(&mut house, 300, DAY - 2_100);
    // It is known for a day during a silence that is too long for its rhythm.
    house.advance(secs(3_600));
    house.expect_silence_on("expire/lamp");
    assert_eq!(timeout(&house), UNLEARNED);
    speak(&mut house, 300, 600);
    // The long silence is one to be waited for, three times as long.
    assert_eq!(timeout(&house), secs(14_400));
    house.expect_silence_on("expire/lamp");
}

#[test]
fn an_alarm_that_came_too_soon_is_not_made_again_and_a_broken_device_is_not_waited_for() {
    let mut house = known();
    house.advance(secs(1_000));
    speak(&mut house, 300, 600);
    assert_eq!(timeout(&house), secs(5_400), "three times a silence of 1,300 s");
    let mut house = known();
    house.advance(secs(3 * DAY));
    assert_eq!(house.published("expire/lamp").len(), 1);
    speak(&mut house, 300, 600);
    assert_eq!(timeout(&house), secs(5_400), "three times two timeouts of 900 s");
}

#[test]
fn what_was_learned_is_in_force_from_the_start_and_after_a_reload() {
    let mut house = known();
    house.hear("home/lamp/x");
    house.restart();
    house.power_up();
    assert_eq!(timeout(&house), secs(900));
    house.reload(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    house.reload(vec![auto()]);
    assert_eq!(timeout(&house), secs(900));
    house.turn_the_page();
    house.advance(secs(899));
    house.expect_silence_on("expire/lamp");
    house.advance(secs(2));
    assert_eq!(house.published("expire/lamp").len(), 1);
}

#[test]
fn time_out_of_the_monitoring_is_no_silence() {
    let mut house = known();
    house.hear("home/lamp/x");
    let name = || DeviceName::new("lamp").unwrap();
    house.happen(iotmonitor_core::model::event::Event::Disabled { device: name() });
    house.advance(secs(3 * DAY));
    house.hear("home/lamp/x");
    house.happen(iotmonitor_core::model::event::Event::Enabled { device: name() });
    speak(&mut house, 300, 600);
    assert_eq!(learned(&house).longest, secs(300));
}
