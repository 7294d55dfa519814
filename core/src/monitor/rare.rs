//! The rare parts of a device's state.

use crate::machines::agent::Agent;
use crate::machines::dependency::Hold;
use crate::machines::flapping::Flaps;
use std::time::Duration;

/// The repetition of `expire/NAME`, which only a few devices have.
#[derive(Debug, Clone)]
pub struct Repeat {
    pub interval: Duration,
    /// The time of the next repetition.
    pub due: Option<Duration>,
}

/// What only a few devices have. All of it is in one box, so that it takes one word in the others.
#[derive(Debug, Clone, Default)]
pub struct Rare(Option<Box<RareParts>>);

#[derive(Debug, Clone, Default)]
struct RareParts {
    /// Its alert waits for another device, or did.
    hold: Option<Box<Hold>>,
    /// Recent alarms, if there were any.
    flaps: Option<Box<Flaps>>,
    repeat: Option<Repeat>,
    agent: Option<Box<Agent>>,
}

impl Rare {
    #[must_use]
    pub fn new(agent: Option<Box<Agent>>, repeat: Option<Repeat>) -> Self {
        let parts = RareParts { repeat, agent, ..RareParts::default() };
        Self((parts.agent.is_some() || parts.repeat.is_some()).then(|| Box::new(parts)))
    }

    #[must_use]
    pub fn agent(&self) -> Option<&Agent> {
        self.0.as_ref()?.agent.as_deref()
    }

    pub fn agent_mut(&mut self) -> Option<&mut Agent> {
        self.0.as_mut()?.agent.as_deref_mut()
    }

    #[must_use]
    pub fn hold(&self) -> Option<&Hold> {
        self.0.as_ref()?.hold.as_deref()
    }

    pub fn hold_mut(&mut self) -> Option<&mut Hold> {
        self.0.as_mut()?.hold.as_deref_mut()
    }

    /// A hold, which is created where there is none.
    pub fn some_hold(&mut self) -> &mut Hold {
        self.0.get_or_insert_default().hold.get_or_insert_default()
    }

    #[must_use]
    pub fn flaps(&self) -> Option<&Flaps> {
        self.0.as_ref()?.flaps.as_deref()
    }

    pub fn flaps_mut(&mut self) -> Option<&mut Flaps> {
        self.0.as_mut()?.flaps.as_deref_mut()
    }

    /// A record of alarms, which is created where there is none.
    pub fn some_flaps(&mut self) -> &mut Flaps {
        self.0.get_or_insert_default().flaps.get_or_insert_default()
    }

    #[must_use]
    pub fn repeat(&self) -> Option<&Repeat> {
        self.0.as_ref()?.repeat.as_ref()
    }

    pub fn repeat_mut(&mut self) -> Option<&mut Repeat> {
        self.0.as_mut()?.repeat.as_mut()
    }

    pub fn forget_hold(&mut self) {
        if let Some(parts) = &mut self.0 {
            parts.hold = None;
        }
    }

    pub fn forget_flaps(&mut self) {
        if let Some(parts) = &mut self.0 {
            parts.flaps = None;
        }
    }

    /// Takes over the holds and the alarms of the device of the same name in the previous configuration.
    pub fn inherit(&mut self, before: &mut Self) {
        let Some(before) = &mut before.0 else { return };
        if before.hold.is_some() || before.flaps.is_some() {
            let own = self.0.get_or_insert_default();
            (own.hold, own.flaps) = (before.hold.take(), before.flaps.take());
        }
    }

    #[must_use]
    pub fn into_agent(self) -> Option<Box<Agent>> {
        self.0?.agent
    }
}
