//! Stops the units that a former clientid has started.
//!
//! These units carry the former clientid's marker instead of this monitor's, so no other part here
//! handles them.

use super::jobs::{JobFailure, clear};
use super::proxy::words;
use super::reading::UnitReading;
use super::session::ManagerSession;
use futures_util::{StreamExt as _, stream};
use iotmonitor_core::model::unit::UnitsOutcome;
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::BTreeSet;

/// The number of units stopped at the same time. Each may take as long as its TimeoutStopSec.
const AT_ONCE: usize = 8;

/// The units to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerUnits {
    pub client_id: String,
    /// The name on the bus that a monitor of this clientid owns, where it can have one.
    pub bus_name: Option<String>,
    pub units: Vec<UnitName>,
}

/// Stops the units that carry the marker of the clientid, unless a running monitor uses it.
pub(super) async fn stop(session: &ManagerSession, former: &FormerUnits) -> UnitsOutcome {
    match stop_all(session, former).await {
        Ok(Some(count)) => UnitsOutcome::Stopped { count },
        Ok(None) => UnitsOutcome::InUse,
        Err(JobFailure::Call(error)) => UnitsOutcome::Failed { reason: words(&error) },
        Err(JobFailure::Final(reason)) => UnitsOutcome::Failed { reason },
    }
}

/// Returns `None` where a running monitor uses the clientid.
async fn stop_all(
    session: &ManagerSession,
    former: &FormerUnits,
) -> Result<Option<usize>, JobFailure> {
    if let Some(name) = &former.bus_name
        && session.is_owned(name).await?
    {
        return Ok(None);
    }
    let wanted: BTreeSet<&UnitName> = former.units.iter().collect();
    let there = session.list().await?.into_iter().map(|(unit, ..)| unit);
    let there: Vec<UnitName> = there.filter(|unit| wanted.contains(unit)).collect();
    let stop_one = async |unit: UnitName| match session.read_as(&unit, &former.client_id).await? {
        UnitReading::Own(report) => {
            let watch = session.inbox.watch(&unit);
            clear(session, &watch, &unit, report.active).await.map(|()| 1)
        }
        UnitReading::Absent | UnitReading::Foreign { .. } => Ok(0),
    };
    let outcomes: Vec<Result<usize, JobFailure>> =
        stream::iter(there).map(stop_one).buffer_unordered(AT_ONCE).collect().await;
    outcomes.into_iter().try_fold(0, |sum, one| Ok(sum + one?)).map(Some)
}
