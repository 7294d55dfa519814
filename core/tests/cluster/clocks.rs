//! The clock of each node, and what is due by it.

use super::World;
use iotmonitor_core::model::cluster::timing::STOP_BUDGET;
use std::time::Duration;

impl World {
    pub(super) fn kills(&self, node: usize) -> Option<Duration> {
        let this = &self.nodes[node];
        let guarded = this.guard.filter(|_| this.is_on)?;
        let at = self.true_time(node, guarded.deadline + STOP_BUDGET) + self.guard_late;
        Some(if this.is_frozen { at.max(this.paused_until?) } else { at })
    }

    pub(super) fn wakes(&self, node: usize) -> Option<Duration> {
        let this = &self.nodes[node];
        let local = this.monitor.as_ref()?.next_deadline(self.believed(node));
        let lied = this
            .deadline
            .zip(this.guard)
            .filter(|(deadline, guard)| local >= *deadline && self.local(node) < guard.deadline);
        Some(self.true_time(node, lied.map_or(local, |(_, guard)| guard.deadline)))
    }

    /// The time by a node's own clock, which counts from its boot.
    pub(super) fn local(&self, node: usize) -> Duration {
        let this = &self.nodes[node];
        let since = self.now.saturating_sub(this.booted_at).as_nanos() as i128;
        Duration::from_nanos((since + since * i128::from(this.rate) / 1_000_000) as u64)
    }

    /// With a mistaken deadline, the monitor does not see that the true one has passed.
    pub(super) fn believed(&self, node: usize) -> Duration {
        let this = &self.nodes[node];
        let local = self.local(node);
        match (this.deadline, this.guard) {
            (Some(deadline), Some(guard)) if local >= deadline && local < guard.deadline => {
                deadline - Duration::from_nanos(1)
            }
            _ => local,
        }
    }

    pub(super) fn true_time(&self, node: usize, local: Duration) -> Duration {
        let this = &self.nodes[node];
        let nanos = local.as_nanos() as i128 * 1_000_000 / i128::from(1_000_000 + this.rate);
        this.booted_at + Duration::from_nanos(nanos as u64 + 2)
    }
}
