//! `models`: what can be asked, where, and for how much.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use tirami_agent_runtime::ops::{Models, ModelsOutput};

use super::input::Input;
use super::schema;
use crate::mcp::TiramiServer;

#[tool_router(router = models_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "models",
        title = "Models and prices",
        description = "Lists the language models that chat can use, on this node (free) and on \
            others, with context length, provider and price; trm_per_100_in_100_out is what 100 \
            prompt tokens and 100 generated ones cost. Use it to choose a model or to compare \
            prices. Names come from other nodes and are not checked. Free; changes nothing.",
        input_schema = schema::input::<Models>(),
        output_schema = schema::output::<ModelsOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = true
        )
    )]
    async fn models(&self, input: Input<Models>) -> CallToolResult {
        self.ask::<_, Models>(input).await
    }
}
