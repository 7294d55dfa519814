//! Units that are started for alerts: which ones, and what is told of them.

use super::expect::{agent, watched};
use super::timetable::{House, secs};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::spec::DeviceSpec;
use iotmonitor_core::model::unit::JobOutcome;
use iotmonitor_core::model::unit_name::UnitTemplate;

fn notify() -> UnitTemplate {
    UnitTemplate::new("notify@.service").unwrap()
}

fn with_unit(spec: DeviceSpec) -> DeviceSpec {
    DeviceSpec { alert_unit: Some(notify()), ..spec }
}

/// The unit that each alert of a kind starts.
fn starts(house: &House, kind: AlertKind) -> Vec<Option<UnitTemplate>> {
    house.alerts(kind).into_iter().map(|(_, alert)| alert.starts.clone()).collect()
}

fn finished(house: &mut House, outcome: JobOutcome) {
    house.happen(Event::AlertUnitFinished { template: notify(), outcome });
}

#[test]
fn an_alarm_and_its_end_start_the_unit_of_the_section() {
    let mut house = House::running(vec![with_unit(watched("lamp", 30)), watched("bell", 30)]);
    house.advance(secs(31));
    house.hear("home/lamp/x");
    assert_eq!(starts(&house, AlertKind::Expired), [Some(notify()), None]);
    assert_eq!(starts(&house, AlertKind::Recovered), [Some(notify())]);
}

#[test]
fn what_needs_nobody_starts_nothing() {
    let mut house = House::running(vec![with_unit(agent("box", 30))]);
    house.unit_restarted_by_systemd("iotmonitor-agent-box.service");
    assert_eq!(starts(&house, AlertKind::AgentStarted), [None, None]);
}

#[test]
fn a_unit_that_fails_is_told_once_until_it_works_again() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    let failed = || JobOutcome::Failed("Unit notify@lamp.service not found.".into());
    finished(&mut house, failed());
    finished(&mut house, failed());
    assert_eq!(house.count(AlertKind::AlertUnitFailed), 1);
    let (_, alert) = house.alerts(AlertKind::AlertUnitFailed)[0];
    assert!(alert.message.contains("notify@lamp.service not found"), "{}", alert.message);
    assert_eq!(alert.starts, None);
    finished(&mut house, JobOutcome::Done);
    finished(&mut house, failed());
    assert_eq!(house.count(AlertKind::AlertUnitFailed), 2);
}

#[test]
fn what_was_dropped_is_told_by_the_same_way() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.happen(Event::AlertsDropped { count: 9_936, template: notify() });
    assert_eq!(starts(&house, AlertKind::AlertsDropped), [Some(notify())]);
    let (_, alert) = house.alerts(AlertKind::AlertsDropped)[0];
    assert!(alert.message.starts_with("9936 alerts started no unit"), "{}", alert.message);
}
