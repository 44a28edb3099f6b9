//! What others can check, over HTTP: the chain, the journal, proofs, and checking what others show.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Json;
use tirami_agent_runtime::ops::{
    AnchorOutput, Audit, AuditLog, AuditLogOutput, AuditOutput, ChainEntries, ChainEntriesOutput,
    Identity, IdentityOutput, MakeAnchor, Network, NetworkOutput, ProveBalance, ProveLog,
    ProveLogOutput, ProveReceipt, ProveStatement, Statement, StatementOutput, Verify, VerifyOutput,
};
use tirami_manifest::proof_file::{BalanceFile, InclusionFile};
use tirami_manifest::statement_file::StatementFile;

use super::HttpState;
use super::body;
use super::guard::Bearer;
use super::openai::error::ApiError;
use crate::tools::input::{invalid, read};

/// `GET /v1/tirami/network`.
pub(crate) async fn network(
    State(state): State<HttpState>,
    bearer: Bearer,
) -> Result<Json<NetworkOutput>, ApiError> {
    Ok(Json(state.access.call(bearer.token(), Network {}).await?))
}

/// `GET /v1/tirami/chain?after=&limit=`.
pub(crate) async fn entries(
    State(state): State<HttpState>,
    bearer: Bearer,
    query: Result<Query<ChainEntries>, QueryRejection>,
) -> Result<Json<ChainEntriesOutput>, ApiError> {
    let Query(input) = query.map_err(|error| invalid("", error.body_text()))?;
    Ok(Json(state.access.call(bearer.token(), input).await?))
}

/// `GET /v1/tirami/prove/balance`.
pub(crate) async fn balance(
    State(state): State<HttpState>,
    bearer: Bearer,
) -> Result<Json<BalanceFile>, ApiError> {
    let proved = state.access.call(bearer.token(), ProveBalance {}).await?;
    Ok(Json(proved))
}

/// `GET /v1/tirami/prove/receipt/{id}`.
pub(crate) async fn receipt(
    State(state): State<HttpState>,
    bearer: Bearer,
    Path(id): Path<String>,
) -> Result<Json<InclusionFile>, ApiError> {
    let receipt = id
        .parse()
        .map_err(|error: tirami_manifest::id::IdError| invalid("receipt", error.to_string()))?;
    let asked = ProveReceipt { receipt };
    Ok(Json(state.access.call(bearer.token(), asked).await?))
}

/// `GET /v1/tirami/prove/statement?agent=&from=&to=`.
pub(crate) async fn prove_statement(
    State(state): State<HttpState>,
    bearer: Bearer,
    query: Result<Query<ProveStatement>, QueryRejection>,
) -> Result<Json<StatementFile>, ApiError> {
    let Query(input) = query.map_err(|error| invalid("", error.body_text()))?;
    Ok(Json(state.access.call(bearer.token(), input).await?))
}

/// `POST /v1/tirami/verify`, with `{"proof": "..."}`.
pub(crate) async fn verify(
    State(state): State<HttpState>,
    bearer: Bearer,
    body::Json(body): body::Json,
) -> Result<Json<VerifyOutput>, ApiError> {
    let input: Verify = read(body.unwrap_or_else(|| serde_json::json!({})))?;
    Ok(Json(state.access.call(bearer.token(), input).await?))
}

/// `GET /v1/tirami/identity`.
pub(crate) async fn identity(
    State(state): State<HttpState>,
    bearer: Bearer,
) -> Result<Json<IdentityOutput>, ApiError> {
    Ok(Json(state.access.call(bearer.token(), Identity {}).await?))
}

/// `GET /v1/tirami/anchor`.
pub(crate) async fn anchor(
    State(state): State<HttpState>,
    bearer: Bearer,
) -> Result<Json<AnchorOutput>, ApiError> {
    let made = state.access.call(bearer.token(), MakeAnchor {}).await?;
    Ok(Json(made))
}

/// `GET /v1/tirami/audit`.
pub(crate) async fn audit(
    State(state): State<HttpState>,
    bearer: Bearer,
) -> Result<Json<AuditOutput>, ApiError> {
    Ok(Json(
        state.access.call(bearer.token(), Audit::default()).await?,
    ))
}

/// `GET /v1/tirami/audit_log?before=&limit=`.
pub(crate) async fn audit_log(
    State(state): State<HttpState>,
    bearer: Bearer,
    query: Result<Query<AuditLog>, QueryRejection>,
) -> Result<Json<AuditLogOutput>, ApiError> {
    let Query(input) = query.map_err(|error| invalid("", error.body_text()))?;
    Ok(Json(state.access.call(bearer.token(), input).await?))
}

/// `GET /v1/tirami/prove/log?seq=&size=`, or `?from=&size=`.
pub(crate) async fn prove_log(
    State(state): State<HttpState>,
    bearer: Bearer,
    query: Result<Query<ProveLog>, QueryRejection>,
) -> Result<Json<ProveLogOutput>, ApiError> {
    let Query(input) = query.map_err(|error| invalid("", error.body_text()))?;
    Ok(Json(state.access.call(bearer.token(), input).await?))
}

/// `POST /v1/tirami/statement`.
pub(crate) async fn statement(
    State(state): State<HttpState>,
    bearer: Bearer,
    body::Json(body): body::Json,
) -> Result<Json<StatementOutput>, ApiError> {
    let input: Statement = read(body.unwrap_or_else(|| serde_json::json!({})))?;
    Ok(Json(state.access.call(bearer.token(), input).await?))
}
