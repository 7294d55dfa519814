//! The broker's address: `tcp://host:1883` and its relatives, or `host:port` as a shorthand.
//!
//! An address that contains a user or a password is refused, because addresses are shown in logs,
//! in the status and in agents' environments.

use super::nearest::nearest;
use crate::mqtt::settings::{BrokerAddress, without_query};
use std::net::Ipv6Addr;
use std::path::PathBuf;

const SCHEMES: &[&str] = &["tcp", "mqtt", "ssl", "mqtts", "tls", "ws", "wss", "unix"];

/// Explains why a string is not a broker address. No variant shows a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("the broker's address is empty")]
    Empty,
    #[error(
        "the broker's address carries a user or a password, which would be shown wherever the address is"
    )]
    Userinfo,
    #[error("unknown scheme `{scheme}://`{}", suggestion(.nearest.as_deref()))]
    Scheme { scheme: String, nearest: Option<String> },
    #[error("`{0}` is not a host name")]
    Host(String),
    #[error("the IPv6 address in `{0}` needs brackets")]
    Brackets(String),
    #[error("`{0}` is not an IPv6 address")]
    Ipv6(String),
    #[error("`{0}` is not a port number; ports are 1 to 65535")]
    Port(String),
    #[error("the path `{0}` has no meaning here, only ws and wss have one")]
    Path(String),
    #[error("the path of a socket must be absolute, found `{0}`")]
    Socket(String),
}

impl AddressError {
    /// The correct form.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Userinfo => {
                "leave them out here and use the keys `user` and `password` or `passwordFile`"
            }
            Self::Scheme { .. } => {
                "schemes are tcp or mqtt, ssl or mqtts, ws, wss, unix: `tcp://localhost:1883`"
            }
            Self::Brackets(_) | Self::Ipv6(_) => "write it like `tcp://[fd00::1]:1883`",
            Self::Socket(_) => "write it like `unix:///run/mosquitto/mosquitto.sock`",
            Self::Empty | Self::Host(_) | Self::Port(_) | Self::Path(_) => {
                "write it like `tcp://localhost:1883`"
            }
        }
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|scheme| format!(", did you mean `{scheme}://`?")).unwrap_or_default()
}

/// Reads an address. Default ports are 1883 for tcp and 8883 for ssl (as registered at IANA), 80
/// for ws and 443 for wss (RFC 6455, 3).
///
/// # Errors
/// When the scheme is unknown, a part is malformed, or the address carries a user or password.
pub fn parse(text: &str) -> Result<BrokerAddress, AddressError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => ("tcp".to_owned(), text),
    };
    if scheme == "unix" {
        return if rest.starts_with('/') && rest.len() > 1 {
            Ok(BrokerAddress::Unix { path: PathBuf::from(rest) })
        } else {
            Err(AddressError::Socket(rest.to_owned()))
        };
    }
    // This comes before any other error, because a password may contain any character.
    if text.contains('@') {
        return Err(AddressError::Userinfo);
    }
    match scheme.as_str() {
        "tcp" | "mqtt" => socket(rest, 1883).map(|(host, port)| BrokerAddress::Tcp { host, port }),
        "ssl" | "mqtts" | "tls" => {
            socket(rest, 8883).map(|(host, port)| BrokerAddress::Tls { host, port })
        }
        "ws" => url("ws", rest, 80).map(|url| BrokerAddress::WebSocket { url }),
        "wss" => url("wss", rest, 443).map(|url| BrokerAddress::WebSocketTls { url }),
        _ => Err(AddressError::Scheme {
            nearest: nearest(&scheme, SCHEMES.iter().copied()).map(str::to_owned),
            scheme,
        }),
    }
}

/// `host[:port]`, with a lone slash at the end ignored.
fn socket(text: &str, default_port: u16) -> Result<(String, u16), AddressError> {
    let (authority, path) = split_path(text);
    if !matches!(path, "" | "/") {
        return Err(AddressError::Path(without_query(path).to_owned()));
    }
    host_and_port(authority, default_port)
}

/// `host[:port][/path]`, as a URL whose port is written out.
fn url(scheme: &str, text: &str, default_port: u16) -> Result<String, AddressError> {
    let (authority, path) = split_path(text);
    let (host, port) = host_and_port(authority, default_port)?;
    if let Some(bad) = path.chars().find(|c| c.is_control() || c.is_whitespace()) {
        let shown = without_query(path);
        return Err(AddressError::Host(format!("{authority}{shown} ({bad:?})")));
    }
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(format!("{scheme}://{host}:{port}{path}"))
}

