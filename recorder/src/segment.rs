//! A segment: frames of messages, one for each commit, appended to a file.
//!
//! A frame is written in one piece and synced before the next one is begun, so that a crash can
//! damage the last one only. Damage before that is the disk's, and the frames behind it are read all
//! the same: a frame's head has a checksum of its own, and says how long the frame is.

use crate::error::AppendError;
use crate::message::{Received, Row};
use bytes::Bytes;
use parquet::data_type::ByteArray;

const MAGIC: [u8; 4] = *b"IoT1";
/// Magic, number of the first message, messages, length of the body, checksum of the body, checksum
/// of all this.
const HEAD: usize = 4 + 8 + 4 + 4 + 4 + 4;
/// Time, QoS and retain flag, lengths of topic and payload.
const ROW_HEAD: usize = 8 + 1 + 2 + 4;
const RETAIN: u8 = 0b100;
/// The longest payload that fits into an MQTT packet.
const LONGEST_PAYLOAD: usize = 268_435_455;

/// A frame that is being filled.
#[derive(Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    rows: u32,
    capacity: usize,
}

impl Frame {
    /// A frame that takes this many bytes of messages, or a single message that is larger.
    pub fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; HEAD], rows: 0, capacity }
    }

    pub fn rows(&self) -> u32 {
        self.rows
    }

    pub fn push<'m>(&mut self, message: impl Into<Received<'m>>) -> Result<(), AppendError> {
        let message = message.into();
        let (topic, payload) = (message.topic.as_bytes(), message.payload);
        let Ok(topic_length) = u16::try_from(topic.len()) else {
            return Err(AppendError::TopicTooLong { length: topic.len() });
        };
        let payload_length = match u32::try_from(payload.len()) {
            Ok(length) if payload.len() <= LONGEST_PAYLOAD => length,
            _ => return Err(AppendError::PayloadTooLong { length: payload.len() }),
        };
        let length = ROW_HEAD + topic.len() + payload.len();
        if self.rows > 0 && self.bytes.len() - HEAD + length > self.capacity {
            return Err(AppendError::Full);
        }
        let retain = if message.retain { RETAIN } else { 0 };
        self.bytes.extend_from_slice(&message.time.to_le_bytes());
        self.bytes.push(message.qos & 0b11 | retain);
        self.bytes.extend_from_slice(&topic_length.to_le_bytes());
        self.bytes.extend_from_slice(&payload_length.to_le_bytes());
        self.bytes.extend_from_slice(topic);
        self.bytes.extend_from_slice(payload);
        self.rows += 1;
        Ok(())
    }

    /// The whole frame, with the number of its first message.
    pub fn finish(&mut self, first: u64) -> &[u8] {
        let body = &self.bytes[HEAD..];
        let (checksum, length) = (crc32fast::hash(body), body.len() as u32);
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&first.to_le_bytes());
        head.extend_from_slice(&self.rows.to_le_bytes());
        head.extend_from_slice(&length.to_le_bytes());
        head.extend_from_slice(&checksum.to_le_bytes());
        head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        self.bytes[..HEAD].copy_from_slice(&head);
        &self.bytes
    }

    /// Empties the frame, and returns the memory that an unusual message took.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEAD);
        self.bytes.shrink_to(HEAD + self.capacity);
        self.rows = 0;
    }
}

/// What a segment holds.
#[derive(Debug)]
pub struct Content {
    pub rows: Vec<Row>,
    /// The number behind the last message.
    pub end: u64,
    /// Messages that were in damaged frames with intact ones behind them. They had been durable.
    pub lost: u64,
}

/// Reads the segment whose first message has this number, up to the number `end`: what is behind was
/// written again into the next segment.
pub fn read(bytes: &Bytes, first: u64, end: u64) -> Content {
    let mut content = Content { rows: Vec::new(), end: first, lost: 0 };
    let mut damaged = 0;
    let mut at = 0;
    while let Some(head) = bytes.get(at..).and_then(Head::read) {
        let number = content.end + damaged;
        if head.first != number || number >= end {
            break;
        }
        let body = at + HEAD..at + HEAD + head.length;
        at = body.end;
        match bytes.get(body.clone()).and_then(|_| head.rows(&bytes.slice(body))) {
            Some(rows) => {
                content.rows.extend(rows);
                content.lost += damaged;
                content.end = number + u64::from(head.rows);
                damaged = 0;
            }
            None => damaged += u64::from(head.rows),
        }
    }
    content
}

