//! The side that remembers which units were used.

use tirami_wallet::travelling::reclaiming::rest;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Reserve {
        link: Index,
        lo: Index,
        len: u64,
        /// What of it is asked for, beside the whole.
        less: u64,
        nonce: u8,
        hold: u8,
    },
    /// An earlier reservation, as it was.
    Again(Index),
    Commit(u8, u64),
    Release(u8),
    TakeBack {
        link: Index,
        lo: Index,
        len: u64,
        signed: bool,
    },
    Bump,
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (link, lo) = (any::<Index>, any::<Index>);
    let reserve = (link(), lo(), 1..12_u64, 0..3_u64, 0..40_u8, 0..40_u8).prop_map(
        |(link, lo, len, less, nonce, hold)| Op::Reserve {
            link,
            lo,
            len,
            less,
            nonce,
            hold,
        },
    );
    let back =
        (link(), lo(), 1..20_u64, any::<bool>()).prop_map(|(link, lo, len, signed)| Op::TakeBack {
            link,
            lo,
            len,
            signed,
        });
    prop_oneof![
        12 => reserve,
        3 => any::<Index>().prop_map(Op::Again),
        6 => (0..40_u8, 0..13_u64).prop_map(|(hold, actual)| Op::Commit(hold, actual)),
        4 => (0..40_u8).prop_map(Op::Release),
        3 => back,
        1 => Just(Op::Bump),
        1 => (0..LIFE / 2).prop_map(Op::Pass),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct NaiveHold {
    units: Range,
    nonce: (u8, u8),
    spend: [u8; 32],
    end: Option<Outcome>,
}

/// The tracker as a reader can check it in one sitting.
#[derive(Clone, Debug, PartialEq)]
struct Naive {
    used: Vec<bool>,
    /// For each grant the units that went back.
    returned: BTreeMap<usize, Vec<bool>>,
    holds: BTreeMap<u8, NaiveHold>,
    epoch: u64,
    now: Timestamp,
}

impl Naive {
    fn none() -> Vec<bool> {
        vec![false; place(UNITS)]
    }

    fn set(&mut self, units: Range, to: bool) {
        self.used[places(units)].fill(to);
    }

    fn any(flags: &[bool], units: Range) -> bool {
        flags[places(units)].contains(&true)
    }

    /// Whether a reservation nobody made before goes through.
    fn takes(&self, links: &[Link], link: usize, units: Range, amount: u64) -> bool {
        let Some(asked) = units.split(utrm(amount)).0 else {
            return false;
        };
        // The links stand one below the other, but for the last two, who are siblings.
        let above = (0..=link).filter(|at| !(link == links.len() - 1 && *at == link - 1));
        amount <= units.amount().utrm()
            && links[link].grant.epoch >= self.epoch
            && !Self::any(&self.used, asked)
            && above
                .filter_map(|at| self.returned.get(&at))
                .all(|back| !Self::any(back, asked))
    }
}

struct Pair {
    tables: MemoryTables,
    naive: Naive,
    links: Vec<Link>,
    done: Vec<(CheckedSpend, TransferId, Amount)>,
}

impl Pair {
    fn new() -> Self {
        let first = Link::root(range(0, UNITS), Some(id(1)), 1);
        let left = first.child(range(0, 30), 3);
        let below = left.child(range(4, 26), 4);
        // A cheat: it meets its sibling, and both chains hold.
        let right = left.child(range(20, 30), 5);
        Self {
            tables: MemoryTables::default(),
            naive: Naive {
                used: Naive::none(),
                returned: BTreeMap::new(),
                holds: BTreeMap::new(),
                epoch: 1,
                now: START,
            },
            links: vec![first, left, below, right],
            done: Vec::new(),
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Reserve {
                link,
                lo,
                len,
                less,
                nonce,
                hold,
            } => {
                let link = link.index(self.links.len());
                let within = self.links[link].grant.range;
                let lo = within.lo() + lo.index(place(within.amount().utrm())) as u64;
                let units = range(lo, (lo + len).min(within.hi()));
                self.reserve(
                    link,
                    units,
                    units.amount().utrm().saturating_sub(less),
                    (nonce, hold),
                );
            }
            Op::Again(index) => {
                if !self.done.is_empty() {
                    let (spend, hold, amount) = index.get(&self.done);
                    let again = reserve(&mut self.tables, &id(1), spend, *hold, *amount);
                    let row = reservation(&self.tables, hold).unwrap().unwrap();
                    assert_eq!(again.unwrap(), Reserved::Again(row));
                }
            }
            Op::Commit(hold, actual) => self.end(hold, Outcome::Spent(utrm(actual))),
            Op::Release(hold) => self.end(hold, Outcome::Released),
            Op::TakeBack {
                link,
                lo,
                len,
                signed,
            } => self.take_back(link.index(self.links.len()), lo, len, signed),
            Op::Bump => {
                self.naive.epoch += 1;
                bump_epoch(&mut self.tables, &id(0), self.naive.epoch).unwrap();
            }
            Op::Pass(ms) => self.naive.now = self.naive.now.after_ms(ms),
        }
    }

    fn reserve(&mut self, link: usize, units: Range, amount: u64, (nonce, hold): (u8, u8)) {
        let naive = &mut self.naive;
        let over = naive.now >= START.after_ms(LIFE + SKEW_MS);
        let checked = self.links[link].spend(units, nonce, naive.now);
        assert_eq!(checked.is_none(), over);
        let Some(spend) = checked else {
            return;
        };
        let hold_id = hold_id(hold);
        let answer = reserve(&mut self.tables, &id(1), &spend, hold_id, utrm(amount));
        let nonce = (self.links[link].holder, nonce);
        let digest = spend.spend().signed().body.digest();
        if let Some((first, row)) = naive.holds.iter().find(|(_, row)| row.nonce == nonce) {
            let same = *first == hold && row.spend == digest && row.units.amount() == utrm(amount);
            assert_eq!(matches!(answer, Ok(Reserved::Again(_))), same);
            assert!(same || refused(answer) == Refusal::NonceTaken);
        } else if naive.holds.contains_key(&hold) {
            assert_eq!(refused(answer), Refusal::HoldTaken { hold: hold_id });
        } else if naive.takes(&self.links, link, units, amount) {
            let Ok(Reserved::New(row)) = answer else {
                panic!("{answer:?}");
            };
            assert_eq!(Some(row.range), units.split(utrm(amount)).0);
            naive.set(row.range, true);
            let row = NaiveHold {
                units: row.range,
                nonce,
                spend: digest,
                end: None,
            };
            naive.holds.insert(hold, row);
            self.done.push((spend, hold_id, utrm(amount)));
        } else {
            refused(answer);
        }
    }

    fn end(&mut self, hold: u8, outcome: Outcome) {
        let answer = match outcome {
            Outcome::Spent(actual) => commit(&mut self.tables, hold_id(hold), actual),
            Outcome::Released => release(&mut self.tables, hold_id(hold)),
        };
        let Some(row) = self.naive.holds.get_mut(&hold) else {
            assert!(matches!(refused(answer), Refusal::Unknown { .. }));
            return;
        };
        let kept = match outcome {
            Outcome::Spent(actual) => actual,
            Outcome::Released => Amount::ZERO,
        };
        match row.end {
            Some(before) if before == outcome => assert!(answer.is_ok()),
            Some(_) => assert!(matches!(refused(answer), Refusal::Ended { .. })),
            None if kept > row.units.amount() => {
                assert!(matches!(refused(answer), Refusal::MoreThanReserved { .. }));
            }
            None => {
                assert_eq!(answer.unwrap().outcome, Some(outcome));
                row.end = Some(outcome);
                if let (_, Some(free)) = row.units.split(kept) {
                    self.naive.set(free, false);
                }
            }
        }
    }

    fn take_back(&mut self, link: usize, lo: Index, len: u64, signed: bool) {
        let (naive, grant) = (&mut self.naive, &self.links[link].grant);
        let lo = grant.range.lo() + lo.index(place(grant.range.amount().utrm())) as u64;
        let units = range(lo, (lo + len).min(grant.range.hi()));
        let back = RangeReturn::of(grant, units);
        let signature = signed.then(|| back.sign(&key(self.links[link].holder)));
        let request = ReturnRequest {
            grant,
            back: &back,
            by: signature.as_ref(),
            runs_max: usize::MAX,
        };
        let answer = take_back(&mut self.tables, &id(1), &request, naive.now);
        let over = naive.now >= START.after_ms(LIFE + SKEW_MS) || naive.epoch > grant.epoch;
        let flags = naive.returned.entry(link).or_insert_with(Naive::none);
        let ever = flags.contains(&true);
        for unit in units.lo()..units.hi() {
            let free = !naive.used[place(unit)];
            // Whoever has not signed hears of what went back before, and changes nothing.
            let told = free && (signed || over || flags[place(unit)]);
            if let Ok(back) = &answer {
                assert_eq!(back.contains(unit), told, "unit {unit}");
            }
            flags[place(unit)] |= told;
        }
        assert_eq!(answer.is_ok(), signed || over || ever, "{answer:?}");
    }

    fn compare(&self) {
        let set = used(&self.tables, &id(0), range(0, UNITS)).unwrap();
        let all = range(0, UNITS);
        let free = used(&self.tables, &id(0), all).unwrap().gaps(all);
        for unit in 0..UNITS {
            assert_eq!(
                set.contains(unit),
                self.naive.used[place(unit)],
                "unit {unit}"
            );
            assert_eq!(free.contains(unit), !set.contains(unit));
        }
        let mut held = RangeSet::new();
        for row in self.naive.holds.values() {
            let kept = match row.end {
                None => Some(row.units),
                Some(Outcome::Spent(actual)) => row.units.split(actual).0,
                Some(Outcome::Released) => None,
            };
            // Fails when two spends have a unit in common.
            if let Some(units) = kept {
                held.insert(units).unwrap();
            }
        }
        assert_eq!(held, set);
        assert_eq!(
            count_rows(&self.tables, Table::Ranges, b'u'),
            set.ranges().len()
        );
        let open = open_reservations(&self.tables, usize::MAX).unwrap();
        let naive_open = self.naive.holds.values().filter(|row| row.end.is_none());
        assert_eq!(open.len(), naive_open.count());
        assert!(open.is_sorted_by_key(|(_, row)| row.until));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tracker_takes_each_unit_once(ops in prop::collection::vec(op(), 1..50)) {
        let mut pair = Pair::new();
        for op in &ops {
            let before = (pair.tables.clone(), pair.naive.clone());
            pair.step(op);
            pair.compare();
            if pair.naive == before.1 {
                prop_assert_eq!(&pair.tables, &before.0, "a refusal wrote something");
            }
        }
    }
}

#[test]
fn only_the_tracker_accepts() {
    let mut tables = MemoryTables::default();
    for (pinned, tracker, stranger) in [(Some(id(1)), 1, 0), (None, 0, 1)] {
        let link = Link::root(range(0, 10), pinned, 0);
        let spend = link.spend(range(0, 4), 1, START).unwrap();
        let answer = reserve(&mut tables, &id(stranger), &spend, hold_id(1), utrm(4));
        let tracker = id(tracker);
        assert_eq!(refused(answer), Refusal::NotTracker { tracker });
        let back = RangeReturn::of(&link.grant, range(0, 4));
        let request = ReturnRequest {
            grant: &link.grant,
            back: &back,
            by: Some(&back.sign(&key(2))),
            runs_max: usize::MAX,
        };
        let answer = take_back(&mut tables, &id(stranger), &request, START);
        assert_eq!(refused(answer), Refusal::NotTracker { tracker });
        assert_eq!(tables, MemoryTables::default());
    }
}

#[test]
fn a_nonce_stands_for_one_spend_under_one_hold_for_one_amount() {
    let mut tables = MemoryTables::default();
    let link = Link::root(range(0, 10), Some(id(1)), 0);
    let spend = link.spend(range(0, 4), 1, START).unwrap();
    let other = link.spend(range(4, 8), 1, START).unwrap();
    let mut ask = |spend: &CheckedSpend, hold, amount| {
        reserve(&mut tables, &id(1), spend, hold_id(hold), utrm(amount))
    };
    assert!(matches!(ask(&spend, 1, 3), Ok(Reserved::New(_))));
    assert!(matches!(ask(&spend, 1, 3), Ok(Reserved::Again(_))));
    assert_eq!(refused(ask(&spend, 1, 2)), Refusal::NonceTaken);
    assert_eq!(refused(ask(&spend, 2, 3)), Refusal::NonceTaken);
    assert_eq!(refused(ask(&other, 1, 3)), Refusal::NonceTaken);
    release(&mut tables, hold_id(1)).unwrap();
    // What was released is not taken again by replaying the spend.
    let Ok(Reserved::Again(row)) = reserve(&mut tables, &id(1), &spend, hold_id(1), utrm(3)) else {
        panic!("it was there before");
    };
    assert_eq!(row.outcome, Some(Outcome::Released));
}

#[test]
fn a_newer_chain_raises_the_epoch_and_voids_the_older() {
    let mut tables = MemoryTables::default();
    let (old, new) = (
        Link::root(range(0, 10), None, 1),
        Link::root(range(10, 20), None, 2),
    );
    let before = old.spend(range(0, 4), 1, START).unwrap();
    assert!(reserve(&mut tables, &id(0), &before, hold_id(1), utrm(4)).is_ok());
    let spend = new.spend(range(10, 14), 2, START).unwrap();
    assert!(reserve(&mut tables, &id(0), &spend, hold_id(2), utrm(4)).is_ok());
    assert_eq!(epoch(&tables, &id(0)).unwrap(), 2);
    let spend = old.spend(range(4, 8), 3, START).unwrap();
    let answer = reserve(&mut tables, &id(0), &spend, hold_id(3), utrm(4));
    assert_eq!(
        refused(answer),
        Refusal::OldEpoch {
            current: 2,
            asked: 1
        }
    );
    assert!(bump_epoch(&mut tables, &id(0), 1).is_err());
    // What was accepted in time may still be settled.
    assert!(commit(&mut tables, hold_id(1), utrm(3)).is_ok());
    let in_use = used(&tables, &id(0), range(0, 20)).unwrap();
    assert_eq!(in_use.ranges(), [range(0, 3), range(10, 14)]);
}

#[test]
fn an_outcome_nobody_knows_counts_as_used_until_the_tracker_gives_it_up() {
    let mut tables = MemoryTables::default();
    let link = Link::root(range(0, 10), Some(id(1)), 0);
    let spend = link.spend(range(0, 6), 1, START).unwrap();
    reserve(&mut tables, &id(1), &spend, hold_id(1), utrm(6)).unwrap();
    let back = RangeReturn::of(&link.grant, range(0, 10));
    let request = ReturnRequest {
        grant: &link.grant,
        back: &back,
        by: None,
        runs_max: usize::MAX,
    };
    let long_after = START.after_ms(1_000 * LIFE);
    let answer = |tables: &mut MemoryTables| {
        let back = take_back(tables, &id(1), &request, long_after).unwrap();
        back.ranges().to_vec()
    };
    assert_eq!(answer(&mut tables), [range(6, 10)]);
    assert_eq!(open_reservations(&tables, 9).unwrap().len(), 1);
    let over = spend.ends();
    let just_before = Timestamp::from_ms(over.ms() + SKEW_MS - 1);
    assert_eq!(give_up(&mut tables, just_before, 9).unwrap(), 0);
    assert_eq!(give_up(&mut tables, over.after_ms(SKEW_MS), 9).unwrap(), 1);
    assert!(open_reservations(&tables, 9).unwrap().is_empty());
    // What went back meanwhile cannot be claimed any more.
    let mut back = tables.clone();
    assert_eq!(answer(&mut back), [range(0, 10)]);
    let late = refused(commit_late(&mut back, hold_id(1), utrm(4)));
    assert!(matches!(late, Refusal::Returned { .. }), "{late:?}");
    // What was owed on it may still be claimed while its units are free, and once only.
    let mut claimed = tables.clone();
    assert!(matches!(
        refused(commit_late(&mut claimed, hold_id(1), utrm(7))),
        Refusal::MoreThanReserved { .. }
    ));
    commit_late(&mut claimed, hold_id(1), utrm(4)).unwrap();
    commit_late(&mut claimed, hold_id(1), utrm(4)).unwrap();
    assert!(commit_late(&mut claimed, hold_id(1), utrm(5)).is_err());
    assert_eq!(answer(&mut claimed), [range(4, 10)]);
    let again = link.spend(range(2, 6), 2, START).unwrap();
    reserve(&mut tables, &id(1), &again, hold_id(2), utrm(4)).unwrap();
    let answer = commit_late(&mut tables, hold_id(1), utrm(4));
    assert_eq!(refused(answer), Refusal::Used { units: range(2, 4) });
    commit_late(&mut tables, hold_id(1), utrm(2)).unwrap();
}

#[test]
fn a_spend_that_never_ends_keeps_its_units_an_hour() {
    let mut tables = MemoryTables::default();
    let mut grant = root_grant(range(0, 10), Some(id(1)), 0);
    grant.expires = Timestamp::from_ms(u64::MAX);
    let chain = MandateChain::start(grant, &key(0));
    let chain = chain.verify(id(0), NETWORK, START, 0).unwrap();
    let spend = Spend {
        network: NETWORK,
        chain: chain.id(),
        range: range(0, 6),
        payee: id(1),
        action: Action::Chat,
        model: ModelId::from_bytes([3; 32]),
        request: [0; 32],
        nonce: [1; 16],
        expires: Timestamp::from_ms(u64::MAX),
    };
    let spend = Signed::new(spend, &key(2));
    let spend = chain.check(&spend, id(1), START).unwrap();
    reserve(&mut tables, &id(1), &spend, hold_id(1), utrm(6)).unwrap();
    let hour = START.after_ms(3_600_000 + SKEW_MS);
    let just = Timestamp::from_ms(hour.ms() - 1);
    assert_eq!(give_up(&mut tables, just, 9).unwrap(), 0);
    assert_eq!(give_up(&mut tables, hour, 9).unwrap(), 1);
}

#[test]
fn what_is_forgotten_leaves_its_units_used() {
    let mut tables = MemoryTables::default();
    let link = Link::root(range(0, UNITS), None, 0);
    let reserves = |tables: &mut MemoryTables, n: u8| {
        let lo = u64::from(n) * 4;
        let checked = link.spend(range(lo, lo + 4), n, START).unwrap();
        reserve(tables, &id(0), &checked, hold_id(n), utrm(4))
    };
    for n in 0..6 {
        reserves(&mut tables, n).unwrap();
    }
    for n in 0..4 {
        commit(&mut tables, hold_id(n), utrm(3)).unwrap();
    }
    release(&mut tables, hold_id(4)).unwrap();
    let over = reservation(&tables, &hold_id(0)).unwrap().unwrap().until;
    let rows = |tables: &MemoryTables| {
        [b'h', b'n', b'o'].map(|tag| count_rows(tables, Table::Ranges, tag))
    };
    let forgets = forget_spends(&mut tables, over, (None, 100)).unwrap();
    assert_eq!(forgets, (0, None));
    assert_eq!(rows(&tables), [6, 6, 1]);
    let (mut mark, mut gone) = (None, 0);
    for _ in 0..4 {
        let from = (mark.as_deref(), 2);
        let (count, next) = forget_spends(&mut tables, over.after_ms(1), from).unwrap();
        assert!(count <= 2, "a few at a time");
        (mark, gone) = (next, gone + count);
    }
    assert_eq!((gone, rows(&tables)), (6, [0; 3]));
    // What nobody answered for came free; what was used stays so, whoever asks.
    let mine = used(&tables, &id(0), range(0, UNITS)).unwrap();
    assert_eq!(mine.total(), utrm(4 * 3));
    for n in 0..4 {
        let late = refused(commit_late(&mut tables, hold_id(n), utrm(3)));
        assert!(matches!(late, Refusal::Unknown { .. }), "{late:?}");
        let again = refused(reserves(&mut tables, n));
        assert!(matches!(again, Refusal::Used { .. }), "{again:?}");
    }
}

#[test]
fn units_come_back_in_parts_until_all_are_back() {
    let mut tables = MemoryTables::default();
    let link = Link::root(range(0, UNITS), None, 0);
    // Every fourth unit is used.
    for n in 0..12 {
        let lo = u64::from(n) * 4 + 3;
        let checked = link.spend(range(lo, lo + 1), n, START).unwrap();
        reserve(&mut tables, &id(0), &checked, hold_id(n), utrm(1)).unwrap();
        commit(&mut tables, hold_id(n), utrm(1)).unwrap();
    }
    let (mut part, mut came, mut asked) = (Some(link.grant.range), RangeSet::new(), 0);
    while let Some(units) = part {
        let back = RangeReturn::of(&link.grant, units);
        let by = back.sign(&key(2));
        let request = ReturnRequest {
            grant: &link.grant,
            back: &back,
            by: Some(&by),
            runs_max: 5,
        };
        let free = take_back(&mut tables, &id(0), &request, START).unwrap();
        assert!(free.ranges().len() <= 5);
        let proofs: Vec<_> = free
            .ranges()
            .iter()
            .map(|units| Signed::new(RangeReturn::of(&link.grant, *units), &key(0)))
            .collect();
        for units in free.ranges() {
            came.insert(*units).unwrap();
        }
        asked += 1;
        part = rest(units, &proofs);
    }
    assert_eq!(came.total(), utrm(36));
    assert_eq!(asked, 4, "three times five and what is above");
    for n in 0..12 {
        let lo = u64::from(n) * 4;
        let checked = link.spend(range(lo, lo + 1), 100 + n, START).unwrap();
        let again = reserve(&mut tables, &id(0), &checked, hold_id(100 + n), utrm(1));
        assert!(matches!(refused(again), Refusal::Returned { .. }));
    }
}
