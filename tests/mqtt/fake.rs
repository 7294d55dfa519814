//! Scripted brokers, for faults that mosquitto does not make.

use iotmonitor_core::model::message::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct FakeBroker {
    listener: TcpListener,
}

/// One packet: its first byte and what follows the remaining length.
pub struct Packet {
    pub first: u8,
    pub body: Vec<u8>,
}

impl FakeBroker {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The next connection, nothing read yet.
    pub async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// The next connection and the version that its CONNECT names. Connections that only look
    /// whether a client listens are skipped.
    pub async fn connect(&self) -> (TcpStream, Protocol) {
        let (stream, packet) = loop {
            let mut stream = self.accept().await;
            if let Some(packet) = read(&mut stream).await {
                break (stream, packet);
            }
        };
        assert_eq!(packet.first, 0x10);
        // The protocol's level follows its name of two length bytes and "MQTT" (3.1.2.2).
        let protocol = match packet.body[6] {
            4 => Protocol::V311,
            5 => Protocol::V5,
            other => panic!("unknown protocol level {other}"),
        };
        (stream, protocol)
    }

    /// A connection that is accepted, without session.
    pub async fn welcome(&self) -> TcpStream {
        let (mut stream, protocol) = self.connect().await;
        let connack: &[u8] = match protocol {
            Protocol::V5 => &[0x20, 3, 0, 0, 0],
            Protocol::V311 => &[0x20, 2, 0, 0],
        };
        stream.write_all(connack).await.unwrap();
        stream
    }
}

/// The next packet; `None` when the client closed.
pub async fn read(stream: &mut TcpStream) -> Option<Packet> {
    let first = stream.read_u8().await.ok()?;
    let mut length = 0;
    let mut shift = 0;
    loop {
        let byte = stream.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Packet { first, body })
}

/// What a broker without manners closes on, in words of MQTT: topics of publications, and filters.
pub type Objection = fn(&str) -> bool;

/// Answers every packet of every connection, and closes on what it objects to. Ends with the test.
pub fn serve_with_objections(broker: FakeBroker, objects: Objection) {
    serve(broker, objects, usize::MAX);
}

/// The same, and closes on a SUBSCRIBE of more filters than this.
pub fn serve(broker: FakeBroker, objects: Objection, most_filters: usize) {
    tokio::spawn(async move {
        loop {
            let mut stream = broker.accept().await;
            tokio::spawn(async move {
                let protocol = match read(&mut stream).await {
                    Some(connect) if connect.body[6] == 4 => Protocol::V311,
                    Some(_) => Protocol::V5,
                    None => return,
                };
                let connack: &[u8] = match protocol {
                    Protocol::V5 => &[0x20, 3, 0, 0, 0],
                    Protocol::V311 => &[0x20, 2, 0, 0],
                };
                let mut answer = connack.to_vec();
                while stream.write_all(&answer).await.is_ok() {
                    let Some(packet) = read(&mut stream).await else { return };
                    match answer_of(&packet, protocol, objects, most_filters) {
                        Some(next) => answer = next,
                        None => return,
                    }
                }
            });
        }
    });
}

/// The length of what follows (MQTT 5, 1.5.5), in two bytes where one is too short.
fn length(bytes: usize) -> Vec<u8> {
    let low = u8::try_from(bytes & 0x7F).unwrap();
    let high = u8::try_from(bytes >> 7).unwrap();
    if high == 0 { vec![low] } else { vec![low | 0x80, high] }
}

/// `None` where it objects.
fn answer_of(
    packet: &Packet,
    protocol: Protocol,
    objects: Objection,
    most_filters: usize,
) -> Option<Vec<u8>> {
    let body = &packet.body;
    let text = |at: usize| {
        let length = usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
        (String::from_utf8(body[at + 2..at + 2 + length].to_vec()).unwrap(), at + 2 + length)
    };
    match packet.first >> 4 {
        3 => {
            let (topic, end) = text(0);
            if objects(&topic) {
                return None;
            }
            let is_acknowledged = packet.first & 0b110 != 0;
            Some(if is_acknowledged { vec![0x40, 2, body[end], body[end + 1]] } else { Vec::new() })
        }
        8 => {
            // MQTT 5 has a length of properties there, which is 0.
            let mut at = if protocol == Protocol::V5 { 3 } else { 2 };
            let mut codes = Vec::new();
            while at < body.len() {
                let (filter, end) = text(at);
                if objects(&filter) {
                    return None;
                }
                codes.push(body[end] & 1);
                at = end + 1;
            }
            if codes.len() > most_filters {
                return None;
            }
            let mut rest = body[..2].to_vec();
            if protocol == Protocol::V5 {
                rest.push(0);
            }
            rest.extend(codes);
            Some([vec![0x90], length(rest.len()), rest].concat())
        }
        10 => Some(match protocol {
            Protocol::V311 => vec![0xB0, 2, body[0], body[1]],
            // An empty list of properties, and success for one filter.
            Protocol::V5 => vec![0xB0, 4, body[0], body[1], 0, 0],
        }),
        12 => Some(vec![0xD0, 0]),
        14 => None,
        other => panic!("a packet of type {other}"),
    }
}
