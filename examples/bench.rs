#![expect(clippy::print_stdout, reason = "a program that talks to a person")]
//! What a node costs: start-up, memory, size, the work around one answer and around a bought one, and the
//! time to stop.
//!
//! `make bench` builds everything and starts this with the binary to measure; docs/bench.md says
//! what each figure means. Nothing here judges by exit code: a target that is missed is printed as
//! missed. The exit code says whether everything ran and every request was answered.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

#[path = "bench/bare.rs"]
mod bare;
#[path = "bench/chat.rs"]
mod chat;
#[path = "bench/commits.rs"]
mod commits;
#[path = "bench/freeze.rs"]
mod freeze;
#[path = "bench/hang_up.rs"]
mod hang_up;
#[path = "bench/http.rs"]
mod http;
#[path = "bench/inside.rs"]
mod inside;
#[path = "bench/machine.rs"]
mod machine;
#[path = "bench/memory.rs"]
mod memory;
#[path = "bench/model.rs"]
mod model;
#[path = "bench/pair.rs"]
mod pair;
#[path = "bench/process.rs"]
mod process;
#[path = "bench/report.rs"]
mod report;
#[path = "bench/size.rs"]
mod size;
#[path = "bench/start.rs"]
mod start;
#[path = "bench/trade.rs"]
mod trade;

use process::{Agent, Folder};
use report::Report;

/// Threads of a server that is measured, the bare one included: what `tirami-agent` runs with.
const WORKERS: usize = 2;

/// What the command line says.
struct Args {
    agent: PathBuf,
    json: bool,
    /// How often each kind of start is measured.
    starts: u32,
    /// How often everything else is measured.
    rounds: u32,
    /// How often spending is frozen.
    freezes: u32,
    /// The one part that is measured; all when absent.
    only: Option<String>,
}

/// The parts, by the names of their files; of trading, the one with many clients by itself.
const PARTS: [&str; 7] = [
    "start", "memory", "size", "chat", "freeze", "trade", "trades",
];

impl Args {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut args = Self {
            agent: PathBuf::new(),
            json: false,
            starts: 15,
            rounds: 7,
            freezes: 300,
            only: None,
        };
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} needs a value"))
            };
            match word.as_str() {
                "--json" => args.json = true,
                "--agent" => args.agent = value()?.into(),
                "--starts" => args.starts = value()?.parse().context("--starts")?,
                "--rounds" => args.rounds = value()?.parse().context("--rounds")?,
                "--freezes" => args.freezes = value()?.parse().context("--freezes")?,
                "--only" => args.only = Some(value()?),
                _ => bail!("unknown: {word}; see the head of .ci/bench"),
            }
        }
        if args.agent.as_os_str().is_empty()
            || args.starts == 0
            || args.rounds == 0
            || args.freezes == 0
        {
            bail!("needed are --agent FILE, and at least one start, round and freeze");
        }
        if let Some(only) = args.only.as_deref().filter(|only| !PARTS.contains(only)) {
            bail!("no part {only}; there are {PARTS:?}");
        }
        Ok(args)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

fn main() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == bare::COMMAND).is_some() {
        let server = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()?;
        server.block_on(bare::serve(words.next()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let args = Args::read(words)?;
    // One thread: the client shall not compete with what it measures more than it must.
    let client = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = client.block_on(measure(&args))?;
    if args.json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.table());
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &Args) -> Result<Report> {
    let folder = Folder::new()?;
    let agent = Agent::new(args.agent.clone(), &folder)?;
    let mut report = Report::new(machine::facts());
    let outcome = async {
        if args.wants("start") {
            start::measure(&agent, &folder, args.starts, &mut report).await?;
        }
        if args.wants("memory") {
            memory::measure(&agent, &folder, args.rounds, &mut report).await?;
        }
        if args.wants("size") {
            size::measure(&args.agent, &folder, &mut report).await?;
        }
        if args.wants("chat") {
            chat::measure(&agent, &folder, args.rounds, &mut report).await?;
            chat::measure_stream(&agent, &folder, args.rounds, &mut report).await?;
        }
        if args.wants("freeze") {
            freeze::measure(&agent, &folder, args.freezes, &mut report).await?;
        }
        if args.wants("trade") {
            trade::measure(&agent, &folder, args.rounds, &mut report).await?;
        }
        if args.wants("trades") {
            trade::measure_many(&folder, args.rounds, &mut report)?;
        }
        Ok::<_, anyhow::Error>(())
    };
    outcome
        .await
        .with_context(|| format!("the log of the agent: {}", agent.log()))?;
    report.fact("load average at the end", machine::load());
    Ok(report)
}
