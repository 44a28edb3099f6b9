//! The holder: it names each of its units once, and hands on none that it named.

use tirami_manifest::mandate_chain::{Grant, SKEW_MS};
use tirami_manifest::{GrantId, Timestamp};
use tirami_wallet::ledger::ranges::{
    Refusal, Share, Source, carve, carvings, free_rest, free_units, keep_units, name_units,
};
use tirami_wallet::ledger::tables::MemoryTables;

use crate::grants::{Link, START, hold_id, id, range, refused, utrm};

#[test]
fn a_holder_names_units_that_it_neither_handed_on_nor_named_before() {
    let mut tables = MemoryTables::default();
    let source = Source {
        parent: GrantId::from_bytes([9; 32]),
        range: range(10, 30),
    };
    let until = START.after_ms(1_000);
    let names = |tables: &mut MemoryTables, hold: u8, n: u64, now: Timestamp| {
        let until = now.after_ms(1_000);
        name_units(tables, &source, (hold_id(hold), utrm(n)), (now, until))
    };
    let share = Share {
        serial: 1,
        holder: id(3),
        amount: utrm(5),
        expires: until,
    };
    assert_eq!(names(&mut tables, 1, 4, START).unwrap(), range(10, 14));
    assert_eq!(
        carve(&mut tables, &source, &share).unwrap().range,
        range(14, 19)
    );
    assert_eq!(names(&mut tables, 2, 6, START).unwrap(), range(19, 25));
    assert_eq!(free_units(&tables, &source).unwrap(), (utrm(5), utrm(5)));
    assert!(matches!(
        refused(names(&mut tables, 3, 6, START)),
        Refusal::NoRoom { .. }
    ));
    let taken = refused(names(&mut tables, 2, 1, START));
    assert!(matches!(taken, Refusal::HoldTaken { .. }));
    assert_eq!(refused(names(&mut tables, 3, 0, START)), Refusal::Zero);
    // Of what was spent only the lowest units are gone, once the tracker knows it too.
    assert!(keep_units(&mut tables, hold_id(2), utrm(7)).is_err());
    keep_units(&mut tables, hold_id(2), utrm(2)).unwrap();
    keep_units(&mut tables, hold_id(2), utrm(6)).unwrap();
    assert_eq!(free_units(&tables, &source).unwrap(), (utrm(5), utrm(5)));
    free_rest(&mut tables, hold_id(2)).unwrap();
    free_rest(&mut tables, hold_id(2)).unwrap();
    assert_eq!(free_units(&tables, &source).unwrap(), (utrm(9), utrm(9)));
    // What nobody answered for is forgotten when the spend is over by every clock.
    let later = until.after_ms(2 * SKEW_MS);
    let just = Timestamp::from_ms(later.ms() - 1);
    assert_eq!(names(&mut tables, 3, 1, just).unwrap(), range(21, 22));
    assert_eq!(names(&mut tables, 4, 4, later).unwrap(), range(10, 14));
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
    assert_eq!(
        carve(&mut tables, &source, &share(3, 10)).unwrap().range,
        range(190, 200)
    );
    // Another parent's units are numbered for themselves.
    let own = Source {
        parent: Grant::NO_PARENT,
        range: range(0, 5),
    };
    assert_eq!(
        carve(&mut tables, &own, &share(1, 5)).unwrap().range,
        range(0, 5)
    );
    let later = carvings(&tables, &source.parent, Some(2), 9).unwrap();
    assert_eq!(later.len(), 1);
}
