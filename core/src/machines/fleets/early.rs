//! Messages that arrive before the store has been read: only the store knows whose name is known.

use crate::model::message::Message;
use bytes::Bytes;

/// So many messages are kept; the devices of further ones are heard with their next message.
const MOST_EARLY: usize = 1_000;

/// The messages, in the order of their arrival.
#[derive(Debug, Default)]
pub struct EarlyMessages {
    messages: Vec<Message>,
}

impl EarlyMessages {
    /// Keeps a message without its payload: that it came is what counts.
    pub fn keep(&mut self, message: &Message) {
        let is_known = self.messages.iter().any(|known| known.topic == message.topic);
        if self.messages.len() < MOST_EARLY && !is_known {
            let topic = message.topic.detached();
            self.messages.push(Message { topic, payload: Bytes::new(), ..message.clone() });
        }
    }

    pub fn take(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }
}
