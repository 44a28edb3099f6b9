//! A set of units in rows: `prefix · lo` to `hi`, both big-endian, the fewest rows that say it.

use tirami_manifest::Amount;
use tirami_manifest::range::{Range, RangeSet};

use crate::ledger::tables::{Order, Pair, ReadTables, Table, Tables};
use crate::store::StoreError;

/// Where one set lies.
#[derive(Clone, Debug)]
pub(super) struct Units {
    table: Table,
    prefix: Vec<u8>,
}

impl Units {
    /// The set of `owner` under a tag of one byte.
    pub(super) fn of(table: Table, tag: u8, owner: &[u8; 32]) -> Self {
        let prefix = [[tag].as_slice(), owner].concat();
        Self { table, prefix }
    }

    /// The lowest units of `range` that are in the set.
    pub(super) fn overlap(
        &self,
        tables: &impl ReadTables,
        range: Range,
    ) -> Result<Option<Range>, StoreError> {
        if let Some(units) = self
            .at_or_below(tables, range.lo())?
            .and_then(|have| have.overlap(range))
        {
            return Ok(Some(units));
        }
        let above = self.above(tables, range.lo())?;
        Ok(above.and_then(|have| have.overlap(range)))
    }

    /// The units of `within` that are in the set.
    pub(super) fn inside(
        &self,
        tables: &impl ReadTables,
        within: Range,
    ) -> Result<RangeSet, StoreError> {
        let mut inside = RangeSet::new();
        let mut rest = Some(within);
        while let Some(range) = rest {
            let Some(units) = self.overlap(tables, range)? else {
                break;
            };
            inside.insert(units).map_err(|_| self.damaged())?;
            rest = range.without(units).1;
        }
        Ok(inside)
    }

    /// The lowest runs of `within` that are not in the set, at most `limit`.
    pub(super) fn gaps(
        &self,
        tables: &impl ReadTables,
        within: Range,
        limit: usize,
    ) -> Result<RangeSet, StoreError> {
        let mut gaps = RangeSet::new();
        let mut rest = Some(within);
        while let Some(range) = rest.filter(|_| gaps.ranges().len() < limit) {
            let taken = self.overlap(tables, range)?;
            let (gap, after) = taken.map_or((Some(range), None), |taken| range.without(taken));
            if let Some(gap) = gap {
                gaps.insert(gap).map_err(|_| self.damaged())?;
            }
            rest = after;
        }
        Ok(gaps)
    }

    /// Adds units, some of which may be there already.
    pub(super) fn add(&self, tables: &mut impl Tables, range: Range) -> Result<(), StoreError> {
        let (mut lo, mut hi) = (range.lo(), range.hi());
        let mut touching = self
            .at_or_below(tables, lo)?
            .filter(|have| have.hi() >= lo)
            .map_or_else(|| self.above(tables, lo), |have| Ok(Some(have)))?;
        while let Some(have) = touching.filter(|have| have.lo() <= hi) {
            tables.remove(self.table, &self.key(have.lo()))?;
            (lo, hi) = (lo.min(have.lo()), hi.max(have.hi()));
            touching = self.above(tables, have.lo())?;
        }
        self.put(tables, Range::new(lo, hi).ok())
    }

    /// Takes units away that are all there.
    pub(super) fn remove(&self, tables: &mut impl Tables, range: Range) -> Result<(), StoreError> {
        let have = self
            .at_or_below(tables, range.lo())?
            .filter(|have| have.contains(range))
            .ok_or_else(|| self.damaged())?;
        tables.remove(self.table, &self.key(have.lo()))?;
        let (before, after) = have.without(range);
        self.put(tables, before)?;
        self.put(tables, after)
    }

    /// The lowest `amount` units in a row of `within` that are not in the set, or how many there are
    /// in a row at most.
    pub(super) fn first_gap(
        &self,
        tables: &impl ReadTables,
        within: Range,
        amount: Amount,
    ) -> Result<Result<Range, Amount>, StoreError> {
        let mut longest = Amount::ZERO;
        let mut rest = Some(within);
        while let Some(range) = rest {
            let taken = self.overlap(tables, range)?;
            let (gap, after) = taken.map_or((Some(range), None), |taken| range.without(taken));
            if let Some(gap) = gap {
                if gap.amount() >= amount
                    && let Some(first) = gap.split(amount).0
                {
                    return Ok(Ok(first));
                }
                longest = longest.max(gap.amount());
            }
            rest = after;
        }
        Ok(Err(longest))
    }

    /// The last range that starts at `unit` or before.
    fn at_or_below(
        &self,
        tables: &impl ReadTables,
        unit: u64,
    ) -> Result<Option<Range>, StoreError> {
        self.next(tables, unit.saturating_add(1), Order::Descending)
    }

    /// The first range that starts after `unit`.
    fn above(&self, tables: &impl ReadTables, unit: u64) -> Result<Option<Range>, StoreError> {
        self.next(tables, unit, Order::Ascending)
    }

    fn next(
        &self,
        tables: &impl ReadTables,
        beyond: u64,
        order: Order,
    ) -> Result<Option<Range>, StoreError> {
        let mark = self.key(beyond);
        let found = tables.scan(self.table, &self.prefix, Some(&mark), order, 1)?;
        found.first().map(|pair| self.read(pair)).transpose()
    }

    fn read(&self, (key, value): &Pair) -> Result<Range, StoreError> {
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
        key.strip_prefix(self.prefix.as_slice())
            .and_then(number)
            .zip(number(value))
            .and_then(|(lo, hi)| Range::new(lo, hi).ok())
            .ok_or_else(|| self.damaged())
    }

    fn put(&self, tables: &mut impl Tables, range: Option<Range>) -> Result<(), StoreError> {
        match range {
            None => Ok(()),
            Some(range) => {
                let hi = range.hi().to_be_bytes();
                tables.put(self.table, &self.key(range.lo()), &hi)
            }
        }
    }

    fn key(&self, lo: u64) -> Vec<u8> {
        [self.prefix.as_slice(), &lo.to_be_bytes()].concat()
    }

    const fn damaged(&self) -> StoreError {
        StoreError::Row { table: self.table }
    }
}
