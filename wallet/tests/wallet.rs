//! The wallet through its front door: what callers may rely on, one claim per test.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use redb::backends::InMemoryBackend;
use tirami_manifest::genesis::{Genesis, Invitation, LoanGrant};
use tirami_manifest::key::SecretKey;
use tirami_manifest::mandate::Limits;
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::signed::Signed;
use tirami_manifest::ticket::Ticket;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{AgentId, Amount, InvitationId, NetworkId, QuoteId, Timestamp, TransferId};
use tirami_wallet::intent::{ANSWER_KEPT_MS, Attempt, Intent, IntentKey};
use tirami_wallet::keystore::{KeyError, Passphrase, create_owner_key, node_key, open_owner_key};
use tirami_wallet::ledger::account::Account;
use tirami_wallet::ledger::apply::Applied;
use tirami_wallet::ledger::refusal::{Limit, Refusal};
use tirami_wallet::ledger::transfer::HoldEnd;
use tirami_wallet::sales::Standing;
use tirami_wallet::store::{Storage, StoreError};
use tirami_wallet::token::{main_agent, token_hash};
use tirami_wallet::{Hold, HoldRequest, Retry, Wallet, WalletError};

mod world;
use world::{START, TIMEOUT_MS, Trade, fund, genesis, key, sound, trm};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn memory() -> Storage {
    Storage::Backend(Box::new(InMemoryBackend::new()))
}

/// A wallet of party `n` in memory, and its clock.
fn party(n: u8) -> (Wallet, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(START));
    (world::open(memory(), &clock, key(n)).unwrap(), clock)
}

/// Party 1, founder of the network, whose main agent has `amount` TRM.
async fn founder(amount: u32) -> (Wallet, Arc<ManualClock>) {
    let (wallet, clock) = party(1);
    fund(&wallet, amount, || ()).await.unwrap();
    (wallet, clock)
}

fn intent(name: &str) -> IntentKey {
    IntentKey::new(main_agent(), name)
}

async fn attempt(wallet: &Wallet, name: &str) -> Attempt {
    match wallet.begin(intent(name), [0; 32]).await.unwrap() {
        Intent::Attempt(attempt) => attempt,
        Intent::Answered(_) => panic!("{name} is answered"),
    }
}

fn request(attempt: Attempt, amount: u64, quote: QuoteId) -> HoldRequest {
    HoldRequest {
        attempt,
        amount: trm(amount),
        quote,
    }
}

const SOME_QUOTE: QuoteId = QuoteId::from_bytes([1; 32]);

async fn hold(wallet: &Wallet, name: &str, amount: u64) -> Result<Hold, WalletError> {
    let attempt = attempt(wallet, name).await;
    wallet.hold(request(attempt, amount, SOME_QUOTE)).await
}

/// The main agent of party 1 buys from party 2.
fn purchase(max: u32) -> Trade {
    Trade::new(genesis().id(), &key(2), &key(1), (max, 1))
}

async fn hold_for(wallet: &Wallet, trade: &Trade, name: &str) -> Hold {
    let attempt = attempt(wallet, name).await;
    let (amount, quote) = (trade.quote.max_amount, trade.quote.id());
    let request = HoldRequest {
        attempt,
        amount,
        quote,
    };
    wallet.hold(request).await.unwrap()
}

fn spent(wallet: &Wallet) -> u128 {
    wallet.balance(&main_agent()).unwrap().spent / 1_000_000
}

fn available(wallet: &Wallet) -> Amount {
    wallet.balance(&main_agent()).unwrap().available
}

fn totals(wallet: &Wallet, account: Account) -> u128 {
    let all = wallet.accounts().unwrap();
    let (_, totals) = all.iter().find(|(a, _)| *a == account).unwrap();
    u128::from(totals.available().utrm()) / 1_000_000
}

fn limits(request: u64, hour: u64, lifetime: u64) -> Limits {
    Limits {
        per_request_trm: trm(request),
        hour_trm: trm(hour),
        lifetime_trm: trm(lifetime),
    }
}

async fn order(wallet: &Wallet, number: u64, decision: Decision) -> Result<(), WalletError> {
    let node = wallet.node();
    let order = OwnerOrder {
        node,
        number,
        decision,
    };
    wallet.obey(Signed::new(order, &key(100))).await
}

// ---- limits ----

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_parallel_holds_never_hold_more_than_the_hourly_limit() {
    let (wallet, clock) = founder(90_000).await;
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
                                assert_eq!(limit, Limit::Hour);
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
                hold.void().await.unwrap();
            } else {
                hold.leave_to_expire();
            }
        }
        clock.advance_ms(TIMEOUT_MS);
        wallet.sweep().await.unwrap();
        assert_eq!(
            wallet.budget(&main_agent()).unwrap().used_hour,
            Amount::ZERO
        );
    }
    sound(&wallet);
}

#[tokio::test]
async fn each_limit_is_named_when_it_is_reached_and_the_hour_says_when_it_frees() {
    let (wallet, clock) = founder(90_000).await;
    let mandate = limits(300, 500, 1_000);
    wallet.tighten(main_agent(), mandate).await.unwrap();
    let refused = async |name: &str, amount: u64| match hold(&wallet, name, amount).await {
        Err(WalletError::Refused(Refusal::OverBudget {
            limit, frees_at, ..
        })) => (limit, frees_at),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("a", 301).await, (Limit::PerRequest, None));
    for name in ["a", "b"] {
        settle(&wallet, name, 250).await;
    }
    let (limit, frees_at) = refused("c", 1).await;
    assert_eq!(limit, Limit::Hour);
    let frees_at = frees_at.unwrap();
    assert!(frees_at.since_ms(START) >= HOUR && frees_at.since_ms(START) <= HOUR + MINUTE);
    clock.set(Timestamp::from_ms(frees_at.ms() - 1));
    assert_eq!(refused("c", 1).await.0, Limit::Hour);
    clock.set(frees_at);
    for name in ["c", "d"] {
        settle(&wallet, name, 250).await;
    }
    clock.advance_ms(10 * HOUR);
    assert_eq!(refused("e", 1).await, (Limit::Lifetime, None));
    assert_eq!(spent(&wallet), 1_000);
    sound(&wallet);
}

