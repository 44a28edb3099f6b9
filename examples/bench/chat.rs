//! What one chat request costs: processor time and latency with the echo engine, beside a bare
//! handler; and how soon a stream begins.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bare;
use crate::http::{Connection, Response};
use crate::process::{Agent, FLUSH, Folder, Running};
use crate::report::{Report, median};
use crate::start::up;

/// Connections that send requests at the same time, each one after the other.
const CONNECTIONS: [u32; 2] = [1, 8];

/// How long a round shall take.
const ROUND: Duration = Duration::from_secs(1);

/// Requests on each connection to begin with, until their speed is known.
const WARM_UP: u32 = 100;

/// Pairs of a whole and a streamed answer in each round.
const PAIRS: u32 = 5;

/// A prompt of twenty words, which echo says again.
const PROMPT: &str = "The quick brown fox jumps over the lazy dog while seven wizards quietly bake \
                      bread for a very hungry king";

/// A way to chat with a node.
#[derive(Debug)]
pub(crate) struct Door {
    connection: Connection,
    request: Vec<u8>,
    model: &'static str,
    token: String,
}

impl Door {
    /// Opens one to a node that is ready.
    pub(crate) async fn open(
        address: SocketAddr,
        data_dir: &Path,
        model: &'static str,
    ) -> Result<Self> {
        let token = fs::read_to_string(data_dir.join("agent.token"))?;
        let token = token.trim().to_owned();
        Ok(Self {
            connection: Connection::open(address).await?,
            request: request("/v1/chat/completions", &token, &body(model, false)),
            model,
            token,
        })
    }

    /// A whole answer.
    pub(crate) async fn ask(&mut self) -> Result<Response> {
        answered(self.connection.ask(&self.request).await?)
    }

    /// A streamed answer: when its first text came, and when its end.
    async fn stream(&mut self) -> Result<(Duration, Duration)> {
        let body = body(self.model, true);
        let request = request("/v1/chat/completions", &self.token, &body);
        let (start, mut first) = (Instant::now(), None);
        let see = |data: &str| {
            let event: Value = serde_json::from_str(data).unwrap_or_default();
            let text = event.pointer("/choices/0/delta/content");
            if first.is_none() && text.and_then(Value::as_str).is_some_and(|t| !t.is_empty()) {
                first = Some(start.elapsed());
            }
        };
        self.connection.stream(&request, see).await?;
        Ok((first.context("a stream without text")?, start.elapsed()))
    }
}

fn body(model: &str, stream: bool) -> Value {
    json!({
        "model": model, "max_tokens": 64, "stream": stream,
        "messages": [{ "role": "user", "content": PROMPT }],
    })
}

/// A request with a body, and a token to come in.
pub(crate) fn request(path: &str, token: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

fn answered(response: Response) -> Result<Response> {
    let Response { status, body } = &response;
    ensure!(
        *status == 200,
        "a request failed with {status}: {}",
        String::from_utf8_lossy(body)
    );
    Ok(response)
}

/// A server under load.
struct Server {
    process: Running,
    address: SocketAddr,
    request: Vec<u8>,
}

/// What a round showed.
struct Round {
    /// Processor time of the server for a request, in microseconds.
    cpu: f64,
    per_second: f64,
    /// Half of the requests were answered in fewer milliseconds.
    p50: f64,
}

impl Server {
    /// How long an answer is.
    async fn bytes(&self) -> Result<usize> {
        let mut connection = Connection::open(self.address).await?;
        Ok(answered(connection.ask(&self.request).await?)?.body.len())
    }

    /// Sends so many requests over each of so many connections.
    async fn round(&self, connections: u32, each: u32) -> Result<Round> {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(Connection::open(self.address).await?);
        }
        let (before, start) = (self.process.cpu()?, Instant::now());
        let mut tasks = JoinSet::new();
        for connection in open {
            tasks.spawn(ask(connection, self.request.clone(), each));
        }
        let mut times = Vec::new();
        while let Some(done) = tasks.join_next().await {
            times.extend(done??);
        }
        let wall = start.elapsed();
        let cpu = self.process.cpu()?.saturating_sub(before);
        let requests = f64::from(connections * each);
        Ok(Round {
            cpu: cpu.as_secs_f64() * 1e6 / requests,
            per_second: requests / wall.as_secs_f64(),
            p50: median(times),
        })
    }

    /// Requests on each connection that take about as long as a round shall, after a warm-up.
    async fn calibrate(&self, connections: u32) -> Result<u32> {
        let mut each = WARM_UP;
        for _ in 0..2 {
            let rate = self.round(connections, each).await?.per_second;
            let wanted = Duration::try_from_secs_f64(rate * ROUND.as_secs_f64())?.as_secs();
            each = (u32::try_from(wanted)? / connections).max(WARM_UP);
        }
        Ok(each)
    }
}

