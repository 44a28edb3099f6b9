//! `budget`: the agent's limits and what is left of them.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use tirami_agent_runtime::ops::{Budget, BudgetOutput};

use super::input::Input;
use super::schema;
use crate::mcp::TiramiServer;

#[tool_router(router = budget_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "budget",
        title = "Spending limits",
        description = "Shows your spending limits (per request, in any 60 minutes, in all), what is \
            used of them and the most one request may cost now (trm_left). Use it after \
            over_budget, or to choose max_trm. Free; changes nothing. Only the owner can raise a \
            limit, outside of these tools.",
        input_schema = schema::input::<Budget>(),
        output_schema = schema::output::<BudgetOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn budget(&self, input: Input<Budget>) -> CallToolResult {
        self.ask::<_, Budget>(input).await
    }
}
