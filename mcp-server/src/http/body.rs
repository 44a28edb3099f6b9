//! A request's JSON body, with limits on size and time, refused in our own words.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use futures_util::StreamExt;
use serde_json::Value;
use tirami_agent_runtime::failure::{Failure, FailureCode};
use tokio::time::{Duration, timeout};

use super::openai::error::ApiError;
use crate::tools::input::invalid;

/// Largest body. Chosen: five times the longest prompt.
pub(crate) const BODY_BYTES_MAX: usize = 1_024 * 1_024;

/// How much of a body that is too large is taken before its sender is cut off. Chosen.
const TAKEN_BYTES_MAX: usize = 16 * BODY_BYTES_MAX;

/// Longest time a body may take to arrive; chosen.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// The body as JSON; absent when there is none.
#[derive(Debug)]
pub(crate) struct Json(pub(crate) Option<Value>);

impl<S: Send + Sync> FromRequest<S> for Json {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let is_json = is_json(&request);
        let Ok(read) = timeout(BODY_TIMEOUT, read(request.into_body())).await else {
            let failure = Failure::new(
                FailureCode::InvalidInput,
                "the body took too long to arrive",
            );
            return Err(ApiError::with_status(StatusCode::REQUEST_TIMEOUT, failure));
        };
        let bytes = read.ok_or_else(|| {
            let message = format!("the body is cut off or larger than {BODY_BYTES_MAX} bytes");
            let failure = Failure::new(FailureCode::InvalidInput, message);
            ApiError::with_status(StatusCode::PAYLOAD_TOO_LARGE, failure)
        })?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        if !is_json {
            let message = "the body must come with 'Content-Type: application/json'";
            let failure = Failure::new(FailureCode::InvalidInput, message);
            return Err(ApiError::with_status(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                failure,
            ));
        }
        serde_json::from_slice(&bytes)
            .map(|value| Self(Some(value)))
            .map_err(|error| invalid("", format!("the body is not JSON: {error}")).into())
    }
}

/// The body's bytes; none when it is cut off or too large. One that is too large is taken and dropped,
/// up to a bound: a sender that is cut off at once never reads why.
async fn read(body: Body) -> Option<Vec<u8>> {
    let mut pieces = body.into_data_stream();
    let (mut bytes, mut length) = (Vec::new(), 0_usize);
    while let Some(piece) = pieces.next().await {
        let piece = piece.ok()?;
        length = length.saturating_add(piece.len());
        if length > TAKEN_BYTES_MAX {
            return None;
        }
        if length <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&piece);
        }
    }
    (length <= BODY_BYTES_MAX).then_some(bytes)
}

fn is_json(request: &Request) -> bool {
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| {
        let media_type = value.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("application/json")
    })
}
