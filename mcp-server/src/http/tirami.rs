//! Our own routes under `/v1/tirami`: operations as they are.

use axum::extract::State;
use axum::response::Json;
use tirami_agent_runtime::ops::{Balance, BalanceOutput, Freeze, FreezeOutput};

use super::HttpState;
use super::body;
use super::guard::Bearer;
use super::openai::error::ApiError;
use crate::tools::freeze::FreezeInput;
use crate::tools::input::read;

/// `GET /v1/tirami/balance`.
pub(crate) async fn balance(
    State(state): State<HttpState>,
    bearer: Bearer,
) -> Result<Json<BalanceOutput>, ApiError> {
    Ok(Json(state.access.call(bearer.token(), Balance {}).await?))
}

/// `POST /v1/tirami/freeze`, with `{"reason": "..."}` or nothing.
pub(crate) async fn freeze(
    State(state): State<HttpState>,
    bearer: Bearer,
    body::Json(body): body::Json,
) -> Result<Json<FreezeOutput>, ApiError> {
    let input: FreezeInput = read(body.unwrap_or_else(|| serde_json::json!({})))?;
    Ok(Json(
        state
            .access
            .call(bearer.token(), Freeze::from(input))
            .await?,
    ))
}
