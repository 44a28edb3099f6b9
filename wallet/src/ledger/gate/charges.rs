//! What a spend leaves behind: in every mandate of its chain, in the pots, in what is told, and in
//! what [`explain`] says of the next one.
#![expect(clippy::too_many_lines, reason = "a table is one list")]

use tirami_manifest::NodeId;
use tirami_manifest::mandate::{Action, Pot, PotRule, Terms};

use super::super::alert::Alert;
use super::super::apply::apply;
use super::super::approval::{APPROVAL_MS, Verdict};
use super::super::fixture::*;
use super::super::mandate::{DEPTH_MAX, MandateRow};
use super::super::rows::WriteRows;
use super::super::tables::{Aside, MemoryTables, Order, Overlay, ReadTables, Table, decode};
use super::super::transfer::{Kind, Transfer};
use super::*;
use crate::store::StoreError;

fn set(books: &mut MemoryTables, agent: AgentId, how: impl FnOnce(&mut Terms)) {
    change(books, agent, |row| how(&mut row.terms));
}

/// What one mandate counts, in whole TRM: lifetime, minute, hour, day, to the payee; then holds
/// open.
fn counts(books: &MemoryTables, agent: AgentId, ms: u64) -> ([u64; 5], u32) {
    let (usage, now) = (usage(books, agent), at(ms));
    let paid = books.payee_usage(&agent, &PAYEE).unwrap();
    let sums = [
        usage.used_in_all().utrm(),
        usage.minute().sum(now),
        usage.hour().sum(now),
        usage.day().sum(now),
        paid.day().sum(now),
    ];
    (sums.map(|utrm| utrm / 1_000_000), usage.open())
}

#[test]
fn a_spend_counts_against_its_whole_chain_and_what_is_not_spent_goes_back_to_all_of_it() {
    let ends: [(Transfer, u64, u32); 6] = [
        (post("e", "h", 40), 40, 0),
        (post("e", "h", 15), 15, 0),
        (void("e", "h"), 10, 0),
        (fails("e", "h"), 10, 1),
        (expire("e", "h"), 10, 1),
        (post("e", "h", 10), 10, 0),
    ];
    for (end, spent, errors) in ends {
        let mut books = tree();
        for agent in [ROOT, CHILD, LEAF, SIBLING] {
            set(&mut books, agent, |t| {
                t.limits.payee_day_trm = Some(trm(900));
            });
        }
        does(&mut books, &buys("h", spend(LEAF), 40), at(0)).unwrap();
        does(&mut books, &vouch("v", "h", 10), at(0)).unwrap();
        for agent in [LEAF, CHILD, ROOT] {
            assert_eq!(counts(&books, agent, 0), ([40; 5], 1));
        }
        does(&mut books, &end, at(30_000)).unwrap();
        for agent in [LEAF, CHILD, ROOT] {
            assert_eq!(counts(&books, agent, 30_000), ([spent; 5], 0), "{end:?}");
            let all = counts(&books, agent, 61_000 - 500);
            assert_eq!(
                all.0,
                [spent, 0, spent, spent, spent],
                "counted where it was charged"
            );
            let usage = usage(&books, agent);
            assert_eq!(usage.errors(), errors);
            assert_eq!(
                usage.spends().sum(at(0)),
                1,
                "it was one purchase, however it ended"
            );
        }
        assert_eq!(counts(&books, SIBLING, 0), ([0; 5], 0));
        assert_eq!(available(&books, &ALICE), trm(1_000 - spent));
        // A single one is all of this at once.
        let at_once = Kind::Single {
            debit: ALICE,
            credit: OUT,
            amount: trm(3),
            spend: Some(spend(SIBLING)),
        };
        does(&mut books, &make("s", at_once), at(30_000)).unwrap();
        assert_eq!(counts(&books, SIBLING, 30_000), ([3; 5], 0));
        assert_eq!(counts(&books, ROOT, 30_000), ([spent + 3; 5], 0));
        assert_eq!(usage(&books, ROOT).errors(), 0, "something was bought");
        assert_eq!(usage(&books, LEAF).errors(), errors);
    }
}

