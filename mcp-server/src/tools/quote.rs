//! `quote`: a signed price before anything is spent.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use tirami_agent_runtime::ops::{Quote, QuoteOutput};

use super::input::{Input, MaxTokens, ModelName, Prompt, Whole};
use super::schema;
use crate::mcp::TiramiServer;

/// What to price.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct QuoteInput {
    /// The prompt to price; only its length in bytes leaves this node.
    prompt: Prompt,
    /// Name or id of the model, from models; any when absent.
    model: Option<ModelName>,
    /// Most tokens to generate; what budget and context allow when absent.
    max_tokens: Option<MaxTokens>,
}

impl From<QuoteInput> for Quote {
    fn from(input: QuoteInput) -> Self {
        Self {
            prompt: input.prompt.0,
            model: input.model.map(|model| model.0),
            max_tokens: input.max_tokens.map(Whole::to_u32),
        }
    }
}

#[tool_router(router = quote_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "quote",
        title = "Price of a request",
        description = "Asks the provider that would be chosen for a signed price: the most this \
            request can cost (trm_max), until when that holds, and whether balance and limits \
            would let it through (within_budget, else refusal says why). Use it before chat when \
            the cost matters, then call chat with max_trm. Free; \
            only the length of the prompt is sent.",
        input_schema = schema::input::<QuoteInput>(),
        output_schema = schema::output::<QuoteOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = true
        )
    )]
    async fn quote(&self, input: Input<QuoteInput>) -> CallToolResult {
        self.ask::<_, Quote>(input).await
    }
}
