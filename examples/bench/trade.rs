//! What buying costs beside doing the same at home: one short request, a stream of tokens, what paying
//! takes of it, many trades at once, and the time until a provider stops when nobody reads.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::chat::{Door, request};
use crate::commits::Bare;
use crate::http::Connection;
use crate::inside::{self, CLIENTS, Inside, apart};
use crate::pair::{Node, Pair};
use crate::process::{Agent, FLUSH, Folder, WITHIN};
use crate::report::{Judged, Report, median};
use crate::{hang_up, model};

/// Short requests in a round, at home and bought in turns.
const REQUESTS: u32 = 60;

/// Most milliseconds that buying adds to a short request beside its commits.
const ADDED: f64 = 1.5;

/// Tokens of a streamed answer.
const TOKENS: u32 = 160;

/// Least part of its speed that a stream keeps when it is bought.
const SPEED: f64 = 0.98;

/// Most of the time of an answer that paying for it takes, in percent.
const PAYING: f64 = 1.0;

/// Jobs of each kind in a round of those without a model.
const JOBS: u32 = 15;

/// Trades a second that many clients shall make, or this part of what the commits alone allow.
const TRADES: (f64, f64) = (3_000.0, 0.9);

/// How long they trade in a round.
const LASTS: Duration = Duration::from_secs(3);

/// Commits that are measured in each round.
const COMMITS: u32 = 40;

/// Most milliseconds until an engine stops.
const STOPS: f64 = 100.0;

/// A word in so many milliseconds, and how often it is hung up on.
const BEATS: [(u64, u32); 2] = [(30, 100), (1_000, 14)];

/// Answers of the model that are hung up on.
const HANG_UPS: u32 = 20;

pub(crate) async fn measure(
    agent: &Agent,
    folder: &Folder,
    rounds: u32,
    report: &mut Report,
) -> Result<()> {
    let mut bare = Bare::new(&folder.join("bare.redb"))?;
    let path = apart(inside::on_the_path(&folder.join("counted")))?;
    report.add("commits until an answer, at home", "", vec![path.0], None);
    report.add("commits until an answer, bought", "", vec![path.1], None);
    requests((agent, folder), (rounds, path), &mut bare, report).await?;
    let seconds = streams(agent, folder, rounds, report).await?;
    paying(folder, rounds, seconds, report)?;
    for (number, (beat, times)) in BEATS.into_iter().enumerate() {
        let dir = folder.join(&format!("hang-up-{number}"));
        let took = hang_up::measure(&dir, Duration::from_millis(beat), times);
        let name = format!("hang up to engine stopped, {beat} ms a token");
        let target = Some((Judged::P99, STOPS));
        report.add_judged(name, "ms", apart(took)?, target);
    }
    Ok(())
}

/// Many clients of one node at the same time.
pub(crate) fn measure_many(folder: &Folder, rounds: u32, report: &mut Report) -> Result<()> {
    let mut bare = Bare::new(&folder.join("beside.redb"))?;
    let path = apart(inside::on_the_path(&folder.join("counted-beside")))?;
    trades(folder, (rounds, path.1), &mut bare, report)
}

fn commits(bare: &mut Bare) -> Result<f64> {
    let times: Result<Vec<f64>> = (0..COMMITS).map(|_| bare.commit()).collect();
    Ok(median(times?))
}

