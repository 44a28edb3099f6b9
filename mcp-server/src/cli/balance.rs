//! What there is, and what moved.

use clap::Args;
use tirami_agent_runtime::ops::{Balance, History, HistoryEntry};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::output::{Output, Style};
use super::table::{Align, Table};
use crate::access::Need;

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Most entries to show
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: Option<u32>,
    /// Only entries with a smaller number than this
    #[arg(long)]
    before: Option<u64>,
}

pub(super) async fn balance(context: &Context) -> Result<Exit, Problem> {
    let balance = context.ask(Need::Books, Balance {}).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&balance);
        return Ok(Exit::Ok);
    }
    out.styled(Style::Dim, &format!("agent {}", balance.agent));
    let mut table = Table::new(&[("what", Align::Left), ("TRM", Align::Right)]);
    for (name, amount) in [
        ("available", balance.trm_balance),
        ("set aside for running requests", balance.trm_held),
        ("spent in all", balance.trm_spent),
        ("earned by this node in all", balance.trm_earned),
        ("owed on loans", balance.trm_owed),
    ] {
        table.row([name.to_owned(), amount.to_string()]);
    }
    out.table(&table);
    for loan in &balance.loans {
        let late = if loan.overdue { "overdue since" } else { "due" };
        let (owed, due, lender) = (loan.trm_owed, short_time(&loan.due_at), loan.lender.short());
        out.line(&format!("loan: {owed} TRM owed to {lender}, {late} {due}"));
    }
    if !balance.members.is_empty() {
        let mut table = Table::new(&[
            ("member", Align::Whole),
            ("TRM", Align::Right),
            ("set aside", Align::Right),
        ]);
        for member in &balance.members {
            table.row([
                member.node.short(),
                member.trm_balance.to_string(),
                member.trm_held.to_string(),
            ]);
        }
        out.line("");
        out.table(&table);
    }
    say_frozen(out, balance.frozen.as_deref());
    Ok(Exit::Ok)
}

/// One line when spending is frozen.
pub(super) fn say_frozen(out: &Output, frozen: Option<&str>) {
    if let Some(reason) = frozen {
        out.marked(Style::Bad, "frozen:", reason);
    }
}

pub(super) async fn history(context: &Context, args: HistoryArgs) -> Result<Exit, Problem> {
    let page = context
        .ask(
            Need::Books,
            History {
                limit: args.limit,
                before: args.before,
            },
        )
        .await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&page);
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("#", Align::Right),
        ("when (UTC)", Align::Whole),
        ("what", Align::Whole),
        ("TRM", Align::Right),
        ("from > to", Align::Left),
        ("receipt", Align::Whole),
    ]);
    for entry in &page.entries {
        table.row(cells(entry));
    }
    out.table(&table);
    match page.next_before {
        Some(before) => out.note(&format!("more: tirami-agent history --before {before}")),
        None if page.entries.is_empty() => out.line("nothing moved yet"),
        None => (),
    }
    Ok(Exit::Ok)
}

fn cells(entry: &HistoryEntry) -> [String; 6] {
    [
        entry.seq.to_string(),
        short_time(&entry.at),
        entry.reason.clone(),
        entry.trm_amount.to_string(),
        format!("{} > {}", entry.from, entry.to),
        entry.receipt.map(|id| id.short()).unwrap_or_default(),
    ]
}

/// A time without fractions of a second.
pub(super) fn short_time(rfc3339: &str) -> String {
    match rfc3339.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => rfc3339.to_owned(),
    }
}
