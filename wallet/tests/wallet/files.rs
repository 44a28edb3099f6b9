//! The file and the keys at rest.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use tirami_manifest::time::ManualClock;
use tirami_wallet::WalletError;
use tirami_wallet::keystore::{KeyError, Passphrase, create_owner_key, node_key, open_owner_key};
use tirami_wallet::store::{Storage, StoreError};
use tirami_wallet::token::main_agent;

use crate::world::{self, START, fund, key, trm};
use crate::{attempt, available, body_of, intent};

#[tokio::test]
async fn a_second_opening_of_the_same_file_is_refused_until_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let file = || Storage::File(folder.path().join("wallet.redb"));
    let clock = Arc::new(ManualClock::at(START));
    let first = world::open(file(), &clock, key(1)).unwrap();
    fund(&first, 10, || ()).await.unwrap();
    let second = world::open(file(), &clock, key(1));
    assert!(
        matches!(second, Err(WalletError::Store(StoreError::InUse))),
        "{second:?}"
    );
    let clone = first.clone();
    first.close().await;
    // The handles that are left answer that it is closed, and do not keep the file.
    let late = clone.freeze("late".into()).await;
    assert!(
        matches!(late, Err(WalletError::Store(StoreError::Closed))),
        "{late:?}"
    );
    assert!(clone.budget(&main_agent()).is_err());
    let third = world::open(file(), &clock, key(1)).unwrap();
    assert_eq!(available(&third), trm(10));
}

#[tokio::test]
async fn what_was_asked_before_closing_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let file = || Storage::File(folder.path().join("wallet.redb"));
    let clock = Arc::new(ManualClock::at(START));
    let wallet = world::open(file(), &clock, key(1)).unwrap();
    fund(&wallet, 1_000, || ()).await.unwrap();
    let asked: Vec<_> = (0..100)
        .map(|n| {
            let wallet = wallet.clone();
            tokio::spawn(async move {
                let name = n.to_string();
                wallet.begin(intent(&name), body_of(&name)).await
            })
        })
        .collect();
    tokio::task::yield_now().await;
    wallet.close().await;
    let mut done = 0;
    for task in asked {
        match task.await.unwrap() {
            Ok(_) => done += 1,
            Err(WalletError::Store(StoreError::Closed)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let wallet = world::open(file(), &clock, key(1)).unwrap();
    let mut there = 0;
    for n in 0..100 {
        there += usize::from(attempt(&wallet, &n.to_string()).await.number == 2);
    }
    assert_eq!(there, done, "every answer stands for what is on the disk");
    assert!(done > 0);
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.to_owned())
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_owner_key_opens_with_its_passphrase_alone_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("owner.key");
    let short = create_owner_key(&path, &passphrase("1234567\n"));
    assert!(matches!(short, Err(KeyError::TooShort { have: 7 })));
    assert!(!path.exists());
    let made = create_owner_key(&path, &passphrase("correct horse")).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!bytes.windows(32).any(|w| w == made.to_bytes().as_slice()));
    let opened = open_owner_key(&path, &passphrase("correct horse\r\n")).unwrap();
    assert_eq!(opened.id(), made.id());
    for wrong in ["correct horsf", "", "correct horse "] {
        let refused = open_owner_key(&path, &passphrase(wrong));
        assert!(matches!(refused, Err(KeyError::Passphrase)), "{wrong:?}");
    }
    let again = create_owner_key(&path, &passphrase("another passphrase"));
    assert!(matches!(again, Err(KeyError::Exists { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    chmod(&path, 0o640);
    let exposed = open_owner_key(&path, &passphrase("correct horse"));
    assert!(matches!(exposed, Err(KeyError::Exposed { .. })));
    // Nothing else is left behind.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_owner_key_file_altered_anywhere_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("owner.key");
    create_owner_key(&path, &passphrase("correct horse")).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    // Every field: magic, each setting, salt, nonce, ciphertext, tag; and every fifth byte.
    for at in (0..bytes.len())
        .step_by(5)
        .chain([15, 16, 20, 24, 28, 44, 68, bytes.len() - 1])
    {
        let mut altered = bytes.clone();
        altered[at] ^= 0x01;
        std::fs::write(&path, altered).unwrap();
        let refused = open_owner_key(&path, &passphrase("correct horse"));
        assert!(
            matches!(
                refused,
                Err(KeyError::Passphrase | KeyError::Damaged { .. })
            ),
            "byte {at}: {refused:?}"
        );
    }
    for len in [0, 15, 60, 68, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let refused = open_owner_key(&path, &passphrase("correct horse"));
        assert!(matches!(
            refused,
            Err(KeyError::Passphrase | KeyError::Damaged { .. })
        ));
    }
    // Settings that would take all memory are refused before they are tried.
    let mut greedy = bytes;
    greedy[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    std::fs::write(&path, greedy).unwrap();
    let refused = open_owner_key(&path, &passphrase("correct horse"));
    assert!(matches!(refused, Err(KeyError::Damaged { .. })));
}

#[test]
fn a_node_key_is_made_once_however_many_start_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.key");
    let ids: BTreeSet<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| node_key(&path, None).unwrap().id()))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 1, "processes that start at once are one node");
    assert_eq!(node_key(&path, None).unwrap().id(), *ids.first().unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    chmod(&path, 0o604);
    assert!(matches!(
        node_key(&path, None),
        Err(KeyError::Exposed { .. })
    ));
    for bytes in [vec![1; 31], vec![1; 33], Vec::new()] {
        std::fs::write(&path, &bytes).unwrap();
        chmod(&path, 0o600);
        assert!(matches!(
            node_key(&path, None),
            Err(KeyError::Damaged { .. })
        ));
        assert_eq!(
            std::fs::read(&path).unwrap(),
            bytes,
            "a damaged key is not replaced"
        );
    }
}
