//! `GET /v1/models` and `/v1/models/{model}`.

use axum::extract::{Path, State};
use axum::response::Json;
use serde_json::{Value, json};
use tirami_agent_runtime::failure::{Failure, FailureCode};
use tirami_agent_runtime::ops::{ModelOutput, Models};

use super::created;
use super::error::ApiError;
use crate::http::HttpState;
use crate::http::guard::Bearer;

/// Every model by name, with all who offer it.
pub(crate) async fn list(
    State(state): State<HttpState>,
    bearer: Bearer,
) -> Result<Json<Value>, ApiError> {
    let models = state.access.call(bearer.token(), Models {}).await?.models;
    Ok(Json(json!({ "object": "list", "data": by_name(&models) })))
}

/// One model.
pub(crate) async fn one(
    State(state): State<HttpState>,
    bearer: Bearer,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let models = state.access.call(bearer.token(), Models {}).await?.models;
    let found = by_name(&models)
        .into_iter()
        .find(|model| model["id"] == name.as_str());
    found.map(Json).ok_or_else(|| {
        let shown: String = name.chars().take(100).collect();
        let failure = Failure::new(
            FailureCode::NotFound,
            format!("there is no model '{shown}'"),
        )
        .hint("GET /v1/models lists them")
        .next_tool("models");
        ApiError::from(failure).param("model")
    })
}

/// OpenAI's ids are unique, so offers of one name stand together.
fn by_name(models: &[ModelOutput]) -> Vec<Value> {
    let mut names: Vec<&str> = Vec::new();
    for model in models {
        if !names.contains(&model.name.as_str()) {
            names.push(&model.name);
        }
    }
    let created = created();
    let model = |name: &&str| {
        let offers: Vec<&ModelOutput> =
            models.iter().filter(|model| model.name == **name).collect();
        let owner = offers.first().map(|offer| offer.provider);
        json!({
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": owner,
            "x_tirami": { "offers": offers },
        })
    };
    names.iter().map(model).collect()
}