fn split_path(text: &str) -> (&str, &str) {
    text.split_at(text.find(['/', '?', '#']).unwrap_or(text.len()))
}

fn host_and_port(authority: &str, default_port: u16) -> Result<(String, u16), AddressError> {
    let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
        let (host, after) =
            inner.split_once(']').ok_or_else(|| AddressError::Ipv6(authority.to_owned()))?;
        let address = host.split_once('%').map_or(host, |(address, _zone)| address);
        if address.parse::<Ipv6Addr>().is_err() {
            return Err(AddressError::Ipv6(host.to_owned()));
        }
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(AddressError::Port(after.to_owned())),
        }
    } else if authority.parse::<Ipv6Addr>().is_ok() || authority.matches(':').count() > 1 {
        return Err(AddressError::Brackets(authority.to_owned()));
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        if !is_host_name(host) {
            return Err(AddressError::Host(host.to_owned()));
        }
        (host, port)
    };
    let port = match port {
        None => default_port,
        Some(text) => text
            .parse()
            .ok()
            .filter(|port| *port != 0 && text.bytes().all(|b| b.is_ascii_digit()))
            .ok_or_else(|| AddressError::Port(text.to_owned()))?,
    };
    Ok((host.to_owned(), port))
}

/// Accepts letters of any script, because resolvers do too; `_` occurs in names of containers.
pub(super) fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_scheme_and_its_default_port() {
        for (text, shown) in [
            ("tcp://localhost:1883", "tcp://localhost:1883"),
            ("mqtt://broker", "tcp://broker:1883"),
            ("TCP://broker/", "tcp://broker:1883"),
            ("broker", "tcp://broker:1883"),
            ("192.168.4.16:1884", "tcp://192.168.4.16:1884"),
            ("ssl://broker", "ssl://broker:8883"),
            ("mqtts://broker:1", "ssl://broker:1"),
            ("tls://broker", "ssl://broker:8883"),
            ("tcp://[::1]", "tcp://[::1]:1883"),
            ("ssl://[fe80::1%eth0]:8884", "ssl://[fe80::1%eth0]:8884"),
            ("ws://broker", "ws://broker:80/"),
            ("ws://broker:9001/mqtt", "ws://broker:9001/mqtt"),
            ("wss://[::1]/mqtt?a=b", "wss://[::1]:443/mqtt"),
            ("unix:///run/a@b.sock", "unix:///run/a@b.sock"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn refused_addresses_name_the_culprit() {
        for (text, culprit) in [
            ("", "empty"),
            ("htp://broker", "`htp://`"),
            ("tpc://broker", "did you mean `tcp://`"),
            ("tcp://", "``"),
            ("tcp//broker:1883", "`//broker:1883`"),
            ("tcp://a b", "`a b`"),
            ("tcp://broker:0", "`0`"),
            ("tcp://broker:65536", "`65536`"),
            ("tcp://broker:+1", "`+1`"),
            ("tcp://broker:", "``"),
            ("tcp://broker/mqtt", "`/mqtt`"),
            ("tcp://::1:1883", "`::1:1883`"),
            ("tcp://[::1", "`[::1`"),
            ("tcp://[nonsense]:1", "`nonsense`"),
            ("tcp://[::1]1883", "`1883`"),
            ("unix://run/x.sock", "`run/x.sock`"),
            ("ws://broker/a b", "a b"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(culprit), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_repeated() {
        for text in ["tcp://user:hunter2@broker", "user:hunter2@broker", "tpc://hunter2@x:99999"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, AddressError::Userinfo);
            assert!(!format!("{error} {error:?} {}", error.hint()).contains("hunter2"));
        }
    }

    /// Some brokers expect a token there.
    #[test]
    fn a_query_is_kept_and_not_shown() {
        let server = parse("wss://broker/mqtt?token=hunter2").unwrap();
        let url = "wss://broker:443/mqtt?token=hunter2".to_owned();
        assert_eq!(server, BrokerAddress::WebSocketTls { url });
        assert!(!server.to_string().contains("hunter2"));
        for text in ["tcp://broker/mqtt?token=hunter2", "ws://broker/mqtt?token=hunter2 x"] {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error} {error:?} {}", error.hint()).contains("hunter2"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_shown_is_read_back(
            text in "\\PC*|((tcp|ssl|wss?|unix)://)?[a-z0-9.:/\\[\\]@%-]{0,20}"
        ) {
            if let Ok(server) = parse(&text) {
                let shown = server.to_string();
                prop_assert_eq!(parse(&shown).map(|server| server.to_string()), Ok(shown));
            }
        }
    }
}
