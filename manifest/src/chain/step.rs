//! What can happen on a chain.

use crate::amount::Amount;
use crate::bytes::{DecodeError, Reader, Writer};
use crate::commerce::{Agreement, Consent};
use crate::genesis::LoanGrant;
use crate::id::{EntryId, InvitationId, NodeId, ReceiptId};
use crate::key::Signature;
use crate::signed::{Document, Signed, hash};

/// Types of entries. The numbers between are reserved for what does not exist yet: 10 and 12 holds on
/// chains, 14 payments without work, 30 to 32 stakes, 40 and 42 loans between members, 60 and 61
/// audits of work, 70 to 72 referrals and votes.
mod kind {
    pub(super) const GENESIS: u16 = 1;
    pub(super) const CHECKPOINT: u16 = 2;
    pub(super) const SUCCESSION: u16 = 3;
    pub(super) const CLAIM: u16 = 11;
    pub(super) const TRADE: u16 = 13;
    pub(super) const RECEIVE: u16 = 15;
    pub(super) const REPAY: u16 = 41;
    pub(super) const MINT: u16 = 50;
    pub(super) const BORROW: u16 = 51;
    pub(super) const RETIRE: u16 = 52;
}

/// Domain of the commitment to a successor's key.
const SUCCESSOR: &[u8] = b"trm/v1/successor\0";

/// What a chain says of the key that may succeed its own before that key is known.
pub fn successor_hash(successor: &NodeId) -> [u8; 32] {
    hash(SUCCESSOR, &[successor.as_bytes()])
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The chain begins. 1.
    Genesis {
        /// [`successor_hash`] of the key that may succeed this one; zeros when none may.
        successor: [u8; 32],
        /// The chain that this one goes on, when its key was changed.
        predecessor: Option<Predecessor>,
    },
    /// Everything so far in one hash, so that what came before need not be kept by others. 2.
    Checkpoint {
        /// [`super::State::digest`] of the state before this entry.
        state: [u8; 32],
    },
    /// The chain ends: another key goes on. 3.
    Succession {
        /// The key whose hash the first entry names.
        successor: NodeId,
    },
    /// One half of a trade: the payer's or the provider's. 13; 11 where the consumer's consent is a voucher.
    Trade(Box<Trade>),
    /// A credit that waited is certified and can be spent. 15.
    Receive {
        /// Who paid.
        payer: NodeId,
        /// For which receipt.
        receipt: ReceiptId,
        /// How much.
        amount: Amount,
        /// The payer's entry that was certified, or one certified after it.
        debit: EntryId,
    },
    /// The borrower of a loan pays it back. 41.
    Repay(Repaid),
    /// An issuer makes TRM: it lends it to a newcomer. 50.
    Mint(Box<Signed<LoanGrant>>),
    /// A newcomer receives what an issuer lent it. 51.
    Borrow(Box<Signed<LoanGrant>>),
    /// An issuer retires TRM that came back on a loan. 52.
    Retire(Repaid),
}

/// The end of the chain that another goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Whose chain.
    pub author: NodeId,
    /// Number of its last entry.
    pub seq: u64,
    /// Id of its last entry.
    pub entry: EntryId,
}

/// A trade, as both parties signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trade {
    /// Whose money pays: the consumer's, or that of whoever granted the mandate that it spent under.
    pub payer: NodeId,
    /// What was agreed.
    pub agreement: Agreement,
    /// The provider's signature over it.
    pub provider_signature: Signature,
    /// How the consumer agreed to it.
    pub consent: Consent,
}

/// Part of a loan that is paid back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repaid {
    /// The other side: the lender where the borrower says it, the borrower where the issuer does.
    pub other: NodeId,
    /// The invitation whose loan it is.
    pub invitation: InvitationId,
    /// How much.
    pub amount: Amount,
    /// The sale it came out of; zeros when the borrower paid it beside its sales.
    pub receipt: [u8; 32],
}