#[test]
fn children_together_get_no_more_than_the_one_above_them() {
    let mut books = tree();
    set(&mut books, ROOT, |t| t.limits.hour_trm = trm(30));
    does(&mut books, &buys("1", spend(LEAF), 10), at(0)).unwrap();
    does(&mut books, &buys("2", spend(SIBLING), 10), at(0)).unwrap();
    does(&mut books, &buys("3", spend(CHILD), 5), at(0)).unwrap();
    for agent in [LEAF, SIBLING, CHILD, ROOT] {
        let refusal = does(&mut books, &buys("4", spend(agent), 6), at(0)).unwrap_err();
        assert!(matches!(
            refusal,
            Refusal::OverBudget {
                limit: Rule::Hour,
                mandate: ROOT,
                ..
            }
        ));
    }
    // What one gives back another may take.
    does(&mut books, &void("v", "1"), at(0)).unwrap();
    does(&mut books, &buys("4", spend(SIBLING), 15), at(0)).unwrap();
    assert!(does(&mut books, &buys("5", spend(ROOT), 1), at(0)).is_err());
}

#[test]
fn a_limit_per_payee_set_while_a_hold_is_open_is_not_given_back_what_it_never_counted() {
    let mut books = tree();
    does(&mut books, &buys("1", spend(LEAF), 40), at(0)).unwrap();
    for agent in [LEAF, ROOT] {
        set(&mut books, agent, |t| {
            t.limits.payee_day_trm = Some(trm(60));
        });
    }
    does(&mut books, &buys("2", spend(LEAF), 50), at(0)).unwrap();
    does(&mut books, &void("v1", "1"), at(0)).unwrap();
    for agent in [LEAF, ROOT] {
        assert_eq!(counts(&books, agent, 0).0[4], 50);
        assert!(does(&mut books, &buys("3", spend(agent), 11), at(0)).is_err());
    }
    // What was counted is given back although the limit is gone, and only there.
    set(&mut books, ROOT, |t| t.limits.payee_day_trm = None);
    does(&mut books, &buys("4", spend(CHILD), 100), at(0)).unwrap();
    does(&mut books, &void("v4", "4"), at(0)).unwrap();
    does(&mut books, &void("v2", "2"), at(0)).unwrap();
    for agent in [LEAF, ROOT] {
        assert_eq!(counts(&books, agent, 0).0[4], 0);
    }
}

#[test]
fn a_loop_over_several_requests_shows_and_many_different_ones_are_no_loop() {
    let mut books = tree();
    set(&mut books, CHILD, |t| t.breakers.same_request = 10);
    let buy = |books: &mut MemoryTables, n: u64, request: u64| {
        let spend = Spend {
            request,
            ..spend(LEAF)
        };
        let name = format!("{n}");
        does(books, &buys(&name, spend, 1), at(n * 1_000))?;
        does(books, &post(&format!("p{n}"), &name, 1), at(n * 1_000))
    };
    let stopped = (0..100).find(|n| buy(&mut books, *n, n % 4).is_err());
    assert!(
        stopped.is_some_and(|n| n >= 40),
        "each four times ten: {stopped:?}"
    );
    let mut books = tree();
    set(&mut books, CHILD, |t| t.breakers.same_request = 1);
    for n in 0..100 {
        buy(&mut books, n, n).unwrap();
    }
}

/// What the leaf says, what the root says, asked, what is left; none when it is refused.
type PotCase = (&'static [Pot], &'static [Pot], u64, Option<[u64; 4]>);

