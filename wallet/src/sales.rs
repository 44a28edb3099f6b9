//! The provider's side of a trade: may this consumer pay, and what was earned.
//!
//! In a network with one witness, that witness's ledger decides: it keeps a clearing account per
//! member and reserves there what a job may cost. A member that sells to the authority relies on the
//! authority's own books, which hold the money before the receipt is signed.

use tirami_manifest::commerce::{Quote, VerifiedReceipt};
use tirami_manifest::mandate_chain::Spend;
use tirami_manifest::signed::{Signed, Verified};
use tirami_manifest::{Amount, InvitationId, NodeId, QuoteId, TransferId};

use crate::earnings;
use crate::economy::{loan, repayment};
use crate::error::WalletError;
use crate::jobs::{self, JobStart};
use crate::ledger::account::Account;
use crate::ledger::apply::{Applied, apply, apply_group, renew};
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{ReadTables, Table, Tables};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode};
use crate::membership::network;
use crate::statement::{ReceiptRow, Side};
use crate::strangers;
use crate::token::main_agent;
use crate::travelling::tracking::CheckedUnder;
use crate::travelling::{drawing, tracking};
use crate::wallet::Wallet;
use crate::witness;

/// How a provider knows that a consumer can pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This node keeps the consumer's account; what is available there.
    Kept(Amount),
    /// The consumer is the authority: its own ledger decides.
    Authority,
    /// This node keeps the consumer's account, and lent it what was not paid back in time; what is
    /// still owed.
    Defaulted(Amount),
    /// Neither of the two is the authority: no witness stands behind what the consumer pays. What can
    /// still be accepted so today.
    Stranger(Amount),
    /// The consumer is not a member of the network whose authority this node is.
    Unknown,
}

impl Wallet {
    /// What this node knows of a consumer's means.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoNetwork`] or a store failure.
    pub fn standing(&self, consumer: &NodeId) -> Result<Standing, WalletError> {
        let (view, now) = self.view_now()?;
        let authority = network(&view)?.ok_or(WalletError::NoNetwork)?.authority();
        Ok(if authority == Some(self.node()) {
            let account = Account::Clearing(*consumer);
            if view.get(Table::Accounts, &account.key())?.is_none() {
                return Ok(Standing::Unknown);
            }
            let parties = (&self.node(), consumer);
            match loan::in_default(&view, parties, now)? {
                Some(owed) => Standing::Defaulted(owed),
                None => Standing::Kept(view.totals(&account)?.available()),
            }
        } else if authority == Some(*consumer) {
            Standing::Authority
        } else {
            Standing::Stranger(self.stranger_room()?)
        })
    }

