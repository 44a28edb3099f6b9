//! A real MCP client, rmcp's: it speaks to `tirami-agent mcp` over its standard input and output, as
//! an editor does.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rmcp::model::{CallToolRequestParams, ProgressNotificationParam};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::transport::TokioChildProcess;
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tirami_agent_runtime::Failure;

use super::stage::{Broken, Stage, WITHIN, Who};

/// Counts what is told while a tool works.
#[derive(Clone, Debug, Default)]
struct Listener {
    told: Arc<AtomicU32>,
}

impl ClientHandler for Listener {
    async fn on_progress(&self, _: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.told.fetch_add(1, Ordering::Relaxed);
    }
}

/// An MCP client connected to node B.
#[derive(Debug)]
pub(super) struct Client {
    service: RunningService<RoleClient, Listener>,
    told: Arc<AtomicU32>,
}

impl Client {
    pub(super) async fn connect(stage: &Stage) -> Result<Self, Broken> {
        let failed = |error: &dyn std::fmt::Display| Broken::because("the MCP client", error);
        let mut command = stage.command(Some(Who::B));
        command.args(["mcp", "--no-local"]);
        let (transport, _) = TokioChildProcess::builder(command)
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(&error))?;
        let listener = Listener::default();
        let told = listener.told.clone();
        let service = tokio::time::timeout(WITHIN, listener.serve(transport))
            .await
            .map_err(|_| Broken::new("'tirami-agent mcp' did not answer"))?
            .map_err(|error| failed(&error))?;
        Ok(Self { service, told })
    }

    /// Names of the tools.
    pub(super) async fn tools(&self) -> Result<Vec<String>, Broken> {
        let tools = tokio::time::timeout(WITHIN, self.service.list_all_tools())
            .await
            .map_err(|_| Broken::new("tools/list did not end"))?
            .map_err(|error| Broken::because("tools/list", error))?;
        Ok(tools
            .into_iter()
            .map(|tool| tool.name.into_owned())
            .collect())
    }

    /// How often progress was told since the last time this was asked.
    pub(super) fn told(&self) -> u32 {
        self.told.swap(0, Ordering::Relaxed)
    }

    /// Calls a tool that should succeed.
    pub(super) async fn call<T: DeserializeOwned>(
        &mut self,
        tool: &'static str,
        input: Value,
    ) -> Result<T, Broken> {
        match self.attempt(tool, input).await? {
            Ok(value) => {
                serde_json::from_value(value).map_err(|error| Broken::because(tool, error))
            }
            Err(failure) => Err(Broken::because(&format!("the tool {tool} failed"), failure)),
        }
    }

    /// Calls a tool that should be refused.
    pub(super) async fn refused(
        &mut self,
        tool: &'static str,
        input: Value,
    ) -> Result<Failure, Broken> {
        match self.attempt(tool, input).await? {
            Ok(value) => Err(Broken::new(format!("the tool {tool} was allowed: {value}"))),
            Err(failure) => Ok(failure),
        }
    }

    async fn attempt(
        &mut self,
        tool: &'static str,
        input: Value,
    ) -> Result<Result<Value, Failure>, Broken> {
        let Value::Object(input) = input else {
            return Err(Broken::new("a tool's input is an object"));
        };
        let call = self
            .service
            .call_tool(CallToolRequestParams::new(tool).with_arguments(input));
        let result = tokio::time::timeout(WITHIN, call)
            .await
            .map_err(|_| Broken::new(format!("the tool {tool} did not answer")))?
            .map_err(|error| Broken::because(tool, error))?;
        let value = result
            .structured_content
            .ok_or_else(|| Broken::new(format!("the tool {tool} answered without structure")))?;
        if result.is_error == Some(true) {
            let failure =
                serde_json::from_value(value).map_err(|error| Broken::because(tool, error))?;
            return Ok(Err(failure));
        }
        Ok(Ok(value))
    }

    /// Leaves, as an editor does that is closed.
    pub(super) async fn close(self) -> Result<(), Broken> {
        let reason = self.service.cancel().await;
        reason
            .map(drop)
            .map_err(|error| Broken::because("the MCP client could not leave", error))
    }
}
