//! The chart of accounts.

use std::fmt;

use serde::{Deserialize, Serialize};
use tirami_manifest::{AgentId, Amount, NodeId};

/// One account of a node's ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Account {
    /// What an agent may spend. Code 1.
    Agent(AgentId),
    /// What the node earned by serving; passed on to its main agent at once. Code 2.
    Revenue,
    /// The node's standing in its network: what it brought into its own books. Its debits exceed its
    /// credits by what the node's accounts hold together. Code 3.
    Position,
    /// Between this node and a peer. On the authority's books its balance is what the member has;
    /// on a member's books it is what was paid and not yet acknowledged. Code 4.
    Clearing(NodeId),
    /// What left an agent and is on its way to a provider. Code 5.
    Outgoing,
    /// Where TRM comes from, in an issuer's books. Its debits are the supply it made. Code 6.
    Issuer,
    /// What agents handed out by mandates that travel, until it is drawn or comes back. Code 7.
    Delegated,
}

/// Which side of an account may not outgrow the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Debits stay at or below credits: the account cannot be overdrawn.
    DebitsWithinCredits,
    /// Credits stay at or below debits.
    CreditsWithinDebits,
    /// Debits stay at or below the issuer's quota.
    DebitsWithinQuota,
}

impl Account {
    /// Bytes of a key.
    pub const KEY_LEN: usize = 34;

    /// The chart-of-accounts code.
    pub const fn code(&self) -> u16 {
        match self {
            Self::Agent(_) => 1,
            Self::Revenue => 2,
            Self::Position => 3,
            Self::Clearing(_) => 4,
            Self::Outgoing => 5,
            Self::Issuer => 6,
            Self::Delegated => 7,
        }
    }

    /// The rule every transfer keeps.
    pub const fn rule(&self) -> Rule {
        match self {
            Self::Agent(_)
            | Self::Revenue
            | Self::Clearing(_)
            | Self::Outgoing
            | Self::Delegated => Rule::DebitsWithinCredits,
            Self::Position => Rule::CreditsWithinDebits,
            Self::Issuer => Rule::DebitsWithinQuota,
        }
    }

    /// Code (big-endian, so that accounts sort by code), then 32 bytes of whose it is, zero-padded.
    pub fn key(&self) -> [u8; Self::KEY_LEN] {
        let mut key = [0; Self::KEY_LEN];
        let (code, object) = key.split_at_mut(2);
        code.copy_from_slice(&self.code().to_be_bytes());
        let whose: &[u8] = match self {
            Self::Agent(id) => id.as_bytes(),
            Self::Clearing(id) => id.as_bytes(),
            Self::Revenue | Self::Position | Self::Outgoing | Self::Issuer | Self::Delegated => &[],
        };
        for (to, from) in object.iter_mut().zip(whose) {
            *to = *from;
        }
        key
    }

    /// Reads what [`Account::key`] wrote.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (code, object) = key.split_first_chunk::<2>()?;
        let object: &[u8; 32] = object.try_into().ok()?;
        Some(match u16::from_be_bytes(*code) {
            1 => Self::Agent(AgentId::from_bytes(*object.first_chunk()?)),
            2 => Self::Revenue,
            3 => Self::Position,
            4 => Self::Clearing(NodeId::from_bytes(*object)),
            5 => Self::Outgoing,
            6 => Self::Issuer,
            7 => Self::Delegated,
            _ => return None,
        })
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(f, "agent {}", id.short()),
            Self::Revenue => f.write_str("revenue"),
            Self::Position => f.write_str("position"),
            Self::Clearing(id) => write!(f, "clearing {}", id.short()),
            Self::Outgoing => f.write_str("outgoing"),
            Self::Issuer => f.write_str("issuer"),
            Self::Delegated => f.write_str("delegated"),
        }
    }
}

/// The four totals of an account, in µTRM over its whole life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Moved out, for good.
    pub debits_posted: u128,
    /// Set aside to move out.
    pub debits_pending: u128,
    /// Moved in, for good.
    pub credits_posted: u128,
    /// Set aside elsewhere to move in.
    pub credits_pending: u128,
}

impl Totals {
    /// Credits minus debits and what is set aside: what can still move out. Zero when negative.
    pub fn available(&self) -> Amount {
        self.surplus(self.debits_pending)
    }

    /// Credits minus debits, what is set aside included. Zero when negative.
    pub fn posted(&self) -> Amount {
        self.surplus(0)
    }

    /// What is set aside to move out.
    pub fn pending(&self) -> Amount {
        Amount::try_from(self.debits_pending).unwrap_or(Amount::MAX)
    }

    fn surplus(&self, pending: u128) -> Amount {
        let out = self.debits_posted.saturating_add(pending);
        Amount::try_from(self.credits_posted.saturating_sub(out)).unwrap_or(Amount::MAX)
    }

    /// Debits minus credits, for accounts that stand on that side. Zero when negative.
    pub fn debit_balance(&self) -> Amount {
        Amount::try_from(self.debits_posted.saturating_sub(self.credits_posted))
            .unwrap_or(Amount::MAX)
    }
}
