//! The consequences of a device's own reports (see [`crate::machines::availability`]).

use crate::machines::availability::{Hearing, Verdict, Word, WordMeaning};
use crate::model::device_id::DeviceId;
use crate::model::message::Message;
use crate::model::sparkplug::Certificate;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Target};
use std::time::Duration;

/// Whether a topic covers several devices, as that of a bridge does.
pub(super) fn is_shared(found: &[Target]) -> bool {
    let own = |target: &&Target| matches!(target, Target::Availability(..));
    found.iter().filter(own).nth(1).is_some()
}

impl Monitor {
    /// Whether a message reports any device gone.
    pub(super) fn is_will(&self, found: &[Target], message: &Message) -> bool {
        let is_death = |target: &Target| match target {
            Target::Availability(id, source) => {
                matches!(self.word_of(*id, *source, message), Word::Gone { .. })
            }
            Target::Contact(_) | Target::Hello(_) | Target::State(_) | Target::Nobody => false,
        };
        found.iter().any(is_death)
            || Certificate::of(&message.topic).is_some_and(Certificate::is_death)
    }

    fn word_of(&self, id: DeviceId, source: u8, message: &Message) -> Word {
        let availability = self.devices[id].availability.as_ref();
        availability.map_or(Word::Nothing, |availability| {
            availability.reads(source, &message.topic, &message.payload)
        })
    }

    /// A report on the topic with this number among those of a device.
    pub(super) fn availability_reported(
        &mut self,
        turn: &mut Turn<'_>,
        (id, source): (DeviceId, u8),
        is_shared: bool,
        message: &Message,
    ) {
        let word = self.word_of(id, source, message);
        let device = &mut self.devices[id];
        let hearing = Hearing {
            is_replay: message.retain,
            is_shared,
            can_wait: device.silence.has_timeout(),
            watched: turn.watched,
        };
        let Some(availability) = &mut device.availability else { return };
        let Verdict { meaning, is_news } = availability.judge(source, word, hearing);
        if is_news {
            self.save_soon(id);
        }
        match meaning {
            WordMeaning::Gone => self.gone(turn, id, is_news),
            WordMeaning::Doubted => self.wait_in_doubt(id),
            WordMeaning::Here => self.contact(turn, id, message.waited()),
            WordMeaning::Returned => self.back_again(turn, id),
            WordMeaning::Nothing => {}
        }
        self.flush_saves(turn);
    }

    /// Whether a contact may be from the memory of a gateway that has just come back.
    pub(super) fn is_from_memory(&mut self, watched: Duration, id: DeviceId) -> bool {
        let device = &mut self.devices[id];
        if !device.episode.is_open() || !device.is_gone() {
            return false;
        }
        let Some(availability) = &mut device.availability else { return false };
        // The device in front of it is looked up only where that matters.
        if !availability.is_confirmed() {
            return false;
        }
        let Some(returned_at) = self.dependencies.returned_at(id) else { return false };
        availability.is_from_memory(returned_at, watched)
    }

    pub(super) fn believe_gone(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let availability = self.devices[id].availability.as_mut();
        if availability.is_some_and(|availability| availability.believe()) {
            self.gone(turn, id, true);
        }
    }

    fn gone(&mut self, turn: &mut Turn<'_>, id: DeviceId, is_news: bool) {
        let device = &self.devices[id];
        // Before the store has been read, an earlier run may have reported it already.
        if !device.is_enabled() || !self.store_answered {
            return;
        }
        if !device.episode.is_open() {
            self.expire_or_restart(turn, id);
        } else if is_news {
            // The alarm is the same, and its cause is now known.
            self.report_state(turn, id);
        }
    }

    fn back_again(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let device = &self.devices[id];
        if device.is_enabled() && device.episode.is_open() {
            self.recover(turn, id);
            self.restart_silence(turn, id);
        } else if device.monitoring.is_elsewhere() {
            self.standby.heard(id);
        }
    }

    /// A device that is enabled again may have reported before that it is gone.
    pub(super) fn recall_availability(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        if self.devices[id].is_gone() {
            self.gone(turn, id, false);
        }
    }

    /// Reports from before the store was read count from now on.
    pub(super) fn recall_availabilities(&mut self, turn: &mut Turn<'_>) {
        self.store_answered = true;
        for id in self.devices.ids() {
            self.recall_availability(turn, id);
            self.wait_in_doubt(id);
        }
    }
}