#[test]
fn pots_pay_as_every_mandate_of_the_chain_lets_them() {
    let only = |pots: &[Pot]| vec![PotRule::only(pots.to_vec())];
    // Of Alice's 1000: seed 400, earned 300, borrowed 200, restricted 100.
    let mut books = tree();
    for (name, pot, n) in [
        ("1", Pot::Earned, 300),
        ("2", Pot::Borrowed, 200),
        ("3", Pot::Restricted, 100),
    ] {
        let kind = Kind::Allot {
            from: ROOT,
            from_pot: Pot::Seed,
            to: ROOT,
            to_pot: pot,
            amount: trm(n),
        };
        does(&mut books, &make(name, kind), at(0)).unwrap();
    }
    let left = |books: &MemoryTables| {
        let pots = books.pots(&ROOT).unwrap();
        Pot::ALL.map(|pot| pots.get(pot).utrm() / 1_000_000)
    };
    assert_eq!(left(&books), [400, 300, 200, 100]);
    let cases: [PotCase; 6] = [
        (
            &[Pot::Restricted, Pot::Seed],
            &Pot::ALL,
            150,
            Some([350, 300, 200, 0]),
        ),
        (
            &[Pot::Seed, Pot::Restricted],
            &Pot::ALL,
            450,
            Some([0, 300, 200, 50]),
        ),
        (
            &[Pot::Seed, Pot::Earned],
            &[Pot::Earned, Pot::Borrowed],
            300,
            Some([400, 0, 200, 100]),
        ),
        (
            &[Pot::Seed, Pot::Earned],
            &[Pot::Earned, Pot::Borrowed],
            301,
            None,
        ),
        (&[Pot::Seed], &[Pot::Earned], 1, None),
        (&[], &Pot::ALL, 1, None),
    ];
    for (leaf, root, n, after) in cases {
        let mut books = books.clone();
        set(&mut books, LEAF, |t| t.pots = only(leaf));
        set(&mut books, CHILD, |t| t.pots = only(&Pot::ALL));
        set(&mut books, ROOT, |t| t.pots = only(root));
        let outcome = does(&mut books, &buys("t", spend(LEAF), n), at(0));
        match after {
            Some(after) => {
                outcome.unwrap();
                assert_eq!(left(&books), after);
                does(&mut books, &void("v", "t"), at(0)).unwrap();
                assert_eq!(left(&books), [400, 300, 200, 100]);
            }
            None => match outcome {
                Err(Refusal::OverBudget {
                    limit: Rule::Pots,
                    left,
                    asked,
                    ..
                }) => {
                    assert_eq!((left, asked), (trm(n - 1), trm(n)));
                }
                other => panic!("{other:?}"),
            },
        }
    }
}

#[test]
fn a_mandate_is_over_with_the_one_it_came_from_and_with_an_earlier_grant_of_it() {
    type Change = fn(&mut MandateRow);
    // (whose row is changed, how, who may still spend)
    let cases: [(AgentId, Change, &[AgentId]); 5] = [
        (
            LEAF,
            |row| row.revoked = Some(at(0)),
            &[ROOT, CHILD, SIBLING],
        ),
        (CHILD, |row| row.revoked = Some(at(0)), &[ROOT, SIBLING]),
        (ROOT, |row| row.revoked = Some(at(0)), &[]),
        (CHILD, |row| row.epoch = 2, &[ROOT, CHILD, SIBLING]),
        (ROOT, |row| row.epoch = 3, &[ROOT]),
    ];
    for (agent, how, may) in cases {
        let mut books = tree();
        change(&mut books, agent, how);
        for asks in [ROOT, CHILD, SIBLING, LEAF] {
            let mut books = books.clone();
            let outcome = does(&mut books, &buys("t", spend(asks), 1), at(0));
            let outcome = outcome.map(drop).map_err(|refusal| refusal.number());
            let expected = if may.contains(&asks) { Ok(()) } else { Err(10) };
            assert_eq!(outcome, expected);
        }
    }
}

