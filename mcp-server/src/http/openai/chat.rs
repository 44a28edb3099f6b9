//! `POST /v1/chat/completions`.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Json, Response};

use super::answer::{Pieces, completion};
use super::error::ApiError;
use super::request::ChatRequest;
use super::stream::TextStream;
use crate::generation::{Generation, Step};
use crate::http::guard::{Bearer, Room};
use crate::http::{HttpState, body};

/// Buys an answer, in OpenAI's shapes.
pub(crate) async fn completions(
    State(state): State<HttpState>,
    bearer: Bearer,
    room: Room,
    headers: HeaderMap,
    body::Json(body): body::Json,
) -> Result<Response, ApiError> {
    let key_header = headers
        .get("idempotency-key")
        .map(|key| key.to_str().unwrap_or_default());
    let request = ChatRequest::read(body, key_header)?;
    let ChatRequest {
        chat,
        key,
        callers_key,
        stream,
        include_usage,
    } = request;
    let pieces = Pieces::new(&key, chat.model.as_deref(), include_usage);
    let mut generation = Generation::start(&state.access, bearer.token(), chat);
    if stream {
        let key = (key, callers_key);
        return Ok(TextStream {
            generation,
            pieces,
            key,
            room,
        }
        .respond()
        .await);
    }
    loop {
        if let Step::Done(result) = generation.next().await {
            let error = |failure| ApiError::from(failure).purchase(&key, callers_key);
            return Ok(Json(completion(&(*result).map_err(error)?)).into_response());
        }
    }
}
