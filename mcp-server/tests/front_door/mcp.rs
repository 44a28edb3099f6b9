//! An MCP client of a node: rmcp, speaking to `tirami-agent mcp` over its standard input and output.

use std::process::Stdio;
use std::sync::Arc;

use rmcp::model::{CallToolRequestParams, ProgressNotificationParam};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::transport::TokioChildProcess;
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::cli::Home;
use crate::nodes::WITHIN;

/// Hears when a tool tells that it goes on.
#[derive(Clone, Debug, Default)]
struct Listener {
    progress: Arc<Notify>,
}

impl ClientHandler for Listener {
    async fn on_progress(&self, _: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.progress.notify_one();
    }
}

/// A connected client. Its server dies with it.
#[derive(Debug)]
pub(crate) struct Mcp {
    service: RunningService<RoleClient, Listener>,
    listener: Listener,
    pid: Pid,
}

/// Why a tool did not do what was asked.
#[derive(Clone, Debug)]
pub(crate) struct ToolError(pub(crate) Value);

impl Mcp {
    /// Starts `tirami-agent mcp` on a home.
    pub(crate) async fn start(home: &Home) -> Self {
        Self::start_with(home, &[]).await
    }

    /// The same with further arguments.
    pub(crate) async fn start_with(home: &Home, more: &[&str]) -> Self {
        let command = home.command(&[&["mcp"], more].concat());
        let transport = TokioChildProcess::builder(command).stderr(Stdio::inherit());
        let (transport, _) = transport.spawn().unwrap();
        let pid = Pid::from_raw(transport.id().unwrap().cast_signed()).unwrap();
        let listener = Listener::default();
        let service = timeout(WITHIN, listener.clone().serve(transport)).await;
        let service = service.expect("'tirami-agent mcp' answers").unwrap();
        Self {
            service,
            listener,
            pid,
        }
    }

    /// Names of the tools.
    pub(crate) async fn tools(&self) -> Vec<String> {
        let tools = timeout(WITHIN, self.service.list_all_tools())
            .await
            .unwrap()
            .unwrap();
        tools
            .into_iter()
            .map(|tool| tool.name.into_owned())
            .collect()
    }

    /// Calls a tool.
    pub(crate) async fn call(&self, tool: &'static str, input: Value) -> Result<Value, ToolError> {
        let answer = self.call_of_the_dying(tool, input).await;
        answer.unwrap_or_else(|| panic!("{tool}: the server is gone"))
    }

    /// Calls a tool of a server that may die meanwhile: then `None`.
    pub(crate) async fn call_of_the_dying(
        &self,
        tool: &'static str,
        input: Value,
    ) -> Option<Result<Value, ToolError>> {
        let Value::Object(input) = input else {
            panic!("a tool's input is an object");
        };
        let call = self
            .service
            .call_tool(CallToolRequestParams::new(tool).with_arguments(input));
        let result = timeout(WITHIN, call).await;
        let result = result.unwrap_or_else(|_| panic!("{tool} does not answer"));
        let result = result.ok()?;
        let value = result.structured_content.expect("a structured answer");
        Some(if result.is_error == Some(true) {
            Err(ToolError(value))
        } else {
            Ok(value)
        })
    }

    /// Calls a tool that does what is asked.
    pub(crate) async fn ask(&self, tool: &'static str, input: Value) -> Value {
        let answer = self.call(tool, input).await;
        answer.unwrap_or_else(|error| panic!("{tool} failed: {:#}", error.0))
    }

    /// Calls a tool that is refused.
    pub(crate) async fn refused(&self, tool: &'static str, input: Value) -> ToolError {
        match self.call(tool, input).await {
            Err(error) => error,
            Ok(answer) => panic!("{tool} was allowed: {answer:#}"),
        }
    }

    /// Waits until a tool tells that it goes on.
    pub(crate) async fn progress(&self) {
        timeout(WITHIN, self.listener.progress.notified())
            .await
            .expect("progress");
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u64 {
        u64::from(self.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// SIGKILL to the server.
    pub(crate) fn kill_now(&self) {
        kill_process(self.pid, Signal::KILL).unwrap();
    }

    /// The same, and its end.
    pub(crate) async fn kill(self) {
        self.kill_now();
        timeout(WITHIN, self.service.waiting())
            .await
            .expect("it ends")
            .unwrap();
    }
}

impl ToolError {
    /// Asserts code and what message and hint have to say; answers both.
    #[track_caller]
    pub(crate) fn is(&self, code: &str, says: &[&str]) -> String {
        assert_eq!(self.0["code"], code, "{:#}", self.0);
        let text = |field: &str| self.0[field].as_str().unwrap_or_default().to_owned();
        let said = format!("{}; {}", text("message"), text("hint"));
        for part in says {
            assert!(said.contains(part), "'{part}' is not said: {said}");
        }
        said
    }
}
