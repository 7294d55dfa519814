//! The behaviour of an agent, report by report.

use super::*;
use crate::model::spec::{Exec, Sandbox};
use crate::model::unit::JobOutcome;

const T: fn(u64) -> Duration = Duration::from_secs;

/// A process that was started as the first of its unit.
const FIRST: Start =
    Start { pid: 10, is_restart: false, by_systemd: false, exit: None, while_failing: false };

fn spec(exec: &str) -> AgentSpec {
    AgentSpec {
        unit: UnitName::from_systemd("iotmonitor-agent-box.service"),
        exec: Exec::Shell(exec.to_owned()),
        user: None,
        group: None,
        working_directory: None,
        environment: [].into(),
        environment_file: None,
        restart_delay: T(1),
        restart_max_delay: T(60),
        stop_timeout: None,
        memory_max: None,
        cpu_quota_percent: None,
        tasks_max: None,
        sandbox: Sandbox::None,
        restart_on_expire: false,
        mqtt_server: String::new(),
        credentials: [].into(),
    }
}

fn agent(exec: &str) -> Agent {
    Agent::new(&DeviceName::new("box").unwrap(), spec(exec))
}

/// At this second, with the longest delays.
fn at(second: u64) -> Context {
    let now = Now { mono: T(second), wall: T(1_000 + second), boot: T(second) };
    Context { now, enabled: true, may_start: true, jitter: 0 }
}

fn disabled(second: u64) -> Context {
    Context { enabled: false, ..at(second) }
}

fn going_down(second: u64) -> Context {
    Context { may_start: false, ..at(second) }
}

/// The unit of a process that runs, by the definition of the agent.
fn up(agent: &Agent, pid: u32) -> UnitReport {
    UnitReport {
        unit: agent.unit().clone(),
        active: ActiveState::Active,
        has_job: false,
        main_pid: pid,
        invocation: format!("{pid:032x}"),
        restarts: 0,
        result: "success".to_owned(),
        last_exit: None,
        ended_at: None,
        definition: Some(agent.definition().to_owned()),
        shared: None,
    }
}

fn down(agent: &Agent, active: ActiveState, exit: &str) -> UnitReport {
    UnitReport { active, last_exit: Some(exit.to_owned()), ..up(agent, 0) }
}

/// An agent that was started at 0 and runs as process 10.
fn running() -> Agent {
    let mut agent = agent("run");
    assert_eq!(agent.missing(false, &at(0)), [Outcome::Start]);
    let outcomes = agent.reported(up(&agent, 10), &at(0));
    assert_eq!(outcomes, [Outcome::Started(FIRST), Outcome::StateChanged]);
    assert_eq!(agent.start_finished(JobOutcome::Done, &at(0)), []);
    agent
}

/// What follows when the process ends again and again, so that systemd gives up.
fn gives_up(agent: &mut Agent, context: &Context) -> Vec<Outcome> {
    let failed = down(agent, ActiveState::Failed, "exited with 7");
    agent.reported(UnitReport { restarts: 3, ..failed }, context)
}

#[test]
fn an_agent_that_runs_by_the_same_definition_is_adopted_and_another_is_replaced() {
    let mut same = agent("run");
    same.resume(Some(&up(&same, 10).invocation), 0);
    let report = up(&same, 10);
    assert_eq!(same.listed(report, false, &at(0)), [Outcome::Adopted { pid: 10 }]);
    let mut other = agent("run another");
    let outcomes = other.listed(up(&same, 10), false, &at(0));
    assert_eq!(outcomes, [Outcome::Started(FIRST), Outcome::Stop]);
    assert_eq!(other.stop_finished(JobOutcome::Done, &at(1)), [Outcome::Start]);
    let mut unwanted = agent("run");
    let outcomes = unwanted.listed(up(&same, 10), false, &disabled(0));
    assert_eq!(outcomes, [Outcome::Started(FIRST), Outcome::Stop]);
    assert_eq!(unwanted.stop_finished(JobOutcome::Done, &disabled(1)), [Outcome::StateChanged]);
}

