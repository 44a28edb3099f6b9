//! One suite for every store: whatever reads and writes tables answers like a `BTreeMap`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tirami_wallet::ledger::tables::{
    MemoryTables, Order, Overlay, Pair, ReadTables, Table, Tables,
};
use tirami_wallet::store::{Storage, StoreError, open};

#[derive(Clone, Debug)]
enum Op {
    Put(Table, Vec<u8>, Vec<u8>),
    Remove(Table, Vec<u8>),
    Get(Table, Vec<u8>),
    Scan(Table, Vec<u8>, Option<Vec<u8>>, Order, usize),
}

/// Few short keys over few bytes, the edges 0x00 and 0xff among them, so that operations meet.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0), Just(1), Just(0xfe), Just(0xff)];
    prop::collection::vec(byte, 0..4)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let table = || prop_oneof![Just(Table::Accounts), Just(Table::Log), Just(Table::Outbox)];
    let order = prop_oneof![Just(Order::Ascending), Just(Order::Descending)];
    let limit = prop_oneof![0_usize..4, Just(usize::MAX)];
    let value = prop::collection::vec(any::<u8>(), 0..3);
    let op = prop_oneof![
        4 => (table(), key(), value).prop_map(|(t, k, v)| Op::Put(t, k, v)),
        2 => (table(), key()).prop_map(|(t, k)| Op::Remove(t, k)),
        1 => (table(), key()).prop_map(|(t, k)| Op::Get(t, k)),
        4 => (table(), key(), prop::option::of(key()), order, limit)
            .prop_map(|(t, p, b, o, l)| Op::Scan(t, p, b, o, l)),
    ];
    prop::collection::vec(op, 1..60)
}

/// What every store is compared with.
#[derive(Clone, Default)]
struct Naive(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Naive {
    #[expect(clippy::too_many_arguments, reason = "the same as those of the tables")]
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        beyond: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Vec<Pair> {
        let mut pairs: Vec<Pair> = Vec::new();
        for ((t, key), value) in &self.0 {
            let ahead = match (beyond, order) {
                (None, _) => true,
                (Some(mark), Order::Ascending) => key.as_slice() > mark,
                (Some(mark), Order::Descending) => key.as_slice() < mark,
            };
            if *t == table && key.starts_with(prefix) && ahead {
                pairs.push((key.clone(), value.clone()));
            }
        }
        if order == Order::Descending {
            pairs.reverse();
        }
        pairs.into_iter().take(limit).collect()
    }
}

fn agree(store: &mut impl Tables, naive: &mut Naive, ops: &[Op]) -> Result<(), StoreError> {
    for op in ops {
        match op {
            Op::Put(t, k, v) => {
                store.put(*t, k, v)?;
                naive.0.insert((*t, k.clone()), v.clone());
            }
            Op::Remove(t, k) => {
                store.remove(*t, k)?;
                naive.0.remove(&(*t, k.clone()));
            }
            Op::Get(t, k) => {
                let there = naive.0.get(&(*t, k.clone()));
                assert_eq!(store.get(*t, k)?.as_ref(), there, "{op:?}");
            }
            Op::Scan(table, prefix, beyond, order, limit) => {
                let beyond = beyond.as_deref();
                let there = naive.scan(*table, prefix, beyond, *order, *limit);
                let found = store.scan(*table, prefix, beyond, *order, *limit)?;
                assert_eq!(found, there, "{op:?}");
            }
        }
    }
    same(store, naive)
}

fn same(store: &impl ReadTables, naive: &Naive) -> Result<(), StoreError> {
    for (table, _) in Table::ALL {
        for order in [Order::Ascending, Order::Descending] {
            let there = naive.scan(table, &[], None, order, usize::MAX);
            assert_eq!(store.scan(table, &[], None, order, usize::MAX)?, there);
        }
    }
    Ok(())
}

/// An overlay over a store that holds something: it agrees before and after it is kept, and leaves
/// no trace when it is dropped.
fn overlay_agrees(
    store: &mut impl Tables,
    naive: &mut Naive,
    [below, dropped, kept, inner]: &[Vec<Op>; 4],
) -> Result<(), StoreError> {
    agree(store, naive, below)?;
    agree(&mut Overlay::new(store), &mut naive.clone(), dropped)?;
    same(store, naive)?;
    let mut outer = Overlay::new(store);
    agree(&mut outer, naive, kept)?;
    // As the writer stacks them: a command's overlay over the transaction's.
    let mut top = Overlay::new(&mut outer);
    agree(&mut top, naive, inner)?;
    top.keep()?;
    same(&outer, naive)?;
    outer.keep()?;
    same(store, naive)
}

fn memory() -> Storage {
    Storage::Backend(Box::new(redb::backends::InMemoryBackend::new()))
}

proptest! {
    #[test]
    fn memory_tables_answer_like_a_map(ops in ops()) {
        agree(&mut MemoryTables::default(), &mut Naive::default(), &ops).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn an_overlay_answers_like_a_map(all in [ops(), ops(), ops(), ops()]) {
        overlay_agrees(&mut MemoryTables::default(), &mut Naive::default(), &all).unwrap();
    }

    #[test]
    fn redb_answers_like_a_map(rounds in prop::collection::vec([ops(), ops(), ops(), ops()], 1..3)) {
        let opened = open(memory()).unwrap();
        let mut naive = Naive::default();
        for round in &rounds {
            // A transaction that is not committed leaves nothing.
            let mut write = opened.write().unwrap();
            agree(&mut write, &mut naive.clone(), &round[1]).unwrap();
            drop(write);
            let before = opened.read().unwrap();
            let mut write = opened.write().unwrap();
            let committed = naive.clone();
            overlay_agrees(&mut write, &mut naive, round).unwrap();
            write.commit().unwrap();
            // What was read from before sees nothing of it; what begins now sees all of it.
            same(&before, &committed).unwrap();
            same(&opened.read().unwrap(), &naive).unwrap();
        }
    }
}

#[test]
fn every_table_has_a_name_of_its_own_with_a_version() {
    for (place, (table, name)) in Table::ALL.iter().enumerate() {
        let version = name.rsplit_once('-').map(|(_, version)| version);
        assert!(
            version.is_some_and(|version| version.parse::<u32>().is_ok_and(|n| n > 0)),
            "{name}"
        );
        let twins = Table::ALL.iter().filter(|(t, n)| t == table || n == name);
        assert_eq!(twins.count(), 1, "{place}");
    }
}
