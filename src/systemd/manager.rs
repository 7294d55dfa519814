//! The interface to systemd: keeps a session alive, and passes it the units to start and stop.
//!
//! A shutdown is never delayed. The manager's own state shows that one is coming; logind's
//! announcement shows it a moment earlier, but may be withdrawn.

use super::alert_units::{AlertOrder, AlertUnits};
use super::condition::Markers;
use super::former::{self, FormerUnits};
use super::guard_unit::GuardUnit;
use super::inbox::Inbox;
use super::jobs::{self, NewUnit};
use super::properties::{ManagerOwner, refuse_swayed, transient};
use super::proxy::words;
use super::session::ManagerSession;
use super::signals::Signals;
use super::units::{Lost, UnitWatcher};
use crate::dbus::{Bus, CALL_TIMEOUT, backoff, connect};
use crate::pulse::Pulse;
use iotmonitor_core::model::cluster::sharing::Tenure;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::spec::AgentSpec;
use iotmonitor_core::model::unit::{JobOutcome, SharedUnit, UnitsOutcome};
use iotmonitor_core::model::unit_name::UnitName;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

/// The number of concurrent jobs. PID 1 uses a match rule of its connection for each; dbus-daemon
/// allows 512 and disconnects it beyond.
const MAX_JOBS: usize = 16;

/// The number of waiting operations: one for each agent at most.
const QUEUE_LENGTH: usize = 4096;

/// A session that lasted this long was good: after its loss the next try is immediate.
const GOOD_SESSION: Duration = Duration::from_secs(10);

/// The service manager, and the instance that its units belong to.
#[derive(Debug, Clone)]
pub struct ManagerSettings {
    pub bus: Bus,
    /// Identifies the instance in its units' markers.
    pub client_id: String,
    /// The directory in which units started for alerts find the description of the event.
    pub alert_directory: PathBuf,
    /// The D-Bus address instead of the bus's well-known one.
    pub bus_address: Option<String>,
}

/// Requests operations; cheap to clone. When the last one is dropped the adapter ends.
#[derive(Debug, Clone)]
pub struct ManagerHandle {
    operations: mpsc::Sender<Operation>,
    alerts: AlertUnits,
    guard: GuardUnit,
    events: mpsc::Sender<Event>,
}

#[derive(Debug)]
enum Operation {
    Start { device: DeviceName, agent: Box<AgentSpec>, definition: String, tenure: Option<Tenure> },
    Stop { unit: UnitName },
    StopFormer(FormerUnits),
    AskState,
}

impl Operation {
    /// The event that reports an operation which failed before it began.
    fn failed(self, reason: &str) -> Event {
        let outcome = JobOutcome::Failed(reason.to_owned());
        match self {
            Operation::Start { agent, .. } => Event::StartFinished { unit: agent.unit, outcome },
            Operation::Stop { unit } => Event::StopFinished { unit, outcome },
            // Nothing is known of a shutdown.
            Operation::AskState => Event::SystemState { stopping: false },
            Operation::StopFormer(FormerUnits { client_id, .. }) => {
                let outcome = UnitsOutcome::Failed { reason: reason.to_owned() };
                Event::FormerUnitsStopped { client_id, outcome }
            }
        }
    }
}

/// Starts the adapter; needs a tokio runtime. It reports [`Event::SystemState`] and
/// [`Event::ManagerConnected`], or [`Event::ManagerLost`], first, then every change. The pulse
/// beats twice a second.
///
/// When `events` is full, reports wait; systemd's signals are still received.
#[must_use]
pub fn spawn(
    settings: ManagerSettings,
    events: mpsc::Sender<Event>,
    pulse: Pulse,
) -> ManagerHandle {
    let (operations, queue) = mpsc::channel(QUEUE_LENGTH);
    let (current_sender, current) = watch::channel(None);
    let owner = match settings.bus {
        Bus::System => None,
        Bus::User => Some(ManagerOwner::of_this_process()),
    };
    let client_id = settings.client_id.clone();
    let directory = settings.alert_directory.clone();
    let alerts = AlertUnits::new(current.clone(), events.clone(), directory);
    let guard = GuardUnit::new(current.clone());
    tokio::spawn(carry_out(queue, current, events.clone(), client_id, owner));
    tokio::spawn(keep_session(settings, current_sender, events.clone(), pulse));
    ManagerHandle { operations, alerts, guard, events }
}

