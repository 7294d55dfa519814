//! Packets independent of the protocol version, as the connection's logic handles them.
//!
//! [`Wire`] has one implementation for each version. Each only translates and keeps no memory of
//! earlier packets.

pub(super) mod v311;
pub(super) mod v5;

use super::{Client, Will};
use crate::secret::Secret;
use bytes::{BufMut, Bytes, BytesMut};
use iotmonitor_core::model::message::{Connection, Protocol, Publication, QoS, Subscription};
use iotmonitor_core::topic::TopicFilter;
use std::time::Duration;

/// The largest packet that MQTT can frame: its remaining length is 268,435,455 bytes after a
/// header of 5 (MQTT 5, 1.5.5).
pub(super) const MAX_PACKET_BYTES: u32 = 268_435_455 + 5;

/// How long the broker keeps the state connection's session in MQTT 5: a week, so that a monitor
/// that was off over a holiday still receives the messages kept for it.
pub(super) const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many QoS 1 messages the broker may have unacknowledged on the state connection in MQTT 5.
/// Each waits for a commit, and a commit takes many at once. MQTT 3.1.1 has no such limit to
/// announce; there the broker's own applies (mosquitto: 20).
pub(super) const STATE_RECEIVE_MAXIMUM: u16 = 100;

/// The same for a recorder, whose commits take longer than those of the store and cost as much for
/// many messages as for one. After a crash the broker sends as many once more.
pub(super) const RECORDER_RECEIVE_MAXIMUM: u16 = 500;

/// The contents of a CONNECT packet.
pub(super) struct Hello<'a> {
    pub connection: Connection,
    pub client: Client,
    pub client_id: String,
    pub keep_alive_seconds: u16,
    pub user: Option<&'a str>,
    pub password: Option<&'a Secret>,
    pub will: Option<&'a Will>,
}

/// A packet from the broker.
#[derive(Debug)]
pub(super) enum Incoming {
    Accepted(Accepted),
    Rejected(ConnackRejection),
    Publish(Incomer),
    /// A PUBLISH that violates MQTT's rules for topics or properties, but whose packet identifier
    /// is known (`None` at QoS 0).
    BadPublish {
        pkid: Option<u16>,
    },
    /// With a description of the reason where the publication was refused.
    PubAck {
        pkid: u16,
        refused: Option<&'static str>,
    },
    /// The reason for each filter that was refused, in the order of the SUBSCRIBE.
    SubAck {
        pkid: u16,
        refused: Vec<Option<&'static str>>,
    },
    UnsubAck {
        pkid: u16,
    },
    PingResp,
    /// The broker states why it closes (MQTT 5 only).
    Disconnect(Farewell),
    /// A packet that a broker has no reason to send.
    Unexpected(&'static str),
}

/// CONNACK with success.
#[derive(Debug)]
pub(super) struct Accepted {
    pub session_present: bool,
    pub limits: Limits,
}

/// The broker's limits as its CONNACK states them; in 3.1.1 the protocol's own bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Unacknowledged QoS 1 publications.
    pub receive_maximum: u16,
    /// Whole packets, in bytes.
    pub max_packet: usize,
    pub max_qos: QoS,
    pub retain_available: bool,
    /// Whether filters may hold `+` and `#`.
    pub wildcards: bool,
    /// Overrides the client's own (MQTT 5, 3.2.2.3.14).
    pub keep_alive: Option<Duration>,
}

impl Limits {
    /// The missing features, in words; empty when all are supported.
    pub(super) fn lacks(&self) -> String {
        let missing = [
            (!self.retain_available)
                .then_some("retained messages, so later subscribers do not get the last status"),
            (self.max_qos == QoS::AtMostOnce)
                .then_some("QoS 1, so messages can be lost on the way"),
            (!self.wildcards).then_some("wildcards, so filters with `+` or `#` receive nothing"),
        ];
        missing.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    pub(super) const NONE: Self = Self {
        receive_maximum: u16::MAX,
        max_packet: MAX_PACKET_BYTES as usize,
        max_qos: QoS::AtLeastOnce,
        retain_available: true,
        wildcards: true,
        keep_alive: None,
    };
}

/// CONNACK without success.
#[derive(Debug)]
pub(super) enum ConnackRejection {
    /// The broker does not support this version.
    Version,
    /// Bad user name or password, or not authorized.
    Credentials,
    /// The will is retained, or of QoS 1, which the broker does not support.
    NoRetain,
    NoQos,
    /// Anything else, in words.
    Other(String),
}

#[derive(Debug)]
pub(super) enum Farewell {
    TakenOver,
    NotAuthorized,
    /// An objection to something that this side has sent.
    Objection(String),
    Other(String),
}

/// A PUBLISH from the broker; topic and payload share the read buffer's memory.
#[derive(Debug)]
pub(super) struct Incomer {
    pub topic: Bytes,
    pub payload: Bytes,
    pub retain: bool,
    /// Whether it was sent to an earlier connection of the session.
    pub dup: bool,
    /// `None` at QoS 0.
    pub pkid: Option<u16>,
    /// The clientid of the monitor that restored the state, where the protocol carries it.
    pub restored_by: Option<String>,
}

/// A packet that violates the protocol; the connection cannot be used after it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub String);

/// A packet that cannot be written: too large for the protocol, or against its rules.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unwritable(pub String);

/// One protocol version.
pub(super) trait Wire: Send + Sync {
    fn protocol(&self) -> Protocol;

