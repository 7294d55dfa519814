//! MQTT 5.

use super::{
    Accepted, ConnackRejection, Farewell, Hello, Incomer, Incoming, Limits, MAX_PACKET_BYTES,
    Malformed, RECORDER_RECEIVE_MAXIMUM, SESSION_EXPIRY, STATE_RECEIVE_MAXIMUM, Unwritable, Wire,
    is_publish, pkid_of_broken_publish, write_whole,
};
use crate::mqtt::Client;
use bytes::{Buf, Bytes, BytesMut};
use iotmonitor_core::model::message::{
    Connection, FormerPart, Protocol, Publication, QoS, RESTORED_PROPERTY, Subscription,
};
use iotmonitor_core::topic::TopicFilter;
use rumqttc::mqttbytes::v5 as mqtt;
use rumqttc::mqttbytes::{self, Error, check};
use std::time::Duration;

pub(in crate::mqtt) struct V5;

impl Wire for V5 {
    fn protocol(&self) -> Protocol {
        Protocol::V5
    }

    fn decode(&self, input: &mut BytesMut) -> Result<Option<Incoming>, Malformed> {
        if is_publish(input) {
            return decode_publish(input);
        }
        if is_old_connack(input) {
            if input.len() < 4 {
                return Ok(None);
            }
            input.advance(4);
            return Ok(Some(Incoming::Rejected(ConnackRejection::Version)));
        }
        match check(input.iter(), Some(MAX_PACKET_BYTES)) {
            Ok(_) => {}
            Err(Error::InsufficientBytes(_)) => return Ok(None),
            Err(error) => return Err(Malformed(error.to_string())),
        }
        let packet = match short_disconnect(input) {
            Some(disconnect) => disconnect.map(mqtt::Packet::Disconnect),
            None => mqtt::Packet::read(input, Some(MAX_PACKET_BYTES)),
        };
        packet.map(translate).map(Some).map_err(|error| Malformed(error.to_string()))
    }

    fn connect(&self, hello: &Hello<'_>, out: &mut BytesMut) -> Result<(), Unwritable> {
        let mut properties = mqtt::ConnectProperties::new();
        // No maximum packet size: when absent, the broker may send whatever MQTT can frame.
        let clean_start = match hello.connection {
            Connection::Watch | Connection::Former(FormerPart::Look | FormerPart::End) => {
                properties.session_expiry_interval = Some(0);
                true
            }
            Connection::State | Connection::Former(FormerPart::Drain) => {
                let expiry = u32::try_from(SESSION_EXPIRY.as_secs()).unwrap_or(u32::MAX);
                properties.session_expiry_interval = Some(expiry);
                properties.receive_maximum = Some(match hello.client {
                    Client::Monitor => STATE_RECEIVE_MAXIMUM,
                    Client::Recorder => RECORDER_RECEIVE_MAXIMUM,
                });
                false
            }
        };
        let connect = mqtt::Connect {
            keep_alive: hello.keep_alive_seconds,
            client_id: hello.client_id.clone(),
            clean_start,
            properties: Some(properties),
        };
        let will = hello.will.map(|will| mqtt::LastWill {
            topic: Bytes::copy_from_slice(will.topic.as_ref()),
            message: will.payload.clone(),
            qos: qos(will.qos),
            retain: will.retain,
            properties: None,
        });
        let auth = match (hello.user, hello.password) {
            (None, None) => mqtt::ConnectAuth::None,
            (None, Some(password)) => mqtt::ConnectAuth::Password {
                password: Bytes::copy_from_slice(password.reveal().as_bytes()),
            },
            (Some(user), None) => mqtt::ConnectAuth::Username { username: user.to_owned() },
            (Some(user), Some(password)) => mqtt::ConnectAuth::UsernamePassword {
                username: user.to_owned(),
                password: Bytes::copy_from_slice(password.reveal().as_bytes()),
            },
        };
        write_whole(out, |out| connect.write(&will, &auth, out))
    }

