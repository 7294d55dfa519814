//! Who may command the daemon: its own user, root, and on the system bus whoever polkit allows.
//!
//! A user's bus lets nobody else in. Deliberately absent: the right to look, which everybody has,
//! and any memory of answers; polkit keeps those that may be kept.

use super::calls::Error;
use crate::dbus::{Bus, connect};
use std::collections::HashMap;
use std::time::Duration;
use zbus::message::{Flags, Header};
use zbus::{Connection, Variant};

/// The action that polkit is asked about; its defaults are in org.iotmonitor.policy.
const ACTION: &str = "org.iotmonitor.manage";

const POLKIT: &str = "org.freedesktop.PolicyKit1";

/// polkit may ask a person for a password meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// polkit may ask the person behind the caller (org.freedesktop.PolicyKit1.Authority,
/// CheckAuthorizationFlags).
const ALLOW_USER_INTERACTION: u32 = 1;

/// Succeeds when the sender of this call may command.
///
/// # Errors
/// [`Error::Denied`] when it may not, also when polkit does not answer or is not there.
pub(super) async fn may_command(
    bus: Bus,
    connection: &Connection,
    call: &Header<'_>,
) -> Result<(), Error> {
    let sender = call.sender().ok_or_else(|| denied("the caller has no name on the bus"))?;
    let daemon = zbus::fdo::DBusProxy::new(connection).await?;
    let user = daemon
        .get_connection_unix_user(sender.clone().into())
        .await
        .map_err(|error| denied(&format!("the bus does not know who asks: {error}")))?;
    if user == 0 || user == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    if bus == Bus::User {
        return Err(denied("this monitor belongs to another user"));
    }
    let interactive = call.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    match ask_polkit(sender.as_str(), interactive).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(denied(&format!("polkit does not allow it ({ACTION})"))),
        Err(error) => Err(denied(&format!("polkit cannot be asked: {error}"))),
    }
}

/// Over a connection of its own, for the answer may take longer than any other.
async fn ask_polkit(sender: &str, interactive: bool) -> zbus::Result<bool> {
    let connection = connect(Bus::System, None, ANSWER_TIMEOUT).await?;
    let subject = ("system-bus-name", HashMap::from([("name", Variant::from(sender))]));
    let details: HashMap<&str, &str> = HashMap::new();
    let flags = if interactive { ALLOW_USER_INTERACTION } else { 0 };
    let cancellation = "";
    let reply = connection
        .call_method(
            Some(POLKIT),
            "/org/freedesktop/PolicyKit1/Authority",
            Some("org.freedesktop.PolicyKit1.Authority"),
            "CheckAuthorization",
            &(subject, ACTION, details, flags, cancellation),
        )
        .await?;
    let (allowed, _could_ask, _details): (bool, bool, HashMap<String, String>) =
        reply.body().deserialize()?;
    Ok(allowed)
}

fn denied(reason: &str) -> Error {
    Error::Denied(reason.to_owned())
}