/// Buys for exactly `amount`.
async fn settle(wallet: &Wallet, name: &str, amount: u32) {
    let trade = Trade::new(
        genesis().id(),
        &key(2),
        &key(1),
        (amount, name.as_bytes()[0]),
    );
    let hold = hold_for(wallet, &trade, name).await;
    let receipt = trade.receipt(hold.id(), amount);
    hold.settle(receipt, Vec::new()).await.unwrap();
}

#[tokio::test]
async fn a_clock_set_back_opens_no_hour_and_revives_no_hold() {
    let (wallet, clock) = founder(90_000).await;
    wallet
        .tighten(main_agent(), limits(500, 500, 5_000))
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
    new.void().await.unwrap();
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
    hold(&wallet, "c", 1).await.unwrap().void().await.unwrap();
}

#[tokio::test]
async fn tightening_takes_effect_at_once_and_loosening_is_refused_by_name() {
    let (wallet, _) = founder(5_000).await;
    let have = limits(100, 200, 300);
    wallet.tighten(main_agent(), have).await.unwrap();
    for (name, want) in [
        ("per_request", limits(101, 200, 300)),
        ("hour", limits(100, 201, 300)),
        ("lifetime", limits(1, 1, 301)),
    ] {
        match wallet.tighten(main_agent(), want).await {
            Err(WalletError::Loosens { limit, .. }) => assert_eq!(limit, name),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(wallet.budget(&main_agent()).unwrap().limits, have);
    assert!(hold(&wallet, "a", 101).await.is_err());
    let nobody = wallet.tighten(AgentId::from_bytes([9; 16]), have).await;
    assert!(matches!(
        nobody,
        Err(WalletError::Refused(Refusal::NoMandate { .. }))
    ));
    // Below what is used already: nothing is left, and nothing breaks.
    let open = hold(&wallet, "a", 100).await.unwrap();
    wallet.tighten(main_agent(), limits(5, 5, 5)).await.unwrap();
    assert_eq!(wallet.budget(&main_agent()).unwrap().left, Amount::ZERO);
    assert!(wallet.admits(&main_agent(), trm(1)).is_err());
    open.void().await.unwrap();
    wallet.admits(&main_agent(), trm(5)).unwrap();
}

// ---- the kill switch ----

#[tokio::test]
async fn a_freeze_stops_holds_and_payment_until_the_owner_lifts_it() {
    let (wallet, _) = founder(5_000).await;
    wallet.set_owner(key(100).owner_id()).await.unwrap();
    let trade = purchase(50);
    let open = hold_for(&wallet, &trade, "a").await;
    let freeze = wallet.freeze("smoke".into()).await.unwrap();
    assert_eq!(wallet.freeze("fire".into()).await.unwrap(), freeze);
    assert_eq!(wallet.frozen().unwrap(), Some(freeze));
    let frozen = |error: &WalletError| matches!(error, WalletError::Refused(Refusal::Frozen { reason }) if reason == "smoke");
    let refused = hold(&wallet, "b", 1).await.unwrap_err();
    assert!(frozen(&refused) && refused.retry() == Retry::Never);
    assert!(frozen(&wallet.admits(&main_agent(), trm(1)).unwrap_err()));
    let receipt = trade.receipt(open.id(), 10);
    let (open, refused) = open.settle(receipt.clone(), Vec::new()).await.unwrap_err();
    assert!(frozen(&refused));
    assert_eq!(spent(&wallet), 0);
    assert!(wallet.outbox().unwrap().is_empty());
    assert_eq!(wallet.receipt(&receipt.id()).unwrap(), None);
    // What is owed to us still comes in, and giving back is no spending.
    let sale = Trade::new(genesis().id(), &key(1), &key(2), (7, 7));
    wallet
        .earn(sale.receipt(TransferId::from_bytes([7; 16]), 7))
        .await
        .unwrap();
    let other = Trade::new(genesis().id(), &key(1), &key(2), (7, 8));
    wallet.reserve(&other.quote).await.unwrap();
    // The keys are not burnt.
    order(&wallet, 0, Decision::Unfreeze).await.unwrap();
    open.settle(receipt, Vec::new()).await.unwrap();
    hold(&wallet, "b", 1).await.unwrap().void().await.unwrap();
    assert_eq!(spent(&wallet), 10);
    sound(&wallet);
}

#[tokio::test]
async fn a_freeze_survives_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let file = || Storage::File(folder.path().join("wallet.redb"));
    let clock = Arc::new(ManualClock::at(START));
    let wallet = world::open(file(), &clock, key(1)).unwrap();
    fund(&wallet, 100, || ()).await.unwrap();
    wallet.freeze("stop".into()).await.unwrap();
    wallet.close().await;
    let wallet = world::open(file(), &clock, key(1)).unwrap();
    let refused = hold(&wallet, "a", 1).await;
    assert!(matches!(
        refused,
        Err(WalletError::Refused(Refusal::Frozen { .. }))
    ));
}

// ---- idempotency keys ----

#[tokio::test]
async fn a_key_answers_what_was_paid_for_and_refuses_another_body() {
    let (wallet, clock) = founder(5_000).await;
    let trade = purchase(50);
    let open = hold_for(&wallet, &trade, "a").await;
    let receipt = trade.receipt(open.id(), 10);
    open.settle(receipt, b"the answer".to_vec()).await.unwrap();
    let again = wallet.begin(intent("a"), [0; 32]).await.unwrap();
    assert_eq!(again, Intent::Answered(b"the answer".to_vec()));
    let other = wallet.begin(intent("a"), [1; 32]).await;
    assert!(matches!(other, Err(WalletError::KeyReused { key }) if key == "a"));
    // The same key of another agent is another key.
    let theirs = IntentKey::new(AgentId::from_bytes([9; 16]), "a");
    assert!(matches!(
        wallet.begin(theirs, [1; 32]).await.unwrap(),
        Intent::Attempt(_)
    ));
    // After its time it is forgotten, and what it named then has ids of its own.
    clock.advance_ms(ANSWER_KEPT_MS + 1);
    let open = hold(&wallet, "a", 20).await.unwrap();
    open.void().await.unwrap();
    assert_eq!(spent(&wallet), 10);
}

#[tokio::test]
async fn answers_are_unreadable_in_the_file_and_with_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.redb");
    let clock = Arc::new(ManualClock::at(START));
    let wallet = world::open(Storage::File(path.clone()), &clock, key(1)).unwrap();
    let secret = b"what the model said to the agent";
    wallet.begin(intent("a"), [0; 32]).await.unwrap();
    wallet.answer(intent("a"), secret.to_vec()).await.unwrap();
    wallet.close().await;
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(secret.len()).any(|w| w == secret));
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let wallet = world::open(Storage::File(path), &clock, key(2)).unwrap();
    let other = wallet.begin(intent("a"), [0; 32]).await;
    assert!(matches!(
        other,
        Err(WalletError::Store(StoreError::Row { .. }))
    ));
}

