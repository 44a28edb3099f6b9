//! The newest transfers, or those that fit.

use clap::Args;
use tirami_agent_runtime::ops::{History, HistoryEntry};
use tirami_manifest::{Amount, Timestamp};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::table::{Align, Table};
use super::{local_time, receipt};
use crate::access::Need;

/// Longest id on the screen.
const ID_SHOWN: usize = 10;

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Most entries to show
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: Option<u32>,
    /// Only entries with a smaller number than this
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// Only what this agent spent or has in its account
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only this reason: budget, purchase, sale, earnings, allotment and so on
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// Only out of this kind of account: agent, revenue, position, clearing, outgoing, issuer,
    /// delegated
    #[arg(long, value_name = "KIND")]
    from: Option<String>,
    /// Only into this kind of account
    #[arg(long, value_name = "KIND")]
    to: Option<String>,
    /// Only from this moment on: RFC 3339, or a local date
    #[arg(long, value_name = "WHEN", value_parser = local_time::moment)]
    since: Option<Timestamp>,
    /// Only before this moment
    #[arg(long, value_name = "WHEN", value_parser = local_time::moment)]
    until: Option<Timestamp>,
    /// Only this much or more
    #[arg(long, value_name = "TRM", allow_hyphen_values = true)]
    min: Option<Amount>,
    /// Only what follows from this receipt; the beginning of a recent one's id is enough
    #[arg(long, value_name = "ID")]
    receipt: Option<String>,
}

pub(super) async fn history(context: &Context, args: HistoryArgs) -> Result<Exit, Problem> {
    let receipt = match &args.receipt {
        Some(id) => Some(receipt::named(context, id).await?),
        None => None,
    };
    let question = History {
        limit: args.limit,
        before: args.before,
        agent: args.agent,
        reason: args.reason,
        from: args.from,
        to: args.to,
        since: args.since,
        until: args.until,
        min_trm: args.min,
        receipt,
    };
    let page = context.ask(Need::Books, question).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&page);
        return Ok(Exit::Ok);
    }
    if page.entries.is_empty() {
        out.line("nothing moved yet that fits");
        return Ok(Exit::Ok);
    }
    out.table(&table(&page.entries));
    if let Some(before) = page.next_before {
        out.note(&format!("more: the same with --before {before}"));
    }
    Ok(Exit::Ok)
}

fn table(entries: &[HistoryEntry]) -> Table {
    let mut table = Table::new(&[
        ("#", Align::Right),
        ("when", Align::Whole),
        ("what", Align::Left),
        ("TRM", Align::Amount),
        ("from > to", Align::Left),
        ("receipt", Align::Whole),
    ]);
    for entry in entries {
        table.row([
            entry.seq.to_string(),
            local_time::minute(&entry.at),
            what(entry),
            entry.trm_amount.to_string(),
            format!("{} > {}", account(&entry.from), account(&entry.to)),
            entry.receipt.map(|id| id.short()).unwrap_or_default(),
        ]);
    }
    table
}

/// Why, and whether the amount moved.
fn what(entry: &HistoryEntry) -> String {
    match entry.kind.as_str() {
        "transfer" | "allot" | "post" | "draw" => entry.reason.clone(),
        "hold" => format!("{}, set aside", entry.reason),
        "vouch" => format!("{}, promised", entry.reason),
        "void" => format!("{}, voided", entry.reason),
        "expire" => format!("{}, expired", entry.reason),
        other => format!("{}, {other}", entry.reason),
    }
}

/// An account's name with the id in it shortened.
pub(super) fn account(name: &str) -> String {
    match name.split_once(' ') {
        Some((kind, id)) if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) => {
            let id: String = id.chars().take(ID_SHOWN).collect();
            format!("{kind} {id}")
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tirami_manifest::ReceiptId;

    use super::*;
    use crate::cli::table::fits;

    #[test]
    fn the_largest_transfer_fits_the_screen() {
        let entry = HistoryEntry {
            seq: u64::from(u32::MAX),
            at: "2026-01-31T12:00:00.250Z".into(),
            kind: "transfer".into(),
            reason: "welcome_loan".into(),
            trm_amount: Amount::from_utrm(20_999_999_999_999_999).unwrap(),
            from: format!("agent {}", "x".repeat(32)),
            to: format!("clearing {}", "ab".repeat(32)),
            agent: None,
            receipt: Some(ReceiptId::from_bytes([0xab; 32])),
        };
        fits(&table(&[entry]));
        assert_eq!(
            account(&format!("clearing {}", "ab".repeat(32))),
            "clearing ababababab"
        );
        assert_eq!(account("agent main"), "agent main");
    }
}
