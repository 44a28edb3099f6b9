//! Idempotency keys: one effect, however often it is asked for.

use std::sync::Arc;

use std::os::unix::fs::PermissionsExt;

use tirami_manifest::AgentId;
use tirami_manifest::time::ManualClock;
use tirami_wallet::hold::VoidReason;
use tirami_wallet::intent::{ANSWER_KEPT_MS, Intent, IntentKey};
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::store::{Storage, StoreError};
use tirami_wallet::token::main_agent;
use tirami_wallet::{Retry, WalletError};

use crate::world::{self, START, key, sound, trm};
use crate::{
    MINUTE, SOME_QUOTE, attempt, available, body_of, founder, hold, hold_for, intent, purchase,
    request, spent,
};

#[tokio::test]
async fn a_key_answers_what_was_paid_for_and_refuses_another_body() {
    let (wallet, clock) = founder(5_000).await;
    let trade = purchase(50);
    let open = hold_for(&wallet, &trade, "a").await;
    let receipt = trade.receipt(open.id(), 10);
    open.settle(receipt, b"the answer".to_vec()).await.unwrap();
    let again = wallet.begin(intent("a"), body_of("a")).await.unwrap();
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
    open.void(VoidReason::CalledOff).await.unwrap();
    assert_eq!(spent(&wallet), 10);
}

#[tokio::test]
async fn answers_are_unreadable_in_the_file_and_with_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.redb");
    let clock = Arc::new(ManualClock::at(START));
    let wallet = world::open(Storage::File(path.clone()), &clock, key(1)).unwrap();
    let secret = b"what the model said to the agent";
    wallet.begin(intent("a"), body_of("a")).await.unwrap();
    wallet.answer(intent("a"), secret.to_vec()).await.unwrap();
    wallet.close().await;
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(secret.len()).any(|w| w == secret));
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let wallet = world::open(Storage::File(path), &clock, key(2)).unwrap();
    let other = wallet.begin(intent("a"), body_of("a")).await;
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
    one.void(VoidReason::CalledOff).await.unwrap();
    two.void(VoidReason::CalledOff).await.unwrap();
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
    two.void(VoidReason::CalledOff).await.unwrap();
    assert_eq!(spent(&wallet), 30);
    let answer = wallet.begin(intent("a"), body_of("a")).await.unwrap();
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
    let again = wallet.begin(intent("a"), body_of("a")).await.unwrap();
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
