//! The past of devices, which the history's thread reads and computes.

use super::answer::{JSON_TYPE, known_form, with_type};
use super::page::Page;
use super::parameters::Parameters;
use super::refusal::HttpRefusal;
use crate::time_span::MAX_TIME_SPAN;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The stretch of time that is reported.
const SINCE: RangeInclusive<Duration> = Duration::from_secs(60)..=MAX_TIME_SPAN;

/// The stretch where none is given.
const USUAL: Duration = Duration::from_secs(30 * 24 * 3600);

/// The report that `iotmonitor history NAME` shows.
pub(super) async fn history(
    State(page): State<Page>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpRefusal> {
    let parameters = Parameters::read(query.as_deref(), &["since"])?;
    let length = parameters.span("since", &SINCE)?.unwrap_or(USUAL);
    let report = page.daemon.history(known_form(name)?, length).await?;
    Ok(with_type(JSON_TYPE, report + "\n"))
}
