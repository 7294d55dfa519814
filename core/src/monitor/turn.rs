//! One event on its way through the monitor.

use crate::model::action::Action;
use crate::model::alert::{Alert, AlertKind};
use crate::model::time::Now;
use std::time::Duration;

/// The time of a turn, and what is to be done at its end.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub now: Now,
    /// The same time as watched time, which moves where the turn finds out that it was another.
    pub watched: Duration,
    pub out: &'a mut Vec<Action>,
    /// Alerts among those before this place are noted for people elsewhere.
    pub noted: usize,
}

impl Turn<'_> {
    /// Tells a person of what concerns no device.
    pub fn raise(&mut self, kind: AlertKind, message: String) {
        self.out.push(Action::Raise(Alert::plain(kind, message)));
    }
}
