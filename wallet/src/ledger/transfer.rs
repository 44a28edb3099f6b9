//! Transfers: what moves, between whom, and why.

use serde::{Deserialize, Serialize};
use tirami_manifest::signed::hash;
use tirami_manifest::{Amount, Timestamp, TransferId};

use super::account::Account;

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
    },
    /// Ends a hold: moves `amount` of it, the rest goes back.
    Post {
        /// Which.
        hold: TransferId,
        /// How much, at most what is held.
        amount: Amount,
    },
    /// Ends a hold: everything goes back.
    Void {
        /// Which.
        hold: TransferId,
    },
    /// Ends a hold whose time is over: everything goes back.
    Expire {
        /// Which.
        hold: TransferId,
    },
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
    /// Everything went back because somebody said so.
    Voided,
    /// Everything went back because its time was over.
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
    /// Minute since 1970 in which it was charged to its mandate, to be given back there.
    pub charged_minute: u64,
    /// `None` while it is open.
    pub end: Option<HoldEnd>,
}

/// An id as a reference, zero-padded.
pub fn reference(id: &[u8]) -> [u8; 32] {
    let mut reference = [0; 32];
    for (to, from) in reference.iter_mut().zip(id) {
        *to = *from;
    }
    reference
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
