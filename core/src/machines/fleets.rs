//! Fleets whose members are learned: whose message it is, who may become a member, and what is
//! reported about that.
//!
//! Anybody who may publish chooses the names, so nothing is kept of a name that is not taken, and
//! what is kept of the others is bounded by `maxDevices`.

mod early;
mod finds;
mod forgotten;

use crate::model::device_name::DeviceName;
use crate::model::fleet::{HeardTopics, LONGEST_LEARNED_NAME};
use crate::model::spec::{DeviceSpec, FleetSpec};
use crate::topic::TopicName;
pub use early::{EarlyMessage, EarlyMessages};
use finds::Finds;
pub use finds::{FindReport, FindSummary};
pub use forgotten::ForgottenNames;
use std::time::Duration;

/// Identifies a fleet while a configuration is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FleetId(u16);

/// All fleets of the configuration whose members are learned.
#[derive(Debug, Default)]
pub struct Fleets {
    fleets: Vec<LearningFleet>,
    forgotten: ForgottenNames,
    early: EarlyMessages,
    /// The number of messages whose name was not taken.
    refused: u64,
}

#[derive(Debug)]
struct LearningFleet {
    spec: FleetSpec,
    /// Each message is compared with them, so they are made once.
    heard_on: HeardTopics,
    members: usize,
    /// It was reported that there is no room, and not yet that there is again.
    is_full: bool,
    /// It was reported that a name cannot be one of a device.
    is_refusal_reported: bool,
    finds: Finds,
}

/// The decision about a name that was heard.
#[derive(Debug, PartialEq, Eq)]
pub enum Meeting {
    /// It may become a member.
    New(Box<DeviceSpec>),
    /// It is ignored as a person wants it, or because there is no room.
    Ignored,
    /// It cannot become a member. The reason is given once.
    Refused(Option<NameRefusal>),
}

/// Explains why a name cannot be that of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameRefusal {
    Empty,
    /// It contains a character that would be special in a topic, or in a terminal.
    Character(char),
    TooLong,
    /// Another device or agent has it.
    Taken,
}

/// Whether there is room for more members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Unchanged,
    /// The last place was taken.
    Full,
    /// There is room again.
    Again,
}

impl Fleets {
    #[must_use]
    pub fn new(specs: Vec<FleetSpec>) -> Self {
        let fleet = |spec: FleetSpec| LearningFleet {
            heard_on: spec.heard_on(),
            spec,
            members: 0,
            is_full: false,
            is_refusal_reported: false,
            finds: Finds::default(),
        };
        Self { fleets: specs.into_iter().map(fleet).collect(), ..Self::default() }
    }

    /// Replaces the configuration. The members are to be counted again ([`Self::joined`]). Returns
    /// the names of fleets that were full and no longer exist.
    pub fn replace(&mut self, specs: Vec<FleetSpec>) -> Vec<DeviceName> {
        let new = Self::new(specs);
        let old = std::mem::replace(&mut self.fleets, new.fleets);
        let mut gone = Vec::new();
        for before in old {
            match self.fleets.iter_mut().find(|fleet| fleet.spec.name == before.spec.name) {
                Some(fleet) => {
                    fleet.is_full = before.is_full;
                    fleet.finds = before.finds;
                }
                None => gone.extend(before.is_full.then_some(before.spec.name)),
            }
        }
        gone
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fleets.is_empty()
    }

    pub fn specs(&self) -> impl Iterator<Item = &FleetSpec> {
        self.fleets.iter().map(|fleet| &fleet.spec)
    }

    #[must_use]
    pub fn spec(&self, id: FleetId) -> &FleetSpec {
        &self.fleets[usize::from(id.0)].spec
    }

    /// The fleet of this name.
    #[must_use]
    pub fn named(&self, name: &DeviceName) -> Option<FleetId> {
        ids().zip(&self.fleets).find(|(_, fleet)| fleet.spec.name == *name).map(|(id, _)| id)
    }

    /// The names that were taken out, which do not come back by themselves.
    #[must_use]
    pub fn forgotten(&self) -> &ForgottenNames {
        &self.forgotten
    }

    pub fn forgotten_mut(&mut self) -> &mut ForgottenNames {
        &mut self.forgotten
    }

    /// Messages from before the store was read.
    pub fn early_mut(&mut self) -> &mut EarlyMessages {
        &mut self.early
    }

    /// The number of messages whose name was refused, or found no room.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether the configuration has a section of its own for this name.
    #[must_use]
    pub fn has_section(&self, name: &DeviceName) -> bool {
        self.specs().any(|spec| spec.exceptions.contains_key(name))
    }

