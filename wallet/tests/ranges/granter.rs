//! The side that hands units out.

use super::*;

#[derive(Clone, Debug)]
enum Cut {
    Carve {
        serial: u64,
        amount: u64,
    },
    Seal(u64),
    /// Asks the tracker for a part of a grant's units, and takes them back on its word.
    Return {
        serial: u64,
        lo: Index,
        len: u64,
    },
    /// The child spends.
    Spend {
        serial: u64,
        lo: Index,
        len: u64,
    },
}

fn cut() -> impl Strategy<Value = Cut> {
    let serial = || 1..9_u64;
    let part = || (serial(), any::<Index>(), 1..12_u64);
    prop_oneof![
        4 => (serial(), 0..20_u64).prop_map(|(serial, amount)| Cut::Carve { serial, amount }),
        4 => serial().prop_map(Cut::Seal),
        3 => part().prop_map(|(serial, lo, len)| Cut::Return { serial, lo, len }),
        3 => part().prop_map(|(serial, lo, len)| Cut::Spend { serial, lo, len }),
    ]
}

/// The root payer's ledger, which carves and tracks, and what a reader thinks of it.
#[derive(Default)]
struct Parent {
    tables: MemoryTables,
    /// Whose each unit is: 0 is nobody's.
    owner: Vec<u64>,
    spent: Vec<bool>,
    grants: BTreeMap<u64, (Grant, bool)>,
    nonce: u8,
}

impl Parent {
    fn step(&mut self, cut: &Cut) {
        match *cut {
            Cut::Carve { serial, amount } => self.carve(serial, amount),
            Cut::Seal(serial) => {
                if let Some((grant, sealed)) = self.grants.get_mut(&serial) {
                    seal(&mut self.tables, grant).unwrap();
                    *sealed = true;
                    let other = Grant {
                        per_request: utrm(1),
                        ..grant.clone()
                    };
                    let answer = seal(&mut self.tables, &other);
                    assert!(matches!(refused(answer), Refusal::NotCarved { .. }));
                }
            }
            Cut::Return { serial, lo, len } => self.give_back(serial, lo, len),
            Cut::Spend { serial, lo, len } => self.spend(serial, lo, len),
        }
    }

    fn part(grant: &Grant, lo: Index, len: u64) -> Range {
        let lo = grant.range.lo() + lo.index(place(grant.range.amount().utrm())) as u64;
        range(lo, (lo + len).min(grant.range.hi()))
    }

    fn carve(&mut self, serial: u64, amount: u64) {
        let source = Source {
            parent: Grant::NO_PARENT,
            range: range(0, UNITS),
        };
        let share = Share {
            serial,
            holder: id(2),
            amount: utrm(amount),
            expires: START.after_ms(LIFE),
        };
        let answer = carve(&mut self.tables, &source, &share);
        if let Some((grant, _)) = self.grants.get(&serial) {
            if grant.range.amount() == utrm(amount) {
                assert_eq!(answer.unwrap().range, grant.range);
            } else {
                assert_eq!(refused(answer), Refusal::SerialTaken { serial });
            }
            return;
        }
        let lo = (0..UNITS).find(|lo| {
            lo + amount <= UNITS && (*lo..lo + amount).all(|unit| self.owner[place(unit)] == 0)
        });
        match lo {
            _ if amount == 0 => assert_eq!(refused(answer), Refusal::Zero),
            None => assert!(matches!(refused(answer), Refusal::NoRoom { .. })),
            Some(lo) => {
                let carved = answer.unwrap();
                assert_eq!(carved.range, range(lo, lo + amount));
                self.owner[places(carved.range)].fill(serial);
                let grant = Grant {
                    serial,
                    ..root_grant(carved.range, None, 0)
                };
                self.grants.insert(serial, (grant, false));
            }
        }
    }

    fn spend(&mut self, serial: u64, lo: Index, len: u64) {
        let Some((grant, true)) = self.grants.get(&serial) else {
            return;
        };
        let units = Self::part(grant, lo, len);
        let link = Link {
            grant: grant.clone(),
            chain: MandateChain::start(grant.clone(), &key(0)),
            holder: 2,
        };
        self.nonce += 1;
        let spend = link.spend(units, self.nonce, START).unwrap();
        let answer = reserve(
            &mut self.tables,
            &id(0),
            &spend,
            hold_id(self.nonce),
            units.amount(),
        );
        let free = places(units).all(|at| self.owner[at] == serial && !self.spent[at]);
        assert_eq!(answer.is_ok(), free, "{answer:?}");
        if free {
            self.spent[places(units)].fill(true);
        }
    }

