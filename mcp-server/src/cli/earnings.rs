//! What was earned by selling.

use tirami_agent_runtime::ops::{EarnedOutput, Earnings, EarningsOutput};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::table::{Align, Table};
use crate::access::Need;

pub(super) async fn earnings(context: &Context) -> Result<Exit, Problem> {
    let earnings = context.ask(Need::Books, Earnings {}).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&earnings);
        return Ok(Exit::Ok);
    }
    out.table(&periods(&earnings));
    if earnings.receipts_waiting > 0 {
        out.line(&format!(
            "{} TRM of it wait to be certified, for {} receipts, and cannot be spent before",
            earnings.trm_waiting, earnings.receipts_waiting
        ));
    }
    if !earnings.by_model.is_empty() {
        out.line("");
        out.table(&by_model(&earnings));
        out.line("");
        out.table(&by_buyer(&earnings));
    }
    if !earnings.complete {
        out.note("there are more buyers than are counted here; the sums above are of all");
    }
    Ok(Exit::Ok)
}

fn periods(earnings: &EarningsOutput) -> Table {
    let mut table = Table::new(&[
        ("earned", Align::Whole),
        ("TRM", Align::Amount),
        ("jobs", Align::Right),
        ("tokens in", Align::Right),
        ("tokens out", Align::Right),
    ]);
    for (name, sum) in [
        ("today", &earnings.today),
        ("in 24 hours", &earnings.last_24h),
        ("in 7 days", &earnings.last_7d),
        ("in all", &earnings.in_all),
    ] {
        table.row([
            name.to_owned(),
            sum.trm_earned.to_string(),
            sum.jobs.to_string(),
            sum.tokens_in.to_string(),
            sum.tokens_out.to_string(),
        ]);
    }
    table
}

fn shares<'a>(
    what: &'static str,
    rows: impl Iterator<Item = (String, &'a EarnedOutput, &'a EarnedOutput)>,
) -> Table {
    let mut table = Table::new(&[
        (what, Align::Left),
        ("TRM in 7 days", Align::Amount),
        ("jobs", Align::Right),
        ("TRM in all", Align::Amount),
        ("jobs", Align::Right),
    ]);
    for (name, week, all) in rows {
        table.row([
            name,
            week.trm_earned.to_string(),
            week.jobs.to_string(),
            all.trm_earned.to_string(),
            all.jobs.to_string(),
        ]);
    }
    table
}

fn by_model(earnings: &EarningsOutput) -> Table {
    let rows = earnings.by_model.iter();
    let rows = rows.map(|row| {
        let name = row.model.clone();
        let name = name.unwrap_or_else(|| row.model_id.short());
        (name, &row.last_7d, &row.in_all)
    });
    shares("model", rows)
}

fn by_buyer(earnings: &EarningsOutput) -> Table {
    let rows = earnings.by_buyer.iter();
    shares(
        "buyer",
        rows.map(|row| (row.buyer.short(), &row.last_7d, &row.in_all)),
    )
}

#[cfg(test)]
mod tests {
    use tirami_agent_runtime::ops::{BuyerEarnedOutput, ModelEarnedOutput};
    use tirami_manifest::{Amount, ModelId, NodeId};

    use super::*;
    use crate::cli::table::fits;

    #[test]
    fn the_largest_earnings_fit_the_screen() {
        let most = EarnedOutput {
            trm_earned: Amount::from_utrm(20_999_999_999_999_999).unwrap(),
            jobs: 999_999_999,
            tokens_in: 999_999_999_999,
            tokens_out: 999_999_999_999,
        };
        let earnings = EarningsOutput {
            today: most,
            last_24h: most,
            last_7d: most,
            in_all: most,
            trm_waiting: most.trm_earned,
            receipts_waiting: 1,
            by_model: vec![ModelEarnedOutput {
                model_id: ModelId::from_bytes([7; 32]),
                model: Some("m".repeat(100)),
                last_7d: most,
                in_all: most,
            }],
            by_buyer: vec![BuyerEarnedOutput {
                buyer: NodeId::from_bytes([8; 32]),
                last_7d: most,
                in_all: most,
            }],
            complete: true,
        };
        for table in [periods(&earnings), by_model(&earnings), by_buyer(&earnings)] {
            fits(&table);
        }
    }
}
