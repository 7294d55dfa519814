//! Agents: started, adopted, relaunched with growing delays, and never two of one.

use super::expect::{agent, agent_running, device_name, watched};
use super::plain_agent::plain_agent;
use super::timetable::{House, START, millis, secs};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::spec::{AgentSpec, DeviceSpec};
use iotmonitor_core::model::unit::{ActiveState, JobOutcome, UnitReport};
use iotmonitor_core::model::unit_name::UnitName;
use std::time::Duration;

const UNIT: &str = "iotmonitor-agent-box.service";

fn unit() -> UnitName {
    UnitName::from_systemd(UNIT)
}

fn running() -> House {
    let mut house = House::running(vec![agent("box", 30)]);
    assert_eq!(house.starts(UNIT).len(), 1);
    house.advance(millis(10));
    house.turn_the_page();
    house
}

/// What a unit's marker says when it is started for this configuration.
fn definition(spec: DeviceSpec) -> String {
    let house = House::running(vec![spec]);
    house.manager.units[&unit()].definition.clone().unwrap()
}

#[test]
fn an_agent_is_started_and_its_start_published() {
    let mut house = House::dark(vec![agent("box", 30)]);
    house.open_store();
    assert!(house.starts(UNIT).is_empty());
    house.advance(secs(7));
    house.connect_manager();
    assert_eq!(house.starts(UNIT), [house.mono], "whether or not the broker answers");
    house.expect_published("startedprocess/box", house.mono, &(START + 7).to_string());
    assert_eq!(house.count(AlertKind::AgentStarted), 1);
    let alert = house.alerts(AlertKind::AgentStarted)[0].1;
    assert_eq!(
        (alert.device.as_ref(), alert.unit.as_ref()),
        (Some(&device_name("box")), Some(&unit()))
    );
    assert_eq!(house.monitor.summary().agents_running, 1);
    assert_eq!(house.monitor.summary().devices, 0);
    assert_eq!(house.monitor.summary().agents, 1);
}

#[test]
fn an_agents_status_has_its_unit_its_state_and_its_restarts() {
    let mut house = running();
    house.unit_restarted_by_systemd(UNIT);
    let status = house.status("box");
    assert_eq!(status["kind"], "agent");
    let text = house.payloads("status/box").last().unwrap().clone();
    assert!(text.contains(UNIT) && text.contains("\"active\""), "{text}");
    assert_eq!(status["agent"]["restarts"], 1);
}

#[test]
fn a_running_agent_with_the_same_definition_is_adopted() {
    let mut house = running();
    let pid = house.manager.units[&unit()].main_pid;
    for orderly in [true, false] {
        if orderly {
            house.restart()
        } else {
            house.crash()
        }
        house.turn_the_page();
        house.advance(secs(5));
        house.power_up();
        assert!(house.starts(UNIT).is_empty() && house.stops(UNIT).is_empty());
        house.expect_silence_on("startedprocess/box");
        assert_eq!(house.count(AlertKind::AgentAdopted), 1);
        assert_eq!(house.manager.units[&unit()].main_pid, pid);
        assert_eq!(house.monitor.summary().agents_running, 1);
    }
}

#[test]
fn a_start_while_the_monitor_was_away_is_published_when_it_is_back() {
    let mut house = running();
    house.restart();
    let definition = house.manager.units[&unit()].definition.clone().unwrap();
    house.manager.run(&unit(), &definition);
    house.turn_the_page();
    house.power_up();
    assert_eq!(house.published("startedprocess/box").len(), 1);
    assert!(house.starts(UNIT).is_empty());
}

#[test]
fn an_agent_whose_definition_changed_while_the_monitor_was_away_is_restarted() {
    let mut house = running();
    house.restart();
    house.spec.devices = vec![agent_running("box", "run another")];
    house.crash();
    house.turn_the_page();
    house.power_up();
    assert_eq!((house.stops(UNIT).len(), house.starts(UNIT).len()), (1, 1));
    let stop = house.position("stop", |a| matches!(a, Action::StopUnit { .. }));
    let start = house.position("start", |a| matches!(a, Action::StartUnit { .. }));
    assert!(stop < start);
}

