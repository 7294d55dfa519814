//! An alert is an episode with a reason, from the alarm to its end.
//!
//! An episode begins when a device falls silent or says that it is gone, or when an agent keeps
//! failing. Its reason is what `status/NAME`, the journal and D-Bus show of it.

use super::device::{Device, Liveness};
use super::words::Span;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Why there is an alarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No contact for as long as its watchTimeOut, and nothing else is known.
    #[default]
    Silent,
    /// Its availabilityTopic says that it is gone.
    LwtOffline,
    /// systemd cannot keep its process up.
    AgentFailed,
    /// Its process lives, and it is silent all the same.
    AgentHung,
}

impl Reason {
    pub const ALL: &[Reason] =
        &[Reason::Silent, Reason::LwtOffline, Reason::AgentFailed, Reason::AgentHung];

    /// As `status/NAME` and the journal field `IOTMONITOR_REASON` say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::LwtOffline => "lwt-offline",
            Self::AgentFailed => "agent-failed",
            Self::AgentHung => "agent-hung",
        }
    }
}

impl Device {
    /// Why there is an alarm, if there is one.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        if !self.is_enabled() {
            return None;
        }
        if self.agent.as_ref().is_some_and(|agent| agent.keeps_failing()) {
            return Some(Reason::AgentFailed);
        }
        let expired = self.liveness() == Liveness::Expired;
        expired.then_some(if self.is_gone() { Reason::LwtOffline } else { self.cause })
    }

    /// What a silence that is noticed now is put down to.
    pub(super) fn cause_of_silence(&self) -> Reason {
        let lives = self.agent.as_ref().is_some_and(|agent| agent.is_running());
        if lives { Reason::AgentHung } else { Reason::Silent }
    }

    /// What its expiry is told with; `wall` is the present time.
    pub(super) fn expired_sentence(&self, wall: Duration) -> String {
        let (noun, name) = (super::liveness::noun(self), &self.spec.name);
        let contact = match self.last_contact {
            Some(contact) => format!("last contact {} ago", Span(wall.saturating_sub(contact))),
            None => "no contact yet".to_owned(),
        };
        if self.is_gone() {
            return format!("{noun} `{name}` is gone, its availabilityTopic says: {contact}");
        }
        let timeout = Span(self.spec.watch_timeout.unwrap_or_default());
        let pid = self.agent.as_ref().and_then(|agent| agent.report.as_ref());
        match pid.map(|report| report.main_pid).filter(|_| self.cause == Reason::AgentHung) {
            Some(pid) => format!(
                "agent `{name}` hangs, its process (PID {pid}) lives and is silent: {contact}, \
                 watchTimeOut is {timeout}"
            ),
            None => format!("{noun} `{name}` is silent: {contact}, watchTimeOut is {timeout}"),
        }
    }
}
