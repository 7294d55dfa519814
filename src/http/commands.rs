//! Commands, which require the token.

use super::answer::known_form;
use super::guard::check_token;
use super::page::Page;
use super::parameters::{Parameters, bad};
use super::refusal::HttpRefusal;
use crate::request::Command;
use crate::time_span::MAX_TIME_SPAN;
use axum::extract::{Path, RawQuery, State};
use hyper::header::HeaderMap;
use hyper::{StatusCode, Uri};
use iotmonitor_core::model::device_name::DeviceName;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The length of a silence, and of a time for which a device is disabled.
const FOR: RangeInclusive<Duration> = Duration::from_secs(1)..=MAX_TIME_SPAN;

/// Whether the token is right, so that a page need not try a command to find out.
pub(super) async fn token(
    State(page): State<Page>,
    headers: HeaderMap,
) -> Result<StatusCode, HttpRefusal> {
    check_token(&headers, page.settings.token.as_ref())?;
    Ok(StatusCode::NO_CONTENT)
}

/// Commands a device or agent.
pub(super) async fn about_one(
    State(page): State<Page>,
    Path((name, command)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<StatusCode, HttpRefusal> {
    check_token(&headers, page.settings.token.as_ref())?;
    let device = known_form(name)?;
    let command = match command.as_str() {
        "enable" => without_span(&query, Command::Enable(device))?,
        "disable" => match span(&query)? {
            None => Command::Disable(device),
            Some(span) => Command::Pause(device, span),
        },
        "restore" => without_span(&query, Command::Restore(device))?,
        "restart" => without_span(&query, Command::RestartAgent(device))?,
        other => alerts_of(Some(device), other, &query)?.ok_or_else(|| {
            let known = "enable, disable, restore, restart, silence, unsilence and test";
            unknown(other, known)
        })?,
    };
    carry_out(&page, command).await
}

/// Commands that concern all alerts.
pub(super) async fn about_all(
    State(page): State<Page>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<StatusCode, HttpRefusal> {
    check_token(&headers, page.settings.token.as_ref())?;
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    let command = alerts_of(None, name, &query)?
        .ok_or_else(|| unknown(name, "silence, unsilence and test"))?;
    carry_out(&page, command).await
}

/// A command about the alerts of one device, or about all.
fn alerts_of(
    device: Option<DeviceName>,
    command: &str,
    query: &Option<String>,
) -> Result<Option<Command>, HttpRefusal> {
    Ok(Some(match command {
        "silence" => {
            let span = span(query)?
                .ok_or_else(|| bad("`silence` takes a time, as in `silence?for=2h`"))?;
            Command::Silence(device, span)
        }
        "unsilence" => without_span(query, Command::Unsilence(device))?,
        "test" => without_span(query, Command::TestAlert(device))?,
        _ => return Ok(None),
    }))
}

fn span(query: &Option<String>) -> Result<Option<Duration>, HttpRefusal> {
    Parameters::read(query.as_deref(), &["for"])?.span("for", &FOR)
}

fn without_span(query: &Option<String>, command: Command) -> Result<Command, HttpRefusal> {
    Parameters::read(query.as_deref(), &[]).map(|_none| command)
}

fn unknown(command: &str, known: &str) -> HttpRefusal {
    let sentence = format!("unknown command `{}`: commands are {known}", command.escape_debug());
    HttpRefusal::new(StatusCode::NOT_FOUND, sentence)
}

/// A test alert is answered when it has been delivered, or could not be.
async fn carry_out(page: &Page, command: Command) -> Result<StatusCode, HttpRefusal> {
    match command {
        Command::TestAlert(_) => page.daemon.test_alert(command).await?,
        command => page.daemon.command(command).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}
