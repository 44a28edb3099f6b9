//! Operations on loans: what is owed, and paying it back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::id::to_hex;
use tirami_manifest::{Amount, NodeId, Timestamp};
use tirami_wallet::economy::loan::{Loan, LoanState};

use super::{Caller, Operation, TextSink};
use crate::buy::{GIVEN_KEY, KEY_MAX};
use crate::clock::random;
use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;
use crate::sync;

/// One loan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoanOutput {
    /// Who lends.
    pub lender: NodeId,
    /// Who owes.
    pub borrower: NodeId,
    /// What was lent.
    pub trm_principal: Amount,
    /// What is still owed.
    pub trm_owed: Amount,
    /// When it is due, RFC 3339 in UTC.
    pub due_at: String,
    /// Whether that is past and something is owed.
    pub overdue: bool,
    /// What was paid back, from earnings and beside them.
    #[serde(default)]
    pub trm_repaid: Amount,
    /// `open`, `overdue`, `defaulted` or `repaid`. While it is defaulted, the lender sells the borrower
    /// nothing.
    #[serde(default)]
    pub state: String,
    /// Since when nothing is owed, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaid_at: Option<String>,
}

pub(super) fn loan_output(now: Timestamp, loan: &Loan) -> LoanOutput {
    let state = loan.state(now);
    LoanOutput {
        lender: loan.lender,
        borrower: loan.borrower,
        trm_principal: loan.principal,
        trm_owed: loan.owed,
        due_at: loan.due.to_rfc3339(),
        overdue: matches!(state, LoanState::Overdue | LoanState::Defaulted),
        trm_repaid: loan.repaid(),
        state: state.name().to_owned(),
        repaid_at: loan.repaid_at.map(Timestamp::to_rfc3339),
    }
}

empty_input!(
    /// The loans in this node's books.
    Loans
);

/// The loans in this node's books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoansOutput {
    /// What the node owes on loans.
    pub trm_owed: Amount,
    /// What the node borrowed.
    pub loans: Vec<LoanOutput>,
    /// What the node lent, where it is an issuer; only its main agent sees it.
    pub lent: Vec<LoanOutput>,
}

/// Pays a loan back out of what the main agent has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepayLoan {
    /// How much; as much as is owed and there when absent. More than is owed is never paid.
    #[serde(default)]
    pub trm: Option<Amount>,
    /// Names the payment: asking again with it pays nothing more. Drawn when absent.
    #[serde(default)]
    pub idempotency_key: Option<String>,
}

/// What was paid back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepayLoanOutput {
    /// What this call paid back; zero when nothing was owed any more.
    pub trm_paid: Amount,
    /// The loan after it.
    pub loan: LoanOutput,
    /// Whether the lender has booked everything that was paid back; if not, it is told again until
    /// it has.
    pub confirmed: bool,
    /// What the main agent has left.
    pub trm_balance: Amount,
}

impl Operation for Loans {
    const NAME: &'static str = "loans";
    type Output = LoansOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<LoansOutput, Failure> {
        let node = runtime.node();
        let wallet = &runtime.inner.wallet;
        let mut all = wallet.loans()?;
        for loan in &mut all {
            // It was lent to the key that the borrower had then.
            loan.borrower = wallet.newest_key(&loan.borrower)?;
        }
        let (loans, lent): (Vec<Loan>, Vec<Loan>) =
            all.into_iter().partition(|loan| loan.lender != node);
        let now = runtime.inner.wallet.now()?;
        let shown = |loans: &[Loan]| {
            let outputs = loans.iter().map(|loan| loan_output(now, loan));
            outputs.collect::<Vec<_>>()
        };
        Ok(LoansOutput {
            trm_owed: loans.iter().fold(Amount::ZERO, |sum, loan| {
                sum.checked_add(loan.owed).unwrap_or(Amount::MAX)
            }),
            loans: shown(&loans),
            lent: if caller.is_main() {
                shown(&lent)
            } else {
                Vec::new()
            },
        })
    }
}

impl Operation for RepayLoan {
    const NAME: &'static str = "repay_loan";
    type Output = RepayLoanOutput;

    fn prepare(&mut self) {
        self.idempotency_key
            .get_or_insert_with(|| format!("{GIVEN_KEY}{}", to_hex(&random::<16>())));
    }

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<RepayLoanOutput, Failure> {
        caller.must_be_main()?;
        let wallet = &runtime.inner.wallet;
        if let Some(key) = self
            .idempotency_key
            .as_ref()
            .filter(|key| key.len() > KEY_MAX)
        {
            let text = format!("idempotency_key has {} bytes, at most {KEY_MAX}", key.len());
            return Err(Failure::new(FailureCode::InvalidInput, text));
        }
        if self.trm.is_some_and(Amount::is_zero) {
            let text = "trm is 0; it must be more";
            return Err(Failure::new(FailureCode::InvalidInput, text));
        }
        let repaid = wallet.repay_once(self.trm, self.idempotency_key).await?;
        // On disk already: if the lender cannot be told now, it will be.
        if let Err(failure) = sync::deliver_repayment(runtime).await {
            tracing::debug!(%failure, "a repayment has to wait");
        }
        Ok(RepayLoanOutput {
            trm_paid: repaid.amount,
            loan: loan_output(wallet.now()?, &repaid.loan),
            confirmed: wallet.repayment()?.is_none(),
            trm_balance: wallet.balance(&caller.agent)?.available,
        })
    }
}
