//! The section `[mqtt]`: the broker's address, the credentials, and the monitor's own topics.
//!
//! No connection is made here. Certificates are only checked; the MQTT adapter reads them at each
//! connection, because they are renewed while it runs.

use super::Environment;
use super::access::warn_if_socket_closed;
use super::address;
use super::instance::{default_base_topic, default_client_id, warn_of_main_defaults};
use super::nearest::nearest;
use super::report::ConfigReport;
use super::secret::{self, Source};
use super::section::Section;
use super::tls_files::{try_certificates, try_to_read};
use crate::mqtt::settings::{BrokerAddress, MqttSettings, PASSWORD, ProtocolChoice};
use iotmonitor_core::model::spec::DEFAULT_MAX_SUBSCRIPTIONS;
use iotmonitor_core::topic::TopicName;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const KEYS: &[&str] = &[
    "serverAddress",
    "baseTopic",
    "user",
    "password",
    "passwordFile",
    "clientid",
    "protocol",
    "keepAlive",
    "maxSubscriptions",
    "caFile",
    "certFile",
    "keyFile",
];

/// What TLS leads to here, in words.
const SERVER: &str = "the broker";

const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The shortest interval that the client library accepts and the longest that a CONNECT packet can
/// hold (MQTT 5, 3.1.2.10).
const KEEP_ALIVE_SECONDS: std::ops::RangeInclusive<u64> = 5..=65_535;

/// The longest user name or password in bytes (MQTT 5, 3.1.3.5 and 3.1.3.6).
const LONGEST_CREDENTIAL: usize = 65_535;

const PASSWORD_SOURCE: Source = Source {
    key: "password",
    file_key: "passwordFile",
    credential: PASSWORD,
    check: check_password,
};

/// The longest clientid in bytes: an MQTT string, less the suffix of the state connection.
const LONGEST_CLIENT_ID: usize = 65_535 - "-states".len();

/// The longest baseTopic in bytes: it leaves room for the monitor's own topics below it.
const LONGEST_BASE_TOPIC: usize = 32_768;

/// The contents of the section; a part that was wrong, and has been reported, is `None`.
#[derive(Default)]
pub(super) struct MqttSection {
    pub settings: Option<MqttSettings>,
    pub base_topic: Option<TopicName>,
    pub client_id: Option<String>,
    /// Whether an instance uses the main monitor's names, in part or in whole.
    pub main_defaults: bool,
    pub max_subscriptions: usize,
}

pub(super) fn read(
    section: &Section<'_>,
    directory: &Path,
    environment: &Environment,
    report: &mut ConfigReport,
) -> MqttSection {
    section.report_unknown_keys(KEYS, |_| None, report);
    let server = server(section, environment, report);
    let base_topic = base_topic(section, environment, report);
    let client_id = client_id(section, environment, report);
    let main_defaults = warn_of_main_defaults(section, environment, report);
    let user = user(section, report);
    let password = secret::read(section, &PASSWORD_SOURCE, directory, environment, report);
    let protocol = protocol(section, report);
    let keep_alive = keep_alive(section, report);
    let max_subscriptions = max_subscriptions(section, report);
    let ca_file = tls_file(section, "caFile", directory, server.as_ref(), environment, report);
    let client_certificate =
        client_certificate(section, directory, server.as_ref(), environment, report);
    if let Some(BrokerAddress::Tls { .. } | BrokerAddress::WebSocketTls { .. }) = &server {
        try_certificates(section, ca_file.as_deref(), client_certificate.as_ref(), SERVER, report);
    }
    let settings = server.zip(client_id.clone()).map(|(server, client_id)| MqttSettings {
        server,
        user,
        password,
        client_id,
        protocol,
        keep_alive,
        ca_file,
        client_certificate,
    });
    MqttSection { settings, base_topic, client_id, main_defaults, max_subscriptions }
}