    /// Takes the next whole packet out of the buffer; `None` when there is none yet.
    ///
    /// # Errors
    /// Returns an error when the bytes are not MQTT.
    fn decode(&self, input: &mut BytesMut) -> Result<Option<Incoming>, Malformed>;

    fn connect(&self, hello: &Hello<'_>, out: &mut BytesMut) -> Result<(), Unwritable>;

    /// `pkid` is 0 at QoS 0; `owner` is the value of the user property of a restored state.
    fn publish(
        &self,
        publication: &Publication,
        pkid: u16,
        dup: bool,
        owner: &str,
        out: &mut BytesMut,
    ) -> Result<(), Unwritable>;

    fn subscribe(
        &self,
        pkid: u16,
        subscriptions: &[Subscription],
        purpose: (Connection, Client),
        out: &mut BytesMut,
    ) -> Result<(), Unwritable>;

    fn unsubscribe(
        &self,
        pkid: u16,
        filters: &[TopicFilter],
        out: &mut BytesMut,
    ) -> Result<(), Unwritable>;

    /// PUBACK with success: the same four bytes in both versions (MQTT 5, 3.4.2.1 lets the reason
    /// be left out).
    fn puback(&self, pkid: u16, out: &mut BytesMut) {
        out.put_slice(&[0x40, 2]);
        out.put_u16(pkid);
    }

    fn pingreq(&self, out: &mut BytesMut) {
        out.put_slice(&[0xC0, 0]);
    }

    /// A clean DISCONNECT, upon which the broker discards the will (MQTT 5, 3.14.4).
    fn disconnect(&self, out: &mut BytesMut) {
        out.put_slice(&[0xE0, 0]);
    }
}

pub(super) fn wire(protocol: Protocol) -> Box<dyn Wire> {
    match protocol {
        Protocol::V5 => Box::new(v5::V5),
        Protocol::V311 => Box::new(v311::V311),
    }
}

/// Whether the buffer begins with a PUBLISH.
fn is_publish(input: &BytesMut) -> bool {
    input.first().is_some_and(|byte| byte >> 4 == 3)
}

/// The packet identifier of a PUBLISH whose other parts are broken: it follows the topic (MQTT 5,
/// 3.3.2). `None` when it cannot be determined, `Some(None)` at QoS 0.
fn pkid_of_broken_publish(frame: &[u8]) -> Option<Option<u16>> {
    let qos = (frame.first()? >> 1) & 0b11;
    if qos == 0 {
        return Some(None);
    }
    // The remaining length goes on as long as its bytes have their highest bit set (1.5.5).
    let header_len = 2 + frame.iter().skip(1).take_while(|&&byte| byte & 0x80 != 0).count();
    let topic_len = u16::from_be_bytes([*frame.get(header_len)?, *frame.get(header_len + 1)?]);
    let at = header_len + 2 + usize::from(topic_len);
    match u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]) {
        0 => None,
        pkid if qos == 1 => Some(Some(pkid)),
        _ => None,
    }
}

/// Leaves the buffer as it was when a packet could not be written whole.
fn write_whole<E: std::fmt::Display>(
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<usize, E>,
) -> Result<(), Unwritable> {
    let before = out.len();
    match write(out) {
        Ok(_) => Ok(()),
        Err(error) => {
            out.truncate(before);
            Err(Unwritable(error.to_string()))
        }
    }
}

/// Decodes bytes as packets of a broker, in both versions.
#[cfg(any(test, fuzzing))]
pub fn fuzz(data: &[u8]) {
    for protocol in [Protocol::V5, Protocol::V311] {
        let (wire, mut input) = (wire(protocol), BytesMut::from(data));
        let mut before = input.len();
        while let Ok(Some(_)) = wire.decode(&mut input) {
            assert!(input.len() < before, "a packet takes bytes");
            before = input.len();
        }
    }
}
