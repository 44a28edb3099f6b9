//! What a mandate lets through, and when.

use std::collections::BTreeSet;
use std::sync::Arc;

use tirami_manifest::mandate::{Action, Breakers, Limits, List, Pot, PotRule, Scope, Terms};
use tirami_manifest::owner::Decision;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{AgentId, Amount, ModelId, NodeId, Timestamp};
use tirami_wallet::hold::VoidReason;
use tirami_wallet::intent::Intent;
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::ledger::rule::Rule;
use tirami_wallet::store::Storage;
use tirami_wallet::token::main_agent;
use tirami_wallet::{Hold, WalletError};

use crate::world::{self, START, TIMEOUT_MS, fund, key, sound, trm};
use crate::{
    DAY, HOUR, MINUTE, SOME_QUOTE, WORK, decide, founder, hold, intent, limits, only, request,
    set_terms, settle, spent, terms,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_parallel_holds_never_hold_more_than_the_hourly_limit() {
    let (wallet, clock) = founder(90_000).await;
    set_terms(&wallet, main_agent(), only(Limits::DEFAULT)).await;
    for round in 0..2 {
        let tasks: Vec<_> = (0..1_000)
            .map(|n| {
                let wallet = wallet.clone();
                tokio::spawn(async move {
                    let name = format!("{round}/{n}");
                    let attempt = loop {
                        match wallet.begin(intent(&name), [0; 32]).await {
                            Ok(Intent::Attempt(attempt)) => break attempt,
                            Err(WalletError::Busy) => tokio::task::yield_now().await,
                            other => panic!("{other:?}"),
                        }
                    };
                    loop {
                        let request = request(attempt.clone(), 37, SOME_QUOTE);
                        match wallet.hold(request).await {
                            Ok(hold) => break Some(hold),
                            Err(WalletError::Refused(Refusal::OverBudget { limit, .. })) => {
                                assert_eq!(limit, Rule::Hour);
                                break None;
                            }
                            Err(WalletError::Busy) => tokio::task::yield_now().await,
                            Err(other) => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        let mut holds = Vec::new();
        for task in tasks {
            // Held money is never above the limit, whenever one looks.
            assert!(wallet.balance(&main_agent()).unwrap().held <= trm(10_000));
            holds.extend(task.await.unwrap());
        }
        assert_eq!(holds.len(), 10_000 / 37);
        let ids: BTreeSet<_> = holds.iter().map(Hold::id).collect();
        assert_eq!(ids.len(), holds.len());
        // Given back, it may be held again at once; expired too.
        for (n, hold) in holds.into_iter().enumerate() {
            if n % 2 == 0 {
                hold.void(VoidReason::CalledOff).await.unwrap();
            } else {
                hold.leave_to_expire();
            }
        }
        clock.advance_ms(TIMEOUT_MS);
        wallet.sweep().await.unwrap();
        let budget = wallet.budget(&main_agent()).unwrap();
        assert_eq!(budget.chain[0].usage.hour().sum(budget.now), 0);
    }
    sound(&wallet);
}

#[tokio::test]
async fn each_limit_is_named_when_it_is_reached_and_the_hour_says_when_it_frees() {
    let (wallet, clock) = founder(90_000).await;
    let mandate = terms(300, 500, 1_000);
    wallet.tighten(main_agent(), mandate).await.unwrap();
    let refused = async |name: &str, amount: u64| match hold(&wallet, name, amount).await {
        Err(WalletError::Refused(Refusal::OverBudget {
            limit, frees_at, ..
        })) => (limit, frees_at),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("a", 301).await, (Rule::PerRequest, None));
    for name in ["a", "b"] {
        settle(&wallet, name, 250).await;
    }
    let (limit, frees_at) = refused("c", 1).await;
    assert_eq!(limit, Rule::Hour);
    let frees_at = frees_at.unwrap();
    assert!(frees_at.since_ms(START) >= HOUR && frees_at.since_ms(START) <= HOUR + MINUTE);
    clock.set(Timestamp::from_ms(frees_at.ms() - 1));
    assert_eq!(refused("c", 1).await.0, Rule::Hour);
    clock.set(frees_at);
    for name in ["c", "d"] {
        settle(&wallet, name, 250).await;
    }
    clock.advance_ms(10 * HOUR);
    assert_eq!(refused("e", 1).await, (Rule::Lifetime, None));
    assert_eq!(spent(&wallet), 1_000);
    sound(&wallet);
}

#[tokio::test]
async fn a_clock_set_back_opens_no_hour_and_revives_no_hold() {
    let (wallet, clock) = founder(90_000).await;
    wallet
        .tighten(main_agent(), terms(500, 500, 5_000))
        .await
        .unwrap();
    settle(&wallet, "a", 400).await;
    let kept = hold(&wallet, "b", 100).await.unwrap();
    clock.advance_ms(TIMEOUT_MS);
    wallet.sweep().await.unwrap();
    for back in [TIMEOUT_MS, 2 * HOUR, 3 * DAY] {
        clock.set(Timestamp::from_ms(START.ms() - back));
        let late = kept.renew().await;
        assert!(matches!(
            late,
            Err(WalletError::Refused(Refusal::HoldEnded { .. }))
        ));
        let over = hold(&wallet, "c", 101).await;
        assert!(matches!(
            over,
            Err(WalletError::Refused(Refusal::OverBudget { .. }))
        ));
    }
    // Times in the ledger never go back, and what is set aside now lives from the latest time seen.
    let new = hold(&wallet, "d", 10).await.unwrap();
    let (_, row) = wallet.open_holds().unwrap()[0];
    assert_eq!(row.expires, START.after_ms(2 * TIMEOUT_MS));
    new.void(VoidReason::CalledOff).await.unwrap();
    let times: Vec<_> = wallet.history(None, 99).unwrap();
    assert!(times.windows(2).all(|w| w[0].entry.at >= w[1].entry.at));
    kept.leave_to_expire();
    sound(&wallet);
}

#[tokio::test]
async fn the_high_water_mark_of_time_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = || Storage::File(folder.path().join("wallet.redb"));
    let clock = Arc::new(ManualClock::at(START));
    let wallet = world::open(file(), &clock, key(1)).unwrap();
    fund(&wallet, 20_000, || ()).await.unwrap();
    set_terms(&wallet, main_agent(), only(Limits::DEFAULT)).await;
    for name in ["a", "b"] {
        settle(&wallet, name, 5_000).await;
    }
    wallet.close().await;
    clock.set(Timestamp::from_ms(START.ms() - 5 * HOUR));
    let wallet = world::open(file(), &clock, key(1)).unwrap();
    let over = hold(&wallet, "c", 1).await;
    assert!(matches!(
        over,
        Err(WalletError::Refused(Refusal::OverBudget { .. }))
    ));
    clock.set(START.after_ms(HOUR + MINUTE));
    let later = hold(&wallet, "c", 1).await.unwrap();
    later.void(VoidReason::CalledOff).await.unwrap();
}

type Change = fn(&mut Terms);

#[tokio::test]
async fn tightening_takes_effect_at_once_and_loosening_any_term_is_refused_by_name() {
    let (wallet, _) = founder(5_000).await;
    let node = |n| key(n).id();
    // Every term says something.
    let have = Terms {
        limits: Limits {
            minute_trm: Some(trm(150)),
            day_trm: Some(trm(250)),
            payee_day_trm: Some(trm(250)),
            in_flight: Some(3),
            reserve_trm: trm(10),
            price_ceiling_trm: Some(trm(2)),
            approval_above_trm: Some(trm(500)),
            ..limits(100, 200, 300)
        },
        scope: Scope {
            payees: List {
                allow: Some([node(2), node(3)].into()),
                deny: [node(3)].into(),
            },
            actions: List {
                allow: Some([Action::Chat].into()),
                deny: BTreeSet::new(),
            },
            models: List {
                allow: None,
                deny: [ModelId::from_bytes([9; 32])].into(),
            },
        },
        breakers: Breakers {
            errors_in_row: 3,
            spends_per_minute: 20,
            same_request: 5,
        },
        quiet_hours: "02:00-03:00".parse().ok(),
        expires: Some(START.after_ms(DAY)),
        pots: vec![PotRule::only(vec![Pot::Earned])],
    };
    wallet.tighten(main_agent(), have.clone()).await.unwrap();
    let looser: [(&str, Change); 19] = [
        ("per_request", |t| t.limits.per_request_trm = trm(101)),
        ("minute", |t| t.limits.minute_trm = None),
        ("hour", |t| t.limits.hour_trm = trm(201)),
        ("day", |t| t.limits.day_trm = Some(trm(251))),
        ("lifetime", |t| t.limits.lifetime_trm = trm(301)),
        ("payee_day", |t| t.limits.payee_day_trm = None),
        ("in_flight", |t| t.limits.in_flight = Some(4)),
        ("reserve", |t| t.limits.reserve_trm = trm(9)),
        ("price_ceiling", |t| t.limits.price_ceiling_trm = None),
        ("approval_above", |t| t.limits.approval_above_trm = None),
        ("errors_in_row", |t| t.breakers.errors_in_row = 0),
        ("spends_per_minute", |t| t.breakers.spends_per_minute = 21),
        ("same_request", |t| t.breakers.same_request = 6),
        ("expires", |t| t.expires = None),
        ("payees", |t| t.scope.payees.deny = BTreeSet::new()),
        ("actions", |t| t.scope.actions.allow = None),
        ("models", |t| t.scope.models.deny = BTreeSet::new()),
        ("quiet_hours", |t| t.quiet_hours = None),
        ("pots", |t| t.pots = Vec::new()),
    ];
    for (term, how) in looser {
        // Everything else much tighter does not make up for it.
        let mut want = Terms {
            limits: Limits {
                per_request_trm: trm(1),
                ..have.limits
            },
            ..have.clone()
        };
        how(&mut want);
        match wallet.tighten(main_agent(), want).await {
            Err(WalletError::Loosens(looser)) => assert_eq!(looser.term, term),
            other => panic!("{term}: {other:?}"),
        }
    }
    let budget = wallet.budget(&main_agent()).unwrap();
    assert_eq!(budget.terms(), Some(&have));
    assert!(hold(&wallet, "a", 101).await.is_err());
    let nobody = wallet.tighten(AgentId::from_bytes([9; 16]), have).await;
    assert!(matches!(
        nobody,
        Err(WalletError::Refused(Refusal::NoMandate { .. }))
    ));
    // What the owner says may be looser.
    set_terms(&wallet, main_agent(), terms(100, 200, 300)).await;
    // Below what is used already: nothing is left, and nothing breaks.
    let open = hold(&wallet, "a", 100).await.unwrap();
    wallet.tighten(main_agent(), terms(5, 5, 5)).await.unwrap();
    assert_eq!(wallet.budget(&main_agent()).unwrap().left, Amount::ZERO);
    assert!(wallet.admits(&main_agent(), WORK, trm(1)).is_err());
    open.void(VoidReason::CalledOff).await.unwrap();
    wallet.admits(&main_agent(), WORK, trm(5)).unwrap();
    // What could not be signed is not taken either.
    let mut long = terms(5, 5, 5);
    long.scope.payees.deny = (0..=64).map(|n| NodeId::from_bytes([n; 32])).collect();
    let refused = wallet.tighten(main_agent(), long.clone()).await;
    assert!(matches!(refused, Err(WalletError::Terms("payees"))));
    let (agent, terms) = (main_agent(), Box::new(long));
    let refused = decide(&wallet, Decision::SetTerms { agent, terms }).await;
    assert!(matches!(refused, Err(WalletError::Terms("payees"))));
}