#[tokio::test]
async fn a_refusal_does_not_burn_the_key_and_every_attempt_has_a_hold_of_its_own() {
    let (wallet, _) = founder(100).await;
    let first = attempt(&wallet, "a").await;
    let refused = wallet
        .hold(request(first.clone(), 101, SOME_QUOTE))
        .await
        .unwrap_err();
    assert!(matches!(
        refused,
        WalletError::Refused(Refusal::NotEnough { .. })
    ));
    assert_eq!(refused.retry(), Retry::Later);
    // The same attempt, less: the refusal took nothing.
    let one = wallet
        .hold(request(first.clone(), 40, SOME_QUOTE))
        .await
        .unwrap();
    // The right to end a hold exists once.
    let twice = wallet.hold(request(first, 40, SOME_QUOTE)).await;
    assert!(matches!(
        twice,
        Err(WalletError::Refused(Refusal::IdTaken { .. }))
    ));
    let second = attempt(&wallet, "a").await;
    assert_eq!(second.number, 2);
    let two = wallet.hold(request(second, 40, SOME_QUOTE)).await.unwrap();
    assert_ne!(one.id(), two.id());
    assert_eq!(wallet.balance(&main_agent()).unwrap().held, trm(80));
    one.void().await.unwrap();
    two.void().await.unwrap();
    assert_eq!(available(&wallet), trm(100));
}

#[tokio::test]
async fn two_tries_at_one_intent_pay_once() {
    let (wallet, _) = founder(1_000).await;
    let trade = purchase(50);
    let (one, two) = (
        hold_for(&wallet, &trade, "a").await,
        hold_for(&wallet, &trade, "a").await,
    );
    let receipts = (trade.receipt(one.id(), 30), trade.receipt(two.id(), 20));
    one.settle(receipts.0, b"first".to_vec()).await.unwrap();
    let (two, error) = two
        .settle(receipts.1, b"second".to_vec())
        .await
        .unwrap_err();
    assert!(matches!(error, WalletError::KeyRunning { .. }), "{error}");
    two.void().await.unwrap();
    assert_eq!(spent(&wallet), 30);
    let answer = wallet.begin(intent("a"), [0; 32]).await.unwrap();
    assert_eq!(answer, Intent::Answered(b"first".to_vec()));
    assert_eq!(wallet.outbox().unwrap().len(), 1);
    sound(&wallet);
}

#[tokio::test]
async fn work_that_outlives_the_keeping_of_its_key_is_still_paid() {
    let (wallet, clock) = founder(1_000).await;
    let first = attempt(&wallet, "a").await;
    drop(first);
    clock.advance_ms(ANSWER_KEPT_MS - 1);
    // Asked for again at the last moment: its time begins anew.
    let trade = purchase(50);
    let open = hold_for(&wallet, &trade, "a").await;
    clock.advance_ms(MINUTE);
    for n in 0..5 {
        drop(attempt(&wallet, &format!("other {n}")).await);
    }
    let receipt = trade.receipt(open.id(), 10);
    open.settle(receipt, b"x".to_vec()).await.unwrap();
    let again = wallet.begin(intent("a"), [0; 32]).await.unwrap();
    assert_eq!(again, Intent::Answered(b"x".to_vec()));
    // An answer to what nobody began is nothing to keep, and no reason to stop writing.
    wallet.answer(intent("never"), vec![1]).await.unwrap();
    wallet.sweep().await.unwrap();
}

#[tokio::test]
async fn old_keys_are_dropped_although_agents_take_turns() {
    let (wallet, clock) = founder(1_000).await;
    let agents = [main_agent(), AgentId::from_bytes([9; 16])];
    let begin = async |name: &str| {
        for agent in agents {
            let key = IntentKey::new(agent, name);
            assert!(matches!(
                wallet.begin(key, [name.as_bytes()[0]; 32]).await.unwrap(),
                Intent::Attempt(_)
            ));
        }
    };
    for n in 0..40 {
        begin(&format!("a{n}")).await;
    }
    clock.advance_ms(ANSWER_KEPT_MS + 1);
    for n in 0..40 {
        begin(&format!("b{n}")).await;
    }
    // A dropped key takes another body; were it still there, it would be refused.
    for n in 0..40 {
        for agent in agents {
            let key = IntentKey::new(agent, &format!("a{n}"));
            wallet.begin(key, [77; 32]).await.unwrap();
        }
    }
}

// ---- holds and receipts ----

