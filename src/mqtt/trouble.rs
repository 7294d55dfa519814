//! Connection troubles, described in sentences that name the object and the remedy.

use super::settings::{BrokerAddress, socket_hint};
use crate::tls::TlsError;
use crate::tls::certificates::FileError;
use iotmonitor_core::model::message::{Connection, LossReason};
use rumqttc::tokio_rustls::rustls;
use rustls::pki_types::ServerName;
use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Explains why a connection could not be made or was lost.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("cannot reach {server}: {source}")]
    Unreachable { server: BrokerAddress, source: io::Error },
    #[error("cannot reach {server}: its socket is closed to iotmonitor, which as a service of the system {}", socket_hint(.path))]
    SocketClosed { server: BrokerAddress, path: PathBuf },
    #[error("cannot reach {server}: no connection within {} s", .after.as_secs())]
    UnreachableInTime { server: BrokerAddress, after: Duration },
    #[error(transparent)]
    File(FileError),
    #[error("TLS cannot be set up: {0}")]
    TlsSetup(rustls::Error),
    #[error("the system holds no certificate authorities: name one with `caFile` in [mqtt]")]
    NoRoots,
    #[error("TLS with {server} failed: {source}{}", tls_hint(.source))]
    Tls { server: BrokerAddress, source: rustls::Error },
    #[error("`{host}` cannot stand in a certificate: write a host name in `serverAddress`")]
    ServerName { host: String },
    #[error("no websocket for MQTT at {server}: {reason}")]
    WebSocket { server: BrokerAddress, reason: String },
    #[error("{server} takes connections but gave no answer within {} s: is it an MQTT broker?", .after.as_secs())]
    Silent { server: BrokerAddress, after: Duration },
    #[error(
        "{server} closed the connection without an answer: is it an MQTT broker, does it want TLS? \
         (then serverAddress begins with `ssl://`)"
    )]
    ClosedUnanswered { server: BrokerAddress },
    #[error(
        "{server} closed the connection before TLS was agreed upon: is it a port for TLS? (to one \
         without it, serverAddress begins with `tcp://` or `ws://`)"
    )]
    ClosedInHandshake { server: BrokerAddress },
    #[error(
        "{server} answers in TLS: let serverAddress begin with `ssl://`, or name its port without TLS"
    )]
    AnswersInTls { server: BrokerAddress },
    #[error(
        "{server} answers in HTTP: for a port for websockets, let serverAddress begin with `ws://`"
    )]
    AnswersInHttp { server: BrokerAddress },
    #[error("the broker {server} speaks another version of MQTT: check `protocol` in [mqtt]")]
    Version { server: BrokerAddress },
    #[error(
        "the broker {server} refused the user name or password: check `user` and `password` in [mqtt]"
    )]
    BadCredentials { server: BrokerAddress },
    #[error(
        "the broker {server} refused a client without user name: set `user` and `password` in [mqtt]"
    )]
    NoCredentials { server: BrokerAddress },
    #[error("the broker {server} does not accept a retained will")]
    NoRetain { server: BrokerAddress },
    #[error("the broker {server} does not accept a will of QoS 1")]
    NoQos { server: BrokerAddress },
    #[error("the broker {server} refused the connection: {reason}")]
    Rejected { server: BrokerAddress, reason: String },
    #[error("the broker {server} closed the connection")]
    Closed { server: BrokerAddress },
    #[error("the connection to {server} broke: {source}")]
    Broken { server: BrokerAddress, source: io::Error },
    #[error("the broker {server} closed the connection: {reason}")]
    Farewell { server: BrokerAddress, reason: String },
    /// The broker stated that it closes because of something that this side has sent.
    #[error("the broker {server} closed the connection: {reason}")]
    Objection { server: BrokerAddress, reason: String },
    #[error("the broker {server} closed the connection on {what}")]
    ClosedOn { server: BrokerAddress, what: String },
    #[error("another client took over the clientid")]
    TakenOver,
    #[error(
        "the broker {server} takes the two connections of iotmonitor for one client, and ends each \
         with the other: let it tell clients apart by their client identifiers and not by their user \
         names (in mosquitto, `use_username_as_clientid false`)"
    )]
    OwnPair { server: BrokerAddress, connection: Connection },
    #[error("{server} has not answered for {} s", .after.as_secs())]
    Unanswered { server: BrokerAddress, after: Duration },
    #[error("the broker {server} did not acknowledge a subscription within {} s", .after.as_secs())]
    Unsubscribed { server: BrokerAddress, after: Duration },
    #[error("{server} violates the MQTT protocol: {what}")]
    Protocol { server: BrokerAddress, what: String },
    #[error("the settings changed, connecting anew")]
    SettingsChanged,
}

/// Groups troubles that are one change to a person: a broker that restarts is first gone and then
/// unreachable, which is one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TroubleKind {
    /// Trouble that may pass by itself: not reachable, lost, silent.
    Passing,
    /// Trouble that a person must fix: certificates, protocol, client identifier.
    Setup,
    Refused,
    TakenOver,
}

