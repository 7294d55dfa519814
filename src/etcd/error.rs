//! Why etcd does not answer, in sentences that name the member and the remedy.

use super::settings::EtcdAddress;
use crate::tls::TlsError;
use crate::tls::tokio_rustls::rustls;
use std::fmt;
use std::io;
use std::time::Duration;

/// Explains why one member gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("cannot reach etcd at {at}: {source}; is it running there?")]
    Unreachable { at: EtcdAddress, source: io::Error },
    #[error("etcd at {at} has not answered within {after:?}")]
    Silent { at: EtcdAddress, after: Duration },
    #[error("TLS with etcd at {at} cannot be set up: {source} (see [cluster])")]
    TlsSetup { at: EtcdAddress, source: TlsError },
    #[error("TLS with etcd at {at} failed: {source}{}", tls_hint(.source))]
    Tls { at: EtcdAddress, source: rustls::Error },
    #[error(
        "etcd at {at} closed the connection before TLS was agreed upon: is it a port without TLS? \
        (then its endpoint begins with `http://`)"
    )]
    ClosedInHandshake { at: EtcdAddress },
    #[error(
        "etcd at {at} closed the connection without an answer: does it want TLS? (then its endpoint \
        begins with `https://`)"
    )]
    ClosedUnanswered { at: EtcdAddress },
    #[error("`{}` cannot stand in a certificate: write a host name in `endpoints`", .at.host)]
    ServerName { at: EtcdAddress },
    #[error("the connection to etcd at {at} broke: {source}")]
    Broken { at: EtcdAddress, source: hyper::Error },
    #[error(
        "{at} does not answer as etcd does ({what}): name the client URLs of etcd in `endpoints`"
    )]
    NotEtcd { at: EtcdAddress, what: String },
    #[error("etcd at {at} refused the user `{user}` or the password: check both in [cluster]")]
    Login { at: EtcdAddress, user: String },
    #[error("etcd at {at} wants a user: set `user` and `passwordFile` in [cluster]")]
    NoUser { at: EtcdAddress },
    #[error(
        "etcd at {at} asks nobody for a password: run `etcdctl auth enable`, or remove `user` from \
        [cluster]"
    )]
    NoAuthentication { at: EtcdAddress },
    #[error(
        "the user in [cluster] may not use the keys of the cluster in etcd at {at}: run `etcdctl \
        role grant-permission ROLE --prefix=true readwrite {prefix}`"
    )]
    Permission { at: EtcdAddress, prefix: String },
    #[error(
        "the database of etcd at {at} is full: compact it, run `etcdctl defrag` and `etcdctl alarm \
        disarm`, and start etcd with `--auto-compaction-retention`"
    )]
    NoSpace { at: EtcdAddress },
    #[error("etcd at {at} cannot answer: {reason}")]
    Refused { at: EtcdAddress, reason: String },
}

impl EndpointError {
    /// Whether the trouble may have passed a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::ClosedInHandshake { .. }
            | Self::ClosedUnanswered { .. }
            | Self::Broken { .. }
            | Self::Refused { .. } => true,
            Self::TlsSetup { .. }
            | Self::Tls { .. }
            | Self::ServerName { .. }
            | Self::NotEtcd { .. }
            | Self::Login { .. }
            | Self::NoUser { .. }
            | Self::NoAuthentication { .. }
            | Self::Permission { .. }
            | Self::NoSpace { .. } => false,
        }
    }
}

fn tls_hint(error: &rustls::Error) -> &'static str {
    use rustls::AlertDescription as Alert;
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer) => {
            "; name the authority that signed the certificates of etcd with `caFile` in [cluster]"
        }
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "; write in `endpoints` a name that the certificate of etcd holds",
        rustls::Error::InvalidCertificate(
            Certificate::Expired | Certificate::ExpiredContext { .. },
        ) => "; etcd needs a new certificate",
        rustls::Error::InvalidCertificate(
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. },
        ) => "; is the clock of this machine right?",
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::HandshakeFailure
            | Alert::CertificateUnknown,
        ) => "; etcd wants a client certificate: check `certFile` and `keyFile` in [cluster]",
        rustls::Error::InvalidMessage(_) => {
            "; is it a port without TLS? (then its endpoint begins with `http://`)"
        }
        _ => "",
    }
}

/// Explains why a request to the store had no result.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// One error for each member that was asked.
    #[error("{}", Joined(.0))]
    NoAnswer(Vec<EndpointError>),
    #[error(
        "the key {key} in etcd holds what this version cannot read ({source}): install the same \
        version of iotmonitor on each node, or remove the key with `etcdctl del {key}` while no node \
        runs"
    )]
    Value { key: String, source: serde_json::Error },
    #[error(
        "other sections were applied at the same time: look at `iotmonitor cluster`, and apply these \
        again if they are to replace them"
    )]
    OtherSections,
    #[error("other nodes change the key {key} in etcd at the same time: try again")]
    Contended { key: String },
    #[error("`{key}` in etcd is not the key of a node: remove it with `etcdctl del {key}`")]
    Key { key: String },
}

impl EtcdError {
    /// Whether the trouble may have passed a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::NoAnswer(errors) if errors.iter().any(EndpointError::is_passing))
    }
}

struct Joined<'a>(&'a [EndpointError]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, error) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}
