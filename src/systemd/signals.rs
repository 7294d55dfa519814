//! The signal pump: receives everything that systemd signals and marks it in the [`Inbox`].
//!
//! Two match rules cover all units (dbus-daemon allows 512 rules a connection, so rules for each
//! unit would silently stop working). Invariant: nothing here waits for anything but the next
//! signal.
//!
//! Every local user may send a signal to any connection, past all match rules, with any contents
//! except the sender, which the bus sets. Therefore a signal counts only from the connection that
//! owns the expected name, and on the expected interface and path. The bus reports the owners of
//! names in the same stream, so no signal of a new owner precedes the report of its ownership.

use super::condition::{Properties, ServiceCondition, UnitCondition};
use super::inbox::Inbox;
use super::proxy::{Meaning, SYSTEMD, SYSTEMD_PATH, UNIT_NAMESPACE, meaning};
use super::reading::{agent_of_path, may_be_agent};
use futures_util::StreamExt;
use iotmonitor_core::model::unit_name::UnitName;
use std::sync::Arc;
use zbus::message::{Header, Sequence, Type};
use zbus::names::OwnedUniqueName;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath};

/// The bus itself; no connection can own that name.
const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// The service that shuts the system down for people.
const LOGIN: &str = "org.freedesktop.login1";
const LOGIN_PATH: &str = "/org/freedesktop/login1";

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const LOGIN_MANAGER: &str = "org.freedesktop.login1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
const SERVICE_INTERFACE: &str = "org.freedesktop.systemd1.Service";

/// Units whose start means that this manager is going down (systemd.special(7)); `exit.target` is
/// a user manager's.
const SHUTDOWN_TARGETS: [&str; 2] = ["shutdown.target", "exit.target"];

/// Everything that reaches the connection as a signal.
pub(super) struct Signals {
    stream: MessageStream,
    systemd: NameOwner,
    login: NameOwner,
    /// The first of the two signals of a change, whose second comes next.
    service: Option<(UnitName, ServiceCondition)>,
}

/// The connection that owns a name, according to the latest report.
#[derive(Default)]
struct NameOwner {
    connection: Option<OwnedUniqueName>,
    /// The time of that report; an answer and a signal arrive on different ways.
    reported_at: Option<Sequence>,
}

impl NameOwner {
    /// Whether this was a change.
    fn learn(&mut self, connection: Option<OwnedUniqueName>, at: Sequence) -> bool {
        let newer = self.reported_at.is_none_or(|before| before < at);
        if newer {
            *self = Self { connection, reported_at: Some(at) };
        }
        newer
    }

    fn sent(&self, header: &Header<'_>) -> bool {
        self.connection.as_ref().is_some_and(|owner| header.sender() == Some(owner.inner()))
    }
}

impl Signals {
    /// Registers the match rules. Later signals reach [`Self::pump`]; of the signals meanwhile only
    /// the owners of names are noted.
    pub async fn listen(connection: &Connection) -> zbus::Result<Self> {
        let stream = MessageStream::from(connection);
        let (systemd, login) = (NameOwner::default(), NameOwner::default());
        let mut signals = Self { stream, systemd, login, service: None };
        // While the stream is not polled, answers do not arrive.
        let registration = register(connection);
        tokio::pin!(registration);
        let owners = loop {
            tokio::select! {
                owners = &mut registration => break owners?,
                message = signals.stream.next() => match message {
                    Some(message) => drop(signals.note_owner(&message?)),
                    None => return Err(zbus::Error::Failure(CLOSED.to_owned())),
                }
            }
        };
        for (name, (connection, at)) in owners {
            let owner = if name == SYSTEMD { &mut signals.systemd } else { &mut signals.login };
            owner.learn(Some(connection), at);
        }
        Ok(signals)
    }

    /// Runs until the connection closes, and notes that in the inbox.
    pub async fn pump(mut self, inbox: Arc<Inbox>) {
        let reason = loop {
            match self.stream.next().await {
                Some(Ok(message)) => self.take_in(&message, &inbox),
                Some(Err(error)) => break error.to_string(),
                None => break CLOSED.to_owned(),
            }
        };
        inbox.lose(reason);
    }

    /// Marks the contents of one signal. A change of an unknown shape has its unit checked; any other
    /// signal of one is ignored, since the periodic check would find what it means.
    fn take_in(&mut self, message: &Message, inbox: &Inbox) {
        if message.message_type() != Type::Signal {
            return;
        }
        let header = message.header();
        if self.systemd.sent(&header) {
            self.of_systemd(message, &header, inbox);
        } else if self.login.sent(&header) {
            of_login(message, &header, inbox);
        } else {
            match self.note_owner(message) {
                Some((SYSTEMD, is_there)) => {
                    self.service = None;
                    inbox.manager_owner(is_there);
                }
                // The service that announced a shutdown is gone, and can no longer cancel it.
                Some(_login) => inbox.shutdown_announced(false),
                None => {}
            }
        }
    }

