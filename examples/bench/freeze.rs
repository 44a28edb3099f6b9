//! How long the kill switch takes while 64 callers spend: until it is acknowledged, and until the
//! last token of an answer that was running.
//!
//! Two nodes: a founder sells echo, a member buys. Most callers buy short answers one after the other
//! and a few read long streams; between two freezes the owner lifts the first.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tirami_manifest::owner::Decision;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout};

use crate::chat::request;
use crate::http::Connection;
use crate::pair::{Pair, Socket};
use crate::process::{Agent, Folder, WITHIN, flush};
use crate::report::{Judged, Report};

/// Callers that buy short answers, each one after the other.
const SPENDERS: usize = 60;

/// Callers that read a long answer as it comes.
const READERS: usize = 4;

/// Words of a long answer: more than are read before the freeze comes.
const LONG: usize = 1_900;

/// Answers that are bought before each freeze, and how many more for every next one: so that it falls
/// into different moments of what the node does in turns.
const ANSWERS: (u64, u64) = (100, 7);

/// Pieces of long answers that come before each freeze, at least.
const PIECES: u32 = 50;

/// Flushes of the disk before each freeze, while everybody spends.
const FLUSHES: u32 = 3;

/// Longest time to the acknowledgement, and to the last token, in milliseconds.
const TARGETS: (f64, f64) = (10.0, 100.0);

/// What the callers share.
#[derive(Debug)]
struct Stage {
    address: SocketAddr,
    token: String,
    /// Answers bought so far.
    bought: AtomicU64,
    /// A piece of a long answer came.
    piece: Notify,
}

/// A caller noticed the freeze.
#[derive(Debug)]
enum Stopped {
    /// When its last paid answer came.
    Spender(Option<Instant>),
    /// When the last piece of text came.
    Reader(Option<Instant>),
}

/// Goes on in every round until it is refused.
struct Caller {
    stage: Arc<Stage>,
    rounds: watch::Receiver<u64>,
    stopped: mpsc::Sender<Stopped>,
}

impl Caller {
    fn request(&self, prompt: &str, stream: bool) -> Vec<u8> {
        let body = json!({
            "model": "echo", "stream": stream, "messages": [{ "role": "user", "content": prompt }],
        });
        request("/v1/chat/completions", &self.stage.token, &body)
    }

    async fn spend(mut self, who: usize) -> Result<()> {
        let mut connection = Connection::open(self.stage.address).await?;
        let prompt = format!("{who} and nineteen more words {}", "again ".repeat(15));
        let request = self.request(&prompt, false);
        let mut last = None;
        loop {
            let answer = connection.ask(&request).await?;
            match answer.status {
                200 => {
                    last = Some(Instant::now());
                    self.stage.bought.fetch_add(1, Ordering::Relaxed);
                }
                403 => {
                    self.stopped.send(Stopped::Spender(last.take())).await?;
                    if self.rounds.changed().await.is_err() {
                        return Ok(());
                    }
                }
                status => bail!("{status}: {}", String::from_utf8_lossy(&answer.body)),
            }
        }
    }

