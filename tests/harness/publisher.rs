//! A client that publishes as fast as the broker takes it, and knows what the broker has taken.
//!
//! It speaks MQTT 3.1.1 by itself: what it says depends on no library that the monitor uses.

use super::PATIENCE;
use super::machine::Machine;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// A publication at QoS 1 that the broker has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outstanding {
    number: u16,
    pub topic: String,
    pub payload: String,
}

pub struct Publisher {
    stream: TcpStream,
    input: Vec<u8>,
    last_number: u16,
    /// In the order of sending, which is the order of the acknowledgements (MQTT-4.6.0-2).
    outstanding: VecDeque<Outstanding>,
}

impl Publisher {
    /// Connects to the machine's broker with a clean session and without a keep alive.
    pub fn connect(machine: &Machine, client_id: &str) -> io::Result<Self> {
        Self::over(machine.connect(1883)?, client_id)
    }

    /// The same over a connection to a broker.
    pub fn over(stream: TcpStream, client_id: &str) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut publisher =
            Self { stream, input: Vec::new(), last_number: 0, outstanding: VecDeque::new() };
        let mut body = text("MQTT");
        body.extend([4, 0x02, 0, 0]);
        body.extend(text(client_id));
        publisher.write(0x10, &body)?;
        while publisher.packet()?.0 >> 4 != 2 {}
        Ok(publisher)
    }

    /// Publishes at QoS 0.
    pub fn say(&mut self, topic: &str, payload: &str) -> io::Result<()> {
        let mut body = text(topic);
        body.extend(payload.as_bytes());
        self.write(0x30, &body)
    }

    /// Publishes at QoS 1, and returns when at most `window` publications are not acknowledged.
    pub fn publish(
        &mut self,
        topic: &str,
        payload: &str,
        retain: bool,
        window: usize,
    ) -> io::Result<()> {
        self.last_number = self.last_number % u16::MAX + 1;
        let number = self.last_number;
        let (topic, payload) = (topic.to_owned(), payload.to_owned());
        let mut body = text(&topic);
        body.extend(number.to_be_bytes());
        body.extend(payload.as_bytes());
        self.outstanding.push_back(Outstanding { number, topic, payload });
        self.write(0x32 | u8::from(retain), &body)?;
        self.settle(window)
    }

    /// Takes in acknowledgements until at most so many publications are without one.
    pub fn settle(&mut self, window: usize) -> io::Result<()> {
        while self.outstanding.len() > window {
            let (first, body) = self.packet()?;
            if first >> 4 == 4 && body.len() >= 2 {
                let number = u16::from_be_bytes([body[0], body[1]]);
                self.outstanding.retain(|sent| sent.number != number);
            }
        }
        Ok(())
    }

    /// What may or may not have reached the broker, oldest first.
    pub fn outstanding(&self) -> Vec<Outstanding> {
        self.outstanding.iter().cloned().collect()
    }

    fn write(&mut self, first: u8, body: &[u8]) -> io::Result<()> {
        let mut packet = vec![first];
        let mut left = body.len();
        loop {
            let more = u8::from(left > 0x7F) << 7;
            packet.push(more | u8::try_from(left & 0x7F).expect("seven bits"));
            left >>= 7;
            if left == 0 {
                break;
            }
        }
        packet.extend(body);
        self.stream.write_all(&packet)
    }

    /// The next packet: its first byte and what follows the length.
    fn packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some(header) = self.input.iter().skip(1).position(|byte| byte & 0x80 == 0) {
                let digits = self.input[1..=header + 1].iter().rev();
                let length = digits.fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7F));
                let start = header + 2;
                if self.input.len() >= start + length {
                    let rest = self.input.split_off(start + length);
                    let packet = std::mem::replace(&mut self.input, rest);
                    return Ok((packet[0], packet[start..].to_vec()));
                }
            }
            let mut block = [0; 4096];
            match self.stream.read(&mut block)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.input.extend(&block[..count]),
            }
        }
    }
}

/// A text with its length before it.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("no test has a longer one");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}