#[tokio::test]
async fn a_receipt_for_anything_else_pays_nothing_and_leaves_the_hold() {
    let (wallet, _) = founder(5_000).await;
    let trade = purchase(50);
    let mut open = hold_for(&wallet, &trade, "a").await;
    let id = open.id();
    let network = genesis().id();
    let with =
        |network, consumer: &SecretKey, nonce| Trade::new(network, &key(2), consumer, (50, nonce));
    let wrong = [
        ("hold", trade.receipt(TransferId::from_bytes([9; 16]), 10)),
        ("quote", with(network, &key(1), 2).receipt(id, 10)),
        ("consumer", with(network, &key(3), 1).receipt(id, 10)),
        (
            "network",
            with(NetworkId::from_bytes([9; 32]), &key(1), 1).receipt(id, 10),
        ),
    ];
    for (what, receipt) in wrong {
        let (hold, error) = open.settle(receipt, Vec::new()).await.unwrap_err();
        open = hold;
        match (what, error) {
            // Another consumer or network is another quote as well, and that is said first.
            (_, WalletError::OtherReceipt(said)) => assert!(said == what || said == "quote"),
            (_, other) => panic!("{what}: {other}"),
        }
        assert_eq!(spent(&wallet), 0, "{what}");
        assert_eq!(
            wallet.balance(&main_agent()).unwrap().held,
            trm(50),
            "{what}"
        );
        assert!(wallet.outbox().unwrap().is_empty(), "{what}");
    }
    // The same checks where the quote is the one of the hold.
    for (what, trade) in [
        ("consumer", with(network, &key(3), 1)),
        ("network", with(NetworkId::from_bytes([9; 32]), &key(1), 1)),
    ] {
        let hold = hold_for(&wallet, &trade, what).await;
        let receipt = trade.receipt(hold.id(), 10);
        let (hold, error) = hold.settle(receipt, Vec::new()).await.unwrap_err();
        assert!(
            matches!(error, WalletError::OtherReceipt(said) if said == what),
            "{error}"
        );
        hold.void().await.unwrap();
    }
    let receipt = trade.receipt(id, 10);
    open.settle(receipt, Vec::new()).await.unwrap();
    assert_eq!(spent(&wallet), 10);
    sound(&wallet);
}

#[tokio::test]
async fn a_hold_pays_once_and_not_after_its_time() {
    let (wallet, clock) = founder(5_000).await;
    let trade = purchase(50);
    let open = hold_for(&wallet, &trade, "a").await;
    clock.advance_ms(TIMEOUT_MS - 1);
    open.renew().await.unwrap();
    clock.advance_ms(TIMEOUT_MS);
    let receipt = trade.receipt(open.id(), 10);
    let (open, error) = open.settle(receipt, Vec::new()).await.unwrap_err();
    assert!(matches!(
        error,
        WalletError::Refused(Refusal::HoldEnded {
            end: HoldEnd::Expired,
            ..
        })
    ));
    assert!(open.void().await.is_err());
    assert_eq!(available(&wallet), trm(5_000));
    // A receipt for nothing gives everything back and is kept.
    let open = hold_for(&wallet, &trade, "a").await;
    let receipt = trade.receipt(open.id(), 0);
    let id = receipt.id();
    open.settle(receipt, b"free".to_vec()).await.unwrap();
    assert_eq!((available(&wallet), spent(&wallet)), (trm(5_000), 0));
    let kept = wallet.receipt(&id).unwrap().unwrap().receipt().unwrap();
    assert!(kept.verify().is_ok());
    sound(&wallet);
}

#[tokio::test]
async fn open_purchases_are_voided_and_settled_ones_are_not() {
    let (wallet, _) = founder(5_000).await;
    settle(&wallet, "a", 100).await;
    for name in ["b", "c", "d"] {
        hold(&wallet, name, 10).await.unwrap().leave_to_expire();
    }
    // A reservation is not a purchase.
    let sale = Trade::new(genesis().id(), &key(1), &key(2), (7, 7));
    wallet.reserve(&sale.quote).await.unwrap();
    assert_eq!(wallet.void_open_purchases().await.unwrap(), 3);
    assert_eq!(wallet.void_open_purchases().await.unwrap(), 0);
    assert_eq!(wallet.open_holds().unwrap().len(), 1);
    assert_eq!((available(&wallet), spent(&wallet)), (trm(4_900), 100));
    sound(&wallet);
}

#[tokio::test]
async fn the_outbox_survives_reopening_and_an_acknowledgement_empties_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = || Storage::File(folder.path().join("wallet.redb"));
    let clock = Arc::new(ManualClock::at(START));
    // Party 3 is a member: its books owe the authority until that acknowledges.
    let wallet = world::open(file(), &clock, key(3)).unwrap();
    let founder = founder(1_000).await.0;
    join(&founder, &wallet, [3; 16]).await;
    let trade = Trade::new(genesis().id(), &key(1), &key(3), (50, 1));
    let open = hold_for(&wallet, &trade, "a").await;
    let receipt = trade.receipt(open.id(), 30);
    open.settle(receipt.clone(), Vec::new()).await.unwrap();
    let outbox = wallet.outbox().unwrap();
    assert_eq!(outbox, [(key(1).id(), receipt.to_bytes())]);
    wallet.close().await;
    assert!(matches!(
        wallet.outbox(),
        Err(WalletError::Store(StoreError::Closed))
    ));

    let wallet = world::open(file(), &clock, key(3)).unwrap();
    assert_eq!(wallet.outbox().unwrap(), outbox);
    let clearing = Account::Clearing(key(1).id());
    assert_eq!(totals(&wallet, clearing), 30);
    let id = receipt.id();
    for _ in 0..2 {
        wallet.acknowledged(id).await.unwrap();
        assert!(wallet.outbox().unwrap().is_empty());
        assert_eq!(totals(&wallet, clearing), 0);
    }
    // Both books say the same of the member.
    assert_eq!(founder.earn(receipt).await.unwrap(), Applied::Now);
    let theirs = totals(&founder, Account::Clearing(key(3).id()));
    let ours = wallet.accounts().unwrap().into_iter();
    let (_, position) = ours
        .into_iter()
        .find(|(a, _)| *a == Account::Position)
        .unwrap();
    assert_eq!(
        u128::from(position.debit_balance().utrm()),
        theirs * 1_000_000
    );
    sound(&wallet);
    sound(&founder);
}

