//! A line per case: what was there, what was asked, what came of it.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::too_many_lines,
    reason = "small numbers, and tables that are one list"
)]

use tirami_manifest::mandate::Limits;
use tirami_manifest::{AgentId, Amount, NodeId, Timestamp, TransferId};

use super::super::audit::audit;
use super::super::gate::{Freeze, MandateRow};
use super::super::refusal::Limit;
use super::super::tables::MemoryTables;
use super::*;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// A time in the middle of a minute, so that windows start inside one.
const T0: u64 = 1_000 * HOUR + 30_500;
const TIMEOUT: u64 = 120_000;

const ALICE: Account = Account::Agent(AgentId::from_bytes([1; 16]));
/// Has money and no mandate.
const BOB: Account = Account::Agent(AgentId::from_bytes([2; 16]));
const PEER: Account = Account::Clearing(NodeId::from_bytes([3; 32]));
const OUT: Account = Account::Outgoing;

const LIMITS: Limits = Limits {
    per_request_trm: Amount::from_trm(50),
    hour_trm: Amount::from_trm(100),
    lifetime_trm: Amount::from_trm(400),
};

const fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(T0 + ms)
}

const fn trm(n: u64) -> Amount {
    Amount::from_trm(n)
}

fn id(name: &str) -> TransferId {
    transfer::id("test", &[name.as_bytes()])
}

fn make(name: &str, kind: Kind) -> Transfer {
    Transfer {
        id: id(name),
        kind,
        code: TransferCode::Budget,
        reference: [0; 32],
    }
}

fn single(name: &str, debit: Account, credit: Account, n: u64) -> Transfer {
    let amount = trm(n);
    make(
        name,
        Kind::Single {
            debit,
            credit,
            amount,
        },
    )
}

fn hold(name: &str, debit: Account, credit: Account, n: u64) -> Transfer {
    let (amount, timeout_ms) = (trm(n), TIMEOUT);
    make(
        name,
        Kind::Hold {
            debit,
            credit,
            amount,
            timeout_ms,
        },
    )
}

fn post(name: &str, hold: &str, n: u64) -> Transfer {
    let (hold, amount) = (id(hold), trm(n));
    make(name, Kind::Post { hold, amount })
}

fn void(name: &str, hold: &str) -> Transfer {
    make(name, Kind::Void { hold: id(hold) })
}

fn expire(name: &str, hold: &str) -> Transfer {
    make(name, Kind::Expire { hold: id(hold) })
}

fn agent(account: &Account) -> AgentId {
    match account {
        Account::Agent(id) => *id,
        other => panic!("{other} is not an agent"),
    }
}

/// Alice has 1000 TRM and a mandate, Bob has 500 and none; the issuer may make 2000 and made none.
fn books() -> MemoryTables {
    let mut books = MemoryTables::default();
    books.set_quota(trm(2_000)).unwrap();
    books
        .set_mandate(&agent(&ALICE), &MandateRow::new(LIMITS))
        .unwrap();
    let group = [
        single("a", Account::Position, ALICE, 1_000),
        single("b", Account::Position, BOB, 500),
    ];
    apply_group(&mut books, &group, at(0)).unwrap();
    books
}

fn freeze(books: &mut MemoryTables) {
    let (reason, since) = ("stop".into(), at(0));
    books.set_freeze(Some(&Freeze { reason, since })).unwrap();
}

fn mandate(books: &MemoryTables) -> MandateRow {
    books.mandate(&agent(&ALICE)).unwrap().unwrap()
}

fn available(books: &MemoryTables, account: &Account) -> Amount {
    books.totals(account).unwrap().available()
}

fn sound(books: &MemoryTables) {
    for check in audit(books).unwrap() {
        assert!(check.holds, "{}: {}", check.rule, check.detail);
    }
}

