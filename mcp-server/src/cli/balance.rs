//! What there is.

use tirami_agent_runtime::ops::Balance;

use super::context::Context;
use super::exit::{Exit, Problem};
use super::loans;
use super::output::{Output, Style};
use super::table::{Align, Table};
use crate::access::Need;

pub(super) async fn balance(context: &Context) -> Result<Exit, Problem> {
    let balance = context.ask(Need::Books, Balance {}).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&balance);
        return Ok(Exit::Ok);
    }
    out.styled(Style::Dim, &format!("agent {}", balance.agent));
    let mut table = Table::new(&[("what", Align::Left), ("TRM", Align::Amount)]);
    for (name, amount) in [
        ("available", balance.trm_balance),
        ("set aside for running requests", balance.trm_held),
        ("paid in all, loans paid back too", balance.trm_spent),
        ("earned by this node in all", balance.trm_earned),
        ("of others, not certified yet", balance.trm_waiting),
        ("vouched for, not claimed yet", balance.trm_unclaimed),
        ("owed on loans", balance.trm_owed),
    ] {
        table.row([name.to_owned(), amount.to_string()]);
    }
    out.table(&table);
    if !balance.loans.is_empty() {
        out.line("");
        out.table(&loans::table(&balance.loans));
    }
    if !balance.members.is_empty() {
        let mut table = Table::new(&[
            ("member", Align::Whole),
            ("TRM", Align::Amount),
            ("set aside", Align::Amount),
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
