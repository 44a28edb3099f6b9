//! One line per rule of the gate: broken by the spender's mandate, by one above it, by two at once.
#![expect(clippy::too_many_lines, reason = "a table is one list")]

use tirami_manifest::Multiplier;
use tirami_manifest::mandate::{Action, Pot, PotRule, QuietHours, Terms};
use tirami_manifest::{ModelId, NodeId};

use super::super::apply::expire_due;
use super::super::fixture::*;
use super::super::rows::WriteRows;
use super::super::tables::MemoryTables;
use super::super::transfer::Transfer;
use super::super::usage::Usage;
use super::*;

/// Breaks one rule in one agent's mandate, for a purchase of 10 TRM.
type Break = fn(&mut MemoryTables, AgentId);

fn set(books: &mut MemoryTables, agent: AgentId, how: impl FnOnce(&mut Terms)) {
    change(books, agent, |row| how(&mut row.terms));
}

fn use_of(books: &mut MemoryTables, agent: AgentId, how: impl FnOnce(&mut Usage<&mut [u8]>)) {
    books
        .update_usage(&agent, |mut usage| how(&mut usage))
        .unwrap();
}

/// One purchase of [`spend`]'s request, which cost nothing and has ended.
fn bought_once(usage: &mut Usage<&mut [u8]>) {
    usage.charge(Amount::ZERO, 7, at(0));
    usage.ended(Amount::ZERO, at(0));
}

const BREAKS: [(Rule, Break); 19] = [
    (Rule::Revoked, |b, a| {
        change(b, a, |row| row.revoked = Some(at(0)));
    }),
    (Rule::Expiry, |b, a| set(b, a, |t| t.expires = Some(at(0)))),
    (Rule::QuietHours, |b, a| {
        set(b, a, |t| t.quiet_hours = Some(FOUR_O_CLOCK));
    }),
    (Rule::Action, |b, a| {
        set(b, a, |t| t.scope.actions.deny = [Action::Chat].into());
    }),
    (Rule::Payee, |b, a| {
        set(b, a, |t| t.scope.payees.deny = [PAYEE].into());
    }),
    (Rule::Model, |b, a| {
        set(b, a, |t| t.scope.models.deny = [MODEL].into());
    }),
    (Rule::PriceCeiling, |b, a| {
        let below_par = Amount::from_utrm(999_999).ok();
        set(b, a, |t| t.limits.price_ceiling_trm = below_par);
    }),
    (Rule::Errors, |b, a| {
        set(b, a, |t| t.breakers.errors_in_row = 1);
        use_of(b, a, |u| u.fails(at(0)));
    }),
    (Rule::Spends, |b, a| {
        set(b, a, |t| t.breakers.spends_per_minute = 1);
        use_of(b, a, bought_once);
    }),
    (Rule::Loop, |b, a| {
        set(b, a, |t| t.breakers.same_request = 1);
        use_of(b, a, bought_once);
    }),
    (Rule::InFlight, |b, a| {
        set(b, a, |t| t.limits.in_flight = Some(0));
    }),
    (Rule::PerRequest, |b, a| {
        set(b, a, |t| t.limits.per_request_trm = trm(9));
    }),
    (Rule::Minute, |b, a| {
        set(b, a, |t| t.limits.minute_trm = Some(trm(9)));
    }),
    (Rule::Hour, |b, a| set(b, a, |t| t.limits.hour_trm = trm(9))),
    (Rule::Day, |b, a| {
        set(b, a, |t| t.limits.day_trm = Some(trm(9)));
    }),
    (Rule::Lifetime, |b, a| {
        set(b, a, |t| t.limits.lifetime_trm = trm(9));
    }),
    (Rule::PayeeDay, |b, a| {
        set(b, a, |t| t.limits.payee_day_trm = Some(trm(9)));
    }),
    (Rule::Reserve, |b, a| {
        set(b, a, |t| t.limits.reserve_trm = trm(991));
    }),
    (Rule::Approval, |b, a| {
        set(b, a, |t| t.limits.approval_above_trm = Some(trm(9)));
    }),
];

/// The minute of [`T0`].
const FOUR_O_CLOCK: QuietHours = QuietHours {
    from_minute: 16 * 60,
    to_minute: 16 * 60 + 1,
    utc_offset_minutes: 0,
};

/// One TRM must stay.
const RESERVES: Break = |b, a| set(b, a, |t| t.limits.reserve_trm = trm(1));

