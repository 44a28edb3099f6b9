//! Why the ledger said no. A refusal is an answer: nothing was written.

use serde::{Deserialize, Serialize};
use tirami_manifest::{AgentId, Amount, Timestamp, TransferId};

use super::account::Account;
use super::transfer::HoldEnd;
use crate::store::StoreError;

/// A limit of a mandate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Most that one request may hold.
    PerRequest,
    /// Most in any 60 minutes.
    Hour,
    /// Most in the mandate's lifetime.
    Lifetime,
}

impl Limit {
    /// The word people and JSON see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PerRequest => "per_request",
            Self::Hour => "hour",
            Self::Lifetime => "lifetime",
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PerRequest => "per-request",
            Self::Hour => "hourly",
            Self::Lifetime => "lifetime",
        })
    }
}

/// Why the ledger said no. The order of variants is the order in which they are given when several
/// apply; the number in front of each is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// 1: the id names another transfer.
    #[error("another transfer already has the id {id}")]
    IdTaken {
        /// The id.
        id: TransferId,
    },
    /// 2: nothing would move.
    #[error("an amount of zero moves nothing")]
    Zero,
    /// 3: it would move from an account to itself.
    #[error("a transfer needs two different accounts")]
    SameAccount,
    /// 4: no hold has this id.
    #[error("there is no hold {hold}")]
    UnknownHold {
        /// The id.
        hold: TransferId,
    },
    /// 5: a hold ends once.
    #[error("the hold {hold} has already ended ({end:?})")]
    HoldEnded {
        /// The id.
        hold: TransferId,
        /// How.
        end: HoldEnd,
    },
    /// 6: more than is set aside.
    #[error("the hold has {held} TRM, {asked} TRM asked")]
    MoreThanHeld {
        /// Set aside.
        held: Amount,
        /// Asked for.
        asked: Amount,
    },
    /// 7: the kill switch is on.
    #[error("spending is frozen; the reason given: \"{reason}\"")]
    Frozen {
        /// What the one who froze said.
        reason: String,
    },
    /// 8: nobody allowed this agent to spend.
    #[error("agent {} has no mandate", agent.short())]
    NoMandate {
        /// Who asked.
        agent: AgentId,
    },
    /// 9, 10, 11: a limit of the mandate.
    #[error("the {limit} limit is {allowed} TRM, {left} TRM of it is left, {asked} TRM asked")]
    OverBudget {
        /// Which limit.
        limit: Limit,
        /// How much it allows.
        allowed: Amount,
        /// How much of that is left.
        left: Amount,
        /// How much was asked.
        asked: Amount,
        /// When more will be left, if time alone brings it.
        frees_at: Option<Timestamp>,
    },
    /// 12: the issuer's quota is used up.
    #[error("the issuer may make {left} TRM more, {asked} TRM asked")]
    OverCap {
        /// Left of the quota.
        left: Amount,
        /// Asked for.
        asked: Amount,
    },
    /// 13: not enough in the account.
    #[error("{account} has {available} TRM available, {asked} TRM asked")]
    NotEnough {
        /// Which.
        account: Account,
        /// Posted minus held.
        available: Amount,
        /// Asked for.
        asked: Amount,
    },
}

/// What can come back from changing the ledger.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The rules say no; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
