//! The section `[http]`: the status page, which is enabled by the presence of the section.

use super::Environment;
use super::address::is_host_name;
use super::report::ConfigReport;
use super::secret::{self, Source};
use super::section::Section;
use crate::http::settings::{HttpSettings, TOKEN};
use iotmonitor_core::model::words::counted;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Every key of the section.
pub(super) const KEYS: &[&str] =
    &["bind", "port", "hostNames", "frameAncestors", "token", "tokenFile"];

const DEFAULT_BIND: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DEFAULT_PORT: u16 = 8079;

/// Ports below need a capability (ip(7)), unless net.ipv4.ip_unprivileged_port_start says
/// otherwise.
const FIRST_FREE_PORT: u16 = 1024;

/// A shorter one could be guessed over the network, in bytes.
const SHORTEST_TOKEN: usize = 16;

/// A longer one does not fit into the head of a request, in bytes.
const LONGEST_TOKEN: usize = 4096;

const TOKEN_SOURCE: Source =
    Source { key: "token", file_key: "tokenFile", credential: TOKEN, check: check_token };

/// Reads the section; errors are reported and their keys left out.
pub(super) fn read(
    section: &Section<'_>,
    directory: &Path,
    environment: &Environment,
    report: &mut ConfigReport,
) -> HttpSettings {
    section.report_unknown_keys(KEYS, |_| None, report);
    let settings = HttpSettings {
        bind: bind(section, report),
        port: port(section, environment, report),
        host_names: host_names(section, report),
        frame_ancestors: frame_ancestors(section, report),
        token: secret::read(section, &TOKEN_SOURCE, directory, environment, report),
    };
    if settings.token.is_some() && !settings.bind.is_loopback() {
        let message = format!("the token goes to {} without encryption", settings.bind);
        let hint = "anyone who can read the traffic can then send commands: bind = \"127.0.0.1\", behind a \
                    proxy that speaks TLS";
        report.warning(&section.header, message, hint);
    }
    settings
}

fn bind(section: &Section<'_>, report: &mut ConfigReport) -> IpAddr {
    let Some(text) = section.text("bind", report) else { return DEFAULT_BIND };
    if text.value == "localhost" {
        return DEFAULT_BIND;
    }
    let address = text.value.trim_start_matches('[').trim_end_matches(']');
    address.parse().unwrap_or_else(|_| {
        let message = format!("bind: `{}` is not an IP address", text.value.escape_debug());
        let hint = "\"127.0.0.1\" is for this machine alone, \"0.0.0.0\" or \"::\" for every network \
                    that it is in, or write one of its addresses";
        report.error(&text.span, message, hint);
        DEFAULT_BIND
    })
}

fn port(section: &Section<'_>, environment: &Environment, report: &mut ConfigReport) -> u16 {
    let Some(field) = section.field("port") else { return DEFAULT_PORT };
    let port = field.unsigned().and_then(|port| u16::try_from(port).ok());
    let Some(port) = port.filter(|port| *port != 0) else {
        let message = format!("port = {} is not a port number", field.shown());
        report.error(&field.span, message, "ports are 1 to 65535: port = 8079");
        return DEFAULT_PORT;
    };
    if port < FIRST_FREE_PORT && (environment.for_service || environment.user_manager) {
        let message = format!("port = {port} requires a privilege that the service does not have");
        report.warning(&field.span, message, "choose one from 1024 on");
    }
    port
}

fn host_names(section: &Section<'_>, report: &mut ConfigReport) -> Vec<String> {
    let mut names = Vec::new();
    for text in section.texts("hostNames", "pi.local", report) {
        if is_host_name(text.value) {
            names.push(text.value.to_lowercase());
        } else {
            let message = format!("hostNames: `{}` is not a host name", text.value.escape_debug());
            let hint = "write only the name, as the browser shows it between `//` and `:`";
            report.error(&text.span, message, hint);
        }
    }
    names
}

/// The origins of pages that may embed the page (RFC 6454): scheme, host and port.
fn frame_ancestors(section: &Section<'_>, report: &mut ConfigReport) -> Vec<String> {
    const KEY: &str = "frameAncestors";
    const EXAMPLE: &str = "http://homeassistant.local:8123";
    let mut origins = Vec::new();
    for text in section.texts(KEY, EXAMPLE, report) {
        let origin = text.value.trim_end_matches('/').to_lowercase();
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if origin.is_ascii() && host.is_some_and(is_host_and_port) {
            origins.push(origin);
        } else {
            let message =
                format!("{KEY}: `{}` is not the origin of a page", text.value.escape_debug());
            let hint =
                format!("write scheme, host and port, without a path: {KEY} = \"{EXAMPLE}\"");
            report.error(&text.span, message, hint);
        }
    }
    origins
}

fn is_host_and_port(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|it| it > 0)
    });
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match in_brackets {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_host_name(host) || host.parse::<Ipv4Addr>().is_ok(),
    };
    is_host && is_port
}

/// Checks the part after `Bearer` in a request (RFC 6750, 2.1).
fn check_token(token: &str) -> Result<(), (String, &'static str)> {
    const EXAMPLE: &str = "`openssl rand -hex 32` makes a good one";
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    if !token.chars().all(is_allowed) {
        let message = "a token consists of ASCII letters, digits and -._~+/= only".to_owned();
        return Err((message, EXAMPLE));
    }
    match token.len() {
        SHORTEST_TOKEN..=LONGEST_TOKEN => Ok(()),
        length if length < SHORTEST_TOKEN => {
            Err((format!("a token of {} can be guessed", counted(length, "character")), EXAMPLE))
        }
        length => Err((format!("a token of {length} characters is too long"), EXAMPLE)),
    }
}