/// Short requests, over HTTP to the node that sells and to the one that buys from it.
async fn requests(
    (agent, folder): (&Agent, &Folder),
    (rounds, path): (u32, (f64, f64)),
    bare: &mut Bare,
    report: &mut Report,
) -> Result<()> {
    let pair = Pair::start(agent, folder, ("-request", &["--model", "echo"])).await?;
    let mut doors = Vec::new();
    for node in [&pair.seller, &pair.buyer] {
        let mut door = Door::open(node.address, &node.data_dir, "echo").await?;
        for _ in 0..REQUESTS {
            door.ask().await?;
        }
        doors.push(door);
    }
    let [mut flushes, mut commit, mut home, mut bought, mut added] = <[Vec<f64>; 5]>::default();
    let [mut cpu_home, mut cpu_bought] = <[Vec<f64>; 2]>::default();
    let cpu = || -> Result<f64> {
        let spent = pair.seller.process.cpu()? + pair.buyer.process.cpu()?;
        Ok(spent.as_secs_f64() * 1e3 / f64::from(REQUESTS))
    };
    for _ in 0..rounds {
        flushes.push(folder.flush()?);
        let one = commits(bare)?;
        let [mut times, mut spent] = [const { [0.0; 2] }; 2];
        for ((door, took), spent) in doors.iter_mut().zip(&mut times).zip(&mut spent) {
            let before = cpu()?;
            let mut each = Vec::new();
            for _ in 0..REQUESTS {
                let start = Instant::now();
                door.ask().await?;
                each.push(start.elapsed().as_secs_f64() * 1e3);
            }
            (*took, *spent) = (median(each), cpu()? - before);
        }
        let one = f64::midpoint(one, commits(bare)?);
        let [here, there] = times;
        let [of_home, of_bought] = spent;
        cpu_home.push(of_home);
        cpu_bought.push(of_bought);
        commit.push(one);
        home.push(here);
        bought.push(there);
        added.push(there - here - (path.1 - path.0) * one);
    }
    report.add(FLUSH, "ms", flushes, None);
    report.add("one commit of redb alone", "ms", commit, None);
    report.add("echo at home, p50", "ms", home, None);
    report.add("echo bought, p50", "ms", bought, None);
    report.add("bought - home - commits between", "ms", added, Some(ADDED));
    report.add(
        "  processor time of both nodes, at home",
        "ms",
        cpu_home,
        None,
    );
    report.add("  the same, bought", "ms", cpu_bought, None);
    pair.stop().await
}

/// Streams of a model of ordinary shape. Answers the seconds that one takes at home.
async fn streams(agent: &Agent, folder: &Folder, rounds: u32, report: &mut Report) -> Result<f64> {
    let file = folder.join("random135m.gguf");
    model::write(&file)?;
    let path = file.to_str().context("a path")?;
    let pair = Pair::start(agent, folder, ("-stream", &["--model", path])).await?;
    for node in [&pair.seller, &pair.buyer] {
        stream(node).await?;
    }
    let [mut home, mut bought, mut ratios] = <[Vec<f64>; 3]>::default();
    for round in 0..rounds {
        let (here, there) = if round.is_multiple_of(2) {
            let here = stream(&pair.seller).await?;
            (here, stream(&pair.buyer).await?)
        } else {
            let there = stream(&pair.buyer).await?;
            (stream(&pair.seller).await?, there)
        };
        home.push(here);
        bought.push(there);
        ratios.push(there / here);
    }
    let seconds = f64::from(TOKENS) / median(home.clone());
    report.add("135M streamed at home", "tok/s", home, None);
    report.add("135M streamed, bought", "tok/s", bought, None);
    report.add_at_least("135M bought / at home", "x", ratios, SPEED);
    let mut took = Vec::new();
    for number in 0..HANG_UPS {
        took.push(hang_up_on(&pair, number % 5).await?);
    }
    let target = Some((Judged::P99, STOPS));
    report.add_judged("135M, HTTP hang up to slot free", "ms", took, target);
    pair.stop().await?;
    // It is large, and what follows needs none.
    fs::remove_file(&file)?;
    Ok(seconds)
}

fn ask(node: &Node) -> Vec<u8> {
    let body = json!({
        "model": "random135m", "max_tokens": TOKENS, "stream": true, "temperature": 0,
        "messages": [{ "role": "user", "content": "Tell me about the sea and the wind." }],
    });
    request("/v1/chat/completions", &node.socket.token, &body)
}

fn has_text(data: &str) -> bool {
    let event: Value = serde_json::from_str(data).unwrap_or_default();
    let text = event.pointer("/choices/0/delta/content");
    text.and_then(Value::as_str).is_some_and(|t| !t.is_empty())
}