#[test]
fn a_chain_is_as_long_as_the_tree_is_deep_and_a_longer_or_broken_one_is_damage() {
    let link = |n: u8| AgentId::from_bytes([100 + n; 16]);
    let deep = |links: u8| {
        let mut books = tree();
        for n in 0..links {
            let parent = n.checked_sub(1).map_or(ROOT, link);
            let row = MandateRow {
                parent: Some(parent),
                payer: ROOT,
                parent_epoch: 1,
                ..MandateRow::from_owner(link(n), roomy(), at(0))
            };
            books.set_mandate(&link(n), &row).unwrap();
        }
        let last = link(links - 1);
        let outcome = apply(&mut books, &buys("t", spend(last), 1), at(0));
        (outcome, usage(&books, ROOT).open())
    };
    let (outcome, open) = deep(DEPTH_MAX);
    assert!(outcome.is_ok() && open == 1);
    let (outcome, open) = deep(DEPTH_MAX + 1);
    assert!(matches!(outcome, Err(ApplyError::Store(StoreError::Row { .. }))) && open == 0);
    let mut books = tree();
    change(&mut books, LEAF, |row| {
        row.parent = Some(AgentId::from_bytes([9; 16]));
    });
    let outcome = apply(&mut books, &buys("t", spend(LEAF), 1), at(0));
    assert!(matches!(
        outcome,
        Err(ApplyError::Store(StoreError::Row { .. }))
    ));
}

#[test]
fn an_approval_lets_through_what_it_says_while_it_says_so() {
    let asks = |prepare: &dyn Fn(&mut MemoryTables), n: u64, ms: u64| {
        let mut books = tree();
        for agent in [LEAF, ROOT] {
            set(&mut books, agent, |t| {
                t.limits.approval_above_trm = Some(trm(10));
            });
        }
        prepare(&mut books);
        does(&mut books, &buys("t", spend(LEAF), n), at(ms)).map_err(|refusal| refusal.number())
    };
    let nobody_asked = |_: &mut MemoryTables| ();
    let yes = |books: &mut MemoryTables| drop(approved(books, LEAF, 20));
    assert!(asks(&nobody_asked, 10, 0).is_ok());
    assert_eq!(asks(&nobody_asked, 11, 0), Err(29));
    assert!(asks(&yes, 20, 0).is_ok());
    assert!(asks(&yes, 20, APPROVAL_MS - 1).is_ok());
    assert_eq!(asks(&yes, 20, APPROVAL_MS), Err(29));
    assert_eq!(APPROVAL_MS, DAY);
    assert_eq!(asks(&yes, 21, 0), Err(29));
    for verdict in [Verdict::Waiting, Verdict::Denied { at: at(0) }] {
        let other = |books: &mut MemoryTables| {
            let mut approval = approved(books, LEAF, 20);
            approval.verdict = verdict;
            books.set_approval(&APPROVAL, Some(&approval)).unwrap();
        };
        assert_eq!(asks(&other, 20, 0), Err(29));
    }
    let granted_anew = |books: &mut MemoryTables| {
        yes(books);
        change(books, LEAF, |row| row.epoch = 2);
    };
    assert_eq!(asks(&granted_anew, 20, 0), Err(29));
    // It lifts no other limit.
    let limited = |books: &mut MemoryTables| {
        yes(books);
        set(books, ROOT, |t| t.limits.hour_trm = trm(19));
    };
    assert_eq!(asks(&limited, 20, 0), Err(23));
}

