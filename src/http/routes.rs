//! Maps paths to answers.

use super::answer::{JSON_TYPE, known_form, with_type};
use super::connection::Lasting;
use super::daemon_client::DaemonClient;
use super::files::{self, PageFile};
use super::guard;
use super::page::Page;
use super::refusal::HttpRefusal;
use super::{alerts, commands, compress, contents, json, metrics, past, values};
use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::middleware::from_fn_with_state;
use axum::response::sse::Sse;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use iotmonitor_core::model::view::DeviceView;

/// The format of [`metrics`] (Prometheus, "Exposition formats").
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn router(page: Page) -> Router {
    Router::new()
        .route("/", get(root))
        .merge(files::routes())
        .route("/healthz", get(healthz))
        .route("/metrics", get(scrape))
        .route("/api/v1/status", get(status))
        .route("/api/v1/devices", get(devices))
        .route("/api/v1/agents", get(agents))
        .route("/api/v1/devices/{name}", get(device))
        .route("/api/v1/devices/{name}/history", get(past::history))
        .route("/api/v1/devices/{name}/hours", get(past::hours))
        .route("/api/v1/devices/{name}/states", get(contents::states))
        .route("/api/v1/devices/{name}/journal", get(contents::journal))
        .route("/api/v1/bars", get(past::bars))
        .route("/api/v1/devices/{name}/values", get(values::values))
        .route("/api/v1/devices/{name}/{command}", post(commands::about_one))
        .route("/api/v1/alerts", get(alerts::list))
        .route("/api/v1/incidents", get(alerts::incidents))
        .route("/api/v1/alerts/{id}/acknowledge", post(alerts::acknowledge))
        .route("/api/v1/events", get(events))
        .route("/api/v1/token", get(commands::token))
        .route("/api/v1/silence", post(commands::about_all))
        .route("/api/v1/unsilence", post(commands::about_all))
        .route("/api/v1/test", post(commands::about_all))
        .fallback(async || HttpRefusal::new(StatusCode::NOT_FOUND, "there is nothing here"))
        .layer(from_fn_with_state(page.clone(), compress::answers))
        .layer(from_fn_with_state(page.clone(), guard::watch_over))
        .with_state(page)
}

/// The page for people, or the original's list for a client that requests JSON.
async fn root(State(page): State<Page>, headers: HeaderMap) -> Response {
    let mut response = if asks_for_json(&headers) {
        list(page.daemon, |view| Some(json::in_the_originals_form(view)))
    } else {
        PageFile::index().answer(&headers)
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// Whether JSON is accepted, and preferred at least as much as HTML (RFC 9110, 12.5.1).
fn asks_for_json(headers: &HeaderMap) -> bool {
    let (mut of_json, mut of_html) = (0.0, 0.0);
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in ranges.flat_map(|value| value.split(',')) {
        let (media_type, parameters) = range.split_once(';').unwrap_or((range, ""));
        let quality = parameters.split(';').find_map(|it| it.trim().strip_prefix("q="));
        let quality = quality.and_then(|it| it.trim().parse::<f32>().ok()).unwrap_or(1.0);
        match media_type.trim().to_ascii_lowercase().as_str() {
            "application/json" => of_json = quality,
            "text/html" => of_html = quality,
            _ => {}
        }
    }
    of_json > 0.0 && of_json >= of_html
}

async fn status(State(page): State<Page>) -> Result<Response, HttpRefusal> {
    let mut value = json::summary(&page.daemon.summary().await?);
    value["version"] = env!("CARGO_PKG_VERSION").into();
    value["started"] = page.started.as_secs().into();
    value["commands"] = page.settings.token.is_some().into();
    Ok(with_type(JSON_TYPE, format!("{value}\n")))
}

async fn devices(State(page): State<Page>) -> Response {
    list(page.daemon, |view| Some(json::device(view)))
}

async fn agents(State(page): State<Page>) -> Response {
    list(page.daemon, |view| view.agent.is_some().then(|| json::device(view)))
}

fn list(daemon: DaemonClient, render: fn(&DeviceView) -> Option<String>) -> Response {
    with_type(JSON_TYPE, daemon.list(render))
}

async fn device(
    State(page): State<Page>,
    Path(name): Path<String>,
) -> Result<Response, HttpRefusal> {
    let view = page.daemon.device(known_form(name)?).await?;
    Ok(with_type(JSON_TYPE, json::one_device(&view) + "\n"))
}

async fn events(
    State(page): State<Page>,
    Extension(lasting): Extension<Lasting>,
) -> Result<Response, HttpRefusal> {
    page.daemon.summary().await?;
    let stream = page.recent.live.follow().ok_or_else(|| {
        let sentence = "all places for live updates are taken: request the data at intervals";
        HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
    })?;
    lasting.set();
    // A proxy is to pass each event on at once (nginx, ngx_http_proxy_module).
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((unbuffered, Sse::new(stream)).into_response())
}

async fn scrape(State(page): State<Page>) -> Result<Response, HttpRefusal> {
    Ok(with_type(METRICS_TYPE, metrics::scrape(&page).await?))
}

/// Whether the monitoring works: the daemon answers, and can hear the devices.
async fn healthz(State(page): State<Page>) -> Result<Response, HttpRefusal> {
    if page.daemon.summary().await?.watching {
        return Ok(with_type("text/plain; charset=utf-8", "ok\n"));
    }
    let sentence = "the broker cannot be reached, so no device is heard";
    Err(HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_a_page_and_clients_that_accept_json_get_json() {
        for (accept, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json, text/plain, */*", true),
            ("text/html;q=0.5, application/json;q=0.9", true),
            ("application/json, text/html", true),
            ("text/html, application/json;q=0.9", false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("application/json;q=0", false),
            ("*/*", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(asks_for_json(&headers), json, "{accept}");
        }
        assert!(!asks_for_json(&HeaderMap::new()));
    }
}
