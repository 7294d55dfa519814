//! The address of the page and the authorization of its clients: the validated section `[http]`.

use crate::secret::Secret;
use std::net::{IpAddr, SocketAddr};

/// Name of the token as a systemd credential (systemd.exec(5), LoadCredential=).
pub const TOKEN: &str = "http-token";

/// The validated settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    pub bind: IpAddr,
    pub port: u16,
    /// The host names, in lower case and without a port, under which the page is reached besides
    /// the loopback names.
    pub host_names: Vec<String>,
    /// The origins of pages that may show this one in a frame.
    pub frame_ancestors: Vec<String>,
    /// The token that authorizes commands; without one no client may command.
    pub token: Option<Secret>,
}

impl HttpSettings {
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }
}
