//! Transfers: what moves, between whom, and why.

use serde::{Deserialize, Serialize};
use tirami_manifest::mandate::{Action, Pot};
use tirami_manifest::signed::hash;
use tirami_manifest::{
    AgentId, Amount, ApprovalId, ModelId, Multiplier, NodeId, Timestamp, TransferId,
};

use super::account::Account;
use super::pot::Draw;

mod layout;

/// Domain of a transfer id.
const TRANSFER_DOMAIN: &[u8] = b"trm/v1/transfer\0";

/// One movement of value, immutable once applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Made from what the transfer is for; see [`id`].
    pub id: TransferId,
    /// What it does.
    pub kind: Kind,
    /// Why.
    pub code: TransferCode,
    /// What it is for: a receipt, a quote or an invitation, zero-padded.
    pub reference: [u8; 32],
}

/// What a transfer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Moves an amount at once.
    Single {
        /// From.
        debit: Account,
        /// To.
        credit: Account,
        /// How much.
        amount: Amount,
        /// Who spends on what, when it takes from an agent.
        spend: Option<Spend>,
    },
    /// Sets an amount aside.
    Hold {
        /// From.
        debit: Account,
        /// To, when it is posted.
        credit: Account,
        /// How much at most.
        amount: Amount,
        /// Milliseconds until it expires by itself; the ledger dates it.
        timeout_ms: u64,
        /// Who spends on what, when it takes from an agent.
        spend: Option<Spend>,
    },
    /// Promises part of a hold to its payee: whatever ends the hold moves that much.
    Vouch {
        /// Which.
        hold: TransferId,
        /// How much in all, more than was vouched for before.
        amount: Amount,
    },
    /// Ends a hold: moves `amount` of it, the rest goes back.
    Post {
        /// Which.
        hold: TransferId,
        /// How much, at least what was vouched for and at most what is held.
        amount: Amount,
    },
    /// Ends a hold: everything goes back but what was vouched for.
    Void {
        /// Which.
        hold: TransferId,
        /// Whether it counts as a failed purchase.
        failed: bool,
    },
    /// Ends a hold whose time is over: everything goes back but what was vouched for.
    Expire {
        /// Which.
        hold: TransferId,
    },
    /// Moves money between two pots, of one agent or of two: the owner's doing, not a spend.
    Allot {
        /// From this agent.
        from: AgentId,
        /// Out of this pot.
        from_pot: Pot,
        /// To this agent.
        to: AgentId,
        /// Into this pot.
        to_pot: Pot,
        /// How much.
        amount: Amount,
    },
    /// Moves part of a hold that was promised beforehand, by a mandate that travels; the rest stays
    /// set aside. One that moves all that is left ends the hold. A freeze does not stop it.
    Draw {
        /// Which.
        hold: TransferId,
        /// How much, at most what is still held.
        amount: Amount,
    },
}

/// Who spends, and on what: what the gate judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    /// Who: the holder of the mandate.
    pub agent: AgentId,
    /// What is done.
    pub action: Action,
    /// Who is paid.
    pub payee: Option<NodeId>,
    /// For which model.
    pub model: Option<ModelId>,
    /// What is asked relative to par.
    pub price: Option<Multiplier>,
    /// The first 8 bytes of the hash of what is asked for, to tell a loop.
    pub request: u64,
    /// Which approval would let it through.
    pub approval: Option<ApprovalId>,
}

/// Why value moves. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransferCode {
    /// A consumer's budget for one intent. 1.
    Budget,
    /// What a consumer owes a provider by receipt. 2.
    Purchase,
    /// What the authority acknowledged. 3.
    Acknowledged,
    /// A provider's claim on a consumer's standing while it works. 4.
    Reservation,
    /// What a provider earned by receipt. 5.
    Sale,
    /// Revenue passed on to the node's main agent. 6.
    Earnings,
    /// A newcomer's first loan. 7.
    WelcomeLoan,
    /// The end of a hold whose time was over. 8.
    Expiry,
    /// The owner moves money between pots or agents. 9.
    Allotment,
    /// A loan is paid back. 10.
    Repayment,
    /// What was set aside for a mandate that travels. 11.
    Delegation,
    /// What was earned from a peer whose payment is not certified. 12.
    Uncertified,
    /// The payment was certified. 13.
    Certified,
    /// What a member had goes to the key that succeeded its own. 14.
    Succession,
    /// What was vouched for and its provider could not prove comes back. 15.
    Unclaimed,
}

