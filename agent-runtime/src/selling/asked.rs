//! What is asked for work: between a floor and a ceiling, the more the busier the node is.

use serde::{Deserialize, Serialize};
use tirami_manifest::{Multiplier, Timestamp};

/// How long a price that was offered is quoted at least, in milliseconds; chosen: as long as a buyer
/// takes from the offers to its quotes, several times.
pub(crate) const HONOURED_MS: u64 = 10_000;

/// The bounds of what is asked, relative to par in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bounds {
    /// Asked by a node that has nothing to do.
    pub(crate) floor_ppm: u32,
    /// Asked by one that is full.
    pub(crate) ceiling_ppm: u32,
}

impl Bounds {
    /// A price that does not move.
    pub(crate) const fn fixed(price: Multiplier) -> Self {
        Self {
            floor_ppm: price.ppm(),
            ceiling_ppm: price.ppm(),
        }
    }

    /// What is asked when `taken` of `places` are: in proportion between the bounds, rounded down.
    pub(crate) fn at(self, taken: u32, places: u32) -> Multiplier {
        let spread = self.ceiling_ppm.saturating_sub(self.floor_ppm);
        let places = places.max(1);
        let share = u64::from(spread).saturating_mul(taken.min(places).into()) / u64::from(places);
        let above = u32::try_from(share).unwrap_or(spread);
        Multiplier::from_ppm(self.floor_ppm.saturating_add(above))
    }
}

/// The lowest price that was offered lately: a buyer that saw an offer is quoted no more, although the
/// node has become busier meanwhile. Whoever asks at the same time is quoted the same.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offered {
    /// Number of the present span of [`HONOURED_MS`].
    span: u64,
    now: Option<Multiplier>,
    before: Option<Multiplier>,
}

impl Offered {
    fn advance(&mut self, now: Timestamp) {
        let span = now.ms() / HONOURED_MS;
        if span != self.span {
            let follows = self.span.checked_add(1) == Some(span);
            self.before = self.now.take().filter(|_| follows);
            self.span = span;
        }
    }

    /// Remembers what was offered.
    pub(crate) fn offer(&mut self, price: Multiplier, now: Timestamp) {
        self.advance(now);
        self.now = Some(self.now.map_or(price, |lowest| lowest.min(price)));
    }

    /// What is quoted.
    pub(crate) fn quote(&mut self, price: Multiplier, now: Timestamp) -> Multiplier {
        self.advance(now);
        let offered = [self.now, self.before].into_iter().flatten().min();
        offered.map_or(price, |lowest| lowest.min(price))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_rises_with_what_is_taken_and_stays_within_its_bounds() {
        let bounds = Bounds {
            floor_ppm: 500_000,
            ceiling_ppm: 2_000_000,
        };
        let asked = |taken, places| bounds.at(taken, places).ppm();
        assert_eq!(asked(0, 10), 500_000);
        assert_eq!(asked(5, 10), 1_250_000);
        assert_eq!(asked(10, 10), 2_000_000);
        assert_eq!(asked(99, 10), 2_000_000);
        assert_eq!((asked(0, 0), asked(1, 0)), (500_000, 2_000_000));
        for taken in 0..300 {
            assert!(asked(taken, 256) <= asked(taken + 1, 256), "{taken}");
        }
        let widest = Bounds {
            floor_ppm: 1,
            ceiling_ppm: u32::MAX,
        };
        assert_eq!(widest.at(u32::MAX, u32::MAX).ppm(), u32::MAX);
        assert_eq!(Bounds::fixed(Multiplier::PAR).at(7, 8), Multiplier::PAR);
    }

    #[test]
    fn a_price_that_was_offered_is_quoted_for_a_while() {
        let price = Multiplier::from_ppm;
        let at = |ms: u64| Timestamp::from_ms(1_000_000 + ms);
        let mut offered = Offered::default();
        assert_eq!(offered.quote(price(3), at(0)), price(3), "none was offered");
        offered.offer(price(5), at(9_999));
        offered.offer(price(7), at(9_999));
        assert_eq!(offered.quote(price(9), at(9_999)), price(5));
        assert_eq!(
            offered.quote(price(4), at(9_999)),
            price(4),
            "a fall counts at once"
        );
        assert_eq!(offered.quote(price(9), at(19_999)), price(5));
        assert_eq!(offered.quote(price(9), at(20_000)), price(9));
        offered.offer(price(6), at(20_000));
        assert_eq!(offered.quote(price(9), at(40_000)), price(9), "long after");
    }
}
