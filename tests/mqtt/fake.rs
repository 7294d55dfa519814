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
    /// whether somebody listens are passed over.
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
