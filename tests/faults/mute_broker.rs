//! A broker in the test's own process, of MQTT 3.1.1, that can be set to leave publications
//! unacknowledged and to stop reading.
//!
//! It serves one monitor: what it sends goes to every connection. Only the monitor's markers come
//! back, acknowledged, so that it sees a line that works.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Default)]
pub struct MuteBroker {
    mute: AtomicBool,
    deaf: AtomicBool,
    unacknowledged: AtomicUsize,
    connections: Mutex<Vec<(String, TcpStream)>>,
}

/// The first byte of each packet (MQTT 3.1.1, 2.2).
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x80;
const SUBACK: u8 = 0x90;
const UNSUBSCRIBE: u8 = 0xA0;
const UNSUBACK: u8 = 0xB0;
const PINGREQ: u8 = 0xC0;
const PINGRESP: u8 = 0xD0;

impl MuteBroker {
    /// Serves what connects there, for as long as the test's process runs.
    pub fn start(listener: TcpListener) -> Arc<Self> {
        let broker = Arc::new(Self::default());
        let shared = Arc::clone(&broker);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let broker = Arc::clone(&shared);
                // An error is the connection's end.
                std::thread::spawn(move || drop(broker.serve(stream)));
            }
        });
        broker
    }

    /// From now on no publication is acknowledged.
    pub fn fall_mute(&self) {
        self.mute.store(true, Ordering::Relaxed);
    }

    /// From now on nothing is read, and new connections get no answer.
    pub fn fall_deaf(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    /// Publications that it left unacknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged.load(Ordering::Relaxed)
    }

    /// Sends a message to the connection with this clientid; with an identifier at QoS 1.
    pub fn send(&self, client_id: &str, topic: &str, payload: &[u8], pkid: Option<u16>) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = connections.iter_mut().rev().find(|(id, _)| id == client_id);
        let (_, stream) = newest.expect("it is connected");
        stream.write_all(&publish(topic, payload, pkid)).expect("the monitor reads");
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            while self.deaf.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
            }
            let (first, body) = read_packet(&mut stream)?;
            let answer = match first & 0xF0 {
                CONNECT => {
                    // Behind protocol name, level, flags and keep alive stands the clientid.
                    let id = String::from_utf8_lossy(text_at(&body, 10)).into_owned();
                    let sender = stream.try_clone()?;
                    let mut connections =
                        self.connections.lock().unwrap_or_else(PoisonError::into_inner);
                    connections.push((id, sender));
                    vec![CONNACK, 2, 0, 0]
                }
                SUBSCRIBE => {
                    let mut at = 2;
                    let mut answer = body[..2].to_vec();
                    while at < body.len() {
                        at += 2 + text_at(&body, at).len();
                        answer.push(body[at]);
                        at += 1;
                    }
                    packet(SUBACK, &answer)
                }
                UNSUBSCRIBE => packet(UNSUBACK, &body[..2]),
                PINGREQ => vec![PINGRESP, 0],
                PUBLISH => self.answer_publication(first, &body),
                _ => Vec::new(),
            };
            stream.write_all(&answer)?;
        }
    }

    fn answer_publication(&self, first: u8, body: &[u8]) -> Vec<u8> {
        let topic = text_at(body, 0);
        let behind = 2 + topic.len();
        if first & 0x06 == 0 {
            return Vec::new();
        }
        let acknowledgement = packet(PUBACK, &body[behind..behind + 2]);
        let topic = String::from_utf8_lossy(topic);
        if topic.contains("/marker/") {
            [acknowledgement, publish(&topic, &body[behind + 2..], None)].concat()
        } else if self.mute.load(Ordering::Relaxed) {
            self.unacknowledged.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        } else {
            acknowledgement
        }
    }
}

fn read_packet(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let first = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((first, body))
}

/// The text behind a length of two bytes.
fn text_at(body: &[u8], at: usize) -> &[u8] {
    let length = usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    &body[at + 2..at + 2 + length]
}

fn publish(topic: &str, payload: &[u8], pkid: Option<u16>) -> Vec<u8> {
    let mut body = u16::try_from(topic.len()).expect("a short topic").to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    body.extend(pkid.map(u16::to_be_bytes).into_iter().flatten());
    body.extend(payload);
    packet(PUBLISH | if pkid.is_some() { 0x02 } else { 0 }, &body)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let more = length > 0x7F;
        packet.push((length & 0x7F) as u8 | if more { 0x80 } else { 0 });
        length >>= 7;
        if !more {
            break;
        }
    }
    packet.extend(body);
    packet
}
