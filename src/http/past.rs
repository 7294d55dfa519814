//! The past of devices, which the history's thread reads and computes.

use super::answer::{JSON_TYPE, known_form, with_type};
use super::page::Page;
use super::parameters::{Parameters, bad};
use super::refusal::HttpRefusal;
use crate::time_span::MAX_TIME_SPAN;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use iotmonitor_core::model::device_name::DeviceName;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The stretch of time that is reported, and the one where none is given.
const SINCE: RangeInclusive<Duration> = Duration::from_secs(60)..=MAX_TIME_SPAN;
const LAST_MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
const LAST_WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// The number of devices and boundaries in one request for bars: those of a screen, of which each has
/// a month of days and a day of hours.
const MOST_NAMES: usize = 200;
const MOST_BOUNDARIES: usize = 64;

/// The report that `iotmonitor history NAME` shows.
pub(super) async fn history(
    State(page): State<Page>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpRefusal> {
    let length = since(query.as_deref(), LAST_MONTH)?;
    let device = known_form(name)?;
    let _turn = page.pasts.acquire().await;
    let report = page.daemon.history(device, length).await?;
    Ok(with_type(JSON_TYPE, report + "\n"))
}

/// Contacts by the hour, and what an agent has used.
pub(super) async fn hours(
    State(page): State<Page>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpRefusal> {
    let length = since(query.as_deref(), LAST_WEEK)?;
    let device = known_form(name)?;
    let _turn = page.pasts.acquire().await;
    let report = page.daemon.hours(device, length).await?;
    Ok(with_type(JSON_TYPE, report + "\n"))
}

/// How several devices spent the intervals between boundaries that the client chooses, so that days
/// are those of its own time zone.
pub(super) async fn bars(
    State(page): State<Page>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpRefusal> {
    let parameters = Parameters::read(query.as_deref(), &["name", "at"])?;
    let boundaries = boundaries(parameters.one("at")?.unwrap_or_default())?;
    let names: Vec<&str> = parameters.all("name").collect();
    if names.is_empty() || names.len() > MOST_NAMES {
        return Err(bad(format!("`name` is to be given from 1 to {MOST_NAMES} times")));
    }
    // A name that no device can have belongs to none.
    let devices = names.into_iter().filter_map(|name| DeviceName::new(name).ok()).collect();
    let _turn = page.pasts.acquire().await;
    let bars = page.daemon.bars(devices, boundaries).await?;
    Ok(with_type(JSON_TYPE, bars + "\n"))
}

fn since(query: Option<&str>, usual: Duration) -> Result<Duration, HttpRefusal> {
    let parameters = Parameters::read(query, &["since"])?;
    Ok(parameters.span("since", &SINCE)?.unwrap_or(usual))
}

/// Unix seconds in ascending order, separated by commas.
fn boundaries(text: &str) -> Result<Vec<Duration>, HttpRefusal> {
    let wrong = || {
        bad(format!(
            "`at` is to be from 2 to {MOST_BOUNDARIES} times in Unix seconds, each later than the \
             one before, as in `at=1795392000,1795478400`"
        ))
    };
    let times: Result<Vec<u64>, _> = text.split(',').map(str::parse).collect();
    let times = times.map_err(|_not_a_number| wrong())?;
    if !(2..=MOST_BOUNDARIES).contains(&times.len()) || !times.is_sorted_by(|a, b| a < b) {
        return Err(wrong());
    }
    Ok(times.into_iter().map(Duration::from_secs).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_times_that_ascend() {
        let seconds = |numbers: &[u64]| numbers.iter().copied().map(Duration::from_secs).collect();
        assert_eq!(boundaries("0,60"), Ok(seconds(&[0, 60])));
        let most: Vec<String> = (0..64_u64).map(|at| at.to_string()).collect();
        assert_eq!(boundaries(&most.join(",")).unwrap().len(), 64);
        let more: Vec<String> = (0..65_u64).map(|at| at.to_string()).collect();
        for wrong in ["", "0", "60,0", "0,0", "0,60,", "-1,60", "0,1e3", "0;60", &more.join(",")] {
            assert!(boundaries(wrong).unwrap_err().to_string().contains("Unix seconds"), "{wrong}");
        }
        // Later than any clock.
        assert!(boundaries(&format!("0,{}", u64::MAX)).is_ok());
    }
}
