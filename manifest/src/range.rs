//! Ranges of units: which µTRM of a budget, not only how many.
//!
//! A budget of N µTRM is the range `[0, N)`. A unit is one µTRM of it, known by its number. Shares
//! of a budget are ranges that do not meet, so what two of them spend can never be the same unit.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::bytes::{DecodeError, Reader, Writer};

/// Most ranges in a set that travels as bytes; chosen so that it stays under 16 KiB.
pub const RANGES_MAX: usize = 1_000;

/// The units from `lo` up to, but not including, `hi`, in µTRM; never empty, never above
/// [`Amount::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u64, u64)", into = "(u64, u64)")]
pub struct Range {
    lo: u64,
    hi: u64,
}

impl Range {
    /// The units from `lo` up to, but not including, `hi`.
    ///
    /// # Errors
    ///
    /// [`RangeError::Bounds`] when that is no unit, or one above [`Amount::MAX`].
    pub const fn new(lo: u64, hi: u64) -> Result<Self, RangeError> {
        if lo < hi && hi <= Amount::MAX.utrm() {
            Ok(Self { lo, hi })
        } else {
            Err(RangeError::Bounds { lo, hi })
        }
    }

    /// The first unit.
    pub const fn lo(self) -> u64 {
        self.lo
    }

    /// The unit after the last.
    pub const fn hi(self) -> u64 {
        self.hi
    }

    /// How many units.
    pub fn amount(self) -> Amount {
        Amount::from_utrm(self.hi.saturating_sub(self.lo)).unwrap_or(Amount::MAX)
    }

    /// True when every unit of `other` is here.
    pub const fn contains(self, other: Self) -> bool {
        self.lo <= other.lo && other.hi <= self.hi
    }

    /// The units that are here and in `other`.
    #[must_use]
    pub fn overlap(self, other: Self) -> Option<Self> {
        Self::new(self.lo.max(other.lo), self.hi.min(other.hi)).ok()
    }

    /// The first `amount` units, and the rest; either may be nothing.
    pub fn split(self, amount: Amount) -> (Option<Self>, Option<Self>) {
        let middle = self.lo.saturating_add(amount.utrm()).min(self.hi);
        (
            Self::new(self.lo, middle).ok(),
            Self::new(middle, self.hi).ok(),
        )
    }

    /// What is left of this range when `other` is cut out: before it, and after it.
    pub fn without(self, other: Self) -> (Option<Self>, Option<Self>) {
        (
            Self::new(self.lo, self.hi.min(other.lo)).ok(),
            Self::new(self.lo.max(other.hi), self.hi).ok(),
        )
    }

    pub(crate) fn encode(self, out: &mut Writer) {
        out.u64(self.lo).u64(self.hi);
    }

    pub(crate) fn decode(from: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        Self::new(from.u64(field)?, from.u64(field)?).map_err(|_| DecodeError::Value(field))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.lo, self.hi)
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<(u64, u64)> for Range {
    type Error = RangeError;

    fn try_from((lo, hi): (u64, u64)) -> Result<Self, RangeError> {
        Self::new(lo, hi)
    }
}

impl From<Range> for (u64, u64) {
    fn from(range: Range) -> Self {
        (range.lo, range.hi)
    }
}

/// Why a range, or a change of a set of them, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// No unit, or one above the supply cap.
    #[error("[{lo}, {hi}) is no range of units below the supply cap")]
    Bounds {
        /// From.
        lo: u64,
        /// To, exclusive.
        hi: u64,
    },
    /// Units that are in the set already.
    #[error("the units {0} are there already")]
    Overlap(Range),
    /// Units that are not all in the set.
    #[error("not all of the units {0} are there")]
    Missing(Range),
    /// Fewer units than were asked for.
    #[error("{have} TRM of units are there, {asked} TRM asked")]
    TooFew {
        /// In the set.
        have: Amount,
        /// Asked for.
        asked: Amount,
    },
    /// Ranges that are not in order, or that touch.
    #[error("the ranges of a set are sorted and do not touch")]
    NotCanonical,
}

/// A set of units as the fewest ranges: sorted, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Range>", into = "Vec<Range>")]
pub struct RangeSet(Vec<Range>);

impl RangeSet {
    /// No unit.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The ranges, lowest first.
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// True when there is no unit.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many units.
    pub fn total(&self) -> Amount {
        self.0
            .iter()
            .try_fold(Amount::ZERO, |sum, range| sum.checked_add(range.amount()))
            .unwrap_or(Amount::MAX)
    }

    /// True when `unit` is in the set.
    pub fn contains(&self, unit: u64) -> bool {
        self.0
            .get(self.ends_by(unit))
            .is_some_and(|range| range.lo <= unit)
    }

    /// True when every unit of `range` is in the set.
    pub fn covers(&self, range: Range) -> bool {
        self.0
            .get(self.ends_by(range.lo))
            .is_some_and(|have| have.contains(range))
    }

