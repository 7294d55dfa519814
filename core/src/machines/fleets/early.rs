//! Messages that arrive before the store has been read: only the store knows whose name is known.

use crate::model::message::{Connection, Message};
use bytes::Bytes;

/// So many messages are kept; the devices of further ones are heard with their next message.
const MOST_EARLY: usize = 1_000;

/// The bound of all kept topics and payloads together. A topic alone may have 64 KiB.
const MOST_BYTES: usize = 1_048_576;

/// The bytes that are kept of a report. Its word is shorter, and the number of a birth certificate
/// is near its beginning.
const LONGEST_REPORT: usize = 255;

/// A message whose name may be that of a member.
#[derive(Debug, Clone)]
pub struct EarlyMessage {
    pub connection: Connection,
    pub message: Message,
    /// The device of this name is configured, and got the message when it came.
    pub was_heard: bool,
}

/// The messages, in the order of their arrival.
#[derive(Debug, Default)]
pub struct EarlyMessages {
    messages: Vec<EarlyMessage>,
    bytes: usize,
}

impl EarlyMessages {
    /// Keeps a message. Of the payload, only that of a report about availability counts; of others,
    /// whether there is one.
    pub fn keep(
        &mut self,
        (connection, message): (Connection, &Message),
        was_heard: bool,
        is_report: bool,
    ) {
        let payload = match &message.payload[..] {
            [] => Bytes::new(),
            report if is_report => {
                Bytes::copy_from_slice(&report[..report.len().min(LONGEST_REPORT)])
            }
            _ => Bytes::from_static(b"."),
        };
        let is_same = |kept: &&EarlyMessage| {
            kept.connection == connection && kept.message.topic == message.topic
        };
        let before = self.messages.iter().rev().find(is_same);
        let is_known = before.is_some_and(|before| before.message.payload == payload);
        let bytes = self.bytes + message.topic.as_str().len() + payload.len();
        if self.messages.len() >= MOST_EARLY || bytes > MOST_BYTES || is_known {
            return;
        }
        self.bytes = bytes;
        let topic = message.topic.detached();
        let message = Message { topic, payload, ..message.clone() };
        self.messages.push(EarlyMessage { connection, message, was_heard });
    }

    pub fn take(&mut self) -> Vec<EarlyMessage> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}
