//! The names of a monitor on the bus: claimed before it touches any unit, and never taken from
//! another owner.
//!
//! Besides its own name, every monitor queues for [`INSTANCES`]. That name is not an address: a
//! bus's policy admits callers by the names that the callee owns or queues for, so one rule in a
//! file that is the same everywhere covers every instance, whatever its clientid.

use super::authority::ANSWER_TIMEOUT;
use super::object::unescape;
use super::settings::BusSettings;
use super::well_known_name;
use crate::dbus::{backoff, connect};
use futures_util::StreamExt as _;
use std::num::NonZeroUsize;
use std::time::Duration;
use zbus::fdo::{DBusProxy, RequestNameFlags, RequestNameReply};
use zbus::message::Type;
use zbus::names::{OwnedUniqueName, WellKnownName};
use zbus::proxy::MethodFlags;
use zbus::{Connection, DBusError as _, MatchRule, MessageStream, OwnedObjectPath};

/// The name that all monitors queue for, and one of them owns.
const INSTANCES: &str = "org.iotmonitor.Instances";

/// The name of the monitor that is a node of a cluster. It is not an address either.
const NODE: &str = "org.iotmonitor.Node";

const BUS: &str = "org.freedesktop.DBus";
const SYSTEMD: &str = "org.freedesktop.systemd1";

/// A start waits no longer for the bus, or for a predecessor that does not end: watching matters
/// more than reachability for commands.
const PATIENCE: Duration = Duration::from_secs(5);

/// The delay between two tries of a start.
const PAUSE: Duration = Duration::from_millis(100);

/// The number of received calls that wait; those behind them wait at the bus.
const CALL_QUEUE: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// A connection that owns the monitor's name, with the calls that arrive over it.
#[derive(Debug)]
pub struct OwnedName {
    pub(super) connection: Connection,
    pub(super) calls: MessageStream,
    /// Fires when the name is lost.
    pub(super) losses: MessageStream,
}

/// The result of a claim.
#[derive(Debug)]
pub enum NameClaim<T = Box<OwnedName>> {
    Made(T),
    /// The bus is away or refuses, or a predecessor has not ended yet: the claim must be repeated
    /// later.
    Pending,
    /// Another process is this monitor.
    Held(Holder),
}

/// The owner of the monitor's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// The unit that the process belongs to, where it belongs to one.
    pub unit: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.unit {
            Some(unit) => write!(f, "PID {} ({unit})", self.pid),
            None => write!(f, "PID {}", self.pid),
        }
    }
}

/// Explains why the name could not be claimed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NameError {
    #[error("the bus cannot be reached: {0}")]
    Away(#[from] zbus::Error),
    #[error("the bus does not answer")]
    Silent,
    /// Another connection owns it, given by its unique name.
    #[error("another process has the name")]
    Taken { connection: Connection, owner: OwnedUniqueName },
    #[error("the bus refuses the name: {0}")]
    Forbidden(String),
}

/// Claims the name as a monitor that starts: waits for a predecessor of its own unit that is about
/// to end, and identifies any other owner of the name. Ends within [`PATIENCE`].
pub async fn claim(settings: &BusSettings) -> NameClaim {
    within_patience(try_to_claim(|| offer(settings))).await
}

/// The place of the machine's only monitor that is a node of a cluster, for as long as it is kept.
#[derive(Debug)]
pub struct NodePlace {
    connection: Connection,
}

/// Claims that place in the same way, since a machine has one guard.
pub async fn claim_node(settings: &BusSettings) -> NameClaim<NodePlace> {
    within_patience(try_to_claim(|| offer_node(settings))).await
}

