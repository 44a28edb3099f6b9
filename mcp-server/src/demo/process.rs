//! The two nodes as processes of their own, that never outlive the demo.

use std::process::Stdio;

use serde::Deserialize;
use tirami_manifest::{NetworkId, NodeId};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::stage::{Broken, Stage, WITHIN, Who, ensure, wait_for};
use crate::cli::web;

/// What a node says when it is ready.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Ready {
    pub(super) pid: u32,
    pub(super) node: NodeId,
    pub(super) network: NetworkId,
    pub(super) role: String,
    pub(super) http: Option<String>,
    pub(super) addresses: Vec<String>,
    pub(super) models: Vec<String>,
}

/// A running node.
#[derive(Debug)]
struct Node {
    child: Child,
    /// Its standard input: it stops when this closes, however the demo ends.
    _input: Option<ChildStdin>,
    /// Kept open, so that what it says has somewhere to go.
    _output: Lines<BufReader<ChildStdout>>,
}

/// Both nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    a: Option<Node>,
    b: Option<Node>,
}

impl Nodes {
    /// Starts a node and waits until its HTTP door says that it is ready.
    pub(super) async fn start(&mut self, stage: &Stage, who: Who) -> Result<Ready, Broken> {
        let path = stage.path(&format!("{}.log", who.name()));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| Broken::because("the log of a node", error))?;
        let mut command = stage.command(Some(who));
        command.args(["--json", "up", "--listen", "127.0.0.1:0", "--until-eof"]);
        if who == Who::B {
            command.arg("--no-local");
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let starts = |error| Broken::because("a node could not be started", error);
        let mut child = command.spawn().map_err(starts)?;
        let output = child
            .stdout
            .take()
            .ok_or_else(|| Broken::new("a node without output"))?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(WITHIN, lines.next_line()).await;
        let said = || {
            std::fs::read_to_string(&path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let line = match line {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return Err(Broken::new(format!("a node ended at once: {}", said()))),
            Ok(Err(error)) => return Err(Broken::because("a node cannot be heard", error)),
            Err(_) => return Err(Broken::new(format!("a node did not get ready: {}", said()))),
        };
        let input = child.stdin.take();
        let node = Node {
            child,
            _input: input,
            _output: lines,
        };
        *self.slot(who) = Some(node);
        let ready: Ready = serde_json::from_str(&line)
            .map_err(|error| Broken::because(&format!("a node said {line}"), error))?;
        is_ready(ready.http.as_deref()).await?;
        Ok(ready)
    }

    /// SIGKILL, and waits until the process is gone.
    pub(super) async fn kill_one(&mut self, who: Who) -> Result<(), Broken> {
        match self.slot(who).take() {
            Some(mut node) => node
                .child
                .kill()
                .await
                .map_err(|error| Broken::because("a node could not be killed", error)),
            None => Err(Broken::new("a node that should run does not")),
        }
    }

    /// Ends whatever runs.
    pub(super) async fn kill(&mut self) {
        for who in [Who::A, Who::B] {
            if self.slot(who).is_some()
                && let Err(broken) = self.kill_one(who).await
            {
                tracing::warn!(%broken, "a node of the demo is left behind");
            }
        }
    }

    fn slot(&mut self, who: Who) -> &mut Option<Node> {
        match who {
            Who::A => &mut self.a,
            Who::B => &mut self.b,
        }
    }
}

/// Waits until `/readyz` says so.
async fn is_ready(http: Option<&str>) -> Result<(), Broken> {
    let http = http.ok_or_else(|| Broken::new("a node serves no HTTP"))?;
    let client = web::client().map_err(|error| Broken::because("HTTP", error))?;
    let url = format!("{http}/readyz");
    wait_for("readiness", async || {
        let answer = client.get(&url).send().await;
        Ok(answer
            .is_ok_and(|answer| answer.status().is_success())
            .then_some(()))
    })
    .await?;
    ensure(http.starts_with("http://127.0.0.1:"), || {
        format!("a node listens on {http}")
    })
}
