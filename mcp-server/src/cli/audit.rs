//! The books checked against themselves.

use clap::Subcommand;
use tirami_agent_runtime::ops::Audit;

use super::context::Context;
use super::exit::{Exit, Problem};
use super::output::Style;
use super::table::{Align, Table};
use crate::access::Need;

#[derive(Debug, Subcommand)]
pub(super) enum WalletCommand {
    /// Check the books: debits equal credits, holds agree, nothing was made or lost
    Audit,
}

pub(super) async fn audit(context: &Context) -> Result<Exit, Problem> {
    let audit = context.ask(Need::Books, Audit {}).await?;
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
        out.marked(style, mark, &format!("{}: {}", check.rule, check.detail));
    }
    let mut table = Table::new(&[
        ("account", Align::Left),
        ("in, uTRM", Align::Right),
        ("out, uTRM", Align::Right),
        ("set aside, TRM", Align::Right),
    ]);
    for account in audit.accounts {
        table.row([
            account.account,
            account.credits_utrm,
            account.debits_utrm,
            account.trm_held.to_string(),
        ]);
    }
    out.line("");
    out.table(&table);
    Ok(exit)
}
