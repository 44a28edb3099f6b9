//! The kill switch.

use std::sync::Arc;

use tirami_manifest::TransferId;
use tirami_manifest::owner::Decision;
use tirami_manifest::time::ManualClock;
use tirami_wallet::hold::VoidReason;
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::store::Storage;
use tirami_wallet::token::main_agent;
use tirami_wallet::{Retry, WalletError};

use crate::world::{self, START, Trade, fund, genesis, job, key, sound, trm};
use crate::{WORK, founder, hold, hold_for, order, purchase, spent};

#[tokio::test]
async fn a_freeze_stops_holds_and_payment_until_the_owner_lifts_it() {
    let (wallet, _) = founder(5_000).await;
    wallet.set_owner(key(100).owner_id()).await.unwrap();
    let trade = purchase(50);
    let open = hold_for(&wallet, &trade, "a").await;
    let freeze = wallet.freeze("smoke".into()).await.unwrap();
    assert_eq!(wallet.freeze("fire".into()).await.unwrap(), freeze);
    assert_eq!(wallet.frozen().unwrap(), Some(freeze.0));
    let frozen = |error: &WalletError| matches!(error, WalletError::Refused(Refusal::Frozen { reason }) if reason == "smoke");
    let refused = hold(&wallet, "b", 1).await.unwrap_err();
    assert!(frozen(&refused) && refused.retry() == Retry::Never);
    assert!(frozen(
        &wallet.admits(&main_agent(), WORK, trm(1)).unwrap_err()
    ));
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
    wallet
        .reserve(&other.quote, job(&other.quote), None)
        .await
        .unwrap();
    // The keys are not burnt.
    order(&wallet, 0, Decision::Unfreeze).await.unwrap();
    open.settle(receipt, Vec::new()).await.unwrap();
    let other = hold(&wallet, "b", 1).await.unwrap();
    other.void(VoidReason::CalledOff).await.unwrap();
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
