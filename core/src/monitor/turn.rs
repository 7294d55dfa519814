//! One event on its way through the monitor.

use crate::model::action::Action;
use crate::model::alert::{Alert, AlertKind};
use crate::model::time::Now;
use std::time::Duration;

/// The time of a turn, and its actions.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub now: Now,
    /// The same time as watched time, which moves where the turn finds that it was different.
    pub watched: Duration,
    pub out: &'a mut Vec<Action>,
    /// Alerts before this index have been passed on for notification.
    pub noted: usize,
}

impl Turn<'_> {
    /// Reports a condition that concerns no device.
    pub fn raise(&mut self, kind: AlertKind, message: String) {
        self.out.push(Action::Raise(Alert::plain(kind, message)));
    }
}