#[test]
fn an_agent_whose_unit_is_not_there_is_started_if_it_is_meant_to_run() {
    assert_eq!(agent("run").missing(false, &at(0)), [Outcome::Start]);
    assert_eq!(agent("run").missing(false, &disabled(0)), []);
    let mut waiting = agent("run");
    assert_eq!(waiting.missing(false, &going_down(0)), []);
    assert_eq!(waiting.shutdown_called_off(&at(5)), [Outcome::Start]);
}

#[test]
fn a_restart_by_systemd_is_reported_and_left_to_it() {
    let mut agent = running();
    let between = down(&agent, ActiveState::Activating, "killed by SIGKILL");
    assert_eq!(agent.reported(between, &at(5)), [Outcome::StateChanged]);
    let again = UnitReport { restarts: 1, ..up(&agent, 11) };
    let start = Start {
        pid: 11,
        is_restart: true,
        by_systemd: true,
        exit: Some("killed by SIGKILL".to_owned()),
        while_failing: false,
    };
    let outcomes = agent.reported(again, &at(5));
    assert_eq!(outcomes, [Outcome::Started(start), Outcome::StateChanged]);
    let end = End { how: "killed by SIGKILL".to_owned(), at: T(1_005) };
    assert_eq!((agent.restarts(), agent.last_end()), (1, Some(&end)));
}

#[test]
fn failures_are_reported_once_and_relaunched_after_growing_delays_until_it_is_healthy() {
    let mut agent = running();
    let failure = |delay| Failure::GivenUp { exit: "exited with 7".to_owned(), ran: true, delay };
    let first = gives_up(&mut agent, &at(5));
    assert_eq!(first, [Outcome::Failing(failure(T(1))), Outcome::StateChanged]);
    assert!(agent.keeps_failing());
    for (second, next, pid) in [(6, 8, 11), (8, 12, 12), (12, 20, 13)] {
        assert_eq!(agent.next_start(), Some(T(second)));
        assert_eq!(agent.time_passed(&at(second)), [Outcome::Start]);
        let outcomes = agent.reported(up(&agent, pid), &at(second));
        assert!(matches!(&outcomes[0], Outcome::Started(start) if start.while_failing));
        agent.start_finished(JobOutcome::Done, &at(second));
        assert_eq!(gives_up(&mut agent, &at(second)), [Outcome::StateChanged], "said before");
        assert_eq!(agent.next_start(), Some(T(next)));
    }
    agent.time_passed(&at(20));
    agent.reported(up(&agent, 14), &at(20));
    agent.start_finished(JobOutcome::Done, &at(20));
    assert_eq!(agent.time_passed(&at(49)), []);
    assert_eq!(agent.time_passed(&at(50)), [Outcome::Healthy]);
    assert_eq!(gives_up(&mut agent, &at(51))[0], Outcome::Failing(failure(T(1))));
}

#[test]
fn a_delay_is_shortened_by_up_to_a_quarter() {
    let mut agent = running();
    gives_up(&mut agent, &Context { jitter: 100, ..at(5) });
    assert_eq!(agent.next_start(), Some(T(5) + Duration::from_millis(750)));
}

#[test]
fn each_deadline_is_given_out_once_and_a_sooner_one_before_it() {
    let mut agent = running();
    assert_eq!(agent.take_deadline(), Some(HEALTHY_AFTER));
    assert_eq!(agent.take_deadline(), None);
    gives_up(&mut agent, &at(5));
    assert_eq!(agent.take_deadline(), Some(T(6)));
    assert_eq!(agent.time_passed(&at(6)), [Outcome::Start]);
    assert_eq!(agent.take_deadline(), None, "there is nothing to wait for");
    let mut agent = running();
    assert_eq!(agent.take_deadline(), Some(HEALTHY_AFTER));
    let mut next = self::agent("run");
    next.succeed(agent, &at(1));
    assert_eq!(next.take_deadline(), Some(HEALTHY_AFTER), "a new configuration asks anew");
}

#[test]
fn a_unit_that_is_stopped_or_gone_is_relaunched_without_a_failure() {
    let mut agent = running();
    let stopped = down(&agent, ActiveState::Inactive, "killed by SIGTERM");
    let relaunched = Outcome::Relaunched { after: Fall::Stopped, delay: T(1) };
    assert_eq!(agent.reported(stopped, &at(5)), [relaunched, Outcome::StateChanged]);
    let mut agent = running();
    let relaunched = Outcome::Relaunched { after: Fall::Gone, delay: T(1) };
    assert_eq!(agent.removed(&at(5)), [relaunched, Outcome::StateChanged]);
    assert!(!agent.is_running() && !agent.keeps_failing());
    assert_eq!(agent.removed(&at(5)), [], "it waits already");
}