#[test]
fn what_makes_the_unit_is_in_its_definition_and_the_rest_is_not() {
    let plain = definition(agent("box", 30));
    assert_eq!(plain, definition(agent("box", 99)), "the timeout does not make the unit");
    let slower = AgentSpec {
        restart_delay: secs(9),
        restart_max_delay: secs(99),
        restart_on_expire: true,
        ..plain_agent("box", "run box")
    };
    assert_eq!(
        plain,
        definition(DeviceSpec { agent: Some(Box::new(slower)), ..watched("box", 30) })
    );
    let variants = [
        plain_agent("box", "run  box"),
        AgentSpec { user: Some("pi".into()), ..plain_agent("box", "run box") },
        AgentSpec { group: Some("pi".into()), ..plain_agent("box", "run box") },
        AgentSpec { working_directory: Some("/srv".into()), ..plain_agent("box", "run box") },
        AgentSpec { environment_file: Some("/srv/e".into()), ..plain_agent("box", "run box") },
        AgentSpec {
            environment: [("A".into(), "1".into())].into(),
            ..plain_agent("box", "run box")
        },
        AgentSpec { stop_timeout: Some(secs(3)), ..plain_agent("box", "run box") },
        AgentSpec { memory_max: Some(1 << 20), ..plain_agent("box", "run box") },
        AgentSpec { cpu_quota_percent: Some(20), ..plain_agent("box", "run box") },
        AgentSpec { tasks_max: Some(5), ..plain_agent("box", "run box") },
        AgentSpec {
            sandbox: iotmonitor_core::model::spec::Sandbox::Strict,
            ..plain_agent("box", "run box")
        },
        AgentSpec {
            credentials: [("mqtt-password", "/run/iotmonitor/mqtt-password".into())].into(),
            ..plain_agent("box", "run box")
        },
        AgentSpec { mqtt_server: "tcp://elsewhere:1883".into(), ..plain_agent("box", "run box") },
        AgentSpec {
            exec: iotmonitor_core::model::spec::Exec::Argv(vec!["run box".into()]),
            ..plain_agent("box", "run box")
        },
    ];
    let mut seen = vec![plain];
    for variant in variants {
        let other =
            definition(DeviceSpec { agent: Some(Box::new(variant.clone())), ..watched("box", 30) });
        assert!(!seen.contains(&other), "{variant:?}");
        seen.push(other);
    }
}

#[test]
fn a_unit_of_this_instance_that_left_the_file_is_stopped() {
    let mut house = House::dark(vec![watched("lamp", 30)]);
    let other = UnitName::from_systemd("iotmonitor-agent-old.service");
    house.manager.run(&other, "x");
    house.power_up();
    assert_eq!(house.stops("iotmonitor-agent-old.service").len(), 1);
}

#[test]
fn a_restart_by_systemd_is_published_and_left_to_it() {
    let mut house = running();
    house.advance(secs(3));
    house.turn_the_page();
    house.unit_restarted_by_systemd(UNIT);
    house.expect_published("startedprocess/box", house.mono, &house.wall());
    assert_eq!(house.count(AlertKind::AgentStarted), 1);
    assert!(house.alerts(AlertKind::AgentStarted)[0].1.message.contains("killed by SIGKILL"));
    house.advance(secs(100));
    assert!(house.starts(UNIT).is_empty());
    assert_eq!(house.published("startedprocess/box").len(), 1);
}

#[test]
fn a_process_that_is_between_two_lives_by_systemd_is_not_started_a_second_time() {
    let mut house = running();
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Deactivating;
        report.main_pid = 0;
    });
    house.unit_becomes(UNIT, |report| report.active = ActiveState::Activating);
    house.advance(secs(100));
    assert!(house.starts(UNIT).is_empty());
    house.unit_becomes(UNIT, |report| {
        report.active = ActiveState::Active;
        report.main_pid = 999;
        report.invocation = "f".repeat(32);
        report.restarts = 1;
    });
    assert_eq!(house.published("startedprocess/box").len(), 1);
    assert!(house.starts(UNIT).is_empty());
}