/// Pieces a second, from the first to the last.
async fn stream(node: &Node) -> Result<f64> {
    let (mut pieces, mut first, mut last) = (0_u32, None, None);
    let see = |data: &str| {
        if has_text(data) {
            pieces += 1;
            last = Some(Instant::now());
            first = first.or(last);
        }
    };
    let mut connection = Connection::open(node.address).await?;
    connection.stream(&ask(node), see).await?;
    let (first, last) = first.zip(last).context("a stream without text")?;
    ensure!(pieces > TOKENS / 2, "only {pieces} pieces of text came");
    Ok(f64::from(pieces - 1) / (last - first).as_secs_f64())
}

/// Milliseconds from closing the connection until the provider works for nobody.
async fn hang_up_on(pair: &Pair, more: u32) -> Result<f64> {
    let (mut pieces, enough) = (0, Notify::new());
    let see = |data: &str| {
        pieces += u32::from(has_text(data));
        if pieces == 3 + more {
            enough.notify_one();
        }
    };
    let mut connection = Connection::open(pair.buyer.address).await?;
    let request = ask(&pair.buyer);
    tokio::select! {
        ended = connection.stream(&request, see) => ended?,
        () = enough.notified() => {}
    }
    drop(connection);
    let start = Instant::now();
    let stopped = async {
        while pair.seller.socket.ask("serve", &json!({}))?.get("running") != Some(&json!(0)) {
            sleep(Duration::from_millis(1)).await;
        }
        Ok::<_, anyhow::Error>(start.elapsed().as_secs_f64() * 1e3)
    };
    timeout(WITHIN, stopped).await?
}

/// What paying takes beside making an answer of so many seconds: jobs whose answers take no time.
fn paying(folder: &Folder, rounds: u32, seconds: f64, report: &mut Report) -> Result<()> {
    let dir = folder.join("paying");
    let [mut vouchers, mut whole] = <[Vec<f64>; 2]>::default();
    let all = apart(async {
        let pair = Inside::echo(&dir).await?;
        let mut all = Vec::new();
        for _ in 0..rounds {
            all.push(inside::jobs(&pair, [TOKENS, 1], JOBS).await?);
        }
        pair.stop().await?;
        Ok(all)
    })?;
    for [long, short] in all {
        let (long, short) = (long.bought - long.home, short.bought - short.home);
        vouchers.push((long - short) / seconds / 10.0);
        whole.push(long / seconds / 10.0);
    }
    let target = Some(PAYING);
    report.add(
        "vouchers of 160 tokens / making them",
        "%",
        vouchers,
        target,
    );
    report.add("all of buying 160 tokens / making them", "%", whole, None);
    Ok(())
}

/// Many clients of one node buy from another.
fn trades(
    folder: &Folder,
    (rounds, path): (u32, f64),
    bare: &mut Bare,
    report: &mut Report,
) -> Result<()> {
    let dir = folder.join("trades");
    let [mut rate, mut of_each, mut allowed, mut ratio, mut refused] = <[Vec<f64>; 5]>::default();
    let [mut spent, mut processors] = <[Vec<f64>; 2]>::default();
    apart(async {
        let pair = Inside::echo(&dir).await?;
        inside::trades(&pair, LASTS).await?;
        for _ in 0..rounds {
            let before = commits(bare)?;
            let trades = inside::trades(&pair, LASTS).await?;
            let commit = f64::midpoint(before, commits(bare)?);
            let may = f64::from(CLIENTS) * 1e3 / commit / path;
            rate.push(trades.per_second);
            of_each.push(trades.commits);
            spent.push(trades.cpu);
            processors.push(trades.processors);
            refused.push(trades.refused * 100.0);
            allowed.push(may);
            ratio.push(trades.per_second / TRADES.0.min(TRADES.1 * may));
        }
        pair.stop().await
    })?;
    report.add(format!("trades, {CLIENTS} clients"), "1/s", rate, None);
    report.add("  commits of both sides for each", "", of_each, None);
    report.add("  processor time of all for each", "ms", spent, None);
    report.add("  processors that there were", "", processors, None);
    report.add("  told to come back", "%", refused, None);
    report.add("  as many as commits alone allow", "1/s", allowed, None);
    report.add_at_least("  over 3000 or 0.9 of these, the less", "x", ratio, 1.0);
    Ok(())
}
