//! `peers`: the other nodes this one knows.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use tirami_agent_runtime::ops::{Peers, PeersOutput};

use super::input::Input;
use super::schema;
use crate::mcp::TiramiServer;

#[tool_router(router = peers_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "peers",
        title = "Known nodes",
        description = "Lists the other nodes this one knows: whether each answered just now, its \
            role, path (direct or relayed), round-trip time in ms, when it was last heard of, its \
            addresses and the models it says it sells. Use it to see who is there when \
            nothing can be bought. Names come from those nodes and are not checked. For models \
            with prices use models. Free; changes nothing.",
        input_schema = schema::input::<Peers>(),
        output_schema = schema::output::<PeersOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = true
        )
    )]
    async fn peers(&self, input: Input<Peers>) -> CallToolResult {
        self.ask::<_, Peers>(input).await
    }
}
