//! Paying a loan back: out of earnings, by hand, and when it is due.
//!
//! Out of earnings: the receipt of a sale to the lender makes both sides book a repayment in the
//! transaction that books the sale. Beside earnings: the borrower's agent pays into a clearing leg
//! and the loan's row says how much was paid so in all. That row is also what is still to be sent: as
//! long as the lender has confirmed less, [`Wallet::repayment`] answers the signed statement of the
//! whole sum.

use tirami_manifest::genesis::Genesis;
use tirami_manifest::loan::Repayment;
use tirami_manifest::mandate::Pot;
use tirami_manifest::signed::Signed;
use tirami_manifest::{AgentId, Amount, NodeId, ReceiptId, RepaymentId, Timestamp, TransferId};

use super::loan::{self, Loan};
use crate::error::WalletError;
use crate::keys;
use crate::ledger::account::Account;
use crate::ledger::apply::apply;
use crate::ledger::refusal::Refusal;
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{ReadTables, Tables};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode, reference};
use crate::membership::network;
use crate::token::main_agent;
use crate::wallet::Wallet;

/// What pays a loan back: everything but what the owner set apart.
const PAYS: [Pot; 3] = [Pot::Borrowed, Pot::Earned, Pot::Seed];

/// What one call paid back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaid {
    /// How much; zero when nothing was owed any more.
    pub amount: Amount,
    /// The loan after it.
    pub loan: Loan,
}

impl Wallet {
    /// Pays back out of what the main agent has: `amount`, or as much as is there when absent; never
    /// more than is owed.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoLoan`], or a refusal: frozen, or not enough.
    pub async fn repay(&self, amount: Option<Amount>) -> Result<Repaid, WalletError> {
        self.repay_once(amount, None).await
    }

    /// As [`Wallet::repay`]; asked again under the same key it pays nothing more and answers what was
    /// paid then, also without an amount.
    ///
    /// # Errors
    ///
    /// As [`Wallet::repay`], and [`WalletError::KeyReused`] for another amount while anything is owed.
    pub async fn repay_once(
        &self,
        amount: Option<Amount>,
        key: Option<String>,
    ) -> Result<Repaid, WalletError> {
        let node = self.node();
        self.write(move |tables, now| {
            let mut loan = loan::of_borrower(tables, &node)?.ok_or(WalletError::NoLoan)?;
            let (agent, owed) = (main_agent(), loan.owed);
            let invitation = *loan.invitation.as_bytes();
            let named = |key: &String| transfer::id("repay-once", &[&invitation, key.as_bytes()]);
            let id = key.as_ref().map(named);
            let earlier = id.map(|id| tables.entry(&id)).transpose()?.flatten();
            if let Some(Kind::Single { amount: paid, .. }) = earlier.map(|row| row.transfer.kind) {
                // Less was paid than asked only where no more was owed.
                let same =
                    amount.is_none_or(|asked| asked == paid || asked > paid && owed.is_zero());
                return match key {
                    Some(key) if !same => Err(WalletError::KeyReused { key }),
                    _ => Ok(Repaid { amount: paid, loan }),
                };
            }
            if owed.is_zero() {
                let amount = Amount::ZERO;
                return Ok(Repaid { amount, loan });
            }
            let there = tables.pots(&agent)?.sum(&PAYS);
            if amount.is_none() && there.is_zero() {
                return Err(Refusal::NotEnough {
                    account: Account::Agent(agent),
                    available: there,
                    asked: owed,
                }
                .into());
            }
            let amount = amount.unwrap_or(there).min(owed);
            pay(tables, &mut loan, (&agent, id), amount, now)?;
            loan.save(tables)?;
            Ok(Repaid { amount, loan })
        })
        .await
    }