// ---- the provider's side ----

async fn join(founder: &Wallet, member: &Wallet, invitation: [u8; 16]) {
    let invitation = founder
        .invite(InvitationId::from_bytes(invitation))
        .await
        .unwrap();
    let ticket = Ticket {
        genesis: founder.network().unwrap().unwrap(),
        invitation: invitation.clone(),
        addresses: Vec::new(),
    };
    member.ensure_main_agent([1; 32]).await.unwrap();
    member.enter(ticket).await.unwrap();
    assert!(member.pending_ticket().unwrap().is_some());
    let welcome = founder.welcome(invitation, member.node()).await.unwrap();
    let principal = member.accept_loan(welcome.grant.unwrap()).await.unwrap();
    assert_eq!(principal, trm(100_000));
    assert!(member.pending_ticket().unwrap().is_none());
}

#[tokio::test]
async fn a_sale_is_earned_once_with_and_without_its_reservation() {
    let (wallet, clock) = founder(1_000).await;
    let member = Account::Clearing(key(2).id());
    let before = totals(&wallet, member);
    let sale = |nonce| Trade::new(genesis().id(), &key(1), &key(2), (50, nonce));
    let hold = TransferId::from_bytes([1; 16]);

    // With a reservation: held, then posted, the rest back.
    wallet.reserve(&sale(1).quote).await.unwrap();
    assert_eq!(totals(&wallet, member), before - 50);
    let again = wallet.reserve(&sale(1).quote).await;
    assert!(matches!(again, Err(WalletError::OtherReceipt(_))));
    let receipt = sale(1).receipt(hold, 30);
    assert_eq!(wallet.earn(receipt.clone()).await.unwrap(), Applied::Now);
    assert_eq!(wallet.earn(receipt).await.unwrap(), Applied::Already);
    assert_eq!(totals(&wallet, member), before - 30);
    assert_eq!(available(&wallet), trm(1_030));

    // Without one.
    let receipt = sale(2).receipt(hold, 20);
    assert_eq!(wallet.earn(receipt).await.unwrap(), Applied::Now);
    assert_eq!(totals(&wallet, member), before - 50);

    // The reservation's time is over, swept or not: the debt stands.
    for (nonce, sweep) in [(3, false), (4, true)] {
        wallet.reserve(&sale(nonce).quote).await.unwrap();
        clock.advance_ms(TIMEOUT_MS);
        if sweep {
            assert_eq!(
                wallet.sweep().await.unwrap(),
                0,
                "the writer swept on its way"
            );
        }
        let receipt = sale(nonce).receipt(hold, 10);
        assert_eq!(wallet.earn(receipt).await.unwrap(), Applied::Now);
    }
    assert_eq!(totals(&wallet, member), before - 70);

    // Renewed and released.
    wallet.reserve(&sale(5).quote).await.unwrap();
    clock.advance_ms(TIMEOUT_MS - 1);
    wallet.renew_reservation(sale(5).quote.id()).await.unwrap();
    clock.advance_ms(TIMEOUT_MS - 1);
    assert_eq!(wallet.open_holds().unwrap().len(), 1);
    for _ in 0..2 {
        wallet
            .release_reservation(sale(5).quote.id())
            .await
            .unwrap();
    }
    wallet
        .release_reservation(sale(6).quote.id())
        .await
        .unwrap();
    wallet.renew_reservation(sale(6).quote.id()).await.unwrap();
    // Free of charge.
    let receipt = sale(7).receipt(hold, 0);
    assert_eq!(wallet.earn(receipt).await.unwrap(), Applied::Now);
    assert_eq!(totals(&wallet, member), before - 70);
    assert_eq!(wallet.balance(&main_agent()).unwrap().earned, 1_070_000_000);
    sound(&wallet);
}

#[tokio::test]
async fn only_own_sales_in_this_network_to_those_who_can_pay_are_earned() {
    let (wallet, _) = founder(1_000).await;
    let hold = TransferId::from_bytes([1; 16]);
    let network = genesis().id();
    let elsewhere = NetworkId::from_bytes([9; 32]);
    for (what, trade) in [
        ("network", Trade::new(elsewhere, &key(1), &key(2), (5, 1))),
        ("provider", Trade::new(network, &key(2), &key(3), (5, 1))),
    ] {
        let refused = wallet.earn(trade.receipt(hold, 5)).await;
        assert!(matches!(refused, Err(WalletError::OtherReceipt(said)) if said == what));
    }
    // A stranger has nothing here.
    let stranger = Trade::new(network, &key(1), &key(4), (5, 1));
    let refused = wallet.earn(stranger.receipt(hold, 5)).await;
    assert!(matches!(
        refused,
        Err(WalletError::Refused(Refusal::NotEnough { .. }))
    ));
    assert!(wallet.reserve(&stranger.quote).await.is_err());
    assert_eq!(wallet.standing(&key(4).id()).unwrap(), Standing::Unknown);
    assert_eq!(
        wallet.standing(&key(2).id()).unwrap(),
        Standing::Kept(trm(99_000))
    );
    // A member sells to the authority, and to nobody else.
    let (member, _) = party(3);
    let no_network = member.earn(stranger.receipt(hold, 5)).await;
    assert!(matches!(no_network, Err(WalletError::NoNetwork)));
    join(&wallet, &member, [3; 16]).await;
    assert_eq!(member.standing(&key(1).id()).unwrap(), Standing::Authority);
    assert_eq!(member.standing(&key(2).id()).unwrap(), Standing::Unknown);
    let to_member = Trade::new(network, &key(3), &key(2), (5, 1));
    assert!(member.earn(to_member.receipt(hold, 5)).await.is_err());
    let to_authority = Trade::new(network, &key(3), &key(1), (5, 1));
    member.reserve(&to_authority.quote).await.unwrap();
    assert_eq!(
        member.earn(to_authority.receipt(hold, 5)).await.unwrap(),
        Applied::Now
    );
    assert_eq!(available(&member), trm(100_005));
    sound(&member);
    sound(&wallet);
}

