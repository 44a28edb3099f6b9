//! A backup of a wallet at work, and the way back.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::Path;
use std::sync::Arc;

use tirami_manifest::NodeId;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{InvitationId, QuoteId, TransferId};
use tirami_wallet::store::{Storage, StoreError, restore};
use tirami_wallet::{Wallet, WalletError};

#[expect(dead_code, reason = "each suite uses its own part of the world")]
mod world;
use world::{START, Trade, fund, genesis, job, key, sound, trm};

/// Whose wallet it is.
fn node() -> NodeId {
    key(1).id()
}

fn open(path: &Path) -> Result<Wallet, WalletError> {
    let clock = Arc::new(ManualClock::at(START));
    world::open(Storage::File(path.into()), &clock, key(1))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn invitation(n: u16) -> InvitationId {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&n.to_be_bytes());
    InvitationId::from_bytes(id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_among_five_hundred_writes_is_what_was_committed_at_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("w.redb"), folder.path().join("copy"));
    let wallet = open(&path).unwrap();
    fund(&wallet, 5_000, || ()).await.unwrap();
    let writing = wallet.clone();
    let writes = tokio::spawn(async move {
        let mut sales = Vec::new();
        for n in 0..500_u16 {
            // One after the other, so that what is there must be the first so many.
            let [nonce, _] = n.to_le_bytes();
            let terms = (1 + u32::from(n / 4), nonce);
            let sale = Trade::new(genesis().id(), &key(1), &key(2), terms);
            let mut start = job(&sale.quote);
            start.hold = TransferId::from_bytes(u128::from(n).to_le_bytes());
            writing.reserve(&sale.quote, start, None).await.unwrap();
            sales.push(sale.quote.id());
        }
        sales
    });
    while wallet.open_holds().unwrap().len() < 5 && !writes.is_finished() {
        tokio::task::yield_now().await;
    }
    let (from, to) = (wallet.clone(), copy.clone());
    let before = wallet.open_holds().unwrap().len();
    let info = tokio::task::spawn_blocking(move || from.backup(&to)).await;
    let info = info.unwrap().unwrap();
    let sales: Vec<QuoteId> = writes.await.unwrap();
    assert_eq!(wallet.open_holds().unwrap().len(), 500);
    wallet.close().await;
    // A name that is taken is left alone.
    let bytes = std::fs::read(&copy).unwrap();
    let wallet = open(&path).unwrap();
    let again = wallet.backup(&copy);
    assert!(matches!(
        again,
        Err(WalletError::Store(StoreError::Exists(_)))
    ));
    assert!(std::fs::read(&copy).unwrap() == bytes);
    wallet.close().await;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(names(folder.path()), ["copy", "w.redb"]);
    let copy = open(&copy).unwrap();
    sound(&copy);
    let there = copy.open_holds().unwrap();
    assert!((before..=500).contains(&there.len()), "{}", there.len());
    // The first so many, and no other.
    let mut amounts: Vec<_> = there.iter().map(|(_, hold)| hold.amount).collect();
    amounts.sort();
    let first = (0..u64::try_from(there.len()).unwrap()).map(|n| trm(1 + n / 4));
    assert!(amounts.into_iter().eq(first));
    assert_eq!(sales.len(), 500);
    let transfers = copy.history(None, usize::MAX).unwrap().len();
    assert_eq!(info.transfers, u64::try_from(transfers).unwrap());
    copy.close().await;
}

#[tokio::test]
async fn a_restored_wallet_is_the_one_that_was_backed_up_and_the_other_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("w.redb"), folder.path().join("copy"));
    let wallet = open(&path).unwrap();
    fund(&wallet, 5_000, || ()).await.unwrap();
    let info = wallet.backup(&copy).unwrap();
    wallet.invite(invitation(7)).await.unwrap();
    wallet.freeze("later".into()).await.unwrap();
    // Not while a node has it open.
    let refused = restore(&copy, &path, Some(&node()));
    assert!(matches!(refused, Err(StoreError::InUse)), "{refused:?}");
    assert!(wallet.frozen().unwrap().is_some());
    wallet.close().await;
    let lost = std::fs::read(&path).unwrap();
    for n in 1..=2 {
        let restored = restore(&copy, &path, Some(&node())).unwrap();
        assert_eq!(restored.info, info);
        let moved = folder.path().join(format!("w.redb.before-restore-{n}"));
        assert_eq!(restored.moved.as_ref(), Some(&moved));
        let wallet = open(&path).unwrap();
        assert!(wallet.frozen().unwrap().is_none());
        sound(&wallet);
        wallet.close().await;
    }
    let kept = std::fs::read(folder.path().join("w.redb.before-restore-1")).unwrap();
    assert!(kept == lost);
    // Where there is none, it is just put there.
    let new = folder.path().join("new.redb");
    assert_eq!(restore(&copy, &new, Some(&node())).unwrap().moved, None);
    sound(&open(&new).unwrap());
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("w.redb"), folder.path().join("copy"));
    let wallet = open(&path).unwrap();
    fund(&wallet, 5_000, || ()).await.unwrap();
    wallet.backup(&copy).unwrap();
    wallet.close().await;
    let (was, good) = (std::fs::read(&path).unwrap(), std::fs::read(&copy).unwrap());
    let files = names(folder.path());
    let used: Vec<_> = (4_096..good.len()).filter(|at| good[*at] != 0).collect();
    let (mut refused, mut unused) = (0, 0);
    for at in used.iter().step_by(used.len() / 60) {
        let mut bytes = good.clone();
        bytes[*at] ^= 1;
        std::fs::write(&copy, &bytes).unwrap();
        match restore(&copy, &path, Some(&node())) {
            Err(StoreError::NoBackup(_)) => {
                refused += 1;
                assert!(std::fs::read(&path).unwrap() == was, "byte {at}");
                assert_eq!(names(folder.path()), files);
            }
            // A byte of a page that nothing points to any more.
            Ok(restored) => {
                unused += 1;
                std::fs::rename(restored.moved.unwrap(), &path).unwrap();
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(refused > 10, "{refused} refused, {unused} unused");
    for bytes in [
        good[..good.len() / 2].to_vec(),
        b"not a wallet".to_vec(),
        Vec::new(),
    ] {
        std::fs::write(&copy, bytes).unwrap();
        let refused = restore(&copy, &path, Some(&node()));
        let names_it = matches!(&refused, Err(StoreError::NoBackup(why)) if why.contains(copy.to_str().unwrap()));
        assert!(names_it, "{refused:?}");
        assert!(std::fs::read(&path).unwrap() == was);
        assert_eq!(names(folder.path()), files);
    }
}