    /// Pays back what can be paid of a loan that is due. Called in quiet times; a purchase does the
    /// same in its own transaction.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn repay_due(&self) -> Result<Amount, WalletError> {
        let node = self.node();
        let (view, now) = self.view_now()?;
        let due = loan::of_borrower(&view, &node)?;
        drop(view);
        if due.is_none_or(|loan| loan.owed.is_zero() || now < loan.due) {
            return Ok(Amount::ZERO);
        }
        self.write(move |tables, now| pay_due(tables, &node, now))
            .await
    }

    /// What was paid back and the lender has not confirmed: to be sent until it has.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn repayment(&self) -> Result<Option<Signed<Repayment>>, WalletError> {
        let view = self.view()?;
        let loan = loan::of_borrower(&view, &self.node())?;
        let Some(loan) = loan.filter(|loan| loan.confirmed < loan.paid) else {
            return Ok(None);
        };
        let genesis = network(&view)?.ok_or(WalletError::NoNetwork)?;
        let statement = statement(&genesis, &loan);
        Ok(Some(Signed::new(statement, &self.inner.key)))
    }

    /// Books a borrower's repayment at its lender and retires the TRM. Each payment counts once,
    /// however often and in whatever order the statements come. The borrower signs with its present key.
    ///
    /// # Errors
    ///
    /// [`WalletError::Repayment`] when it is not for a loan of this node, or a refusal when the
    /// borrower's account does not have it just now.
    pub async fn accept_repayment(
        &self,
        repayment: Signed<Repayment>,
    ) -> Result<RepaymentId, WalletError> {
        let node = self.node();
        self.write(move |tables, now| {
            let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
            let borrower = repayment.body.borrower;
            let newest = keys::newest(tables, &borrower)?;
            let repayment = repayment
                .verify(&newest)
                .map_err(|_| WalletError::Repayment("is not signed by the borrower"))?;
            if repayment.network != genesis.id() {
                return Err(WalletError::Repayment("is for another network"));
            }
            let mut loan = loan::of_borrower(tables, &borrower)?
                .filter(|loan| loan.invitation == repayment.invitation)
                .filter(|loan| loan.lender == node && repayment.lender == node)
                .ok_or(WalletError::Repayment("is for a loan not given here"))?;
            if repayment.total > loan.principal {
                return Err(WalletError::Repayment("is more than was lent"));
            }
            let new = repayment.total.saturating_sub(loan.paid);
            if !new.is_zero() {
                let part = loan.reduce(new, now);
                loan.paid = repayment.total;
                loan.confirmed = repayment.total;
                if !part.is_zero() {
                    let accounts = (Account::Clearing(newest), Account::Issuer);
                    let step = Step::of(&loan, "repayment", loan.paid);
                    step.apply(tables, accounts, part, now)?;
                }
                loan.save(tables)?;
            }
            Ok(repayment.id())
        })
        .await
    }

    /// The lender has the repayment on disk: it need not be sent again. The confirmation of an
    /// earlier statement than the last changes nothing; the last one is sent until it is confirmed.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn repayment_acknowledged(&self, id: RepaymentId) -> Result<(), WalletError> {
        let node = self.node();
        self.write(move |tables, now| {
            let Some(mut loan) = loan::of_borrower(tables, &node)? else {
                return Ok(());
            };
            let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
            let open = loan.paid.saturating_sub(loan.confirmed);
            if open.is_zero() || statement(&genesis, &loan).id() != id {
                return Ok(());
            }
            let step = Step {
                code: TransferCode::Acknowledged,
                ..Step::of(&loan, "repaid", loan.paid)
            };
            let accounts = (Account::Clearing(loan.lender), Account::Position);
            step.apply(tables, accounts, open, now)?;
            loan.confirmed = loan.paid;
            Ok(loan.save(tables)?)
        })
        .await
    }
}

/// The sum of what the borrower paid back beside its earnings.
fn statement(genesis: &Genesis, loan: &Loan) -> Repayment {
    Repayment {
        network: genesis.id(),
        lender: loan.lender,
        borrower: loan.borrower,
        invitation: loan.invitation,
        total: loan.paid,
    }
}

/// A transfer on account of a loan.
struct Step {
    id: TransferId,
    code: TransferCode,
    reference: [u8; 32],
}

impl Step {
    /// The step that brings the sum paid back beside earnings to `total`.
    fn of(loan: &Loan, purpose: &str, total: Amount) -> Self {
        let utrm = total.utrm().to_le_bytes();
        Self {
            id: transfer::id(purpose, &[loan.invitation.as_bytes(), &utrm]),
            code: TransferCode::Repayment,
            reference: reference(loan.invitation.as_bytes()),
        }
    }

