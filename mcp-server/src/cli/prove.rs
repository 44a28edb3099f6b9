//! Proving to others what this node has and did.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use tirami_agent_runtime::FailureCode;
use tirami_agent_runtime::ops::{
    ChainEntries, MakeAnchor, ProveBalance, ProveLog, ProveReceipt, ProveStatement,
};
use tirami_manifest::NodeId;

use super::context::{Context, Session};
use super::exit::{Exit, Problem};
use super::line_file;
use super::out_file::{self, OutArgs, create, failed, written};
use super::receipt;
use super::statement::MovementArgs;
use crate::access::Need;

/// Entries asked for at once.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum ProveCommand {
    /// What this node has: the newest entry of its chain, and the certificate over it
    Balance(OutArgs),
    /// That a trade stands on this node's chain
    Receipt(ReceiptArgs),
    /// The whole chain of this node
    Chain(OutArgs),
    /// That an entry is in this node's journal, or that it only grew, under a signed head
    Log(LogArgs),
    /// What moved on an agent's account, line by line: this node's own word about its own books
    Statement(StatementArgs),
    /// One hash over the newest entries of all chains known here, for others to keep
    Anchor(AnchorArgs),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct LogWhat {
    /// The number of the entry to prove
    #[arg(long)]
    seq: Option<u64>,
    /// The size of an earlier journal, whose growth is to be proved
    #[arg(long, value_name = "SIZE")]
    from: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(flatten)]
    what: LogWhat,
    /// The size of the later journal [default: all of it]
    #[arg(long)]
    size: Option<u64>,
    #[command(flatten)]
    to: OutArgs,
}

#[derive(Debug, Args)]
pub(super) struct StatementArgs {
    #[command(flatten)]
    what: MovementArgs,
    #[command(flatten)]
    out: OutArgs,
}

#[derive(Debug, Args)]
pub(super) struct AnchorArgs {
    /// Also append it to this file, one line for each: a transparency file
    #[arg(long, value_name = "FILE")]
    append: Option<PathBuf>,
    /// Also write the proof that this node's newest entry is under it to this file, which 'verify' takes; an
    /// existing file is left alone
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ReceiptArgs {
    /// The receipt's id, or the beginning of a recent one
    id: String,
    #[command(flatten)]
    to: OutArgs,
}

pub(super) async fn run(context: &Context, command: ProveCommand) -> Result<Exit, Problem> {
    match command {
        ProveCommand::Balance(to) => {
            let file = context.ask(Need::Books, ProveBalance {}).await?;
            document(context, &to, &file)
        }
        ProveCommand::Receipt(ReceiptArgs { id, to }) => {
            let receipt = receipt::named(context, &id).await?;
            let file = context.ask(Need::Books, ProveReceipt { receipt }).await?;
            document(context, &to, &file)
        }
        ProveCommand::Chain(to) => chain(context, &to).await,
        ProveCommand::Log(LogArgs { what, size, to }) => {
            let (seq, from) = (what.seq, what.from);
            let proof = context
                .ask(Need::Books, ProveLog { seq, from, size })
                .await?;
            match (proof.record, proof.growth) {
                (Some(record), _) => document(context, &to, &record),
                (None, growth) => document(context, &to, &growth),
            }
        }
        ProveCommand::Statement(args) => {
            let StatementArgs { what, out } = args;
            let MovementArgs { agent, from, to } = what;
            let asked = ProveStatement { agent, from, to };
            document(context, &out, &context.ask(Need::Books, asked).await?)
        }
        ProveCommand::Anchor(args) => anchor(context, &args).await,
    }
}

fn document(context: &Context, to: &OutArgs, file: &impl Serialize) -> Result<Exit, Problem> {
    if let Some(path) = out_file::document(context, to, file)? {
        written(context, path, &json!({ "file": path }));
    }
    Ok(Exit::Ok)
}

async fn anchor(context: &Context, args: &AnchorArgs) -> Result<Exit, Problem> {
    let mut anchor = context.ask(Need::Books, MakeAnchor {}).await?;
    let proof = anchor.proof.take();
    if let Some(path) = &args.proof {
        let proof = proof.ok_or_else(|| {
            let text = "nothing has happened on this node's chain yet, so no anchor has it";
            Problem::new(FailureCode::NotFound, text)
                .hint("buy or sell something, or join a network with a welcome loan")
        })?;
        // First, so that no line is appended whose proof could not be kept.
        out_file::write(path, &proof)?;
    }
    if let Some(path) = &args.append {
        line_file::append(path, &line(&anchor)?).map_err(|error| failed(path, &error))?;
    }
    if context.out.is_json() {
        context.out.json(&anchor);
    } else {
        context.out.facts(&[
            ("payload", anchor.payload),
            ("chains", anchor.chains.to_string()),
            ("root", format!("{:?}", anchor.root)),
            ("at", anchor.at),
        ]);
    }
    Ok(Exit::Ok)
}

async fn chain(context: &Context, to: &OutArgs) -> Result<Exit, Problem> {
    let session = context.open(Need::Books).await?;
    let done = if let Some(path) = to.file() {
        to_file(&session, path).await
    } else {
        let mut lines = |line: &str| {
            context.out.document(line);
            Ok(())
        };
        each_line(&session, &mut lines).await
    };
    session.close().await;
    done?;
    if let Some(path) = to.file() {
        written(context, path, &json!({ "file": path }));
    }
    Ok(Exit::Ok)
}

async fn to_file(session: &Session, path: &Path) -> Result<(), Problem> {
    let mut file = BufWriter::new(create(path)?);
    let mut write = |line: &str| {
        file.write_all(line.as_bytes())
            .map_err(|error| failed(path, &error))
    };
    let done = each_line(session, &mut write).await;
    let synced = file
        .into_inner()
        .map_err(|error| failed(path, error.error()))
        .and_then(|file| file.sync_all().map_err(|error| failed(path, &error)));
    let done = done.and(synced);
    if done.is_err() {
        // Half a chain proves nothing; what is left of it would only be in the way.
        drop(std::fs::remove_file(path));
    }
    done
}

/// Every line of the chain file, asked for page by page. What is appended meanwhile comes along.
async fn each_line(
    session: &Session,
    write: &mut impl FnMut(&str) -> Result<(), Problem>,
) -> Result<(), Problem> {
    // The chains of earlier keys come first, as each goes on the one before.
    let first = ChainEntries {
        limit: Some(1),
        ..ChainEntries::default()
    };
    let before = session.call(first).await?.keys_before;
    for of in before.into_iter().map(Some).chain([None]) {
        each_line_of(session, of, write).await?;
    }
    Ok(())
}

/// Every line of the chain of one key.
async fn each_line_of(
    session: &Session,
    of: Option<NodeId>,
    write: &mut impl FnMut(&str) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut after = None;
    loop {
        let page = session
            .call(ChainEntries {
                after,
                limit: Some(PAGE),
                of,
            })
            .await?;
        if after.is_none() {
            write(&line(&page.header)?)?;
        }
        for entry in &page.entries {
            write(&line(entry)?)?;
        }
        if let Some(end) = &page.end {
            return write(&line(end)?);
        }
        after = page.entries.last().map(|entry| entry.seq).or(after);
    }
}

fn line(of: &impl Serialize) -> Result<String, Problem> {
    let text = serde_json::to_string(of).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(text + "\n")
}