/// Applies, and checks that a refusal wrote nothing and that the books hold.
fn does(books: &mut MemoryTables, transfer: &Transfer, now: Timestamp) -> Result<Applied, Refusal> {
    let before = books.clone();
    match apply(books, transfer, now) {
        Ok(applied) => {
            assert_eq!(applied == Applied::Already, *books == before);
            sound(books);
            Ok(applied)
        }
        Err(ApplyError::Refused(refusal)) => {
            assert_eq!(*books, before, "a refusal wrote something");
            Err(refusal)
        }
        Err(ApplyError::Store(error)) => panic!("{error}"),
    }
}

fn over(limit: Limit, allowed: u64, left: u64, asked: u64) -> Refusal {
    Refusal::OverBudget {
        limit,
        allowed: trm(allowed),
        left: trm(left),
        asked: trm(asked),
        frees_at: None,
    }
}

fn ended(name: &str, end: HoldEnd) -> Refusal {
    Refusal::HoldEnded {
        hold: id(name),
        end,
    }
}

fn short(account: Account, available: u64, asked: u64) -> Refusal {
    let (available, asked) = (trm(available), trm(asked));
    Refusal::NotEnough {
        account,
        available,
        asked,
    }
}

type Case = (
    &'static str,
    fn(&mut MemoryTables),
    Transfer,
    Result<Applied, Refusal>,
);

fn run(cases: Vec<Case>) {
    for (what, prepare, transfer, outcome) in cases {
        let mut books = books();
        prepare(&mut books);
        assert_eq!(does(&mut books, &transfer, at(0)), outcome, "{what}");
    }
}

fn nothing(_: &mut MemoryTables) {}

fn held(books: &mut MemoryTables) {
    does(books, &hold("h", ALICE, OUT, 40), at(0)).unwrap();
}

fn held_and(books: &mut MemoryTables, end: &Transfer) {
    held(books);
    does(books, end, at(0)).unwrap();
}

fn spent_hour(books: &mut MemoryTables) {
    for name in ["s1", "s2"] {
        does(books, &single(name, ALICE, OUT, 45), at(0)).unwrap();
    }
}

fn old_spending(books: &mut MemoryTables) {
    let mut row = mandate(books);
    row.used = u128::from(trm(390).utrm());
    books.set_mandate(&agent(&ALICE), &row).unwrap();
}

fn filled(books: &mut MemoryTables, transfer: &Transfer) {
    assert_eq!(does(books, transfer, at(0)), Ok(Applied::Now));
}

