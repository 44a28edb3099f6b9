//! A wallet that an earlier build wrote opens in this one, with nothing lost.
//!
//! `files/format-N.pages` is a wallet as the last build of format N left it: every page with
//! something in it as offset, length and bytes. Such a file is written once and never again.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tirami_manifest::time::ManualClock;
use tirami_manifest::{OwnerId, QuoteId};
use tirami_wallet::intent::{Intent, IntentKey};
use tirami_wallet::store::{FORMAT_VERSION, Storage, StoreError};
use tirami_wallet::token::main_agent;
use tirami_wallet::{HoldRequest, Wallet, WalletError};

mod world;
use world::{START, Trade, WORK, fund, genesis, job, key, sound, trm};

const PAGE: usize = 4_096;

fn saved(format: u32) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    folder.join(format!("format-{format}.pages"))
}

/// Every page with something in it: offset and length as big-endian words, then the bytes.
fn pack(file: &[u8]) -> Vec<u8> {
    let mut packed = u64::try_from(file.len()).unwrap().to_be_bytes().to_vec();
    for (place, page) in file.chunks(PAGE).enumerate() {
        if let Some(last) = page.iter().rposition(|byte| *byte != 0) {
            packed.extend(u32::try_from(place * PAGE).unwrap().to_be_bytes());
            packed.extend(u32::try_from(last + 1).unwrap().to_be_bytes());
            packed.extend(&page[..=last]);
        }
    }
    packed
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let word =
        |at: usize| usize::try_from(u32::from_be_bytes(packed[at..at + 4].try_into().unwrap()));
    let mut file = vec![0; word(4).unwrap()];
    let mut at = 8;
    while at < packed.len() {
        let (offset, len) = (word(at).unwrap(), word(at + 4).unwrap());
        file[offset..offset + len].copy_from_slice(&packed[at + 8..at + 8 + len]);
        at += 8 + len;
    }
    file
}

fn open(path: &Path) -> Result<Wallet, WalletError> {
    let clock = Arc::new(ManualClock::at(START));
    world::open(Storage::File(path.into()), &clock, key(1))
}

fn purchase(name: &str, attempt: Intent, quote: QuoteId) -> HoldRequest {
    let Intent::Attempt(attempt) = attempt else {
        panic!("{name} was answered already");
    };
    HoldRequest {
        attempt,
        amount: trm(50),
        quote,
        work: WORK,
        under: None,
    }
}

/// What a saved wallet has been through; every saved file came from this.
async fn live(path: &Path) {
    let wallet = open(path).unwrap();
    fund(&wallet, 5_000, || ()).await.unwrap();
    wallet
        .set_owner(OwnerId::from_bytes(*key(3).id().as_bytes()))
        .await
        .unwrap();
    let trade = Trade::new(genesis().id(), &key(2), &key(1), (50, 1));
    let paid = wallet
        .begin(IntentKey::new(main_agent(), "paid"), [1; 32])
        .await
        .unwrap();
    let hold = wallet
        .hold(purchase("paid", paid, trade.quote.id()))
        .await
        .unwrap();
    let receipt = trade.receipt(hold.id(), 30);
    hold.settle(receipt, b"an answer".to_vec())
        .await
        .map_err(|(_, error)| error)
        .unwrap();
    let open = wallet
        .begin(IntentKey::new(main_agent(), "open"), [2; 32])
        .await
        .unwrap();
    let request = purchase("open", open, QuoteId::from_bytes([2; 32]));
    wallet.hold(request).await.unwrap().leave_to_expire();
    let sale = Trade::new(genesis().id(), &key(1), &key(2), (9, 9));
    wallet
        .reserve(&sale.quote, job(&sale.quote), None)
        .await
        .unwrap();
    wallet.freeze("saved".into()).await.unwrap();
    sound(&wallet);
    wallet.close().await;
}

/// Everything [`live`] did is there.
async fn remembers(wallet: &Wallet) {
    // The first command brings up the chain of a wallet from before there were chains.
    wallet.sweep().await.unwrap();
    sound(wallet);
    let position = wallet.chain_position().unwrap();
    assert_eq!(position.spendable, trm(5_000 - 30));
    let balance = wallet.balance(&main_agent()).unwrap();
    assert_eq!((balance.spent, balance.held), (30_000_000, trm(50)));
    assert_eq!(balance.available, trm(5_000 - 30 - 50));
    assert_eq!(wallet.frozen().unwrap().unwrap().reason, "saved");
    assert_eq!(wallet.open_holds().unwrap().len(), 2);
    assert_eq!(wallet.outbox().unwrap().len(), 1);
    assert_eq!(wallet.network().unwrap(), Some(genesis()));
    assert!(wallet.owner().unwrap().is_some());
    assert_eq!(wallet.agents().unwrap().len(), 1);
    // The answer that was paid for is still readable, under the same key.
    let intent = IntentKey::new(main_agent(), "paid");
    match wallet.begin(intent, [1; 32]).await.unwrap() {
        Intent::Answered(answer) => assert_eq!(answer, b"an answer"),
        Intent::Attempt(_) => panic!("it would be paid for again"),
    }
}

#[tokio::test]
async fn a_golden_file_of_every_format_opens_with_nothing_lost() {
    let folder = tempfile::tempdir().unwrap();
    let present = saved(FORMAT_VERSION);
    if !present.exists() {
        assert!(
            std::env::var_os("UPDATE").is_some(),
            "UPDATE=1 saves a file of this format"
        );
        let path = folder.path().join("new.redb");
        live(&path).await;
        std::fs::write(&present, pack(&std::fs::read(&path).unwrap())).unwrap();
    }
    for format in 1..=FORMAT_VERSION {
        let bytes = unpack(&std::fs::read(saved(format)).unwrap());
        let path = folder.path().join(format!("{format}.redb"));
        std::fs::write(&path, &bytes).unwrap();
        let wallet = open(&path).unwrap();
        remembers(&wallet).await;
        // What a node does when it starts; from then on the wallet says whose it is.
        assert_eq!(wallet.found(genesis()).await.unwrap(), genesis());
        wallet.close().await;
        let clock = Arc::new(ManualClock::at(START));
        let other = world::open(Storage::File(path.clone()), &clock, key(9));
        let refused = matches!(
            other,
            Err(WalletError::Store(StoreError::OtherNode(node))) if node == key(1).id()
        );
        assert!(refused, "format {format}");
        // Once more: what was written is of this build's format.
        let wallet = open(&path).unwrap();
        remembers(&wallet).await;
        wallet.close().await;
    }
}

/// The first thing a new build does may be to expire a hold of long ago.
#[tokio::test]
async fn a_golden_file_whose_holds_are_over_opens_with_its_journal_whole() {
    let folder = tempfile::tempdir().unwrap();
    for format in 1..=FORMAT_VERSION {
        let path = folder.path().join(format!("{format}.redb"));
        std::fs::write(&path, unpack(&std::fs::read(saved(format)).unwrap())).unwrap();
        let clock = Arc::new(ManualClock::at(START.after_ms(3_600_000)));
        let wallet = world::open(Storage::File(path), &clock, key(1)).unwrap();
        assert_eq!(wallet.open_holds().unwrap().len(), 2);
        wallet.freeze("again".to_owned()).await.unwrap();
        assert_eq!(wallet.open_holds().unwrap().len(), 0, "format {format}");
        wallet.sweep().await.unwrap();
        sound(&wallet);
        wallet.close().await;
    }
}