/// The pots are the spender's business wherever the rule stands.
fn no_pot(books: &mut MemoryTables, agent: AgentId) {
    set(books, agent, |t| {
        t.pots = vec![PotRule::only(vec![Pot::Restricted])];
    });
}

fn purchase() -> Transfer {
    buys("t", spend(LEAF), 10)
}

fn named(refusal: &Refusal) -> Option<AgentId> {
    match refusal {
        Refusal::NotAllowed { mandate, .. }
        | Refusal::TooMany { mandate, .. }
        | Refusal::OverBudget { mandate, .. } => Some(*mandate),
        _ => None,
    }
}

#[test]
fn each_rule_holds_in_the_spenders_mandate_and_in_every_one_above_it_and_in_no_other() {
    for (rule, breaks) in BREAKS {
        for agent in [LEAF, CHILD, ROOT] {
            let mut books = tree();
            breaks(&mut books, agent);
            let refusal = does(&mut books, &purchase(), at(0)).unwrap_err();
            assert_eq!(refusal.number(), rule.number(), "{rule:?}: {refusal}");
            let names = match (rule, agent) {
                (Rule::Approval, _) => None,
                // The nearest mandate that is over because of it.
                (Rule::Revoked, ROOT) => Some(CHILD),
                (Rule::Revoked, _) => Some(LEAF),
                (_, agent) => Some(agent),
            };
            assert_eq!(named(&refusal), names, "{rule:?}");
        }
        let mut books = tree();
        breaks(&mut books, SIBLING);
        does(&mut books, &purchase(), at(0)).unwrap();
    }
}

#[test]
fn of_two_rules_broken_the_one_with_the_smaller_number_is_named_wherever_it_stands() {
    for (first, break_first) in BREAKS {
        for (second, break_second) in BREAKS {
            let smaller = first.min(second);
            for (one, other) in [(LEAF, ROOT), (ROOT, LEAF), (LEAF, LEAF), (CHILD, ROOT)] {
                let mut books = tree();
                break_first(&mut books, one);
                break_second(&mut books, other);
                let refusal = does(&mut books, &purchase(), at(0)).unwrap_err();
                assert_eq!(refusal.number(), smaller.number(), "{first:?} {second:?}");
                if first == second && named(&refusal).is_some() && first != Rule::Revoked {
                    // Of one rule, the mandate nearest to the spender is named.
                    let nearest = if one == CHILD { CHILD } else { LEAF };
                    assert_eq!(named(&refusal), Some(nearest), "{first:?}");
                }
            }
        }
        // The freeze comes before every other; the pots between reserve and approval; funds last.
        let number = |prepare: &dyn Fn(&mut MemoryTables), transfer: &Transfer| {
            let mut books = tree();
            break_first(&mut books, LEAF);
            prepare(&mut books);
            does(&mut books, transfer, at(0)).unwrap_err().number()
        };
        assert_eq!(number(&freeze, &purchase()), 8, "{first:?}");
        let pots = number(&|b| no_pot(b, ROOT), &purchase());
        assert_eq!(pots, first.number().min(28), "{first:?}");
        let poor = number(&|b| drain(b), &purchase());
        // What must stay says nothing about what is not there.
        let first = if first == Rule::Reserve {
            31
        } else {
            first.number()
        };
        assert_eq!(poor, first);
    }
    let nobody = spend(AgentId::from_bytes([9; 16]));
    let mut books = tree();
    drain(&mut books);
    let refusal = does(&mut books, &buys("t", nobody, 10), at(0)).unwrap_err();
    assert_eq!(refusal.number(), 9);
    freeze(&mut books);
    let refusal = does(&mut books, &buys("t", nobody, 10), at(0)).unwrap_err();
    assert_eq!(refusal.number(), 8);
    assert!(explain(&books, &ROOT, &nobody, trm(10), at(0)).is_err());
}

/// Leaves Alice 5 TRM.
fn drain(books: &mut MemoryTables) {
    let kind = super::super::transfer::Kind::Allot {
        from: ROOT,
        from_pot: Pot::Seed,
        to: agent(&BOB),
        to_pot: Pot::Seed,
        amount: trm(995),
    };
    does(books, &make("drain", kind), at(0)).unwrap();
}

