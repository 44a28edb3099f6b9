//! Money set aside for one purchase: the only way to pay.

use tirami_manifest::commerce::VerifiedReceipt;
use tirami_manifest::mandate::Action;
use tirami_manifest::{
    Amount, GrantId, ModelId, Multiplier, NodeId, QuoteId, Timestamp, TransferId,
};

use crate::approvals;
use crate::claims;
use crate::economy::repayment;
use crate::error::WalletError;
use crate::intent::{Attempt, seal, store_answer};
use crate::ledger::account::Account;
use crate::ledger::apply::{Applied, apply, apply_group, renew};
use crate::ledger::gate::refuse_when_frozen;
use crate::ledger::journal::{self, Refused};
use crate::ledger::refusal::{ApplyError, Refusal};
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{Table, Tables};
use crate::ledger::transfer::{self, Kind, Spend, Transfer, TransferCode, reference};
use crate::membership::network;
use crate::statement::{ReceiptRow, Side};
use crate::travelling::{Under, holding};
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
    /// What is bought, and from whom.
    pub work: Work,
    /// The mandate that pays, when it is not the agent's account.
    pub under: Option<GrantId>,
}

/// What a spend is for: what the gate judges beside the amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// What is done.
    pub action: Action,
    /// Who does it; unknown is not allowed where a mandate lists payees.
    pub payee: Option<NodeId>,
    /// The model; unknown is not allowed where a mandate lists models.
    pub model: Option<ModelId>,
    /// What is asked relative to par.
    pub price: Option<Multiplier>,
}

impl HoldRequest {
    /// What the gate judges.
    pub(crate) fn spend(&self) -> Spend {
        self.work.of(&self.attempt)
    }
}

/// What a request is counted by: the first 8 bytes of what its intent's key stands for.
pub(crate) fn request_of(body: &[u8; 32]) -> u64 {
    body.first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Work {
    /// The spend of one try at an intent.
    pub(crate) fn of(self, attempt: &Attempt) -> Spend {
        Spend {
            approval: Some(approvals::id(attempt, &self)),
            request: request_of(&attempt.body),
            ..self.by(attempt.intent().agent())
        }
    }

    /// Somebody's spend on this, which has no name yet.
    pub(crate) const fn by(self, agent: tirami_manifest::AgentId) -> Spend {
        Spend {
            agent,
            action: self.action,
            payee: self.payee,
            model: self.model,
            price: self.price,
            request: 0,
            approval: None,
        }
    }
}

/// Why a hold is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoidReason {
    /// The provider did not deliver: counts for the breakers.
    Failed,
    /// Nobody wants it any more: a freeze, a cancellation, a restart.
    CalledOff,
    /// The provider said that it did not take the job, so it has no claim of its own either.
    NotTaken,
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
    /// Units of a mandate that pays instead of the agent's account; the ledger holds nothing then.
    under: Option<Box<Under>>,
    wallet: Wallet,
}

impl Wallet {
    /// Sets money aside, if the gate lets it: freeze, every mandate of the chain and funds are
    /// checked in the transaction that makes the hold. What needs the owner's approval is remembered
    /// as waiting for it, in the same transaction. A loan that is due is paid back first, whether the hold is
    /// made or refused.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], [`WalletError::Denied`], or a store failure.
    pub async fn hold(&self, request: HoldRequest) -> Result<Hold, WalletError> {
        let (attempt, quote) = (request.attempt.clone(), request.quote);
        let id = attempt.hold_id();
        let wallet = self.clone();
        let under = self
            .write(move |tables, now| match request.under {
                Some(grant) => {
                    let under = holding::name_units(tables, &wallet, (&request, grant), now)?;
                    Ok(Ok(Some(under)))
                }
                None => Ok(wallet.hold_money(tables, &request, now)?.map(|()| None)),
            })
            .await??;
        Ok(Hold {
            id,
            attempt,
            quote,
            under: under.map(Box::new),
            wallet: self.clone(),
        })
    }

    fn hold_money(
        &self,
        tables: &mut impl Tables,
        request: &HoldRequest,
        now: Timestamp,
    ) -> Result<Result<(), Refusal>, WalletError> {
        let spend = request.spend();
        // After its due date nothing of what was lent is spent on anything else.
        repayment::pay_due(tables, &self.node(), now)?;
        let payer = tables
            .mandate(&spend.agent)?
            .map_or(spend.agent, |row| row.payer);
        let transfer = Transfer {
            id: request.attempt.hold_id(),
            kind: Kind::Hold {
                debit: Account::Agent(payer),
                credit: Account::Outgoing,
                amount: request.amount,
                timeout_ms: self.inner.hold_timeout_ms,
                spend: Some(spend),
            },
            code: TransferCode::Budget,
            reference: *request.quote.as_bytes(),
        };
        set_aside(tables, &transfer, &request.attempt.intent().key, now)
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
                    apply(tables, &void(hold, VoidReason::CalledOff), now)?;
                    count = count.saturating_add(1);
                }
            }
            Ok(count)
        })
        .await
    }
}

/// Makes a hold that an agent pays for. A refusal is written in the journal, and what needs the owner's
/// approval is remembered as waiting for it, although the hold is refused.
pub(crate) fn set_aside(
    tables: &mut impl Tables,
    transfer: &Transfer,
    key: &str,
    now: Timestamp,
) -> Result<Result<(), Refusal>, WalletError> {
    match (apply(tables, transfer, now), transfer.kind) {
        (Ok(Applied::Now), _) => Ok(Ok(())),
        // The right to end a hold exists once, and somebody has had it.
        (Ok(Applied::Already), _) => Err(Refusal::IdTaken { id: transfer.id }.into()),
        (
            Err(ApplyError::Refused(refusal)),
            Kind::Hold {
                amount,
                spend: Some(spend),
                ..
            },
        ) => {
            if matches!(refusal, Refusal::NeedsApproval { .. }) {
                approvals::ask(tables, &spend, key, amount, now)?;
            }
            let refused = Refused {
                agent: spend.agent,
                amount,
                payee: spend.payee,
                rule: refusal.number(),
            };
            journal::note_refusal(tables, refused, now)?;
            Ok(Err(refusal))
        }
        (Err(error), _) => Err(error.into()),
    }
}