#[test]
#[rustfmt::skip]
fn every_outcome_of_one_transfer() {
    use Account::{Issuer, Position};
    use Applied::{Already, Now};
    use HoldEnd::{Expired, Posted, Voided};
    use Refusal::{MoreThanHeld, OverCap, SameAccount, UnknownHold, Zero};
    let taken = |name| Err(Refusal::IdTaken { id: id(name) });
    let is_over = |end| Err(ended("h", end));
    let unknown = || Err(UnknownHold { hold: id("x") });
    let stopped = || Err(Refusal::Frozen { reason: "stop".into() });
    let nobody = || Err(Refusal::NoMandate { agent: agent(&BOB) });
    let capped = || Err(OverCap { left: trm(500), asked: trm(501) });
    let hour_left_10 = || Err(Refusal::OverBudget {
        limit: Limit::Hour,
        allowed: trm(100),
        left: trm(10),
        asked: trm(11),
        // The minute of the spending is out of the window 61 minutes after it began.
        frees_at: Some(Timestamp::from_ms(1_000 * HOUR + 61 * MINUTE)),
    });
    run(vec![
        ("moves", nothing, single("t", ALICE, OUT, 50), Ok(Now)),
        ("moves again", nothing, single("a", Position, ALICE, 1_000), Ok(Already)),
        ("other amount", nothing, single("a", Position, ALICE, 999), taken("a")),
        ("other parties", nothing, single("a", Position, BOB, 1_000), taken("a")),
        ("other kind", held, void("h", "h"), taken("h")),
        ("zero", nothing, single("t", ALICE, OUT, 0), Err(Zero)),
        ("zero held", nothing, hold("t", ALICE, OUT, 0), Err(Zero)),
        ("zero posted", held, post("t", "h", 0), Err(Zero)),
        ("to itself", nothing, single("t", ALICE, ALICE, 1), Err(SameAccount)),
        ("held to itself", nothing, hold("t", OUT, OUT, 1), Err(SameAccount)),
        ("holds", nothing, hold("t", ALICE, OUT, 50), Ok(Now)),
        ("holds again", held, hold("h", ALICE, OUT, 40), Ok(Already)),
        ("holds other", held, hold("h", ALICE, OUT, 41), taken("h")),
        ("posts all", held, post("t", "h", 40), Ok(Now)),
        ("posts part", held, post("t", "h", 1), Ok(Now)),
        ("posts more", held, post("t", "h", 41), Err(MoreThanHeld { held: trm(40), asked: trm(41) })),
        ("voids", held, void("t", "h"), Ok(Now)),
        ("posts what is unknown", nothing, post("t", "x", 1), unknown()),
        ("voids what is unknown", nothing, void("t", "x"), unknown()),
        ("expires what is unknown", nothing, expire("t", "x"), unknown()),
        ("posts again", |b| held_and(b, &post("p", "h", 7)), post("p", "h", 7), Ok(Already)),
        ("posts other", |b| held_and(b, &post("p", "h", 7)), post("p", "h", 8), taken("p")),
        ("posts twice", |b| held_and(b, &post("p", "h", 7)), post("t", "h", 7), is_over(Posted)),
        ("voids posted", |b| held_and(b, &post("p", "h", 7)), void("t", "h"), is_over(Posted)),
        ("expires posted", |b| held_and(b, &post("p", "h", 7)), expire("t", "h"), is_over(Posted)),
        ("posts voided", |b| held_and(b, &void("v", "h")), post("t", "h", 7), is_over(Voided)),
        ("voids twice", |b| held_and(b, &void("v", "h")), void("t", "h"), is_over(Voided)),
        ("expires voided", |b| held_and(b, &void("v", "h")), expire("t", "h"), is_over(Voided)),
        ("posts expired", |b| held_and(b, &expire("e", "h")), post("t", "h", 7), is_over(Expired)),
        ("frozen", freeze, single("t", ALICE, OUT, 1), stopped()),
        ("frozen hold", freeze, hold("t", ALICE, OUT, 1), stopped()),
        ("frozen, not an agent's", freeze, single("t", Position, ALICE, 1), Ok(Now)),
        ("no mandate", nothing, hold("t", BOB, OUT, 1), nobody()),
        ("request", nothing, hold("t", ALICE, OUT, 51), Err(over(Limit::PerRequest, 50, 50, 51))),
        ("hour filled", spent_hour, hold("t", ALICE, OUT, 10), Ok(Now)),
        ("hour", spent_hour, hold("t", ALICE, OUT, 11), hour_left_10()),
        ("life filled", old_spending, hold("t", ALICE, OUT, 10), Ok(Now)),
        ("life", old_spending, hold("t", ALICE, OUT, 11), Err(over(Limit::Lifetime, 400, 10, 11))),
        ("cap filled", nothing, single("t", Issuer, PEER, 2_000), Ok(Now)),
        ("cap", |b| filled(b, &single("i", Issuer, PEER, 1_500)), single("t", Issuer, PEER, 501), capped()),
        ("cap, held", |b| filled(b, &hold("i", Issuer, PEER, 1_500)), single("t", Issuer, PEER, 501), capped()),
        ("funds", nothing, single("t", OUT, PEER, 1), Err(short(OUT, 0, 1))),
        ("funds, held", held, single("t", OUT, PEER, 40), Err(short(OUT, 0, 40))),
        (
            "position gives no more than came",
            |b| filled(b, &single("i", Issuer, PEER, 1_501)),
            single("t", PEER, Position, 1_501),
            Err(short(Position, 1_500, 1_501)),
        ),
    ]);
}

