//! Admits or refuses requests, and sets the headers that restrict the browser in every answer.
//!
//! A foreign page, open in a browser of the same network, must neither read this one nor send
//! commands. The host name in the request must be one of the monitor's own (a name rebound to this
//! machine's address is not), requests that the browser marks as cross-site are refused, and a
//! command carries a token that no browser adds by itself. Reading needs no token: every client
//! that can reach the address may read.

use super::page::Page;
use super::refusal::HttpRefusal;
use super::settings::HttpSettings;
use crate::secret::Secret;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode, Version};
use std::net::IpAddr;
use subtle::ConstantTimeEq as _;

/// Restricts what a browser may do with the answers (Content Security Policy Level 3): it may run,
/// show and fetch files of this server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; \
    require-trusted-types-for 'script'; frame-ancestors ";

/// The policy with the pages that may embed this one.
pub(super) fn policy(settings: &HttpSettings) -> HeaderValue {
    let ancestors = match settings.frame_ancestors.as_slice() {
        [] => "'none'".to_owned(),
        origins => origins.join(" "),
    };
    // Origins are checked with the configuration; without any, none may.
    HeaderValue::try_from(format!("{POLICY}{ancestors}"))
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

/// The address that a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemoteAddress(pub IpAddr);

/// The headers of each answer.
static HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Wraps all routes.
pub(super) async fn watch_over(State(page): State<Page>, request: Request, next: Next) -> Response {
    let settings = &page.settings;
    let checked = if is_plain_probe(&request) {
        Ok(())
    } else {
        check_host(request.headers(), &settings.host_names)
            .and_then(|()| check_origin(request.method(), request.headers(), settings))
    };
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, page.policy.clone());
    for (name, value) in &HEADERS {
        headers.insert(name.clone(), value.clone());
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Whether a program on this machine asks for its health as in HTTP/1.0, without a `Host`. No browser
/// does.
fn is_plain_probe(request: &Request) -> bool {
    let remote = request.extensions().get::<RemoteAddress>();
    request.version() == Version::HTTP_10
        && !request.headers().contains_key(header::HOST)
        && request.method() == Method::GET
        && request.uri().path() == "/healthz"
        && remote.is_some_and(|RemoteAddress(address)| address.is_loopback())
}

/// Whether the request uses one of the server's own names: an address, which cannot be rebound, a
/// loopback name, or one from the configuration.
fn check_host(headers: &HeaderMap, names: &[String]) -> Result<(), HttpRefusal> {
    let host = authority(headers, header::HOST).unwrap_or_default();
    let name = host_of(&host).to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_address || name == "localhost" || names.iter().any(|known| known == name) {
        return Ok(());
    }
    let sentence = format!(
        "this page is not known by the name `{}`: use an address, or add the name to hostNames in [http]",
        name.escape_debug()
    );
    Err(HttpRefusal::new(StatusCode::MISDIRECTED_REQUEST, sentence))
}

/// Whether the browser, where there is one, states that the request does not come from another site
/// (Fetch Metadata Request Headers; RFC 6454). Following a link to this page is allowed, and so is
/// loading it in a frame, where the policy lets the browser show it there.
fn check_origin(
    method: &Method,
    headers: &HeaderMap,
    settings: &HttpSettings,
) -> Result<(), HttpRefusal> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_reading = matches!(*method, Method::GET | Method::HEAD);
    let may_be_framed = !settings.frame_ancestors.is_empty();
    let is_shown = match text("sec-fetch-dest") {
        Some("document") => true,
        Some("iframe") => may_be_framed,
        _ => false,
    };
    let is_navigation = is_reading && text("sec-fetch-mode") == Some("navigate") && is_shown;
    let site = text("sec-fetch-site");
    let comes_from_here = matches!(site, None | Some("same-origin" | "none"));
    // The browser compares with the address that it knows, where a proxy may have changed `Host`.
    let is_own_file = is_reading && site == Some("same-origin");
    let is_own = is_own_file || is_own_origin(headers, &settings.host_names);
    if is_navigation || (comes_from_here && is_own) {
        return Ok(());
    }
    Err(HttpRefusal::new(StatusCode::FORBIDDEN, "requests from another page are refused"))
}

/// Whether the origin, if there is one, is this server's. A proxy may pass another `Host` on than the
/// browser has sent, so the names of the configuration count as well.
fn is_own_origin(headers: &HeaderMap, names: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let Some((_scheme, origin)) = origin else { return false };
    let host = host_of(origin).to_ascii_lowercase();
    authority(headers, header::HOST).as_deref() == Some(origin) || names.contains(&host)
}

/// Whether this request may command.
pub(super) fn check_token(headers: &HeaderMap, token: Option<&Secret>) -> Result<(), HttpRefusal> {
    let Some(token) = token else {
        let sentence =
            "commands are disabled because no token is configured: set tokenFile in [http]";
        return Err(HttpRefusal::new(StatusCode::FORBIDDEN, sentence));
    };
    let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    let (scheme, given) = given.split_at_checked("Bearer ".len()).unwrap_or_default();
    let is_right: bool = token.reveal().as_bytes().ct_eq(given).into();
    if scheme.eq_ignore_ascii_case(b"Bearer ") && is_right {
        return Ok(());
    }
    let sentence =
        "commands require the header `Authorization: Bearer TOKEN` with the token of [http]";
    Err(HttpRefusal::new(StatusCode::UNAUTHORIZED, sentence))
}

/// The value of a header that occurs once and names a host.
fn authority(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok().map(str::to_owned)
}

/// The host of `host:port`; empty where it is invalid.
fn host_of(text: &str) -> String {
    if text.contains('@') {
        return String::new();
    }
    text.parse::<Authority>().map(|authority| authority.host().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn it_goes_by_addresses_by_the_loopbacks_name_and_by_those_that_it_is_given() {
        let names = ["pi.local".to_owned()];
        for host in [
            "127.0.0.1:8079",
            "localhost",
            "LOCALHOST:8079",
            "localhost.:8079",
            "[::1]:8079",
            "[fd00::17]",
            "192.168.4.16:80",
            "pi.local:8079",
            "PI.local",
        ] {
            assert_eq!(check_host(&headers(&[("host", host)]), &names), Ok(()), "{host}");
        }
        for host in [
            "evil.example:8079",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example@localhost",
            "localhost@evil.example",
            "xpi.local",
            "0x7f000001",
            "2130706433",
            "",
            ":8079",
            "::1",
        ] {
            let refused = check_host(&headers(&[("host", host)]), &names).unwrap_err();
            assert_eq!(refused.status, StatusCode::MISDIRECTED_REQUEST, "{host}");
        }
        assert!(check_host(&HeaderMap::new(), &names).is_err());
        let mut twice = headers(&[("host", "localhost")]);
        twice.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert!(check_host(&twice, &names).is_err());
    }

    #[test]
    fn another_page_may_link_here_and_nothing_else() {
        let host = ("host", "localhost:8079");
        let cross = ("sec-fetch-site", "cross-site");
        let (navigate, document) = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"));
        let (get, post) = (&Method::GET, &Method::POST);
        let framed = [host, cross, navigate, ("sec-fetch-dest", "iframe")];
        for (method, pairs, allowed) in [
            (get, &[host][..], true),
            (post, &[host], true),
            (post, &[host, ("origin", "http://localhost:8079")], true),
            (get, &[host, ("sec-fetch-site", "same-origin")], true),
            (get, &[host, ("sec-fetch-site", "none"), navigate, document], true),
            (get, &[host, cross, navigate, document], true),
            (get, &[host, cross], false),
            (get, &framed, false),
            (post, &[host, cross, navigate, document], false),
            (get, &[host, ("sec-fetch-site", "same-site")], false),
            (post, &[host, ("origin", "http://evil.example")], false),
            (post, &[host, ("origin", "http://localhost:3000")], false),
            (post, &[host, ("origin", "null")], false),
        ] {
            let checked = check_origin(method, &headers(pairs), &settings(&[], &[]));
            assert_eq!(checked.is_ok(), allowed, "{pairs:?}");
        }
        let home = settings(&[], &["http://home.example:8123"]);
        assert!(check_origin(get, &headers(&framed), &home).is_ok());
        assert!(check_origin(post, &headers(&framed), &home).is_err());
        let script = [host, cross, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")];
        assert!(check_origin(get, &headers(&script), &home).is_err());
    }

    #[test]
    fn behind_a_proxy_the_names_of_the_configuration_are_its_own() {
        let named = settings(&["monitor.example"], &[]);
        for (origin, allowed) in [
            ("https://monitor.example", true),
            ("https://Monitor.example:8443", true),
            ("http://localhost:8079", true),
            ("https://monitor.example.evil.example", false),
            ("https://evil.example", false),
            ("https://monitor.example@evil.example", false),
            ("null", false),
        ] {
            let pairs = [("host", "localhost:8079"), ("origin", origin)];
            let checked = check_origin(&Method::POST, &headers(&pairs), &named);
            assert_eq!(checked.is_ok(), allowed, "{origin}");
            let from_another = [&pairs[..], &[("sec-fetch-site", "cross-site")]].concat();
            assert!(check_origin(&Method::POST, &headers(&from_another), &named).is_err());
        }
    }

    #[test]
    fn the_policy_names_those_who_may_embed_the_page() {
        let none = policy(&settings(&[], &[]));
        assert!(none.to_str().unwrap().ends_with("; frame-ancestors 'none'"), "{none:?}");
        let two = policy(&settings(&[], &["http://a.example:8123", "https://b.example"]));
        let end = "; frame-ancestors http://a.example:8123 https://b.example";
        assert!(two.to_str().unwrap().ends_with(end), "{two:?}");
    }

    fn settings(names: &[&str], ancestors: &[&str]) -> HttpSettings {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        HttpSettings {
            bind: IpAddr::from([127, 0, 0, 1]),
            port: 8079,
            host_names: owned(names),
            frame_ancestors: owned(ancestors),
            token: None,
        }
    }

    #[test]
    fn to_command_takes_the_token_and_nothing_like_it() {
        let token = Secret::new("0123456789abcdef".to_owned());
        let status = |value: &str, token| {
            check_token(&headers(&[("authorization", value)]), token).map_err(|it| it.status)
        };
        assert_eq!(status("Bearer 0123456789abcdef", Some(&token)), Ok(()));
        assert_eq!(status("bearer 0123456789abcdef", Some(&token)), Ok(()));
        for wrong in [
            "Bearer 0123456789abcdeg",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeff",
            "Bearer ",
            "Bearer",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "",
        ] {
            assert_eq!(status(wrong, Some(&token)), Err(StatusCode::UNAUTHORIZED), "{wrong}");
        }
        let none = check_token(&HeaderMap::new(), Some(&token)).unwrap_err();
        assert_eq!(none.into_response().headers()[header::WWW_AUTHENTICATE], "Bearer");
        let off = status("Bearer 0123456789abcdef", None);
        assert_eq!(off, Err(StatusCode::FORBIDDEN));
    }
}