impl ManagerHandle {
    /// Creates and starts an agent's unit, or leaves it as it is if it lives. Answered by exactly
    /// one [`Event::StartFinished`], which an [`Event::UnitChanged`] precedes if it ran; there is
    /// no answer without a session or when it ends first, and the core asks again with the next
    /// one.
    pub fn start(
        &self,
        device: DeviceName,
        agent: Box<AgentSpec>,
        definition: String,
        tenure: Option<Tenure>,
    ) {
        self.queue(Operation::Start { device, agent, definition, tenure });
    }

    /// Stops a unit and removes it. Answered like [`Self::start`], by [`Event::StopFinished`].
    pub fn stop(&self, unit: UnitName) {
        self.queue(Operation::Stop { unit });
    }

    /// Stops the units that a former clientid has started. Answered like [`Self::start`], by
    /// [`Event::FormerUnitsStopped`].
    pub fn stop_former(&self, former: FormerUnits) {
        self.queue(Operation::StopFormer(former));
    }

    /// Asks whether the system stops. Answered by [`Event::SystemState`] if there is a session.
    pub fn ask_system_state(&self) {
        self.queue(Operation::AskState);
    }

    /// What starts the guard of a node in a cluster.
    #[must_use]
    pub fn guard(&self) -> GuardUnit {
        self.guard.clone()
    }

    /// Starts a unit for a notification. Answered by [`Event::NotificationEnded`].
    pub fn alert(&self, order: AlertOrder) {
        self.alerts.start(order);
    }

    /// Removes the file of an instance that has failed.
    pub fn drop_alert_file(&self, instance: &str) {
        self.alerts.drop_file(instance);
    }

    fn queue(&self, operation: Operation) {
        // The queue is full only when more than 4,096 agents request an operation at once; then the
        // operation fails, and may be requested again.
        let (operation, reason) = match self.operations.try_send(operation) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(operation)) => (operation, "too many operations"),
            Err(mpsc::error::TrySendError::Closed(operation)) => (operation, "shutting down"),
        };
        let event = operation.failed(reason);
        let events = self.events.clone();
        tokio::spawn(async move { events.send(event).await });
    }
}

/// The session that carries out the operations, if there is one.
type Current = Option<Arc<ManagerSession>>;

/// Hands the operations to the session in order, at most [`MAX_JOBS`] at a time.
async fn carry_out(
    mut queue: mpsc::Receiver<Operation>,
    current: watch::Receiver<Current>,
    events: mpsc::Sender<Event>,
    client_id: String,
    owner: Option<ManagerOwner>,
) {
    let turns = Arc::new(Semaphore::new(MAX_JOBS));
    let shared = Arc::new((client_id, owner));
    while let Some(operation) = queue.recv().await {
        // The semaphore is never closed.
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        // The loss of the session is reported separately; the outcome of interrupted operations is
        // unknown.
        let Some(session) = current.borrow().clone() else { continue };
        let (events, shared) = (events.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let event = tokio::select! {
                event = carry_out_one(&session, operation, &shared.0, shared.1.as_ref()) => event,
                () = session.inbox.lost() => return,
            };
            drop(turn);
            // This fails only when the daemon has ended and no longer needs the result.
            let _ = events.send(event).await;
        });
    }
}

