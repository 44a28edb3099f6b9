//! The provider's side of a trade: may this consumer pay, and what was earned.
//!
//! In a network with one witness, that witness's ledger decides: it keeps a clearing account per
//! member and reserves there what a job may cost. A member that sells to the authority relies on the
//! authority's own books, which hold the money before the receipt is signed.

use tirami_manifest::commerce::{Quote, VerifiedReceipt};
use tirami_manifest::signed::Verified;
use tirami_manifest::{Amount, NodeId, QuoteId, TransferId};

use crate::error::WalletError;
use crate::ledger::account::Account;
use crate::ledger::apply::{Applied, apply, apply_group, renew};
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{ReadTables, Table, Tables};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode};
use crate::membership::network;
use crate::statement::{ReceiptRow, Side};
use crate::token::main_agent;
use crate::wallet::Wallet;

/// How a provider knows that a consumer can pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This node keeps the consumer's account; what is available there.
    Kept(Amount),
    /// The consumer is the authority: its own ledger decides.
    Authority,
    /// Neither of the two is the authority, or the consumer is not a member.
    Unknown,
}

impl Wallet {
    /// What this node knows of a consumer's means.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoNetwork`] or a store failure.
    pub fn standing(&self, consumer: &NodeId) -> Result<Standing, WalletError> {
        let view = self.view()?;
        let authority = network(&view)?.ok_or(WalletError::NoNetwork)?.authority();
        Ok(if authority == Some(self.node()) {
            let account = Account::Clearing(*consumer);
            match view.get(Table::Accounts, &account.key())? {
                Some(_) => Standing::Kept(view.totals(&account)?.available()),
                None => Standing::Unknown,
            }
        } else if authority == Some(*consumer) {
            Standing::Authority
        } else {
            Standing::Unknown
        })
    }

    /// Sets a consumer's means aside for one quote, where this node keeps its account. Asking again
    /// for the same quote is refused: a quote is good for one job.
    ///
    /// # Errors
    ///
    /// A refusal of the ledger, or a store failure.
    pub async fn reserve(&self, quote: &Verified<Quote>) -> Result<(), WalletError> {
        if matches!(self.standing(&quote.consumer)?, Standing::Authority) {
            return Ok(());
        }
        let id = reservation(&quote.id());
        let transfer = Transfer {
            id,
            kind: Kind::Hold {
                debit: Account::Clearing(quote.consumer),
                credit: Account::Revenue,
                amount: quote.max_amount,
                timeout_ms: self.inner.hold_timeout_ms,
            },
            code: TransferCode::Reservation,
            reference: *quote.id().as_bytes(),
        };
        self.write(move |tables, now| match apply(tables, &transfer, now)? {
            Applied::Now => Ok(()),
            Applied::Already => Err(WalletError::OtherReceipt("job under the same quote")),
        })
        .await
    }

    /// The consumer gave a sign of life: its reservation lives its whole timeout again.
    ///
    /// # Errors
    ///
    /// A refusal when it has ended, or a store failure.
    pub async fn renew_reservation(&self, quote: QuoteId) -> Result<(), WalletError> {
        self.write(move |tables, now| {
            let id = reservation(&quote);
            if tables.hold(&id)?.is_some() {
                renew(tables, &id, now)?;
            }
            Ok(())
        })
        .await
    }

    /// Gives a reservation back: the job never ended in a proposal.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn release_reservation(&self, quote: QuoteId) -> Result<(), WalletError> {
        self.write(move |tables, now| {
            let hold = reservation(&quote);
            let open = tables
                .hold(&hold)?
                .is_some_and(|row| row.end.is_none() && row.expires > now);
            if open {
                let id = transfer::id("void", &[hold.as_bytes()]);
                let (code, reference) = (TransferCode::Reservation, *quote.as_bytes());
                apply(
                    tables,
                    &Transfer {
                        id,
                        kind: Kind::Void { hold },
                        code,
                        reference,
                    },
                    now,
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Books what a receipt proves was earned, once, and passes it on to the main agent.
    ///
    /// # Errors
    ///
    /// [`WalletError::OtherReceipt`] when it is not this node's sale in this network, or a refusal
    /// when the consumer's account no longer has the amount.
    pub async fn earn(&self, receipt: VerifiedReceipt) -> Result<Applied, WalletError> {
        let node = self.node();
        self.write(move |tables, now| {
            let (id, agreement) = (receipt.id(), &receipt.agreement);
            let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
            if agreement.network != genesis.id() {
                return Err(WalletError::OtherReceipt("network"));
            }
            if agreement.provider != node {
                return Err(WalletError::OtherReceipt("provider"));
            }
            if tables.get(Table::Receipts, id.as_bytes())?.is_some() {
                return Ok(Applied::Already);
            }
            let authority = genesis.authority();
            if authority != Some(node) && authority != Some(agreement.consumer) {
                return Err(WalletError::OtherReceipt(
                    "consumer than the network's authority",
                ));
            }
            if !agreement.amount.is_zero() {
                let kept_here = authority == Some(node);
                apply_group(tables, &sale(tables, &receipt, kept_here, now)?, now)?;
            }
            let row = ReceiptRow {
                bytes: receipt.to_bytes(),
                side: Side::Sold,
                at: now,
            };
            tables.put_row(Table::Receipts, id.as_bytes(), &row)?;
            Ok(Applied::Now)
        })
        .await
    }
}

/// The id of the reservation for a quote.
fn reservation(quote: &QuoteId) -> TransferId {
    transfer::id("reservation", &[quote.as_bytes()])
}

/// From the consumer's clearing account to revenue, and from there to the main agent. Where this
/// node does not keep the consumer's account, what is earned first enters its standing.
fn sale(
    tables: &impl ReadRows,
    receipt: &VerifiedReceipt,
    kept_here: bool,
    now: tirami_manifest::Timestamp,
) -> Result<Vec<Transfer>, WalletError> {
    let (id, agreement) = (receipt.id(), &receipt.agreement);
    let (amount, reference) = (agreement.amount, *id.as_bytes());
    let clearing = Account::Clearing(agreement.consumer);
    let mut group = Vec::new();
    let mut push = |purpose, kind, code| {
        group.push(Transfer {
            id: transfer::id(purpose, &[&reference]),
            kind,
            code,
            reference,
        });
    };
    let hold = reservation(&agreement.quote);
    let reserved = tables
        .hold(&hold)?
        .filter(|row| row.end.is_none() && row.expires > now && row.debit == clearing);
    if !kept_here {
        let kind = Kind::Single {
            debit: Account::Position,
            credit: clearing,
            amount,
        };
        push("standing", kind, TransferCode::Acknowledged);
    }
    let kind = match reserved {
        Some(row) if kept_here && amount <= row.amount => Kind::Post { hold, amount },
        // The reservation's time was over before the receipt came: the debt stands all the same.
        _ => Kind::Single {
            debit: clearing,
            credit: Account::Revenue,
            amount,
        },
    };
    push("sale", kind, TransferCode::Sale);
    let (debit, credit) = (Account::Revenue, Account::Agent(main_agent()));
    push(
        "earnings",
        Kind::Single {
            debit,
            credit,
            amount,
        },
        TransferCode::Earnings,
    );
    Ok(group)
}