/// Everything that is wrong with a transfer is put right one thing after another, and the refusals
/// come in the documented order.
#[test]
fn the_first_refusal_in_the_documented_order_is_given() {
    let mut books = books();
    held(&mut books);
    freeze(&mut books);
    let mut row = mandate(&books);
    row.limits = Limits {
        per_request_trm: trm(1),
        hour_trm: trm(1),
        lifetime_trm: trm(1),
    };
    let poor = Account::Agent(AgentId::from_bytes([9; 16]));
    let kind = |transfer: Transfer| transfer.kind;
    let with_id = |kind| Transfer {
        id: id("h"),
        ..make("t", kind)
    };
    let ask = kind(hold("t", poor, OUT, 60));

    // 1 before 2 and 3.
    let zero_to_itself = kind(hold("t", poor, poor, 0));
    assert_eq!(
        does(&mut books, &with_id(zero_to_itself), at(0)),
        Err(Refusal::IdTaken { id: id("h") })
    );
    // 2 before 3; 3 before 7.
    assert_eq!(
        does(&mut books, &make("t", zero_to_itself), at(0)),
        Err(Refusal::Zero)
    );
    let to_itself = kind(hold("t", poor, poor, 60));
    assert_eq!(
        does(&mut books, &make("t", to_itself), at(0)),
        Err(Refusal::SameAccount)
    );
    // 2 before 4, 4 before 6, 5 before 6: an ended hold is ended whatever is asked of it.
    assert_eq!(
        does(&mut books, &post("t", "x", 0), at(0)),
        Err(Refusal::Zero)
    );
    assert_eq!(
        does(&mut books, &post("t", "x", 99), at(0)),
        Err(Refusal::UnknownHold { hold: id("x") })
    );
    assert_eq!(
        does(&mut books, &post("t", "h", 99), at(TIMEOUT)),
        Err(ended("h", HoldEnd::Expired))
    );
    // 6 although it is frozen, and a post in full passes: the freeze stops new holds.
    assert!(matches!(
        does(&mut books, &post("t", "h", 41), at(0)),
        Err(Refusal::MoreThanHeld { .. })
    ));
    // 7 before 8.
    assert!(matches!(
        does(&mut books, &make("t", ask), at(0)),
        Err(Refusal::Frozen { .. })
    ));
    books.set_freeze(None).unwrap();
    // 8 before 9.
    assert!(matches!(
        does(&mut books, &make("t", ask), at(0)),
        Err(Refusal::NoMandate { .. })
    ));
    // 9 before 10 before 11 before 13.
    for (limit, limits) in [
        (Limit::PerRequest, row.limits),
        (
            Limit::Hour,
            Limits {
                per_request_trm: trm(60),
                ..row.limits
            },
        ),
        (
            Limit::Lifetime,
            Limits {
                lifetime_trm: trm(1),
                ..LIMITS_OF_60
            },
        ),
    ] {
        books
            .set_mandate(&agent(&poor), &MandateRow::new(limits))
            .unwrap();
        match does(&mut books, &make("t", ask), at(0)) {
            Err(Refusal::OverBudget { limit: given, .. }) => assert_eq!(given, limit),
            other => panic!("{limit}: {other:?}"),
        }
    }
    books
        .set_mandate(&agent(&poor), &MandateRow::new(LIMITS_OF_60))
        .unwrap();
    assert_eq!(
        does(&mut books, &make("t", ask), at(0)),
        Err(short(poor, 0, 60))
    );
    // 12 before 13: both rules of this pair are broken, the issuer's is named.
    books.set_quota(Amount::ZERO).unwrap();
    let both = single("t", Account::Issuer, Account::Position, 1_501);
    assert!(matches!(
        does(&mut books, &both, at(0)),
        Err(Refusal::OverCap { .. })
    ));
}

