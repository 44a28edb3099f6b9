//! The provider's side: what is reserved and earned.

use tirami_manifest::{NetworkId, TransferId};
use tirami_wallet::WalletError;
use tirami_wallet::ledger::account::Account;
use tirami_wallet::ledger::apply::Applied;
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::sales::Standing;
use tirami_wallet::token::main_agent;

use crate::world::{TIMEOUT_MS, Trade, genesis, job, key, sound, trm};
use crate::{available, founder, join, party, totals};

#[tokio::test]
async fn a_sale_is_earned_once_with_and_without_its_reservation() {
    let (wallet, clock) = founder(1_000).await;
    let member = Account::Clearing(key(2).id());
    let before = totals(&wallet, member);
    let sale = |nonce| Trade::new(genesis().id(), &key(1), &key(2), (50, nonce));
    // Each job has a hold of its own.
    let hold = |n| TransferId::from_bytes([n; 16]);

    // With a reservation: held, then posted, the rest back.
    wallet
        .reserve(&sale(1).quote, job(&sale(1).quote), None)
        .await
        .unwrap();
    assert_eq!(totals(&wallet, member), before - 50);
    let again = wallet
        .reserve(&sale(1).quote, job(&sale(1).quote), None)
        .await;
    assert!(matches!(again, Err(WalletError::OtherReceipt(_))));
    let receipt = sale(1).receipt(hold(1), 30);
    assert_eq!(wallet.earn(receipt.clone()).await.unwrap(), Applied::Now);
    assert_eq!(wallet.earn(receipt).await.unwrap(), Applied::Already);
    assert_eq!(totals(&wallet, member), before - 30);
    assert_eq!(available(&wallet), trm(1_030));

    // Without one.
    let receipt = sale(2).receipt(hold(2), 20);
    assert_eq!(wallet.earn(receipt).await.unwrap(), Applied::Now);
    assert_eq!(totals(&wallet, member), before - 50);

    // The reservation's time is over, swept or not: the debt stands.
    for (nonce, sweep) in [(3, false), (4, true)] {
        wallet
            .reserve(&sale(nonce).quote, job(&sale(nonce).quote), None)
            .await
            .unwrap();
        clock.advance_ms(TIMEOUT_MS);
        if sweep {
            assert_eq!(
                wallet.sweep().await.unwrap(),
                0,
                "the writer swept on its way"
            );
        }
        let receipt = sale(nonce).receipt(hold(nonce), 10);
        assert_eq!(wallet.earn(receipt).await.unwrap(), Applied::Now);
    }
    assert_eq!(totals(&wallet, member), before - 70);

    // Renewed and released.
    wallet
        .reserve(&sale(5).quote, job(&sale(5).quote), None)
        .await
        .unwrap();
    clock.advance_ms(TIMEOUT_MS - 1);
    wallet.renew_reservation(sale(5).quote.id()).await.unwrap();
    clock.advance_ms(TIMEOUT_MS - 1);
    assert_eq!(wallet.open_holds().unwrap().len(), 1);
    for _ in 0..2 {
        wallet
            .release_reservation(sale(5).quote.id(), false)
            .await
            .unwrap();
    }
    wallet
        .release_reservation(sale(6).quote.id(), false)
        .await
        .unwrap();
    wallet.renew_reservation(sale(6).quote.id()).await.unwrap();
    // Free of charge.
    let receipt = sale(7).receipt(hold(7), 0);
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
    assert!(
        wallet
            .reserve(&stranger.quote, job(&stranger.quote), None)
            .await
            .is_err()
    );
    assert_eq!(wallet.standing(&key(4).id()).unwrap(), Standing::Unknown);
    assert_eq!(
        wallet.standing(&key(2).id()).unwrap(),
        Standing::Kept(trm(99_000))
    );
    // A member sells to the authority, and to others what it has begun for them.
    let (member, _) = party(3);
    let no_network = member.earn(stranger.receipt(hold, 5)).await;
    assert!(matches!(no_network, Err(WalletError::NoNetwork)));
    join(&wallet, &member, [3; 16]).await;
    assert_eq!(member.standing(&key(1).id()).unwrap(), Standing::Authority);
    assert_eq!(
        member.standing(&key(2).id()).unwrap(),
        Standing::Stranger(trm(500))
    );
    let to_member = Trade::new(network, &key(3), &key(2), (5, 1));
    assert!(member.earn(to_member.receipt(hold, 5)).await.is_err());
    let to_authority = Trade::new(network, &key(3), &key(1), (5, 1));
    member
        .reserve(&to_authority.quote, job(&to_authority.quote), None)
        .await
        .unwrap();
    assert_eq!(
        member.earn(to_authority.receipt(hold, 5)).await.unwrap(),
        Applied::Now
    );
    // What is earned from the lender repays the loan first.
    assert_eq!(available(&member), trm(100_000));
    let balance = member.balance(&main_agent()).unwrap();
    assert_eq!(
        (balance.earned, balance.loans[0].owed),
        (5_000_000, trm(99_995))
    );
    sound(&member);
    sound(&wallet);
}