#[test]
fn a_limit_is_what_still_passes_and_what_was_used_before_counts() {
    type Limit = fn(&mut Terms, u64);
    type Count = fn(&mut Terms);
    let limits: [(Rule, Limit); 7] = [
        (Rule::PerRequest, |t, n| t.limits.per_request_trm = trm(n)),
        (Rule::Minute, |t, n| t.limits.minute_trm = Some(trm(n))),
        (Rule::Hour, |t, n| t.limits.hour_trm = trm(n)),
        (Rule::Day, |t, n| t.limits.day_trm = Some(trm(n))),
        (Rule::Lifetime, |t, n| t.limits.lifetime_trm = trm(n)),
        (Rule::PayeeDay, |t, n| t.limits.payee_day_trm = Some(trm(n))),
        (Rule::Approval, |t, n| {
            t.limits.approval_above_trm = Some(trm(n));
        }),
    ];
    for (rule, limit) in limits {
        for agent in [LEAF, CHILD, ROOT] {
            let sums = !matches!(rule, Rule::PerRequest | Rule::Approval);
            let used = if sums { 4 } else { 0 };
            for (n, passes) in [(used + 10, true), (used + 9, false)] {
                let mut books = tree();
                set(&mut books, agent, |t| limit(t, 1_000));
                does(&mut books, &buys("s", spend(LEAF), 4), at(0)).unwrap();
                set(&mut books, agent, |t| limit(t, n));
                let outcome = does(&mut books, &purchase(), at(0));
                match outcome {
                    Ok(_) => assert!(passes, "{rule:?}"),
                    Err(Refusal::OverBudget {
                        allowed,
                        left,
                        asked,
                        ..
                    }) => {
                        assert!(!passes, "{rule:?}");
                        assert_eq!((allowed, left, asked), (trm(n), trm(9), trm(10)));
                    }
                    Err(Refusal::NeedsApproval {
                        approval,
                        above,
                        asked,
                    }) => {
                        assert!(!passes && approval == Some(APPROVAL));
                        assert_eq!((above, asked), (trm(9), trm(10)));
                    }
                    Err(other) => panic!("{rule:?}: {other}"),
                }
            }
        }
    }
    // What must stay: of 1000, 10 may go, and 9 may not be asked 10.
    for (reserve, passes) in [(990, true), (991, false)] {
        let mut books = tree();
        set(&mut books, CHILD, |t| t.limits.reserve_trm = trm(reserve));
        let outcome = does(&mut books, &purchase(), at(0));
        assert_eq!(outcome.is_ok(), passes);
        if let Err(Refusal::OverBudget { allowed, left, .. }) = outcome {
            assert_eq!((allowed, left), (trm(1_000), trm(9)));
        }
    }
    // All that is there is not too little, and so the account is not the answer.
    for (number, n, breaks) in [
        (27, 1_000, RESERVES),
        (28, 1_000, no_pot),
        (31, 1_001, RESERVES),
    ] {
        let mut books = tree();
        for agent in [LEAF, CHILD, ROOT] {
            set(&mut books, agent, |t| t.limits.per_request_trm = trm(2_000));
        }
        breaks(&mut books, LEAF);
        let refusal = does(&mut books, &buys("t", spend(LEAF), n), at(0)).unwrap_err();
        assert_eq!(refusal.number(), number);
    }
    // Counts: of two at once, the second passes and the third does not.
    let counts: [(Rule, Count); 3] = [
        (Rule::InFlight, |t| t.limits.in_flight = Some(2)),
        (Rule::Spends, |t| t.breakers.spends_per_minute = 2),
        (Rule::Loop, |t| t.breakers.same_request = 2),
    ];
    for (rule, limit) in counts {
        for agent in [LEAF, ROOT] {
            let mut books = tree();
            set(&mut books, agent, limit);
            for name in ["1", "2"] {
                does(&mut books, &buys(name, spend(LEAF), 1), at(0)).unwrap();
            }
            match does(&mut books, &purchase(), at(0)) {
                Err(Refusal::TooMany {
                    rule: named,
                    seen,
                    allowed,
                    ..
                }) => {
                    assert_eq!((named, seen, allowed), (rule, 2, 2));
                }
                other => panic!("{rule:?}: {other:?}"),
            }
            // Another request is no loop, and one that has ended is not open.
            let other = Spend {
                request: 8,
                ..spend(LEAF)
            };
            let passes = does(&mut books, &buys("o", other, 1), at(0)).is_ok();
            assert_eq!(passes, rule == Rule::Loop);
            does(&mut books, &post("p", "1", 1), at(0)).unwrap();
            let passes = does(&mut books, &purchase(), at(0)).is_ok();
            assert_eq!(passes, rule == Rule::InFlight);
        }
    }
}