    /// Whether a consumer has paid this node before.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn has_paid(&self, consumer: &NodeId) -> Result<bool, WalletError> {
        let view = self.view()?;
        let accounts = [
            Account::Clearing(*consumer),
            Account::Uncertified(*consumer),
        ];
        for account in accounts {
            if view.totals(&account)?.debits_posted > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes a job down and sets the payer's means aside for it: where this node keeps its account, there; where a
    /// mandate pays and this node remembers its units, those too. Asking again for the same quote is
    /// refused: a quote is good for one job.
    ///
    /// # Errors
    ///
    /// [`WalletError::LoanDefault`], a refusal of the ledger or of the units, or a store failure.
    pub async fn reserve(
        &self,
        quote: &Verified<Quote>,
        start: JobStart,
        under: Option<CheckedUnder>,
    ) -> Result<(), WalletError> {
        let node = self.node();
        let payer = under.as_ref().map_or(quote.consumer, CheckedUnder::payer);
        // What this node pays itself, and what the authority pays, is held in the payer's own books.
        let standing = self.standing(&payer)?;
        let held_there = payer == node || standing == Standing::Authority;
        let (stranger, budget) = (
            !held_there && matches!(standing, Standing::Stranger(_)),
            self.inner.stranger_budget,
        );
        let id = reservation(&quote.id());
        let transfer = Transfer {
            id,
            kind: Kind::Hold {
                debit: Account::Clearing(payer),
                credit: Account::Revenue,
                amount: quote.max_amount,
                timeout_ms: self.inner.hold_timeout_ms,
                spend: None,
            },
            code: TransferCode::Reservation,
            reference: *quote.id().as_bytes(),
        };
        let signed = quote.signed().clone();
        self.write(move |tables, now| {
            let quote = &signed.body;
            jobs::begin(tables, &signed, start, now)?;
            if let Some(owed) = loan::in_default(tables, (&node, &payer), now)? {
                return Err(WalletError::LoanDefault { owed });
            }
            witness::refuse_frauds(tables, &payer)?;
            if tracking::drawing(tables, &quote.id())?.is_some() {
                return Err(WalletError::OtherReceipt("job under the same quote"));
            }
            if let Some(under) = &under {
                tracking::begin(tables, &node, (quote, under), now)?;
            }
            if held_there {
                return Ok(());
            }
            if stranger {
                return strangers::begin(tables, quote, budget, now);
            }
            match apply(tables, &transfer, now)? {
                Applied::Now => Ok(()),
                Applied::Already => Err(WalletError::OtherReceipt("job under the same quote")),
            }
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

    /// Gives a reservation back: the job never ended in a proposal; `begun` when some of its answer may have
    /// left. Answers whom to tell that the units
    /// of a spend are free, when it is not this node that remembers them.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn release_reservation(
        &self,
        quote: QuoteId,
        begun: bool,
    ) -> Result<Option<(NodeId, Signed<Spend>)>, WalletError> {
        let node = self.node();
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
                        kind: Kind::Void {
                            hold,
                            failed: false,
                        },
                        code,
                        reference,
                    },
                    now,
                )?;
            }
            if !begun {
                // What a stranger got of an answer counts, paid or not.
                strangers::release(tables, &quote)?;
            }
            tracking::not_done(tables, &node, &quote)
        })
        .await
    }

    /// Books what a receipt proves was earned, once, and passes it on to the main agent. What this
    /// node owes the consumer on its loan is paid out of it first.
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
            let job = agreement.lane_key();
            jobs::refuse_settled(tables, &job)?;
            let authority = genesis.authority();
            let drawing = tracking::drawing(tables, &agreement.quote)?;
            let payer = drawing
                .as_ref()
                .map_or(agreement.consumer, |drawing| drawing.payer);
            let stranger =
                authority.is_none_or(|authority| authority != node && authority != payer);
            if stranger && drawing.is_some() {
                return Err(WalletError::OtherReceipt(
                    "payer than the network's authority",
                ));
            }
            if let Some(drawing) = &drawing {
                let own = (payer == node).then(|| drawing.under()).transpose()?;
                if own.is_none() {
                    tracking::done(tables, &node, drawing, agreement.amount)?;
                }
                tracking::earned(tables, (&agreement.quote, id))?;
                if let Some(under) = own {
                    // This node's own mandate: paid and earned in one.
                    return drawing::book(tables, &node, (&receipt, &under), now);
                }
                tables.put_row(Table::Outbox, id.as_bytes(), &payer)?;
            }
            if stranger {
                strangers::earn(tables, &receipt, now)?;
            } else if !agreement.amount.is_zero() {
                let kept_here = authority == Some(node);
                let of = (agreement.amount, now);
                let repaid = repayment::out_of_sale(tables, &genesis, (&payer, &node), of)?;
                let part = repaid.as_ref().map(|(loan, part)| (loan.invitation, *part));
                let group = sale(tables, (&receipt, &payer), (kept_here, part), now)?;
                apply_group(tables, &group, now)?;
                if let Some((loan, _)) = repaid {
                    loan.save(tables)?;
                }
            }
            earnings::book(tables, &receipt, now)?;
            let row = ReceiptRow {
                bytes: receipt.to_bytes(),
                side: Side::Sold,
                at: now,
            };
            tables.put_row(Table::Receipts, id.as_bytes(), &row)?;
            jobs::settled(tables, &job)?;
            if receipt.is_claim() {
                // Its consumer may not know of it.
                tables.put_row(Table::Outbox, id.as_bytes(), &agreement.consumer)?;
            }
            Ok(Applied::Now)
        })
        .await
    }
}

/// The id of the reservation for a quote.
fn reservation(quote: &QuoteId) -> TransferId {
    transfer::id("reservation", &[quote.as_bytes()])
}

/// From the payer's clearing account to revenue, and from there to the main agent. Where this
/// node does not keep the payer's account, what is earned first enters its standing; where a loan
/// is repaid out of it, that part leaves the standing again before the agent gets the rest.
fn sale(
    tables: &impl ReadRows,
    (receipt, payer): (&VerifiedReceipt, &NodeId),
    (kept_here, repaid): (bool, Option<(InvitationId, Amount)>),
    now: tirami_manifest::Timestamp,
) -> Result<Vec<Transfer>, WalletError> {
    let (id, agreement) = (receipt.id(), &receipt.agreement);
    let (amount, reference) = (agreement.amount, *id.as_bytes());
    let clearing = Account::Clearing(*payer);
    let mut group = Vec::new();
    let mut push = |purpose, kind, (code, reference)| {
        // A job has one sale.
        let id = match code {
            TransferCode::Sale => jobs::sale_id(&agreement.lane_key()),
            _ => transfer::id(purpose, &[id.as_bytes()]),
        };
        group.push(Transfer {
            id,
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
            spend: None,
        };
        push("standing", kind, (TransferCode::Acknowledged, reference));
    }
    let kind = match reserved {
        Some(row) if kept_here && amount <= row.amount => Kind::Post { hold, amount },
        // The reservation's time was over before the receipt came: the debt stands all the same.
        _ => Kind::Single {
            debit: clearing,
            credit: Account::Revenue,
            amount,
            spend: None,
        },
    };
    push("sale", kind, (TransferCode::Sale, reference));
    let mut left = amount;
    if let Some((loan, part)) = repaid {
        let kind = Kind::Single {
            debit: Account::Revenue,
            credit: Account::Position,
            amount: part,
            spend: None,
        };
        let loan = transfer::reference(loan.as_bytes());
        push("repaid", kind, (TransferCode::Repayment, loan));
        left = left.saturating_sub(part);
    }
    if !left.is_zero() {
        let kind = Kind::Single {
            debit: Account::Revenue,
            credit: Account::Agent(main_agent()),
            amount: left,
            spend: None,
        };
        push("earnings", kind, (TransferCode::Earnings, reference));
    }
    Ok(group)
}
