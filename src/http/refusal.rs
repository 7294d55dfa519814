//! The answer to a refused request.

use crate::request::Rejection;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use serde_json::json;

/// The reason of the refusal, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub(super) struct HttpRefusal {
    pub status: StatusCode,
    sentence: String,
}

impl HttpRefusal {
    pub fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into() }
    }
}

impl IntoResponse for HttpRefusal {
    fn into_response(self) -> Response {
        let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = format!("{}\n", json!({ "error": self.sentence }));
        let mut response = (self.status, [content_type], body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

impl From<Rejection> for HttpRefusal {
    fn from(rejection: Rejection) -> Self {
        let status = match &rejection {
            Rejection::UnknownDevice(_) | Rejection::UnknownAlert(_) => StatusCode::NOT_FOUND,
            Rejection::Failed(_) => StatusCode::CONFLICT,
        };
        HttpRefusal::new(status, rejection.to_string())
    }
}
