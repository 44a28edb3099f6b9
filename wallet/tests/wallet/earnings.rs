//! What was earned, summed up: each receipt once, in the quarter of an hour in which it was booked.

use tirami_manifest::{ModelId, Timestamp, TransferId};
use tirami_wallet::Wallet;
use tirami_wallet::earnings::Tally;

use crate::world::{START, Trade, genesis, key, sound, trm};
use crate::{DAY, MINUTE, founder};

/// Party 2 buys from the node for one TRM; another `n` is another sale.
async fn sell(wallet: &Wallet, n: u32) {
    let (max, nonce) = (1 + n / 256, u8::try_from(n % 256).unwrap());
    let trade = Trade::new(genesis().id(), &key(1), &key(2), (max, nonce));
    let receipt = trade.receipt(TransferId::from_bytes(u128::from(n).to_be_bytes()), 1);
    wallet.earn(receipt).await.unwrap();
}

fn since(wallet: &Wallet, since: Timestamp) -> Tally {
    let quarters = wallet.earned_since(since).unwrap();
    let sums = quarters.into_iter().map(|(_, tally)| tally);
    sums.fold(Tally::default(), Tally::and)
}

#[tokio::test]
async fn each_receipt_counts_once_where_it_was_booked() {
    let (wallet, clock) = founder(1_000).await;
    assert!(wallet.count_earnings().await.unwrap());
    let first = Tally {
        jobs: 1,
        tokens_in: 1_000,
        tokens_out: 0,
        utrm: 1_000_000_000,
    };
    assert_eq!(wallet.earned_in_all().unwrap(), first, "booked before");
    // The next quarter of an hour begins in 13 min 20 s.
    clock.advance_ms(14 * MINUTE);
    sell(&wallet, 0).await;
    sell(&wallet, 0).await;
    let second = Tally {
        jobs: 1,
        tokens_in: 1,
        tokens_out: 0,
        utrm: 1_000_000,
    };
    assert_eq!(wallet.earned_in_all().unwrap(), first.and(second));
    let quarters = wallet.earned_since(START).unwrap();
    assert_eq!(
        quarters.iter().map(|(_, sum)| *sum).collect::<Vec<_>>(),
        [first, second]
    );
    let [(one, _), (two, _)] = quarters[..] else {
        panic!("{quarters:?}");
    };
    assert_eq!(two.since_ms(one), 15 * MINUTE);
    assert_eq!(since(&wallet, two), second, "its own quarter is counted");
    assert_eq!(since(&wallet, two.after_ms(14 * MINUTE)), second);
    assert_eq!(since(&wallet, two.after_ms(15 * MINUTE)), Tally::default());
    let shares = wallet.shares().unwrap();
    assert_eq!(shares.len(), 1);
    assert_eq!(shares[0].buyer, key(2).id());
    assert_eq!(shares[0].model, ModelId::from_bytes([5; 32]));
    assert_eq!(shares[0].tally, first.and(second));
    assert_eq!(wallet.shares_since(START).unwrap(), shares);
    assert_eq!(shares[0].tally.amount(), trm(1_001));
    // What is long over is in the sum of all and nowhere else.
    clock.advance_ms(9 * DAY);
    sell(&wallet, 1).await;
    assert_eq!(since(&wallet, START), second);
    assert_eq!(wallet.shares_since(START).unwrap()[0].tally, second);
    let three = first.and(second).and(second);
    assert_eq!(wallet.earned_in_all().unwrap(), three);
    sound(&wallet);
}

#[tokio::test]
async fn receipts_of_before_are_counted_in_parts_and_none_twice() {
    let (wallet, _clock) = founder(1_000).await;
    for n in 0..1_010 {
        sell(&wallet, n).await;
    }
    assert_eq!(wallet.earned_in_all().unwrap().jobs, 0);
    assert!(!wallet.count_earnings().await.unwrap(), "one part of two");
    assert_eq!(wallet.earned_in_all().unwrap().jobs, 1_000);
    // Some of these come before the last that was counted, and some after it.
    for n in 1_010..1_030 {
        sell(&wallet, n).await;
    }
    assert!(wallet.count_earnings().await.unwrap());
    assert!(wallet.count_earnings().await.unwrap());
    let all = wallet.earned_in_all().unwrap();
    assert_eq!((all.jobs, all.amount()), (1_031, trm(2_030)));
    assert_eq!(since(&wallet, START), all);
    sell(&wallet, 1_030).await;
    assert_eq!(wallet.earned_in_all().unwrap().jobs, 1_032);
}
