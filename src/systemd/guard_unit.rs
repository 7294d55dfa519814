//! The guard of this node in a cluster, which is a unit of the package.

use super::jobs::{self, JobFailure};
use super::properties::GUARD;
use super::proxy::words;
use super::session::ManagerSession;
use iotmonitor_core::model::unit_name::UnitName;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// Starts the guard; cheap to clone.
#[derive(Clone)]
pub struct GuardUnit {
    current: watch::Receiver<Option<Arc<ManagerSession>>>,
}

impl fmt::Debug for GuardUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardUnit").finish_non_exhaustive()
    }
}

impl GuardUnit {
    pub(super) fn new(current: watch::Receiver<Option<Arc<ManagerSession>>>) -> Self {
        Self { current }
    }

    /// Starts the guard, and waits until it is ready, for which it needs a lease. One that is about
    /// to end is started after that.
    ///
    /// # Errors
    /// Returns the reason in words.
    pub async fn start(&self) -> Result<(), String> {
        let session = self.current.borrow().clone();
        let session = session.ok_or("systemd cannot be reached")?;
        let unit = UnitName::from_systemd(GUARD);
        let started = tokio::select! {
            started = jobs::run_existing(&session, &unit) => started,
            () = session.inbox.lost() => return Err("systemd has left the bus".to_owned()),
        };
        started.map_err(|failure| match failure {
            JobFailure::Final(sentence) => sentence,
            JobFailure::Call(error) => format!("systemd refused it: {}", words(&error)),
        })
    }
}