const LIMITS_OF_60: Limits = Limits {
    per_request_trm: Amount::from_trm(60),
    hour_trm: Amount::from_trm(60),
    lifetime_trm: Amount::from_trm(60),
};

#[test]
fn the_four_totals_and_what_the_mandate_used_after_each_end_of_a_hold() {
    // (end, posted of alice, what the mandate counts)
    let ends: [(Transfer, u64); 4] = [
        (post("e", "h", 40), 40),
        (post("e", "h", 15), 15),
        (void("e", "h"), 0),
        (expire("e", "h"), 0),
    ];
    for (end, spent) in ends {
        let mut books = books();
        held(&mut books);
        let totals = books.totals(&ALICE).unwrap();
        assert_eq!((totals.pending(), totals.available()), (trm(40), trm(960)));
        assert_eq!(totals.posted(), trm(1_000));
        assert_eq!(
            books.totals(&OUT).unwrap().available(),
            trm(0),
            "held is not there yet"
        );
        assert_eq!(mandate(&books).used_in_hour(at(0)), trm(40));
        // The end comes later; what goes back goes back to the minute of the charge.
        does(&mut books, &end, at(TIMEOUT - 1)).unwrap();
        let totals = books.totals(&ALICE).unwrap();
        assert_eq!(
            (totals.pending(), totals.available()),
            (trm(0), trm(1_000 - spent))
        );
        assert_eq!(available(&books, &OUT), trm(spent));
        assert_eq!(books.totals(&OUT).unwrap().credits_pending, 0);
        let row = mandate(&books);
        assert_eq!(row.used_in_hour(at(TIMEOUT)), trm(spent));
        assert_eq!(row.used_in_all(), trm(spent));
        assert_eq!(row.used_in_hour(at(HOUR + MINUTE)), trm(0));
    }
}

#[test]
fn giving_back_after_the_window_has_passed_takes_nothing_off_newer_spending() {
    let mut books = books();
    let mut long = hold("h", ALICE, OUT, 40);
    if let Kind::Hold { timeout_ms, .. } = &mut long.kind {
        *timeout_ms = 3 * HOUR;
    }
    does(&mut books, &long, at(0)).unwrap();
    does(&mut books, &single("s", ALICE, OUT, 30), at(2 * HOUR)).unwrap();
    does(&mut books, &void("v", "h"), at(2 * HOUR)).unwrap();
    assert_eq!(mandate(&books).used_in_hour(at(2 * HOUR)), trm(30));
    assert_eq!(mandate(&books).used_in_all(), trm(30));
}

#[test]
fn a_group_is_applied_whole_or_not_at_all() {
    let mut books = books();
    held(&mut books);
    let before = books.clone();
    let pay = [post("p", "h", 30), single("o", OUT, PEER, 31)];
    let refused = apply_group(&mut books, &pay, at(0));
    assert!(matches!(refused, Err(ApplyError::Refused(r)) if r == short(OUT, 30, 31)));
    assert_eq!(books, before);
    let pay = [post("p", "h", 30), single("o", OUT, PEER, 30)];
    assert_eq!(apply_group(&mut books, &pay, at(0)).unwrap(), Applied::Now);
    assert_eq!(
        apply_group(&mut books, &pay, at(0)).unwrap(),
        Applied::Already
    );
    assert_eq!(available(&books, &PEER), trm(30));
    sound(&books);
    // One of the group was there before, the other was not: the rest of it is applied.
    let more = [pay[1], single("q", PEER, OUT, 1)];
    assert_eq!(apply_group(&mut books, &more, at(0)).unwrap(), Applied::Now);
    assert_eq!(available(&books, &PEER), trm(29));
}

