//! `statement`: what moved on an account, with the balance after each movement.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use tirami_agent_runtime::ops::{Statement, StatementOutput};

use super::input::Input;
use super::schema;
use crate::mcp::TiramiServer;

#[tool_router(router = statement_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "statement",
        title = "Statement",
        description = "Lists what moved on an agent's account between two moments, oldest first, with \
            the balance before and after each. Use it for accounting; history is shorter. For what \
            follows call again with page set to next. Free; changes nothing.",
        input_schema = schema::input::<Statement>(),
        output_schema = schema::output::<StatementOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn statement(&self, input: Input<Statement>) -> CallToolResult {
        self.ask::<_, Statement>(input).await
    }
}
