//! A disk without room, and one that fails.

use std::sync::Arc;

use tirami_manifest::time::ManualClock;
use tirami_wallet::ledger::tables::Table;
use tirami_wallet::store::StoreError;
use tirami_wallet::token::main_agent;
use tirami_wallet::{Retry, Wallet, WalletError};

use crate::books::{FUNDS, PURCHASES, block_on, buy, carry_on, clock, dump, wallet};
use crate::disk::{Disk, Fault, Step, all};
use crate::setting;
use crate::world::{fund, genesis, sound};

/// A wallet with funds, on a disk that will fail after so many writes or syncs.
async fn armed(disk: &Disk, clock: &Arc<ManualClock>, fault: (Fault, usize)) -> Wallet {
    let wallet = wallet(disk, clock).unwrap();
    fund(&wallet, FUNDS, || ()).await.unwrap();
    disk.state().fault = Some(fault);
    wallet
}

/// Buys everything; how much of the record the last answer stands for.
async fn shop(wallet: &Wallet, disk: &Disk) -> (Result<(), WalletError>, usize) {
    let mut answered = disk.state().steps.len();
    for (nonce, purchase) in (0..).zip(PURCHASES) {
        let told = || answered = disk.state().steps.len();
        if let Err(error) = buy(wallet, (nonce, purchase), told).await {
            return (Err(error), answered);
        }
    }
    (Ok(()), answered)
}

/// Everything answered is on the disk, with or without what was not synced.
fn kept(disk: &Disk, answered: usize, what: &str) {
    let steps = disk.state().steps.clone();
    let synced = steps.iter().rposition(|s| matches!(s, Step::Sync)).unwrap();
    let before = dump(Disk::holding(all(&steps[..answered])).storage()).unwrap();
    for bytes in [all(&steps[..=synced]), all(&steps)] {
        let found = dump(Disk::holding(bytes.clone()).storage());
        let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
        // Rows are only added by these commands, open holds, the outbox and sums aside.
        let added = [
            Table::Log,
            Table::Transfers,
            Table::Holds,
            Table::Receipts,
            Table::Intents,
        ];
        for (key, _) in before
            .iter()
            .filter(|((table, _), _)| added.contains(table))
        {
            assert!(found.contains_key(key), "{what}: an answered row is gone");
        }
        carry_on(bytes);
    }
}

#[test]
fn without_room_spending_stops_reading_goes_on_and_room_is_all_it_takes() {
    let step = if setting("TIRAMI_CRASH_IMAGES", 0) > 0 {
        1
    } else {
        5
    };
    let (mut recovered, mut stopped) = (0, 0);
    for left in (0..).step_by(step) {
        let (disk, clock) = (Disk::default(), clock());
        let answered = block_on(async {
            let wallet = armed(&disk, &clock, (Fault::Full, left)).await;
            let what = format!("full after {left}");
            let (outcome, answered) = shop(&wallet, &disk).await;
            let error = match outcome {
                Ok(()) => return None,
                Err(error) => error,
            };
            match &error {
                WalletError::Store(StoreError::Full) => assert_eq!(error.retry(), Retry::Later),
                WalletError::Store(StoreError::Io(_)) => {}
                other => panic!("{what}: {other:?}"),
            }
            let spent = wallet.balance(&main_agent()).unwrap().spent;
            let late = wallet.freeze("late".into()).await;
            if matches!(error, WalletError::Store(StoreError::Io(_))) {
                // The very last write of a commit: whether it counts is known after a restart.
                let failed = matches!(late, Err(WalletError::Store(StoreError::Failed(_))));
                assert!(failed, "{what}: {late:?}");
                stopped += 1;
            } else {
                let full = matches!(late, Err(WalletError::Store(StoreError::Full)));
                assert!(full, "{what}: {late:?}");
                assert_eq!(wallet.balance(&main_agent()).unwrap().spent, spent);
                assert!(wallet.frozen().unwrap().is_none(), "{what}");
                sound(&wallet);
                disk.state().fault = None;
                wallet.void_open_purchases().await.unwrap();
                shop(&wallet, &disk).await.0.unwrap();
                sound(&wallet);
                recovered += 1;
            }
            wallet.close().await;
            disk.state().fault = None;
            Some(answered)
        });
        match answered {
            Some(answered) => kept(&disk, answered, &format!("after {left}")),
            None => break,
        }
    }
    println!("{recovered} times it went on, {stopped} times it needs a restart");
    assert!(recovered > 10 && stopped > 0 && stopped * 2 < recovered);
}

#[test]
fn after_a_failed_sync_nothing_is_written_synced_or_answered() {
    let mut failures = 0;
    for left in 0.. {
        let (disk, clock) = (Disk::default(), clock());
        let answered = block_on(async {
            let wallet = armed(&disk, &clock, (Fault::Sync, left)).await;
            let what = format!("sync {left} failed");
            let (outcome, answered) = shop(&wallet, &disk).await;
            match outcome {
                Ok(()) => return None,
                Err(WalletError::Store(StoreError::Io(_))) => {}
                Err(other) => panic!("{what}: {other:?}"),
            }
            for _ in 0..2 {
                let late = wallet.freeze("late".into()).await;
                let failed = matches!(late, Err(WalletError::Store(StoreError::Failed(_))));
                assert!(failed, "{what}: {late:?}");
            }
            wallet.close().await;
            let after = std::mem::take(&mut disk.state().after);
            assert!(after.is_empty(), "{what}: then {after:?}");
            Some(answered)
        });
        match answered {
            Some(answered) => kept(&disk, answered, &format!("after {left}")),
            None => break,
        }
        failures += 1;
    }
    println!("{failures} syncs failed");
    assert!(failures > 20);
}

#[test]
fn a_disk_that_fails_while_a_wallet_is_made_leaves_none_or_a_whole_one() {
    for fault in [Fault::Full, Fault::Sync] {
        let mut failures = 0;
        for left in 0..24 {
            let (disk, clock) = (Disk::default(), clock());
            disk.state().fault = Some((fault, left));
            let outcome = match wallet(&disk, &clock) {
                Err(error) => Err(error),
                Ok(wallet) => block_on(async {
                    let founded = wallet.found(genesis()).await;
                    wallet.close().await;
                    founded.map(drop)
                }),
            };
            failures += usize::from(outcome.is_err());
            disk.state().fault = None;
            let bytes = disk.state().bytes.clone();
            // What was answered is there; what was not may be no wallet at all.
            match (outcome, dump(Disk::holding(bytes).storage())) {
                (Ok(()), found) => assert!(!found.unwrap().is_empty()),
                (Err(_), _) => {}
            }
        }
        assert!(failures > 3, "{fault:?}");
    }
}