#[test]
fn a_hold_whose_date_has_come_cannot_be_posted_although_nothing_expired_it_yet() {
    let mut books = books();
    held(&mut books);
    let (last, over) = (at(TIMEOUT - 1), at(TIMEOUT));
    for end in [post("t", "h", 1), void("t", "h")] {
        assert_eq!(
            does(&mut books, &end, over),
            Err(ended("h", HoldEnd::Expired))
        );
    }
    assert!(matches!(
        renew(&mut books, &id("h"), over),
        Err(ApplyError::Refused(Refusal::HoldEnded { .. }))
    ));
    assert_eq!(expire_due(&mut books, last, 9).unwrap(), 0);
    assert_eq!(expire_due(&mut books, over, 9).unwrap(), 1);
    assert_eq!(expire_due(&mut books, over, 9).unwrap(), 0);
    assert_eq!(available(&books, &ALICE), trm(1_000));
    sound(&books);
}

#[test]
fn renewing_counts_the_whole_timeout_again_and_only_for_an_open_hold() {
    let mut books = books();
    held(&mut books);
    renew(&mut books, &id("h"), at(TIMEOUT - 1)).unwrap();
    assert_eq!(expire_due(&mut books, at(TIMEOUT), 9).unwrap(), 0);
    assert_eq!(
        books.open_holds(at(u64::MAX - T0), 9).unwrap().len(),
        1,
        "one index row"
    );
    does(&mut books, &post("p", "h", 5), at(2 * TIMEOUT - 2)).unwrap();
    assert!(matches!(
        renew(&mut books, &id("h"), at(TIMEOUT)),
        Err(ApplyError::Refused(Refusal::HoldEnded { .. }))
    ));
    assert!(matches!(
        renew(&mut books, &id("x"), at(0)),
        Err(ApplyError::Refused(Refusal::UnknownHold { .. }))
    ));
}

#[test]
fn due_holds_expire_soonest_first_and_no_more_at_once_than_asked() {
    let mut books = books();
    for (n, name) in ["1", "2", "3"].into_iter().enumerate() {
        let now = at(u64::try_from(n).unwrap() * 1_000);
        does(&mut books, &hold(name, ALICE, OUT, 10), now).unwrap();
    }
    let over = at(TIMEOUT + 5_000);
    assert_eq!(expire_due(&mut books, over, 2).unwrap(), 2);
    let left = books.open_holds(over, 9).unwrap();
    assert_eq!(
        left.iter().map(|(hold, _)| *hold).collect::<Vec<_>>(),
        [id("3")]
    );
    assert_eq!(expire_due(&mut books, over, 2).unwrap(), 1);
    assert_eq!(available(&books, &ALICE), trm(1_000));
    sound(&books);
}

/// The hour's limit over every 60 minutes there are, checked charge by charge against the charges
/// themselves.
fn burst(times: impl IntoIterator<Item = u64>, ask: u64) -> u64 {
    let mut books = books();
    let roomy = Limits {
        lifetime_trm: Amount::from_trm(1_000_000),
        ..LIMITS
    };
    books
        .set_mandate(&agent(&ALICE), &MandateRow::new(roomy))
        .unwrap();
    apply(
        &mut books,
        &single("rich", Account::Position, ALICE, 900_000),
        at(0),
    )
    .unwrap();
    let (mut passed, mut count) = (Vec::<(u64, u64)>::new(), 0_u32);
    for ms in times {
        count += 1;
        match apply(
            &mut books,
            &single(&count.to_string(), ALICE, OUT, ask),
            at(ms),
        ) {
            Ok(_) => passed.push((ms, ask)),
            Err(ApplyError::Refused(Refusal::OverBudget {
                limit: Limit::Hour,
                frees_at,
                ..
            })) => {
                // The moment it names lets it through, the moment before does not.
                let then = frees_at.expect("time alone brings it");
                let agent = agent(&ALICE);
                assert!(gate::check(&books, &agent, trm(ask), then).is_ok());
                let before = Timestamp::from_ms(then.ms() - 1);
                assert!(gate::check(&books, &agent, trm(ask), before).is_err());
            }
            Err(other) => panic!("{other}"),
        }
    }
    for (end, _) in &passed {
        let inside = passed.iter().filter(|(t, _)| *t <= *end && end - t < HOUR);
        let sum: u64 = inside.map(|(_, n)| n).sum();
        assert!(sum <= 100, "{sum} TRM in the hour that ends at {end}");
    }
    passed.iter().map(|(_, n)| n).sum()
}

