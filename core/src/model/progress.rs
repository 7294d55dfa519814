//! The goal of an order to an agent, and how far the agent has come.

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// A process of another invocation than this one, if there was one, has been started.
    Started { before: Option<String> },
    /// It has a process.
    Running,
    /// Its processes have ended.
    Stopped,
}

/// What has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Pending,
    Done,
    /// In words: it has failed, or something else was ordered since.
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
