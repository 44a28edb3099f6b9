//! The holder's own use of its units.

use super::*;

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
fn what_a_holder_named_is_forgotten_when_it_was_over_before() {
    let mut tables = MemoryTables::default();
    let source = Source {
        parent: GrantId::from_bytes([7; 32]),
        range: range(0, 40),
    };
    let until = START.after_ms(1_000);
    for n in 0..10 {
        let hold = (hold_id(n), utrm(2));
        name_units(&mut tables, &source, hold, (START, until)).unwrap();
        // The tracker never hears of the last two, and of the very last nobody says anything.
        if n < 9 {
            keep_units(&mut tables, hold_id(n), utrm(1)).unwrap();
        }
        if n < 8 {
            free_rest(&mut tables, hold_id(n)).unwrap();
        }
    }
    let named = |tables: &MemoryTables| count_rows(tables, Table::Carvings, b's');
    assert_eq!(
        forget_names(&mut tables, until, (None, 100)).unwrap(),
        (0, None)
    );
    assert_eq!(named(&tables), 10);
    // A few at a time, each further on.
    let later = until.after_ms(1);
    let (mut mark, mut gone) = (None, 0);
    for _ in 0..3 {
        let (count, next) = forget_names(&mut tables, later, (mark.as_deref(), 4)).unwrap();
        (mark, gone) = (next, gone + count);
    }
    assert_eq!((gone, named(&tables), mark), (10, 0, None));
    assert_eq!(count_rows(&tables, Table::Carvings, b't'), 0);
    // What was spent stays spent.
    let (_, free) = free_units(&tables, &source).unwrap();
    assert_eq!(free, utrm(40 - 9));
}
