//! A device that comes and goes is reported once, and again when it is stable.

use super::expect::{agent, device_name, watched};
use super::timetable::{House, millis, secs, topic};
use iotmonitor_core::model::alert::{AlertKind, Priority, Reason};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::spec::DeviceSpec;

const UNIT: &str = "iotmonitor-agent-box.service";
const KINDS: [AlertKind; 3] = [AlertKind::Expired, AlertKind::Recovered, AlertKind::Flapping];

fn lamp() -> House {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    house
}

/// Falls silent and comes back so often, once in a minute.
fn flap(house: &mut House, times: usize) {
    for _ in 0..times {
        house.advance(secs(40));
        house.hear("home/lamp/x");
        house.advance(secs(20));
        house.hear("home/lamp/x");
    }
}

/// How many alerts there were: expired, recovered, flapping.
fn counts(house: &House) -> [usize; 3] {
    KINDS.map(|kind| house.count(kind))
}

#[test]
fn the_fifth_alarm_within_half_an_hour_is_the_last() {
    let mut house = lamp();
    flap(&mut house, 4);
    assert_eq!(counts(&house), [4, 4, 0]);
    house.advance(secs(31));
    assert_eq!(counts(&house), [4, 4, 1]);
    let (_, alert) = house.alerts(AlertKind::Flapping)[0];
    assert_eq!(alert.reason, Some(Reason::Flapping));
    assert_eq!(alert.device, Some(device_name("lamp")));
    assert_eq!(AlertKind::Flapping.priority(), Priority::Warning);
    for said in ["has fallen silent 5 times within 4 min:", "stable for 15 min"] {
        assert!(alert.message.contains(said), "{}", alert.message);
    }
    assert_eq!(house.status("lamp")["state"], "expired");
    assert_eq!(house.status("lamp")["reason"], "flapping");
    house.hear("home/lamp/x");
    assert_eq!(house.status("lamp")["state"], "alive");
    assert_eq!(house.status("lamp")["reason"], "flapping");
    flap(&mut house, 50);
    assert_eq!(counts(&house), [4, 4, 1]);
}

#[test]
fn what_happens_is_published_all_the_same() {
    let mut house = lamp();
    flap(&mut house, 20);
    assert_eq!(house.published("expire/lamp").len(), 20);
    assert_eq!(house.published("recover/lamp").len(), 20);
}

#[test]
fn one_that_stays_is_reported_when_it_has_stayed_for_a_quarter_of_an_hour() {
    let mut house = lamp();
    flap(&mut house, 10);
    let back = house.mono - secs(20);
    house.turn_the_page();
    for _ in 0..100 {
        house.advance(secs(20));
        house.hear("home/lamp/x");
    }
    assert_eq!(counts(&house), [0, 1, 0]);
    let (at, alert) = house.alerts(AlertKind::Recovered)[0];
    assert_eq!((at, alert.reason), (back + secs(15 * 60), Some(Reason::Flapping)));
    assert!(alert.message.contains("stable again, after it was alarmed 10 times"), "{alert:?}");
    assert_eq!(house.status("lamp")["reason"], serde_json::Value::Null);
    // It begins anew.
    flap(&mut house, 1);
    assert_eq!(counts(&house), [1, 2, 0]);
}

#[test]
fn one_that_goes_for_good_is_reported_too() {
    let mut house = lamp();
    flap(&mut house, 10);
    house.turn_the_page();
    let gone = house.mono + secs(30);
    house.advance(secs(3600));
    assert_eq!(counts(&house), [1, 0, 0]);
    let (at, alert) = house.alerts(AlertKind::Expired)[0];
    assert_eq!((at, alert.reason), (gone + secs(15 * 60), Some(Reason::Silent)));
    assert_eq!(house.status("lamp")["reason"], "silent");
    assert_eq!(house.published("expire/lamp").len(), 1, "at its time, once");
    house.hear("home/lamp/x");
    assert_eq!(counts(&house), [1, 1, 0]);
}

#[test]
fn alarms_that_are_far_apart_are_each_reported() {
    let mut house = lamp();
    for _ in 0..20 {
        house.advance(secs(40));
        house.hear("home/lamp/x");
        for _ in 0..18 {
            house.advance(secs(25));
            house.hear("home/lamp/x");
        }
    }
    assert_eq!(counts(&house), [20, 20, 0]);
}

