//! Units that people have named for alerts (`alertUnit`): what becomes of them is told once.
//!
//! Deliberately absent: which alert starts one, which is the alert's own matter, and how many are
//! started at a time, which is the adapter's.

use crate::model::action::Action;
use crate::model::alert::{Alert, AlertKind};
use crate::model::unit::JobOutcome;
use crate::model::unit_name::UnitTemplate;
use crate::model::words::counted;
use crate::monitor::Monitor;
use crate::monitor::turn::Turn;

impl Monitor {
    /// An instance has ended, or could not be started.
    pub(super) fn alert_unit_finished(
        &mut self,
        turn: &mut Turn<'_>,
        template: UnitTemplate,
        outcome: JobOutcome,
    ) {
        match outcome {
            JobOutcome::Done => {
                self.failing_units.remove(&template);
            }
            JobOutcome::Failed(reason) => {
                let message = format!(
                    "alertUnit `{template}` fails ({reason}): nobody hears of alerts by it until it \
                     works again"
                );
                if self.failing_units.insert(template) {
                    turn.raise(AlertKind::AlertUnitFailed, message);
                }
            }
        }
    }
}

/// So many alerts in a row started no unit, since too many waited.
pub(super) fn alerts_dropped(turn: &mut Turn<'_>, count: u64, template: UnitTemplate) {
    let alerts = counted(usize::try_from(count).unwrap_or(usize::MAX), "alert");
    let message = format!(
        "{alerts} started no unit, since too many waited for `{template}` already: \
         `journalctl -u iotmonitor -p warning` shows them"
    );
    let kind = AlertKind::AlertsDropped;
    turn.out.push(Action::Raise(Alert { starts: Some(template), ..Alert::plain(kind, message) }));
}