impl TransferCode {
    /// The word people and JSON see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Purchase => "purchase",
            Self::Acknowledged => "acknowledged",
            Self::Reservation => "reservation",
            Self::Sale => "sale",
            Self::Earnings => "earnings",
            Self::WelcomeLoan => "welcome_loan",
            Self::Expiry => "expiry",
            Self::Allotment => "allotment",
            Self::Repayment => "repayment",
            Self::Delegation => "delegation",
            Self::Uncertified => "uncertified",
            Self::Certified => "certified",
            Self::Succession => "succession",
            Self::Unclaimed => "unclaimed",
        }
    }
}

/// A transfer as the ledger recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number in the ledger, from 1 without gaps.
    pub seq: u64,
    /// When it was applied.
    pub at: Timestamp,
    /// What was applied.
    pub transfer: Transfer,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldEnd {
    /// Some or all of it moved.
    Posted,
    /// It went back because somebody said so, but for what was vouched for.
    Voided,
    /// It went back because its time was over, but for what was vouched for.
    Expired,
}

/// A hold as the ledger keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRow {
    /// From.
    pub debit: Account,
    /// To, when it is posted.
    pub credit: Account,
    /// How much is set aside.
    pub amount: Amount,
    /// How long from the last sign of life.
    pub timeout_ms: u64,
    /// When it expires.
    pub expires: Timestamp,
    /// What it was charged to, when it takes from an agent.
    pub charge: Option<Charge>,
    /// Promised to the payee for good.
    pub vouched: Amount,
    /// `None` while it is open.
    pub end: Option<HoldEnd>,
}

/// What a spend was charged to, so that the rest is given back there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Whose mandate, and so which chain of mandates.
    pub agent: AgentId,
    /// When.
    pub at: Timestamp,
    /// Who was to be paid.
    pub payee: Option<NodeId>,
    /// Which mandates of the chain counted it against their limit for that payee: a bit for each,
    /// the spender's own the lowest.
    pub counted_to_payee: u16,
    /// Out of which pots.
    pub draw: Draw,
}

/// An id as a reference, zero-padded.
pub fn reference(id: &[u8]) -> [u8; 32] {
    let mut reference = [0; 32];
    for (to, from) in reference.iter_mut().zip(id) {
        *to = *from;
    }
    reference
}

/// The id of a transfer that belongs to something begun at `at`: the time in milliseconds (6 bytes,
/// big-endian), then 10 bytes of SHA-256 over what it is for. Ids made one after the other lie side
/// by side in the store, so that a payment touches the same few pages however long the history is.
pub fn id_at(at: Timestamp, purpose: &str, parts: &[&[u8]]) -> TransferId {
    let [_, _, time @ ..] = at.ms().to_be_bytes();
    with_time(time, purpose, parts)
}

/// The id of a transfer that follows another, beside it in the store.
pub fn id_after(earlier: &TransferId, purpose: &str, parts: &[&[u8]]) -> TransferId {
    let time = earlier.as_bytes().first_chunk().copied().unwrap_or([0; 6]);
    with_time(time, purpose, parts)
}

fn with_time(time: [u8; 6], purpose: &str, parts: &[&[u8]]) -> TransferId {
    let mut bytes = *id(purpose, parts).as_bytes();
    for (to, from) in bytes.iter_mut().zip(time) {
        *to = from;
    }
    TransferId::from_bytes(bytes)
}

/// The id of a transfer: the first 16 bytes of SHA-256 over what it is for.
pub fn id(purpose: &str, parts: &[&[u8]]) -> TransferId {
    let mut all: Vec<&[u8]> = vec![purpose.as_bytes(), b"\0"];
    all.extend_from_slice(parts);
    let digest = hash(TRANSFER_DOMAIN, &all);
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(digest) {
        *to = from;
    }
    TransferId::from_bytes(id)
}
