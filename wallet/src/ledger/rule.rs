//! The rules of the gate, in the order in which they are asked, and what each of them found.

use serde::{Deserialize, Serialize};
use tirami_manifest::{AgentId, Amount, Timestamp};

/// A rule of the gate. Its number is that of its refusal, and the order of the numbers is the order
/// in which refusals are given when several apply; between two mandates of one chain, the
/// spender's own comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The kill switch is off. 8.
    Freeze,
    /// There is a mandate, for the account that pays. 9.
    Mandate,
    /// It is not revoked. 10.
    Revoked,
    /// It is not over. 11.
    Expiry,
    /// It is not one of its quiet hours. 12.
    QuietHours,
    /// It allows the action. 13.
    Action,
    /// It allows the payee. 14.
    Payee,
    /// It allows the model. 15.
    Model,
    /// The price per 10^9 FLOP. 16.
    PriceCeiling,
    /// Breaker: failed purchases in a row. 17.
    Errors,
    /// Breaker: purchases in any 60 seconds. 18.
    Spends,
    /// Breaker: the same request in a loop. 19.
    Loop,
    /// Requests set aside at once. 20.
    InFlight,
    /// One request. 21.
    PerRequest,
    /// Any 60 seconds. 22.
    Minute,
    /// Any 60 minutes. 23.
    Hour,
    /// Any 24 hours. 24.
    Day,
    /// The mandate's lifetime. 25.
    Lifetime,
    /// One payee in any 24 hours. 26.
    PayeeDay,
    /// What must stay in the account. 27.
    Reserve,
    /// What the pots that may pay for this hold. 28.
    Pots,
    /// The owner's approval. 29.
    Approval,
    /// What the account holds. 31.
    Funds,
}

impl Rule {
    /// Every rule in order, with its number.
    pub const ALL: [(Self, u16, &'static str); 23] = [
        (Self::Freeze, 8, "freeze"),
        (Self::Mandate, 9, "mandate"),
        (Self::Revoked, 10, "revoked"),
        (Self::Expiry, 11, "expires"),
        (Self::QuietHours, 12, "quiet_hours"),
        (Self::Action, 13, "actions"),
        (Self::Payee, 14, "payees"),
        (Self::Model, 15, "models"),
        (Self::PriceCeiling, 16, "price_ceiling"),
        (Self::Errors, 17, "errors_in_row"),
        (Self::Spends, 18, "spends_per_minute"),
        (Self::Loop, 19, "same_request"),
        (Self::InFlight, 20, "in_flight"),
        (Self::PerRequest, 21, "per_request"),
        (Self::Minute, 22, "minute"),
        (Self::Hour, 23, "hour"),
        (Self::Day, 24, "day"),
        (Self::Lifetime, 25, "lifetime"),
        (Self::PayeeDay, 26, "payee_day"),
        (Self::Reserve, 27, "reserve"),
        (Self::Pots, 28, "pots"),
        (Self::Approval, 29, "approval_above"),
        (Self::Funds, 31, "balance"),
    ];

    fn row(self) -> (Self, u16, &'static str) {
        let found = Self::ALL.into_iter().find(|(rule, ..)| *rule == self);
        found.unwrap_or((self, 0, ""))
    }

    /// The number of its refusal.
    pub fn number(self) -> u16 {
        self.row().1
    }

    /// The word people and JSON see.
    pub fn name(self) -> &'static str {
        self.row().2
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PerRequest => "per-request",
            Self::Minute => "minute",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::PayeeDay => "payee's daily",
            other => other.name(),
        })
    }
}

/// What a rule looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Amounts: used before, asked now, allowed; no limit when absent.
    Amounts {
        /// Used before.
        used: Amount,
        /// Asked now.
        asked: Amount,
        /// Allowed.
        limit: Option<Amount>,
    },
    /// Counts: seen before, allowed; no limit when absent.
    Counts {
        /// Seen before.
        seen: u64,
        /// Allowed.
        limit: Option<u64>,
    },
    /// A list or a state that allows it or does not.
    Listed {
        /// Whether the mandate says anything about it.
        said: bool,
    },
    /// A date; none when absent.
    Date(Option<Timestamp>),
}

/// What one rule of one mandate found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Whose mandate; the payer for rules of the account.
    pub mandate: AgentId,
    /// What was looked at.
    pub measure: Measure,
    /// Whether the spend passes.
    pub passes: bool,
    /// When it would, if time alone brings that.
    pub passes_at: Option<Timestamp>,
}
