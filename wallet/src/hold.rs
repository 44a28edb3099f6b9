//! Money set aside for one purchase: the only way to pay.

use tirami_manifest::commerce::VerifiedReceipt;
use tirami_manifest::{Amount, QuoteId, Timestamp, TransferId};

use crate::error::WalletError;
use crate::intent::{Attempt, seal, store_answer};
use crate::ledger::account::Account;
use crate::ledger::apply::{Applied, apply, apply_group, renew};
use crate::ledger::gate::refuse_when_frozen;
use crate::ledger::refusal::Refusal;
use crate::ledger::tables::{Table, Tables};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode, reference};
use crate::membership::network;
use crate::statement::{ReceiptRow, Side};
use crate::wallet::Wallet;

/// What is to be set aside, and for what.
#[derive(Clone, Debug)]
pub struct HoldRequest {
    /// The try it belongs to; names the agent.
    pub attempt: Attempt,
    /// How much at most.
    pub amount: Amount,
    /// The quote it is for.
    pub quote: QuoteId,
}

/// Money set aside for one purchase: settle it, void it, or let it expire.
///
/// Not `Clone`: whoever has it has the only right to end it. Losing it (a crash, a drop) loses no
/// money; the ledger expires the hold, and `recover` may end it sooner.
#[must_use = "settle or void the hold, or say that it should expire"]
#[derive(Debug)]
pub struct Hold {
    id: TransferId,
    attempt: Attempt,
    quote: QuoteId,
    wallet: Wallet,
}

impl Wallet {
    /// Sets money aside, if the gate lets it: freeze, mandate, limits and funds are checked in the
    /// transaction that makes the hold.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], or a store failure.
    pub async fn hold(&self, request: HoldRequest) -> Result<Hold, WalletError> {
        let HoldRequest {
            attempt,
            amount,
            quote,
        } = request;
        let id = attempt.hold_id();
        let transfer = Transfer {
            id,
            kind: Kind::Hold {
                debit: Account::Agent(attempt.intent().agent()),
                credit: Account::Outgoing,
                amount,
                timeout_ms: self.inner.hold_timeout_ms,
            },
            code: TransferCode::Budget,
            reference: *quote.as_bytes(),
        };
        self.write(move |tables, now| match apply(tables, &transfer, now)? {
            Applied::Now => Ok(()),
            // The right to end a hold exists once, and somebody has had it.
            Applied::Already => Err(Refusal::IdTaken { id: transfer.id }.into()),
        })
        .await?;
        Ok(Hold {
            id,
            attempt,
            quote,
            wallet: self.clone(),
        })
    }

    /// Gives back every hold for a purchase that is still open. To be called before anything is
    /// bought: a purchase that was settled has no open hold, and one that was not has no signature
    /// of ours, so nothing is owed on it.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn void_open_purchases(&self) -> Result<usize, WalletError> {
        self.write(|tables, now| {
            let mut count = 0_usize;
            for (hold, row) in crate::ledger::audit::open_holds(tables)? {
                if row.credit == Account::Outgoing && row.expires > now {
                    apply(tables, &void(hold), now)?;
                    count = count.saturating_add(1);
                }
            }
            Ok(count)
        })
        .await
    }
}

impl Hold {
    /// The hold's transfer in the ledger, named in the receipt.
    pub const fn id(&self) -> TransferId {
        self.id
    }

    /// Lets the hold live its whole timeout again: the provider gave a sign of life.
    ///
    /// # Errors
    ///
    /// A refusal when the hold has ended, or a store failure.
    pub async fn renew(&self) -> Result<(), WalletError> {
        let id = self.id;
        self.wallet
            .write(move |tables, now| Ok(renew(tables, &id, now)?))
            .await
    }

    /// Pays what the receipt proves; the rest returns to the payer. In one transaction: the post,
    /// the receipt with our signature, the outbox row that resends it, and the intent's answer.
    ///
    /// # Errors
    ///
    /// [`WalletError::OtherReceipt`], [`WalletError::KeyRunning`] when another try at the same
    /// intent was paid for first, or a refusal: the freeze stops payment too, as long as
    /// nothing was vouched for. Then nothing was paid and the hold is as it was.
    pub async fn settle(
        self,
        receipt: VerifiedReceipt,
        answer: Vec<u8>,
    ) -> Result<(), (Self, WalletError)> {
        match self.try_settle(receipt, answer).await {
            Ok(()) => Ok(()),
            Err(error) => Err((self, error)),
        }
    }

    async fn try_settle(
        &self,
        receipt: VerifiedReceipt,
        answer: Vec<u8>,
    ) -> Result<(), WalletError> {
        let (node, hold, quote) = (self.wallet.node(), self.id, self.quote);
        let intent = self.attempt.intent().clone();
        let sealed = seal(&self.wallet.inner.key, &answer)?;
        self.wallet
            .write(move |tables, now| {
                let agreement = &receipt.agreement;
                let network = network(tables)?.ok_or(WalletError::NoNetwork)?.id();
                for (same, what) in [
                    (agreement.hold == hold, "hold"),
                    (agreement.quote == quote, "quote"),
                    (agreement.consumer == node, "consumer"),
                    (agreement.network == network, "network"),
                ] {
                    if !same {
                        return Err(WalletError::OtherReceipt(what));
                    }
                }
                refuse_when_frozen(tables)?;
                pay(tables, &hold, &receipt, now)?;
                let row = ReceiptRow {
                    bytes: receipt.to_bytes(),
                    side: Side::Bought {
                        agent: intent.agent(),
                    },
                    at: now,
                };
                let id = receipt.id();
                tables.put_row(Table::Receipts, id.as_bytes(), &row)?;
                tables.put_row(Table::Outbox, id.as_bytes(), &agreement.provider)?;
                store_answer(tables, &intent, sealed)
            })
            .await
    }

    /// Returns everything. Only when we have signed nothing.
    ///
    /// # Errors
    ///
    /// A refusal when the hold has ended, or a store failure.
    pub async fn void(self) -> Result<(), WalletError> {
        let id = self.id;
        self.wallet
            .write(move |tables, now| {
                apply(tables, &void(id), now)?;
                Ok(())
            })
            .await
    }

    /// Ends nothing now. For the case where we cannot know what is owed.
    pub fn leave_to_expire(self) {}
}

/// Posts what the receipt says and moves it on to the provider's clearing account.
fn pay(
    tables: &mut impl Tables,
    hold: &TransferId,
    receipt: &VerifiedReceipt,
    now: Timestamp,
) -> Result<(), WalletError> {
    let (id, agreement) = (receipt.id(), &receipt.agreement);
    let reference = *id.as_bytes();
    if agreement.amount.is_zero() {
        apply(tables, &void(*hold), now)?;
        return Ok(());
    }
    let post = Transfer {
        id: transfer::id("post", &[hold.as_bytes()]),
        kind: Kind::Post {
            hold: *hold,
            amount: agreement.amount,
        },
        code: TransferCode::Budget,
        reference,
    };
    let owe = Transfer {
        id: transfer::id("purchase", &[id.as_bytes()]),
        kind: Kind::Single {
            debit: Account::Outgoing,
            credit: Account::Clearing(agreement.provider),
            amount: agreement.amount,
        },
        code: TransferCode::Purchase,
        reference,
    };
    apply_group(tables, &[post, owe], now)?;
    Ok(())
}

fn void(hold: TransferId) -> Transfer {
    Transfer {
        id: transfer::id("void", &[hold.as_bytes()]),
        kind: Kind::Void { hold },
        code: TransferCode::Budget,
        reference: reference(hold.as_bytes()),
    }
}