/// Returns the event that reports the end.
async fn carry_out_one(
    session: &ManagerSession,
    operation: Operation,
    client_id: &str,
    owner: Option<&ManagerOwner>,
) -> Event {
    match operation {
        Operation::Start { device, agent, definition, tenure } => {
            if let Err(error) = look_for_sway(owner, &agent).await {
                let outcome = JobOutcome::Failed(error);
                return Event::StartFinished { unit: agent.unit, outcome };
            }
            let outcome = match transient(owner, client_id, &device, &agent, &definition, tenure) {
                Ok(properties) => {
                    let shared = tenure.map(|it| SharedUnit { agent: device, epoch: it.epoch });
                    let markers = Markers { definition: Some(definition), shared };
                    jobs::start(session, &agent.unit, &NewUnit { properties, markers }).await
                }
                Err(error) => JobOutcome::Failed(error.to_string()),
            };
            Event::StartFinished { unit: agent.unit, outcome }
        }
        Operation::Stop { unit } => {
            let outcome = jobs::stop(session, &unit).await;
            Event::StopFinished { unit, outcome }
        }
        Operation::AskState => {
            let is_expected = session.inbox.shutdown_expected();
            let stopping = is_expected || session.is_stopping().await.unwrap_or(false);
            Event::SystemState { stopping }
        }
        Operation::StopFormer(former) => {
            let outcome = former::stop(session, &former).await;
            Event::FormerUnitsStopped { client_id: former.client_id, outcome }
        }
    }
}

/// Refuses credentials whose source others could have replaced.
async fn look_for_sway(owner: Option<&ManagerOwner>, agent: &AgentSpec) -> Result<(), String> {
    if owner.is_some() || agent.credentials.is_empty() {
        return Ok(());
    }
    let agent = agent.clone();
    match tokio::task::spawn_blocking(move || refuse_swayed(&agent)).await {
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// Connects and reconnects for as long as the receiver exists.
async fn keep_session(
    settings: ManagerSettings,
    current: watch::Sender<Current>,
    events: mpsc::Sender<Event>,
    pulse: Pulse,
) {
    let mut backoff = backoff();
    let mut loss_reported = false;
    loop {
        let begun = Instant::now();
        let reason = tokio::select! {
            reason = one_session(&settings, &current, &events, &pulse, &mut loss_reported) => reason,
            () = current.closed() => return,
        };
        let _ = current.send(None);
        if begun.elapsed() > GOOD_SESSION {
            backoff.reset();
        }
        if !loss_reported {
            loss_reported = true;
            if events.send(Event::ManagerLost { reason }).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = pulse.beat_during(tokio::time::sleep(backoff.next_delay())) => {}
            () = current.closed() => return,
        }
    }
}

/// One session from connecting to its loss; returns the reason of the loss.
async fn one_session(
    settings: &ManagerSettings,
    current: &watch::Sender<Current>,
    events: &mpsc::Sender<Event>,
    pulse: &Pulse,
    loss_reported: &mut bool,
) -> String {
    let (session, _pump) = match pulse.beat_during(open(settings)).await {
        Ok(opened) => opened,
        Err(error) => return words(&error),
    };
    let session = Arc::new(session);
    let mut watcher = UnitWatcher::new(&session, events, pulse);
    let lost = match watcher.begin().await {
        Ok(()) => {
            *loss_reported = false;
            // This precedes the report of the connection, because the resulting actions need the
            // session.
            let _ = current.send(Some(Arc::clone(&session)));
            watcher.run().await
        }
        Err(lost) => lost,
    };
    let Lost(reason) = lost;
    session.inbox.lose(reason.clone());
    reason
}

/// Opens two connections: signals are received on the first before any call is made on the second.
async fn open(settings: &ManagerSettings) -> zbus::Result<(ManagerSession, Pump)> {
    let address = settings.bus_address.as_deref();
    let signal_connection = connect(settings.bus, address, CALL_TIMEOUT).await?;
    let inbox = Arc::new(Inbox::default());
    let signals = Signals::listen(&signal_connection).await?;
    let pump = Pump(tokio::spawn(signals.pump(Arc::clone(&inbox))).abort_handle());
    let calls = connect(settings.bus, address, CALL_TIMEOUT).await?;
    let session = ManagerSession::new(calls, inbox, settings.client_id.clone()).await?;
    Ok((session, pump))
}

/// The task that receives the signals; it ends with its owner.
struct Pump(tokio::task::AbortHandle);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}
