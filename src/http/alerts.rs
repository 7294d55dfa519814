//! The alerts of the past, which the history keeps, and their acknowledgement.

use super::answer::{JSON_TYPE, known_form, with_type};
use super::guard::check_token;
use super::page::Page;
use super::parameters::{Parameters, bad};
use super::refusal::HttpRefusal;
use crate::time_span::MAX_TIME_SPAN;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use iotmonitor_core::model::alert::Priority;
use iotmonitor_core::model::history::alert_record::AlertQuery;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The stretch of time that is reported, and where none is given.
const SINCE: RangeInclusive<Duration> = Duration::from_secs(60)..=MAX_TIME_SPAN;
const USUAL_SINCE: Duration = Duration::from_secs(24 * 3600);

/// The same for incidents.
const USUAL_LENGTH: Duration = Duration::from_secs(7 * 24 * 3600);

/// The number of alerts in an answer.
const MOST_ALERTS: usize = 1_000;

/// The alerts of the last day, or those that are asked for, newest first.
pub(super) async fn list(
    State(page): State<Page>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpRefusal> {
    let query = read(query.as_deref(), now())?;
    Ok(with_type(JSON_TYPE, page.daemon.alerts(query).await?))
}

/// The incidents of the last week, or those that are asked for, newest first.
pub(super) async fn incidents(
    State(page): State<Page>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpRefusal> {
    let parameters = Parameters::read(query.as_deref(), &["since", "device"])?;
    let length = parameters.span("since", &SINCE)?.unwrap_or(USUAL_LENGTH);
    let device = parameters.one("device")?.map(|name| known_form(name.to_owned()));
    Ok(with_type(JSON_TYPE, page.daemon.incidents(device.transpose()?, length).await?))
}

fn read(query: Option<&str>, now: Duration) -> Result<AlertQuery, HttpRefusal> {
    let keys = ["since", "device", "priority", "before", "limit"];
    let parameters = Parameters::read(query, &keys)?;
    let since = parameters.span("since", &SINCE)?.unwrap_or(USUAL_SINCE);
    let least = parameters.one("priority")?.map(|name| {
        Priority::named(name).ok_or_else(|| {
            let known = Priority::ALL.map(Priority::as_str).join(", ");
            bad(format!("priority: `{}` is none of {known}", name.escape_debug()))
        })
    });
    Ok(AlertQuery {
        since: now.saturating_sub(since),
        device: parameters.one("device")?.map(str::to_owned),
        least: least.transpose()?.unwrap_or(Priority::Info),
        before: number(&parameters, "before")?,
        limit: match number(&parameters, "limit")? {
            None => MOST_ALERTS,
            Some(limit) => usize::try_from(limit).unwrap_or(MOST_ALERTS).min(MOST_ALERTS),
        },
    })
}

fn number(parameters: &Parameters<'_>, key: &str) -> Result<Option<u64>, HttpRefusal> {
    let number = parameters.one(key)?.map(str::parse);
    number.transpose().map_err(|_| bad(format!("{key}: it is a whole number")))
}

/// Notes that a person has seen to an alert.
pub(super) async fn acknowledge(
    State(page): State<Page>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, HttpRefusal> {
    check_token(&headers, page.settings.token.as_ref())?;
    let id = id.parse().map_err(|_| {
        let sentence = format!("`{}` is not the number of an alert", id.escape_debug());
        HttpRefusal::new(StatusCode::NOT_FOUND, sentence)
    })?;
    page.daemon.acknowledge(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    #[test]
    fn a_request_names_the_alerts_that_it_means() {
        let usual = AlertQuery {
            since: NOW - USUAL_SINCE,
            device: None,
            least: Priority::Info,
            before: None,
            limit: MOST_ALERTS,
        };
        assert_eq!(read(None, NOW), Ok(usual.clone()));
        let query = "since=1h&device=k+%3Cb%3E&priority=warning&before=12&limit=5";
        let expected = AlertQuery {
            since: NOW - Duration::from_secs(3_600),
            device: Some("k <b>".to_owned()),
            least: Priority::Warning,
            before: Some(12),
            limit: 5,
        };
        assert_eq!(read(Some(query), NOW), Ok(expected));
        assert_eq!(read(Some("limit=99999999"), NOW), Ok(usual));
    }

    #[test]
    fn a_wrong_request_is_refused_with_a_sentence() {
        for (query, words) in [
            ("since=soon", "soon"),
            ("priority=loud", "`loud` is none of error, warning, notice, info"),
            ("before=x", "before: it is a whole number"),
            ("limit=-1", "limit: it is a whole number"),
            ("devise=lamp", "`devise`"),
        ] {
            let refusal = read(Some(query), NOW).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
            assert!(refusal.to_string().contains(words), "{query}: {refusal}");
        }
    }
}
