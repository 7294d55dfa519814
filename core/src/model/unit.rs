//! systemd's reports about the agents' units.

use super::cluster::store::Revision;
use super::device_name::DeviceName;
use super::unit_name::UnitName;
use std::time::Duration;

/// systemd's view of one of the agents' units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitReport {
    pub unit: UnitName,
    pub active: ActiveState,
    /// systemd has a job for it: it is about to be started or stopped.
    pub has_job: bool,
    /// 0 when there is no main process.
    pub main_pid: u32,
    /// Hex, 32 digits, new for each start; empty when the unit never ran.
    pub invocation: String,
    /// systemd's own restarts of this unit.
    pub restarts: u32,
    /// `success`, `exit-code`, `signal`, `start-limit-hit`, … (systemd.service(5)).
    pub result: String,
    /// How the last main process ended, in words: `exited with 1`, `killed by SIGKILL`.
    pub last_exit: Option<String>,
    /// When that was, since the Unix epoch; `None` when systemd does not know it.
    pub ended_at: Option<Duration>,
    /// The definition hash in the unit's marker; `None` when the unit carries none.
    pub definition: Option<String>,
    /// By what right it runs here, if several nodes share the agent.
    pub shared: Option<SharedUnit>,
}

/// The marker of an agent that several nodes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedUnit {
    pub agent: DeviceName,
    pub epoch: Revision,
}

/// What the processes of a unit have used since the start of this invocation; `None` where it is not
/// accounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitUsage {
    pub unit: UnitName,
    pub invocation: String,
    /// The memory at present, in bytes.
    pub memory: Option<u64>,
    pub memory_peak: Option<u64>,
    /// The processor time.
    pub cpu: Option<Duration>,
}

/// systemd's ActiveState (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActiveState {
    Active,
    Reloading,
    Inactive,
    Failed,
    Activating,
    Deactivating,
}

impl ActiveState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Reloading => "reloading",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
        }
    }

    /// Whether systemd holds the unit up or is about to start it.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        match self {
            Self::Active | Self::Reloading | Self::Activating => true,
            Self::Inactive | Self::Failed | Self::Deactivating => false,
        }
    }

    /// Whether no process of the unit can remain.
    #[must_use]
    pub const fn is_down(self) -> bool {
        match self {
            Self::Inactive | Self::Failed => true,
            Self::Active | Self::Reloading | Self::Activating | Self::Deactivating => false,
        }
    }
}

/// The end of a start or a stop of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    Done,
    /// It failed, with the reason: an unknown user, a full job queue, a refused property.
    Failed(String),
}

/// The result for the units of a former clientid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitsOutcome {
    /// This many units were stopped.
    Stopped { count: usize },
    /// A monitor of this machine uses the clientid.
    InUse,
    /// They could not be stopped, with the reason.
    Failed { reason: String },
}