    async fn read(mut self) -> Result<()> {
        let request = self.request(&"word ".repeat(LONG), true);
        let mut last = None;
        loop {
            // A stream leaves the end of its last chunk unread, so it gets a connection of its own.
            let mut connection = Connection::open(self.stage.address).await?;
            let mut frozen = false;
            let see = |data: &str| {
                let event: Value = serde_json::from_str(data).unwrap_or_default();
                let text = event.pointer("/choices/0/delta/content");
                if text
                    .and_then(Value::as_str)
                    .is_some_and(|text| !text.is_empty())
                {
                    last = Some(Instant::now());
                    self.stage.piece.notify_waiters();
                }
                frozen |= event.pointer("/error/code") == Some(&json!("frozen"));
            };
            // One that the freeze ends, or that comes after it, is not whole.
            let whole = connection.stream(&request, see).await;
            if frozen || whole.is_err() {
                self.stopped.send(Stopped::Reader(last.take())).await?;
                if self.rounds.changed().await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// The door through which a freeze comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Http,
    Socket,
}

/// Freezes, from a thread of its own so that nothing else of this program is in the way: when it
/// began, how long it took, and how long the disk took just before.
fn freeze(
    door: Door,
    address: SocketAddr,
    socket: &Socket,
    file: &Path,
) -> Result<(Instant, f64, Vec<f64>)> {
    let head = format!(
        "POST /v1/tirami/freeze HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\n\
         Content-Length: 0\r\n\r\n",
        socket.token
    );
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(WITHIN))?;
    let flushes = (0..FLUSHES).map(|_| flush(file)).collect::<Result<_>>()?;
    let start = Instant::now();
    match door {
        Door::Http => {
            stream.write_all(head.as_bytes())?;
            let mut answer = [0; 1_024];
            let read = stream.read(&mut answer)?;
            let answer = String::from_utf8_lossy(answer.get(..read).unwrap_or_default());
            ensure!(answer.starts_with("HTTP/1.1 200"), "a freeze: {answer}");
        }
        Door::Socket => {
            socket.ask("freeze", &json!({ "reason": "a benchmark" }))?;
        }
    }
    Ok((start, start.elapsed().as_secs_f64() * 1e3, flushes))
}

/// What was measured, in milliseconds.
#[derive(Debug, Default)]
struct Times {
    http: Vec<f64>,
    socket: Vec<f64>,
    flush: Vec<f64>,
    paid: Vec<f64>,
    token: Vec<f64>,
}

/// Freezes so many times while everybody spends.
pub(crate) async fn measure(
    agent: &Agent,
    folder: &Folder,
    freezes: u32,
    report: &mut Report,
) -> Result<()> {
    let pair = Pair::start(agent, folder, ("", &["--model", "echo"])).await?;
    let (address, socket) = (pair.buyer.address, pair.buyer.socket.clone());
    let stage = Arc::new(Stage {
        address,
        token: socket.token.clone(),
        bought: AtomicU64::new(0),
        piece: Notify::new(),
    });
    let (round, rounds) = watch::channel(0);
    let (stopped, mut stops) = mpsc::channel(SPENDERS + READERS);
    let mut callers = JoinSet::new();
    let caller = || Caller {
        stage: stage.clone(),
        rounds: rounds.clone(),
        stopped: stopped.clone(),
    };
    for who in 0..SPENDERS {
        callers.spawn(caller().spend(who));
    }
    for _ in 0..READERS {
        callers.spawn(caller().read());
    }
    let mut times = Times::default();
    for number in 0..freezes {
        let all = async {
            until_busy(&stage, number).await;
            let door = if number.is_multiple_of(2) {
                Door::Http
            } else {
                Door::Socket
            };
            let (socket, file) = (socket.clone(), folder.join("flush"));
            let frozen = spawn_blocking(move || freeze(door, address, &socket, &file));
            let (start, took, flushes) = frozen.await??;
            match door {
                Door::Http => times.http.push(took),
                Door::Socket => times.socket.push(took),
            }
            times.flush.extend(flushes);
            after(&mut stops, start, &mut times).await
        };
        let done = tokio::select! {
            done = timeout(WITHIN, all) => done.context("a round that does not end")?,
            Some(ended) = callers.join_next() => ended?,
        };
        done?;
        socket.order(Decision::Unfreeze)?;
        round.send_replace(u64::from(number) + 1);
    }
    callers.shutdown().await;
    tell(times, report);
    pair.stop().await
}

/// Waits until enough was bought since now, and then until the middle of a long answer.
async fn until_busy(stage: &Stage, number: u32) {
    let (least, more) = ANSWERS;
    let bought = stage.bought.load(Ordering::Relaxed) + least + u64::from(number) * more % least;
    let mut pieces = 0;
    while stage.bought.load(Ordering::Relaxed) < bought || pieces < PIECES {
        stage.piece.notified().await;
        pieces += 1;
    }
}

/// Waits until every caller has noticed.
async fn after(
    stops: &mut mpsc::Receiver<Stopped>,
    start: Instant,
    times: &mut Times,
) -> Result<()> {
    let (mut paid, mut token) = (0.0_f64, 0.0_f64);
    let since = |moment: Option<Instant>| {
        let later = moment.map(|moment| moment.saturating_duration_since(start));
        later.unwrap_or_default().as_secs_f64() * 1e3
    };
    for _ in 0..SPENDERS + READERS {
        match stops.recv().await.context("the callers are gone")? {
            Stopped::Spender(last) => paid = paid.max(since(last)),
            Stopped::Reader(last) => token = token.max(since(last)),
        }
    }
    times.paid.push(paid);
    times.token.push(token);
    Ok(())
}

fn tell(times: Times, report: &mut Report) {
    let Times {
        http,
        socket,
        flush,
        paid,
        token,
    } = times;
    let disk = crate::report::p99(&flush);
    let all: Vec<f64> = http.iter().chain(&socket).copied().collect();
    let ratio = vec![crate::report::p99(&all) / disk];
    let ack = Some((Judged::P99, TARGETS.0));
    let last = Some((Judged::Max, TARGETS.1));
    report.add_judged("freeze to acknowledged, HTTP", "ms", http, ack);
    report.add_judged("freeze to acknowledged, local socket", "ms", socket, ack);
    report.add_judged("freeze to the last token that came", "ms", token, last);
    report.add_judged("freeze to the last paid answer that came", "ms", paid, last);
    report.add("disk, 4 KiB flushed, while all spend", "ms", flush, None);
    report.add("p99 to acknowledged / p99 of the disk", "x", ratio, None);
}
