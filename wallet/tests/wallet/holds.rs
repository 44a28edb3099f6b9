//! Holds, receipts and the outbox: how a purchase is paid.

use std::sync::Arc;

use tirami_manifest::key::SecretKey;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{NetworkId, TransferId};
use tirami_wallet::WalletError;
use tirami_wallet::hold::VoidReason;
use tirami_wallet::ledger::account::Account;
use tirami_wallet::ledger::apply::Applied;
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::ledger::transfer::HoldEnd;
use tirami_wallet::outbox::Outgoing;
use tirami_wallet::store::{Storage, StoreError};
use tirami_wallet::token::main_agent;

use crate::world::{self, START, TIMEOUT_MS, Trade, genesis, job, key, sound, trm};
use crate::{available, founder, hold, hold_for, join, purchase, settle, spent, totals};

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
        hold.void(VoidReason::CalledOff).await.unwrap();
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
    assert!(open.void(VoidReason::CalledOff).await.is_err());
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
    wallet
        .reserve(&sale.quote, job(&sale.quote), None)
        .await
        .unwrap();
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
    let expected = Outgoing {
        id: receipt.id(),
        to: key(1).id(),
        receipt: receipt.to_bytes(),
        under: None,
        claims: false,
    };
    assert_eq!(outbox, [expected]);
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