#[test]
fn explaining_tells_every_rule_of_every_mandate_in_order_and_changes_nothing() {
    let mut books = tree();
    set(&mut books, CHILD, |t| t.limits.hour_trm = trm(9));
    set(&mut books, LEAF, |t| t.limits.day_trm = Some(trm(8)));
    does(&mut books, &buys("h", spend(LEAF), 3), at(0)).unwrap();
    let before = books.clone();
    let findings = explain(&books, &ROOT, &spend(LEAF), trm(7), at(0)).unwrap();
    let mut expected = Vec::new();
    for (rule, ..) in Rule::ALL {
        let whose: &[AgentId] = match rule {
            // Without one there is nothing to explain.
            Rule::Mandate => &[],
            Rule::Freeze | Rule::Funds => &[ROOT],
            Rule::Pots => &[LEAF],
            _ => &[LEAF, CHILD, ROOT],
        };
        expected.extend(whose.iter().map(|agent| (rule, *agent)));
    }
    let told: Vec<_> = findings.iter().map(|f| (f.rule, f.mandate)).collect();
    assert_eq!(told, expected);
    let failing: Vec<_> = findings.iter().filter(|f| !f.passes).collect();
    let amounts = |used, limit| Measure::Amounts {
        used: trm(used),
        asked: trm(7),
        limit: Some(trm(limit)),
    };
    let failed: Vec<_> = failing
        .iter()
        .map(|f| (f.rule, f.mandate, f.measure))
        .collect();
    assert_eq!(
        failed,
        [
            (Rule::Hour, CHILD, amounts(3, 9)),
            (Rule::Day, LEAF, amounts(3, 8))
        ]
    );
    assert!(failing.iter().all(|f| f.passes_at.is_some()));
    let healthy = findings.iter().filter(|f| f.passes);
    assert!(healthy.clone().all(|f| f.passes_at.is_none()));
    let funds = findings.last().map(|f| f.measure);
    assert_eq!(
        funds,
        Some(Measure::Amounts {
            used: trm(0),
            asked: trm(7),
            limit: Some(trm(997))
        })
    );
    // The spend itself on paper, as the wallet does it.
    let mut beneath = Aside(&books);
    let refused = apply(
        &mut Overlay::new(&mut beneath),
        &buys("t", spend(LEAF), 7),
        at(0),
    );
    assert!(matches!(refused, Err(ApplyError::Refused(r)) if r.number() == 23));
    let mut beneath = Aside(&books);
    let mut paper = Overlay::new(&mut beneath);
    apply(&mut paper, &buys("t", spend(LEAF), 5), at(0)).unwrap();
    assert!(paper.hold(&id("t")).unwrap().is_some() && books.hold(&id("t")).unwrap().is_none());
    assert!(
        paper.keep().is_err(),
        "nothing can be written through a view"
    );
    assert!(check(&books, &ROOT, &spend(LEAF), trm(5), at(0)).is_ok());
    assert_eq!(books, before);
    // For nothing, only what it is for is judged.
    let free = explain(&books, &ROOT, &spend(LEAF), Amount::ZERO, at(0)).unwrap();
    assert!(
        free.iter()
            .all(|f| f.rule <= Rule::PriceCeiling || f.rule == Rule::Funds)
    );
    assert!(free.iter().all(|f| f.passes));
}

#[test]
fn explaining_tells_which_lists_and_states_say_anything() {
    type Change = fn(&mut MemoryTables);
    let cases: [(Rule, Change); 5] = [
        (Rule::Freeze, freeze),
        (Rule::Revoked, |b| {
            change(b, LEAF, |row| row.revoked = Some(at(0)));
        }),
        (Rule::Payee, |b| {
            set(b, LEAF, |t| t.scope.payees.allow = Some([PAYEE].into()));
        }),
        (Rule::Action, |b| {
            set(b, LEAF, |t| {
                t.scope.actions.deny = [Action::LocalChat].into();
            });
        }),
        (Rule::Model, |b| {
            set(b, LEAF, |t| t.scope.models.allow = Some([].into()));
        }),
    ];
    for (rule, how) in cases {
        let mut books = tree();
        let says = |books: &MemoryTables| {
            let findings = explain(books, &ROOT, &spend(LEAF), trm(1), at(0)).unwrap();
            let said = |f: &&Finding| f.measure == Measure::Listed { said: true };
            findings
                .iter()
                .filter(said)
                .map(|f| f.rule)
                .collect::<Vec<_>>()
        };
        assert_eq!(says(&books), []);
        how(&mut books);
        assert_eq!(says(&books), [rule]);
    }
}

fn alerts(books: &MemoryTables) -> Vec<Alert> {
    books
        .scan(Table::Alerts, &[], None, Order::Ascending, usize::MAX)
        .unwrap()
        .iter()
        .map(|(_, bytes)| decode(Table::Alerts, bytes).unwrap())
        .collect()
}

