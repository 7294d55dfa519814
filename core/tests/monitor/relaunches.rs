//! Agents whose processes end, or that cannot be started: when they are launched again, and when
//! they keep failing.

use super::agents::{UNIT, running, unit};
use super::expect::{agent, device_name};
use super::timetable::{House, millis, secs};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::unit::{ActiveState, JobOutcome, UnitReport};
use std::time::Duration;

/// Starts of an agent that fails as soon as it is started, over a while.
pub fn failing_at_once(house: &mut House, duration: Duration) -> Vec<Duration> {
    let end = house.mono + duration;
    house.unit_fails(UNIT);
    while let Some(due) = house.monitor.next_deadline().filter(|due| *due <= end) {
        let before = house.starts(UNIT).len();
        house.advance(due.saturating_sub(house.mono));
        if house.starts(UNIT).len() > before {
            house.unit_fails(UNIT);
        }
    }
    house.starts(UNIT)
}

#[test]
fn relaunches_come_after_growing_delays_up_to_the_cap_and_never_end() {
    let mut house = running();
    let failed = house.mono;
    let starts = failing_at_once(&mut house, secs(1800));
    let mut last = failed;
    let mut gaps = Vec::new();
    for start in starts {
        gaps.push(start - last);
        last = start;
    }
    for (step, gap) in gaps.iter().enumerate() {
        let nominal = secs(1 << step.min(10)).min(secs(60));
        assert!(*gap <= nominal + nominal / 2, "gap {step} of {gap:?}");
        assert!(*gap >= nominal / 2, "gap {step} of {gap:?}");
    }
    assert!(gaps.len() >= 25, "never gives up: {gaps:?}");
    let capped = &gaps[7..];
    assert!(capped.iter().any(|gap| gap != &capped[0]), "jittered: {gaps:?}");
    assert_eq!(house.count(AlertKind::AgentFailed), 1, "one alert");
    let alert = house.alerts(AlertKind::AgentFailed)[0].1;
    assert!(alert.message.contains("exited with 7"), "with its last exit: {}", alert.message);
}

#[test]
fn two_seeds_jitter_differently() {
    let gap = |seed| {
        let mut house = House::dark(vec![agent("box", 30)]);
        house.monitor =
            iotmonitor_core::monitor::Monitor::new(house.spec.clone(), house.now(), seed);
        house.power_up();
        failing_at_once(&mut house, secs(100))
    };
    assert_ne!(gap(1), gap(2));
}

#[test]
fn delays_start_afresh_after_the_agent_has_been_healthy() {
    let mut house = running();
    failing_at_once(&mut house, secs(200));
    assert_eq!(house.count(AlertKind::AgentFailed), 1);
    house.advance(secs(400));
    assert_eq!(house.count(AlertKind::AgentHealthy), 1);
    house.turn_the_page();
    let failed = house.mono;
    house.unit_fails(UNIT);
    house.advance(secs(2));
    assert_eq!(house.starts(UNIT).len(), 1);
    assert!(house.starts(UNIT)[0] - failed <= millis(1500));
    assert_eq!(house.count(AlertKind::AgentFailed), 1, "a new episode is a new alert");
}

#[test]
fn one_stopped_by_hand_is_relaunched_and_the_log_says_how_to_stop_it_for_good() {
    let mut house = running();
    house.unit_stopped_by_hand(UNIT);
    assert!(house.starts(UNIT).is_empty(), "within its delay");
    house.advance(secs(2));
    assert_eq!(house.starts(UNIT).len(), 1);
    let alerts = house.alerts(AlertKind::AgentRelaunched);
    assert!(alerts.iter().any(|(_, alert)| alert.message.contains("iotmonitor disable box")));
}

/// The command reaches the monitor that speaks, also where several run on one machine.
#[test]
fn an_alert_names_the_command_of_its_own_monitor() {
    let mut house = House::dark(vec![agent("box", 30)]);
    house.spec.command = "iotmonitor --clientid attic".into();
    house.restart();
    house.power_up();
    house.happen(Event::Disabled { device: device_name("box") });
    let alerts = house.alerts(AlertKind::Disabled);
    let said = "`iotmonitor --clientid attic enable box`";
    assert!(alerts.iter().any(|(_, alert)| alert.message.contains(said)), "{alerts:?}");
}

#[test]
fn one_whose_unit_is_gone_is_relaunched() {
    let mut house = running();
    house.manager.units.clear();
    house.happen(Event::UnitRemoved { unit: unit() });
    assert_eq!(house.monitor.summary().agents_running, 0);
    house.advance(secs(2));
    assert_eq!(house.starts(UNIT).len(), 1);
    assert_eq!(house.monitor.summary().agents_running, 1);
}

