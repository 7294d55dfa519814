//! The way to the guard: the renewal thread sends each renewal itself, and a task of the loop sees to
//! it that there is a guard to send them to.

use super::super::boot_clock;
use crate::guard::{DIRECTORY, GuardClient, last_renewal};
use crate::systemd::guard_unit::GuardUnit;
use iotmonitor_core::machines::cluster::Guarded;
use iotmonitor_core::model::cluster::timing::LEASE;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// A guard that is being started listens some time after its process began, and is ready only with
/// a lease.
const OFFER_EVERY: Duration = Duration::from_millis(20);

/// What has become of the guard.
#[derive(Debug, PartialEq, Eq)]
pub enum GuardNews {
    Up,
    /// It could not be started, for this reason. Reported each time.
    Failed(String),
}

/// Shared by the loop, the renewal thread and [`keep`].
#[derive(Clone, Default)]
pub struct GuardLink(Arc<SharedLink>);

#[derive(Default)]
struct SharedLink {
    state: Mutex<LinkState>,
    changed: Notify,
}

#[derive(Default)]
struct LinkState {
    client: Option<GuardClient>,
    /// The last confirmed renewal.
    lease: Option<Guarded>,
}

impl GuardLink {
    fn state(&self) -> MutexGuard<'_, LinkState> {
        // No code that holds the lock can panic in the middle of a change.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a confirmed renewal to the guard. It does not wait, and a guard that is only being
    /// started gets it there.
    pub fn renew(&self, guarded: Guarded) -> io::Result<()> {
        let mut state = self.state();
        state.lease = Some(guarded);
        let sent = state.client.as_ref().map_or(Ok(()), |client| client.renew(guarded));
        if sent.is_err() {
            state.client = None;
        }
        drop(state);
        self.0.changed.notify_waiters();
        sent
    }

    /// Connects to the guard of an earlier process if it lives and its lease is in force. Returns
    /// the lease.
    pub fn find(&self) -> Option<Guarded> {
        let guarded = last_renewal(Path::new(DIRECTORY)).filter(is_in_force)?;
        let client = connect().ok()?;
        *self.state() = LinkState { client: Some(client), lease: Some(guarded) };
        Some(guarded)
    }

    /// Whether a guard with a lease in force listens.
    pub fn is_heard(&self) -> bool {
        connect().is_ok() && !self.has_expired()
    }

    /// Whether the last lease has ended, or there is none.
    pub fn has_expired(&self) -> bool {
        !self.state().lease.as_ref().is_some_and(is_in_force)
    }

    /// Gives up the guard. Another one is started as soon as there is a lease.
    pub fn disconnect(&self) {
        self.state().client = None;
        self.0.changed.notify_waiters();
    }

    /// The lease has ended.
    pub fn forget_lease(&self) {
        self.state().lease = None;
    }

    /// Returns whether the last lease has ended by this time of the boot clock, once for each lease.
    pub fn end_lease(&self, boot: Duration) -> bool {
        let mut state = self.state();
        state.lease.take_if(|lease| lease.deadline <= boot).is_some()
    }

    /// Waits for a renewal that was sent after this time.
    pub async fn renewed_after(&self, time: Duration) {
        self.when(|state| state.lease.is_some_and(|lease| lease.deadline >= time + LEASE)).await;
    }

    /// Waits for a lease without a guard.
    async fn wanted(&self) {
        self.when(|state| state.client.is_none() && state.lease.as_ref().is_some_and(is_in_force))
            .await;
    }

    async fn when(&self, holds: impl Fn(&LinkState) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    /// Sends the last renewal to whichever guard listens. One that is about to end does not take it.
    fn offer(&self) -> Option<GuardClient> {
        let client = connect().ok()?;
        let lease = self.state().lease?;
        client.renew(lease).ok()?;
        Some(client)
    }

    /// Sends further renewals to this guard, and the last one again, since there may be a newer one.
    fn attach(&self, client: GuardClient) {
        let mut state = self.state();
        if state.lease.is_none_or(|lease| client.renew(lease).is_ok()) {
            state.client = Some(client);
        }
    }
}

fn connect() -> io::Result<GuardClient> {
    GuardClient::connect(Path::new(DIRECTORY))
}

fn is_in_force(guarded: &Guarded) -> bool {
    boot_clock() < guarded.deadline
}

/// Starts the guard whenever there is a lease and no guard, for as long as this process lives.
pub async fn keep(link: GuardLink, unit: GuardUnit, news: mpsc::Sender<GuardNews>) {
    let mut backoff = crate::dbus::backoff();
    loop {
        link.wanted().await;
        let outcome = match start(&link, &unit).await {
            Ok(()) => {
                backoff.reset();
                GuardNews::Up
            }
            // The lease has ended meanwhile, without which no guard starts.
            Err(_) if link.has_expired() => continue,
            Err(reason) => GuardNews::Failed(reason),
        };
        let has_failed = outcome != GuardNews::Up;
        if news.send(outcome).await.is_err() {
            return;
        }
        if has_failed {
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

async fn start(link: &GuardLink, unit: &GuardUnit) -> Result<(), String> {
    let started = unit.start();
    tokio::pin!(started);
    loop {
        tokio::select! {
            result = &mut started => {
                result?;
                break;
            }
            () = tokio::time::sleep(OFFER_EVERY) => drop(link.offer()),
        }
    }
    let client = link.offer().ok_or("it has ended at once")?;
    link.attach(client);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::cluster::SessionId;

    #[test]
    fn a_lease_ends_once_at_its_deadline() {
        let link = GuardLink::default();
        assert!(!link.end_lease(Duration::MAX), "there is none");
        for n in 1..=2 {
            let deadline = LEASE * n;
            let session = SessionId { boot: 1, number: 2 };
            link.renew(Guarded { session, n: n.into(), deadline }).unwrap();
            assert!(!link.end_lease(deadline - Duration::from_nanos(1)));
            assert!(link.end_lease(deadline));
            assert!(!link.end_lease(deadline));
        }
    }
}
