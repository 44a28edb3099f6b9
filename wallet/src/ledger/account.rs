//! The chart of accounts.

use std::fmt;

use serde::{Deserialize, Serialize};
use tirami_manifest::{AgentId, Amount, NodeId};

use super::pot::Pots;

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
    /// What was earned from a peer whose payment is not certified: it cannot be spent yet. Code 8.
    Uncertified(NodeId),
}

/// The limits that an account's balance keeps: what its first transfer found in the chart of
/// accounts, and every later one keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// Debits, posted and pending, stay at or below credits posted: the account cannot be overdrawn.
    pub const DEBITS_WITHIN_CREDITS: Self = Self(1);
    /// Credits, posted and pending, stay at or below debits posted.
    pub const CREDITS_WITHIN_DEBITS: Self = Self(2);
    /// Debits, posted and pending, stay at or below the issuer's quota.
    pub const DEBITS_WITHIN_QUOTA: Self = Self(4);

    const ALL: u16 = 1 | 2 | 4;

    /// Whether it keeps this limit.
    pub const fn keeps(self, limit: Self) -> bool {
        self.0 & limit.0 == limit.0
    }
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
            Self::Uncertified(_) => 8,
        }
    }

    /// The limits the chart gives it.
    pub const fn flags(&self) -> Flags {
        match self {
            Self::Agent(_)
            | Self::Revenue
            | Self::Clearing(_)
            | Self::Outgoing
            | Self::Delegated
            | Self::Uncertified(_) => Flags::DEBITS_WITHIN_CREDITS,
            Self::Position => Flags::CREDITS_WITHIN_DEBITS,
            Self::Issuer => Flags::DEBITS_WITHIN_QUOTA,
        }
    }

    /// Code (big-endian, so that accounts sort by code), then 32 bytes of whose it is, zero-padded.
    pub fn key(&self) -> [u8; Self::KEY_LEN] {
        let mut key = [0; Self::KEY_LEN];
        let (code, object) = key.split_at_mut(2);
        code.copy_from_slice(&self.code().to_be_bytes());
        let whose: &[u8] = match self {
            Self::Agent(id) => id.as_bytes(),
            Self::Clearing(id) | Self::Uncertified(id) => id.as_bytes(),
            Self::Revenue | Self::Position | Self::Outgoing | Self::Issuer | Self::Delegated => &[],
        };
        if let Some(place) = object.get_mut(..whose.len()) {
            place.copy_from_slice(whose);
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
            8 => Self::Uncertified(NodeId::from_bytes(*object)),
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
            Self::Uncertified(id) => write!(f, "uncertified {}", id.short()),
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

/// What the ledger keeps of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// The limits it keeps.
    pub flags: Flags,
    /// What moved.
    pub totals: Totals,
    /// Where what an agent has available came from; empty for every other account.
    pub pots: Pots,
}

/// Version of the layout, its first byte.
const VERSION: u8 = 1;

impl AccountRow {
    /// An account where nothing moved yet.
    pub fn new(account: &Account) -> Self {
        Self {
            flags: account.flags(),
            totals: Totals::default(),
            pots: Pots::default(),
        }
    }

    /// Version, flags (2 bytes), four totals (16 bytes each) and, for an agent, four pots (8 bytes
    /// each), all little-endian.
    pub(crate) fn to_row(self, account: &Account) -> Vec<u8> {
        let Totals {
            debits_posted,
            debits_pending,
            credits_posted,
            credits_pending,
        } = self.totals;
        let mut row = Vec::with_capacity(100);
        row.push(VERSION);
        row.extend_from_slice(&self.flags.0.to_le_bytes());
        for total in [
            debits_posted,
            debits_pending,
            credits_posted,
            credits_pending,
        ] {
            row.extend_from_slice(&total.to_le_bytes());
        }
        if matches!(account, Account::Agent(_)) {
            for pot in self.pots.amounts() {
                row.extend_from_slice(&pot.utrm().to_le_bytes());
            }
        }
        row
    }

    /// Reads what [`AccountRow::to_row`] wrote.
    pub(crate) fn from_row(account: &Account, row: &[u8]) -> Option<Self> {
        let ([VERSION, flags @ ..], rest) = row.split_first_chunk::<3>()? else {
            return None;
        };
        let flags = u16::from_le_bytes(*flags);
        let (totals, pots) = rest.split_first_chunk::<64>()?;
        let ([a, b, c, d], []) = totals.as_chunks::<16>() else {
            return None;
        };
        let pots = match (account, pots.as_chunks::<8>()) {
            (Account::Agent(_), ([seed, earned, borrowed, restricted], [])) => {
                let amount = |bytes: &[u8; 8]| Amount::from_utrm(u64::from_le_bytes(*bytes)).ok();
                Pots::of([
                    amount(seed)?,
                    amount(earned)?,
                    amount(borrowed)?,
                    amount(restricted)?,
                ])
            }
            (Account::Agent(_), _) => return None,
            (_, ([], [])) => Pots::default(),
            _ => return None,
        };
        (flags & !Flags::ALL == 0).then_some(Self {
            flags: Flags(flags),
            totals: Totals {
                debits_posted: u128::from_le_bytes(*a),
                debits_pending: u128::from_le_bytes(*b),
                credits_posted: u128::from_le_bytes(*c),
                credits_pending: u128::from_le_bytes(*d),
            },
            pots,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_and_nothing_else_does() {
        let agent = Account::Agent(AgentId::from_bytes([1; 16]));
        for account in [agent, Account::Position, Account::Issuer] {
            let mut row = AccountRow::new(&account);
            row.totals = Totals {
                debits_posted: u128::MAX,
                debits_pending: 2,
                credits_posted: 3,
                credits_pending: 1 << 100,
            };
            if account == agent {
                row.pots = Pots::of([1, 2, 3, 4].map(Amount::from_trm));
            }
            let bytes = row.to_row(&account);
            assert_eq!(AccountRow::from_row(&account, &bytes), Some(row));
            for len in 0..bytes.len() {
                let short = bytes.get(..len).unwrap_or_default();
                assert_eq!(AccountRow::from_row(&account, short), None);
            }
            let long = [bytes.as_slice(), &[0]].concat();
            assert_eq!(AccountRow::from_row(&account, &long), None);
            for (place, value) in [(0, 2), (1, 8), (2, 1)] {
                let mut other = bytes.clone();
                if let Some(byte) = other.get_mut(place) {
                    *byte = value;
                }
                assert_eq!(AccountRow::from_row(&account, &other), None);
            }
        }
    }
}
