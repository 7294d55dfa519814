//! Where the members of etcd are, and how to log in.

use crate::secret::Secret;
use crate::tls::TlsFiles;
use hyper::Uri;
use std::fmt;
use std::net::IpAddr;

/// The name of the password as a systemd credential (systemd.exec(5), LoadCredential=).
pub const PASSWORD: &str = "etcd-password";

/// The port on which etcd serves clients.
const PORT: u16 = 2379;

/// Everything needed to reach the store of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// The name of the cluster. Its keys are below `/iotmonitor/NAME/`.
    pub cluster: String,
    pub endpoints: Vec<EtcdAddress>,
    pub tls: TlsFiles,
    pub login: Option<EtcdLogin>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdLogin {
    pub user: String,
    pub password: Secret,
}

/// The address of a member, as etcd's `--advertise-client-urls` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdAddress {
    pub has_tls: bool,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
}

/// Explains why a string is not the address of a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdAddressError {
    #[error("`{0}` is not an address: write it as `https://HOST:{PORT}`")]
    Form(String),
    #[error("`{0}` needs a host alone: write it as `https://HOST:{PORT}`")]
    MoreThanHost(String),
    #[error("`{address}` begins with `{scheme}`: etcd is reached by `https://` or `http://`")]
    Scheme { address: String, scheme: String },
}

impl EtcdAddress {
    /// Takes an address such as `https://pi1:2379`.
    ///
    /// # Errors
    /// Returns an error that shows how an address is written.
    pub fn new(address: &str) -> Result<Self, EtcdAddressError> {
        let form = || EtcdAddressError::Form(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| form())?;
        let has_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(scheme) => {
                let (address, scheme) = (address.to_owned(), format!("{scheme}://"));
                return Err(EtcdAddressError::Scheme { address, scheme });
            }
            None => return Err(form()),
        };
        let authority = uri.authority().ok_or_else(form)?;
        let has_path = uri.path_and_query().is_some_and(|path| path.as_str() != "/");
        if has_path || authority.as_str().contains('@') {
            // The user may stand there with a password, which is not repeated.
            let shown = address.split_once('@').map_or(address, |(_, behind)| behind);
            return Err(EtcdAddressError::MoreThanHost(shown.to_owned()));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let has_port = authority.as_str().len() > authority.host().len();
        let port = if has_port { authority.port_u16().ok_or_else(form)? } else { PORT };
        if host.is_empty() {
            return Err(form());
        }
        Ok(Self { has_tls, host, port })
    }

    /// Whether what is sent there stays on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The host and the port, as the header `Host` has them.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for EtcdAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.has_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_is_written() {
        for written in ["https://pi1:2379", "http://127.0.0.1:1", "https://[::1]:2379"] {
            assert_eq!(EtcdAddress::new(written).unwrap().to_string(), written);
        }
        assert_eq!(EtcdAddress::new("https://nas/").unwrap().to_string(), "https://nas:2379");
    }

    #[test]
    fn what_stays_on_this_machine_is_known() {
        for (address, is_loopback) in [
            ("http://localhost", true),
            ("http://127.0.0.2:1", true),
            ("http://[::1]", true),
            ("http://pi1", false),
            ("http://0.0.0.0", false),
        ] {
            assert_eq!(EtcdAddress::new(address).unwrap().is_loopback(), is_loopback, "{address}");
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused_without_its_password() {
        for address in ["", "pi1", "pi1:2379", "https://", "https://pi1:99999", "https://pi1:x"] {
            assert!(EtcdAddress::new(address).is_err(), "{address}");
        }
        let error = EtcdAddress::new("tcp://pi1:2379").unwrap_err().to_string();
        assert!(error.contains("`tcp://`") && error.contains("`https://`"), "{error}");
        for address in ["https://me:secret@pi1:2379", "https://pi1:2379/v3", "https://pi1?a=b"] {
            let error = EtcdAddress::new(address).unwrap_err().to_string();
            assert!(error.contains("https://HOST:2379") && !error.contains("secret"), "{error}");
        }
    }
}
