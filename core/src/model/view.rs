//! What people and programs may see of a device: a copy that is made for each request.

use std::time::Duration;

/// One device or agent as the monitor holds it at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceView {
    pub name: String,
    pub state: Liveness,
    /// Why there is an alarm, if there is one (see [`super::alert::Reason`]).
    pub reason: Option<String>,
    /// Of the last change of `state`, since the Unix epoch.
    pub since: Duration,
    /// Since the Unix epoch; `None` if there never was one.
    pub last_contact: Option<Duration>,
    /// `None` never expires.
    pub watch_timeout: Option<Duration>,
    /// The timeout follows from what is learned.
    pub auto_timeout: bool,
    /// Of its silences between contacts; `None` where there was none yet.
    pub learned: Option<Learned>,
    /// Messages on `helloTopic` since the monitor started.
    pub hellos: u64,
    /// When a person's `disable --for` is over, since the Unix epoch.
    pub disabled_until: Option<Duration>,
    /// Until when nobody is told about it (`silence`), since the Unix epoch.
    pub silenced_until: Option<Duration>,
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
    /// Restarts that were seen since the monitor started, whatever caused them.
    pub restarts: u64,
    /// How its last process that has ended did so, in words, or why there was none.
    pub last_exit: Option<String>,
    /// When that was, since the Unix epoch.
    pub last_exit_at: Option<Duration>,
    /// When it is tried again, since the Unix epoch; `None` while that is systemd's business.
    pub next_start: Option<Duration>,
}

/// Figures for the status line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whether the watch connection stands and its subscriptions are acknowledged.
    pub watching: bool,
    pub devices: usize,
    pub expired: usize,
    pub agents: usize,
    pub agents_running: usize,
    /// The store cannot be used at the moment.
    pub store_fails: bool,
    pub notifications: NotificationsSummary,
}

/// How alerts reach people elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotificationsSummary {
    /// Devices and other subjects about which something is still to be told.
    pub pending: usize,
    /// Whether the last one was told; `None` before there was one.
    pub last_told: Option<bool>,
    /// Nobody is told about anything, for a time.
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
}

impl Liveness {
    /// In the order of their names.
    pub const ALL: [Self; 4] = [Self::Alive, Self::Disabled, Self::Expired, Self::Unknown];

    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Alive => "alive",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
        }
    }
}

/// What was learned of a device, in the words of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    pub intervals: u32,
    /// Half of its silences are no longer, and of a hundred one is.
    pub usual: Duration,
    pub rare: Duration,
    pub longest: Duration,
    /// `None` before enough is learned.
    pub proposed: Option<Duration>,
}