#[test]
fn no_sixty_minutes_see_more_than_the_hourly_limit() {
    // Everything at once.
    assert_eq!(burst([0; 20], 10), 100);
    // All at the end of one clock hour and all at the start of the next: what fixed windows let by.
    let edge = 59 * MINUTE + 29_499;
    assert_eq!(burst([edge; 20].into_iter().chain([edge + 1; 20]), 10), 100);
    // Last millisecond inside the window, and the first outside of it.
    assert_eq!(burst([vec![0; 10], vec![HOUR - 1; 10]].concat(), 10), 100);
    // At exactly 60 minutes a bucket of one minute may still count: late by less than a minute.
    assert_eq!(burst([vec![0; 10], vec![HOUR; 10]].concat(), 10), 100);
    assert_eq!(
        burst([vec![0; 10], vec![HOUR + MINUTE; 10]].concat(), 10),
        200
    );
    // A drip, faster than the limit, at awkward steps.
    for step in [7_919, 59_999, 60_000, 60_001, 181_000] {
        let total = burst((0..400).map(|n| n * step), 7);
        assert!(total >= 98, "{total} TRM at a step of {step}");
    }
    // A burst on either side of every minute boundary.
    let edges = (0..130).flat_map(|n| {
        let edge = n * MINUTE + 29_500;
        [edge - 1, edge, edge]
    });
    burst(edges, 9);
}

#[test]
fn an_earlier_clock_frees_nothing() {
    let mut books = books();
    spent_hour(&mut books);
    let earlier = Timestamp::from_ms(T0 - 2 * HOUR);
    assert!(does(&mut books, &hold("t", ALICE, OUT, 11), earlier).is_err());
    does(&mut books, &hold("u", ALICE, OUT, 10), earlier).unwrap();
    assert!(does(&mut books, &hold("v", ALICE, OUT, 1), at(0)).is_ok());
    assert_eq!(mandate(&books).used_in_hour(at(0)), trm(91));
}

#[test]
fn a_mandate_row_stays_small_however_long_it_is_used() {
    let mut books = books();
    books
        .set_mandate(&agent(&ALICE), &MandateRow::new(Limits::DEFAULT))
        .unwrap();
    for n in 0..400_u64 {
        let t = single(&n.to_string(), ALICE, OUT, 1);
        apply(&mut books, &t, at(n * 31_000)).unwrap();
        assert!(mandate(&books).minutes.len() <= 61);
    }
}

#[test]
fn damaged_totals_are_a_failure_of_the_store_and_not_a_panic() {
    let mut books = books();
    held(&mut books);
    let none = Totals::default();
    books.set_totals(&ALICE, &none).unwrap();
    let failed = apply(&mut books, &void("v", "h"), at(0));
    assert!(matches!(
        failed,
        Err(ApplyError::Store(StoreError::Row {
            table: Table::Accounts
        }))
    ));
    let full = Totals {
        credits_posted: u128::MAX,
        ..none
    };
    books.set_totals(&ALICE, &full).unwrap();
    let failed = apply(&mut books, &single("t", Account::Position, ALICE, 1), at(0));
    assert!(matches!(
        failed,
        Err(ApplyError::Store(StoreError::Row { .. }))
    ));
}

#[test]
fn entries_are_numbered_from_one_without_gaps_and_refusals_take_no_number() {
    let mut books = books();
    assert_eq!(books.last_seq().unwrap(), 2);
    assert!(does(&mut books, &hold("t", ALICE, OUT, 51), at(0)).is_err());
    held(&mut books);
    held(&mut books);
    assert_eq!(books.last_seq().unwrap(), 3);
    let entry = books.entry(&id("h")).unwrap().unwrap();
    assert_eq!((entry.seq, entry.at), (3, at(0)));
}
