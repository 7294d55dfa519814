//! The goal of an order to an agent, and its progress.

/// The condition that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// A process of another invocation than this one, if there was one, has been started.
    Started { before: Option<String> },
    /// It has a process.
    Running,
    /// Its processes have ended.
    Stopped,
}

/// The state of the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Pending,
    Done,
    /// It has failed, or another order followed; with the reason.
    Failed(String),
}

impl Goal {
    /// Whether a process of this invocation is the one that was to be replaced.
    #[must_use]
    pub fn is_old(&self, invocation: Option<&str>) -> bool {
        match self {
            Self::Started { before } => before.as_deref() == invocation,
            Self::Running | Self::Stopped => false,
        }
    }
}
