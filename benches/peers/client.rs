//! A client of the broker: publishes as fast as the broker takes it, and sees what others publish.
//!
//! It speaks MQTT 3.1.1, where the broker sets no limit to what a publisher has on its way.

use crate::common::fleet::{put_length, put_publish, put_text};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// The level of MQTT 3.1.1 in a CONNECT (3.1.2.2).
const MQTT_3_1_1: u8 = 4;

/// How long the broker may take for an answer.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// As many as the monitor puts into one SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 200;

/// A connection to the broker.
pub struct Client {
    stream: TcpStream,
    input: BytesMut,
}

/// How a stream of messages is spread over time.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub messages: usize,
    /// Messages a second; `None` is as fast as the broker takes them.
    pub rate: Option<usize>,
    pub at_least_once: bool,
}

/// A message that the broker passed on.
#[derive(Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Bytes,
}

impl Client {
    pub fn connect(port: u16, client_id: &str) -> Self {
        Self::connect_at(port, client_id, MQTT_3_1_1)
    }

    /// Connects with a protocol level of its own; what is not 3.1.1 is for the caller to read.
    pub fn connect_at(port: u16, client_id: &str, level: u8) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        stream.set_nodelay(true).expect("a socket of TCP");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket of TCP");
        let mut packet = BytesMut::new();
        let properties = usize::from(level > MQTT_3_1_1);
        packet.put_u8(0x10);
        put_length(&mut packet, 10 + properties + 2 + client_id.len());
        put_text(&mut packet, "MQTT");
        packet.put_slice(&[level, 0x02, 0, 0]);
        packet.put_bytes(0, properties);
        put_text(&mut packet, client_id);
        stream.write_all(&packet).expect("the broker reads");
        let mut client = Self { stream, input: BytesMut::new() };
        assert_eq!(client.frame().0 >> 4, 2, "the broker answers with CONNACK");
        client
    }

    /// Subscribes and waits for the answer; the properties of a later level are none.
    pub fn subscribe(&mut self, filter: &str, level: Option<u8>) {
        let properties = usize::from(level.is_some());
        let mut packet = BytesMut::new();
        packet.put_u8(0x82);
        put_length(&mut packet, 2 + properties + 2 + filter.len() + 1);
        packet.put_u16(1);
        packet.put_bytes(0, properties);
        put_text(&mut packet, filter);
        packet.put_u8(0);
        self.write(&packet);
        while self.frame().0 >> 4 != 9 {}
    }

    /// Subscribes to many filters at once, and waits for all answers; properties as above.
    pub fn subscribe_all(&mut self, filters: &[String], level: Option<u8>) {
        let properties = usize::from(level.is_some());
        let chunks = filters.chunks(FILTERS_PER_PACKET);
        let mut answers = chunks.len();
        let mut packet = BytesMut::new();
        for (pkid, chunk) in (1..).zip(chunks) {
            packet.clear();
            packet.put_u8(0x82);
            let filters = chunk.iter().map(|filter| filter.len() + 3).sum::<usize>();
            put_length(&mut packet, 2 + properties + filters);
            packet.put_u16(pkid);
            packet.put_bytes(0, properties);
            for filter in chunk {
                put_text(&mut packet, filter);
                packet.put_u8(0);
            }
            self.write(&packet);
        }
        while answers > 0 {
            answers -= usize::from(self.frame().0 >> 4 == 9);
        }
    }

    /// Waits until the broker has taken everything that was sent before.
    pub fn ping(&mut self) {
        self.write(&[0xC0, 0]);
        while self.frame().0 >> 4 != 13 {}
    }

    pub fn publish(&mut self, topic: &str, payload: &[u8], pkid: Option<u16>) {
        let mut packet = BytesMut::new();
        put_publish(&mut packet, MQTT_3_1_1, topic, payload, pkid);
        self.write(&packet);
    }

    /// As [`Self::publish`], for the broker to retain.
    pub fn publish_retained(&mut self, topic: &str, payload: &[u8]) {
        let mut packet = BytesMut::new();
        put_publish(&mut packet, MQTT_3_1_1, topic, payload, None);
        packet[0] |= 0x01;
        self.write(&packet);
    }

    /// Publishes on these topics in turn, `messages` times in all, at QoS 1 where asked for, and
    /// takes in the acknowledgements.
    pub fn flood(&mut self, topics: &[String], messages: usize, at_least_once: bool) {
        let pace = Pace { messages, rate: None, at_least_once };
        self.stream(crate::common::fleet::PAYLOAD, topics, &pace);
    }

    /// Publishes this payload on these topics in turn, and takes in the acknowledgements. Messages of
    /// one millisecond are written together.
    pub fn stream(&mut self, payload: &[u8], topics: &[String], pace: &Pace) {
        let Pace { messages, rate, at_least_once } = *pace;
        let mut reading = self.stream.try_clone().expect("a socket can be duplicated");
        let acknowledgements = if at_least_once { 4 * messages } else { 0 };
        let reader = thread::spawn(move || {
            let mut block = vec![0; 64 * 1024];
            let mut left = acknowledgements;
            while left > 0 {
                left = left.saturating_sub(reading.read(&mut block).expect("the broker answers"));
            }
        });
        let mut packets = BytesMut::new();
        let began = Instant::now();
        for number in 0..messages {
            let pkid = u16::try_from(number % 65_000 + 1).ok().filter(|_| at_least_once);
            let topic = &topics[number % topics.len()];
            put_publish(&mut packets, MQTT_3_1_1, topic, payload, pkid);
            let is_due = match rate.map(|rate| (rate / 1_000).max(1)) {
                None => packets.len() > 64 * 1024,
                Some(of_each) => (number + 1) % of_each == 0,
            };
            if is_due {
                self.write(&packets);
                packets.clear();
                if let Some(rate) = rate {
                    let sent = u32::try_from(number + 1).expect("some hundred thousand messages");
                    let rate = u32::try_from(rate).expect("some ten thousand messages");
                    let due = began + Duration::from_secs(1) * sent / rate;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            }
        }
        self.write(&packets);
        reader.join().expect("the broker acknowledges");
    }

    /// The next message; other packets are passed over.
    pub fn next(&mut self) -> Message {
        loop {
            let (first, mut body) = self.frame();
            if first >> 4 == 3 {
                assert_eq!(first & 0x06, 0, "nothing is subscribed above QoS 0");
                let length = usize::from(body.get_u16());
                let topic = String::from_utf8_lossy(&body.split_to(length)).into_owned();
                return Message { topic, payload: body };
            }
        }
    }

    /// Waits for a message on this topic.
    pub fn until(&mut self, topic: &str) -> Message {
        loop {
            let message = self.next();
            if message.topic == topic {
                return message;
            }
        }
    }

    /// As [`Self::until`], but not past this instant.
    pub fn until_deadline(&mut self, topic: &str, deadline: Instant) -> Option<Message> {
        loop {
            let message = self.next_until(deadline)?;
            if message.topic == topic {
                return Some(message);
            }
        }
    }

    /// As [`Self::next`], but not past this instant.
    pub fn next_until(&mut self, deadline: Instant) -> Option<Message> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).expect("a socket of TCP");
            let message = self.has_frame().then(|| self.next());
            self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket of TCP");
            if message.is_some() {
                return message;
            }
        }
    }

    /// Publishes this payload on each topic, at QoS 1, and takes in the acknowledgements.
    pub fn publish_all(&mut self, topics: &[String], payload: &[u8]) {
        let pace = Pace { messages: topics.len(), rate: None, at_least_once: true };
        self.stream(payload, topics, &pace);
    }

    /// Reads what the socket gives at once.
    pub fn read_some(&mut self, input: &mut BytesMut, block: &mut [u8]) {
        input.unsplit(self.input.split());
        let count = self.stream.read(block).expect("the broker sends");
        assert!(count > 0, "the broker closed the connection");
        input.extend_from_slice(&block[..count]);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker reads");
    }

    /// Whether a whole frame is there, after one more reading where need be.
    fn has_frame(&mut self) -> bool {
        let mut block = [0; 16 * 1024];
        if frame_length(&self.input).is_none()
            && let Ok(count) = self.stream.read(&mut block)
        {
            assert!(count > 0, "the broker closed the connection");
            self.input.extend_from_slice(&block[..count]);
        }
        frame_length(&self.input).is_some()
    }

    /// The next packet: its first byte, and what follows the remaining length.
    fn frame(&mut self) -> (u8, Bytes) {
        let mut block = [0; 16 * 1024];
        loop {
            if let Some((header, length)) = frame_length(&self.input) {
                let mut frame = self.input.split_to(header + length).freeze();
                let first = frame[0];
                frame.advance(header);
                return (first, frame);
            }
            let count = self.stream.read(&mut block).expect("the broker sends in time");
            assert!(count > 0, "the broker closed the connection");
            self.input.extend_from_slice(&block[..count]);
        }
    }
}

/// Bytes of the header and of what follows, when both are there.
pub fn frame_length(input: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (at, byte) in input.iter().enumerate().skip(1).take(4) {
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return (input.len() > at + length).then_some((at + 1, length));
        }
    }
    None
}
