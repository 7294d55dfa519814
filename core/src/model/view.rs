//! The view of a device for people and programs: a copy that is made for each request.

use std::sync::Arc;
use std::time::Duration;

/// The present state of one device or agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceView {
    pub name: String,
    pub state: Liveness,
    /// The reason of the alarm, if there is one (see [`super::alert::Reason`]).
    pub reason: Option<String>,
    /// Of the last change of `state`, since the Unix epoch.
    pub since: Duration,
    /// Since the Unix epoch; `None` if there never was one.
    pub last_contact: Option<Duration>,
    /// The fleet that it was learned by; `None` for a device of the configuration.
    pub fleet: Option<String>,
    /// The area of the house in which it is.
    pub area: Option<Arc<str>>,
    /// The devices and agents through which it is heard.
    pub depends_on: Vec<String>,
    /// `None` never expires.
    pub watch_timeout: Option<Duration>,
    /// The timeout is derived from the learned silences.
    pub auto_timeout: bool,
    /// Of its silences between contacts; `None` where there was none yet.
    pub learned: Option<Learned>,
    /// Messages on `helloTopic` since the monitor started.
    pub hellos: u64,
    /// When a person's `disable --for` ends, since the Unix epoch.
    pub disabled_until: Option<Duration>,
    /// When the silence of its notifications ends (`silence`), since the Unix epoch.
    pub silenced_until: Option<Duration>,
    /// The node that has it, where several share it.
    pub node: Option<String>,
    /// The revision of the plan by which this node has it; `None` where another one has it.
    pub epoch: Option<u64>,
    /// People have not been notified of the alarm, because the alert waits for the state of another
    /// device. Only where several nodes share it.
    pub is_unsent: bool,
    pub agent: Option<AgentView>,
}

impl DeviceView {
    /// `device` or `agent`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        if self.agent.is_some() { "agent" } else { "device" }
    }
}

/// The process of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentView {
    pub unit: String,
    /// systemd's ActiveState.
    pub state: String,
    /// 0 when there is no main process.
    pub main_pid: u32,
    /// The restarts that were observed over all runs of the monitor, whatever their cause.
    pub restarts: u64,
    /// How its last process ended, or the reason why there was none.
    pub last_exit: Option<String>,
    /// When that was, since the Unix epoch.
    pub last_exit_at: Option<Duration>,
    /// The time of the next try, since the Unix epoch; `None` while systemd decides it.
    pub next_start: Option<Duration>,
}

/// Figures for the status line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whether the watch connection is established and its subscriptions are acknowledged.
    pub watching: bool,
    pub devices: usize,
    pub expired: usize,
    pub agents: usize,
    pub agents_running: usize,
    /// The store cannot be used at present.
    pub store_fails: bool,
    /// Messages since the start from which no device was learned, although a fleet was to: the name
    /// was refused, or the fleet is full.
    pub names_refused: u64,
    pub notifications: NotificationsSummary,
}

/// The delivery of alerts to people elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotificationsSummary {
    /// Devices and other subjects with undelivered notifications.
    pub pending: usize,
    /// Whether the last one was delivered; `None` before there was one.
    pub last_delivered: Option<bool>,
    /// All notifications are suppressed for a time.
    pub silenced: bool,
}

/// What `status/NAME` calls `state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Liveness {
    /// No contact yet.
    #[default]
    Unknown,
    Alive,
    Expired,
    Disabled,
    /// An agent that another node of the cluster has, or none at the moment.
    Elsewhere,
}

impl Liveness {
    /// What every device can be, in the order of their names.
    pub const ALL: [Self; 4] = [Self::Alive, Self::Disabled, Self::Expired, Self::Unknown];

    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Elsewhere]).find(|state| state.as_str() == name)
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Alive => "alive",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// The learned silences of a device, as a person would describe them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    pub intervals: u32,
    /// Half of its silences are at most this long, and one in a hundred is longer.
    pub usual: Duration,
    pub rare: Duration,
    pub longest: Duration,
    /// `None` before enough is learned.
    pub proposed: Option<Duration>,
}
