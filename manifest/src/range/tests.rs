use proptest::prelude::*;

use super::*;

/// Units in the naive twin.
const UNITS: u64 = 40;

fn range(lo: u64, hi: u64) -> Range {
    Range::new(lo, hi).unwrap()
}

fn utrm(utrm: u64) -> Amount {
    Amount::from_utrm(utrm).unwrap()
}

/// What a set is compared with: one flag for each unit.
#[derive(Clone, Debug, PartialEq)]
struct Bitmap(Vec<bool>);

impl Bitmap {
    fn of(set: &RangeSet) -> Self {
        Self((0..UNITS).map(|unit| set.contains(unit)).collect())
    }

    fn any(&self, range: Range) -> bool {
        (range.lo()..range.hi()).any(|unit| self.0[usize::try_from(unit).unwrap()])
    }

    fn all(&self, range: Range) -> bool {
        (range.lo()..range.hi()).all(|unit| self.0[usize::try_from(unit).unwrap()])
    }

    fn set(&mut self, range: Range, to: bool) {
        for unit in range.lo()..range.hi() {
            self.0[usize::try_from(unit).unwrap()] = to;
        }
    }

    fn total(&self) -> u64 {
        u64::try_from(self.0.iter().filter(|unit| **unit).count()).unwrap()
    }

    /// The number of runs, each of which must be one range.
    fn runs(&self) -> usize {
        let starts = |at: usize| self.0[at] && (at == 0 || !self.0[at - 1]);
        (0..self.0.len()).filter(|at| starts(*at)).count()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Range),
    Remove(Range),
    SplitOff(u64),
}

fn some_range() -> impl Strategy<Value = Range> {
    (0..UNITS, 1..12_u64).prop_map(|(lo, len)| range(lo, (lo + len).min(UNITS)))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => some_range().prop_map(Op::Insert),
        2 => some_range().prop_map(Op::Remove),
        1 => (0..15_u64).prop_map(Op::SplitOff),
    ]
}

fn step(set: &mut RangeSet, twin: &mut Bitmap, op: &Op) {
    match *op {
        Op::Insert(range) => {
            let free = !twin.any(range);
            assert_eq!(set.insert(range).is_ok(), free);
            if free {
                twin.set(range, true);
            }
        }
        Op::Remove(range) => {
            let there = twin.all(range);
            assert_eq!(set.remove(range).is_ok(), there);
            if there {
                twin.set(range, false);
            }
        }
        Op::SplitOff(amount) => match set.split_off_first(utrm(amount)) {
            Ok(first) => {
                assert_eq!(first.total(), utrm(amount));
                for taken in first.ranges() {
                    assert!(twin.all(*taken));
                    twin.set(*taken, false);
                }
                let lowest_left = set.ranges().first().map(|range| range.lo());
                let highest_taken = first.ranges().last().map(|range| range.hi());
                assert!(
                    highest_taken.is_none()
                        || lowest_left.is_none_or(|lo| Some(lo) >= highest_taken)
                );
            }
            Err(_) => assert!(amount > twin.total()),
        },
    }
}

proptest! {
    #[test]
    fn a_set_is_its_units(ops in prop::collection::vec(op(), 1..60), asked in some_range()) {
        let mut set = RangeSet::new();
        let mut twin = Bitmap(vec![false; usize::try_from(UNITS).unwrap()]);
        for op in &ops {
            step(&mut set, &mut twin, op);
            prop_assert_eq!(&Bitmap::of(&set), &twin);
            prop_assert_eq!(set.ranges().len(), twin.runs());
            prop_assert_eq!(set.total(), utrm(twin.total()));
            prop_assert_eq!(set.is_empty(), twin.total() == 0);
            prop_assert_eq!(set.covers(asked), twin.all(asked));
            prop_assert_eq!(set.overlap(asked).is_some(), twin.any(asked));
        }
        let gaps = set.gaps(asked);
        for unit in 0..UNITS {
            let free = range(unit, unit + 1);
            prop_assert_eq!(gaps.contains(unit), asked.contains(free) && !twin.any(free));
        }
        prop_assert_eq!(RangeSet::try_from(gaps.ranges().to_vec()), Ok(gaps));
        let mut out = Writer::default();
        set.encode(&mut out);
        let bytes = out.finish();
        let mut from = Reader::new(&bytes);
        prop_assert_eq!(RangeSet::decode(&mut from), Ok(set));
        prop_assert_eq!(from.finish(), Ok(()));
    }

    #[test]
    fn the_first_gap_is_the_lowest(
        ops in prop::collection::vec(some_range().prop_map(Op::Insert), 0..8),
        within in some_range(),
        amount in 1..12_u64,
    ) {
        let mut set = RangeSet::new();
        let mut twin = Bitmap(vec![false; usize::try_from(UNITS).unwrap()]);
        for op in &ops {
            step(&mut set, &mut twin, op);
        }
        let naive = (within.lo()..within.hi())
            .filter(|lo| lo + amount <= within.hi())
            .map(|lo| range(lo, lo + amount))
            .find(|gap| !twin.any(*gap));
        prop_assert_eq!(set.first_gap(within, utrm(amount)), naive);
    }
}

#[test]
fn a_range_has_a_unit_and_ends_at_the_cap() {
    let cap = Amount::MAX.utrm();
    assert!(Range::new(3, 3).is_err());
    assert!(Range::new(4, 3).is_err());
    assert!(Range::new(cap, cap + 1).is_err());
    assert_eq!(range(0, cap).amount(), Amount::MAX);
}

#[test]
fn a_set_out_of_order_or_touching_is_not_read() {
    for ranges in [
        vec![range(5, 6), range(1, 2)],
        vec![range(1, 3), range(2, 4)],
        vec![range(1, 2), range(2, 3)],
        vec![range(1, 2), range(1, 2)],
    ] {
        let mut out = Writer::default();
        RangeSet(ranges).encode(&mut out);
        let bytes = out.finish();
        let read = RangeSet::decode(&mut Reader::new(&bytes));
        assert_eq!(read, Err(DecodeError::Value("ranges")));
    }
    let many = [u32::MAX.to_le_bytes().as_slice(), &[0; 64]].concat();
    let read = RangeSet::decode(&mut Reader::new(&many));
    assert_eq!(read, Err(DecodeError::Value("ranges")));
}