fn server(
    section: &Section<'_>,
    environment: &Environment,
    report: &mut ConfigReport,
) -> Option<BrokerAddress> {
    const EXAMPLE: &str = "serverAddress = \"tcp://localhost:1883\"";
    let Some(field) = section.field("serverAddress") else {
        let message = "[mqtt] has no `serverAddress`";
        let hint = format!("add the broker's address: {EXAMPLE}");
        report.error(&section.gap("serverAddress"), message, hint);
        return None;
    };
    let text = field.text(report)?;
    let server = address::parse(text)
        .map_err(|error| {
            report.error(&field.span, format!("serverAddress: {error}"), error.hint());
        })
        .ok()?;
    if let BrokerAddress::Unix { path } = &server {
        warn_if_socket_closed(environment, path, &field.span, report);
    }
    Some(server)
}

fn base_topic(
    section: &Section<'_>,
    environment: &Environment,
    report: &mut ConfigReport,
) -> Option<TopicName> {
    let default = default_base_topic(environment);
    let Some(field) = section.field("baseTopic") else {
        return TopicName::new(default)
            .map_err(|error| {
                let message = format!("the instance's name gives no baseTopic: {error}");
                let hint = "write a plain topic: baseTopic = \"home/monitoring-2\"";
                report.error(&section.header, message, hint);
            })
            .ok();
    };
    let text = field.text(report)?;
    let problem = if let Some(without) = text.strip_suffix('/') {
        let fix = if without.is_empty() { &default } else { without };
        Some((format!("`{text}` ends with a slash"), format!("write baseTopic = \"{fix}\"")))
    } else if text.starts_with('$') {
        let hint = format!("topics with `$` are the broker's: baseTopic = \"{default}\"");
        Some((format!("`{text}` starts with `$`"), hint))
    } else if text.len() > LONGEST_BASE_TOPIC {
        let message = format!("a base topic of {} bytes is too long", text.len());
        Some((message, format!("it may have {LONGEST_BASE_TOPIC} bytes")))
    } else {
        None
    };
    if let Some((message, hint)) = problem {
        report.error(&field.span, format!("baseTopic: {message}"), hint);
        return None;
    }
    TopicName::new(text)
        .map_err(|error| {
            let hint = format!("write a plain topic: baseTopic = \"{default}\"");
            report.error(&field.span, format!("baseTopic: {error}"), hint);
        })
        .ok()
}

fn client_id(
    section: &Section<'_>,
    environment: &Environment,
    report: &mut ConfigReport,
) -> Option<String> {
    let Some(field) = section.field("clientid") else {
        let default = default_client_id(environment);
        let Some(problem) = problem_of_client_id(&default) else { return Some(default) };
        let message = format!("the instance's name gives no clientid: {problem}");
        report.error(&section.header, message, "write one: clientid = \"iotmonitor-2\"");
        return None;
    };
    let text = field.text(report)?;
    let Some(problem) = problem_of_client_id(text) else { return Some(text.to_owned()) };
    let hint = "it is part of topics and of unit names: clientid = \"iotmonitor\" is the default";
    report.error(&field.span, problem, hint);
    None
}

fn problem_of_client_id(text: &str) -> Option<String> {
    let bad = text.chars().find(|c| matches!(c, '/' | '+' | '#') || c.is_control());
    if text.is_empty() {
        Some("clientid is empty".to_owned())
    } else if let Some(bad) = bad {
        Some(format!("clientid `{}` may not contain {bad:?}", text.escape_debug()))
    } else if text.len() > LONGEST_CLIENT_ID {
        let length = text.len();
        Some(format!("a clientid of {length} bytes is too long, it may have {LONGEST_CLIENT_ID}"))
    } else {
        None
    }
}

fn user(section: &Section<'_>, report: &mut ConfigReport) -> Option<String> {
    let text = section.text("user", report)?;
    secret::warn_if_reference("user", &text, "write the name itself", report);
    if text.value.len() > LONGEST_CREDENTIAL {
        let message = format!("a user of {} bytes is too long", text.value.len());
        report.error(&text.span, message, "MQTT allows 65535 bytes");
        return None;
    }
    Some(text.value.to_owned())
}

