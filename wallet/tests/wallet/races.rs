//! Many at once: whoever comes first, no limit is passed, no key counts twice, and what was frozen
//! or revoked stays so from the moment that the wallet says it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tirami_manifest::mandate::Limits;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{AgentId, Timestamp};
use tirami_wallet::hold::VoidReason;
use tirami_wallet::intent::{Intent, IntentKey};
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::token::main_agent;
use tirami_wallet::{Hold, HoldRequest, Wallet, WalletError};

use crate::world::{START, TIMEOUT_MS, WORK, sound, trm};
use crate::{
    DAY, HOUR, SOME_QUOTE, body_of, founder, hold, hold_for, intent, only, order, purchase,
    request, set_terms, spent, terms,
};

/// A number that the nightly run sets.
fn setting(name: &str, usual: u32) -> u32 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Begins an intent as soon as the wallet has room for it.
async fn begin(wallet: &Wallet, key: &IntentKey) -> Intent {
    loop {
        match wallet.begin(key.clone(), body_of(&key.key)).await {
            Err(WalletError::Busy) => tokio::task::yield_now().await,
            other => return other.unwrap(),
        }
    }
}

async fn try_hold(wallet: &Wallet, request: HoldRequest) -> Result<Hold, WalletError> {
    loop {
        match wallet.hold(request.clone()).await {
            Err(WalletError::Busy) => tokio::task::yield_now().await,
            other => return other,
        }
    }
}

/// Sets `n` TRM aside as `agent`, or says why not.
async fn spend(wallet: &Wallet, agent: AgentId, name: &str, n: u64) -> Result<Hold, WalletError> {
    match begin(wallet, &IntentKey::new(agent, name)).await {
        Intent::Attempt(attempt) => try_hold(wallet, request(attempt, n, SOME_QUOTE)).await,
        Intent::Answered(_) => panic!("{name} is answered"),
    }
}