#[test]
fn a_refusal_that_time_heals_says_when_to_the_millisecond() {
    let heals = [
        (Rule::QuietHours, Some(MINUTE - 30_500)),
        (Rule::Errors, Some(MINUTE)),
        (Rule::Spends, Some(61_000 - 500)),
        (Rule::Loop, Some(10 * MINUTE)),
        (Rule::Minute, Some(61_000 - 500)),
        (Rule::Hour, Some(61 * MINUTE - 30_500)),
        (Rule::Day, Some(97 * 15 * MINUTE - 30_500)),
        (Rule::PayeeDay, Some(97 * 15 * MINUTE - 30_500)),
    ];
    for (rule, after) in heals {
        let mut books = tree();
        set(&mut books, CHILD, |t| {
            if rule == Rule::QuietHours {
                t.quiet_hours = Some(FOUR_O_CLOCK);
            } else if rule == Rule::Errors {
                t.breakers.errors_in_row = 1;
            } else if rule == Rule::Spends {
                t.breakers.spends_per_minute = 1;
            } else if rule == Rule::Loop {
                t.breakers.same_request = 1;
            } else if rule == Rule::Minute {
                t.limits.minute_trm = Some(trm(13));
            } else if rule == Rule::Hour {
                t.limits.hour_trm = trm(13);
            } else if rule == Rule::Day {
                t.limits.day_trm = Some(trm(13));
            } else {
                t.limits.payee_day_trm = Some(trm(13));
            }
        });
        if rule != Rule::QuietHours {
            does(&mut books, &buys("s", spend(LEAF), 4), at(0)).unwrap();
            let end = if rule == Rule::Errors {
                fails("e", "s")
            } else {
                post("e", "s", 4)
            };
            does(&mut books, &end, at(0)).unwrap();
        }
        let refusal = does(&mut books, &purchase(), at(0)).unwrap_err();
        assert_eq!(refusal.number(), rule.number());
        let then = refusal.passes_at().unwrap();
        assert_eq!(Some(then.since_ms(at(0))), after, "{rule:?}");
        let before = Timestamp::from_ms(then.ms() - 1);
        let early = does(&mut books, &purchase(), before).unwrap_err();
        assert_eq!(early.passes_at(), Some(then), "{rule:?}");
        does(&mut books, &purchase(), then).unwrap();
    }
    // Nothing brings what is above the limit itself, or was never limited by time.
    for (rule, breaks) in BREAKS {
        let mut books = tree();
        breaks(&mut books, LEAF);
        let refusal = does(&mut books, &purchase(), at(0)).unwrap_err();
        let time_heals = matches!(
            rule,
            Rule::QuietHours | Rule::Errors | Rule::Spends | Rule::Loop
        );
        assert_eq!(refusal.passes_at().is_some(), time_heals, "{rule:?}");
    }
}

#[test]
fn what_a_list_does_not_name_or_nobody_knows_is_not_allowed() {
    let (other_node, other_model) = (NodeId::from_bytes([33; 32]), ModelId::from_bytes([55; 32]));
    let ask = |how: fn(&mut Terms), spend: Spend| {
        let mut books = tree();
        set(&mut books, CHILD, how);
        does(&mut books, &buys("t", spend, 10), at(0)).map_err(|r| r.number())
    };
    let only_payee: fn(&mut Terms) = |t| t.scope.payees.allow = Some([PAYEE].into());
    let only_model: fn(&mut Terms) = |t| t.scope.models.allow = Some([MODEL].into());
    let only_local: fn(&mut Terms) = |t| t.scope.actions.allow = Some([Action::LocalChat].into());
    let par: fn(&mut Terms) = |t| t.limits.price_ceiling_trm = Some(trm(1));
    let per_payee: fn(&mut Terms) = |t| t.limits.payee_day_trm = Some(trm(100));
    let own = spend(LEAF);
    assert!(ask(only_payee, own).is_ok());
    assert_eq!(
        ask(
            only_payee,
            Spend {
                payee: Some(other_node),
                ..own
            }
        ),
        Err(14)
    );
    assert_eq!(ask(only_payee, Spend { payee: None, ..own }), Err(14));
    assert!(ask(|_| (), Spend { payee: None, ..own }).is_ok());
    assert!(ask(only_model, own).is_ok());
    assert_eq!(
        ask(
            only_model,
            Spend {
                model: Some(other_model),
                ..own
            }
        ),
        Err(15)
    );
    assert_eq!(ask(only_model, Spend { model: None, ..own }), Err(15));
    assert_eq!(ask(only_local, own), Err(13));
    assert!(ask(par, own).is_ok());
    let dear = Some(Multiplier::from_ppm(1_000_001));
    assert_eq!(ask(par, Spend { price: dear, ..own }), Err(16));
    assert_eq!(ask(par, Spend { price: None, ..own }), Err(16));
    assert!(ask(per_payee, own).is_ok());
    assert_eq!(ask(per_payee, Spend { payee: None, ..own }), Err(26));
    // Each payee has a day of its own.
    let mut books = tree();
    set(&mut books, CHILD, |t| {
        t.limits.payee_day_trm = Some(trm(10));
    });
    does(&mut books, &buys("1", own, 10), at(0)).unwrap();
    let other = Spend {
        payee: Some(other_node),
        ..own
    };
    does(&mut books, &buys("2", other, 10), at(0)).unwrap();
    assert_eq!(
        does(&mut books, &buys("3", own, 1), at(0))
            .unwrap_err()
            .number(),
        26
    );
}

