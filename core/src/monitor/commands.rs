//! Accepts commands over MQTT on `command/NAME`, where the configuration allows them.

use super::Monitor;
use super::turn::Turn;
use crate::model::device_name::DeviceName;
use crate::model::message::Message;

/// The commands of `command/NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommandPayload {
    Restart,
    Restore,
    Enable,
    Disable,
}

impl CommandPayload {
    fn parse(payload: &[u8]) -> Option<Self> {
        match payload {
            b"restart" => Some(Self::Restart),
            b"restore" => Some(Self::Restore),
            b"enable" => Some(Self::Enable),
            b"disable" => Some(Self::Disable),
            _ => None,
        }
    }
}

impl Monitor {
    /// Accepts a command from an own topic. Anything else there is ignored silently, because any
    /// client that may publish could fill the journal with it.
    pub(super) fn command_message(&mut self, turn: &mut Turn<'_>, message: &Message) {
        if !self.home_assistant.commands {
            return;
        }
        let name = message.topic.below(&self.base_topic);
        let Some(name) = name.and_then(|below| below.strip_prefix("command/")) else { return };
        let Ok(name) = DeviceName::new(name) else { return };
        let Some(id) = self.id_named(&name) else { return };
        match CommandPayload::parse(&message.payload) {
            Some(CommandPayload::Restart) if self.knows_agent(&name) => {
                self.restart_agent(turn, id)
            }
            Some(CommandPayload::Restore) => self.request_restore(turn, id),
            Some(CommandPayload::Enable) => self.set_enabled(turn, &name, true),
            Some(CommandPayload::Disable) => self.set_enabled(turn, &name, false),
            Some(CommandPayload::Restart) | None => {}
        }
    }
}
