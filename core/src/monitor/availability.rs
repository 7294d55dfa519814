//! What follows from a device's own word (see [`crate::machines::availability`]).

use super::Monitor;
use crate::machines::availability::{Told, Verdict, says};
use crate::model::device_id::DeviceId;
use crate::model::message::Message;
use crate::monitor::turn::Turn;

impl Monitor {
    /// A device's own word about itself, which is `None` when it means nothing.
    pub(super) fn availability_told(
        &mut self,
        turn: &mut Turn<'_>,
        id: DeviceId,
        message: &Message,
    ) {
        let Some(here) = says(&message.payload) else { return };
        let device = &mut self.devices[id];
        let Told { verdict, is_news } = device.availability.told(here, message.retain);
        if is_news {
            self.save_soon(id);
        }
        match verdict {
            Verdict::Gone => self.gone(turn, id, is_news),
            Verdict::Here => self.contact(turn, id),
            Verdict::Returned => self.back_again(turn, id),
            Verdict::Nothing => {}
        }
        self.flush_saves(turn);
    }

    fn gone(&mut self, turn: &mut Turn<'_>, id: DeviceId, is_news: bool) {
        let device = &self.devices[id];
        // Before the store has been read, an earlier run may have told it already.
        if !device.is_enabled() || !self.store_answered {
            return;
        }
        if !device.episode.is_open() {
            self.expire(turn, id);
        } else if is_news {
            // The same alarm, and now it is known why.
            self.tell_state(turn, id);
        }
    }

    fn back_again(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        let device = &self.devices[id];
        if device.is_enabled() && device.episode.is_open() {
            self.recover(turn, id);
            self.restart_silence(turn, id);
        }
    }

    /// One that is taken into the monitoring again may have said before that it is gone.
    pub(super) fn recall_availability(&mut self, turn: &mut Turn<'_>, id: DeviceId) {
        if self.devices[id].is_gone() {
            self.gone(turn, id, false);
        }
    }

    /// What was said before the store was read counts from now on.
    pub(super) fn recall_availabilities(&mut self, turn: &mut Turn<'_>) {
        self.store_answered = true;
        for id in self.devices.ids() {
            self.recall_availability(turn, id);
        }
    }
}
