//! What was borrowed, and what was lent.

use clap::{Args, Subcommand};
use tirami_agent_runtime::ops::{LoanOutput, Loans, RepayLoan};
use tirami_manifest::Amount;

use super::context::Context;
use super::exit::{Exit, Problem};
use super::local_time;
use super::table::{Align, Table};
use crate::access::Need;

#[derive(Debug, Args)]
pub(super) struct LoansArgs {
    #[command(subcommand)]
    command: Option<LoansCommand>,
}

#[derive(Debug, Subcommand)]
enum LoansCommand {
    /// Pay back what this node owes, before it is due
    Repay {
        /// How much; as much as is owed and there when absent
        #[arg(value_name = "TRM", allow_hyphen_values = true)]
        amount: Option<Amount>,
        /// Name the payment: asking again with the same key pays once
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
}

pub(super) async fn run(context: &Context, args: LoansArgs) -> Result<Exit, Problem> {
    match args.command {
        Some(LoansCommand::Repay {
            amount,
            idempotency_key,
        }) => {
            let repay_loan = RepayLoan {
                trm: amount,
                idempotency_key,
            };
            repay(context, repay_loan).await
        }
        None => list(context).await,
    }
}

async fn repay(context: &Context, repay_loan: RepayLoan) -> Result<Exit, Problem> {
    let repaid = context.ask(Need::Mesh, repay_loan).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&repaid);
        return Ok(Exit::Ok);
    }
    out.line(&format!(
        "{} TRM paid back, {} TRM still owed, {} TRM left",
        repaid.trm_paid, repaid.loan.trm_owed, repaid.trm_balance
    ));
    if !repaid.confirmed {
        out.note("the lender could not be told yet; the node tells it again");
    }
    Ok(Exit::Ok)
}

async fn list(context: &Context) -> Result<Exit, Problem> {
    let answer = context.ask(Need::Books, Loans {}).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&answer);
        return Ok(Exit::Ok);
    }
    if answer.loans.is_empty() && answer.lent.is_empty() {
        out.line("nothing was borrowed or lent");
        return Ok(Exit::Ok);
    }
    if !answer.loans.is_empty() {
        out.line(&format!("borrowed; {} TRM are owed", answer.trm_owed));
        out.table(&table(&answer.loans));
    }
    if !answer.lent.is_empty() {
        out.line("lent");
        out.table(&table(&answer.lent));
    }
    Ok(Exit::Ok)
}

/// Loans, one a line.
pub(super) fn table(loans: &[LoanOutput]) -> Table {
    let mut table = Table::new(&[
        ("lender", Align::Left),
        ("borrower", Align::Left),
        ("lent", Align::Amount),
        ("still owed", Align::Amount),
        ("due", Align::Left),
        ("state", Align::Left),
    ]);
    for loan in loans {
        table.row([
            loan.lender.short(),
            loan.borrower.short(),
            loan.trm_principal.to_string(),
            loan.trm_owed.to_string(),
            local_time::minute(&loan.due_at),
            loan.state.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use tirami_manifest::{Amount, NodeId};

    use super::*;
    use crate::cli::table::fits;

    #[test]
    fn the_largest_loan_fits_the_screen() {
        let most = Amount::from_utrm(20_999_999_999_999_999).unwrap();
        let loan = LoanOutput {
            lender: NodeId::from_bytes([0xab; 32]),
            borrower: NodeId::from_bytes([0xcd; 32]),
            trm_principal: most,
            trm_owed: most,
            due_at: "2026-01-31T12:00:00.250Z".into(),
            overdue: true,
            trm_repaid: Amount::ZERO,
            state: "defaulted".into(),
            repaid_at: None,
        };
        fits(&table(&[loan]));
    }
}
