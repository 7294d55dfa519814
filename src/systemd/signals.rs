//! The signal pump: takes in everything that systemd tells and marks it in the [`Inbox`].
//!
//! One match rule covers all units (dbus-daemon allows 512 rules a connection, so one for each
//! unit would silently go deaf). Invariant: nothing here waits for anything but the next signal.

use super::inbox::Inbox;
use super::proxy::{SYSTEMD, UNIT_NAMESPACE};
use super::reading::{agent_of_path, may_be_agent};
use futures_util::StreamExt;
use iotmonitor_core::unit_name::UnitName;
use std::sync::Arc;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, message::Type};

/// Units whose start means that this manager is going down (systemd.special(7)); `exit.target` is
/// a user manager's.
const SHUTDOWN_TARGETS: [&str; 2] = ["shutdown.target", "exit.target"];

/// Registers the match rules; what happens from now on reaches [`pump`].
pub(super) async fn listen(connection: &Connection) -> zbus::Result<MessageStream> {
    let bus = zbus::fdo::DBusProxy::new(connection).await?;
    let signal = || MatchRule::builder().msg_type(Type::Signal);
    for rule in [
        signal()
            .sender(SYSTEMD)
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .path_namespace(UNIT_NAMESPACE)
            .build()?,
        signal().sender(SYSTEMD).interface("org.freedesktop.systemd1.Manager").build()?,
        signal()
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .arg(0, SYSTEMD)
            .build()?,
        // Only the system bus has it, and not every system: a rule does not ask for a sender.
        signal()
            .sender("org.freedesktop.login1")
            .interface("org.freedesktop.login1.Manager")
            .member("PrepareForShutdown")
            .build()?,
    ] {
        bus.add_match_rule(rule).await?;
    }
    Ok(MessageStream::from(connection))
}

/// Runs until the connection closes, and says so in the inbox.
pub(super) async fn pump(mut stream: MessageStream, inbox: Arc<Inbox>) {
    let reason = loop {
        match stream.next().await {
            Some(Ok(message)) => take_in(&message, &inbox),
            Some(Err(error)) => break error.to_string(),
            None => break "the bus closed the connection".to_owned(),
        }
    };
    inbox.lose(reason);
}

/// Marks what one signal tells. One of an unknown shape is passed over: the slow re-check would
/// make up for it.
fn take_in(message: &Message, inbox: &Inbox) {
    if message.message_type() != Type::Signal {
        return;
    }
    let header = message.header();
    let Some(member) = header.member() else { return };
    match member.as_str() {
        "PropertiesChanged" => {
            if let Some(unit) = header.path().and_then(|path| agent_of_path(path.as_str())) {
                inbox.touch(unit);
            }
        }
        "UnitNew" | "UnitRemoved" => {
            if let Ok((name, _path)) = message.body().deserialize::<(&str, OwnedObjectPath)>()
                && may_be_agent(name)
            {
                inbox.touch(UnitName::from_systemd(name));
            }
        }
        "JobNew" => {
            if let Ok((_, _, unit)) = message.body().deserialize::<(u32, OwnedObjectPath, &str)>()
                && SHUTDOWN_TARGETS.contains(&unit)
            {
                inbox.shutdown_queued();
            }
        }
        "JobRemoved" => {
            if let Ok((_, job, unit, result)) =
                message.body().deserialize::<(u32, OwnedObjectPath, &str, &str)>()
            {
                inbox.job_removed(&UnitName::from_systemd(unit), job, result.to_owned());
            }
        }
        "PrepareForShutdown" => {
            if let Ok(announced) = message.body().deserialize::<bool>() {
                inbox.shutdown_announced(announced);
            }
        }
        "Reloading" => {
            if let Ok(active) = message.body().deserialize::<bool>() {
                inbox.reloading(active);
            }
        }
        "NameOwnerChanged" => {
            if let Ok((_, _, new)) = message.body().deserialize::<(&str, &str, &str)>() {
                inbox.manager_owner(!new.is_empty());
            }
        }
        // systemd has more signals (StartupFinished, UnitFilesChanged, …) that mean nothing here.
        _ => {}
    }
}
