//! MQTT 3.1.1.

use super::{
    Accepted, ConnackRejection, Hello, Incomer, Incoming, Limits, MAX_PACKET_BYTES, Malformed,
    Unwritable, Wire, is_publish, pkid_of_broken_publish, write_whole,
};
use crate::mqtt::Client;
use bytes::{Bytes, BytesMut};
use iotmonitor_core::model::message::{
    Connection, FormerPart, Protocol, Publication, QoS, Subscription,
};
use iotmonitor_core::topic::TopicFilter;
use rumqttc_v4 as mqtt;
use rumqttc_v4::mqttbytes::{self, Error, check};

const MAX: usize = MAX_PACKET_BYTES as usize;

pub(in crate::mqtt) struct V311;

impl Wire for V311 {
    fn protocol(&self) -> Protocol {
        Protocol::V311
    }

    fn decode(&self, input: &mut BytesMut) -> Result<Option<Incoming>, Malformed> {
        if is_publish(input) {
            return decode_publish(input);
        }
        match mqtt::Packet::read(input, MAX) {
            Ok(packet) => Ok(Some(translate(packet))),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(Malformed(error.to_string())),
        }
    }

    fn connect(&self, hello: &Hello<'_>, out: &mut BytesMut) -> Result<(), Unwritable> {
        let mut connect = mqtt::Connect::new(hello.client_id.clone());
        connect.keep_alive = hello.keep_alive_seconds;
        connect.clean_session = match hello.connection {
            Connection::Watch | Connection::Former(FormerPart::Look | FormerPart::End) => true,
            Connection::State | Connection::Former(FormerPart::Drain) => false,
        };
        connect.last_will = hello.will.map(|will| mqtt::LastWill {
            topic: will.topic.to_string(),
            message: will.payload.clone(),
            qos: qos(will.qos),
            retain: will.retain,
        });
        connect.auth = match (hello.user, hello.password) {
            (None, _) => mqtt::ConnectAuth::None,
            (Some(user), None) => mqtt::ConnectAuth::Username { username: user.to_owned() },
            (Some(user), Some(password)) => mqtt::ConnectAuth::UsernamePassword {
                username: user.to_owned(),
                password: Bytes::copy_from_slice(password.reveal().as_bytes()),
            },
        };
        write_whole(out, |out| connect.write(out))
    }

    fn publish(
        &self,
        publication: &Publication,
        pkid: u16,
        dup: bool,
        _owner: &str,
        out: &mut BytesMut,
    ) -> Result<(), Unwritable> {
        let publish = mqtt::Publish {
            dup,
            qos: qos(publication.qos),
            retain: publication.retain,
            topic: Bytes::copy_from_slice(publication.topic.as_ref()),
            pkid,
            payload: publication.payload.clone(),
        };
        write_whole(out, |out| publish.write(out))
    }

    fn subscribe(
        &self,
        pkid: u16,
        subscriptions: &[Subscription],
        _purpose: (Connection, Client),
        out: &mut BytesMut,
    ) -> Result<(), Unwritable> {
        let mut subscribe = mqtt::Subscribe::new_many(subscriptions.iter().map(|subscription| {
            mqtt::SubscribeFilter::new(
                subscription.filter.as_str().to_owned(),
                qos(subscription.qos),
            )
        }));
        subscribe.pkid = pkid;
        write_whole(out, |out| subscribe.write(out))
    }

    fn unsubscribe(
        &self,
        pkid: u16,
        filters: &[TopicFilter],
        out: &mut BytesMut,
    ) -> Result<(), Unwritable> {
        let topics = filters.iter().map(|filter| filter.as_str().to_owned()).collect();
        write_whole(out, |out| mqtt::Unsubscribe { pkid, topics }.write(out))
    }
}

fn qos(qos: QoS) -> mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
    }
}

fn decode_publish(input: &mut BytesMut) -> Result<Option<Incoming>, Malformed> {
    let header = match check(input.iter(), MAX) {
        Ok(header) => header,
        Err(Error::InsufficientBytes(_)) => return Ok(None),
        Err(error) => return Err(Malformed(error.to_string())),
    };
    let frame = input.split_to(header.frame_length()).freeze();
    match mqtt::Publish::read(header, frame.clone()) {
        Ok(publish) if publish.qos != mqttbytes::QoS::ExactlyOnce => {
            Ok(Some(Incoming::Publish(Incomer {
                topic: publish.topic,
                payload: publish.payload,
                retain: publish.retain,
                dup: publish.dup,
                pkid: (publish.pkid != 0).then_some(publish.pkid),
                restored_by: None,
            })))
        }
        Ok(_) => Err(Malformed("a message at QoS 2, which nothing was subscribed with".into())),
        Err(error) => match pkid_of_broken_publish(&frame) {
            Some(pkid) => Ok(Some(Incoming::BadPublish { pkid })),
            None => Err(Malformed(error.to_string())),
        },
    }
}

fn translate(packet: mqtt::Packet) -> Incoming {
    match packet {
        mqtt::Packet::ConnAck(ack) => connack(&ack),
        mqtt::Packet::PubAck(ack) => Incoming::PubAck { pkid: ack.pkid, refused: None },
        mqtt::Packet::SubAck(ack) => Incoming::SubAck {
            pkid: ack.pkid,
            refused: ack
                .return_codes
                .iter()
                .map(|code| match code {
                    mqtt::SubscribeReasonCode::Success(_) => None,
                    mqtt::SubscribeReasonCode::Failure => Some("refused"),
                })
                .collect(),
        },
        mqtt::Packet::UnsubAck(ack) => Incoming::UnsubAck { pkid: ack.pkid },
        mqtt::Packet::PingResp => Incoming::PingResp,
        mqtt::Packet::Connect(_) => Incoming::Unexpected("CONNECT"),
        mqtt::Packet::Publish(_) => Incoming::Unexpected("PUBLISH"),
        mqtt::Packet::PubRec(_) => Incoming::Unexpected("PUBREC"),
        mqtt::Packet::PubRel(_) => Incoming::Unexpected("PUBREL"),
        mqtt::Packet::PubComp(_) => Incoming::Unexpected("PUBCOMP"),
        mqtt::Packet::Subscribe(_) => Incoming::Unexpected("SUBSCRIBE"),
        mqtt::Packet::Unsubscribe(_) => Incoming::Unexpected("UNSUBSCRIBE"),
        mqtt::Packet::PingReq => Incoming::Unexpected("PINGREQ"),
        mqtt::Packet::Disconnect => Incoming::Unexpected("DISCONNECT"),
    }
}

fn connack(ack: &mqtt::ConnAck) -> Incoming {
    use mqtt::ConnectReturnCode as Code;
    let rejection = match ack.code {
        Code::Success => {
            return Incoming::Accepted(Accepted {
                session_present: ack.session_present,
                limits: Limits::NONE,
            });
        }
        Code::RefusedProtocolVersion => ConnackRejection::Version,
        Code::BadUserNamePassword | Code::NotAuthorized => ConnackRejection::Credentials,
        Code::BadClientId => ConnackRejection::Other("the client identifier is not allowed".into()),
        Code::ServiceUnavailable => ConnackRejection::Other("the service is not available".into()),
    };
    Incoming::Rejected(rejection)
}
