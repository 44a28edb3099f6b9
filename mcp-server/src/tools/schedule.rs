//! `schedule`: which provider would be chosen, and why.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use tirami_agent_runtime::ops::{Schedule, ScheduleOutput};
use tirami_manifest::Amount;

use super::input::{Input, MaxTokens, ModelName, Prompt, Whole};
use super::schema;
use crate::mcp::TiramiServer;

/// What to plan for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ScheduleInput {
    /// Prompt to plan for; its length matters.
    prompt: Option<Prompt>,
    /// Name or id of the model, from models; any when absent.
    model: Option<ModelName>,
    /// Most tokens to generate; 256 when absent.
    max_tokens: Option<MaxTokens>,
    /// Most to spend in TRM, as a decimal string such as "1.25".
    max_trm: Option<Amount>,
}

impl From<ScheduleInput> for Schedule {
    fn from(input: ScheduleInput) -> Self {
        Self {
            prompt: input.prompt.map(|prompt| prompt.0),
            model: input.model.map(|model| model.0),
            max_tokens: input.max_tokens.map(Whole::to_u32),
            max_trm: input.max_trm,
        }
    }
}

#[tool_router(router = schedule_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "schedule",
        title = "Choice of provider",
        description = "Shows which provider chat would choose for a request, every other one that \
            was considered, what each would cost, about, and why it stands where it stands. Use \
            it when chat answers no_provider; for a binding price use quote. Free.",
        input_schema = schema::input::<ScheduleInput>(),
        output_schema = schema::output::<ScheduleOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = true
        )
    )]
    async fn schedule(&self, input: Input<ScheduleInput>) -> CallToolResult {
        self.ask::<_, Schedule>(input).await
    }
}