#[test]
fn an_outage_of_the_broker_is_no_stability() {
    let mut house = lamp();
    flap(&mut house, 5);
    house.lose_watch();
    house.advance(secs(7200));
    house.connect_watch();
    house.hear("home/lamp/x");
    house.advance(secs(20));
    house.hear("home/lamp/x");
    assert_eq!(counts(&house), [4, 4, 1]);
    for _ in 0..50 {
        house.advance(secs(20));
        house.hear("home/lamp/x");
    }
    assert_eq!(counts(&house), [4, 5, 1]);
}

#[test]
fn an_agent_whose_process_ends_again_and_again_flaps() {
    let mut house = House::running(vec![agent("box", 3600)]);
    for _ in 0..4 {
        house.advance(secs(60));
        house.unit_restarted_by_systemd(UNIT);
    }
    assert_eq!(house.count(AlertKind::Flapping), 0);
    for _ in 0..10 {
        house.advance(secs(60));
        house.unit_restarted_by_systemd(UNIT);
    }
    assert_eq!(house.count(AlertKind::Flapping), 1);
    let message = &house.alerts(AlertKind::Flapping)[0].1.message;
    assert!(message.contains("agent `box` has ended 5 times within 4 min"), "{message}");
    assert_eq!(house.published("startedprocess/box").len(), 15);
    assert_eq!(house.count(AlertKind::AgentStarted), 15);
    house.advance(secs(15 * 60) - millis(1));
    assert_eq!(house.count(AlertKind::Recovered), 0);
    house.advance(millis(1));
    assert_eq!(house.count(AlertKind::Recovered), 1);
}

/// A row of failures has its own alert.
#[test]
fn an_agent_that_keeps_failing_does_not_flap() {
    let mut house = House::running(vec![agent("box", 0)]);
    for _ in 0..10 {
        for _ in 0..3 {
            house.unit_restarted_by_systemd(UNIT);
        }
        house.unit_fails(UNIT);
        house.advance(secs(61));
    }
    assert_eq!(house.count(AlertKind::Flapping), 0);
    assert!(house.count(AlertKind::AgentFailed) >= 1);
}

#[test]
fn a_reload_keeps_it_and_a_persons_choice_ends_it() {
    let mut house = lamp();
    flap(&mut house, 5);
    house.reload(vec![watched("bell", 0), watched("lamp", 30)]);
    assert_eq!(house.status("lamp")["reason"], "flapping");
    flap(&mut house, 5);
    assert_eq!(counts(&house), [4, 4, 1]);
    for _ in 0..50 {
        house.advance(secs(20));
        house.hear("home/lamp/x");
    }
    assert_eq!(counts(&house), [4, 5, 1], "and the timer is that of its new place");

    flap(&mut house, 5);
    house.happen(Event::Disabled { device: device_name("lamp") });
    house.happen(Event::Enabled { device: device_name("lamp") });
    house.turn_the_page();
    flap(&mut house, 1);
    assert_eq!(counts(&house), [1, 1, 0]);
}

#[test]
fn one_that_is_gone_when_the_monitor_restarts_is_reported_after_it() {
    let mut house = lamp();
    flap(&mut house, 5);
    house.advance(secs(40));
    house.restart();
    house.power_up();
    house.turn_the_page();
    house.advance(secs(3600));
    assert_eq!(counts(&house), [1, 0, 0]);
    house.expect_silence_on("expire/lamp");
}

#[test]
fn what_is_quiet_for_its_gateways_sake_does_not_count() {
    let mut spec = watched("lamp", 30);
    spec.depends_on = vec![device_name("gateway")];
    let mut house = House::running(vec![spec, watched("gateway", 30)]);
    for _ in 0..3 {
        house.hear("home/gateway/x");
        house.hear("home/lamp/x");
        house.advance(secs(40));
    }
    for _ in 0..4 {
        house.hear("home/gateway/x");
        house.hear("home/lamp/x");
        house.advance(secs(100));
    }
    let flapping = house.alerts(AlertKind::Flapping);
    assert_eq!(flapping.len(), 1);
    assert_eq!(flapping[0].1.device, Some(device_name("gateway")));
    assert_eq!(house.status("lamp")["reason"], "upstream");
}