    fn publish(
        &self,
        publication: &Publication,
        pkid: u16,
        dup: bool,
        owner: &str,
        out: &mut BytesMut,
    ) -> Result<(), Unwritable> {
        let properties = publication.restored.then(|| mqtt::PublishProperties {
            user_properties: vec![(RESTORED_PROPERTY.to_owned(), owner.to_owned())],
            ..Default::default()
        });
        let publish = mqtt::Publish {
            dup,
            qos: qos(publication.qos),
            retain: publication.retain,
            topic: Bytes::copy_from_slice(publication.topic.as_ref()),
            pkid,
            payload: publication.payload.clone(),
            properties,
        };
        write_whole(out, |out| publish.write(out))
    }

    fn subscribe(
        &self,
        pkid: u16,
        subscriptions: &[Subscription],
        (connection, client): (Connection, Client),
        out: &mut BytesMut,
    ) -> Result<(), Unwritable> {
        // On the watch connection a set retain flag marks a replay, which is requested only where
        // needed, and live messages come without it; on the state connection the flag belongs to
        // the state.
        let preserve_retain = client == Client::Monitor
            && matches!(connection, Connection::State | Connection::Former(FormerPart::Drain));
        let retain_forward_rule = |subscription: &Subscription| match connection {
            _ if client == Client::Recorder => mqtt::RetainForwardRule::OnNewSubscribe,
            Connection::Watch if !subscription.replay => mqtt::RetainForwardRule::Never,
            Connection::Watch | Connection::State | Connection::Former(_) => {
                mqtt::RetainForwardRule::OnEverySubscribe
            }
        };
        let filters = subscriptions
            .iter()
            .map(|subscription| mqtt::SubscribeFilter {
                path: subscription.filter.as_str().to_owned(),
                qos: qos(subscription.qos),
                nolocal: false,
                preserve_retain,
                retain_forward_rule: retain_forward_rule(subscription),
            })
            .collect();
        let subscribe = mqtt::Subscribe { pkid, filters, properties: None };
        write_whole(out, |out| subscribe.write(out))
    }

    fn unsubscribe(
        &self,
        pkid: u16,
        filters: &[TopicFilter],
        out: &mut BytesMut,
    ) -> Result<(), Unwritable> {
        let filters = filters.iter().map(|filter| filter.as_str().to_owned()).collect();
        write_whole(out, |out| mqtt::Unsubscribe { pkid, filters, properties: None }.write(out))
    }
}

/// A broker that knows only 3.1.1 answers a CONNECT of MQTT 5 in its own format: CONNACK with a
/// remaining length of 2 (MQTT 3.1.1, 3.2.1), which is too short for one of MQTT 5.
fn is_old_connack(input: &BytesMut) -> bool {
    input.starts_with(&[0x20, 2])
}

/// Accepts a DISCONNECT that ends after its reason, as MQTT 5, 3.14.2.2.1 allows and brokers send;
/// the library's reader requires a length of properties after it.
fn short_disconnect(input: &mut BytesMut) -> Option<Result<mqtt::Disconnect, Error>> {
    let reason = *input.strip_prefix(&[0xE0, 1])?.first()?;
    input.advance(3);
    Some(mqtt::DisconnectReasonCode::try_from(reason).map(mqtt::Disconnect::new))
}

fn qos(qos: QoS) -> mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
    }
}

