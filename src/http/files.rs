//! The files of the page. They are part of the program.

use super::page::Page;
use axum::Router;
use axum::body::Bytes;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// The files beside the page itself: name, content type, content.
const FILES: &[(&str, &str, &str)] = &[
    ("style.css", STYLE, include_str!("page/style.css")),
    ("parts.css", STYLE, include_str!("page/parts.css")),
    ("device.css", STYLE, include_str!("page/device.css")),
    ("alerts.css", STYLE, include_str!("page/alerts.css")),
    ("app.js", SCRIPT, include_str!("page/app.js")),
    ("source.js", SCRIPT, include_str!("page/source.js")),
    ("stream.js", SCRIPT, include_str!("page/stream.js")),
    ("format.js", SCRIPT, include_str!("page/format.js")),
    ("overview.js", SCRIPT, include_str!("page/overview.js")),
    ("devices.js", SCRIPT, include_str!("page/devices.js")),
    ("groups.js", SCRIPT, include_str!("page/groups.js")),
    ("window.js", SCRIPT, include_str!("page/window.js")),
    ("bars.js", SCRIPT, include_str!("page/bars.js")),
    ("device.js", SCRIPT, include_str!("page/device.js")),
    ("alerts.js", SCRIPT, include_str!("page/alerts.js")),
    ("rows.js", SCRIPT, include_str!("page/rows.js")),
    ("past.js", SCRIPT, include_str!("page/past.js")),
    ("contents.js", SCRIPT, include_str!("page/contents.js")),
    ("commands.js", SCRIPT, include_str!("page/commands.js")),
    ("charts.js", SCRIPT, include_str!("page/charts.js")),
    ("question.js", SCRIPT, include_str!("page/question.js")),
    ("parts.js", SCRIPT, include_str!("page/parts.js")),
    ("words.js", SCRIPT, include_str!("page/words.js")),
];

const PLAIN_ICON: &str = include_str!("page/icon.svg");

/// Shown while the monitor does not answer.
const LOST_ICON: &str = include_str!("page/icon-lost.svg");

/// Shown during alarms, with their number in place of `COUNT`.
const ALARM_ICON: &str = include_str!("page/icon-alarm.svg");

/// The largest number that is readable in an icon.
const MOST_IN_ICON: u8 = 9;

/// A browser keeps the file, and asks each time whether it is still current.
const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");

/// The browser needs the icon when the monitor does not answer.
const KEPT: HeaderValue = HeaderValue::from_static("max-age=86400");

/// A file, and the tag by which a browser knows whether its copy is current (RFC 9110, 8.8.3).
#[derive(Debug, Clone)]
pub(super) struct PageFile {
    content_type: &'static str,
    caching: HeaderValue,
    tag: String,
    content: Bytes,
}

impl PageFile {
    /// The page itself.
    pub fn index() -> Self {
        Self::new(HTML, include_str!("page/index.html").into())
    }

    fn new(content_type: &'static str, content: Bytes) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let tag = format!("\"{:016x}\"", hasher.finish());
        Self { content_type, caching: REVALIDATED, tag, content }
    }

    /// The file, or 304 where the browser has it.
    pub fn answer(&self, request: &HeaderMap) -> Response {
        let headers = [(header::CACHE_CONTROL, self.caching.clone())];
        let tag = [(header::ETAG, self.tag.clone())];
        if self.is_known_to(request) {
            return (StatusCode::NOT_MODIFIED, headers, tag).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, self.content_type)];
        (headers, tag, content_type, self.content.clone()).into_response()
    }

    /// Compares weakly, because a proxy that compresses weakens the tag (RFC 9110, 13.1.2).
    fn is_known_to(&self, request: &HeaderMap) -> bool {
        let values = request.get_all(header::IF_NONE_MATCH).iter();
        let mut tags = values.filter_map(|value| value.to_str().ok()).flat_map(|it| it.split(','));
        tags.any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.tag
        })
    }
}

pub(super) fn routes() -> Router<Page> {
    let files = FILES.iter().map(|(name, content_type, content)| {
        ((*name).to_owned(), PageFile::new(content_type, Bytes::from_static(content.as_bytes())))
    });
    files.chain(icons()).fold(Router::new(), |router, (name, file)| {
        let answer = async move |headers: HeaderMap| file.answer(&headers);
        router.route(&format!("/{name}"), get(answer))
    })
}

/// `icon-1.svg` to `icon-9.svg`, `icon-many.svg`, and those without a number.
fn icons() -> impl Iterator<Item = (String, PageFile)> {
    let numbers = (1..=MOST_IN_ICON).map(|number| (number.to_string(), number.to_string()));
    let counted = numbers.chain([("many".to_owned(), format!("{MOST_IN_ICON}+"))]);
    let alarms = counted.map(|(name, text)| {
        (format!("icon-{name}.svg"), Bytes::from(ALARM_ICON.replace("COUNT", &text)))
    });
    let plain = [("icon.svg", PLAIN_ICON), ("icon-lost.svg", LOST_ICON)];
    let plain = plain.map(|(name, text)| (name.to_owned(), Bytes::from(text)));
    alarms
        .chain(plain)
        .map(|(name, content)| (name, PageFile { caching: KEPT, ..PageFile::new(ICON, content) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_with_the_same_file_gets_it_no_second_time() {
        let file = PageFile::index();
        let status = |known: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(known).unwrap());
            file.answer(&headers).status()
        };
        for known in [file.tag.clone(), format!("W/{}", file.tag), format!("\"x\", {}", file.tag)] {
            assert_eq!(status(&known), StatusCode::NOT_MODIFIED, "{known}");
        }
        assert_eq!(status("*"), StatusCode::NOT_MODIFIED);
        assert_eq!(status("\"another\""), StatusCode::OK);
        assert_eq!(file.answer(&HeaderMap::new()).status(), StatusCode::OK);
    }
}