    fn give_back(&mut self, serial: u64, lo: Index, len: u64) {
        let Some((grant, sealed)) = self.grants.get(&serial) else {
            return;
        };
        let units = Self::part(grant, lo, len);
        let back = RangeReturn::of(grant, units);
        let holder = back.sign(&key(2));
        let request = ReturnRequest {
            grant,
            back: &back,
            by: Some(&holder),
            runs_max: usize::MAX,
        };
        let proof = Signed::new(back.clone(), &key(0));
        if !sealed {
            let answer = give_back(&mut self.tables, grant, std::slice::from_ref(&proof));
            assert!(matches!(refused(answer), Refusal::NotCarved { .. }));
            return;
        }
        let by_holder_alone = Signed::new(back.clone(), &key(2));
        let answer = give_back(
            &mut self.tables,
            grant,
            std::slice::from_ref(&by_holder_alone),
        );
        assert!(matches!(refused(answer), Refusal::Return(_)));
        let answer = take_back(&mut self.tables, &id(0), &request, START).unwrap();
        let unspent: Vec<bool> = places(units).map(|at| !self.spent[at]).collect();
        let says: Vec<bool> = (units.lo()..units.hi())
            .map(|unit| answer.contains(unit))
            .collect();
        assert_eq!(says, unspent);
        for run in answer.ranges() {
            let proof = Signed::new(RangeReturn::of(grant, *run), &key(0));
            let came = give_back(&mut self.tables, grant, std::slice::from_ref(&proof)).unwrap();
            let mine = places(*run).filter(|at| self.owner[*at] == serial).count() as u64;
            assert_eq!(came.total(), utrm(mine));
            let again = give_back(&mut self.tables, grant, std::slice::from_ref(&proof)).unwrap();
            assert!(again.is_empty());
            for at in places(*run) {
                if self.owner[at] == serial {
                    self.owner[at] = 0;
                }
            }
        }
    }

    fn compare(&self) {
        let rows = carvings(&self.tables, &Grant::NO_PARENT, None, usize::MAX).unwrap();
        assert!(rows.iter().map(|(serial, _)| serial).eq(self.grants.keys()));
        let last = self.grants.keys().last().copied().unwrap_or(0);
        assert_eq!(
            next_serial(&self.tables, &Grant::NO_PARENT).unwrap(),
            last + 1
        );
        for (serial, row) in &rows {
            for at in places(row.range) {
                let back = row.back.contains(at as u64);
                // What came back is nobody's, or somebody else's by now.
                assert_eq!(self.owner[at] == *serial, !back);
            }
        }
        let mut given = RangeSet::new();
        for unit in (0..UNITS).filter(|unit| self.owner[place(*unit)] != 0) {
            given.insert(range(unit, unit + 1)).unwrap();
        }
        assert_eq!(
            count_rows(&self.tables, Table::Carvings, b'g'),
            given.ranges().len()
        );
        let spent = self.spent.iter().filter(|unit| **unit).count() as u64;
        let set = used(&self.tables, &id(0), range(0, UNITS)).unwrap();
        assert_eq!(set.total(), utrm(spent));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_carved_never_meets_and_what_comes_back_was_not_spent(
        cuts in prop::collection::vec(cut(), 1..40),
    ) {
        let mut parent = Parent {
            owner: vec![0; place(UNITS)],
            spent: vec![false; place(UNITS)],
            ..Parent::default()
        };
        for cut in &cuts {
            parent.step(cut);
            parent.compare();
        }
    }
}

#[test]
fn a_holder_carves_out_of_its_own_grant() {
    let mut tables = MemoryTables::default();
    let parent = Link::root(range(100, 200), Some(id(1)), 0);
    let source = Source {
        parent: parent.grant.id(),
        range: parent.grant.range,
    };
    let share = |serial, amount| Share {
        serial,
        holder: id(3),
        amount: utrm(amount),
        expires: START,
    };
    assert_eq!(
        carve(&mut tables, &source, &share(1, 60)).unwrap().range,
        range(100, 160)
    );
    assert_eq!(
        carve(&mut tables, &source, &share(2, 30)).unwrap().range,
        range(160, 190)
    );
    let (longest, asked) = (utrm(10), utrm(11));
    let answer = carve(&mut tables, &source, &share(3, 11));
    assert_eq!(refused(answer), Refusal::NoRoom { longest, asked });
    // Another parent's units are numbered for themselves.
    let own = Source {
        parent: Grant::NO_PARENT,
        range: range(0, 5),
    };
    assert_eq!(
        carve(&mut tables, &own, &share(1, 5)).unwrap().range,
        range(0, 5)
    );
    let later = carvings(&tables, &source.parent, Some(1), 9).unwrap();
    assert_eq!(later.len(), 1);
}