#[test]
fn a_mandate_passes_until_its_end_and_quiet_hours_until_theirs() {
    let mut books = tree();
    set(&mut books, CHILD, |t| t.expires = Some(at(1)));
    does(&mut books, &purchase(), at(0)).unwrap();
    let late = does(&mut books, &buys("u", spend(LEAF), 1), at(1)).unwrap_err();
    assert_eq!(late.number(), 11);
    let mut books = tree();
    set(&mut books, ROOT, |t| t.quiet_hours = Some(FOUR_O_CLOCK));
    let (opens, shuts) = (1_000 * HOUR, 1_000 * HOUR + MINUTE);
    for (ms, passes) in [
        (opens - 1, true),
        (opens, false),
        (shuts - 1, false),
        (shuts, true),
    ] {
        let mut books = books.clone();
        let outcome = does(&mut books, &purchase(), Timestamp::from_ms(ms));
        assert_eq!(outcome.is_ok(), passes, "{ms}");
    }
}

#[test]
fn errors_in_a_row_stop_spending_for_a_minute_and_a_success_counts_from_nothing() {
    let mut books = tree();
    set(&mut books, ROOT, |t| t.breakers.errors_in_row = 2);
    let mut n = 0;
    // Whoever of the tree fails, the mandate above all of them counts.
    let mut turn = |books: &mut MemoryTables, agent, end: fn(&str, &str) -> Transfer, ms| {
        n += 1;
        let (name, ending) = (format!("h{n}"), format!("e{n}"));
        does(books, &buys(&name, spend(agent), 1), at(ms))
            .map_err(|r| r.number())
            .map(|_| does(books, &end(&ending, &name), at(ms)).unwrap())
    };
    let paid: fn(&str, &str) -> Transfer = |name, hold| post(name, hold, 1);
    turn(&mut books, LEAF, fails, 0).unwrap();
    turn(&mut books, LEAF, paid, 0).unwrap();
    turn(&mut books, LEAF, fails, 0).unwrap();
    // Called off is neither.
    turn(&mut books, LEAF, void, 0).unwrap();
    assert_eq!(usage(&books, ROOT).errors(), 1);
    turn(&mut books, SIBLING, fails, 10).unwrap();
    assert_eq!(turn(&mut books, LEAF, paid, 10), Err(17));
    assert_eq!(turn(&mut books, ROOT, paid, 10 + MINUTE - 1), Err(17));
    // After the pause one more failure is enough for another.
    turn(&mut books, LEAF, fails, 10 + MINUTE).unwrap();
    assert_eq!(turn(&mut books, LEAF, paid, 10 + 2 * MINUTE - 1), Err(17));
    turn(&mut books, LEAF, paid, 10 + 2 * MINUTE).unwrap();
    assert_eq!(usage(&books, ROOT).errors(), 0);
    // A hold whose time is over has failed.
    does(&mut books, &buys("x", spend(LEAF), 1), at(HOUR)).unwrap();
    assert_eq!(expire_due(&mut books, at(HOUR + TIMEOUT), 9).unwrap(), 1);
    assert_eq!(usage(&books, LEAF).errors(), 1);
    assert_eq!(usage(&books, ROOT).errors(), 1);
    assert_eq!(usage(&books, SIBLING).errors(), 1, "its own failure");
}