    /// The fleet on whose topics a message was published, and the name in its topic.
    #[must_use]
    pub fn name_in<'t>(&self, topic: &'t TopicName) -> Option<(FleetId, &'t str)> {
        let named =
            |(id, fleet): (FleetId, &LearningFleet)| Some((id, fleet.heard_on.name_in(topic)?));
        ids().zip(&self.fleets).find_map(named)
    }

    /// Whether this name could be one of a member, whoever may have it already.
    #[must_use]
    pub fn could_admit(&self, id: FleetId, name: &str) -> bool {
        !self.spec(id).ignores(name) && checked(name, |_| false).is_ok()
    }

    /// Decides about a name that belongs to no member yet. `is_taken` states whether another device
    /// has it.
    pub fn meet(
        &mut self,
        id: FleetId,
        name: &str,
        is_taken: impl FnOnce(&DeviceName) -> bool,
    ) -> Meeting {
        if self.forgotten.contains(name) || self.spec(id).ignores(name) {
            return Meeting::Ignored;
        }
        let fleet = &mut self.fleets[usize::from(id.0)];
        if fleet.members >= fleet.spec.max_devices {
            self.refused += 1;
            return Meeting::Ignored;
        }
        match checked(name, is_taken) {
            Ok(name) => Meeting::New(Box::new(fleet.spec.member(&name))),
            Err(refusal) => {
                self.refused += 1;
                let is_reported = std::mem::replace(&mut fleet.is_refusal_reported, true);
                Meeting::Refused((!is_reported).then_some(refusal))
            }
        }
    }

    /// Whether a device that was a member of this fleet in an earlier run, or before the
    /// configuration changed, still is one. The bound admits no new members, and removes none.
    #[must_use]
    pub fn readmits(&self, fleet: &DeviceName, name: &DeviceName) -> Option<FleetId> {
        let id = self.named(fleet)?;
        let is_out = self.forgotten.contains(name.as_str()) || self.spec(id).ignores(name.as_str());
        (!is_out).then_some(id)
    }

    /// A device has become a member. What is to be reported follows from [`Self::found`] and
    /// [`Self::room`].
    pub fn joined(&mut self, id: FleetId) {
        self.fleets[usize::from(id.0)].members += 1;
    }

    /// A member is no longer one.
    pub fn left(&mut self, id: FleetId) {
        let members = &mut self.fleets[usize::from(id.0)].members;
        *members = members.saturating_sub(1);
    }

    /// The number of members.
    #[must_use]
    pub fn members(&self, id: FleetId) -> usize {
        self.fleets[usize::from(id.0)].members
    }

    /// Whether it has become full, or is no longer, since the last call.
    pub fn room(&mut self, id: FleetId) -> Room {
        let fleet = &mut self.fleets[usize::from(id.0)];
        let is_full = fleet.members >= fleet.spec.max_devices;
        match (std::mem::replace(&mut fleet.is_full, is_full), is_full) {
            (false, true) => Room::Full,
            (true, false) => Room::Again,
            (true, true) | (false, false) => Room::Unchanged,
        }
    }

    /// The fleets that were reported to be full.
    #[must_use]
    pub fn full(&self) -> Vec<DeviceName> {
        let full = self.fleets.iter().filter(|fleet| fleet.is_full);
        full.map(|fleet| fleet.spec.name.clone()).collect()
    }

    /// Takes over what an earlier run has reported. Returns the names of fleets that no longer exist.
    pub fn resume_full(&mut self, mut names: Vec<DeviceName>) -> Vec<DeviceName> {
        for fleet in &mut self.fleets {
            fleet.is_full |= names.contains(&fleet.spec.name);
            names.retain(|name| *name != fleet.spec.name);
        }
        names
    }

    pub fn ids(&self) -> impl Iterator<Item = FleetId> + use<> {
        ids().take(self.fleets.len())
    }

    /// A member was found at this time; says how that is reported.
    pub fn found(&mut self, id: FleetId, name: &DeviceName, now: Duration) -> FindReport {
        self.fleets[usize::from(id.0)].finds.found(name, now)
    }

    /// The members that were found and not reported one by one, where a report is due.
    pub fn summaries(&mut self, now: Duration) -> Vec<(FleetId, FindSummary)> {
        ids()
            .zip(&mut self.fleets)
            .filter_map(|(id, fleet)| Some((id, fleet.finds.summary(now)?)))
            .collect()
    }
}

/// A configuration of more fleets than there are numbers does not exist: each is a section, of which
/// a file cannot contain so many within its size.
fn ids() -> impl Iterator<Item = FleetId> {
    (0..u16::MAX).map(FleetId)
}

/// The rules for the names of devices, and one for those that strangers choose.
fn checked(
    name: &str,
    is_taken: impl FnOnce(&DeviceName) -> bool,
) -> Result<DeviceName, NameRefusal> {
    if name.len() > LONGEST_LEARNED_NAME {
        return Err(NameRefusal::TooLong);
    }
    if let Some(character) = name.chars().find(|c| c.is_control()) {
        return Err(NameRefusal::Character(character));
    }
    let name = DeviceName::new(name).map_err(|_| NameRefusal::Empty)?;
    if is_taken(&name) { Err(NameRefusal::Taken) } else { Ok(name) }
}

impl NameRefusal {
    /// What a name has to be, as the end of a sentence.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Empty => "a device needs a name".to_owned(),
            Self::Character(character) => format!("a name may not contain {character:?}"),
            Self::TooLong => format!("a name has at most {LONGEST_LEARNED_NAME} bytes"),
            Self::Taken => "another device or agent has this name".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