#[test]
fn only_a_restart_that_systemd_has_counted_is_a_failure() {
    let refused = |restarts, result: &str, exit: &str| {
        let mut agent = running();
        let again = UnitReport { restarts: 2, ..up(&agent, 11) };
        agent.reported(again, &at(4));
        let failed = down(&agent, ActiveState::Failed, exit);
        let report = UnitReport { restarts, result: result.to_owned(), ..failed };
        let next = agent.reported(report, &at(5)).remove(0);
        (next, agent.step)
    };
    let relaunched = |after| Outcome::Relaunched { after, delay: T(1) };
    for exit in ["killed by SIGTERM", "exited with 0"] {
        let by_hand = refused(2, "start-limit-hit", exit);
        assert_eq!(by_hand, (relaunched(Fall::RestartedByHand), 0), "the delay does not grow");
        let (by_systemd, step) = refused(3, "start-limit-hit", exit);
        assert!(matches!(by_systemd, Outcome::Failing(Failure::GivenUp { .. })), "{by_systemd:?}");
        assert_eq!(step, 1);
    }
    let (stopped, _) = refused(2, "exit-code", "exited with 143");
    assert_eq!(stopped, relaunched(Fall::Stopped));
    let (failing, _) = refused(3, "exit-code", "exited with 143");
    assert!(matches!(failing, Outcome::Failing(_)), "{failing:?}");
}

/// `systemctl restart` is a stop and a start in one job, and a report may come from between the two.
#[test]
fn a_unit_that_systemd_is_about_to_start_is_left_to_it() {
    for active in [ActiveState::Inactive, ActiveState::Failed] {
        let mut agent = running();
        let between = UnitReport { has_job: true, ..down(&agent, active, "exited with 143") };
        assert_eq!(agent.reported(between, &at(5)), [Outcome::StateChanged]);
        assert_eq!(agent.next_start(), None);
        let canceled = down(&agent, active, "exited with 143");
        let relaunched = Outcome::Relaunched { after: Fall::Stopped, delay: T(1) };
        assert_eq!(agent.reported(canceled, &at(6)), [relaunched]);
    }
}

#[test]
fn a_relaunch_waits_for_the_end_of_a_shutdown() {
    let mut agent = running();
    gives_up(&mut agent, &at(5));
    assert_eq!(agent.time_passed(&going_down(6)), []);
    assert_eq!(agent.next_start(), Some(T(11)));
    assert_eq!(agent.time_passed(&at(11)), [Outcome::Start]);
}

#[test]
fn one_that_is_started_by_hand_during_the_delay_is_left_alone() {
    let mut agent = running();
    gives_up(&mut agent, &at(5));
    agent.reported(up(&agent, 11), &at(5));
    assert_eq!((agent.next_start(), agent.time_passed(&at(7))), (None, vec![]));
}

#[test]
fn a_start_that_fails_is_reported_with_its_reason() {
    let mut agent = agent("run");
    agent.missing(false, &at(0));
    let failed = JobOutcome::Failed("no such user `pi`".to_owned());
    let failure = Failure::NotStarted { reason: "no such user `pi`".to_owned(), delay: T(1) };
    assert_eq!(agent.start_finished(failed, &at(0)), [Outcome::Failing(failure)]);
    let reason = "was not started: no such user `pi`".to_owned();
    assert_eq!(agent.distance_to(&Goal::Running), Distance::Waiting { reason, until: T(1) });
}

#[test]
fn a_start_that_systemd_tries_again_is_reported_when_it_has_gone_on_for_a_while() {
    let mut agent = agent("run");
    agent.missing(false, &at(0));
    let trying = UnitReport { active: ActiveState::Activating, ..up(&agent, 0) };
    agent.reported(trying, &at(0));
    let failed = JobOutcome::Failed("it timed out".to_owned());
    assert_eq!(agent.start_finished(failed, &at(0)), []);
    let failure = Failure::Retried { reason: "it timed out".to_owned() };
    assert_eq!(agent.time_passed(&at(3)), [Outcome::Failing(failure)]);
    assert_eq!(agent.time_passed(&at(9)), []);
}

