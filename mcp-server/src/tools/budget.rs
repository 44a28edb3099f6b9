//! `budget`: the agent's mandate and what is left of it.

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
        description = "Shows your mandate (limits, lists, breakers, quiet hours, pots), what is used of \
            it and the most one request may cost now (trm_left). Use it after over_budget, \
            not_allowed or rate_limited, or to choose max_trm; with agent also for an agent whose \
            mandate you granted. Free; changes nothing. Only the owner can loosen a mandate, outside \
            of these tools.",
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