/// Keeps that place, or takes it as soon as it is free, for as long as this runs. A bus that has been
/// away knows no names.
pub async fn keep_node(settings: BusSettings, mut place: Option<NodePlace>) {
    let mut backoff = backoff();
    loop {
        let offered = match place.take() {
            Some(place) => Ok(place),
            None => offer_node(&settings).await,
        };
        if let Ok(place) = offered {
            backoff.reset();
            // Nobody has anything to say to it.
            let mut messages = MessageStream::from(&place.connection);
            while let Some(Ok(_)) = messages.next().await {}
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn within_patience<T>(claim: impl Future<Output = NameClaim<T>>) -> NameClaim<T> {
    tokio::time::timeout(PATIENCE, claim).await.unwrap_or(NameClaim::Pending)
}

async fn try_to_claim<T>(offer: impl AsyncFn() -> Result<T, NameError>) -> NameClaim<T> {
    let mut suspect = None;
    loop {
        match offer().await {
            Ok(place) => return NameClaim::Made(place),
            Err(NameError::Taken { connection, owner }) => {
                let holder = holder(&connection, &owner).await;
                // A process that has just ended may still appear to exist, so it is checked twice.
                if let Some(holder) = holder.filter(|holder| !holder.is_predecessor)
                    && suspect.replace(owner.clone()) == Some(owner)
                {
                    return NameClaim::Held(holder.process);
                }
            }
            Err(NameError::Away(_) | NameError::Silent | NameError::Forbidden(_)) => {
                return NameClaim::Pending;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn offer_node(settings: &BusSettings) -> Result<NodePlace, NameError> {
    let address = settings.bus_address.as_deref();
    let connection = connect(settings.bus, address, ANSWER_TIMEOUT).await?;
    let bus = DBusProxy::new(&connection).await?;
    let name = WellKnownName::from_static_str_unchecked(NODE);
    match bus.request_name(name.clone(), RequestNameFlags::DO_NOT_QUEUE).await {
        Ok(RequestNameReply::PrimaryOwner | RequestNameReply::AlreadyOwner) => {
            Ok(NodePlace { connection })
        }
        Ok(RequestNameReply::Exists | RequestNameReply::InQueue) => {
            let owner = bus.get_name_owner(name.into()).await.map_err(zbus::Error::from)?;
            Err(NameError::Taken { connection, owner })
        }
        Err(error) if is_denial(&error) => Err(NameError::Forbidden(error.to_string())),
        Err(error) => Err(NameError::Away(error.into())),
    }
}

/// Connects, listens to calls, and only then takes the name, so that no call to the name is lost.
pub(super) async fn offer(settings: &BusSettings) -> Result<Box<OwnedName>, NameError> {
    let name = well_known_name(&settings.client_id).ok_or(zbus::Error::InvalidName("clientid"))?;
    let name = WellKnownName::try_from(name)?;
    // polkit is queried over this connection.
    let address = settings.bus_address.as_deref();
    let connection = connect(settings.bus, address, ANSWER_TIMEOUT).await?;
    let loss = MatchRule::builder().msg_type(Type::Signal).sender(BUS).interface(BUS);
    let loss = loss.member("NameLost").arg(0, name.as_str()).build()?.to_owned();
    let losses = MessageStream::for_match_rule(loss, &connection, None).await?;
    let bus = DBusProxy::new(&connection).await?;
    let rule = MatchRule::builder().msg_type(Type::MethodCall).build()?;
    let mut calls = MessageStream::for_match_rule(rule, &connection, Some(CALL_QUEUE)).await?;
    // Where the policy does not know this name, as on a bus without the project's files, it is not
    // needed.
    let instances = WellKnownName::from_static_str_unchecked(INSTANCES);
    let _ = passing_over(&mut calls, bus.request_name(instances, RequestNameFlags::empty())).await;
    let request = bus.request_name(name.as_ref(), RequestNameFlags::DO_NOT_QUEUE);
    let refusal = match passing_over(&mut calls, request).await {
        Ok(RequestNameReply::PrimaryOwner | RequestNameReply::AlreadyOwner) => {
            return Ok(Box::new(OwnedName { connection, calls, losses }));
        }
        Ok(RequestNameReply::Exists | RequestNameReply::InQueue) => None,
        Err(error) if is_denial(&error) => Some(error),
        Err(error) => return Err(NameError::Away(error.into())),
    };
    drop(calls);
    match (bus.get_name_owner(name.into()).await, refusal) {
        (Ok(owner), _) => Err(NameError::Taken { connection, owner }),
        (Err(_), Some(denial)) => {
            Err(NameError::Forbidden(denial.description().unwrap_or("access denied").to_owned()))
        }
        // The owner has gone between the two queries.
        (Err(error), None) => Err(NameError::Away(error.into())),
    }
}

/// Waits for an answer of the bus, and meanwhile skips calls: a sender of calls before the name is
/// owned can only know the connection. Left in their queue, they would fill it, and then nothing
/// more would arrive, including the answer. Messages after the answer stay in the queue.
async fn passing_over<T>(calls: &mut MessageStream, answer: impl Future<Output = T>) -> T {
    tokio::pin!(answer);
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            Some(_) = calls.next() => {}
        }
    }
}

fn is_denial(error: &zbus::fdo::Error) -> bool {
    error.name() == "org.freedesktop.DBus.Error.AccessDenied"
}

pub(super) struct Suspect {
    pub process: Holder,
    /// Whether the owner belongs to the unit whose main process this is: one that systemd has
    /// killed already, and that is stuck in the kernel.
    is_predecessor: bool,
}

/// The process behind a connection; `None` where that cannot be determined, or it has gone.
pub(super) async fn holder(connection: &Connection, owner: &OwnedUniqueName) -> Option<Suspect> {
    let bus = DBusProxy::new(connection).await.ok()?;
    let pid = bus.get_connection_unix_process_id(owner.inner().clone().into()).await.ok()?;
    let unit = unit_of(connection, pid).await?;
    if unit.is_none() && !exists(pid) {
        return None;
    }
    let own_pid = std::process::id();
    // Children of a service have the variable too, but its value is not their own process id
    // (systemd.exec(5)).
    let is_service = std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == own_pid.to_string());
    let is_predecessor =
        is_service && unit.is_some() && unit_of(connection, own_pid).await.flatten() == unit;
    Some(Suspect { process: Holder { pid, unit }, is_predecessor })
}

/// The unit of a process, `Some(None)` where it has none, and `None` where systemd does not answer.
async fn unit_of(connection: &Connection, pid: u32) -> Option<Option<String>> {
    let path = "/org/freedesktop/systemd1";
    let interface = "org.freedesktop.systemd1.Manager";
    let systemd = zbus::Proxy::new(connection, SYSTEMD, path, interface).await.ok()?;
    let flags = MethodFlags::NO_AUTO_START;
    match systemd.call_with_flags("GetUnitByPID", flags, &pid).await {
        Ok(path) => {
            let path: OwnedObjectPath = path?;
            Some(unescape(path.as_str().rsplit('/').next()?))
        }
        Err(zbus::Error::MethodError(..)) => Some(None),
        // A bus without systemd has no units; a service's systemd comes back.
        Err(zbus::Error::FDO(error)) if is_without_systemd(&error) && !is_service() => Some(None),
        Err(_) => None,
    }
}

/// Whether this is the main process of a service. Its children have the variable too, but its value
/// is not their own process id (systemd.exec(5)).
fn is_service() -> bool {
    let own = std::process::id().to_string();
    std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == own)
}

fn is_without_systemd(error: &zbus::fdo::Error) -> bool {
    matches!(
        error.name().as_str(),
        "org.freedesktop.DBus.Error.ServiceUnknown" | "org.freedesktop.DBus.Error.NameHasNoOwner"
    )
}

fn exists(pid: u32) -> bool {
    use nix::errno::Errno;
    use nix::sys::signal::kill;
    use nix::unistd::Pid;
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
}