impl Hold {
    /// The hold's transfer in the ledger, named in the receipt.
    pub const fn id(&self) -> TransferId {
        self.id
    }

    /// What pays instead of the agent's account: to be sent with the prompt.
    pub fn under(&self) -> Option<&Under> {
        self.under.as_deref()
    }

    /// Lets the hold live its whole timeout again: the provider gave a sign of life.
    ///
    /// # Errors
    ///
    /// A refusal when the hold has ended, or a store failure.
    pub async fn renew(&self) -> Result<(), WalletError> {
        let id = self.id;
        if self.under.is_some() {
            // Units stay named until their spend is over.
            return Ok(());
        }
        self.wallet
            .write(move |tables, now| Ok(renew(tables, &id, now)?))
            .await
    }

    /// Promises `amount` in all to the provider, for good: whatever becomes of the hold, that much is
    /// paid. To be on disk before the voucher is sent.
    ///
    /// # Errors
    ///
    /// A refusal: frozen, more than is held, or not more than before; or a store failure.
    pub async fn vouch(&self, amount: Amount) -> Result<(), WalletError> {
        let hold = self.id;
        self.wallet
            .write(move |tables, now| {
                let utrm = amount.utrm().to_le_bytes();
                let vouch = Transfer {
                    id: transfer::id_after(&hold, "vouch", &[hold.as_bytes(), &utrm]),
                    kind: Kind::Vouch { hold, amount },
                    code: TransferCode::Budget,
                    reference: reference(hold.as_bytes()),
                };
                apply(tables, &vouch, now)?;
                Ok(claims::promise(tables, &hold, now)?)
            })
            .await
    }

    /// Pays what the receipt proves; the rest returns to the payer. In one transaction: the post,
    /// what of it repays the provider's loan from this node, the receipt with our signature, the outbox row that resends it, and the intent's answer.
    ///
    /// # Errors
    ///
    /// [`WalletError::OtherReceipt`], [`WalletError::KeyRunning`] when another try at the same
    /// intent was paid for first, or a refusal: the freeze stops payment of more than was vouched
    /// for. Then nothing was paid and the hold is as it was.
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
        let grant = self.under.as_ref().map(|under| under.spend.body.chain);
        self.wallet
            .write(move |tables, now| {
                let agreement = &receipt.agreement;
                let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
                let network = genesis.id();
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
                // What was vouched for is owed, freeze or not.
                let vouched = tables.hold(&hold)?.map_or(Amount::ZERO, |row| row.vouched);
                if agreement.amount > vouched {
                    refuse_when_frozen(tables)?;
                }
                let agent = intent.agent();
                let side = if let Some(grant) = grant {
                    holding::settle_units(tables, hold, agreement.amount)?;
                    Side::BoughtUnder { agent, grant }
                } else {
                    pay(tables, &hold, &receipt, now)?;
                    let parties = (&node, &agreement.provider);
                    let paid = (receipt.id(), agreement.amount);
                    repayment::retire(tables, &genesis, parties, paid, now)?;
                    Side::Bought { agent }
                };
                claims::kept(tables, &hold)?;
                let row = ReceiptRow {
                    bytes: receipt.to_bytes(),
                    side,
                    at: now,
                };
                let id = receipt.id();
                tables.put_row(Table::Receipts, id.as_bytes(), &row)?;
                tables.put_row(Table::Outbox, id.as_bytes(), &agreement.provider)?;
                store_answer(tables, &intent, sealed)
            })
            .await
    }

    /// Returns everything but what was vouched for.
    ///
    /// # Errors
    ///
    /// A refusal when the hold has ended, or a store failure.
    pub async fn void(self, reason: VoidReason) -> Result<(), WalletError> {
        let id = self.id;
        if self.under.is_some() && reason != VoidReason::NotTaken {
            // The provider may still count the units as used, until the spend is over.
            return Ok(());
        }
        let named = self.under.is_some();
        self.wallet
            .write(move |tables, now| {
                if named {
                    return holding::free_units(tables, id);
                }
                apply(tables, &void(id, reason), now)?;
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
        apply(tables, &void(*hold, VoidReason::CalledOff), now)?;
        return Ok(());
    }
    let post = Transfer {
        id: transfer::id_after(hold, "post", &[hold.as_bytes()]),
        kind: Kind::Post {
            hold: *hold,
            amount: agreement.amount,
        },
        code: TransferCode::Budget,
        reference,
    };
    let owe = Transfer {
        id: transfer::id_after(hold, "purchase", &[id.as_bytes()]),
        kind: Kind::Single {
            debit: Account::Outgoing,
            credit: Account::Clearing(agreement.provider),
            amount: agreement.amount,
            spend: None,
        },
        code: TransferCode::Purchase,
        reference,
    };
    apply_group(tables, &[post, owe], now)?;
    Ok(())
}

fn void(hold: TransferId, reason: VoidReason) -> Transfer {
    Transfer {
        id: transfer::id_after(&hold, "void", &[hold.as_bytes()]),
        kind: Kind::Void {
            hold,
            failed: reason == VoidReason::Failed,
        },
        code: TransferCode::Budget,
        reference: reference(hold.as_bytes()),
    }
}