    /// The lowest units of `range` that are in the set.
    pub fn overlap(&self, range: Range) -> Option<Range> {
        self.0.get(self.ends_by(range.lo))?.overlap(range)
    }

    /// Adds units.
    ///
    /// # Errors
    ///
    /// [`RangeError::Overlap`] when one of them is there already; nothing is added then.
    pub fn insert(&mut self, range: Range) -> Result<(), RangeError> {
        if let Some(units) = self.overlap(range) {
            return Err(RangeError::Overlap(units));
        }
        let start = self.0.partition_point(|have| have.hi < range.lo);
        let end = self.0.partition_point(|have| have.lo <= range.hi);
        let touching = || self.0.iter().take(end).skip(start);
        let merged = Range {
            lo: touching().map(|have| have.lo).fold(range.lo, u64::min),
            hi: touching().map(|have| have.hi).fold(range.hi, u64::max),
        };
        self.0.splice(start..end, [merged]);
        Ok(())
    }

    /// Takes units away.
    ///
    /// # Errors
    ///
    /// [`RangeError::Missing`] when one of them is not there; nothing is taken then.
    pub fn remove(&mut self, range: Range) -> Result<(), RangeError> {
        let at = self.ends_by(range.lo);
        let Some(have) = self.0.get(at).filter(|have| have.contains(range)) else {
            return Err(RangeError::Missing(range));
        };
        let (before, after) = have.without(range);
        self.0
            .splice(at..=at, before.into_iter().chain(after))
            .for_each(drop);
        Ok(())
    }

    /// Takes the lowest `amount` units out, into a set of their own.
    ///
    /// # Errors
    ///
    /// [`RangeError::TooFew`] when there are fewer; nothing is taken then.
    pub fn split_off_first(&mut self, amount: Amount) -> Result<Self, RangeError> {
        let have = self.total();
        if amount > have {
            return Err(RangeError::TooFew {
                have,
                asked: amount,
            });
        }
        let (mut first, mut rest, mut left) = (Vec::new(), Vec::new(), amount);
        for range in &self.0 {
            let (head, tail) = range.split(left);
            left = left.saturating_sub(range.amount());
            first.extend(head);
            rest.extend(tail);
        }
        self.0 = rest;
        Ok(Self(first))
    }

    /// The lowest `amount` units in a row inside `within` that are not in the set.
    pub fn first_gap(&self, within: Range, amount: Amount) -> Option<Range> {
        let starts = self.0.iter().map(|have| have.hi);
        let starts = std::iter::once(within.lo).chain(starts.filter(|hi| *hi > within.lo));
        starts
            .filter_map(|lo| Range::new(lo, lo.checked_add(amount.utrm())?).ok())
            .find(|gap| within.contains(*gap) && self.overlap(*gap).is_none())
    }

    /// The units of `within` that are not in the set.
    #[must_use]
    pub fn gaps(&self, within: Range) -> Self {
        let (mut gaps, mut rest) = (Vec::new(), Some(within));
        for have in &self.0 {
            let Some(range) = rest.filter(|range| have.lo < range.hi) else {
                break;
            };
            if have.hi > range.lo {
                let (before, after) = range.without(*have);
                gaps.extend(before);
                rest = after;
            }
        }
        gaps.extend(rest);
        Self(gaps)
    }

    /// A `u32` count, then each range as `u64 lo · u64 hi`.
    pub fn encode(&self, out: &mut Writer) {
        out.u32(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        for range in &self.0 {
            range.encode(out);
        }
    }

    /// Reads what [`RangeSet::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes end early, for more than [`RANGES_MAX`] ranges, and for ranges
    /// that are not sorted or that touch.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = usize::try_from(from.u32("ranges")?).unwrap_or(usize::MAX);
        if count > RANGES_MAX {
            return Err(DecodeError::Value("ranges"));
        }
        let mut ranges = Vec::new();
        for _ in 0..count {
            ranges.push(Range::decode(from, "range")?);
        }
        Self::try_from(ranges).map_err(|_| DecodeError::Value("ranges"))
    }

    /// Place of the first range that ends after `unit`.
    fn ends_by(&self, unit: u64) -> usize {
        self.0.partition_point(|have| have.hi <= unit)
    }
}

impl TryFrom<Vec<Range>> for RangeSet {
    type Error = RangeError;

    fn try_from(ranges: Vec<Range>) -> Result<Self, RangeError> {
        let apart = |(a, b): (&Range, &Range)| a.hi < b.lo;
        if ranges.iter().zip(ranges.iter().skip(1)).all(apart) {
            Ok(Self(ranges))
        } else {
            Err(RangeError::NotCanonical)
        }
    }
}

impl From<RangeSet> for Vec<Range> {
    fn from(set: RangeSet) -> Self {
        set.0
    }
}

#[cfg(test)]
mod tests;
