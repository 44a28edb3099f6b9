//! A crash at any moment while old rows of the journal leave the wallet, and while they come back.

use std::path::Path;

use tirami_manifest::QuoteId;
use tirami_wallet::archive::UpTo;
use tirami_wallet::intent::Intent;
use tirami_wallet::ledger::tables::Table;
use tirami_wallet::{HoldRequest, Wallet};

use crate::books::{FUNDS, block_on, clock, dump, intent, wallet};
use crate::disk::Disk;
use crate::images::crash_after;
use crate::world::{WORK, fund, sound, trm};

/// More rows than are dropped in two transactions.
const RENEWALS: usize = 1_100;

/// A wallet with a long journal.
async fn long(disk: &Disk) -> Wallet {
    let wallet = wallet(disk, &clock()).unwrap();
    fund(&wallet, FUNDS, || ()).await.unwrap();
    let Intent::Attempt(attempt) = wallet.begin(intent("long"), [0; 32]).await.unwrap() else {
        panic!("it was never answered");
    };
    let request = HoldRequest {
        attempt,
        amount: trm(11),
        quote: QuoteId::from_bytes([1; 32]),
        work: WORK,
        under: None,
    };
    let hold = wallet.hold(request).await.unwrap();
    for _ in 0..RENEWALS {
        hold.renew().await.unwrap();
    }
    hold.leave_to_expire();
    wallet
}

async fn put_back(wallet: &Wallet, file: &Path, mut told: impl FnMut()) {
    let mut archive = wallet.look_at_archive(file).unwrap();
    while let Some(rows) = archive.next_rows().unwrap() {
        wallet.put_back(rows).await.unwrap();
        told();
    }
}

#[test]
fn a_crash_while_rows_are_dropped_or_put_back_leaves_a_journal_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.archive");
    let disk = Disk::default();
    block_on(async { long(&disk).await.close().await });
    let before = disk.state().bytes.clone();
    let disk = Disk::holding(before.clone());
    block_on(async {
        let wallet = wallet(&disk, &clock()).unwrap();
        let archived = wallet.archive(&file, UpTo::Newest).unwrap();
        wallet.drop_archived(&archived).await.unwrap();
        disk.answered();
        let mut told = || disk.answered();
        put_back(&wallet, &file, &mut told).await;
        wallet.close().await;
    });
    let steps = std::mem::take(&mut disk.state().steps);
    let books = crash_after("dropping and putting back", &before, &steps);
    let rows = |books: &crate::books::Dump| {
        let journal = books.keys().filter(|(table, _)| *table == Table::Journal);
        journal.count()
    };
    let counts: Vec<_> = books.iter().map(rows).collect();
    assert!(counts.contains(&0) && counts.len() > 5, "{counts:?}");
    // In the end everything is as it was, but for the time that was seen.
    let but_time = |books: &crate::books::Dump| {
        let mut books = books.clone();
        books.remove(&(Table::Meta, b"clock".to_vec()));
        books
    };
    assert!(but_time(&books[0]) == but_time(books.last().unwrap()));
    // And each state in between is one that holds, with the archive and without, and from which all comes back.
    let mut bytes = before;
    for step in &steps {
        crate::disk::replay(&mut bytes, step);
        if !matches!(step, crate::disk::Step::Sync) {
            continue;
        }
        if dump(Disk::holding(bytes.clone()).storage()).is_err() {
            continue;
        }
        block_on(async {
            let wallet = wallet(&Disk::holding(bytes.clone()), &clock()).unwrap();
            sound(&wallet);
            let gone = wallet.journal_head().unwrap().dropped;
            for check in wallet.audit_with(std::slice::from_ref(&file)).unwrap() {
                assert!(check.holds, "{}: {}", check.rule, check.detail);
                assert!(!check.detail.contains("not done again"), "{}", check.detail);
            }
            if gone > 0 {
                put_back(&wallet, &file, || ()).await;
                assert_eq!(wallet.journal_head().unwrap().dropped, 0);
                sound(&wallet);
            }
            wallet.close().await;
        });
    }
}
