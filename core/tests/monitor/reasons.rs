//! Why there is an alarm: in the status, in the journal, and until its end.

use super::expect::{agent, device_name, watched};
use super::timetable::{House, secs};
use iotmonitor_core::model::alert::{AlertKind, Reason};
use iotmonitor_core::model::event::Event;

const UNIT: &str = "iotmonitor-agent-box.service";

fn reasons(house: &House, kind: AlertKind) -> Vec<Option<Reason>> {
    house.alerts(kind).into_iter().map(|(_, alert)| alert.reason).collect()
}

#[test]
fn a_device_is_silent_and_its_recovery_ends_that_episode() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    assert_eq!(house.status("lamp")["reason"], serde_json::Value::Null);
    house.advance(secs(31));
    assert_eq!(house.status("lamp")["reason"], "silent");
    assert_eq!(reasons(&house, AlertKind::Expired), [Some(Reason::Silent)]);
    house.hear("home/lamp/x");
    assert_eq!(reasons(&house, AlertKind::Recovered), [Some(Reason::Silent)]);
    assert_eq!(house.status("lamp")["reason"], serde_json::Value::Null);
}

#[test]
fn an_agent_whose_process_lives_in_silence_hangs() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.hear("home/box/x");
    house.advance(secs(31));
    assert_eq!(house.status("box")["reason"], "agent-hung");
    let (_, alert) = house.alerts(AlertKind::Expired)[0];
    assert_eq!(alert.reason, Some(Reason::AgentHung));
    assert!(alert.message.contains("PID 101") && alert.message.contains("30 s"), "{alert:?}");
    // It is the same episode when its process is another one, and after a restart of the monitor.
    house.unit_restarted_by_systemd(UNIT);
    assert_eq!(house.status("box")["reason"], "agent-hung");
    house.restart();
    house.power_up();
    assert_eq!(house.status("box")["reason"], "agent-hung");
    house.reload(vec![agent("box", 30)]);
    assert_eq!(house.status("box")["reason"], "agent-hung");
    house.hear("home/box/x");
    assert_eq!(reasons(&house, AlertKind::Recovered), [Some(Reason::AgentHung)]);
}

#[test]
fn an_agent_of_which_systemd_reports_nothing_is_silent() {
    let mut house = House::dark(vec![agent("box", 30)]);
    house.open_store();
    house.connect_watch();
    house.advance(secs(31));
    assert_eq!(house.status("box")["reason"], "silent");
}

#[test]
fn an_agent_that_keeps_failing_says_so_until_it_is_healthy() {
    let mut house = House::running(vec![agent("box", 3600)]);
    house.hear("home/box/x");
    house.unit_fails(UNIT);
    assert_eq!(house.status("box")["reason"], "agent-failed");
    assert_eq!(house.status("box")["state"], "alive", "it was heard within its timeout");
    assert_eq!(reasons(&house, AlertKind::AgentFailed), [Some(Reason::AgentFailed)]);
    house.advance(secs(5));
    assert_eq!(house.monitor.summary().agents_running, 1);
    assert_eq!(house.status("box")["reason"], "agent-failed", "not before it has lasted");
    house.advance(secs(30));
    assert_eq!(house.status("box")["reason"], serde_json::Value::Null);
    assert_eq!(reasons(&house, AlertKind::AgentHealthy), [Some(Reason::AgentFailed)]);
}

#[test]
fn a_start_that_fails_is_a_failing_agent_too() {
    let mut house = House::dark(vec![agent("box", 3)]);
    house.manager.fails = Some("no such user `pi`".into());
    house.power_up();
    assert_eq!(house.status("box")["reason"], "agent-failed");
    house.advance(secs(4));
    assert_eq!(house.status("box")["state"], "expired");
    assert_eq!(reasons(&house, AlertKind::Expired), [Some(Reason::AgentFailed)]);
}

#[test]
fn a_persons_choice_ends_the_episode() {
    let mut house = House::running(vec![agent("box", 3600)]);
    house.unit_fails(UNIT);
    house.happen(Event::Disabled { device: device_name("box") });
    assert_eq!(house.status("box")["reason"], serde_json::Value::Null);
    house.happen(Event::Enabled { device: device_name("box") });
    assert_eq!(house.status("box")["reason"], serde_json::Value::Null);
    house.unit_fails(UNIT);
    assert_eq!(house.count(AlertKind::AgentFailed), 2, "a new episode is a new alert");
}

#[test]
fn what_concerns_no_episode_has_no_reason() {
    let mut house = House::running(vec![agent("box", 30)]);
    house.unit_stopped_by_hand(UNIT);
    for kind in [AlertKind::AgentStarted, AlertKind::AgentRelaunched, AlertKind::BrokerBack] {
        assert_eq!(reasons(&house, kind), [None], "{kind:?}");
    }
}

#[test]
fn an_alert_of_an_agent_asks_for_what_it_did_last() {
    let mut house = House::running(vec![agent("box", 30), watched("lamp", 30)]);
    house.advance(secs(31));
    house.unit_fails(UNIT);
    house.hear("home/box/x");
    let accounts = |kind| -> Vec<Option<Option<String>>> {
        let alerts = house.alerts(kind).into_iter();
        alerts.map(|(_, alert)| alert.account.as_ref().map(|known| known.exit.clone())).collect()
    };
    assert_eq!(accounts(AlertKind::Expired), [Some(None), None], "a device has no process");
    assert_eq!(accounts(AlertKind::AgentFailed), [Some(Some("exited with 7".to_owned()))]);
    assert_eq!(accounts(AlertKind::Recovered), [None]);
}
