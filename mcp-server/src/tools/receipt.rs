//! `receipt`: one stored receipt.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use tirami_agent_runtime::ops::{GetReceipt, ReceiptOutput};

use super::input::Input;
use super::schema;
use crate::mcp::TiramiServer;

#[tool_router(router = receipt_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "receipt",
        title = "Receipt",
        description = "Shows one receipt that buyer and seller both signed: who did the work, with \
            which model, how many tokens, how much computation, what was paid and the most that \
            was quoted. Use it to check or prove a purchase; 'tirami-agent verify' checks it \
            offline. Take the id from chat or history. Free; changes nothing.",
        input_schema = schema::input::<GetReceipt>(),
        output_schema = schema::output::<ReceiptOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn receipt(&self, input: Input<GetReceipt>) -> CallToolResult {
        self.ask::<_, GetReceipt>(input).await
    }
}
