//! What only clients with the token may read: recorded states and the journal, which may contain
//! secrets.

use super::answer::{JSON_TYPE, known_form, with_type};
use super::daemon_client::DaemonClient;
use super::guard::check_token;
use super::page::Page;
use super::parameters::Parameters;
use super::refusal::HttpRefusal;
use crate::printable::escaped_json;
use crate::request::{Selection, StatePage};
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use futures_util::stream;
use hyper::header::HeaderMap;
use iotmonitor_core::model::state::StateRecord;
use iotmonitor_core::model::state_line::StateLine;
use serde_json::json;

/// The number of lines of the journal, and where none is given.
const MOST_LINES: u16 = 500;
const USUAL_LINES: u16 = 50;

/// The recorded states of a device.
pub(super) async fn states(
    State(page): State<Page>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, HttpRefusal> {
    check_token(&headers, page.settings.token.as_ref())?;
    Parameters::read(query.as_deref(), &[])?;
    let of = Selection::Device(known_form(name)?);
    // A name that there is not is answered before the answer begins.
    let first = page.daemon.states_after(of.clone(), None).await?;
    Ok(with_type(JSON_TYPE, list(page.daemon, of, first)))
}

/// A JSON array. The store is asked for more only when the client has read the earlier part.
fn list(daemon: DaemonClient, of: Selection, first: StatePage) -> Body {
    let start = Some((first, true));
    Body::from_stream(stream::try_unfold(
        (daemon, of, start),
        |(daemon, of, position)| async move {
            let Some((page, is_first)) = position else { return Ok::<_, HttpRefusal>(None) };
            let mut chunk = String::from(if is_first { "[" } else { "" });
            for (at, state) in page.states.iter().enumerate() {
                chunk.push_str(if is_first && at == 0 { "\n" } else { ",\n" });
                chunk.push_str(&line(state));
            }
            let next = match page.next {
                Some(after) => Some((daemon.states_after(of.clone(), Some(after)).await?, false)),
                None => None,
            };
            if next.is_none() {
                chunk.push_str("\n]\n");
            }
            Ok(Some((Bytes::from(chunk), (daemon, of, next))))
        },
    ))
}

fn line(state: &StateRecord) -> String {
    let StateRecord { topic, payload, qos, retain, time } = state;
    escaped_json(StateLine::of(topic.as_str(), payload, *qos as u8, *retain, *time).to_json())
}

/// The last entries of the journal about a device: alerts, and for an agent its own output and what
/// the service manager says of its unit.
pub(super) async fn journal(
    State(page): State<Page>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, HttpRefusal> {
    check_token(&headers, page.settings.token.as_ref())?;
    let parameters = Parameters::read(query.as_deref(), &["lines"])?;
    let lines = parameters.number("lines", &(1..=MOST_LINES))?.unwrap_or(USUAL_LINES);
    let entries = page.daemon.journal(known_form(name)?, lines).await?;
    let items: Vec<String> = entries
        .iter()
        .map(|entry| {
            let time = entry.time.as_secs_f64();
            json!({ "time": time, "priority": entry.priority, "message": entry.message })
                .to_string()
        })
        .collect();
    Ok(with_type(JSON_TYPE, format!("[\n{}\n]\n", items.join(",\n"))))
}
