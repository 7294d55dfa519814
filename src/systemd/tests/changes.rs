//! What a signal says of a unit is not asked for again, unless it may be old or is not all.

use super::{JOB_PATH, MANAGER, PROPERTIES, Peer, SYSTEMD_PATH, TestBench, UNIT, UNIT_PATH, path};
use crate::systemd::properties::tests::shell;
use iotmonitor_core::model::cluster::sharing::{Tenure, WhenCut};
use iotmonitor_core::model::cluster::store::Revision;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::spec::AgentSpec;
use iotmonitor_core::model::unit::{ActiveState, JobOutcome, SharedUnit, UnitReport};
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::HashMap;
use std::time::Duration;
use zbus::Variant;

const NONE: [&str; 0] = [];

/// A unit that systemd does not list.
const NEW_UNIT: (&str, &str) = (
    "iotmonitor-agent-new.service",
    "/org/freedesktop/systemd1/unit/iotmonitor_2dagent_2dnew_2eservice",
);

/// What systemd signals with a change of a unit.
#[derive(Clone, Copy)]
pub(super) struct SignalledChange {
    pub path: &'static str,
    pub main_pid: u32,
    pub active: &'static str,
    pub result: &'static str,
    /// The number of its job.
    pub job: u32,
    pub changed_at: u64,
}

impl SignalledChange {
    /// The unit is up, with this process of the tests as its main process.
    pub fn up(changed_at: u64) -> Self {
        let main_pid = std::process::id();
        Self { path: UNIT_PATH, main_pid, active: "active", result: "success", job: 0, changed_at }
    }

    /// Both halves of it.
    pub async fn signal(self, from: &Peer, to: Option<&str>) {
        self.signal_service(from, to).await;
        self.signal_unit(from, to).await;
    }

    async fn signal_service(self, from: &Peer, to: Option<&str>) {
        let properties = HashMap::from([
            ("MainPID", Variant::from(self.main_pid)),
            ("NRestarts", Variant::from(3_u32)),
            ("Result", Variant::from(self.result)),
            ("ExecMainCode", Variant::from(2_i32)),
            ("ExecMainStatus", Variant::from(9_i32)),
            ("ExecMainExitTimestamp", Variant::from(1_700_000_000_500_000_u64)),
        ]);
        let body = ("org.freedesktop.systemd1.Service", properties, NONE.to_vec());
        from.signal(to, self.path, PROPERTIES, "PropertiesChanged", &body).await;
    }

    async fn signal_unit(self, from: &Peer, to: Option<&str>) {
        let job = path(&format!("/org/freedesktop/systemd1/job/{}", self.job));
        let properties = HashMap::from([
            ("ActiveState", Variant::from(self.active)),
            ("Job", Variant::from((self.job, job))),
            ("InvocationID", Variant::from(vec![0x0a_u8, 0xff])),
            ("StateChangeTimestampMonotonic", Variant::from(self.changed_at)),
        ]);
        let body = ("org.freedesktop.systemd1.Unit", properties, NONE.to_vec());
        from.signal(to, self.path, PROPERTIES, "PropertiesChanged", &body).await;
    }
}

/// Removes a job that the adapter waits for.
async fn end_job(stage: &TestBench, unit: &str, result: &str) {
    let removed = (1_u32, path(JOB_PATH), unit, result);
    stage.systemd.signal(None, SYSTEMD_PATH, MANAGER, "JobRemoved", &removed).await;
}

