//! What can go wrong with a connection, in sentences that name the thing and the way out.

use super::settings::Server;
use iotmonitor_core::monitor::event::LossReason;
use rumqttc::tokio_rustls::rustls;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a connection could not be made or was lost.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("cannot reach {server}: {source}")]
    Unreachable { server: Server, source: io::Error },
    #[error("cannot reach {server}: no connection within {} s", .after.as_secs())]
    UnreachableInTime { server: Server, after: Duration },
    #[error("cannot read {}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} holds no {what} in PEM format", .path.display())]
    Pem { path: PathBuf, what: &'static str },
    #[error("the certificate {} and its key do not fit: {source}", .path.display())]
    ClientCertificate { path: PathBuf, source: rustls::Error },
    #[error("the system holds no certificate authorities: name one with `caFile` in [mqtt]")]
    NoRoots,
    #[error("TLS with {server} failed: {source}{}", tls_hint(.source))]
    Tls { server: Server, source: rustls::Error },
    #[error("`{host}` cannot stand in a certificate: write a host name in `serverAddress`")]
    ServerName { host: String },
    #[error("no websocket for MQTT at {server}: {reason}")]
    WebSocket { server: Server, reason: String },
    #[error("{server} takes connections but gave no answer within {} s: is it an MQTT broker?", .after.as_secs())]
    Silent { server: Server, after: Duration },
    #[error(
        "{server} closed the connection without an answer: is it an MQTT broker, does it want TLS?"
    )]
    ClosedUnanswered { server: Server },
    #[error("the broker {server} speaks another version of MQTT: check `protocol` in [mqtt]")]
    Version { server: Server },
    #[error(
        "the broker {server} refused the user name or password: check `user` and `password` in [mqtt]"
    )]
    BadCredentials { server: Server },
    #[error(
        "the broker {server} refused a client without user name: set `user` and `password` in [mqtt]"
    )]
    NoCredentials { server: Server },
    #[error("the broker {server} refused the connection: {reason}")]
    Rejected { server: Server, reason: String },
    #[error("the broker {server} closed the connection")]
    Closed { server: Server },
    #[error("the connection to {server} broke: {source}")]
    Broken { server: Server, source: io::Error },
    #[error("the broker {server} closed the connection: {reason}")]
    Farewell { server: Server, reason: String },
    #[error("another client took the clientid over")]
    TakenOver,
    #[error("{server} has not answered for {} s", .after.as_secs())]
    Unanswered { server: Server, after: Duration },
    #[error("the broker {server} did not acknowledge a subscription within {} s", .after.as_secs())]
    Unsubscribed { server: Server, after: Duration },
    #[error("{server} does not keep to MQTT: {what}")]
    Protocol { server: Server, what: String },
    #[error("the settings changed, connecting anew")]
    SettingsChanged,
}

/// Troubles that are one change to a person: a broker that restarts is first gone and then
/// unreachable, which is one story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Time may heal it: not reachable, lost, silent.
    Passing,
    /// A person must act: certificates, protocol, client identifier.
    Setup,
    Refused,
    TakenOver,
}

impl Trouble {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. }
            | Self::UnreachableInTime { .. }
            | Self::Silent { .. }
            | Self::ClosedUnanswered { .. }
            | Self::Closed { .. }
            | Self::Broken { .. }
            | Self::Farewell { .. }
            | Self::Unanswered { .. }
            | Self::Unsubscribed { .. }
            | Self::SettingsChanged => Kind::Passing,
            Self::File { .. }
            | Self::Pem { .. }
            | Self::ClientCertificate { .. }
            | Self::NoRoots
            | Self::Tls { .. }
            | Self::ServerName { .. }
            | Self::WebSocket { .. }
            | Self::Version { .. }
            | Self::Rejected { .. }
            | Self::Protocol { .. } => Kind::Setup,
            Self::BadCredentials { .. } | Self::NoCredentials { .. } => Kind::Refused,
            Self::TakenOver => Kind::TakenOver,
        }
    }

    /// `quiet` is how long ago anything came from the broker.
    pub(super) fn loss_reason(&self, quiet: Duration) -> LossReason {
        if self.is_silence() {
            return LossReason::Silent { sentence: self.to_string(), quiet };
        }
        match self.kind() {
            Kind::TakenOver => LossReason::TakenOver,
            Kind::Refused => LossReason::Refused(self.to_string()),
            Kind::Passing | Kind::Setup => LossReason::Other(self.to_string()),
        }
    }

    /// Whether the broker stopped answering, so that nobody knows since when it was gone.
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

    /// An error of the stream once it stands; rustls hides its own inside.
    pub(super) fn from_stream(server: &Server, source: io::Error) -> Self {
        let server = server.clone();
        match tls_error(&source) {
            Some(tls) => Self::Tls { server, source: tls },
            None if is_closing(&source) => Self::Closed { server },
            None => Self::Broken { server, source },
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

fn tls_hint(error: &rustls::Error) -> &'static str {
    use rustls::AlertDescription as Alert;
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer) => {
            "; name the authority that signed the broker's certificate with `caFile` in [mqtt]"
        }
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "; write in `serverAddress` a name that the broker's certificate holds",
        rustls::Error::InvalidCertificate(
            Certificate::Expired | Certificate::ExpiredContext { .. },
        ) => "; the broker needs a new certificate",
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::HandshakeFailure
            | Alert::CertificateUnknown,
        ) => "; the broker wants a client certificate: check `certFile` and `keyFile` in [mqtt]",
        rustls::Error::InvalidMessage(_) => "; is it a port for TLS?",
        _ => "",
    }
}