/// It flaps in what waits on the socket after a hold-up, and then the connection turns out to have been
/// lost long ago.
#[test]
fn a_spell_in_time_that_was_not_watched_ends_after_a_quarter_of_an_hour() {
    const LWT: &str = "home/lamp/LWT";
    let lamp = DeviceSpec { availability: vec![topic(LWT)], ..watched("lamp", 30) };
    let mut house = House::running(vec![DeviceSpec { watch_timeout: None, ..lamp }]);
    house.hear("home/lamp/x");
    house.broker.acknowledges = false;
    house.stall(secs(20 * 60));
    for _ in 0..5 {
        house.hear_payload(LWT, "online");
        house.hear_payload(LWT, "offline");
    }
    assert_eq!(house.count(AlertKind::Flapping), 1);
    house.lose_watch();
    house.broker.acknowledges = true;
    house.connect_watch();
    house.hear_payload(LWT, "online");
    let back = house.mono;
    house.turn_the_page();
    house.advance(secs(20 * 60));
    let (at, alert) = house.alerts(AlertKind::Recovered)[0];
    assert_eq!(at, back + secs(15 * 60));
    assert!(alert.message.contains("alarmed 5 times within 15 min"), "{}", alert.message);
}

#[test]
fn a_device_flaps_on_over_a_restart_and_its_end_is_reported_once() {
    let mut house = lamp();
    flap(&mut house, 7);
    assert_eq!(counts(&house), [4, 4, 1]);
    house.restart();
    house.power_up();
    assert_eq!(house.status("lamp")["reason"], "flapping");
    house.turn_the_page();
    house.hear("home/lamp/x");
    flap(&mut house, 5);
    assert_eq!(counts(&house), [0, 0, 0], "no second begin");
    for _ in 0..50 {
        house.advance(secs(20));
        house.hear("home/lamp/x");
    }
    assert_eq!(counts(&house), [0, 1, 0]);
    let message = &house.alerts(AlertKind::Recovered)[0].1.message;
    assert!(message.contains("alarmed 12 times"), "{message}");
    assert_eq!(house.status("lamp")["reason"], serde_json::Value::Null);
}

#[test]
fn one_that_was_stable_while_the_monitor_did_not_look_is_reported_after_a_restart() {
    let mut house = lamp();
    flap(&mut house, 5);
    house.restart();
    house.power_up();
    house.turn_the_page();
    for _ in 0..50 {
        house.advance(secs(20));
        house.hear("home/lamp/x");
    }
    assert_eq!(counts(&house), [0, 1, 0]);
}

#[test]
fn alarms_before_a_restart_count_after_it() {
    let mut house = lamp();
    flap(&mut house, 4);
    assert_eq!(counts(&house), [4, 4, 0]);
    house.restart();
    house.power_up();
    house.turn_the_page();
    house.hear("home/lamp/x");
    house.advance(secs(31));
    assert_eq!(counts(&house), [0, 0, 1], "the fifth of them");
}

#[test]
fn the_end_of_a_spell_is_not_undone_by_a_restart() {
    let mut house = lamp();
    flap(&mut house, 5);
    for _ in 0..50 {
        house.advance(secs(20));
        house.hear("home/lamp/x");
    }
    assert_eq!(counts(&house), [4, 5, 1]);
    house.restart();
    house.power_up();
    assert_eq!(house.status("lamp")["reason"], serde_json::Value::Null);
    house.turn_the_page();
    house.hear("home/lamp/x");
    flap(&mut house, 1);
    assert_eq!(counts(&house), [1, 1, 0]);
}

#[test]
fn restarts_of_an_agent_count_on_over_a_restart() {
    let mut house = House::running(vec![agent("box", 3600)]);
    for _ in 0..3 {
        house.advance(secs(60));
        house.unit_restarted_by_systemd(UNIT);
    }
    let restarts = |house: &House| {
        let view = house.monitor.view(&device_name("box")).unwrap();
        view.agent.unwrap().restarts
    };
    assert_eq!(restarts(&house), 3);
    // A crash soon afterwards loses none of them.
    house.advance(secs(2));
    house.crash();
    house.power_up();
    assert_eq!(restarts(&house), 3);
    house.advance(secs(60));
    house.unit_restarted_by_systemd(UNIT);
    assert_eq!(restarts(&house), 4);
}
