//! Compresses large answers for clients that accept it (gzip; RFC 9110, 12.5.3).
//!
//! An encoder occupies its memory for as long as its reader takes, so there are only a few. When all
//! are in use, an answer is sent as it is.

use super::page::Page;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt as _, stream};
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};
use std::io::{self, Write as _};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// The number of answers that are compressed at a time. Each encoder takes some 300 KB.
pub(super) const MOST_ENCODERS: usize = 4;

/// A shorter answer fits into a packet.
const LEAST_BYTES: u64 = 1_024;

/// The number of bytes between two of which other clients have their turn.
const PIECE: usize = 32 * 1024;

/// The types whose content is text. The stream of events is not among them, because an event must not
/// wait for the next.
const TYPES: [&str; 6] =
    ["application/json", "image/svg+xml", "text/css", "text/html", "text/javascript", "text/plain"];

/// Wraps all routes.
pub(super) async fn answers(State(page): State<Page>, request: Request, next: Next) -> Response {
    let is_accepted = accepts_gzip(request.headers());
    let mut response = next.run(request).await;
    if response.status() != StatusCode::OK || !is_text(response.headers()) {
        return response;
    }
    let vary = HeaderValue::from_static("accept-encoding");
    response.headers_mut().append(header::VARY, vary);
    let is_short = response.body().size_hint().upper().is_some_and(|most| most < LEAST_BYTES);
    if !is_accepted || is_short {
        return response;
    }
    let Ok(place) = Arc::clone(&page.encoders).try_acquire_owned() else { return response };
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    weaken_tag(&mut parts.headers);
    Response::from_parts(parts, compressed(body, place))
}

/// The compressed content is another representation, which is equivalent (RFC 9110, 8.8.1).
fn weaken_tag(headers: &mut HeaderMap) {
    let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let weak = tag.filter(|tag| !tag.starts_with("W/")).map(|tag| format!("W/{tag}"));
    if let Some(weak) = weak.and_then(|weak| HeaderValue::try_from(weak).ok()) {
        headers.insert(header::ETAG, weak);
    }
}

fn is_text(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|it| it.split(';').next()).unwrap_or_default();
    TYPES.contains(&media_type)
}

/// Whether gzip is accepted, and preferred at least as much as the plain answer.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut of_gzip, mut of_any, mut of_plain) = (None, None, None);
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let codings = values.filter_map(|value| value.to_str().ok()).flat_map(|it| it.split(','));
    for coding in codings {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = parameters.split(';').find_map(|it| it.trim().strip_prefix("q="));
        let quality = quality.map_or(Some(1.0), |it| it.trim().parse::<f32>().ok());
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => of_gzip = quality,
            "identity" => of_plain = quality,
            "*" => of_any = quality,
            _ => {}
        }
    }
    let of_gzip = of_gzip.or(of_any).unwrap_or(0.0);
    of_gzip > 0.0 && of_gzip >= of_plain.unwrap_or(0.0)
}

/// A body on its way through an encoder.
struct Compressing {
    source: BodyDataStream,
    /// What has been read and not been compressed.
    pending: Bytes,
    /// Both are released at the end, however long the last bytes take.
    encoder: Option<(GzEncoder<Vec<u8>>, OwnedSemaphorePermit)>,
}

fn compressed(body: Body, place: OwnedSemaphorePermit) -> Body {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let start = Compressing {
        source: body.into_data_stream(),
        pending: Bytes::new(),
        encoder: Some((encoder, place)),
    };
    Body::from_stream(stream::try_unfold(start, |mut body| async move {
        let next = body.next().await?;
        Ok::<_, io::Error>(next.map(|piece| (piece, body)))
    }))
}

impl Compressing {
    /// The next compressed bytes; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        // The source has ended with the encoder, and must not be asked again.
        while let Some((mut encoder, place)) = self.encoder.take() {
            if self.pending.is_empty() {
                match self.source.next().await {
                    Some(read) => self.pending = read.map_err(io::Error::other)?,
                    None => return Ok(Some(encoder.finish()?.into())),
                }
            }
            let piece = self.pending.split_to(self.pending.len().min(PIECE));
            encoder.write_all(&piece)?;
            let out = std::mem::take(encoder.get_mut());
            self.encoder = Some((encoder, place));
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
            tokio::task::yield_now().await;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_where_it_is_welcome() {
        for (accepted, is_welcome) in [
            ("gzip", true),
            ("gzip, deflate, br, zstd", true),
            ("GZIP;q=0.5", true),
            ("deflate, x-gzip", true),
            ("*", true),
            ("gzip;q=0.5, identity;q=0.5", true),
            ("", false),
            ("br", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("gzip;q=0.4, identity;q=0.5", false),
            ("gzip;q=x", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            assert_eq!(accepts_gzip(&headers), is_welcome, "{accepted}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn the_tag_of_a_compressed_file_is_weak() {
        for (tag, weak) in [("\"a\"", "W/\"a\""), ("W/\"a\"", "W/\"a\"")] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ETAG, HeaderValue::from_static(tag));
            weaken_tag(&mut headers);
            assert_eq!(headers[header::ETAG], weak);
        }
    }

    #[test]
    fn only_text_is_compressed_and_no_stream_of_events() {
        for (content_type, is) in [
            ("application/json", true),
            ("text/plain; version=0.0.4; charset=utf-8", true),
            ("text/event-stream", false),
            ("image/png", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            assert_eq!(is_text(&headers), is, "{content_type}");
        }
    }
}