#[test]
fn processes_that_outlive_the_main_one_are_reported_after_a_while() {
    let mut agent = running();
    agent.reported(down(&agent, ActiveState::Deactivating, "exited with 0"), &at(5));
    assert_eq!(agent.time_passed(&at(7)), []);
    let exit = "exited with 0".to_owned();
    assert_eq!(agent.time_passed(&at(8)), [Outcome::Lingers { exit }]);
}

#[test]
fn nothing_is_started_before_the_old_process_is_gone() {
    let mut agent = running();
    assert_eq!(agent.restart(&at(5)), [Outcome::Stop]);
    assert_eq!(agent.restart(&at(5)), [], "it is under way");
    let failed = || JobOutcome::Failed("it timed out".to_owned());
    let reason = "it timed out".to_owned();
    assert_eq!(agent.stop_finished(failed(), &at(6)), [Outcome::NotStopped { reason }]);
    agent.restart(&at(7));
    agent.reported(down(&agent, ActiveState::Failed, "killed by SIGKILL"), &at(8));
    assert_eq!(agent.stop_finished(failed(), &at(8)), [Outcome::Start]);
}

#[test]
fn a_choice_stops_and_starts_and_lets_earlier_failures_go() {
    let mut agent = running();
    gives_up(&mut agent, &at(5));
    assert_eq!(agent.choose(&disabled(5)), [Outcome::Stop]);
    assert!(!agent.keeps_failing());
    assert_eq!(agent.distance_to(&Goal::Stopped), Distance::OnTheWay);
    agent.stop_finished(JobOutcome::Done, &disabled(6));
    assert_eq!(agent.distance_to(&Goal::Stopped), Distance::Reached);
    assert_eq!(agent.choose(&at(7)), [Outcome::Start]);
    let unknown = self::agent("run").choose(&disabled(0));
    assert_eq!(unknown, [], "before it is known what there is");
}

#[test]
fn another_definition_replaces_the_process_and_the_same_leaves_it_alone() {
    let mut same = agent("run");
    assert_eq!(same.succeed(running(), &at(5)), []);
    assert_eq!((same.is_running(), same.restart(&at(5))), (true, vec![Outcome::Stop]));
    let mut other = agent("run another");
    assert_eq!(other.succeed(running(), &at(5)), [Outcome::Stop]);
    assert_eq!(other.stop_finished(JobOutcome::Done, &at(6)), [Outcome::Start]);
    let mut unwanted = agent("run");
    assert_eq!(unwanted.succeed(running(), &disabled(5)), [Outcome::Stop]);
}

#[test]
fn answers_that_were_lost_with_the_connection_are_asked_for_again() {
    let mut starting = agent("run");
    starting.missing(false, &at(0));
    assert_eq!(starting.missing(false, &at(1)), [], "the answer is still to come");
    assert_eq!(starting.missing(true, &at(1)), [Outcome::Start]);
    let report = up(&starting, 10);
    starting.listed(report, true, &at(2));
    assert_eq!(starting.distance_to(&Goal::Running), Distance::Reached);
    let mut stopping = running();
    stopping.restart(&at(5));
    let report = up(&stopping, 10);
    assert_eq!(stopping.listed(report, true, &at(6)), [Outcome::Stop]);
    assert_eq!(stopping.missing(true, &at(7)), [Outcome::Start]);
}

#[test]
fn an_order_is_carried_out_when_another_process_runs() {
    let mut agent = running();
    let before = agent.last_invocation().map(str::to_owned);
    let goal = Goal::Started { before };
    assert_eq!(agent.distance_to(&goal), Distance::NotStopped);
    agent.restart(&at(5));
    assert_eq!(agent.distance_to(&goal), Distance::OnTheWay);
    agent.stop_finished(JobOutcome::Done, &at(6));
    agent.reported(up(&agent, 11), &at(6));
    agent.start_finished(JobOutcome::Done, &at(6));
    assert_eq!(agent.distance_to(&goal), Distance::Reached);
}