#[test]
fn each_limit_tells_once_that_half_most_and_nearly_all_of_it_is_used() {
    type Set = fn(&mut Terms);
    let limits: [(Rule, Set); 7] = [
        (Rule::Minute, |t| t.limits.minute_trm = Some(trm(20))),
        (Rule::Hour, |t| t.limits.hour_trm = trm(20)),
        (Rule::Day, |t| t.limits.day_trm = Some(trm(20))),
        (Rule::Lifetime, |t| t.limits.lifetime_trm = trm(20)),
        (Rule::PayeeDay, |t| t.limits.payee_day_trm = Some(trm(20))),
        (Rule::InFlight, |t| t.limits.in_flight = Some(20)),
        (Rule::Spends, |t| t.breakers.spends_per_minute = 20),
    ];
    for (rule, limit) in limits {
        for agent in [LEAF, ROOT] {
            let mut books = tree();
            set(&mut books, agent, limit);
            for n in 1..=20_u64 {
                does(&mut books, &buys(&n.to_string(), spend(LEAF), 1), at(n)).unwrap();
            }
            let told = alerts(&books);
            let shares: Vec<_> = told.iter().map(|a| (a.percent, a.at)).collect();
            assert_eq!(
                shares,
                [(50, at(10)), (80, at(16)), (95, at(19))],
                "{rule:?}"
            );
            let unit = if told.iter().all(Alert::counts_money) {
                1_000_000
            } else {
                1
            };
            for (alert, used) in told.iter().zip([10, 16, 19]) {
                assert_eq!((alert.agent, alert.rule), (agent, rule));
                assert_eq!((alert.used, alert.limit), (used * unit, 20 * unit));
            }
        }
    }
}

#[test]
fn what_fell_by_time_is_told_of_again_when_it_is_reached_again() {
    let mut books = tree();
    set(&mut books, CHILD, |t| {
        t.limits.hour_trm = trm(20);
        t.limits.payee_day_trm = Some(trm(20));
        t.limits.in_flight = Some(1);
    });
    let fill = |books: &mut MemoryTables, name: &str, ms: u64| {
        does(books, &buys(name, spend(LEAF), 20), at(ms)).unwrap();
        does(books, &post(&format!("p{name}"), name, 20), at(ms)).unwrap();
        let told = alerts(books);
        let last = told.into_iter().filter(|alert| alert.at == at(ms));
        last.map(|alert| (alert.rule, alert.percent))
            .collect::<Vec<_>>()
    };
    let all = [(Rule::InFlight, 95), (Rule::Hour, 95), (Rule::PayeeDay, 95)];
    assert_eq!(fill(&mut books, "1", 0), all);
    // One request after the other is no news.
    assert_eq!(fill(&mut books, "2", 2 * DAY), all[1..]);
    assert_eq!(fill(&mut books, "3", 4 * DAY), all[1..]);
    // Alerts are kept for a month, and older ones go as new ones come.
    fill(&mut books, "4", 31 * DAY);
    let kept: Vec<_> = alerts(&books).iter().map(|alert| alert.at).collect();
    let days = [2, 2, 4, 4, 31, 31].map(|day| at(day * DAY));
    assert_eq!(kept, days);
}

#[test]
fn a_payee_of_another_purchase_is_given_nothing_back() {
    let other = Spend {
        payee: Some(NodeId::from_bytes([33; 32])),
        ..spend(LEAF)
    };
    let mut books = tree();
    set(&mut books, LEAF, |t| t.limits.payee_day_trm = Some(trm(50)));
    does(&mut books, &buys("1", spend(LEAF), 50), at(0)).unwrap();
    does(&mut books, &buys("2", other, 50), at(0)).unwrap();
    does(&mut books, &void("v", "2"), at(0)).unwrap();
    assert_eq!(counts(&books, LEAF, 0).0[4], 50);
    does(&mut books, &buys("3", other, 50), at(0)).unwrap();
    assert!(does(&mut books, &buys("4", spend(LEAF), 1), at(0)).is_err());
}
