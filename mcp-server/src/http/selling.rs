//! Selling over HTTP: how it stands, changing it with the main agent's token, and what was earned.

use axum::extract::State;
use axum::response::Json;
use tirami_agent_runtime::ops::{ChangeServe, Earnings, EarningsOutput, Serve, ServeOutput};

use super::HttpState;
use super::body;
use super::guard::Bearer;
use super::openai::error::ApiError;
use crate::tools::input::read;

/// `GET /v1/tirami/serve`.
pub(crate) async fn serve(
    State(state): State<HttpState>,
    bearer: Bearer,
) -> Result<Json<ServeOutput>, ApiError> {
    Ok(Json(state.access.call(bearer.token(), Serve {}).await?))
}

/// `POST /v1/tirami/serve`, with one change, such as `{"set": "slots", "count": 4}`.
pub(crate) async fn change(
    State(state): State<HttpState>,
    bearer: Bearer,
    body::Json(body): body::Json,
) -> Result<Json<ServeOutput>, ApiError> {
    let change: ChangeServe = read(body.unwrap_or_else(|| serde_json::json!({})))?;
    Ok(Json(state.access.call(bearer.token(), change).await?))
}

/// `GET /v1/tirami/earnings`.
pub(crate) async fn earnings(
    State(state): State<HttpState>,
    bearer: Bearer,
) -> Result<Json<EarningsOutput>, ApiError> {
    Ok(Json(state.access.call(bearer.token(), Earnings {}).await?))
}
