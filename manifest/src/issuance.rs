//! How much an issuer may make: within its quota, halving as that is used up, and only so much a day.
//!
//! An issuer's quota is divided into eras: the first ends when half of it was made, the next when half
//! of the rest was, and so on. An era is meant to last four years, so in each a day's budget is half
//! of what it was in the one before. All of it follows from two numbers on the issuer's own chain, so
//! it holds however the network is cut.

use crate::amount::Amount;
use crate::genesis::Genesis;

/// The length of a day in milliseconds.
pub const DAY_MS: u64 = 24 * 3_600_000;

/// Days that an era is meant to last: four years.
const ERA_DAYS: u64 = 1_461;

/// The era in which an issuer is that has made `made` of `quota`: how often what is left was halved.
pub fn era(quota: Amount, made: Amount) -> u32 {
    let left = quota.saturating_sub(made).utrm();
    (0..u64::BITS)
        .take_while(|era| half(quota, era.saturating_add(1)) >= left)
        .last()
        .map_or(0, |era| era.saturating_add(1))
}

/// The most that it may make in any 24 hours: an even share of its era.
pub fn day_budget(quota: Amount, made: Amount) -> Amount {
    let share = half(quota, era(quota, made).saturating_add(1)).div_ceil(ERA_DAYS);
    Amount::from_utrm(share).unwrap_or(Amount::MAX)
}

/// The most that an issuer lends to newcomers in any 24 hours: the network's daily cap, and no more than
/// the day's budget, but for one loan.
pub fn lent_in_a_day(genesis: &Genesis, quota: Amount, made: Amount) -> Amount {
    let budget = day_budget(quota, made).max(genesis.welcome_loan);
    budget.min(genesis.welcome_daily_cap)
}

/// What is left of a quota after so many halvings, rounded down.
fn half(quota: Amount, times: u32) -> u64 {
    quota.utrm().checked_shr(times).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trm(n: u64) -> Amount {
        Amount::from_trm(n)
    }

    #[test]
    fn eras_end_where_half_of_the_rest_was_made() {
        let quota = Amount::MAX;
        for (made, want) in [
            (0, 0),
            (10_499_999_999, 0),
            (10_500_000_000, 1),
            (15_749_999_999, 1),
            (15_750_000_000, 2),
            (18_375_000_000, 3),
        ] {
            assert_eq!(era(quota, trm(made)), want, "{made}");
        }
        assert_eq!(day_budget(quota, Amount::MAX), Amount::ZERO);
    }

    #[test]
    fn a_day_brings_less_in_each_era_and_the_first_is_a_share_of_four_years() {
        let quota = Amount::MAX;
        // 10.5 billion TRM over 1,461 days.
        assert_eq!(
            day_budget(quota, Amount::ZERO).to_string(),
            "7186858.316222"
        );
        let mut last = Amount::MAX;
        for made in [0, 11_000_000_000, 16_000_000_000, 19_000_000_000] {
            let now = day_budget(quota, trm(made));
            assert!(now < last, "{made}");
            last = now;
        }
        assert_eq!(day_budget(Amount::ZERO, Amount::ZERO), Amount::ZERO);
    }
}
