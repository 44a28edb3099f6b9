//! Permission to spend: how much an agent may spend, on what, with whom, when and out of which pot.
//!
//! A mandate always says how much per request, per hour and in all. Every other term may be absent,
//! which sets no bound of its own; whoever granted the mandate has terms too, and all of them hold.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amount::{Amount, Multiplier};
use crate::id::{ModelId, NodeId};
use crate::time::Timestamp;

mod bearing;
mod layout;
mod pot;
mod quiet;
mod tighter;

pub use bearing::{Bearing, Permit, Purchase};
pub use pot::{Pot, PotRule};
pub use quiet::QuietHours;
pub use tighter::Looser;

/// Most entries in one list of a mandate; chosen.
pub const LIST_MAX: usize = 64;

/// What an agent can do that a mandate may allow or deny. Numbers are never reused.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Buy inference from another node. 1.
    Chat,
    /// Use this node's own engine, which costs nothing. 2.
    LocalChat,
}

impl Action {
    /// Every action, with its number.
    pub const ALL: [(Self, u8); 2] = [(Self::Chat, 1), (Self::LocalChat, 2)];

    /// The word people and JSON see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::LocalChat => "local_chat",
        }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Chat => 1,
            Self::LocalChat => 2,
        }
    }
}

/// What is allowed and what is denied; what is denied stays so although it is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de> + Ord"))]
pub struct List<T: Ord> {
    /// Only these; all when absent, none when empty.
    #[serde(default)]
    pub allow: Option<BTreeSet<T>>,
    /// Never these.
    #[serde(default)]
    pub deny: BTreeSet<T>,
}

impl<T: Ord> Default for List<T> {
    fn default() -> Self {
        Self {
            allow: None,
            deny: BTreeSet::new(),
        }
    }
}

impl<T: Ord> List<T> {
    /// Whether `item` may be used. What is not known is not allowed where the list says anything.
    pub fn permits(&self, item: Option<&T>) -> bool {
        match item {
            Some(item) => {
                !self.deny.contains(item)
                    && self.allow.as_ref().is_none_or(|only| only.contains(item))
            }
            None => self.allow.is_none() && self.deny.is_empty(),
        }
    }

    /// Whether everything this list permits is permitted by `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        let permitted = |only: &BTreeSet<T>| {
            only.iter()
                .all(|item| self.deny.contains(item) || other.permits(Some(item)))
        };
        match (&self.allow, &other.allow) {
            (Some(only), _) => permitted(only),
            (None, None) => self.deny.is_superset(&other.deny),
            (None, Some(_)) => false,
        }
    }
}

/// The figures of a mandate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most that one request may hold.
    pub per_request_trm: Amount,
    /// Most in any 60 seconds.
    #[serde(default)]
    pub minute_trm: Option<Amount>,
    /// Most in any 60 minutes.
    pub hour_trm: Amount,
    /// Most in any 24 hours.
    #[serde(default)]
    pub day_trm: Option<Amount>,
    /// Most in the mandate's lifetime.
    pub lifetime_trm: Amount,
    /// Most to one payee in any 24 hours, counted from when the limit was set.
    #[serde(default)]
    pub payee_day_trm: Option<Amount>,
    /// Most requests set aside at once.
    #[serde(default)]
    pub in_flight: Option<u32>,
    /// What must stay in the account.
    #[serde(default)]
    pub reserve_trm: Amount,
    /// Most that 10^9 FLOP may cost.
    #[serde(default)]
    pub price_ceiling_trm: Option<Amount>,
    /// Requests above this wait for the owner's approval.
    #[serde(default)]
    pub approval_above_trm: Option<Amount>,
}

impl Limits {
    /// What an agent may do before its owner says otherwise.
    pub const DEFAULT: Self = Self {
        per_request_trm: Amount::from_trm(5_000),
        minute_trm: None,
        hour_trm: Amount::from_trm(10_000),
        day_trm: None,
        lifetime_trm: Amount::from_trm(1_000_000),
        payee_day_trm: None,
        in_flight: None,
        reserve_trm: Amount::ZERO,
        price_ceiling_trm: None,
        approval_above_trm: Some(Amount::from_trm(1_000)),
    };

    /// The price ceiling as a multiple of par, where 10^9 FLOP cost one TRM.
    pub fn ceiling(&self) -> Option<Multiplier> {
        let utrm = self.price_ceiling_trm?.utrm();
        Some(Multiplier::from_ppm(
            u32::try_from(utrm).unwrap_or(u32::MAX),
        ))
    }
}

/// What a mandate may be used for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Whom it may pay.
    #[serde(default)]
    pub payees: List<NodeId>,
    /// What it may do.
    #[serde(default)]
    pub actions: List<Action>,
    /// Which models it may use.
    #[serde(default)]
    pub models: List<ModelId>,
}

/// What stops a spender that has gone wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Breakers {
    /// So many failed purchases in a row stop spending for a minute; 0 never does.
    pub errors_in_row: u32,
    /// Most purchases in any 60 seconds; 0 is no limit.
    pub spends_per_minute: u32,
    /// Most times that the same request may be bought in 10 minutes; 0 is no limit.
    pub same_request: u32,
}

impl Breakers {
    /// What holds before an owner says otherwise.
    pub const DEFAULT: Self = Self {
        errors_in_row: 5,
        spends_per_minute: 30,
        same_request: 10,
    };

    /// Most that the same request can be counted to.
    pub const SAME_REQUEST_MAX: u32 = 32;
}

impl Default for Breakers {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Everything a mandate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// How much.
    pub limits: Limits,
    /// On what, and with whom.
    #[serde(default)]
    pub scope: Scope,
    /// When to stop by itself.
    #[serde(default)]
    pub breakers: Breakers,
    /// When nothing may be spent, every day.
    #[serde(default)]
    pub quiet_hours: Option<QuietHours>,
    /// From when on nothing may be spent, in milliseconds since 1970.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// Which pot pays for what; the first rule that fits counts.
    #[serde(default)]
    pub pots: Vec<PotRule>,
}

impl Terms {
    /// What an agent may do before its owner says otherwise.
    pub const fn standard() -> Self {
        Self::of(Limits::DEFAULT)
    }

    /// Only figures, the breakers as they are by default.
    pub const fn of(limits: Limits) -> Self {
        const fn any<T: Ord>() -> List<T> {
            List {
                allow: None,
                deny: BTreeSet::new(),
            }
        }
        Self {
            limits,
            scope: Scope {
                payees: any(),
                actions: any(),
                models: any(),
            },
            breakers: Breakers::DEFAULT,
            quiet_hours: None,
            expires: None,
            pots: Vec::new(),
        }
    }

    /// The pots that may pay for this, in the order in which they are drawn on.
    pub fn pots_for(
        &self,
        action: Action,
        payee: Option<&NodeId>,
        model: Option<&ModelId>,
    ) -> &[Pot] {
        self.pots
            .iter()
            .find(|rule| rule.fits(action, payee, model))
            .map_or(&Pot::UNLESS_SAID, |rule| &rule.pots)
    }
}

#[cfg(test)]
mod tests;
