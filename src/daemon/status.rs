//! What systemd and connected clients are shown of the monitor: that it is ready, and its figures.

use super::{Daemon, READY_PATIENCE};
use crate::systemd::notify;
use iotmonitor_core::model::notice::Notice;
use iotmonitor_core::model::view::Summary;
use iotmonitor_core::model::words::counted;

/// The notifications that systemd still expects: that the store has been opened or has failed, and
/// that the agents' units have been requested or cannot be.
#[derive(Debug)]
pub(super) struct Readiness {
    pub(super) store: bool,
    pub(super) manager: bool,
    pub(super) is_reported: bool,
}

impl Daemon<'_> {
    pub(super) fn report_ready(&mut self) {
        let Readiness { store, manager, is_reported } = self.readiness;
        let settled = store && (manager || self.monitor.summary().agents == 0);
        if is_reported || !(settled || self.start.elapsed() >= READY_PATIENCE) {
            return;
        }
        self.readiness.is_reported = true;
        notify::ready();
        let keep = self.settings.history_keep;
        self.adapters.begin_history(&self.options.state_directory, keep);
    }

    /// Updates the status line for `systemctl status`, and sends the same figures to connected
    /// clients, when they change.
    pub(super) fn report_status(&mut self) {
        let summary = self.monitor.summary();
        // This one may change with every message of a stranger.
        let figures = Summary { names_refused: 0, ..summary };
        if self.reported != Some(figures) {
            self.reported = Some(figures);
            notify::status(&status_line(&summary, &self.settings.mqtt.server.to_string()));
            self.adapters.notify(Notice::SummaryChanged(summary));
        }
    }
}

fn status_line(summary: &Summary, server: &str) -> String {
    let connection = if summary.watching { "connected to" } else { "waiting for" };
    let devices = counted(summary.devices, "device");
    let mut line = format!("{connection} {server} · {devices}, {} expired", summary.expired);
    if summary.agents > 0 {
        let agents = counted(summary.agents, "agent");
        line.push_str(&format!(" · {agents}, {} running", summary.agents_running));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_says_all_on_one_line() {
        let summary = Summary {
            watching: true,
            devices: 12,
            expired: 1,
            agents: 3,
            agents_running: 3,
            ..Summary::default()
        };
        assert_eq!(
            status_line(&summary, "tcp://localhost:1883"),
            "connected to tcp://localhost:1883 · 12 devices, 1 expired · 3 agents, 3 running"
        );
    }
}
