//! The way to other nodes, over HTTP: who is there, how far away, and whether this node is reached.

use axum::extract::State;
use axum::response::Json;
use tirami_agent_runtime::ops::{
    NetCheck, NetCheckOutput, Peers, PeersOutput, PingOutput, PingPeer,
};

use super::HttpState;
use super::body;
use super::guard::Bearer;
use super::openai::error::ApiError;
use crate::tools::input::read;

/// `GET /v1/tirami/peers`.
pub(crate) async fn peers(
    State(state): State<HttpState>,
    bearer: Bearer,
) -> Result<Json<PeersOutput>, ApiError> {
    Ok(Json(state.access.call(bearer.token(), Peers {}).await?))
}

/// `POST /v1/tirami/peers/ping`, with `{"peer": "...", "count": 4}`.
pub(crate) async fn ping(
    State(state): State<HttpState>,
    bearer: Bearer,
    body::Json(body): body::Json,
) -> Result<Json<PingOutput>, ApiError> {
    let input: PingPeer = read(body.unwrap_or_else(|| serde_json::json!({})))?;
    Ok(Json(state.access.call(bearer.token(), input).await?))
}

/// `GET /v1/tirami/net`.
pub(crate) async fn net(
    State(state): State<HttpState>,
    bearer: Bearer,
) -> Result<Json<NetCheckOutput>, ApiError> {
    Ok(Json(state.access.call(bearer.token(), NetCheck {}).await?))
}