/// The main agent at `budget` TRM an hour; below it one at 60 % of that, one at 40 % below that, and
/// one at 70 % beside them.
async fn tree(wallet: &Wallet, budget: u64) -> [(AgentId, u64, Vec<AgentId>); 4] {
    let share = |percent: u64| {
        let hour_trm = trm(budget * percent / 100);
        only(Limits {
            hour_trm,
            ..Limits::DEFAULT
        })
    };
    let main = main_agent();
    set_terms(wallet, main, share(100)).await;
    let child = wallet.grant(main, "child".into(), share(60)).await.unwrap();
    let leaf = wallet.grant(child, "leaf".into(), share(40)).await.unwrap();
    let beside = wallet
        .grant(main, "beside".into(), share(70))
        .await
        .unwrap();
    [
        (main, budget, vec![main, child, leaf, beside]),
        (child, budget * 60 / 100, vec![child, leaf]),
        (leaf, budget * 40 / 100, vec![leaf]),
        (beside, budget * 70 / 100, vec![beside]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_spenders_of_ten_times_a_budget_never_pass_it_at_any_level() {
    let (begun, trials) = (Instant::now(), setting("TIRAMI_TRIALS", 200));
    let (wallet, _) = founder(90_000).await;
    let budget = 1_000;
    let tree = tree(&wallet, budget).await;
    let agents = [tree[0].0, tree[1].0, tree[2].0, tree[3].0];
    let (mut held, mut refused) = (0_u64, 0_u64);
    for trial in 0..trials {
        let tasks: Vec<_> = (0..64_u32)
            .map(|task| {
                let wallet = wallet.clone();
                tokio::spawn(async move {
                    let mut made = Vec::new();
                    // Two requests each, of 78 on average: ten times the budget in all.
                    for n in 0..2_u32 {
                        let agent = agents[usize::try_from((task + n) % 4).unwrap()];
                        let ask = u64::from(50 + (task * 31 + n * 17 + trial * 7) % 57);
                        let name = format!("{trial}/{task}/{n}");
                        match spend(&wallet, agent, &name, ask).await {
                            Ok(open) => made.push((agent, ask, open)),
                            Err(WalletError::Refused(Refusal::OverBudget { .. })) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                    made
                })
            })
            .collect();
        let mut holds = Vec::new();
        for task in tasks {
            holds.extend(task.await.unwrap());
        }
        let mut sums = BTreeMap::<AgentId, u64>::new();
        for (agent, ask, _) in &holds {
            *sums.entry(*agent).or_default() += ask;
        }
        for (agent, limit, below) in &tree {
            let used: u64 = below.iter().filter_map(|a| sums.get(a)).sum();
            let overshoot = used.saturating_sub(*limit);
            assert_eq!(overshoot, 0, "{used} of {limit} TRM in trial {trial}");
            let link = &wallet.budget(agent).unwrap().chain[0];
            assert_eq!(link.usage.used_in_all(), trm(used));
        }
        let used: u64 = sums.values().sum();
        assert!(
            budget - used < 107,
            "{used} TRM is not all that could be held"
        );
        (held, refused) = (held + u64::try_from(holds.len()).unwrap(), refused + 128);
        for (.., hold) in holds {
            hold.void(VoidReason::CalledOff).await.unwrap();
        }
    }
    sound(&wallet);
    println!(
        "{trials} trials, {held} held, {} refused, overshoot 0, in {:.1} s",
        refused - held,
        begun.elapsed().as_secs_f64()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_retries_of_one_key_at_once_have_one_effect() {
    let (wallet, _) = founder(90_000).await;
    // The clock stands, and many rounds must fit into its hour.
    let limits = Limits {
        hour_trm: trm(90_000),
        ..Limits::DEFAULT
    };
    set_terms(&wallet, main_agent(), only(limits)).await;
    let rounds = setting("TIRAMI_ROUNDS", 5);
    for round in 0..rounds {
        let name = format!("key {round}");
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let (wallet, name) = (wallet.clone(), name.clone());
                tokio::spawn(async move { buy_once(&wallet, &name).await })
            })
            .collect();
        let mut paid = 0;
        for task in tasks {
            paid += u32::from(task.await.unwrap());
        }
        assert_eq!(paid, 1);
        assert_eq!(spent(&wallet), u128::from(10 * (round + 1)));
        let balance = wallet.balance(&main_agent()).unwrap();
        assert_eq!(balance.held, trm(0));
        assert_eq!(
            wallet.outbox().unwrap().len(),
            usize::try_from(round + 1).unwrap()
        );
        let other = wallet.begin(intent(&name), [9; 32]).await;
        assert!(matches!(other, Err(WalletError::KeyReused { .. })));
    }
    sound(&wallet);
}

/// One try at a purchase for 10 TRM; whether it was the one that paid.
async fn buy_once(wallet: &Wallet, name: &str) -> bool {
    let answer = || name.as_bytes().to_vec();
    let attempt = match begin(wallet, &intent(name)).await {
        Intent::Answered(stored) => {
            assert_eq!(stored, answer());
            return false;
        }
        Intent::Attempt(attempt) => attempt,
    };
    let trade = purchase(50);
    let request = HoldRequest {
        attempt,
        amount: trade.quote.max_amount,
        quote: trade.quote.id(),
        work: WORK,
        under: None,
    };
    let mut hold = try_hold(wallet, request).await.unwrap();
    loop {
        let receipt = trade.receipt(hold.id(), 10);
        match hold.settle(receipt, answer()).await {
            Ok(()) => return true,
            Err((same, WalletError::Busy)) => hold = same,
            Err((same, WalletError::KeyRunning { .. })) => {
                hold = same;
                break;
            }
            Err((_, other)) => panic!("{other}"),
        }
    }
    hold.void(VoidReason::CalledOff).await.unwrap();
    assert_eq!(
        begin(wallet, &intent(name)).await,
        Intent::Answered(answer())
    );
    false
}

/// 64 spend as fast as they can; `stop` is called amid them. What they held when it was answered,
/// and how long that took; after that each must get the refusal `number`.
async fn stopped_amid(
    wallet: &Wallet,
    agent: AgentId,
    name: &str,
    number: u16,
    stop: impl AsyncFnOnce(&Wallet),
) -> (Vec<Hold>, Duration) {
    let acknowledged = Arc::new(AtomicBool::new(false));
    let others = wallet.open_holds().unwrap().len();
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (wallet, acknowledged) = (wallet.clone(), acknowledged.clone());
            let name = format!("{name}/{task}");
            tokio::spawn(async move {
                let mut holds = Vec::new();
                for n in 0_u32.. {
                    let late = acknowledged.load(Ordering::SeqCst);
                    match spend(&wallet, agent, &format!("{name}/{n}"), 1).await {
                        Ok(hold) => {
                            assert!(!late, "held after it was stopped");
                            holds.push(hold);
                        }
                        Err(WalletError::Refused(refusal)) => {
                            assert_eq!(refusal.number(), number);
                            break;
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
                holds
            })
        })
        .collect();
    while wallet.open_holds().unwrap().len() < others + 20 {
        tokio::task::yield_now().await;
    }
    let asked = Instant::now();
    stop(wallet).await;
    let took = asked.elapsed();
    acknowledged.store(true, Ordering::SeqCst);
    let there = wallet.open_holds().unwrap().len() - others;
    let mut holds = Vec::new();
    for task in tasks {
        holds.extend(task.await.unwrap());
    }
    assert_eq!(
        holds.len(),
        there,
        "what is held was held before the answer"
    );
    (holds, took)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_held_or_paid_after_a_freeze_is_acknowledged_amid_64_spenders() {
    let (wallet, _) = founder(90_000).await;
    set_terms(&wallet, main_agent(), only(Limits::DEFAULT)).await;
    let mut times = Vec::new();
    for round in 0..setting("TIRAMI_ROUNDS", 5) {
        let name = format!("spend {round}");
        let open = hold_for(&wallet, &purchase(50), &name).await;
        let before = spent(&wallet);
        let stop = async |wallet: &Wallet| {
            wallet.freeze("stop".into()).await.unwrap();
        };
        let (holds, took) = stopped_amid(&wallet, main_agent(), &name, 8, stop).await;
        times.push(took);
        let receipt = purchase(50).receipt(open.id(), 10);
        let (open, refused) = open.settle(receipt, Vec::new()).await.unwrap_err();
        assert!(matches!(
            refused,
            WalletError::Refused(Refusal::Frozen { .. })
        ));
        assert_eq!(spent(&wallet), before);
        // What is set aside may go back although it is frozen.
        for hold in holds.into_iter().chain([open]) {
            hold.void(VoidReason::CalledOff).await.unwrap();
        }
        sound(&wallet);
        let number = wallet.owner().unwrap().unwrap().next_order;
        let unfreeze = tirami_manifest::owner::Decision::Unfreeze;
        order(&wallet, number, unfreeze).await.unwrap();
    }
    times.sort_unstable();
    println!("a freeze amid 64 spenders was acknowledged after {times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_held_below_a_mandate_after_its_revocation_amid_64_spenders() {
    let (wallet, _) = founder(90_000).await;
    let [_, (child, ..), (leaf, ..), (beside, ..)] = tree(&wallet, 100_000).await;
    let stop = async |wallet: &Wallet| {
        let gone = wallet.revoke(child).await.unwrap();
        assert_eq!(gone, [child, leaf]);
    };
    let (holds, _) = stopped_amid(&wallet, leaf, "spend", 10, stop).await;
    // Whoever is not below it goes on, and what was held ends as it always does.
    spend(&wallet, beside, "other", 1)
        .await
        .unwrap()
        .leave_to_expire();
    for hold in holds {
        hold.void(VoidReason::CalledOff).await.unwrap();
    }
    let used = |agent| wallet.budget(&agent).unwrap().chain[0].usage.used_in_all();
    assert_eq!(
        [used(leaf), used(child), used(beside)],
        [trm(0), trm(0), trm(1)]
    );
    sound(&wallet);
}

const YEAR: u64 = 365 * DAY;

/// The hour is used up, a hold is open, a mandate ends within the day.
async fn on_the_clock() -> (Wallet, Arc<ManualClock>, Hold, AgentId) {
    let (wallet, clock) = founder(90_000).await;
    set_terms(&wallet, main_agent(), terms(500, 500, 50_000)).await;
    let mut short = terms(500, 500, 50_000);
    short.expires = Some(START.after_ms(HOUR));
    let child = wallet
        .grant(main_agent(), "child".into(), short)
        .await
        .unwrap();
    let open = hold(&wallet, "open", 500).await.unwrap();
    (wallet, clock, open, child)
}

#[tokio::test]
async fn a_clock_a_year_back_frees_nothing_and_ends_nothing() {
    let (wallet, clock, open, child) = on_the_clock().await;
    clock.set(Timestamp::from_ms(START.ms() - YEAR));
    open.renew().await.unwrap();
    assert_eq!(crate::number(hold(&wallet, "a", 1).await), 23);
    assert_eq!(crate::number(spend(&wallet, child, "b", 1).await), 23);
    assert_eq!(wallet.sweep().await.unwrap(), 0);
    // Time that passes counts, whatever the clock says.
    clock.advance_ms(TIMEOUT_MS - 1);
    assert_eq!(wallet.sweep().await.unwrap(), 0);
    clock.advance_ms(1);
    open.renew().await.unwrap_err();
    assert!(wallet.open_holds().unwrap().is_empty());
    spend(&wallet, child, "c", 500)
        .await
        .unwrap()
        .leave_to_expire();
    clock.advance_ms(HOUR);
    assert_eq!(crate::number(spend(&wallet, child, "d", 1).await), 11);
    sound(&wallet);
}

#[tokio::test]
async fn a_clock_a_year_ahead_and_back_again_reopens_nothing() {
    let (wallet, clock, open, child) = on_the_clock().await;
    clock.set(START.after_ms(YEAR));
    // Early: the hold's time is over and its hour with it.
    assert!(matches!(
        open.renew().await,
        Err(WalletError::Refused(Refusal::HoldEnded { .. }))
    ));
    hold(&wallet, "a", 500).await.unwrap().leave_to_expire();
    assert_eq!(crate::number(spend(&wallet, child, "b", 1).await), 11);
    clock.set(START);
    // What is over stays over, and what was used in that hour stays used.
    open.renew().await.unwrap_err();
    assert_eq!(crate::number(spend(&wallet, child, "b", 1).await), 11);
    assert_eq!(crate::number(hold(&wallet, "c", 1).await), 23);
    let times = wallet.history(None, 99).unwrap();
    assert!(
        times
            .windows(2)
            .all(|two| two[0].entry.at >= two[1].entry.at)
    );
    let ids: std::collections::BTreeSet<_> = times.iter().map(|l| l.entry.transfer.id).collect();
    assert_eq!(ids.len(), times.len());
    sound(&wallet);
}
