//! `audit_log`: what happened to the ledger, and what was refused.

use rmcp::model::CallToolResult;
use rmcp::{tool, tool_router};
use tirami_agent_runtime::ops::{AuditLog, AuditLogOutput};

use super::input::Input;
use super::schema;
use crate::mcp::TiramiServer;

#[tool_router(router = audit_log_router, vis = "pub(crate)")]
impl TiramiServer {
    #[tool(
        name = "audit_log",
        title = "Audit log",
        description = "Lists what happened to the ledger, newest first: transfers, mandates, approvals, \
            freezes and refusals, with the Merkle root over all of it. Use it to see why a spend was \
            refused or who changed a limit. For older entries call again with before set to \
            next_before. Main agent only. Free; changes nothing.",
        input_schema = schema::input::<AuditLog>(),
        output_schema = schema::output::<AuditLogOutput>(),
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn audit_log(&self, input: Input<AuditLog>) -> CallToolResult {
        self.ask::<_, AuditLog>(input).await
    }
}
