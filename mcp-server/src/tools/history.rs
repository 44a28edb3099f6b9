//! `history`: the newest transfers.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use tirami_agent_runtime::ops::{History, HistoryOutput};

use super::input::{Input, Whole};
use super::schema;
use crate::mcp::TiramiServer;

/// Which page of the history.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HistoryInput {
    /// Most entries to return; 20 when absent.
    limit: Option<Whole<1, 100>>,
    /// For the next page: `next_before` of the page before.
    before: Option<Whole<0, 9_007_199_254_740_991>>,
}

impl From<HistoryInput> for History {
    fn from(input: HistoryInput) -> Self {
        Self {
            limit: input.limit.map(Whole::to_u32),
            before: input.before.map(|before| before.0),
            ..Self::default()
        }
    }
}

#[tool_router(router = history_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "history",
        title = "History",
        description = "Lists recorded transfers of TRM, newest first: amount, both accounts, why, \
            and the receipt it follows from. Use it to see what was bought and sold, or to find \
            a receipt id. For older entries call again with before set to next_before. Free; \
            changes nothing.",
        input_schema = schema::input::<HistoryInput>(),
        output_schema = schema::output::<HistoryOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn history(&self, input: Input<HistoryInput>) -> CallToolResult {
        self.ask::<_, History>(input).await
    }
}