async fn ask(mut connection: Connection, request: Vec<u8>, count: u32) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        answered(connection.ask(&request).await?)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Rounds of the node and of the bare handler in turn, each time with the other one first.
pub(crate) async fn measure(
    agent: &Agent,
    folder: &Folder,
    rounds: u32,
    report: &mut Report,
) -> Result<()> {
    let node = echo(agent, folder).await?;
    let bytes = node.bytes().await?;
    let bare = beside(bytes).await?;
    ensure!(bare.bytes().await? == bytes, "the answers differ in size");
    for connections in CONNECTIONS {
        let counts = (
            node.calibrate(connections).await?,
            bare.calibrate(connections).await?,
        );
        let (mut pairs, mut flushes) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            flushes.push(folder.flush()?);
            let pair = if round.is_multiple_of(2) {
                let ours = node.round(connections, counts.0).await?;
                (ours, bare.round(connections, counts.1).await?)
            } else {
                let theirs = bare.round(connections, counts.1).await?;
                (node.round(connections, counts.0).await?, theirs)
            };
            pairs.push(pair);
        }
        report.add(FLUSH, "ms", flushes, None);
        tell(connections, &pairs, report);
    }
    node.process.stop().await?;
    bare.process.stop().await
}

fn tell(connections: u32, pairs: &[(Round, Round)], report: &mut Report) {
    let mut add = |what: &str, unit: &'static str, value: &dyn Fn(&(Round, Round)) -> f64| {
        let name = format!("{what}, {connections} conn.");
        report.add(name, unit, pairs.iter().map(value).collect(), None);
    };
    add("chat with echo, CPU", "us", &|pair| pair.0.cpu);
    add("bare axum, CPU", "us", &|pair| pair.1.cpu);
    add("ratio of CPU", "x", &|pair| pair.0.cpu / pair.1.cpu);
    add("chat with echo, p50", "ms", &|pair| pair.0.p50);
    add("bare axum, p50", "ms", &|pair| pair.1.p50);
    add("chat with echo, requests", "1/s", &|pair| pair.0.per_second);
    add("bare axum, requests", "1/s", &|pair| pair.1.per_second);
}

async fn echo(agent: &Agent, folder: &Folder) -> Result<Server> {
    let dir = folder.join("echo");
    let (process, address) = up(agent, &dir, &["--model", "echo"]).await?;
    let request = Door::open(address, &dir, "echo").await?.request;
    Ok(Server {
        process,
        address,
        request,
    })
}

async fn beside(bytes: usize) -> Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(bare::COMMAND).arg(bytes.to_string());
    let mut process = Running::start(command)?;
    let address = process.hear().await?.trim().parse()?;
    Ok(Server {
        process,
        address,
        request: request("/", "none", &body("echo", false)),
    })
}

/// When a stream of the embedded model begins, beside the time of a whole answer.
pub(crate) async fn measure_stream(
    agent: &Agent,
    folder: &Folder,
    rounds: u32,
    report: &mut Report,
) -> Result<()> {
    let dir = folder.join("stream");
    let (node, address) = up(agent, &dir, &[]).await?;
    let mut door = Door::open(address, &dir, "sprout").await?;
    door.ask().await?;
    let (mut wholes, mut firsts, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds * PAIRS {
        let start = Instant::now();
        door.ask().await?;
        let whole = start.elapsed();
        // A stream leaves the end of its last chunk unread, so it gets a connection of its own.
        let (first, _) = Door::open(address, &dir, "sprout").await?.stream().await?;
        wholes.push(whole.as_secs_f64() * 1e3);
        firsts.push(first.as_secs_f64() * 1e3);
        ratios.push(first.as_secs_f64() / whole.as_secs_f64());
    }
    report.add("sprout, whole answer", "ms", wholes, None);
    report.add("sprout, first text of a stream", "ms", firsts, None);
    report.add("first text / whole answer", "x", ratios, None);
    node.stop().await
}
