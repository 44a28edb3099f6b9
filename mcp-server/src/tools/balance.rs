//! `balance`: what the agent and its node have.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use tirami_agent_runtime::ops::{Balance, BalanceOutput};

use super::input::Input;
use super::schema;
use crate::mcp::TiramiServer;

#[tool_router(router = balance_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "balance",
        title = "Balance",
        description = "Shows how much TRM you can spend, what is set aside for running requests, \
            what was spent and earned so far, loans the node still owes, and whether spending is \
            frozen. Use it before buying, and after a purchase whose outcome is unclear. Free; \
            changes nothing. For your spending limits use budget.",
        input_schema = schema::input::<Balance>(),
        output_schema = schema::output::<BalanceOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn balance(&self, input: Input<Balance>) -> CallToolResult {
        self.ask::<_, Balance>(input).await
    }
}
