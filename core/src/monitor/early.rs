//! Messages on topics of fleets that arrive before the store has been read. They are heard once it
//! is known which devices there are.

use super::turn::Turn;
use super::{Monitor, Target};
use crate::machines::fleets::EarlyMessage;
use crate::model::message::{Connection, Message};

impl Monitor {
    /// Hears what came before it was known whose devices are known. Devices of the configuration got
    /// it when it came.
    pub(super) fn hear_early(&mut self, turn: &mut Turn<'_>) {
        for EarlyMessage { connection, message, was_heard } in self.fleets.early_mut().take() {
            let mut found = std::mem::take(&mut self.found);
            self.find_again(&message, &mut found);
            self.meet(turn, (connection, &message), &mut found);
            if connection == Connection::Watch {
                self.hear(turn, &message, &mut found, |monitor, target| {
                    monitor.is_of_learned(target)
                        || (!was_heard && monitor.is_named_by(&message, target))
                });
            }
            found.clear();
            self.found = found;
        }
    }

    /// Whether the target is the member whose name the topic contains.
    fn is_named_by(&self, message: &Message, target: Target) -> bool {
        let Some(device) = target.device().map(|id| &self.devices[id].spec) else { return false };
        let named = self.fleets.name_in(&message.topic);
        named.is_some_and(|(fleet, name)| {
            device.fleet == Some(fleet) && device.name.as_str() == name
        })
    }
}