impl Step {
    /// The entry's type.
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Genesis { .. } => kind::GENESIS,
            Self::Checkpoint { .. } => kind::CHECKPOINT,
            Self::Succession { .. } => kind::SUCCESSION,
            Self::Trade(trade) => match trade.consent {
                Consent::Signature(_) => kind::TRADE,
                Consent::Voucher(_) => kind::CLAIM,
            },
            Self::Receive { .. } => kind::RECEIVE,
            Self::Repay(_) => kind::REPAY,
            Self::Mint(_) => kind::MINT,
            Self::Borrow(_) => kind::BORROW,
            Self::Retire(_) => kind::RETIRE,
        }
    }

    /// The word people and JSON see.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Genesis { .. } => "genesis",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Succession { .. } => "succession",
            Self::Trade(trade) => match trade.consent {
                Consent::Signature(_) => "trade",
                Consent::Voucher(_) => "claim",
            },
            Self::Receive { .. } => "receive",
            Self::Repay(_) => "repay",
            Self::Mint(_) => "mint",
            Self::Borrow(_) => "borrow",
            Self::Retire(_) => "retire",
        }
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        match self {
            Self::Genesis {
                successor,
                predecessor,
            } => {
                out.raw(successor).u8(u8::from(predecessor.is_some()));
                if let Some(before) = predecessor {
                    out.raw(before.author.as_bytes())
                        .u64(before.seq)
                        .raw(before.entry.as_bytes());
                }
            }
            Self::Checkpoint { state } => {
                out.raw(state);
            }
            Self::Succession { successor } => {
                out.raw(successor.as_bytes());
            }
            Self::Trade(trade) => {
                out.raw(trade.payer.as_bytes());
                trade.agreement.encode(out);
                out.raw(trade.provider_signature.as_bytes());
                trade.consent.encode(out);
            }
            Self::Receive {
                payer,
                receipt,
                amount,
                debit,
            } => {
                out.raw(payer.as_bytes())
                    .raw(receipt.as_bytes())
                    .u64(amount.utrm())
                    .raw(debit.as_bytes());
            }
            Self::Repay(repaid) | Self::Retire(repaid) => {
                out.raw(repaid.other.as_bytes())
                    .raw(repaid.invitation.as_bytes())
                    .u64(repaid.amount.utrm())
                    .raw(&repaid.receipt);
            }
            Self::Mint(grant) | Self::Borrow(grant) => {
                out.raw(&grant.to_bytes());
            }
        }
    }

    pub(super) fn decode(kind: u16, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            kind::GENESIS => Self::Genesis {
                successor: from.raw("successor")?,
                predecessor: match from.u8("predecessor")? {
                    0 => None,
                    1 => Some(Predecessor {
                        author: NodeId::from_bytes(from.raw("predecessor")?),
                        seq: from.u64("predecessor")?,
                        entry: EntryId::from_bytes(from.raw("predecessor")?),
                    }),
                    _ => return Err(DecodeError::Value("predecessor")),
                },
            },
            kind::CHECKPOINT => Self::Checkpoint {
                state: from.raw("state")?,
            },
            kind::SUCCESSION => Self::Succession {
                successor: NodeId::from_bytes(from.raw("successor")?),
            },
            kind::TRADE => trade(from, Consent::signature)?,
            kind::CLAIM => trade(from, Consent::voucher)?,
            kind::RECEIVE => Self::Receive {
                payer: NodeId::from_bytes(from.raw("payer")?),
                receipt: ReceiptId::from_bytes(from.raw("receipt")?),
                amount: from.amount("amount")?,
                debit: EntryId::from_bytes(from.raw("debit")?),
            },
            kind::REPAY => Self::Repay(Repaid::decode(from)?),
            kind::MINT => Self::Mint(grant(from)?),
            kind::BORROW => Self::Borrow(grant(from)?),
            kind::RETIRE => Self::Retire(Repaid::decode(from)?),
            _ => return Err(DecodeError::Value("type")),
        })
    }
}

impl Repaid {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            other: NodeId::from_bytes(from.raw("other")?),
            invitation: InvitationId::from_bytes(from.raw("invitation")?),
            amount: from.amount("amount")?,
            receipt: from.raw("receipt")?,
        })
    }
}

fn trade(
    from: &mut Reader<'_>,
    consent: fn(&mut Reader<'_>) -> Result<Consent, DecodeError>,
) -> Result<Step, DecodeError> {
    Ok(Step::Trade(Box::new(Trade {
        payer: NodeId::from_bytes(from.raw("payer")?),
        agreement: Agreement::decode(from)?,
        provider_signature: Signature::from_bytes(from.raw("provider signature")?),
        consent: consent(from)?,
    })))
}

fn grant(from: &mut Reader<'_>) -> Result<Box<Signed<LoanGrant>>, DecodeError> {
    Ok(Box::new(Signed {
        body: LoanGrant::decode(from)?,
        signature: Signature::from_bytes(from.raw("grant signature")?),
    }))
}
