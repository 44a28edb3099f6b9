//! The books checked against themselves, and what happened to them.

use std::path::PathBuf;

use clap::Args;
use tirami_agent_runtime::ops::{Audit, AuditLog};

use super::backup::absolute;
use super::context::Context;
use super::exit::{Exit, Problem};
use super::local_time;
use super::output::Style;
use super::table::{Align, Table};
use crate::access::Need;

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Show what happened to the ledger and what was refused, newest first
    #[arg(long, conflicts_with = "archive")]
    events: bool,
    /// Most of them, 1 to 500 [default: 20]
    #[arg(long, value_name = "N", requires = "events")]
    limit: Option<u32>,
    /// Only those with a smaller number
    #[arg(long, value_name = "SEQ", requires = "events")]
    before: Option<u64>,
    #[command(flatten)]
    archives: ArchivesArgs,
}

#[derive(Debug, Args)]
pub(super) struct ArchivesArgs {
    /// The archives of journal entries that are not in the wallet any more, so that all is done again
    #[arg(long, value_name = "FILE", num_args = 1..)]
    archive: Vec<PathBuf>,
}

pub(super) async fn run(context: &Context, args: AuditArgs) -> Result<Exit, Problem> {
    if !args.events {
        return audit(context, &args.archives).await;
    }
    let asked = AuditLog {
        limit: args.limit,
        before: args.before,
    };
    let log = context.ask(Need::Books, asked).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&log);
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("seq", Align::Right),
        ("when", Align::Left),
        ("event", Align::Left),
        ("agent", Align::Left),
        ("TRM", Align::Right),
        ("what", Align::Left),
    ]);
    for entry in &log.entries {
        table.row([
            entry.seq.to_string(),
            local_time::exact(&entry.at),
            entry.event.clone(),
            entry.agent.clone().unwrap_or_default(),
            entry.trm_amount.map_or(String::new(), |a| a.to_string()),
            entry.detail.clone(),
        ]);
    }
    out.table(&table);
    out.note(&format!("{} entries, Merkle root {:?}", log.size, log.root));
    if log.dropped > 0 {
        out.note(&format!(
            "entries 1 to {} are in archives; 'tirami-agent wallet unarchive FILE' puts them back",
            log.dropped
        ));
    }
    Ok(Exit::Ok)
}

pub(super) async fn audit(context: &Context, args: &ArchivesArgs) -> Result<Exit, Problem> {
    let archives = args.archive.iter().map(|file| absolute(file));
    let archives = archives.collect::<Result<_, _>>()?;
    let audit = context.ask(Need::Books, Audit { archives }).await?;
    let out = &context.out;
    let exit = if audit.holds { Exit::Ok } else { Exit::Failure };
    if out.is_json() {
        out.json(&audit);
        return Ok(exit);
    }
    for check in &audit.checks {
        let (style, mark) = if check.holds {
            (Style::Good, "ok  ")
        } else {
            (Style::Bad, "FAIL")
        };
        out.marked(style, mark, &check.rule);
        out.styled(Style::Dim, &format!("     {}", check.detail));
    }
    out.note("every account: 'tirami-agent wallet accounts'");
    Ok(exit)
}
