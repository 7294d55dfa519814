//! What a device's own `availabilityTopic` says: its birth message and its will.
//!
//! A will is published by the broker when the device's connection breaks, so the device expires at
//! once, without waiting for its silence. Here a retained message counts too: what was retained
//! long ago is no sign of life, but the last word of a will is that it is gone.

use super::Monitor;
use crate::model::device_id::DeviceId;
use crate::model::message::Message;
use crate::monitor::turn::Turn;

/// What firmwares and bridges call it when a device is there: Tasmota, Zigbee2MQTT, ESPHome and
/// Home Assistant `online`, Shelly `true`, Homie `ready`, …
const HERE: [&str; 10] =
    ["online", "true", "1", "ready", "init", "sleeping", "alert", "connected", "up", "available"];

/// And when it is not.
const GONE: [&str; 7] = ["offline", "false", "0", "lost", "disconnected", "down", "unavailable"];

/// What the payload says; `None` when it is neither.
#[must_use]
pub fn says(payload: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(payload).ok()?.trim();
    // Zigbee2MQTT: {"state":"online"}.
    if text.starts_with('{') {
        let object: serde_json::Value = serde_json::from_str(text).ok()?;
        return word(object.get("state")?.as_str()?);
    }
    word(text)
}

fn word(text: &str) -> Option<bool> {
    let is = |word: &&str| word.eq_ignore_ascii_case(text);
    if HERE.iter().any(is) { Some(true) } else { GONE.iter().any(is).then_some(false) }
}

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
        let before = device.available.replace(here);
        if before != Some(here) {
            self.save_soon(id);
        }
        match (here, message.retain) {
            (false, _) => self.gone(turn, id, before),
            (true, false) => self.contact(turn, id),
            // It came back while nobody listened.
            (true, true) if before == Some(false) => self.back_again(turn, id),
            (true, true) => {}
        }
        self.flush_saves(turn);
    }

    fn gone(&mut self, turn: &mut Turn<'_>, id: DeviceId, before: Option<bool>) {
        let device = &self.devices[id];
        // Before the store has been read, an earlier run may have told it already.
        if !device.is_enabled() || !self.store_answered {
            return;
        }
        if !device.episode.is_open() {
            self.expire(turn, id);
        } else if before != Some(false) {
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
            self.gone(turn, id, Some(false));
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

#[cfg(test)]
mod tests {
    use super::says;

    #[test]
    fn the_words_of_common_firmwares_are_known() {
        for here in ["online", "Online", " true\n", "ready", "{\"state\":\"online\"}", "1"] {
            assert_eq!(says(here.as_bytes()), Some(true), "{here}");
        }
        for gone in ["Offline", "false", "lost", "{ \"state\": \"offline\", \"x\": 1 }", "0"] {
            assert_eq!(says(gone.as_bytes()), Some(false), "{gone}");
        }
        for neither in [&b""[..], b"21.5", b"{}", b"{\"state\":1}", b"{", b"\xff"] {
            assert_eq!(says(neither), None);
        }
    }
}