    fn apply(
        self,
        tables: &mut impl Tables,
        (debit, credit): (Account, Account),
        amount: Amount,
        now: Timestamp,
    ) -> Result<(), WalletError> {
        let Self {
            id,
            code,
            reference,
        } = self;
        let kind = Kind::Single {
            debit,
            credit,
            amount,
            spend: None,
        };
        let transfer = Transfer {
            id,
            kind,
            code,
            reference,
        };
        apply(tables, &transfer, now)?;
        Ok(())
    }
}

/// An agent pays `amount` of what is owed, in a transfer that is named `id` if it is to have a name of
/// its own; the caller saves the loan.
fn pay(
    tables: &mut impl Tables,
    loan: &mut Loan,
    (agent, id): (&AgentId, Option<TransferId>),
    amount: Amount,
    now: Timestamp,
) -> Result<(), WalletError> {
    let total = loan.paid.checked_add(amount).unwrap_or(Amount::MAX);
    let accounts = (Account::Agent(*agent), Account::Clearing(loan.lender));
    let mut step = Step::of(loan, "repay", total);
    step.id = id.unwrap_or(step.id);
    step.apply(tables, accounts, amount, now)?;
    loan.reduce(amount, now);
    loan.paid = total;
    Ok(())
}

/// Pays back what is there of a loan that is due: all that the main agent has, and what was lent on
/// to other agents. While spending is frozen, nothing.
pub(crate) fn pay_due(
    tables: &mut impl Tables,
    borrower: &NodeId,
    now: Timestamp,
) -> Result<Amount, WalletError> {
    let due = loan::of_borrower(tables, borrower)?;
    let Some(mut loan) = due.filter(|loan| !loan.owed.is_zero() && loan.due <= now) else {
        return Ok(Amount::ZERO);
    };
    if tables.freeze()?.is_some() {
        return Ok(Amount::ZERO);
    }
    let (main, before) = (main_agent(), loan.owed);
    let mut sources = vec![(main, tables.pots(&main)?.sum(&PAYS))];
    for (account, _) in tables.accounts()? {
        if let Account::Agent(agent) = account
            && agent != main
        {
            sources.push((agent, tables.pots(&agent)?.get(Pot::Borrowed)));
        }
    }
    for (agent, there) in sources {
        let amount = there.min(loan.owed);
        if !amount.is_zero() {
            pay(tables, &mut loan, (&agent, None), amount, now)?;
        }
    }
    if loan.owed < before {
        loan.save(tables)?;
    }
    Ok(before.saturating_sub(loan.owed))
}

/// What a sale of `amount` by the borrower to its lender pays of the loan between them, when that
/// lender is the network's authority: the loan after it, and how much.
pub(crate) fn out_of_sale(
    tables: &impl ReadTables,
    genesis: &Genesis,
    (lender, borrower): (&NodeId, &NodeId),
    (amount, now): (Amount, Timestamp),
) -> Result<Option<(Loan, Amount)>, WalletError> {
    if genesis.authority() != Some(*lender) {
        return Ok(None);
    }
    let loan = loan::of_borrower(tables, borrower)?.filter(|loan| loan.lender == *lender);
    Ok(loan.and_then(|mut loan| {
        let part = loan.reduce(amount, now);
        (!part.is_zero()).then_some((loan, part))
    }))
}

/// The lender's side of [`out_of_sale`]: what it just paid the borrower comes back and is retired.
pub(crate) fn retire(
    tables: &mut impl Tables,
    genesis: &Genesis,
    parties: (&NodeId, &NodeId),
    (receipt, amount): (ReceiptId, Amount),
    now: Timestamp,
) -> Result<(), WalletError> {
    let Some((loan, part)) = out_of_sale(tables, genesis, parties, (amount, now))? else {
        return Ok(());
    };
    let step = Step {
        id: transfer::id("retire", &[receipt.as_bytes()]),
        code: TransferCode::Repayment,
        reference: reference(loan.invitation.as_bytes()),
    };
    let newest = keys::newest(tables, &loan.borrower)?;
    let accounts = (Account::Clearing(newest), Account::Issuer);
    step.apply(tables, accounts, part, now)?;
    Ok(loan.save(tables)?)
}