impl Trouble {
    pub(super) fn kind(&self) -> TroubleKind {
        match self {
            Self::Unreachable { .. }
            | Self::UnreachableInTime { .. }
            | Self::Silent { .. }
            | Self::ClosedUnanswered { .. }
            | Self::ClosedInHandshake { .. }
            | Self::Closed { .. }
            | Self::Broken { .. }
            | Self::Farewell { .. }
            | Self::Objection { .. }
            | Self::ClosedOn { .. }
            | Self::OwnPair { connection: Connection::Watch, .. }
            | Self::Unanswered { .. }
            | Self::Unsubscribed { .. }
            | Self::SettingsChanged => TroubleKind::Passing,
            Self::SocketClosed { .. }
            | Self::File(_)
            | Self::TlsSetup(_)
            | Self::NoRoots
            | Self::Tls { .. }
            | Self::ServerName { .. }
            | Self::AnswersInTls { .. }
            | Self::AnswersInHttp { .. }
            | Self::WebSocket { .. }
            | Self::Version { .. }
            | Self::NoRetain { .. }
            | Self::NoQos { .. }
            | Self::Rejected { .. }
            | Self::Protocol { .. } => TroubleKind::Setup,
            Self::BadCredentials { .. } | Self::NoCredentials { .. } => TroubleKind::Refused,
            // Watching matters more than recording, so the state connection gives way.
            Self::TakenOver | Self::OwnPair { .. } => TroubleKind::TakenOver,
        }
    }

    /// `quiet` is the time since anything arrived from the broker.
    pub(super) fn loss_reason(&self, quiet: Duration) -> LossReason {
        if self.is_silence() {
            return LossReason::Silent { sentence: self.to_string(), quiet };
        }
        if matches!(self, Self::OwnPair { .. }) {
            return LossReason::Other(self.to_string());
        }
        match self.kind() {
            TroubleKind::TakenOver => LossReason::TakenOver,
            TroubleKind::Refused => LossReason::Refused(self.to_string()),
            TroubleKind::Passing | TroubleKind::Setup => LossReason::Other(self.to_string()),
        }
    }

    /// Whether the broker stopped answering, so that the time at which it went away is unknown.
    fn is_silence(&self) -> bool {
        match self {
            Self::Broken { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::TimedOut
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
            ),
            other => matches!(
                other,
                Self::Silent { .. } | Self::Unanswered { .. } | Self::Unsubscribed { .. }
            ),
        }
    }

    /// Describes an error of an established stream; rustls wraps its own.
    pub(super) fn from_stream(server: &BrokerAddress, source: io::Error) -> Self {
        let server = server.clone();
        match tls_error(&source) {
            Some(tls) => Self::Tls { server, source: tls },
            None if is_closing(&source) => Self::Closed { server },
            None => Self::Broken { server, source },
        }
    }
}

impl From<TlsError> for Trouble {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::File(error) => Self::File(error),
            TlsError::Setup(error) => Self::TlsSetup(error),
            TlsError::NoRoots => Self::NoRoots,
        }
    }
}

/// The errors by which a peer's closing shows.
fn is_closing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionAborted
    )
}

fn tls_error(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}

fn tls_hint(error: &rustls::Error) -> Cow<'static, str> {
    use rustls::AlertDescription as Alert;
    use rustls::CertificateError as Certificate;
    Cow::Borrowed(match error {
        rustls::Error::InvalidCertificate(Certificate::NotValidForNameContext {
            expected,
            presented,
        }) if presented.is_empty() => {
            let kind = match expected {
                ServerName::IpAddress(_) => "IP",
                _ => "DNS",
            };
            let name = format!("{kind}:{}", expected.to_str());
            return Cow::Owned(format!(
                "; the common name (CN) does not count: {NEW_CERTIFICATE} subjectAltName={name}`"
            ));
        }
        rustls::Error::InvalidCertificate(error) => match error {
            Certificate::UnknownIssuer => {
                "; name the authority that signed the broker's certificate, or that certificate \
                 itself, with `caFile` in [mqtt]"
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "; write in `serverAddress` a name that the broker's certificate holds"
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                "; the broker needs a new certificate"
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "; is the clock of this machine right?"
            }
            Certificate::Other(other) => match other.0.downcast_ref() {
                Some(webpki::Error::CaUsedAsEndEntity) => {
                    "; the broker signed its certificate itself: name that very certificate with \
                     `caFile` in [mqtt]"
                }
                Some(webpki::Error::UnsupportedCertVersion) => {
                    return Cow::Owned(format!(
                        "; it is of version 1, which holds no names: {NEW_CERTIFICATE} \
                         subjectAltName=DNS:NAME`"
                    ));
                }
                _ => "",
            },
            _ => "",
        },
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::HandshakeFailure
            | Alert::CertificateUnknown,
        ) => "; the broker wants a client certificate: check `certFile` and `keyFile` in [mqtt]",
        rustls::Error::InvalidMessage(_) => {
            "; is it a port for TLS? (to one without it, serverAddress begins with `tcp://` or \
             `ws://`)"
        }
        _ => "",
    })
}

/// The remedy for a broker's certificate; the names follow.
const NEW_CERTIFICATE: &str = "make the broker a new certificate with `openssl req -x509 -newkey \
    rsa:2048 -nodes -days 3650 -keyout broker.key -out broker.crt -subj /CN=broker -addext";