#[test]
fn a_start_that_fails_is_tried_again_with_one_alert() {
    let mut house = House::dark(vec![agent("box", 30)]);
    house.manager.fails = Some("no such user `pi`".into());
    house.power_up();
    house.advance(secs(600));
    assert!(house.starts(UNIT).len() > 8);
    assert!(house.starts(UNIT).len() < 40);
    assert_eq!(house.count(AlertKind::AgentFailed), 1);
    assert!(house.alerts(AlertKind::AgentFailed)[0].1.message.contains("no such user `pi`"));
    house.manager.fails = None;
    house.advance(secs(200));
    assert_eq!(house.monitor.summary().agents_running, 1);
    assert_eq!(house.count(AlertKind::AgentHealthy), 1);
}

#[test]
fn one_that_is_started_by_hand_during_the_delay_is_left_alone() {
    let mut house = running();
    house.unit_fails(UNIT);
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Active;
        report.main_pid = 4711;
        report.invocation = "e".repeat(32);
    });
    house.advance(secs(100));
    assert!(house.starts(UNIT).is_empty(), "never two");
    assert_eq!(house.published("startedprocess/box").len(), 1);
    house.unit_fails(UNIT);
    house.advance(secs(2));
    assert_eq!(house.starts(UNIT).len(), 1, "and it is watched as before");
}

#[test]
fn no_second_start_is_asked_for_while_one_is_outstanding() {
    let mut house = House::dark(vec![agent("box", 30)]);
    house.manager.answers = false;
    house.power_up();
    house.happen(Event::RestartRequested { device: device_name("box") });
    house.happen(Event::Enabled { device: device_name("box") });
    house.reload(vec![agent("box", 60)]);
    house.advance(secs(1000));
    assert_eq!(house.starts(UNIT).len(), 1);
}

/// The agent was stopped for a restart, and its start is outstanding.
fn being_started() -> House {
    let mut house = running();
    house.manager.answers = false;
    house.happen(Event::RestartRequested { device: device_name("box") });
    house.happen(Event::StopFinished { unit: unit(), outcome: JobOutcome::Done });
    house.turn_the_page();
    house
}

/// A start that fails is tried again by systemd at once: at that moment nothing is left to be read of
/// the first try, and the reason is reported when systemd gives up.
#[test]
fn the_alert_of_a_failed_start_waits_for_what_systemds_own_tries_come_to() {
    let mut house = being_started();
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Activating;
        report.main_pid = 0;
        report.last_exit = None;
    });
    let failed = JobOutcome::Failed("it failed to start".to_owned());
    house.happen(Event::StartFinished { unit: unit(), outcome: failed });
    assert_eq!(house.count(AlertKind::AgentFailed), 0);
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Failed;
        report.restarts = 3;
        report.last_exit = Some("exited with 217 (USER: the user does not exist)".to_owned());
    });
    let alert = house.alerts(AlertKind::AgentFailed)[0].1;
    assert!(alert.message.contains("cannot be started (exited with 217"), "{}", alert.message);
    house.manager.answers = true;
    house.advance(secs(2));
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn a_start_that_systemd_retries_without_end_is_reported_nevertheless() {
    let mut house = being_started();
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Activating;
        report.main_pid = 0;
    });
    let failed = JobOutcome::Failed("it did not start in time".to_owned());
    house.happen(Event::StartFinished { unit: unit(), outcome: failed });
    house.advance(secs(60));
    assert_eq!(house.count(AlertKind::AgentFailed), 1);
    let alert = house.alerts(AlertKind::AgentFailed)[0].1;
    assert!(alert.message.contains("it did not start in time"), "{}", alert.message);
}

#[test]
fn too_many_restarts_by_hand_are_no_failure() {
    let mut house = running();
    house.turn_the_page();
    for _ in 0..5 {
        house.unit_becomes(UNIT, |report| {
            report.active = ActiveState::Failed;
            report.main_pid = 0;
            report.result = "start-limit-hit".to_owned();
            report.last_exit = Some("killed by SIGTERM".to_owned());
        });
        house.advance(secs(2));
    }
    assert_eq!(house.count(AlertKind::AgentFailed), 0);
    assert_eq!(house.count(AlertKind::AgentRelaunched), 5);
    assert_eq!(house.starts(UNIT).len(), 5, "the delay does not grow");
    let alert = house.alerts(AlertKind::AgentRelaunched)[0].1;
    assert!(alert.message.contains("by hand"), "{}", alert.message);
}