// ---- the welcome loan ----

#[tokio::test]
async fn an_invitation_is_one_loan_for_one_node_and_the_same_answer_again() {
    let (wallet, _) = founder(10).await;
    let id = InvitationId::from_bytes([3; 16]);
    let invitation = wallet.invite(id).await.unwrap();
    let welcome = async |node: &SecretKey| wallet.welcome(invitation.clone(), node.id()).await;
    let grant = welcome(&key(3)).await.unwrap().grant.unwrap();
    assert_eq!(welcome(&key(3)).await.unwrap().grant, Some(grant.clone()));
    let other = welcome(&key(4)).await;
    assert!(
        matches!(other, Err(WalletError::Invitation(_))),
        "{other:?}"
    );
    // Making the same invitation again does not make it unused.
    assert_eq!(wallet.invite(id).await.unwrap(), invitation);
    assert!(matches!(
        welcome(&key(4)).await,
        Err(WalletError::Invitation(_))
    ));
    // A second invitation is no second loan.
    let second = wallet
        .invite(InvitationId::from_bytes([4; 16]))
        .await
        .unwrap();
    let same = wallet.welcome(second, key(3).id()).await.unwrap();
    assert_eq!(same.grant, Some(grant));
    assert_eq!(totals(&wallet, Account::Clearing(key(3).id())), 100_000);
    // Nobody's invitations but our own.
    let body = Invitation {
        network: genesis().id(),
        issuer: key(1).id(),
        id: InvitationId::from_bytes([5; 16]),
    };
    let unknown = wallet
        .welcome(Signed::new(body.clone(), &key(1)), key(5).id())
        .await;
    assert!(matches!(
        unknown,
        Err(WalletError::Invitation("is not known here"))
    ));
    let forged = wallet
        .welcome(Signed::new(body, &key(5)), key(5).id())
        .await;
    assert!(matches!(
        forged,
        Err(WalletError::Invitation("is not by this node"))
    ));
    sound(&wallet);
}

#[tokio::test]
async fn lending_stops_at_the_daily_cap_and_goes_on_tomorrow() {
    // The cap is three loans, of which funding the founder took one.
    let (wallet, clock) = founder(10).await;
    let welcome = async |n: u8| {
        let invitation = wallet
            .invite(InvitationId::from_bytes([n; 16]))
            .await
            .unwrap();
        wallet.welcome(invitation, key(n).id()).await.unwrap()
    };
    assert!(welcome(3).await.grant.is_some());
    clock.advance_ms(HOUR);
    assert!(welcome(4).await.grant.is_some());
    let refused = welcome(5).await;
    assert!(refused.grant.is_none() && refused.note.is_some());
    clock.advance_ms(DAY - HOUR - 1);
    assert!(welcome(5).await.grant.is_none());
    clock.advance_ms(1);
    assert!(
        welcome(5).await.grant.is_some(),
        "two of the three are a day old"
    );
    assert_eq!(wallet.balance(&main_agent()).unwrap().lent.len(), 4);
    sound(&wallet);
}

#[tokio::test]
async fn an_issuer_never_lends_above_its_quota() {
    let (wallet, _) = party(1);
    let small = Genesis {
        issuers: vec![
            (key(1).id(), trm(150_000)),
            (key(9).id(), Amount::MAX.saturating_sub(trm(150_000))),
        ],
        ..genesis()
    };
    // Quotas that do not sum to the cap make no network, and nothing is written.
    let wrong = Genesis {
        issuers: vec![(key(1).id(), trm(150_000))],
        ..small.clone()
    };
    assert!(wallet.found(wrong).await.is_err());
    assert_eq!(wallet.network().unwrap(), None);
    wallet.found(small).await.unwrap();
    let mut outcomes = Vec::new();
    for n in [2, 3] {
        let invitation = wallet
            .invite(InvitationId::from_bytes([n; 16]))
            .await
            .unwrap();
        outcomes.push(wallet.welcome(invitation, key(n).id()).await);
    }
    assert!(outcomes[0].as_ref().unwrap().grant.is_some());
    assert!(matches!(
        outcomes[1],
        Err(WalletError::Refused(Refusal::OverCap { left, .. })) if left == trm(50_000)
    ));
    sound(&wallet);
}

#[tokio::test]
async fn a_member_that_is_no_issuer_invites_nobody() {
    let (member, _) = party(3);
    let id = InvitationId::from_bytes([1; 16]);
    assert!(matches!(
        member.invite(id).await,
        Err(WalletError::NoNetwork)
    ));
    join(&founder(10).await.0, &member, [3; 16]).await;
    assert!(matches!(
        member.invite(id).await,
        Err(WalletError::Invitation(_))
    ));
}

