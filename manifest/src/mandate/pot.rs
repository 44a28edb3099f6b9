//! Where an agent's money came from, and which of it may pay for what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Action;
use crate::id::{ModelId, NodeId};

/// Where money came from. Numbers are never reused.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Pot {
    /// The owner gave it. 1.
    Seed,
    /// Earned by selling. 2.
    Earned,
    /// Lent. 3.
    Borrowed,
    /// Set apart by the owner: pays only for what a rule names. 4.
    Restricted,
}

impl Pot {
    /// Every pot, in the order of its number less one.
    pub const ALL: [Self; 4] = [Self::Seed, Self::Earned, Self::Borrowed, Self::Restricted];

    /// What pays where no rule fits, in this order.
    pub const UNLESS_SAID: [Self; 3] = [Self::Earned, Self::Seed, Self::Borrowed];

    /// The word people and JSON see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Earned => "earned",
            Self::Borrowed => "borrowed",
            Self::Restricted => "restricted",
        }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Seed => 1,
            Self::Earned => 2,
            Self::Borrowed => 3,
            Self::Restricted => 4,
        }
    }

    /// The pot with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|pot| pot.number() == number)
    }
}

/// Which pots pay for something. What is absent fits anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PotRule {
    /// For this action.
    #[serde(default)]
    pub action: Option<Action>,
    /// For this payee.
    #[serde(default)]
    pub payee: Option<NodeId>,
    /// For this model.
    #[serde(default)]
    pub model: Option<ModelId>,
    /// These pots, in the order in which they are drawn on.
    pub pots: Vec<Pot>,
}

impl PotRule {
    /// For everything, these pots.
    pub const fn only(pots: Vec<Pot>) -> Self {
        Self {
            action: None,
            payee: None,
            model: None,
            pots,
        }
    }

    /// Whether it is for this.
    pub fn fits(&self, action: Action, payee: Option<&NodeId>, model: Option<&ModelId>) -> bool {
        self.action.is_none_or(|only| only == action)
            && (self.payee.is_none() || self.payee.as_ref() == payee)
            && (self.model.is_none() || self.model.as_ref() == model)
    }

    /// Whether it is for everything.
    pub(super) const fn is_for_all(&self) -> bool {
        self.action.is_none() && self.payee.is_none() && self.model.is_none()
    }
}