/// systemd counts a restart of its own before it finds out that the limit refuses it, and one by hand
/// not at all. What ends the process says nothing: it may end itself by SIGTERM.
#[test]
fn a_loop_of_processes_that_end_by_sigterm_is_a_failure() {
    let mut house = running();
    house.turn_the_page();
    let failed = house.mono;
    for _ in 0..5 {
        house.unit_becomes(UNIT, |report| {
            report.active = ActiveState::Failed;
            report.main_pid = 0;
            report.result = "start-limit-hit".to_owned();
            report.restarts = 3;
            report.last_exit = Some("killed by SIGTERM".to_owned());
        });
        let starts = house.starts(UNIT).len();
        while house.starts(UNIT).len() == starts {
            house.advance(millis(100));
        }
    }
    assert_eq!(house.count(AlertKind::AgentFailed), 1);
    assert_eq!(house.count(AlertKind::AgentRelaunched), 0);
    assert!(house.mono - failed > secs(20), "the delay grows");
}

#[test]
fn a_restart_by_hand_that_is_refused_after_restarts_of_systemds_own_is_no_failure() {
    let mut house = running();
    house.unit_restarted_by_systemd(UNIT);
    house.unit_restarted_by_systemd(UNIT);
    house.turn_the_page();
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Failed;
        report.main_pid = 0;
        report.result = "start-limit-hit".to_owned();
        report.last_exit = Some("exited with 0".to_owned());
    });
    assert_eq!(house.count(AlertKind::AgentFailed), 0);
    let alert = house.alerts(AlertKind::AgentRelaunched)[0].1;
    assert!(alert.message.contains("by hand"), "{}", alert.message);
}

/// A restart is a stop and a start in one job, and the look at the unit may come between the two.
#[test]
fn a_restart_by_hand_that_is_seen_between_its_stop_and_its_start_is_no_stop() {
    let mut house = running();
    house.turn_the_page();
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Inactive;
        report.has_job = true;
        report.main_pid = 0;
        report.last_exit = Some("killed by SIGTERM".to_owned());
    });
    house.advance(secs(2));
    assert!(house.starts(UNIT).is_empty(), "never two");
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Active;
        report.has_job = false;
        report.main_pid = 4711;
        report.invocation = "e".repeat(32);
    });
    house.advance(secs(2));
    assert_eq!(house.count(AlertKind::AgentRelaunched), 0);
    assert_eq!(house.count(AlertKind::AgentStarted), 1);
    assert!(house.starts(UNIT).is_empty());
}

/// Where the process ends with an error, its result stands where the start limit would.
#[test]
fn a_stop_by_hand_that_the_process_answers_with_an_error_is_no_failure() {
    let mut house = running();
    house.turn_the_page();
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Failed;
        report.main_pid = 0;
        report.result = "exit-code".to_owned();
        report.last_exit = Some("exited with 143".to_owned());
    });
    assert_eq!(house.count(AlertKind::AgentFailed), 0);
    let alert = house.alerts(AlertKind::AgentRelaunched)[0].1;
    assert!(alert.message.contains("was stopped"), "{}", alert.message);
    house.advance(secs(2));
    assert_eq!(house.starts(UNIT).len(), 1);
}

/// The count is of one unit, and another begins with none.
#[test]
fn a_new_unit_that_never_starts_is_a_failure_whatever_the_one_before_was_counted() {
    let mut house = running();
    for _ in 0..3 {
        house.unit_restarted_by_systemd(UNIT);
    }
    house.manager.answers = false;
    house.happen(Event::RestartRequested { device: device_name("box") });
    house.happen(Event::StopFinished { unit: unit(), outcome: JobOutcome::Done });
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Activating;
        report.main_pid = 0;
        report.restarts = 1;
    });
    let failed = JobOutcome::Failed("it failed to start".to_owned());
    house.happen(Event::StartFinished { unit: unit(), outcome: failed });
    house.unit_fails(UNIT);
    assert_eq!(house.count(AlertKind::AgentFailed), 1);
}

#[test]
fn an_agent_that_ends_well_again_and_again_keeps_failing() {
    let mut house = running();
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Failed;
        report.main_pid = 0;
        report.result = "start-limit-hit".to_owned();
        report.restarts = 3;
        report.last_exit = Some("exited with 0".to_owned());
    });
    let alert = house.alerts(AlertKind::AgentFailed)[0].1;
    assert!(alert.message.contains("in the background"), "{}", alert.message);
}

#[test]
fn processes_that_outlive_the_main_one_are_reported_once() {
    let mut house = running();
    let lingering = |report: &mut UnitReport| {
        report.active = ActiveState::Deactivating;
        report.main_pid = 0;
        report.last_exit = Some("exited with 0".to_owned());
    };
    house.unit_becomes(UNIT, lingering);
    house.unit_becomes(UNIT, |report| report.active = ActiveState::Activating);
    house.advance(secs(10));
    assert_eq!(house.count(AlertKind::AgentLingers), 0, "a moment is not worth a word");
    house.unit_becomes(UNIT, lingering);
    house.advance(secs(100));
    assert_eq!(house.count(AlertKind::AgentLingers), 1);
    let alert = house.alerts(AlertKind::AgentLingers)[0].1;
    assert!(alert.message.contains("exited with 0"), "{}", alert.message);
}
