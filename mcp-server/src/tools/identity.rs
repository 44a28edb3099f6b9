//! `identity`: who this node is.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use tirami_agent_runtime::ops::{Identity, IdentityOutput};

use super::input::Input;
use super::schema;
use crate::mcp::TiramiServer;

#[tool_router(router = identity_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "identity",
        title = "Identity",
        description = "Says who this node is: its id, the same as did:key, its network, its owner and \
            the agent that asks. Use it to tell others whom they deal with. Free; changes nothing.",
        input_schema = schema::input::<Identity>(),
        output_schema = schema::output::<IdentityOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn identity(&self, input: Input<Identity>) -> CallToolResult {
        self.ask::<_, Identity>(input).await
    }
}
