//! Devices of one kind in any number, their configuration and their messages.

use bytes::{BufMut, BytesMut};
use std::fmt::Write;

/// Bytes of each payload.
pub const PAYLOAD: &[u8; 20] = b"payload of 20 bytes.";

/// The device that has nothing but a hello topic: its hello comes back as a publication once
/// everything before it was handled.
pub const BARRIER_HELLO: &str = "b/barrier/hello";
pub const BARRIER_COUNT: &str = "home/monitoring/helloTopicCount/barrier";

/// The configuration of `devices` devices and the barrier, for a broker on this port. Names are
/// short, since a file of 100,000 devices comes near the longest that the monitor reads.
pub fn config(devices: usize, port: u16) -> String {
    let mut text = format!(
        "[mqtt]\nserverAddress = \"tcp://127.0.0.1:{port}\"\nprotocol = \"5\"\n\n\
         [device_barrier]\nhelloTopic = \"{BARRIER_HELLO}\"\n"
    );
    for number in 0..devices {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[device_d{number}]\nwatchTopics=\"b/d{number}/sensors/#\"\n\
             watchTimeOut=86400\nhelloTopic=\"b/d{number}/hello\"\n\
             stateTopics=\"b/d{number}/actuators/#\"\nrestoreOnStart=false\n"
        );
    }
    text
}

/// The configuration of `devices` devices that have watchTopics and nothing else.
#[allow(dead_code, reason = "one of the benches does without")]
pub fn watched_config(devices: usize, port: u16) -> String {
    let mut text =
        format!("[mqtt]\nserverAddress = \"tcp://127.0.0.1:{port}\"\nprotocol = \"5\"\n");
    for number in 0..devices {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[device_d{number}]\nwatchTopics=\"b/d{number}/sensors/#\"\nwatchTimeOut=86400\n"
        );
    }
    text
}

pub fn watched_topic(device: usize) -> String {
    format!("b/d{device}/sensors/temperature")
}

pub fn state_topic(device: usize) -> String {
    format!("b/d{device}/actuators/lamp")
}

/// The level of MQTT 5 in a CONNECT (3.1.2.2).
pub const MQTT_5: u8 = 5;

/// Writes a PUBLISH packet without properties, at QoS 1 where it has an identifier.
pub fn put_publish(out: &mut BytesMut, level: u8, topic: &str, payload: &[u8], pkid: Option<u16>) {
    let properties = usize::from(level == MQTT_5);
    let length = 2 + topic.len() + pkid.map_or(0, |_| 2) + properties + payload.len();
    out.put_u8(if pkid.is_some() { 0x32 } else { 0x30 });
    put_length(out, length);
    put_text(out, topic);
    if let Some(pkid) = pkid {
        out.put_u16(pkid);
    }
    out.put_bytes(0, properties);
    out.put_slice(payload);
}

/// Writes the length of what follows (MQTT 5, 1.5.5).
pub fn put_length(out: &mut BytesMut, length: usize) {
    let mut left = length;
    loop {
        let byte = u8::try_from(left % 128).unwrap_or(0);
        left /= 128;
        out.put_u8(if left > 0 { byte | 0x80 } else { byte });
        if left == 0 {
            return;
        }
    }
}

/// Writes a string with its length. Those here are short.
pub fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
    out.put_slice(text.as_bytes());
}