#[tokio::test]
async fn a_loan_is_booked_once_and_only_from_an_issuer_to_this_node() {
    let (member, _) = party(3);
    join(&founder(10).await.0, &member, [3; 16]).await;
    let grant = LoanGrant {
        network: genesis().id(),
        issuer: key(1).id(),
        borrower: key(3).id(),
        invitation: InvitationId::from_bytes([3; 16]),
        principal: trm(100_000),
        granted: START,
        due: START.after_ms(72 * HOUR),
    };
    let accept = async |grant: LoanGrant, signer: u8| {
        member.accept_loan(Signed::new(grant, &key(signer))).await
    };
    // The same again changes nothing.
    assert_eq!(accept(grant.clone(), 1).await.unwrap(), trm(100_000));
    let more = LoanGrant {
        principal: trm(100_001),
        ..grant.clone()
    };
    assert!(matches!(
        accept(more, 1).await,
        Err(WalletError::Refused(Refusal::IdTaken { .. }))
    ));
    let second = LoanGrant {
        invitation: InvitationId::from_bytes([4; 16]),
        ..grant.clone()
    };
    for (grant, signer) in [
        (second, 1),
        (
            LoanGrant {
                borrower: key(4).id(),
                ..grant.clone()
            },
            1,
        ),
        (
            LoanGrant {
                network: NetworkId::from_bytes([9; 32]),
                ..grant.clone()
            },
            1,
        ),
        (
            LoanGrant {
                issuer: key(4).id(),
                ..grant.clone()
            },
            4,
        ),
        (grant, 4),
    ] {
        let refused = accept(grant, signer).await;
        assert!(
            matches!(refused, Err(WalletError::Invitation(_))),
            "{refused:?}"
        );
    }
    assert_eq!(available(&member), trm(100_000));
    assert_eq!(member.balance(&main_agent()).unwrap().loans.len(), 1);
    sound(&member);
}

#[tokio::test]
async fn a_node_stays_in_the_network_where_it_traded() {
    let (member, _) = party(3);
    let (founder, _) = founder(10).await;
    let ticket = |genesis: Genesis, founder: &SecretKey| {
        let invitation = Invitation {
            network: genesis.id(),
            issuer: founder.id(),
            id: InvitationId::from_bytes([8; 16]),
        };
        Ticket {
            genesis,
            invitation: Signed::new(invitation, founder),
            addresses: Vec::new(),
        }
    };
    let other = Genesis::private("other", key(8).id(), START, [8; 16]);
    // Before anything happened, another network may be entered.
    member.enter(ticket(other.clone(), &key(8))).await.unwrap();
    join(&founder, &member, [3; 16]).await;
    let refused = member.enter(ticket(other.clone(), &key(8))).await;
    assert!(matches!(refused, Err(WalletError::OtherNetwork { .. })));
    assert_eq!(member.found(other).await.unwrap(), genesis());
    // The same network's ticket again: no second loan is asked for.
    member.enter(ticket(genesis(), &key(1))).await.unwrap();
    assert!(member.pending_ticket().unwrap().is_none());
    assert!(member.inviter().unwrap().is_some());
}

// ---- the owner ----

#[tokio::test]
async fn only_the_owner_is_obeyed_here_and_once() {
    let (wallet, _) = founder(10).await;
    let agent = main_agent();
    let loose = Decision::SetLimits {
        agent,
        limits: limits(9_000, 90_000, 2_000_000),
    };
    let signed = |node: u8, number, signer: u8| {
        let order = OwnerOrder {
            node: key(node).id(),
            number,
            decision: loose.clone(),
        };
        Signed::new(order, &key(signer))
    };
    let early = wallet.obey(signed(1, 0, 100)).await;
    assert!(matches!(early, Err(WalletError::NoOwner)));
    wallet.set_owner(key(100).owner_id()).await.unwrap();
    wallet.set_owner(key(100).owner_id()).await.unwrap();
    let second = wallet.set_owner(key(101).owner_id()).await;
    assert!(matches!(second, Err(WalletError::HasOwner(_))));
    for (what, order) in [
        ("another signer", signed(1, 0, 101)),
        ("the node itself", signed(1, 0, 1)),
        ("another node", signed(2, 0, 100)),
        ("too far ahead", signed(1, 1, 100)),
    ] {
        let refused = wallet.obey(order).await;
        assert!(
            matches!(refused, Err(WalletError::Order(_))),
            "{what}: {refused:?}"
        );
    }
    let mut altered = signed(1, 0, 100);
    altered.body.number = 0;
    altered.body.decision = Decision::Unfreeze;
    assert!(wallet.obey(altered).await.is_err());
    assert_eq!(wallet.budget(&agent).unwrap().limits, Limits::DEFAULT);
    assert_eq!(wallet.owner().unwrap().unwrap().next_order, 0);

    wallet.obey(signed(1, 0, 100)).await.unwrap();
    assert_eq!(
        wallet.budget(&agent).unwrap().limits,
        limits(9_000, 90_000, 2_000_000)
    );
    wallet.tighten(agent, Limits::DEFAULT).await.unwrap();
    // The last order again is an answer that was lost: it says that it is done, and does nothing.
    wallet.obey(signed(1, 0, 100)).await.unwrap();
    assert_eq!(wallet.budget(&agent).unwrap().limits, Limits::DEFAULT);
    wallet.obey(signed(1, 1, 100)).await.unwrap();
    wallet.tighten(agent, Limits::DEFAULT).await.unwrap();
    let replayed = wallet.obey(signed(1, 0, 100)).await;
    assert!(matches!(replayed, Err(WalletError::Order(_))));
    assert_eq!(wallet.budget(&agent).unwrap().limits, Limits::DEFAULT);
}

#[tokio::test]
async fn tokens_open_one_agent_and_are_the_owners_to_make_and_revoke() {
    let (wallet, _) = party(1);
    wallet.ensure_main_agent(token_hash("first")).await.unwrap();
    // Asking again makes no second token.
    wallet
        .ensure_main_agent(token_hash("second"))
        .await
        .unwrap();
    assert_eq!(wallet.agent_of_token("first").unwrap(), main_agent());
    assert!(matches!(
        wallet.agent_of_token("second"),
        Err(WalletError::UnknownToken)
    ));
    wallet.set_owner(key(100).owner_id()).await.unwrap();
    let hash = token_hash("helper");
    let make = Decision::CreateToken {
        agent_name: "helper".into(),
        token_hash: hash,
    };
    order(&wallet, 0, make).await.unwrap();
    let helper = wallet.agent("helper").unwrap();
    assert_eq!(wallet.agent_of_token("helper").unwrap(), helper);
    assert_eq!(wallet.budget(&helper).unwrap().limits, Limits::DEFAULT);
    assert_eq!(wallet.agents().unwrap().len(), 2);
    // What cannot be done takes no number.
    let unknown = Decision::RevokeToken {
        token_hash: [9; 32],
    };
    assert!(matches!(
        order(&wallet, 1, unknown).await,
        Err(WalletError::UnknownToken)
    ));
    order(&wallet, 1, Decision::RevokeToken { token_hash: hash })
        .await
        .unwrap();
    assert!(matches!(
        wallet.agent_of_token("helper"),
        Err(WalletError::UnknownToken)
    ));
}