fn decode_publish(input: &mut BytesMut) -> Result<Option<Incoming>, Malformed> {
    let header = match check(input.iter(), Some(MAX_PACKET_BYTES)) {
        Ok(header) => header,
        Err(Error::InsufficientBytes(_)) => return Ok(None),
        Err(error) => return Err(Malformed(error.to_string())),
    };
    let frame = input.split_to(header.frame_length()).freeze();
    match mqtt::Publish::read(header, frame.clone()) {
        Ok(publish) if publish.qos != mqttbytes::QoS::ExactlyOnce => {
            let properties = publish.properties.map(|properties| properties.user_properties);
            let mut properties = properties.into_iter().flatten();
            let restored_by =
                properties.find_map(|(name, owner)| (name == RESTORED_PROPERTY).then_some(owner));
            Ok(Some(Incoming::Publish(Incomer {
                topic: publish.topic,
                payload: publish.payload,
                retain: publish.retain,
                dup: publish.dup,
                pkid: (publish.pkid != 0).then_some(publish.pkid),
                restored_by,
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
        mqtt::Packet::ConnAck(ack) => connack(ack),
        mqtt::Packet::PubAck(ack) => {
            Incoming::PubAck { pkid: ack.pkid, refused: publication_refusal(ack.reason) }
        }
        mqtt::Packet::SubAck(ack) => Incoming::SubAck {
            pkid: ack.pkid,
            refused: ack.return_codes.into_iter().map(refusal).collect(),
        },
        mqtt::Packet::UnsubAck(ack) => Incoming::UnsubAck { pkid: ack.pkid },
        mqtt::Packet::PingResp => Incoming::PingResp,
        mqtt::Packet::Disconnect(disconnect) => Incoming::Disconnect(farewell(disconnect)),
        mqtt::Packet::Auth(_) => Incoming::Unexpected("AUTH"),
        mqtt::Packet::Connect(..) => Incoming::Unexpected("CONNECT"),
        mqtt::Packet::Publish(_) => Incoming::Unexpected("PUBLISH"),
        mqtt::Packet::PubRec(_) => Incoming::Unexpected("PUBREC"),
        mqtt::Packet::PubRel(_) => Incoming::Unexpected("PUBREL"),
        mqtt::Packet::PubComp(_) => Incoming::Unexpected("PUBCOMP"),
        mqtt::Packet::Subscribe(_) => Incoming::Unexpected("SUBSCRIBE"),
        mqtt::Packet::Unsubscribe(_) => Incoming::Unexpected("UNSUBSCRIBE"),
        mqtt::Packet::PingReq => Incoming::Unexpected("PINGREQ"),
    }
}

fn publication_refusal(reason: mqtt::PubAckReason) -> Option<&'static str> {
    use mqtt::PubAckReason as Reason;
    match reason {
        Reason::Success | Reason::NoMatchingSubscribers => None,
        Reason::UnspecifiedError => Some("refused without a reason"),
        Reason::ImplementationSpecificError => Some("the broker does not accept it"),
        Reason::NotAuthorized => Some(
            "not authorized; let its access control list allow the user of [mqtt] to publish there",
        ),
        Reason::TopicNameInvalid => Some("the broker does not allow this topic"),
        Reason::PacketIdentifierInUse => Some("the packet identifier is in use"),
        Reason::QuotaExceeded => Some("a quota is exceeded"),
        Reason::PayloadFormatInvalid => Some("the payload is not of the stated format"),
    }
}

fn refusal(code: mqtt::SubscribeReasonCode) -> Option<&'static str> {
    use mqtt::SubscribeReasonCode as Code;
    match code {
        Code::Success(_) => None,
        Code::Failure | Code::Unspecified => Some("refused without a reason"),
        Code::ImplementationSpecific => Some("the broker does not accept it"),
        Code::NotAuthorized => Some("not authorized"),
        Code::TopicFilterInvalid => Some("the broker does not allow this topic filter"),
        Code::PkidInUse => Some("the packet identifier is in use"),
        Code::QuotaExceeded => Some("a quota is exceeded"),
        Code::SharedSubscriptionsNotSupported => Some("shared subscriptions are not supported"),
        Code::SubscriptionIdNotSupported => Some("subscription identifiers are not supported"),
        Code::WildcardSubscriptionsNotSupported => Some("wildcards are not supported"),
    }
}

fn connack(ack: mqtt::ConnAck) -> Incoming {
    use mqtt::ConnectReturnCode as Code;
    let rejection = match ack.code {
        Code::Success => {
            return Incoming::Accepted(Accepted {
                session_present: ack.session_present,
                limits: limits(ack.properties.as_ref()),
            });
        }
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => {
            ConnackRejection::Version
        }
        Code::BadUserNamePassword | Code::NotAuthorized => ConnackRejection::Credentials,
        Code::BadClientId | Code::ClientIdentifierNotValid => {
            ConnackRejection::Other("the client identifier is not allowed".into())
        }
        Code::ServiceUnavailable | Code::ServerUnavailable => {
            ConnackRejection::Other("the server is not available".into())
        }
        Code::ServerBusy => ConnackRejection::Other("the server is busy".into()),
        Code::Banned => ConnackRejection::Other("this client is banned".into()),
        Code::BadAuthenticationMethod => {
            ConnackRejection::Other("bad authentication method".into())
        }
        Code::TopicNameInvalid => ConnackRejection::Other("the will's topic is not allowed".into()),
        Code::PacketTooLarge => ConnackRejection::Other("the CONNECT packet is too large".into()),
        Code::QuotaExceeded => ConnackRejection::Other("a quota is exceeded".into()),
        Code::RetainNotSupported => ConnackRejection::NoRetain,
        Code::QoSNotSupported => ConnackRejection::NoQos,
        Code::UseAnotherServer => ConnackRejection::Other("use another server".into()),
        Code::ServerMoved => ConnackRejection::Other("the server has moved".into()),
        Code::ConnectionRateExceeded => {
            ConnackRejection::Other("connections come too often".into())
        }
        Code::UnspecifiedError
        | Code::MalformedPacket
        | Code::ProtocolError
        | Code::ImplementationSpecificError
        | Code::PayloadFormatInvalid => ConnackRejection::Other(format!("{:?}", ack.code)),
    };
    Incoming::Rejected(rejection)
}

/// A property that is absent has the protocol's default (MQTT 5, 3.2.2.3).
fn limits(properties: Option<&mqtt::ConnAckProperties>) -> Limits {
    let Some(properties) = properties else { return Limits::NONE };
    Limits {
        receive_maximum: properties.receive_max.unwrap_or(u16::MAX).max(1),
        max_packet: properties.max_packet_size.unwrap_or(MAX_PACKET_BYTES) as usize,
        max_qos: match properties.max_qos {
            Some(0) => QoS::AtMostOnce,
            Some(_) | None => QoS::AtLeastOnce,
        },
        retain_available: properties.retain_available != Some(0),
        wildcards: properties.wildcard_subscription_available != Some(0),
        keep_alive: properties
            .server_keep_alive
            .filter(|&seconds| seconds > 0)
            .map(|seconds| Duration::from_secs(seconds.into())),
    }
}

fn farewell(disconnect: mqtt::Disconnect) -> Farewell {
    use mqtt::DisconnectReasonCode as Code;
    match disconnect.reason_code {
        Code::SessionTakenOver => Farewell::TakenOver,
        Code::NotAuthorized => Farewell::NotAuthorized,
        Code::NormalDisconnection | Code::DisconnectWithWillMessage => {
            Farewell::Other("normal disconnection".into())
        }
        Code::ServerShuttingDown => Farewell::Other("the server is shutting down".into()),
        Code::ServerBusy => Farewell::Other("the server is busy".into()),
        Code::KeepAliveTimeout => Farewell::Other("nothing was heard within the keep alive".into()),
        Code::AdministrativeAction => Farewell::Other("an administrator's action".into()),
        other @ (Code::UseAnotherServer
        | Code::ServerMoved
        | Code::ConnectionRateExceeded
        | Code::MaximumConnectTime
        | Code::MessageRateTooHigh) => Farewell::Other(format!("{other:?}")),
        other @ (Code::UnspecifiedError
        | Code::MalformedPacket
        | Code::ProtocolError
        | Code::ImplementationSpecificError
        | Code::TopicFilterInvalid
        | Code::TopicNameInvalid
        | Code::ReceiveMaximumExceeded
        | Code::TopicAliasInvalid
        | Code::PacketTooLarge
        | Code::QuotaExceeded
        | Code::PayloadFormatInvalid
        | Code::RetainNotSupported
        | Code::QoSNotSupported
        | Code::SharedSubscriptionNotSupported
        | Code::SubscriptionIdentifiersNotSupported
        | Code::WildcardSubscriptionsNotSupported) => Farewell::Objection(format!("{other:?}")),
    }
}