/// Starts of an agent that fails as soon as it is started, over a while.
fn failing_at_once(house: &mut House, duration: Duration) -> Vec<Duration> {
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

#[test]
fn nothing_is_started_while_the_system_stops() {
    let mut house = running();
    house.happen(Event::SystemState { stopping: true });
    house.unit_stopped_by_hand(UNIT);
    house.happen(Event::UnitRemoved { unit: unit() });
    house.advance(secs(600));
    assert!(house.starts(UNIT).is_empty());
    let mut house = House::dark(vec![agent("box", 30)]);
    house.happen(Event::SystemState { stopping: true });
    house.power_up();
    assert!(house.starts(UNIT).is_empty());
}

#[test]
fn what_was_not_started_for_a_shutdown_is_started_when_it_is_called_off() {
    let call_off = |house: &mut House| {
        assert!(house.starts(UNIT).is_empty());
        house.happen(Event::SystemState { stopping: false });
        house.advance(secs(10));
        assert_eq!(house.starts(UNIT).len(), 1);
        assert_eq!(house.monitor.summary().agents_running, 1);
    };
    // One that ended meanwhile.
    let mut house = running();
    house.happen(Event::SystemState { stopping: true });
    house.unit_stopped_by_hand(UNIT);
    house.advance(secs(600));
    call_off(&mut house);
    // One that was never started.
    let mut house = House::dark(vec![agent("box", 30)]);
    house.happen(Event::SystemState { stopping: true });
    house.power_up();
    call_off(&mut house);
    // One whose start the shutdown cut off.
    let mut house = House::dark(vec![agent("box", 30)]);
    house.manager.answers = false;
    house.power_up();
    house.turn_the_page();
    house.happen(Event::SystemState { stopping: true });
    let outcome = JobOutcome::Failed("its start was canceled".into());
    house.happen(Event::StartFinished { unit: unit(), outcome });
    house.manager.answers = true;
    call_off(&mut house);
    // One that a person enabled, and one that a person disabled.
    let mut house = running();
    house.happen(Event::Disabled { device: device_name("box") });
    house.turn_the_page();
    house.happen(Event::SystemState { stopping: true });
    house.happen(Event::SystemState { stopping: false });
    house.advance(secs(10));
    assert!(house.starts(UNIT).is_empty());
    house.happen(Event::SystemState { stopping: true });
    house.happen(Event::Enabled { device: device_name("box") });
    call_off(&mut house);
}

#[test]
fn the_monitors_own_end_touches_no_agent() {
    let mut house = running();
    house.happen(Event::Stopping);
    assert!(house.stops(UNIT).is_empty());
}

#[test]
fn a_lost_manager_is_reported_and_running_units_are_adopted_on_return() {
    let mut house = running();
    house.happen(Event::ManagerLost { reason: "the bus closed".into() });
    assert_eq!(house.count(AlertKind::ManagerLost), 1);
    house.advance(secs(100));
    house.connect_manager();
    assert_eq!(house.count(AlertKind::ManagerBack), 1);
    assert!(house.starts(UNIT).is_empty() && house.stops(UNIT).is_empty());
    house.expect_silence_on("startedprocess/box");
}

#[test]
fn what_died_while_the_manager_was_away_is_relaunched() {
    let mut house = running();
    house.happen(Event::ManagerLost { reason: "the bus closed".into() });
    house.manager.units.clear();
    house.connect_manager();
    house.advance(secs(2));
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn a_start_whose_answer_was_lost_with_the_bus_is_watched_all_the_same() {
    let mut house = House::dark(vec![agent("box", 30)]);
    house.manager.answers = false;
    house.power_up();
    let definition = house
        .log
        .iter()
        .find_map(|(_, action)| match action {
            Action::StartUnit { definition, .. } => Some(definition.clone()),
            _ => None,
        })
        .unwrap();
    house.happen(Event::ManagerLost { reason: "the bus closed".into() });
    house.manager.answers = true;
    house.manager.run(&unit(), &definition);
    house.connect_manager();
    assert_eq!(house.starts(UNIT).len(), 1);
    house.unit_fails(UNIT);
    house.advance(secs(2));
    assert_eq!(house.starts(UNIT).len(), 2);
}

#[test]
fn a_stop_whose_answer_was_lost_with_the_bus_is_made_again() {
    let mut house = running();
    house.manager.answers = false;
    house.happen(Event::RestartRequested { device: device_name("box") });
    assert_eq!(house.stops(UNIT).len(), 1);
    house.happen(Event::ManagerLost { reason: "the bus closed".into() });
    house.manager.answers = true;
    house.connect_manager();
    assert_eq!(house.stops(UNIT).len(), 2);
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn an_agent_that_a_reload_brings_while_the_manager_is_away_is_started_when_it_is_back() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.happen(Event::ManagerLost { reason: "the bus closed".into() });
    house.manager.answers = false;
    house.reload(vec![watched("lamp", 30), agent("box", 30)]);
    house.manager.answers = true;
    house.turn_the_page();
    house.connect_manager();
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn a_stop_that_fails_leaves_the_agent_watched() {
    let mut house = running();
    house.manager.answers = false;
    house.happen(Event::RestartRequested { device: device_name("box") });
    house.unit_fails(UNIT);
    let outcome = JobOutcome::Failed("the job timed out".into());
    house.happen(Event::StopFinished { unit: unit(), outcome });
    house.manager.answers = true;
    house.advance(secs(5));
    assert_eq!(house.starts(UNIT).len(), 1, "it is down, so it is started");
}

#[test]
fn a_silent_agent_is_only_reported_by_default() {
    let mut house = running();
    house.advance(secs(100));
    assert_eq!(house.published("expire/box").len(), 1);
    assert!(house.stops(UNIT).is_empty() && house.starts(UNIT).is_empty());
}

#[test]
fn restart_on_expire_restarts_a_silent_agent_each_timeout_and_reports_once() {
    let spec = AgentSpec { restart_on_expire: true, ..plain_agent("box", "run box") };
    let mut house =
        House::running(vec![DeviceSpec { agent: Some(Box::new(spec)), ..watched("box", 30) }]);
    let t0 = house.mono;
    house.turn_the_page();
    house.advance(secs(100));
    let times: Vec<_> = house.starts(UNIT).iter().map(|at| *at - t0).collect();
    assert_eq!(times, [secs(30), secs(60), secs(90)]);
    assert_eq!(house.stops(UNIT).len(), 3);
    assert_eq!(house.published("expire/box").len(), 1);
    assert_eq!(house.count(AlertKind::Expired), 1);
    house.hear("home/box/x");
    assert_eq!(house.published("recover/box").len(), 1);
    house.turn_the_page();
    house.advance(secs(29));
    assert!(house.stops(UNIT).is_empty());
}

#[test]
fn a_restarted_agent_has_its_full_timeout_from_the_restart_on() {
    for restart in
        [(|house: &mut House| house.unit_restarted_by_systemd(UNIT)) as fn(&mut House), |house| {
            house.happen(Event::RestartRequested { device: device_name("box") })
        }]
    {
        let mut house = running();
        house.hear("home/box/x");
        house.advance(secs(25));
        restart(&mut house);
        let deadline = house.mono + secs(30);
        house.advance(secs(100));
        assert_eq!(house.published("expire/box").len(), 1);
        assert_eq!(house.published("expire/box")[0].0, deadline);
    }
}

#[test]
fn an_agent_needs_no_topics() {
    let bare = DeviceSpec { watch: Vec::new(), ..agent("box", 30) };
    let mut house = House::running(vec![bare]);
    house.advance(secs(1000));
    house.expect_silence_on("expire/box");
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn agents_start_even_if_the_store_cannot_be_opened() {
    let mut house = House::dark(vec![agent("box", 30)]);
    house.happen(Event::StoreFailed { error: "permission denied".into() });
    house.connect_manager();
    assert_eq!(house.starts(UNIT).len(), 1);
}

#[test]
fn many_starts_of_one_episode_are_each_published() {
    let mut house = running();
    let starts = failing_at_once(&mut house, secs(60)).len();
    assert_eq!(house.published("startedprocess/box").len(), starts);
}

/// A start that fails is tried again by systemd at once: at that moment nothing is left to be read of
/// the first try, and the reason is reported when systemd gives up.
#[test]
fn the_alert_of_a_failed_start_waits_for_what_systemds_own_tries_come_to() {
    let mut house = running();
    house.manager.answers = false;
    house.happen(Event::RestartRequested { device: device_name("box") });
    house.happen(Event::StopFinished { unit: unit(), outcome: JobOutcome::Done });
    house.turn_the_page();
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
    let mut house = running();
    house.manager.answers = false;
    house.happen(Event::RestartRequested { device: device_name("box") });
    house.happen(Event::StopFinished { unit: unit(), outcome: JobOutcome::Done });
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