async fn until_asked(stage: &TestBench, call: &str) {
    while !stage.asked.lock().unwrap().iter().any(|it| it == call) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A unit is started, whose job goes on.
async fn start(stage: &TestBench, (unit, place): (&'static str, &'static str)) {
    stage.asked.lock().unwrap().clear();
    let created = (unit, path(place));
    let unit = UnitName::from_systemd(unit);
    let tenure = Tenure { epoch: Revision(7), when_cut: WhenCut::Keep };
    let agent = Box::new(AgentSpec { unit, ..shell() });
    stage.handle.start(DeviceName::new("new").unwrap(), agent, "abc".to_owned(), Some(tenure));
    until_asked(stage, "StartTransientUnit").await;
    stage.systemd.signal(None, SYSTEMD_PATH, MANAGER, "UnitNew", &created).await;
}

/// Everything that was signalled has been handled when this returns.
async fn settle(stage: &mut TestBench) {
    for (state, stopping) in [("stopping", true), ("running", false)] {
        stage.change(|truth| truth.state = state);
        let job = (2_u32, path(JOB_PATH), "shutdown.target");
        stage.systemd.signal(None, SYSTEMD_PATH, MANAGER, "JobNew", &job).await;
        assert_eq!(stage.next().await, Event::SystemState { stopping });
    }
    stage.asked.lock().unwrap().retain(|call| call != "Get");
}

#[tokio::test]
async fn a_unit_that_was_started_is_not_asked_for() {
    let mut stage = TestBench::set().await;
    start(&stage, NEW_UNIT).await;
    let up = SignalledChange { path: NEW_UNIT.1, ..SignalledChange::up(2_001) };
    let starting = SignalledChange { active: "activating", main_pid: 0, job: 1, ..up };
    SignalledChange { changed_at: 2_000, ..starting }.signal(&stage.systemd, None).await;
    // Its job has not been removed yet when the unit is up.
    SignalledChange { job: 1, ..up }.signal(&stage.systemd, None).await;
    end_job(&stage, NEW_UNIT.0, "done").await;

    let Event::UnitChanged(report) = stage.next().await else { panic!() };
    let unit = UnitName::from_systemd(NEW_UNIT.0);
    let agent = DeviceName::new("new").unwrap();
    let expected = UnitReport {
        unit: unit.clone(),
        active: ActiveState::Active,
        has_job: false,
        main_pid: std::process::id(),
        invocation: "0aff".to_owned(),
        restarts: 3,
        result: "success".to_owned(),
        last_exit: Some("killed by SIGKILL".to_owned()),
        ended_at: Some(Duration::from_millis(1_700_000_000_500)),
        definition: Some("abc".to_owned()),
        shared: Some(SharedUnit { agent, epoch: Revision(7) }),
    };
    assert_eq!(*report, expected);
    assert_eq!(stage.next().await, Event::StartFinished { unit, outcome: JobOutcome::Done });
    up.signal(&stage.systemd, None).await;
    settle(&mut stage).await;
    assert_eq!(*stage.asked.lock().unwrap(), ["StartTransientUnit"]);

    // What it was created with is known from then on.
    SignalledChange { main_pid: 1, changed_at: 2_002, ..up }.signal(&stage.systemd, None).await;
    let Event::UnitChanged(report) = stage.next().await else { panic!() };
    assert_eq!(*report, UnitReport { main_pid: 1, ..expected });
    assert_eq!(*stage.asked.lock().unwrap(), ["StartTransientUnit"]);
}

/// The process may have ended before the end of its job is heard of, and the unit may have gone.
#[tokio::test]
async fn a_unit_that_was_started_and_does_not_run_is_asked_for() {
    for is_gone in [false, true] {
        let mut stage = TestBench::set().await;
        start(&stage, (UNIT, UNIT_PATH)).await;
        let up = SignalledChange { job: 1, ..SignalledChange::up(2_000) };
        up.signal(&stage.systemd, None).await;
        if is_gone {
            let unit = (UNIT, path(UNIT_PATH));
            stage.systemd.signal(None, SYSTEMD_PATH, MANAGER, "UnitRemoved", &unit).await;
        } else {
            let ended = SignalledChange { main_pid: 0, changed_at: 2_001, ..up };
            ended.signal(&stage.systemd, None).await;
        }
        stage.change(|truth| truth.main_pid = 0);
        end_job(&stage, UNIT, "done").await;
        stage.expect_main_pid(0).await;
        assert!(matches!(stage.next().await, Event::StartFinished { .. }));
        settle(&mut stage).await;
        assert_eq!(*stage.asked.lock().unwrap(), ["StartTransientUnit", "GetUnit", "GetAll"]);
    }
}

/// The signals and the answers take different ways.
#[tokio::test]
async fn what_may_be_older_than_the_last_answer_is_asked_for() {
    let mut stage = TestBench::set().await;
    stage.change(|truth| (truth.main_pid, truth.changed_at) = (18, 3_000));
    stage.systemd.report_unit().await;
    stage.expect_main_pid(18).await;
    for changed_at in [2_999, 3_000] {
        stage.asked.lock().unwrap().clear();
        SignalledChange::up(changed_at).signal(&stage.systemd, None).await;
        settle(&mut stage).await;
        assert_eq!(*stage.asked.lock().unwrap(), ["GetUnit", "GetAll"]);
    }
    // Changes that leave the state as it is follow one that does not.
    for main_pid in [20, 21] {
        let change = SignalledChange { main_pid, ..SignalledChange::up(3_001) };
        change.signal(&stage.systemd, None).await;
        stage.expect_main_pid(main_pid).await;
    }
    assert_eq!(*stage.asked.lock().unwrap(), ["GetUnit", "GetAll"]);
}

#[tokio::test]
async fn a_unit_that_has_failed_is_asked_for_also_with_a_process() {
    let mut stage = TestBench::set().await;
    stage.change(|truth| truth.main_pid = 18);
    let failed = SignalledChange { result: "watchdog", ..SignalledChange::up(2_000) };
    failed.signal(&stage.systemd, None).await;
    stage.expect_main_pid(18).await;
}

/// Between the two halves of a change, systemd signals nothing else.
#[tokio::test]
async fn halves_of_different_changes_are_no_knowledge() {
    let mut stage = TestBench::set().await;
    let change = SignalledChange::up(2_000);
    let other = SignalledChange { path: NEW_UNIT.1, ..change };
    for (main_pid, is_of_a_job) in [(18, true), (19, false)] {
        stage.change(|truth| truth.main_pid = main_pid);
        change.signal_service(&stage.systemd, None).await;
        if is_of_a_job {
            end_job(&stage, UNIT, "done").await;
        } else {
            other.signal_service(&stage.systemd, None).await;
        }
        change.signal_unit(&stage.systemd, None).await;
        stage.expect_main_pid(main_pid).await;
    }
}

#[tokio::test]
async fn what_strangers_signal_between_the_halves_is_no_part_of_them() {
    let mut stage = TestBench::set().await;
    stage.change(|truth| truth.main_pid = 18);
    stage.systemd.report_unit().await;
    stage.expect_main_pid(18).await;
    stage.asked.lock().unwrap().clear();
    let stranger = Peer::join(&stage.bus).await;
    let change = SignalledChange::up(2_000);
    let forged = SignalledChange { main_pid: 666, changed_at: 9_000, ..change };
    for name in stage.our_names(&[&stranger]).await {
        change.signal_service(&stage.systemd, None).await;
        forged.signal(&stranger, Some(&name)).await;
        forged.signal_unit(&stranger, Some(&name)).await;
    }
    change.signal_unit(&stage.systemd, None).await;
    stage.expect_main_pid(change.main_pid).await;
    assert_eq!(*stage.asked.lock().unwrap(), [""; 0]);
}

/// A unit of that name may be another one now, or nobody's.
#[tokio::test]
async fn a_new_unit_is_asked_for_whatever_is_signalled_of_it() {
    let mut stage = TestBench::set().await;
    stage.change(|truth| truth.main_pid = 18);
    // While systemd reloads, no unit is checked.
    stage.systemd.signal(None, SYSTEMD_PATH, MANAGER, "Reloading", &true).await;
    stage.systemd.report_unit().await;
    SignalledChange::up(2_000).signal(&stage.systemd, None).await;
    stage.systemd.signal(None, SYSTEMD_PATH, MANAGER, "Reloading", &false).await;
    stage.expect_main_pid(18).await;
}
