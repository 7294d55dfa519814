//! Decides who may command the daemon: its own user, root, and on the system bus every user that
//! polkit authorizes.
//!
//! A user's bus admits no other user. Reading needs no authorization. Answers are not cached here;
//! polkit keeps those that may be kept.

use super::error::BusError;
use crate::dbus::Bus;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::Semaphore;
use zbus::message::{Flags, Header};
use zbus::{Connection, Variant};

/// The polkit action of commands; its defaults are in org.iotmonitor.policy.
const ACTION: &str = "org.iotmonitor.manage";

const POLKIT: &str = "org.freedesktop.PolicyKit1";

/// polkit may ask a person for a password meanwhile.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// The number of requests that wait for polkit's answer; one user has at most one.
pub(super) const MOST_QUESTIONS: usize = 4;

/// polkit may ask the person at the caller's session (org.freedesktop.PolicyKit1.Authority,
/// CheckAuthorizationFlags).
const ALLOW_USER_INTERACTION: u32 = 1;

/// Whether a user may command without authorization by polkit.
pub(super) fn is_trusted(user: u32) -> bool {
    user == 0 || user == nix::unistd::geteuid().as_raw()
}

/// Succeeds when the sender of this call may command. Queries polkit over the connection that the
/// call arrived on, and waits for its turn.
///
/// # Errors
/// Returns [`BusError::Denied`] when the user may not command, or when polkit does not answer or is
/// missing.
pub(super) async fn may_command(
    bus: Bus,
    connection: &Connection,
    questions: &Semaphore,
    user: u32,
    call: &Header<'_>,
) -> Result<(), BusError> {
    if is_trusted(user) {
        return Ok(());
    }
    if bus == Bus::User {
        return Err(denied("this monitor belongs to another user"));
    }
    let sender = call.sender().ok_or_else(|| denied("the caller has no name on the bus"))?;
    let interactive = call.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    // The semaphore is never closed.
    let _turn = questions.acquire().await.map_err(|_| denied("iotmonitor is shutting down"))?;
    match ask_polkit(connection, sender.as_str(), interactive).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(denied(&format!("polkit does not allow it ({ACTION})"))),
        Err(error) => Err(denied(&format!("polkit cannot be asked: {error}"))),
    }
}

async fn ask_polkit(
    connection: &Connection,
    sender: &str,
    interactive: bool,
) -> zbus::Result<bool> {
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

fn denied(reason: &str) -> BusError {
    BusError::Denied(reason.to_owned())
}
