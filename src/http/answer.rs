//! What the answers to several paths have in common.

use super::refusal::HttpRefusal;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use iotmonitor_core::model::device_name::DeviceName;

pub(super) const JSON_TYPE: &str = "application/json";

/// The name of a device in an address; one that no device can have is not found.
pub(super) fn known_form(name: String) -> Result<DeviceName, HttpRefusal> {
    DeviceName::new(name)
        .map_err(|error| HttpRefusal::new(StatusCode::NOT_FOUND, error.to_string()))
}

pub(super) fn with_type(content_type: &'static str, body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], body.into()).into_response()
}
