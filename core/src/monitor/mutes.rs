//! Silences: a device is watched, published and recorded as usual, but notifications are suppressed
//! for a time.

use super::Monitor;
use super::turn::Turn;
use crate::model::alert::AlertKind;
use crate::model::device_name::DeviceName;
use crate::model::words::RoundedDuration;
use std::time::Duration;

impl Monitor {
    /// A person suppresses notifications about a device, or about everything, for this long.
    pub(super) fn silence(&mut self, turn: &mut Turn<'_>, of: Option<DeviceName>, span: Duration) {
        let message = format!(
            "notifications about {} are suppressed for {}, or until `{} unsilence {}`",
            subject(of.as_ref()),
            RoundedDuration(span),
            self.command,
            of.as_ref().map_or("--all", DeviceName::as_str)
        );
        self.report_mute(turn, AlertKind::Silenced, of.as_ref(), message);
        self.mutes.set(of.clone(), turn.now.boot, span);
        self.show_mute(turn, of.as_ref());
        self.save_mutes(turn);
    }

    /// A person resumes notifications; events from the meantime that are still true are reported.
    pub(super) fn unsilence(&mut self, turn: &mut Turn<'_>, of: Option<DeviceName>) {
        if self.mutes.end(&of) {
            self.mute_is_over(turn, of.as_ref());
            self.save_mutes(turn);
        }
    }

    /// Ends the silences whose time is over.
    pub(super) fn mutes_due(&mut self, turn: &mut Turn<'_>) {
        if self.mutes.next(turn.now.boot).is_none_or(|left| !left.is_zero()) {
            return;
        }
        for of in self.mutes.take_ended(turn.now.boot) {
            self.mute_is_over(turn, of.as_ref());
        }
        self.save_mutes(turn);
    }

    fn mute_is_over(&mut self, turn: &mut Turn<'_>, of: Option<&DeviceName>) {
        let message = format!("notifications about {} are sent again", subject(of));
        self.report_mute(turn, AlertKind::Unsilenced, of, message);
        self.show_mute(turn, of);
        self.start_notifications(turn);
    }

    fn report_mute(
        &self,
        turn: &mut Turn<'_>,
        kind: AlertKind,
        of: Option<&DeviceName>,
        message: String,
    ) {
        match of.and_then(|name| self.id_named(name)) {
            // The node that has it reports it.
            Some(id) if self.devices[id].monitoring.is_elsewhere() => {}
            Some(id) => turn.out.push(self.device_alert(id, kind, message)),
            None => turn.raise(kind, message),
        }
    }

    /// Connected clients see it at once.
    fn show_mute(&mut self, turn: &mut Turn<'_>, of: Option<&DeviceName>) {
        if let Some(id) = of.and_then(|name| self.id_named(name)) {
            self.report_state(turn, id);
        }
    }

    fn save_mutes(&mut self, turn: &mut Turn<'_>) {
        self.saving.hurry_if(true);
        self.flush_saves(turn);
    }

    /// Whether a person has silenced the device, or everything, by that name.
    #[must_use]
    pub fn is_silenced_itself(&self, of: Option<&DeviceName>) -> bool {
        self.mutes.holds(of)
    }
}

fn subject(of: Option<&DeviceName>) -> String {
    of.map_or_else(|| "anything".to_owned(), |name| format!("`{name}`"))
}
