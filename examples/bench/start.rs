//! How long a start takes: from before the process is made until it is of use.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::http::Connection;
use crate::process::{Agent, FLUSH, Folder, Running, WITHIN};
use crate::report::Report;

/// Longest start for an MCP client, and until HTTP says ready, in milliseconds.
const TARGETS: (f64, f64) = (50.0, 100.0);

/// Wait between two attempts to connect: the timer is no finer.
const TRY_EVERY: Duration = Duration::from_millis(1);

/// Starts each way in turn, so that what else runs disturbs all alike.
pub(crate) async fn measure(
    agent: &Agent,
    folder: &Folder,
    starts: u32,
    report: &mut Report,
) -> Result<()> {
    let used = folder.join("used");
    mcp(agent, &used).await?.stop().await?;
    let mut flushes = Vec::new();
    let [mut mcp_fresh, mut mcp_used, mut up_fresh, mut up_used] = <[Times; 4]>::default();
    for start in 0..starts {
        flushes.push(folder.flush()?);
        let fresh = folder.join(&format!("mcp-{start}"));
        mcp_fresh.end(mcp(agent, &fresh).await?).await?;
        mcp_used.end(mcp(agent, &used).await?).await?;
        let fresh = folder.join(&format!("up-{start}"));
        up_fresh.end(until_ready(agent, &fresh).await?).await?;
        up_used.end(until_ready(agent, &used).await?).await?;
    }
    report.add(FLUSH, "ms", flushes, None);
    mcp_fresh.report("mcp to tools/list, new data", Some(TARGETS.0), report);
    mcp_used.report("mcp to tools/list, existing data", Some(TARGETS.0), report);
    up_fresh.report("up to /readyz, new data", Some(TARGETS.1), report);
    up_used.report("up to /readyz, existing data", Some(TARGETS.1), report);
    Ok(())
}

#[derive(Debug, Default)]
struct Times {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Times {
    async fn end(&mut self, ready: Ready) -> Result<()> {
        self.wall.push(ready.wall.as_secs_f64() * 1e3);
        self.cpu.push(ready.cpu.as_secs_f64() * 1e3);
        ready.stop().await
    }

    fn report(self, which: &str, target: Option<f64>, report: &mut Report) {
        report.add(which, "ms", self.wall, target);
        report.add("  its processor time", "ms", self.cpu, None);
    }
}

/// A process that is of use, and what it took to get there.
struct Ready {
    process: Running,
    wall: Duration,
    cpu: Duration,
}

impl Ready {
    fn now(process: Running) -> Result<Self> {
        let wall = process.age();
        let cpu = process.cpu()?;
        Ok(Self { process, wall, cpu })
    }

    async fn stop(self) -> Result<()> {
        self.process.stop().await
    }
}

/// As an editor does it: introduce, then ask for the tools.
async fn mcp(agent: &Agent, data_dir: &Path) -> Result<Ready> {
    let mut process = agent.start(data_dir, &["mcp"])?;
    let introduction = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": { "name": "bench", "version": "1" },
        },
    });
    process.say(&format!("{introduction}\n")).await?;
    answer(&mut process, 1).await?;
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    process.say(&format!("{initialized}\n{list}\n")).await?;
    let answer = answer(&mut process, 2).await?;
    let ready = Ready::now(process)?;
    let tools = answer.pointer("/result/tools").and_then(Value::as_array);
    ensure!(
        tools.is_some_and(|tools| !tools.is_empty()),
        "no tools: {answer}"
    );
    Ok(ready)
}

async fn answer(process: &mut Running, id: u32) -> Result<Value> {
    loop {
        let message: Value = serde_json::from_str(&process.hear().await?)?;
        if message.get("id") == Some(&json!(id)) {
            return Ok(message);
        }
    }
}

async fn until_ready(agent: &Agent, data_dir: &Path) -> Result<Ready> {
    let (process, _) = up(agent, data_dir, &[]).await?;
    Ready::now(process)
}

/// Starts a node and waits until `/readyz` answers 200.
pub(crate) async fn up(
    agent: &Agent,
    data_dir: &Path,
    words: &[&str],
) -> Result<(Running, SocketAddr)> {
    // A port that was free just now.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let listen = address.to_string();
    let fixed = ["--json", "up", "--until-eof", "--listen", &listen];
    let process = agent.start(data_dir, &[&fixed, words].concat())?;
    timeout(WITHIN, ready(address)).await??;
    Ok((process, address))
}

async fn ready(address: SocketAddr) -> Result<()> {
    let request = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    loop {
        // The door opens before the node is there, so this one connection waits for it.
        if let Ok(mut connection) = Connection::open(address).await
            && connection.ask(request).await?.status == 200
        {
            return Ok(());
        }
        sleep(TRY_EVERY).await;
    }
}