struct Head {
    first: u64,
    rows: u32,
    length: usize,
    checksum: u32,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..HEAD)?;
        let (head, checksum) = head.split_at(HEAD - 4);
        if head[..4] != MAGIC || crc32fast::hash(head) != read_u32(checksum) {
            return None;
        }
        Some(Self {
            first: read_u64(&head[4..]),
            rows: read_u32(&head[12..]),
            length: read_u32(&head[16..]) as usize,
            checksum: read_u32(&head[20..]),
        })
    }

    fn rows(&self, body: &Bytes) -> Option<Vec<Row>> {
        if crc32fast::hash(body) != self.checksum {
            return None;
        }
        let mut rows = Vec::new();
        let mut at = 0;
        while at < body.len() {
            let head = body.get(at..at + ROW_HEAD)?;
            let topic = at + ROW_HEAD;
            let payload = topic + usize::from(u16::from_le_bytes([head[9], head[10]]));
            let end = payload + read_u32(&head[11..]) as usize;
            body.get(topic..end)?;
            rows.push(Row {
                time: read_u64(head) as i64,
                topic: ByteArray::from(body.slice(topic..payload)),
                payload: ByteArray::from(body.slice(payload..end)),
                qos: head[8] & 0b11,
                retain: head[8] & RETAIN != 0,
            });
            at = end;
        }
        (rows.len() == self.rows as usize).then_some(rows)
    }
}

fn read_u32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn read_u64(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn message(number: u64) -> Message {
        Message {
            time: number as i64 - 5,
            topic: format!("home/{number}"),
            payload: Bytes::from(vec![number as u8; number as usize % 50]),
            qos: (number % 3) as u8,
            retain: number.is_multiple_of(2),
        }
    }

    /// Three frames of ten messages each, from number 100 on, and where they begin.
    fn three_frames() -> (Vec<u8>, [usize; 3]) {
        let mut frame = Frame::new(1 << 20);
        let mut bytes = Vec::new();
        let starts = [100, 110, 120].map(|first| {
            let start = bytes.len();
            (first..first + 10).for_each(|number| frame.push(&message(number)).unwrap());
            bytes.extend_from_slice(frame.finish(first));
            frame.clear();
            start
        });
        (bytes, starts)
    }

    fn content(bytes: &[u8], end: u64) -> (Vec<Message>, u64, u64) {
        let content = read(&Bytes::copy_from_slice(bytes), 100, end);
        let messages = content.rows.into_iter().map(|row| row.into_message().unwrap());
        (messages.collect(), content.end, content.lost)
    }

    fn messages(numbers: std::ops::Range<u64>) -> Vec<Message> {
        numbers.map(message).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, _) = three_frames();
        assert_eq!(content(&bytes, u64::MAX), (messages(100..130), 130, 0));
        assert_eq!(content(&[], u64::MAX), (Vec::new(), 100, 0));
    }

    #[test]
    fn a_segment_that_is_cut_anywhere_has_its_whole_frames() {
        let (bytes, starts) = three_frames();
        for length in 0..bytes.len() {
            let whole = starts.iter().filter(|start| **start <= length).count() as u64 - 1;
            let end = 100 + 10 * whole;
            assert_eq!(
                content(&bytes[..length], u64::MAX),
                (messages(100..end), end, 0),
                "{length}"
            );
        }
    }

    #[test]
    fn no_damaged_byte_is_taken_for_a_message() {
        let (bytes, starts) = three_frames();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let frame = starts.iter().filter(|start| **start <= at).count() as u64 - 1;
            let first = 100 + 10 * frame;
            let in_head = at - starts[frame as usize] < HEAD;
            // The last frame may have been torn by a crash. One before has been durable, and its
            // intact head says where the next one is.
            let expected = if frame == 2 || in_head {
                (messages(100..first), first, 0)
            } else {
                let rest = messages(100..first).into_iter().chain(messages(first + 10..130));
                (rest.collect(), 130, 10)
            };
            assert_eq!(content(&damaged, u64::MAX), expected, "{at}");
        }
    }

    #[test]
    fn what_the_next_segment_has_again_is_left_out() {
        let (bytes, _) = three_frames();
        assert_eq!(content(&bytes, 120), (messages(100..120), 120, 0));
        assert_eq!(content(&bytes, 100), (Vec::new(), 100, 0));
    }

    #[test]
    fn a_frame_is_full_at_its_capacity_and_takes_a_single_larger_message() {
        let mut frame = Frame::new(100);
        let large = Message { payload: Bytes::from(vec![0; 1_000]), ..message(1) };
        assert_eq!(frame.push(&large), Ok(()));
        assert_eq!(frame.push(&message(2)), Err(AppendError::Full));
        frame.clear();
        assert_eq!(frame.push(&message(2)), Ok(()));
        assert_eq!(frame.push(&large), Err(AppendError::Full));
        assert_eq!(frame.rows(), 1);
        let topic = Message { topic: "x".repeat(65_536), ..message(1) };
        assert_eq!(frame.push(&topic), Err(AppendError::TopicTooLong { length: 65_536 }));
    }
}