// ---- the file ----

#[tokio::test]
async fn a_second_opening_of_the_same_file_is_refused_until_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let file = || Storage::File(folder.path().join("wallet.redb"));
    let clock = Arc::new(ManualClock::at(START));
    let first = world::open(file(), &clock, key(1)).unwrap();
    fund(&first, 10, || ()).await.unwrap();
    let second = world::open(file(), &clock, key(1));
    assert!(
        matches!(second, Err(WalletError::Store(StoreError::InUse))),
        "{second:?}"
    );
    let clone = first.clone();
    first.close().await;
    // The handles that are left answer that it is closed, and do not keep the file.
    let late = clone.freeze("late".into()).await;
    assert!(
        matches!(late, Err(WalletError::Store(StoreError::Closed))),
        "{late:?}"
    );
    assert!(clone.budget(&main_agent()).is_err());
    let third = world::open(file(), &clock, key(1)).unwrap();
    assert_eq!(available(&third), trm(10));
}

#[tokio::test]
async fn what_was_asked_before_closing_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let file = || Storage::File(folder.path().join("wallet.redb"));
    let clock = Arc::new(ManualClock::at(START));
    let wallet = world::open(file(), &clock, key(1)).unwrap();
    fund(&wallet, 1_000, || ()).await.unwrap();
    let asked: Vec<_> = (0..100)
        .map(|n| {
            let wallet = wallet.clone();
            tokio::spawn(async move { wallet.begin(intent(&n.to_string()), [0; 32]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    wallet.close().await;
    let mut done = 0;
    for task in asked {
        match task.await.unwrap() {
            Ok(_) => done += 1,
            Err(WalletError::Store(StoreError::Closed)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let wallet = world::open(file(), &clock, key(1)).unwrap();
    let mut there = 0;
    for n in 0..100 {
        there += usize::from(attempt(&wallet, &n.to_string()).await.number == 2);
    }
    assert_eq!(there, done, "every answer stands for what is on the disk");
    assert!(done > 0);
}

// ---- keys at rest ----

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.to_owned())
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_owner_key_opens_with_its_passphrase_alone_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("owner.key");
    let short = create_owner_key(&path, &passphrase("1234567\n"));
    assert!(matches!(short, Err(KeyError::TooShort { have: 7 })));
    assert!(!path.exists());
    let made = create_owner_key(&path, &passphrase("correct horse")).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!bytes.windows(32).any(|w| w == made.to_bytes().as_slice()));
    let opened = open_owner_key(&path, &passphrase("correct horse\r\n")).unwrap();
    assert_eq!(opened.id(), made.id());
    for wrong in ["correct horsf", "", "correct horse "] {
        let refused = open_owner_key(&path, &passphrase(wrong));
        assert!(matches!(refused, Err(KeyError::Passphrase)), "{wrong:?}");
    }
    let again = create_owner_key(&path, &passphrase("another passphrase"));
    assert!(matches!(again, Err(KeyError::Exists { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    chmod(&path, 0o640);
    let exposed = open_owner_key(&path, &passphrase("correct horse"));
    assert!(matches!(exposed, Err(KeyError::Exposed { .. })));
    // Nothing else is left behind.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_owner_key_file_altered_anywhere_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("owner.key");
    create_owner_key(&path, &passphrase("correct horse")).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    // Every field: magic, each setting, salt, nonce, ciphertext, tag; and every fifth byte.
    for at in (0..bytes.len())
        .step_by(5)
        .chain([15, 16, 20, 24, 28, 44, 68, bytes.len() - 1])
    {
        let mut altered = bytes.clone();
        altered[at] ^= 0x01;
        std::fs::write(&path, altered).unwrap();
        let refused = open_owner_key(&path, &passphrase("correct horse"));
        assert!(
            matches!(
                refused,
                Err(KeyError::Passphrase | KeyError::Damaged { .. })
            ),
            "byte {at}: {refused:?}"
        );
    }
    for len in [0, 15, 60, 68, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let refused = open_owner_key(&path, &passphrase("correct horse"));
        assert!(matches!(
            refused,
            Err(KeyError::Passphrase | KeyError::Damaged { .. })
        ));
    }
    // Settings that would take all memory are refused before they are tried.
    let mut greedy = bytes;
    greedy[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    std::fs::write(&path, greedy).unwrap();
    let refused = open_owner_key(&path, &passphrase("correct horse"));
    assert!(matches!(refused, Err(KeyError::Damaged { .. })));
}

#[test]
fn a_node_key_is_made_once_however_many_start_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.key");
    let ids: BTreeSet<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| node_key(&path).unwrap().id()))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 1, "processes that start at once are one node");
    assert_eq!(node_key(&path).unwrap().id(), *ids.first().unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    chmod(&path, 0o604);
    assert!(matches!(node_key(&path), Err(KeyError::Exposed { .. })));
    for bytes in [vec![1; 31], vec![1; 33], Vec::new()] {
        std::fs::write(&path, &bytes).unwrap();
        chmod(&path, 0o600);
        assert!(matches!(node_key(&path), Err(KeyError::Damaged { .. })));
        assert_eq!(
            std::fs::read(&path).unwrap(),
            bytes,
            "a damaged key is not replaced"
        );
    }
}
