//! Telling that a limit is being used up: at 50, 80 and 95 percent of it, once each time it is
//! reached.

use serde::{Deserialize, Serialize};
use tirami_manifest::{AgentId, Amount, Timestamp};

use super::rule::Rule;

/// Shares of a limit at which somebody is told, in percent.
pub const SHARES: [u8; 3] = [50, 80, 95];

/// How long alerts are kept: 30 days.
pub(crate) const KEPT_MS: u64 = 30 * 24 * 3_600_000;

/// A limit was used up to a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Whose mandate.
    pub agent: AgentId,
    /// Which limit.
    pub rule: Rule,
    /// The share that was reached, in percent.
    pub percent: u8,
    /// Used, in µTRM or as a count.
    pub used: u64,
    /// Allowed, in the same.
    pub limit: u64,
    /// When.
    pub at: Timestamp,
}

impl Alert {
    /// Whether the figures are amounts of µTRM rather than counts.
    pub const fn counts_money(&self) -> bool {
        !matches!(self.rule, Rule::InFlight | Rule::Spends)
    }

    /// A figure of it, as people read it.
    pub fn figure(&self, n: u64) -> String {
        if self.counts_money() {
            let amount = Amount::from_utrm(n).unwrap_or(Amount::MAX);
            format!("{amount} TRM")
        } else {
            n.to_string()
        }
    }
}

/// The share reached, if it is one that was not told of since less than the first was used: what to
/// remember, and what to tell.
#[inline]
pub(crate) fn reached(told: u8, before: u64, used: u64, limit: u64) -> (u8, Option<u8>) {
    if limit == 0 {
        return (told, None);
    }
    // Below the first share, before and after, there is nothing to tell and nothing to remember.
    if used.max(before) < limit.div_ceil(2) {
        return (0, None);
    }
    reached_some(told, before, used, limit)
}

/// The same, where a share was reached before or is now.
#[cold]
fn reached_some(told: u8, before: u64, used: u64, limit: u64) -> (u8, Option<u8>) {
    let share_of = |used: u64| {
        let part = u128::from(used).saturating_mul(100);
        let passed = |share: &u8| part >= u128::from(*share).saturating_mul(u128::from(limit));
        SHARES.into_iter().rev().find(passed).unwrap_or(0)
    };
    let share = share_of(used);
    let told = if share_of(before) == 0 { 0 } else { told };
    if share > told {
        (share, Some(share))
    } else if share == 0 {
        (0, None)
    } else {
        (told, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_share_is_told_once_until_the_limit_is_free_again() {
        let (mut told, mut before) = (0, 0);
        let mut tell = |used| {
            let (next, tells) = reached(told, before, used, 1_000);
            (told, before) = (next, used);
            tells
        };
        assert_eq!(
            [
                0, 499, 500, 600, 799, 800, 949, 950, 1_000, 700, 960, 400, 500
            ]
            .map(&mut tell),
            [
                None,
                None,
                Some(50),
                None,
                None,
                Some(80),
                None,
                Some(95),
                None,
                None,
                None,
                None,
                Some(50)
            ]
        );
        assert_eq!(reached(0, 0, 5, 0), (0, None));
        // A window that was full emptied by itself, and one charge fills it again.
        assert_eq!(reached(95, 499, 1_000, 1_000), (95, Some(95)));
        assert_eq!(reached(95, 500, 1_000, 1_000), (95, None));
    }

    #[test]
    fn money_reads_as_money_and_a_count_as_a_count() {
        let of = |rule| Alert {
            agent: AgentId::from_bytes([1; 16]),
            rule,
            percent: 50,
            used: 1_500_000,
            limit: 3_000_000,
            at: Timestamp::EPOCH,
        };
        for rule in [
            Rule::Minute,
            Rule::Hour,
            Rule::Day,
            Rule::Lifetime,
            Rule::InFlight,
            Rule::Spends,
            Rule::PayeeDay,
        ] {
            let alert = of(rule);
            let count = matches!(rule, Rule::InFlight | Rule::Spends);
            let reads = if count { "1500000" } else { "1.5 TRM" };
            assert_eq!(alert.figure(alert.used), reads, "{rule:?}");
        }
    }
}
