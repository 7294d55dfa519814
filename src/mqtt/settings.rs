//! The connection settings of the broker: the validated `[mqtt]` section except for the topics.

use crate::secret::Secret;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of the password as a systemd credential (systemd.exec(5), LoadCredential=), both of the
/// monitor's own and of the one that an agent receives.
pub const PASSWORD: &str = "mqtt-password";

/// Everything needed to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttSettings {
    pub server: BrokerAddress,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Client identifier of the watch connection; the state connection appends `-states`.
    pub client_id: String,
    pub protocol: ProtocolChoice,
    /// Between 5 s and 65,535 s.
    pub keep_alive: Duration,
    /// Certificate authorities in PEM; `None` uses the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and key in PEM; both or none.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

impl MqttSettings {
    /// The names of all credentials that [`Self::credentials`] can contain.
    pub const CREDENTIALS: [&str; 3] = ["mqtt-server", "mqtt-user", PASSWORD];

    /// The values that another client needs to log in as this one, by the names of systemd
    /// credentials: `mqtt-server` is the whole address, including what the display of
    /// [`BrokerAddress`] leaves out.
    #[must_use]
    pub fn credentials(&self) -> BTreeMap<&'static str, Secret> {
        let server = match &self.server {
            BrokerAddress::WebSocket { url } | BrokerAddress::WebSocketTls { url } => url.clone(),
            BrokerAddress::Tcp { .. } | BrokerAddress::Tls { .. } | BrokerAddress::Unix { .. } => {
                self.server.to_string()
            }
        };
        let user = self.user.clone().map(Secret::new);
        let secrets = [Some(Secret::new(server)), user, self.password.clone()];
        Self::CREDENTIALS
            .into_iter()
            .zip(secrets)
            .filter_map(|(name, secret)| Some((name, secret?)))
            .collect()
    }
}

/// The broker's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerAddress {
    Tcp {
        host: String,
        port: u16,
    },
    Tls {
        host: String,
        port: u16,
    },
    /// The whole address, `ws://host:port/path?query`.
    WebSocket {
        url: String,
    },
    WebSocketTls {
        url: String,
    },
    Unix {
        path: PathBuf,
    },
}

/// The remedy for a broker's socket that is closed to the system service, after its subject.
#[must_use]
pub fn socket_hint(path: &Path) -> String {
    format!(
        "runs as root without capabilities, which may not write to a socket of another user: let the \
         broker's unit give it to root (`systemctl edit mosquitto`, and there `[Service]` with \
         `ExecStartPost=+/bin/chmod a+x {}` and `ExecStartPost=+/bin/chown root {}`), or use \
         tcp://localhost:1883",
        path.parent().unwrap_or(path).display(),
        path.display()
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolChoice {
    /// Tries 5 first, then 3.1.1 where the broker does not support it.
    Auto,
    V5,
    V311,
}

/// Displays the address as written in `serverAddress`, without the parts that can be secret: user,
/// password, and the query of a websocket's address, in which some brokers expect a token.
impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "tcp://{}:{port}", Bracketed(host)),
            Self::Tls { host, port } => write!(f, "ssl://{}:{port}", Bracketed(host)),
            Self::WebSocket { url } | Self::WebSocketTls { url } => f.write_str(without_query(url)),
            Self::Unix { path } => write!(f, "unix://{}", path.display()),
        }
    }
}

/// An address, or the path of one, up to its query.
#[must_use]
pub fn without_query(address: &str) -> &str {
    address.split_once('?').map_or(address, |(shown, _)| shown)
}

/// An IPv6 address stands in brackets before a port (RFC 3986, 3.2.2).
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}
