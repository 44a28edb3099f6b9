//! `GET /.well-known/tirami-agent.json`: the signed manifest, byte for byte.

use axum::extract::State;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use tirami_agent_runtime::ops::GetManifest;
use tirami_manifest::id::to_hex;

use super::HttpState;
use super::openai::error::ApiError;

/// How long a copy may be used without asking; far below a manifest's own expiry. Chosen.
const MAX_AGE: &str = "public, max-age=60";

/// The manifest. Pages of any origin may read it: it is public and signed.
pub(crate) async fn manifest(
    State(state): State<HttpState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let manifest = state
        .access
        .call(&state.token, GetManifest {})
        .await?
        .manifest;
    let etag = format!("\"{}\"", to_hex(&Sha256::digest(manifest.as_bytes())));
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let unchanged = known.is_some_and(|known| known.split(',').any(|tag| tag.trim() == etag));
    let headers = [
        (ETAG, etag.as_str()),
        (CACHE_CONTROL, MAX_AGE),
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    Ok(if unchanged {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, [(CONTENT_TYPE, "application/json")], manifest).into_response()
    })
}
