//! Where the page is offered, and who may do what there: the validated section `[http]`.

use crate::secret::Secret;
use std::net::{IpAddr, SocketAddr};

/// Name of the token as a systemd credential (systemd.exec(5), LoadCredential=).
pub const TOKEN: &str = "http-token";

/// Everything that the file says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    pub bind: IpAddr,
    pub port: u16,
    /// Names, in lower case and without a port, under which it is reached beside those of the
    /// loopback.
    pub host_names: Vec<String>,
    /// Who shows it may command; without one nobody may.
    pub token: Option<Secret>,
}

impl HttpSettings {
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }
}
