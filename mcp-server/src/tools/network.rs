//! `network`: the network this node belongs to.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use tirami_agent_runtime::ops::{Network, NetworkOutput};

use super::input::Input;
use super::schema;
use crate::mcp::TiramiServer;

#[tool_router(router = network_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "network",
        title = "Network",
        description = "Describes the network: issuers with their quotas, witnesses, what was made and \
            retired, this node's public position, members' certified chains, the root over all chains \
            known here, and known frauds. Use it to judge whose word money rests on. Free; changes \
            nothing.",
        input_schema = schema::input::<Network>(),
        output_schema = schema::output::<NetworkOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn network(&self, input: Input<Network>) -> CallToolResult {
        self.ask::<_, Network>(input).await
    }
}