fn protocol(section: &Section<'_>, report: &mut ConfigReport) -> ProtocolChoice {
    const NAMES: &[&str] = &["auto", "5", "3.1.1"];
    let Some(text) = section.text("protocol", report) else { return ProtocolChoice::Auto };
    match text.value {
        "5" => return ProtocolChoice::V5,
        "3.1.1" => return ProtocolChoice::V311,
        "auto" => {}
        other => {
            let near = nearest(other, NAMES.iter().copied())
                .map(|near| format!(", did you mean \"{near}\"?"))
                .unwrap_or_default();
            let hint =
                "it is \"auto\" (5, and 3.1.1 where the broker wants it), \"5\" or \"3.1.1\"";
            report.error(&text.span, format!("unknown protocol `{other}`{near}"), hint);
        }
    }
    ProtocolChoice::Auto
}

fn keep_alive(section: &Section<'_>, report: &mut ConfigReport) -> Duration {
    let limits = Duration::from_secs(*KEEP_ALIVE_SECONDS.start())
        ..=Duration::from_secs(*KEEP_ALIVE_SECONDS.end());
    let Some(span) = section.time_span("keepAlive", &limits, report) else {
        return DEFAULT_KEEP_ALIVE;
    };
    if span.subsec_nanos() != 0
        && let Some(field) = section.field("keepAlive")
    {
        let message = format!("keepAlive = {} is not a whole number of seconds", field.shown());
        report.error(&field.span, message, "MQTT counts it in seconds: keepAlive = 30");
    }
    span
}

fn max_subscriptions(section: &Section<'_>, report: &mut ConfigReport) -> usize {
    let Some(field) = section.field("maxSubscriptions") else { return DEFAULT_MAX_SUBSCRIPTIONS };
    let count = field.unsigned().and_then(|count| usize::try_from(count).ok());
    count.filter(|count| *count > 0).unwrap_or_else(|| {
        field.report_type("a whole number from 1 on", "maxSubscriptions = 50", report);
        DEFAULT_MAX_SUBSCRIPTIONS
    })
}

fn client_certificate(
    section: &Section<'_>,
    directory: &Path,
    server: Option<&BrokerAddress>,
    environment: &Environment,
    report: &mut ConfigReport,
) -> Option<(PathBuf, PathBuf)> {
    let certificate = tls_file(section, "certFile", directory, server, environment, report);
    let key = tls_file(section, "keyFile", directory, server, environment, report);
    let (present, missing) = match (&certificate, &key) {
        (Some(_), None) => ("certFile", "keyFile"),
        (None, Some(_)) => ("keyFile", "certFile"),
        (Some(_), Some(_)) | (None, None) => return certificate.zip(key),
    };
    // When the other key is present and wrong, that has already been reported.
    if let Some(field) = section.field(present)
        && section.field(missing).is_none()
    {
        let message = format!("{present} {} is set without {missing}", field.shown());
        report.error(
            &field.span,
            message,
            format!("a client certificate needs both: add {missing}"),
        );
    }
    None
}

fn tls_file(
    section: &Section<'_>,
    key: &str,
    directory: &Path,
    server: Option<&BrokerAddress>,
    environment: &Environment,
    report: &mut ConfigReport,
) -> Option<PathBuf> {
    let text = section.text(key, report)?;
    let path = environment.place_of(directory.join(text.value));
    match server {
        Some(BrokerAddress::Tls { .. } | BrokerAddress::WebSocketTls { .. }) => {
            try_to_read(section, key, &path, SERVER, environment, report);
        }
        Some(
            BrokerAddress::Tcp { .. }
            | BrokerAddress::WebSocket { .. }
            | BrokerAddress::Unix { .. },
        ) => {
            let message = format!("{key} `{}` has no effect on an address without TLS", text.value);
            report.warning(
                &text.span,
                message,
                "for TLS, serverAddress starts with ssl:// or wss://",
            );
        }
        None => {}
    }
    Some(path)
}

fn check_password(password: &str) -> Result<(), (String, &'static str)> {
    if password.len() <= LONGEST_CREDENTIAL {
        return Ok(());
    }
    let message = format!("a password of {} bytes is too long, MQTT allows 65535", password.len());
    Err((message, "choose a shorter one"))
}
