//! What a wallet goes through here, and what its file then says.

use std::collections::BTreeMap;
use std::sync::Arc;

use tirami_manifest::time::ManualClock;
use tirami_manifest::{QuoteId, TransferId};
use tirami_wallet::hold::VoidReason;
use tirami_wallet::intent::{Intent, IntentKey};
use tirami_wallet::ledger::tables::{Order, ReadTables, Table};
use tirami_wallet::store::{Storage, StoreError};
use tirami_wallet::token::main_agent;
use tirami_wallet::{HoldRequest, Wallet, WalletError};

use crate::disk::{Disk, Step};
use crate::world::{self, START, Trade, WORK, fund, genesis, job, key, sound, trm};

pub(crate) type Dump = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Everything a wallet file says.
pub(crate) fn dump(storage: Storage) -> Result<Dump, StoreError> {
    let opened = tirami_wallet::store::open(storage)?;
    let (read, mut rows) = (opened.read()?, Dump::new());
    for (table, _) in Table::ALL {
        for (key, value) in read.scan(table, &[], None, Order::Ascending, usize::MAX)? {
            rows.insert((table, key), value);
        }
    }
    Ok(rows)
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(START))
}

pub(crate) fn wallet(disk: &Disk, clock: &Arc<ManualClock>) -> Result<Wallet, WalletError> {
    world::open(disk.storage(), clock, key(1))
}

/// Purchases of the main agent from party 2: idempotency key, most, used.
pub(crate) const PURCHASES: [(&str, u32, u32); 3] =
    [("one", 50, 30), ("two", 20, 20), ("three", 70, 1)];
pub(crate) const FUNDS: u32 = 5_000;

pub(crate) fn intent(name: &str) -> IntentKey {
    IntentKey::new(main_agent(), name)
}

/// Buys `name` once, from wherever an earlier try stopped, telling of every answer.
pub(crate) async fn buy(
    wallet: &Wallet,
    (nonce, (name, max, used)): (u8, (&str, u32, u32)),
    mut told: impl FnMut(),
) -> Result<(), WalletError> {
    let body = [nonce; 32];
    let attempt = match wallet.begin(intent(name), body).await? {
        Intent::Answered(answer) => {
            assert_eq!(answer, name.as_bytes());
            return Ok(());
        }
        Intent::Attempt(attempt) => attempt,
    };
    told();
    let trade = Trade::new(genesis().id(), &key(2), &key(1), (max, nonce));
    let request = HoldRequest {
        attempt,
        amount: trm(max.into()),
        quote: trade.quote.id(),
        work: WORK,
        under: None,
    };
    let hold = wallet.hold(request).await?;
    told();
    hold.renew().await?;
    told();
    let receipt = trade.receipt(hold.id(), used);
    let id = receipt.id();
    hold.settle(receipt, name.as_bytes().to_vec())
        .await
        .map_err(|(_, error)| error)?;
    told();
    wallet.acknowledged(id).await?;
    told();
    Ok(())
}

/// Founds, earns, reserves, buys, voids, expires and freezes; `told` after each answer.
pub(crate) async fn workload(
    wallet: &Wallet,
    clock: &ManualClock,
    mut told: impl FnMut(),
) -> Result<(), WalletError> {
    fund(wallet, FUNDS, &mut told).await?;
    let sale = Trade::new(genesis().id(), &key(1), &key(2), (9, 9));
    wallet.reserve(&sale.quote, job(&sale.quote), None).await?;
    told();
    clock.advance_ms(500);
    wallet
        .earn(sale.receipt(TransferId::from_bytes([9; 16]), 5))
        .await?;
    told();
    for (nonce, purchase) in (0..).zip(PURCHASES) {
        buy(wallet, (nonce, purchase), &mut told).await?;
        clock.advance_ms(500);
    }
    for (name, ends) in [("void", true), ("expire", false)] {
        let Intent::Attempt(attempt) = wallet.begin(intent(name), [0; 32]).await? else {
            panic!("it was never answered");
        };
        told();
        let request = HoldRequest {
            attempt,
            amount: trm(11),
            quote: QuoteId::from_bytes([1; 32]),
            work: WORK,
            under: None,
        };
        let hold = wallet.hold(request).await?;
        told();
        if ends {
            hold.void(VoidReason::CalledOff).await?;
        } else {
            hold.leave_to_expire();
            clock.advance_ms(world::TIMEOUT_MS);
            wallet.sweep().await?;
        }
        told();
    }
    wallet.freeze("done".into()).await?;
    told();
    Ok(())
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// What is done on the disks that crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// One purchase after the other, of every ending, and a freeze.
    Buy,
    /// Reservations, renewals, releases and sales.
    Sell,
    /// Many at once, so that one commit carries many commands.
    Together,
    /// Answers so large that the file grows.
    Grow,
    /// The wallet is closed and opened in between.
    Reopen,
}

