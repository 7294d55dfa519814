//! A broker of one client's two connections that does what is requested and nothing by itself, so
//! that two runs differ in the number of messages alone.
//!
//! It has no sessions and speaks MQTT 5 only; all subscriptions are granted, and none is examined.

use super::common::fleet::{MQTT_5, put_length, put_publish};
use bytes::{BufMut, BytesMut};
use rumqttc::mqttbytes::Error;
use rumqttc::mqttbytes::v5::Packet;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Under valgrind everything takes fifty times as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one of the connections was seen to do.
#[derive(Debug, PartialEq, Eq)]
enum Fact {
    /// It published on this topic.
    Published(String),
    /// It acknowledged a message.
    Acknowledged,
}

/// One of the two connections: its writing side, and what its reading side reports.
pub struct Line {
    /// Shared with the thread that answers, so that no packet is written into another.
    writing: Arc<Mutex<TcpStream>>,
    facts: Receiver<Fact>,
}

pub struct Broker {
    pub watch: Line,
    pub state: Line,
}

impl Broker {
    /// Waits for both connections.
    pub fn accept(listener: &TcpListener) -> Self {
        let (first, is_state) = Line::accept(listener);
        let (second, _) = Line::accept(listener);
        let (state, watch) = if is_state { (first, second) } else { (second, first) };
        Self { watch, state }
    }
}

impl Line {
    /// The client identifier shows whether it is the state connection.
    fn accept(listener: &TcpListener) -> (Self, bool) {
        let (mut stream, _) = listener.accept().expect("the monitor connects");
        stream.set_nodelay(true).expect("a socket of TCP");
        let mut input = BytesMut::new();
        let Some(Packet::Connect(connect, ..)) = next_packet(&mut stream, &mut input) else {
            panic!("the first packet was no CONNECT");
        };
        stream.write_all(&[0x20, 3, 0, 0, 0]).expect("the monitor reads");
        let is_state = connect.client_id.ends_with("-states");
        // Only facts that are waited for stand here, and statuses; the program is short.
        let (sender, facts) = channel();
        let reading = stream.try_clone().expect("a socket can be duplicated");
        let writing = Arc::new(Mutex::new(stream));
        let answering = Arc::clone(&writing);
        thread::spawn(move || serve(reading, &answering, input, is_state, &sender));
        (Self { writing, facts }, is_state)
    }

    pub fn send(&self, bytes: &[u8]) {
        write(&self.writing, bytes).expect("the monitor reads");
    }

    /// Waits for a publication on this topic; others are passed over.
    pub fn until_published(&self, topic: &str) {
        loop {
            match self.facts.recv_timeout(PATIENCE) {
                Ok(Fact::Published(published)) if published == topic => return,
                Ok(_) => {}
                Err(error) => panic!("no publication on {topic}: {error}"),
            }
        }
    }

    /// Waits for so many acknowledgements; publications are passed over.
    pub fn until_acknowledged(&self, messages: usize) {
        let mut left = messages;
        while left > 0 {
            match self.facts.recv_timeout(PATIENCE) {
                Ok(Fact::Acknowledged) => left -= 1,
                Ok(Fact::Published(_)) => {}
                Err(error) => panic!("{left} messages are not acknowledged: {error}"),
            }
        }
    }
}

/// Answers what has to be answered, and reports the rest, until the connection ends.
fn serve(
    mut reading: TcpStream,
    writing: &Mutex<TcpStream>,
    mut input: BytesMut,
    is_state: bool,
    facts: &Sender<Fact>,
) {
    while let Some(packet) = next_packet(&mut reading, &mut input) {
        let mut answer = BytesMut::new();
        match packet {
            Packet::Subscribe(subscribe) => {
                answer.put_u8(0x90);
                put_length(&mut answer, 3 + subscribe.filters.len());
                answer.put_u16(subscribe.pkid);
                answer.put_u8(0);
                answer.put_bytes(1, subscribe.filters.len());
            }
            Packet::Publish(publish) => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                if publish.pkid != 0 {
                    answer.put_slice(&[0x40, 2]);
                    answer.put_u16(publish.pkid);
                }
                if is_state && topic.contains("/marker/") {
                    put_publish(&mut answer, MQTT_5, &topic, &publish.payload, Some(u16::MAX));
                }
                // Fails when the program is done and this thread is about to end.
                let _ = facts.send(Fact::Published(topic));
            }
            Packet::PubAck(ack) if ack.pkid != u16::MAX => {
                let _ = facts.send(Fact::Acknowledged);
            }
            Packet::PubAck(_) => {}
            Packet::PingReq => answer.put_slice(&[0xD0, 0]),
            Packet::Disconnect(_) => return,
            other => panic!("the monitor sent {other:?}"),
        }
        if write(writing, &answer).is_err() {
            return;
        }
    }
}

fn write(stream: &Mutex<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    stream.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
}

/// The next packet; `None` at the end of the connection.
fn next_packet(stream: &mut TcpStream, input: &mut BytesMut) -> Option<Packet> {
    let mut block = [0; 16 * 1024];
    loop {
        // A DISCONNECT may consist of its header alone, which the codec does not know.
        if input.starts_with(&[0xE0, 0]) {
            return None;
        }
        match Packet::read(input, None) {
            Ok(packet) => return Some(packet),
            Err(Error::InsufficientBytes(_)) => {}
            Err(error) => panic!("the monitor sent no MQTT: {error}"),
        }
        match stream.read(&mut block) {
            Ok(0) | Err(_) => return None,
            Ok(count) => input.extend_from_slice(&block[..count]),
        }
    }
}
