//! A line per case: what was there, what was asked, what came of it.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::too_many_lines,
    reason = "small numbers, and tables that are one list"
)]

use tirami_manifest::mandate::Limits;
use tirami_manifest::{AgentId, Amount, Timestamp};

use super::super::account::Totals;
use super::super::fixture::*;
use super::super::rule::Rule as GateRule;
use super::super::tables::{MemoryTables, ReadTables};
use super::super::usage::Usage;
use super::*;

fn over(limit: GateRule, allowed: u64, left: u64, asked: u64) -> Refusal {
    Refusal::OverBudget {
        limit,
        mandate: ROOT,
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

fn allot(name: &str, from: (Account, Pot), to: (Account, Pot), n: u64) -> Transfer {
    let kind = Kind::Allot {
        from: agent(&from.0),
        from_pot: from.1,
        to: agent(&to.0),
        to_pot: to.1,
        amount: trm(n),
    };
    make(name, kind)
}

/// Takes from an agent and names no spend.
fn nameless(name: &str, debit: Account, n: u64) -> Transfer {
    let kind = Kind::Single {
        debit,
        credit: OUT,
        amount: trm(n),
        spend: None,
    };
    make(name, kind)
}

fn repays(name: &str, debit: Account, n: u64) -> Transfer {
    Transfer {
        code: TransferCode::Repayment,
        ..nameless(name, debit, n)
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
    let used = u128::from(trm(390).utrm());
    let set = |mut usage: Usage<&mut [u8]>| usage.set_used(used);
    books.update_usage(&ROOT, set).unwrap();
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
    use Pot::{Earned, Restricted, Seed};
    use Refusal::{MoreThanHeld, OverCap, SameAccount, UnknownHold, Zero};
    let taken = |name| Err(Refusal::IdTaken { id: id(name) });
    let is_over = |end| Err(ended("h", end));
    let unknown = || Err(UnknownHold { hold: id("x") });
    let stopped = || Err(Refusal::Frozen { reason: "stop".into() });
    let nobody = || Err(Refusal::NoMandate { agent: agent(&BOB) });
    let vouched = |vouched, asked| Err(Refusal::Vouched { vouched: trm(vouched), asked: trm(asked) });
    let capped = || Err(OverCap { left: trm(500), asked: trm(501) });
    let hour_left_10 = || Err(Refusal::OverBudget {
        limit: GateRule::Hour,
        mandate: ROOT,
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
        ("vouches", held, vouch("t", "h", 40), Ok(Now)),
        ("vouches more", |b| held_and(b, &vouch("v", "h", 7)), vouch("t", "h", 8), Ok(Now)),
        ("vouches the same", |b| held_and(b, &vouch("v", "h", 7)), vouch("t", "h", 7), Err(Zero)),
        ("vouches less", |b| held_and(b, &vouch("v", "h", 7)), vouch("t", "h", 6), vouched(7, 6)),
        ("vouches above", held, vouch("t", "h", 41), Err(MoreThanHeld { held: trm(40), asked: trm(41) })),
        ("vouches nothing", held, vouch("t", "h", 0), Err(Zero)),
        ("vouches again", |b| held_and(b, &vouch("v", "h", 7)), vouch("v", "h", 7), Ok(Already)),
        ("vouches what is unknown", nothing, vouch("t", "x", 1), unknown()),
        ("vouches posted", |b| held_and(b, &post("p", "h", 7)), vouch("t", "h", 7), is_over(Posted)),
        ("frozen vouch", |b| { held(b); freeze(b) }, vouch("t", "h", 1), stopped()),
        ("frozen post", |b| { held(b); freeze(b) }, post("t", "h", 1), Ok(Now)),
        ("frozen void", |b| { held(b); freeze(b) }, void("t", "h"), Ok(Now)),
        ("posts less than vouched", |b| held_and(b, &vouch("v", "h", 7)), post("t", "h", 6), vouched(7, 6)),
        ("posts what was vouched", |b| held_and(b, &vouch("v", "h", 7)), post("t", "h", 7), Ok(Now)),
        ("voids as failed", held, fails("t", "h"), Ok(Now)),
        ("voids otherwise", |b| held_and(b, &void("v", "h")), fails("v", "h"), taken("v")),
        ("allots", nothing, allot("t", (ALICE, Seed), (ALICE, Earned), 1_000), Ok(Now)),
        ("allots to another", nothing, allot("t", (BOB, Seed), (ALICE, Restricted), 500), Ok(Now)),
        ("allots while frozen", freeze, allot("t", (ALICE, Seed), (BOB, Seed), 1), Ok(Now)),
        ("allots nothing", nothing, allot("t", (ALICE, Seed), (BOB, Seed), 0), Err(Zero)),
        ("allots to itself", nothing, allot("t", (ALICE, Seed), (ALICE, Seed), 1), Err(SameAccount)),
        ("allots more", nothing, allot("t", (ALICE, Seed), (BOB, Seed), 1_001), Err(short(ALICE, 1_000, 1_001))),
        ("allots from elsewhere", nothing, allot("t", (ALICE, Earned), (BOB, Seed), 1), Err(short(ALICE, 0, 1))),
        ("allots what is held", held, allot("t", (ALICE, Seed), (BOB, Seed), 961), Err(short(ALICE, 960, 961))),
        ("repays without a mandate", nothing, repays("t", BOB, 500), Ok(Now)),
        ("repays more", nothing, repays("t", BOB, 501), Err(short(BOB, 500, 501))),
        ("repays while frozen", freeze, repays("t", BOB, 1), stopped()),
        ("takes without saying who", nothing, nameless("t", ALICE, 1), Err(Refusal::NoMandate { agent: ROOT })),
        ("takes so while frozen", freeze, nameless("t", ALICE, 1), stopped()),
        ("spends another's account", nothing, make("t", Kind::Single { debit: BOB, credit: OUT, amount: trm(1), spend: Some(spend(ROOT)) }), Err(Refusal::NoMandate { agent: ROOT })),
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
        ("request", nothing, hold("t", ALICE, OUT, 51), Err(over(GateRule::PerRequest, 50, 50, 51))),
        ("hour filled", spent_hour, hold("t", ALICE, OUT, 10), Ok(Now)),
        ("hour", spent_hour, hold("t", ALICE, OUT, 11), hour_left_10()),
        ("life filled", old_spending, hold("t", ALICE, OUT, 10), Ok(Now)),
        ("life", old_spending, hold("t", ALICE, OUT, 11), Err(over(GateRule::Lifetime, 400, 10, 11))),
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
    does(&mut books, &vouch("v", "h", 10), at(0)).unwrap();
    freeze(&mut books);
    let nobody = AgentId::from_bytes([9; 16]);
    let poor = Account::Agent(nobody);
    let kind = |transfer: Transfer| transfer.kind;
    let ask = kind(hold("t", poor, OUT, 60));
    // (the transfer's id, what is asked, when, the number of the refusal)
    let cases = [
        // 1 before 2 and 3; 2 before 3; 3 before 8 and 9.
        ("h", kind(hold("t", poor, poor, 0)), 0, 1),
        ("t", kind(hold("t", poor, poor, 0)), 0, 2),
        ("t", kind(hold("t", poor, poor, 60)), 0, 3),
        // 1 and 2 before 4.
        ("h", kind(post("t", "x", 0)), 0, 1),
        ("t", kind(post("t", "x", 0)), 0, 2),
        ("t", kind(vouch("t", "x", 0)), 0, 2),
        ("h", kind(void("t", "x")), 0, 1),
        ("t", kind(post("t", "x", 99)), 0, 4),
        ("t", kind(vouch("t", "x", 99)), 0, 4),
        // 5 before 6 and 7: an ended hold is ended whatever is asked of it.
        ("t", kind(post("t", "h", 99)), TIMEOUT, 5),
        ("t", kind(post("t", "h", 9)), TIMEOUT, 5),
        ("t", kind(vouch("t", "h", 99)), TIMEOUT, 5),
        // 2 before 7, 6 and 7 before 8.
        ("t", kind(post("t", "h", 0)), 0, 2),
        ("t", kind(vouch("t", "h", 0)), 0, 2),
        ("t", kind(post("t", "h", 41)), 0, 6),
        ("t", kind(vouch("t", "h", 41)), 0, 6),
        ("t", kind(post("t", "h", 9)), 0, 7),
        ("t", kind(vouch("t", "h", 9)), 0, 7),
        ("t", kind(vouch("t", "h", 10)), 0, 2),
        ("t", kind(vouch("t", "h", 11)), 0, 8),
        // 8 before 9 and 31.
        ("t", ask, 0, 8),
    ];
    for (name, kind, ms, number) in cases {
        let refused = does(
            &mut books,
            &Transfer {
                id: id(name),
                ..make("t", kind)
            },
            at(ms),
        );
        assert_eq!(refused.map_err(|r| r.number()), Err(number), "{kind:?}");
    }
    books.set_freeze(None).unwrap();
    // 9 before 21 before 23 before 25 before 31. What lies between has a test of the gate.
    let steps = [
        (9, None),
        (21, Some((1, 1, 1))),
        (23, Some((60, 1, 1))),
        (25, Some((60, 60, 1))),
        (31, Some((60, 60, 60))),
    ];
    for (number, figures) in steps {
        if let Some((request, hour, lifetime)) = figures {
            let limits = Limits {
                per_request_trm: trm(request),
                hour_trm: trm(hour),
                lifetime_trm: trm(lifetime),
                ..Limits::DEFAULT
            };
            grant(&mut books, nobody, &terms(limits));
        }
        let refused = does(&mut books, &make("t", ask), at(0)).unwrap_err();
        assert_eq!(refused.number(), number, "{refused}");
    }
    assert_eq!(
        does(&mut books, &make("t", ask), at(0)),
        Err(short(poor, 0, 60))
    );
    // 30 before 31: both rules of this pair are broken, the issuer's is named.
    books.set_quota(Amount::ZERO).unwrap();
    let both = single("t", Account::Issuer, Account::Position, 1_501);
    let refused = does(&mut books, &both, at(0)).unwrap_err();
    assert_eq!(refused.number(), 30);
}

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
        assert_eq!(used_in_hour(&books, ROOT, 0), 40);
        // The end comes later; what goes back goes back to the minute of the charge.
        does(&mut books, &end, at(TIMEOUT - 1)).unwrap();
        let totals = books.totals(&ALICE).unwrap();
        assert_eq!(
            (totals.pending(), totals.available()),
            (trm(0), trm(1_000 - spent))
        );
        assert_eq!(available(&books, &OUT), trm(spent));
        assert_eq!(books.totals(&OUT).unwrap().credits_pending, 0);
        assert_eq!(used_in_hour(&books, ROOT, TIMEOUT), spent);
        assert_eq!(usage(&books, ROOT).used_in_all(), trm(spent));
        assert_eq!(used_in_hour(&books, ROOT, HOUR + MINUTE), 0);
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
    assert_eq!(used_in_hour(&books, ROOT, 2 * HOUR), 30);
    assert_eq!(usage(&books, ROOT).used_in_all(), trm(30));
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
    grant(&mut books, ROOT, &terms(roomy));
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
                limit: GateRule::Hour,
                frees_at,
                ..
            })) => {
                // The moment it names lets it through, the moment before does not.
                let then = frees_at.expect("time alone brings it");
                let spend = spend(ROOT);
                assert!(gate::check(&books, &ROOT, &spend, trm(ask), then).is_ok());
                let before = Timestamp::from_ms(then.ms() - 1);
                assert!(gate::check(&books, &ROOT, &spend, trm(ask), before).is_err());
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
    // What is charged by an earlier clock counts as charged at the latest time seen.
    assert!(does(&mut books, &hold("v", ALICE, OUT, 1), at(0)).is_err());
    assert_eq!(used_in_hour(&books, ROOT, 0), 100);
    does(&mut books, &void("w", "u"), earlier).unwrap();
    assert_eq!(
        used_in_hour(&books, ROOT, 0),
        100,
        "and is given back to no other time"
    );
    assert_eq!(usage(&books, ROOT).used_in_all(), trm(90));
}

#[test]
fn what_was_used_stays_small_however_long_a_mandate_is_used() {
    let mut books = books();
    grant(&mut books, ROOT, &terms(Limits::DEFAULT));
    let row = |books: &MemoryTables| {
        books
            .get(Table::Usage, ROOT.as_bytes())
            .unwrap()
            .map_or(0, |row| row.len())
    };
    apply(&mut books, &single("0", ALICE, OUT, 1), at(0)).unwrap();
    let before = row(&books);
    for n in 1..400_u64 {
        let t = single(&n.to_string(), ALICE, OUT, 1);
        apply(&mut books, &t, at(n * 31_000)).unwrap();
        assert_eq!(row(&books), before);
    }
    assert!(before > 0 && before < 4_096, "{before} bytes");
}

#[test]
fn damaged_totals_are_a_failure_of_the_store_and_not_a_panic() {
    let mut books = books();
    held(&mut books);
    let mut row = books.account(&ALICE).unwrap();
    row.totals = Totals::default();
    books.set_account(&ALICE, &row).unwrap();
    let failed = apply(&mut books, &void("v", "h"), at(0));
    assert!(matches!(
        failed,
        Err(ApplyError::Store(StoreError::Row {
            table: Table::Accounts
        }))
    ));
    let full = Totals {
        credits_posted: u128::MAX,
        ..Totals::default()
    };
    row.totals = full;
    books.set_account(&ALICE, &row).unwrap();
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

#[test]
fn what_is_vouched_for_moves_whatever_ends_the_hold() {
    // (end, what moves of the 40 that are held and the 15 that are vouched for)
    let ends = [
        (post("e", "h", 40), 40),
        (post("e", "h", 15), 15),
        (void("e", "h"), 15),
        (fails("e", "h"), 15),
        (expire("e", "h"), 15),
    ];
    for (end, moves) in ends {
        let mut books = books();
        held(&mut books);
        does(&mut books, &vouch("v1", "h", 7), at(0)).unwrap();
        does(&mut books, &vouch("v2", "h", 15), at(0)).unwrap();
        let totals = books.totals(&ALICE).unwrap();
        assert_eq!((totals.pending(), totals.posted()), (trm(40), trm(1_000)));
        does(&mut books, &end, at(TIMEOUT - 1)).unwrap();
        assert_eq!(available(&books, &OUT), trm(moves), "{end:?}");
        assert_eq!(available(&books, &ALICE), trm(1_000 - moves));
        assert_eq!(usage(&books, ROOT).used_in_all(), trm(moves));
    }
    // Time alone ends it no other way.
    let mut books = books();
    held(&mut books);
    does(&mut books, &vouch("v", "h", 15), at(0)).unwrap();
    assert_eq!(expire_due(&mut books, at(TIMEOUT), 9).unwrap(), 1);
    assert_eq!(available(&books, &OUT), trm(15));
    sound(&books);
}

#[test]
fn a_draw_moves_part_of_a_hold_and_leaves_the_rest_set_aside() {
    let mut books = books();
    held(&mut books);
    let state = |books: &MemoryTables| {
        let totals = books.totals(&ALICE).unwrap();
        let usage = usage(books, ROOT);
        let out = available(books, &OUT);
        let trm = |amount: Amount| amount.utrm() / 1_000_000;
        (
            trm(totals.pending()),
            trm(out),
            trm(usage.used_in_all()),
            usage.open(),
        )
    };
    let refused = |books: &mut MemoryTables, t: Transfer| does(books, &t, at(0)).unwrap_err();
    assert_eq!(refused(&mut books, draw("z", "h", 0)).number(), 2);
    assert_eq!(refused(&mut books, draw("z", "nothing", 1)).number(), 4);
    assert_eq!(refused(&mut books, draw("z", "h", 41)).number(), 6);
    does(&mut books, &vouch("v", "h", 15), at(0)).unwrap();
    // A freeze stops vouchers, not what was promised before.
    freeze(&mut books);
    does(&mut books, &draw("d1", "h", 10), at(0)).unwrap();
    assert_eq!(state(&books), (30, 10, 40, 1));
    assert_eq!(
        books.hold(&id("h")).unwrap().map(|row| row.vouched),
        Some(trm(5))
    );
    assert_eq!(
        does(&mut books, &draw("d1", "h", 10), at(0)).unwrap(),
        Applied::Already
    );
    assert_eq!(refused(&mut books, draw("d2", "h", 31)).number(), 6);
    sound(&books);
    // What is left goes back to where it came from; what was drawn stays spent.
    let mut voided = books.clone();
    does(&mut voided, &void("e", "h"), at(0)).unwrap();
    assert_eq!(state(&voided), (0, 15, 15, 0));
    sound(&voided);
    // The last draw ends it.
    does(&mut books, &draw("d2", "h", 30), at(0)).unwrap();
    assert_eq!(state(&books), (0, 40, 40, 0));
    assert_eq!(refused(&mut books, draw("d3", "h", 1)).number(), 5);
    sound(&books);
    // Its time ends it too, for as much as is left.
    let mut books = super::super::fixture::books();
    held(&mut books);
    does(&mut books, &draw("d", "h", 10), at(0)).unwrap();
    assert_eq!(refused(&mut books, draw("d", "h", 9)).number(), 1);
    assert_eq!(expire_due(&mut books, at(TIMEOUT), 9).unwrap(), 1);
    assert_eq!(state(&books), (0, 10, 10, 0));
    sound(&books);
}

#[test]
fn money_comes_in_and_goes_out_through_the_pots_it_belongs_to() {
    let mut books = books();
    let pots = |books: &MemoryTables, agent: AgentId| {
        let pots = books.pots(&agent).unwrap();
        Pot::ALL.map(|pot| pots.get(pot).utrm() / 1_000_000)
    };
    // Seed, earned, borrowed, restricted.
    assert_eq!(pots(&books, ROOT), [1_000, 0, 0, 0]);
    for (name, code) in [
        ("e", TransferCode::Earnings),
        ("l", TransferCode::WelcomeLoan),
    ] {
        let enters = Transfer {
            code,
            ..single(name, Account::Position, ALICE, 20)
        };
        does(&mut books, &enters, at(0)).unwrap();
    }
    assert_eq!(pots(&books, ROOT), [1_000, 20, 20, 0]);
    // Earned first, then seed, then borrowed; what is not spent goes back, the last taken first.
    does(&mut books, &hold("h", ALICE, OUT, 40), at(0)).unwrap();
    assert_eq!(pots(&books, ROOT), [980, 0, 20, 0]);
    does(&mut books, &post("p", "h", 25), at(0)).unwrap();
    assert_eq!(pots(&books, ROOT), [995, 0, 20, 0]);
    does(
        &mut books,
        &allot("s", (ALICE, Pot::Seed), (ALICE, Pot::Restricted), 990),
        at(0),
    )
    .unwrap();
    assert_eq!(pots(&books, ROOT), [5, 0, 20, 990]);
    // The account has 1015, but no rule lets the restricted pot pay for this.
    let refused = does(&mut books, &hold("i", ALICE, OUT, 26), at(0)).unwrap_err();
    assert_eq!(refused.number(), 28);
    does(&mut books, &hold("i", ALICE, OUT, 25), at(0)).unwrap();
    assert_eq!(pots(&books, ROOT), [0, 0, 0, 990]);
    does(&mut books, &void("j", "i"), at(0)).unwrap();
    assert_eq!(pots(&books, ROOT), [5, 0, 20, 990]);
    // A loan is paid back first out of what was lent, and never out of the restricted pot.
    does(&mut books, &repays("r", ALICE, 22), at(0)).unwrap();
    assert_eq!(pots(&books, ROOT), [3, 0, 0, 990]);
    let refused = does(&mut books, &repays("q", ALICE, 4), at(0));
    assert_eq!(refused, Err(short(ALICE, 3, 4)));
    // To another agent, and as a hold that is posted to one.
    let held = make(
        "k",
        Kind::Hold {
            debit: PEER,
            credit: BOB,
            amount: trm(9),
            timeout_ms: TIMEOUT,
            spend: None,
        },
    );
    does(&mut books, &single("c", Account::Position, PEER, 9), at(0)).unwrap();
    does(&mut books, &held, at(0)).unwrap();
    assert_eq!(pots(&books, agent(&BOB)), [500, 0, 0, 0]);
    does(&mut books, &post("m", "k", 4), at(0)).unwrap();
    assert_eq!(pots(&books, agent(&BOB)), [504, 0, 0, 0]);
}
