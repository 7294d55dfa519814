//! Agents: started, adopted, relaunched with growing delays, and never two of one.

use super::expect::{agent, agent_running, device_name, watched};
use super::plain_agent::plain_agent;
use super::relaunches::failing_at_once;
use super::timetable::{House, START, millis, secs};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::spec::{AgentSpec, DeviceSpec};
use iotmonitor_core::model::unit::{ActiveState, JobOutcome};
use iotmonitor_core::model::unit_name::UnitName;

pub const UNIT: &str = "iotmonitor-agent-box.service";

pub fn unit() -> UnitName {
    UnitName::from_systemd(UNIT)
}

pub fn running() -> House {
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

#[test]
fn the_time_of_the_last_exit_follows_the_wall_clock() {
    let mut house = running();
    house.unit_fails(UNIT);
    let ago = |house: &House| {
        let agent = house.monitor.view(&device_name("box")).unwrap().agent.unwrap();
        (house.now().wall - agent.last_exit_at.unwrap()).as_secs()
    };
    assert_eq!(ago(&house), 0);
    house.wall_step += 10 * 365 * 86_400;
    house.advance(secs(20));
    assert_eq!(ago(&house), 20);
    // systemd still reports the time on the former clock, which is not another exit.
    house.unit_becomes(UNIT, |_| {});
    assert_eq!(ago(&house), 20);
}