async fn sell(wallet: &Wallet, mut told: impl FnMut()) -> Result<(), WalletError> {
    fund(wallet, FUNDS, &mut told).await?;
    for n in 1..=12 {
        let sale = Trade::new(genesis().id(), &key(1), &key(2), (9, n));
        wallet.reserve(&sale.quote, job(&sale.quote), None).await?;
        told();
        wallet.renew_reservation(sale.quote.id()).await?;
        told();
        if n % 3 == 0 {
            wallet.release_reservation(sale.quote.id(), false).await?;
        } else {
            let receipt = sale.receipt(TransferId::from_bytes([n; 16]), 5);
            wallet.earn(receipt).await?;
        }
        told();
    }
    Ok(())
}

/// Buys one thing, whose answer has `len` bytes.
async fn buy_one(wallet: Wallet, n: u8, len: usize) -> Result<(), WalletError> {
    let Intent::Attempt(attempt) = wallet.begin(intent(&n.to_string()), [n; 32]).await? else {
        panic!("it was never answered");
    };
    let trade = Trade::new(genesis().id(), &key(2), &key(1), (20, n));
    let request = HoldRequest {
        attempt,
        amount: trm(20),
        quote: trade.quote.id(),
        work: WORK,
        under: None,
    };
    let hold = wallet.hold(request).await?;
    let receipt = trade.receipt(hold.id(), u32::from(n % 20));
    let answer = vec![n; len];
    hold.settle(receipt, answer)
        .await
        .map_err(|(_, error)| error)?;
    Ok(())
}

async fn together(
    wallet: &Wallet,
    clock: &ManualClock,
    mut told: impl FnMut(),
) -> Result<(), WalletError> {
    fund(wallet, FUNDS, &mut told).await?;
    for round in 0..4 {
        let mut buyers = tokio::task::JoinSet::new();
        for n in 1..=12 {
            buyers.spawn(buy_one(wallet.clone(), round * 12 + n, 40));
        }
        for done in buyers.join_all().await {
            done?;
        }
        told();
        // No more purchases a minute than the mandate allows.
        clock.advance_ms(61_000);
    }
    Ok(())
}

async fn grow(wallet: &Wallet, mut told: impl FnMut()) -> Result<(), WalletError> {
    fund(wallet, FUNDS, &mut told).await?;
    for n in 1..=8 {
        buy_one(wallet.clone(), n, 200_000).await?;
        told();
    }
    Ok(())
}

/// The record of one whole run.
pub(crate) fn record(what: Workload) -> Vec<Step> {
    let (disk, clock) = (Disk::default(), clock());
    block_on(async {
        let mut told = || disk.answered();
        let mut open = wallet(&disk, &clock).unwrap();
        told();
        match what {
            Workload::Buy => workload(&open, &clock, &mut told).await.unwrap(),
            Workload::Sell => sell(&open, &mut told).await.unwrap(),
            Workload::Together => together(&open, &clock, &mut told).await.unwrap(),
            Workload::Grow => grow(&open, &mut told).await.unwrap(),
            Workload::Reopen => {
                fund(&open, FUNDS, &mut told).await.unwrap();
                for (nonce, purchase) in (0..).zip(PURCHASES) {
                    open.close().await;
                    open = wallet(&disk, &clock).unwrap();
                    told();
                    buy(&open, (nonce, purchase), &mut told).await.unwrap();
                }
            }
        }
        sound(&open);
        open.close().await;
    });
    std::mem::take(&mut disk.state().steps)
}

/// Finishes what a crashed node had begun, and checks that nothing was paid twice.
pub(crate) fn carry_on(bytes: Vec<u8>) {
    let (disk, clock) = (Disk::holding(bytes), clock());
    block_on(async {
        let wallet = wallet(&disk, &clock).unwrap();
        sound(&wallet);
        if wallet.frozen().unwrap().is_some() {
            return;
        }
        fund(&wallet, FUNDS, || ()).await.unwrap();
        wallet.void_open_purchases().await.unwrap();
        for (nonce, purchase) in (0..).zip(PURCHASES) {
            buy(&wallet, (nonce, purchase), || ()).await.unwrap();
        }
        sound(&wallet);
        let paid: u128 = PURCHASES.iter().map(|(_, _, used)| u128::from(*used)).sum();
        let spent = wallet.balance(&main_agent()).unwrap().spent;
        assert_eq!(spent, paid * 1_000_000, "paid twice, or not at all");
        let (_, peer) = wallet.members().unwrap()[0];
        assert_eq!(peer.credits_posted, (paid + 100_000) * 1_000_000);
        wallet.close().await;
    });
}
