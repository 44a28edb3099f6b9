//! Why the ledger said no. A refusal is an answer: nothing was written.

use tirami_manifest::{AgentId, Amount, ApprovalId, Timestamp, TransferId};

use super::account::Account;
use super::rule::Rule;
use super::transfer::HoldEnd;
use crate::store::StoreError;

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
    /// 7: less than was promised to the payee.
    #[error("{vouched} TRM of the hold are vouched for, {asked} TRM asked")]
    Vouched {
        /// Vouched for.
        vouched: Amount,
        /// Asked for.
        asked: Amount,
    },
    /// 8: the kill switch is on.
    #[error("spending is frozen; the reason given: \"{reason}\"")]
    Frozen {
        /// What the one who froze said.
        reason: String,
    },
    /// 9: nobody allowed this agent to spend from this account.
    #[error("agent {} has no mandate", agent.short())]
    NoMandate {
        /// Who asked.
        agent: AgentId,
    },
    /// 10 to 16: something that the mandate does not allow at all, or not now.
    #[error("{}", not_allowed(*rule, *mandate, *passes_at))]
    NotAllowed {
        /// Which rule.
        rule: Rule,
        /// Whose mandate.
        mandate: AgentId,
        /// When it would pass, if time alone brings that.
        passes_at: Option<Timestamp>,
    },
    /// 17 to 20: too many.
    #[error("{}", too_many(*rule, *seen, *allowed))]
    TooMany {
        /// Which rule.
        rule: Rule,
        /// Whose mandate.
        mandate: AgentId,
        /// Seen.
        seen: u64,
        /// Allowed.
        allowed: u64,
        /// When it would pass, if time alone brings that.
        passes_at: Option<Timestamp>,
    },
    /// 21 to 28: a limit of the mandate.
    #[error("the {limit} limit is {allowed} TRM, {left} TRM of it is left, {asked} TRM asked")]
    OverBudget {
        /// Which limit.
        limit: Rule,
        /// Whose mandate.
        mandate: AgentId,
        /// How much it allows.
        allowed: Amount,
        /// How much of that is left.
        left: Amount,
        /// How much was asked.
        asked: Amount,
        /// When more will be left, if time alone brings it.
        frees_at: Option<Timestamp>,
    },
    /// 29: the owner is to decide.
    #[error("{asked} TRM is above the {above} TRM that need the owner's approval")]
    NeedsApproval {
        /// What the owner would decide about; absent when the spend has no name.
        approval: Option<ApprovalId>,
        /// Above this.
        above: Amount,
        /// How much was asked.
        asked: Amount,
    },
    /// 30: the issuer's quota is used up.
    #[error("the issuer may make {left} TRM more, {asked} TRM asked")]
    OverCap {
        /// Left of the quota.
        left: Amount,
        /// Asked for.
        asked: Amount,
    },
    /// 31: not enough in the account.
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

impl Refusal {
    /// Its number; stable.
    pub fn number(&self) -> u16 {
        match self {
            Self::IdTaken { .. } => 1,
            Self::Zero => 2,
            Self::SameAccount => 3,
            Self::UnknownHold { .. } => 4,
            Self::HoldEnded { .. } => 5,
            Self::MoreThanHeld { .. } => 6,
            Self::Vouched { .. } => 7,
            Self::Frozen { .. } => Rule::Freeze.number(),
            Self::NoMandate { .. } => Rule::Mandate.number(),
            Self::NotAllowed { rule, .. } | Self::TooMany { rule, .. } => rule.number(),
            Self::OverBudget { limit, .. } => limit.number(),
            Self::NeedsApproval { .. } => Rule::Approval.number(),
            Self::OverCap { .. } => 30,
            Self::NotEnough { .. } => Rule::Funds.number(),
        }
    }

    /// When the same request would pass, if time alone brings that.
    pub const fn passes_at(&self) -> Option<Timestamp> {
        match self {
            Self::NotAllowed { passes_at, .. } | Self::TooMany { passes_at, .. } => *passes_at,
            Self::OverBudget { frees_at, .. } => *frees_at,
            _ => None,
        }
    }
}

fn not_allowed(rule: Rule, mandate: AgentId, passes_at: Option<Timestamp>) -> String {
    let whose = mandate.short();
    match (rule, passes_at) {
        (Rule::Revoked, _) => format!("the mandate of agent {whose} was revoked"),
        (Rule::Expiry, _) => format!("the mandate of agent {whose} has expired"),
        (Rule::QuietHours, Some(at)) => format!(
            "these are quiet hours of the mandate of agent {whose}, until {}",
            at.to_rfc3339()
        ),
        (Rule::PriceCeiling, _) => {
            format!("the price is above the price ceiling of the mandate of agent {whose}")
        }
        _ => format!(
            "the mandate of agent {whose} does not allow it: see its {}",
            rule.name()
        ),
    }
}

fn too_many(rule: Rule, seen: u64, allowed: u64) -> String {
    match rule {
        Rule::Errors => format!(
            "the last {seen} purchases failed; after {allowed} in a row spending stops for a minute"
        ),
        Rule::Spends => {
            format!("{seen} purchases in the last 60 seconds, at most {allowed} are allowed")
        }
        Rule::Loop => format!(
            "the same request was bought {seen} times in ten minutes, at most {allowed} are allowed"
        ),
        _ => format!("{seen} requests are open, at most {allowed} are allowed at once"),
    }
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
