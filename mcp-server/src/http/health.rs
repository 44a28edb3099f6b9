//! Whether the process lives, and whether its node answers.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;
use tirami_agent_runtime::ops::Status;
use tokio::time::{Duration, timeout};

use super::HttpState;

/// A node that does not tell its status in this time is not ready; chosen.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// `GET /healthz`: this process answers.
pub(crate) async fn alive() -> Json<serde_json::Value> {
    Json(json!({ "status": "alive" }))
}

/// `GET /readyz`: the node answers.
pub(crate) async fn ready(State(state): State<HttpState>) -> Response {
    let asked = timeout(READY_TIMEOUT, state.access.call(&state.token, Status {})).await;
    match asked {
        Ok(Ok(_)) => Json(json!({ "status": "ready" })).into_response(),
        Ok(Err(failure)) => {
            tracing::warn!(%failure, "not ready");
            not_ready(failure.code.name())
        }
        Err(_) => not_ready("timeout"),
    }
}

/// Says no more than a word: anyone may ask.
fn not_ready(reason: &str) -> Response {
    let body = Json(json!({ "status": "not_ready", "reason": reason }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}
