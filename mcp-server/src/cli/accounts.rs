//! Every account with its balance.

use tirami_agent_runtime::ops::{AccountBalance, Accounts};
use tirami_manifest::mandate::Pot;

use super::context::Context;
use super::exit::{Exit, Problem};
use super::history::account;
use super::table::{Align, Table};
use crate::access::Need;

pub(super) async fn accounts(context: &Context) -> Result<Exit, Problem> {
    let answer = context.ask(Need::Books, Accounts {}).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&answer);
        return Ok(Exit::Ok);
    }
    out.table(&balances(&answer.accounts));
    out.line("");
    out.table(&pots(&answer.accounts));
    Ok(Exit::Ok)
}

fn balances(accounts: &[AccountBalance]) -> Table {
    let mut table = Table::new(&[
        ("account", Align::Left),
        ("balance, TRM", Align::Amount),
        ("of it set aside", Align::Amount),
    ]);
    for one in accounts {
        table.row([
            account(&one.account),
            one.trm_balance.clone(),
            one.trm_held.to_string(),
        ]);
    }
    table
}

/// What agents have available, by where it came from.
fn pots(accounts: &[AccountBalance]) -> Table {
    let mut table = Table::new(&[
        ("account", Align::Left),
        ("pot", Align::Whole),
        ("available, TRM", Align::Amount),
    ]);
    for one in accounts {
        let full = one.pots.iter().filter(|pot| !pot.trm_available.is_zero());
        for pot in full {
            table.row([
                account(&one.account),
                Pot::name(pot.pot).to_owned(),
                pot.trm_available.to_string(),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use tirami_agent_runtime::ops::PotOutput;
    use tirami_manifest::Amount;

    use super::*;
    use crate::cli::table::fits;

    #[test]
    fn the_largest_account_fits_the_screen() {
        let most = Amount::from_utrm(20_999_999_999_999_999).unwrap();
        let accounts: Vec<_> = [
            format!("clearing {}", "ab".repeat(32)),
            format!("agent {}", "x".repeat(32)),
        ]
        .map(|account| AccountBalance {
            account,
            agent_id: None,
            trm_balance: format!("-{}", u128::MAX / 1_000_000),
            trm_held: most,
            trm_in: String::new(),
            trm_out: String::new(),
            pots: vec![PotOutput {
                pot: Pot::Restricted,
                trm_available: most,
            }],
        })
        .into();
        fits(&balances(&accounts));
        fits(&pots(&accounts));
    }
}
