//! A clock that jumps, between runs and during one.

use std::collections::BTreeSet;
use std::sync::Arc;

use tirami_manifest::time::ManualClock;
use tirami_manifest::{QuoteId, Timestamp};
use tirami_wallet::intent::Intent;
use tirami_wallet::token::main_agent;
use tirami_wallet::{Hold, HoldRequest, Wallet};

use crate::books::{FUNDS, block_on, buy, intent, wallet};
use crate::disk::Disk;
use crate::world::{START, TIMEOUT_MS, WORK, fund, sound, trm};

const YEAR_MS: u64 = 365 * 24 * 3_600 * 1_000;

fn at(ms: u64) -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_ms(ms)))
}

async fn hold(wallet: &Wallet, name: &str) -> Hold {
    let Intent::Attempt(attempt) = wallet.begin(intent(name), [0; 32]).await.unwrap() else {
        panic!("it was never answered");
    };
    let request = HoldRequest {
        attempt,
        amount: trm(11),
        quote: QuoteId::from_bytes([1; 32]),
        work: WORK,
        under: None,
    };
    wallet.hold(request).await.unwrap()
}

/// How many holds are open after everything that is due has expired.
async fn left(wallet: &Wallet) -> usize {
    wallet.sweep().await.unwrap();
    wallet.open_holds().unwrap().len()
}

#[test]
fn what_expired_stays_expired_when_the_clock_is_set_back_a_year_between_runs() {
    let disk = Disk::default();
    block_on(async {
        let clock = at(START.ms());
        let first = wallet(&disk, &clock).unwrap();
        fund(&first, FUNDS, || ()).await.unwrap();
        let gone = hold(&first, "gone").await;
        clock.advance_ms(TIMEOUT_MS);
        assert_eq!(left(&first).await, 0);
        first.close().await;
        let clock = at(START.ms() - YEAR_MS);
        let second = wallet(&disk, &clock).unwrap();
        assert_eq!(left(&second).await, 0);
        drop(gone);
        // What is set aside now lives as long as it should, by the time that passes.
        hold(&second, "kept").await.leave_to_expire();
        clock.advance_ms(TIMEOUT_MS - 1);
        assert_eq!(left(&second).await, 1);
        clock.advance_ms(1);
        assert_eq!(left(&second).await, 0);
        sound(&second);
        second.close().await;
    });
}

#[test]
fn a_clock_that_jumps_while_it_runs_neither_expires_nor_revives() {
    let disk = Disk::default();
    block_on(async {
        let clock = at(START.ms());
        let wallet = wallet(&disk, &clock).unwrap();
        fund(&wallet, FUNDS, || ()).await.unwrap();
        hold(&wallet, "back").await.leave_to_expire();
        clock.set(Timestamp::from_ms(START.ms() - YEAR_MS));
        assert_eq!(left(&wallet).await, 1);
        clock.advance_ms(TIMEOUT_MS - 1);
        assert_eq!(left(&wallet).await, 1);
        clock.advance_ms(1);
        assert_eq!(left(&wallet).await, 0);
        // A jump ahead expires what is open, and going back then does not revive it.
        hold(&wallet, "ahead").await.leave_to_expire();
        clock.set(Timestamp::from_ms(START.ms() + YEAR_MS));
        assert_eq!(left(&wallet).await, 0);
        clock.set(START);
        assert_eq!(left(&wallet).await, 0);
        sound(&wallet);
        wallet.close().await;
    });
}

#[test]
fn however_the_clock_jumps_between_runs_no_id_is_used_twice_and_sums_are_the_same() {
    let mut sums = BTreeSet::new();
    for jumps in [
        [0, 0, 0],
        [YEAR_MS, 0, 2 * YEAR_MS],
        [2 * YEAR_MS, YEAR_MS, 0],
    ] {
        let disk = Disk::default();
        block_on(async {
            for (round, jump) in (0_u8..).zip(jumps) {
                let clock = at(START.ms() - YEAR_MS + jump);
                let wallet = wallet(&disk, &clock).unwrap();
                if round == 0 {
                    fund(&wallet, FUNDS, || ()).await.unwrap();
                }
                for n in 0..4 {
                    let (name, nonce) = (format!("{round}-{n}"), round * 4 + n);
                    let purchase = (nonce, (name.as_str(), 20, 7));
                    buy(&wallet, purchase, || ()).await.unwrap();
                }
                wallet.close().await;
            }
            let wallet = wallet(&disk, &at(START.ms())).unwrap();
            let lines = wallet.history(None, usize::MAX).unwrap();
            let ids: BTreeSet<_> = lines.iter().map(|line| line.entry.transfer.id).collect();
            assert_eq!(ids.len(), lines.len());
            sound(&wallet);
            sums.insert((lines.len(), wallet.balance(&main_agent()).unwrap().spent));
            wallet.close().await;
        });
    }
    assert_eq!(sums.len(), 1, "{sums:?}");
}