    fn of_systemd(&mut self, message: &Message, header: &Header<'_>, inbox: &Inbox) {
        let service = self.service.take();
        let is_change = header.interface().is_some_and(|interface| interface == PROPERTIES)
            && header.member().is_some_and(|member| member == "PropertiesChanged");
        if !is_change {
            return of_manager(message, header, inbox);
        }
        let Some(unit) = header.path().and_then(|path| agent_of_path(path.as_str())) else {
            return;
        };
        let body = message.body();
        let changed = body.deserialize::<(&str, Properties<'_>, Vec<&str>)>();
        match changed {
            Ok((SERVICE_INTERFACE, properties, _)) => {
                self.service = ServiceCondition::signalled(&properties).map(|it| (unit, it));
            }
            Ok((UNIT_INTERFACE, properties, _)) => {
                let service = service.filter(|(of, _)| *of == unit).map(|(_, service)| service);
                let condition = service.and_then(|it| UnitCondition::signalled(it, &properties));
                match condition {
                    Some(condition) => inbox.changed(unit, condition),
                    None => inbox.touch(unit),
                }
            }
            Ok(_) | Err(_) => inbox.touch(unit),
        }
    }

    /// Notes the owner of a name, if the bus reports one: returns the name, and whether it has an
    /// owner.
    fn note_owner(&mut self, message: &Message) -> Option<(&'static str, bool)> {
        let header = message.header();
        let is_of_the_bus = message.message_type() == Type::Signal
            && header.sender().is_some_and(|sender| sender == BUS)
            && has(&header, BUS_PATH, BUS)
            && header.member().is_some_and(|member| member == "NameOwnerChanged");
        if !is_of_the_bus {
            return None;
        }
        let body = message.body();
        let (name, _, new): (&str, &str, &str) = body.deserialize().ok()?;
        let (name, owner) = match name {
            SYSTEMD => (SYSTEMD, &mut self.systemd),
            LOGIN => (LOGIN, &mut self.login),
            _ => return None,
        };
        let connection = OwnedUniqueName::try_from(new).ok();
        let is_there = connection.is_some();
        owner.learn(connection, message.recv_position()).then_some((name, is_there))
    }
}

const CLOSED: &str = "the bus closed the connection";

/// Registers the rules, only then queries the owners of the names, and notes those that have one.
async fn register(
    connection: &Connection,
) -> zbus::Result<Vec<(&'static str, (OwnedUniqueName, Sequence))>> {
    let bus = zbus::fdo::DBusProxy::new(connection).await?;
    let from = |sender: &'static str, interface: &'static str| {
        MatchRule::builder().msg_type(Type::Signal).sender(sender).interface(interface)
    };
    let owner = |name: &'static str| from(BUS, BUS).member("NameOwnerChanged").arg(0, name);
    let changes = |interface: &'static str| {
        from(SYSTEMD, PROPERTIES)
            .member("PropertiesChanged")
            .path_namespace(UNIT_NAMESPACE)
            .arg(0, interface)
    };
    for rule in [
        owner(SYSTEMD),
        owner(LOGIN),
        changes(SERVICE_INTERFACE),
        changes(UNIT_INTERFACE),
        from(SYSTEMD, MANAGER),
        // Only the system bus has logind, and not every system: a rule does not require a sender.
        from(LOGIN, LOGIN_MANAGER).member("PrepareForShutdown"),
    ] {
        bus.add_match_rule(rule.build()?).await?;
    }
    let mut owners = Vec::new();
    for name in [SYSTEMD, LOGIN] {
        let asked = connection.call_method(Some(BUS), BUS_PATH, Some(BUS), "GetNameOwner", &name);
        match asked.await {
            Ok(answer) => {
                owners.push((name, (answer.body().deserialize()?, answer.recv_position())));
            }
            Err(error) if meaning(&error) == Meaning::ManagerAway => {}
            Err(error) => return Err(error),
        }
    }
    Ok(owners)
}

fn has(header: &Header<'_>, path: &str, interface: &str) -> bool {
    header.path().is_some_and(|is| is.as_str() == path)
        && header.interface().is_some_and(|is| is.as_str() == interface)
}

fn of_manager(message: &Message, header: &Header<'_>, inbox: &Inbox) {
    let member = header.member().map_or("", |member| member.as_str());
    if !has(header, SYSTEMD_PATH, MANAGER) {
        return;
    }
    let body = message.body();
    match member {
        "UnitNew" | "UnitRemoved" => {
            if let Ok((name, _path)) = body.deserialize::<(&str, OwnedObjectPath)>()
                && may_be_agent(name)
            {
                inbox.touch(UnitName::from_systemd(name));
            }
        }
        "JobNew" => {
            if let Ok((_, _, unit)) = body.deserialize::<(u32, OwnedObjectPath, &str)>()
                && SHUTDOWN_TARGETS.contains(&unit)
            {
                inbox.check_state();
            }
        }
        "JobRemoved" => {
            if let Ok((_, job, unit, result)) =
                body.deserialize::<(u32, OwnedObjectPath, &str, &str)>()
            {
                // The flag of a shutdown is reset when it is cancelled.
                if SHUTDOWN_TARGETS.contains(&unit) {
                    inbox.check_state();
                }
                inbox.job_removed(&UnitName::from_systemd(unit), job, result.to_owned());
            }
        }
        "Reloading" => {
            if let Ok(active) = body.deserialize::<bool>() {
                inbox.reloading(active);
            }
        }
        // systemd has further signals (StartupFinished, UnitFilesChanged, …) that are of no
        // interest here.
        _ => {}
    }
}

fn of_login(message: &Message, header: &Header<'_>, inbox: &Inbox) {
    let is_announcement = has(header, LOGIN_PATH, LOGIN_MANAGER)
        && header.member().is_some_and(|member| member == "PrepareForShutdown");
    if is_announcement && let Ok(announced) = message.body().deserialize::<bool>() {
        inbox.shutdown_announced(announced);
    }
}
