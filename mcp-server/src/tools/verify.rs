//! `verify`: whether something holds that somebody shows.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use tirami_agent_runtime::ops::{Verify, VerifyOutput};

use super::input::Input;
use super::schema;
use crate::mcp::TiramiServer;

#[tool_router(router = verify_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "verify",
        title = "Verify",
        description = "Checks something another party shows: a receipt, chain, balance, statement, \
            travelling mandate, journal archive or proof. Needs nobody's word and no network. Use it before \
            trusting a claim. Answers valid or the reason why not; a proof that does not hold is no \
            error. Free; changes nothing.",
        input_schema = schema::input::<Verify>(),
        output_schema = schema::output::<VerifyOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn verify(&self, input: Input<Verify>) -> CallToolResult {
        self.ask::<_, Verify>(input).await
    }
}
