//! Damaged and foreign files.

use tirami_wallet::WalletError;
use tirami_wallet::store::{FORMAT_VERSION, Integrity, Storage, StoreError};

use crate::books::{Workload, block_on, clock, dump, record, wallet};
use crate::disk::{Dice, Disk, Step, all};
use crate::setting;
use crate::world;

fn refused_untouched(bytes: &[u8], what: &str) {
    let disk = Disk::holding(bytes.to_vec());
    match dump(disk.storage()) {
        Err(StoreError::Foreign(_)) => {}
        other => panic!("{what}: {:?}", other.map(|rows| rows.len())),
    }
    assert!(
        disk.state().bytes == bytes,
        "{what}: the file was written to"
    );
}

#[test]
fn a_file_of_another_kind_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.redb");
    for bytes in [
        Vec::new(),
        b"x".to_vec(),
        b"SQLite format 3\0".repeat(512),
        vec![0xff; 100_000],
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let outcome = dump(Storage::File(path.clone()));
        assert!(
            matches!(outcome, Err(StoreError::Foreign(_))),
            "{outcome:?}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    // Another program's redb file, closed in good order.
    std::fs::remove_file(&path).unwrap();
    let theirs = redb::TableDefinition::<u64, u64>::new("theirs");
    let database = redb::Database::create(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(theirs).unwrap().insert(1, 2).unwrap();
    write.commit().unwrap();
    drop(database);
    let bytes = std::fs::read(&path).unwrap();
    let outcome = dump(Storage::File(path.clone()));
    assert!(
        matches!(outcome, Err(StoreError::Foreign(_))),
        "{outcome:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    // A later version of our own.
    let format = redb::TableDefinition::<&str, u32>::new("tirami-wallet");
    let database = redb::Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    write
        .open_table(format)
        .unwrap()
        .insert("version", FORMAT_VERSION + 1)
        .unwrap();
    write.commit().unwrap();
    drop(database);
    let bytes = std::fs::read(&path).unwrap();
    let outcome = dump(Storage::File(path.clone())).map(|rows| rows.len());
    assert!(matches!(outcome, Err(StoreError::Newer(..))), "{outcome:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_truncated_file_is_refused_and_left_as_it_is() {
    let whole = all(&record(Workload::Buy));
    for cut in [
        1,
        4,
        320,
        4_095,
        4_096,
        8_192,
        whole.len() / 2,
        whole.len() - 4_096,
        whole.len() - 1,
    ] {
        refused_untouched(&whole[..cut], &format!("cut to {cut}"));
    }
}

/// redb's header says in one bit, which no checksum covers, which of two commits is the newest. After
/// a crash its flip is what a crash just before the last commit leaves, so nothing can tell them
/// apart; after an orderly end the two commits say the same.
const NEWEST: usize = 9 * 8;

#[test]
fn a_flipped_bit_is_refused_or_changes_nothing() {
    // redb asserts what it reads; those messages are not news here.
    std::panic::set_hook(Box::new(|_| ()));
    let steps = record(Workload::Buy);
    let end = steps
        .iter()
        .rposition(|s| matches!(s, Step::Answered))
        .unwrap();
    let flips = setting("TIRAMI_FLIPS", 1_000);
    let closed = flipped(&all(&steps), flips);
    let crashed = flipped(&all(&steps[..end]), flips / 3);
    drop(std::panic::take_hook());
    assert!(
        closed.is_empty(),
        "silently different books: bits {closed:?}"
    );
    assert!(
        crashed.iter().all(|bit| *bit == NEWEST),
        "silently different books: bits {crashed:?}"
    );
}

/// The bits whose flip silently changes what is read: all of the header's, and `more` others.
fn flipped(whole: &[u8], more: usize) -> Vec<usize> {
    let before = dump(Disk::holding(whole.to_vec()).storage()).unwrap();
    let mut dice = Dice(7);
    let (mut refused, mut met, mut same, mut wrong) = (0_usize, 0_usize, 0_usize, Vec::new());
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let header = 0..320 * 8;
    let anywhere: Vec<_> = (0..more).map(|_| dice.below(used * 8)).collect();
    for bit in header.chain(anywhere) {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let disk = Disk::holding(bytes.clone());
        match dump(disk.storage()) {
            Ok(found) if found == before => same += 1,
            Ok(_) => wrong.push(bit),
            Err(StoreError::Foreign(_) | StoreError::Io(_)) => {
                refused += 1;
                assert!(
                    disk.state().bytes == bytes,
                    "bit {bit}: the file was written to"
                );
            }
            Err(StoreError::Damaged(_)) => {
                met += 1;
                // Having been open mends nothing and hides nothing.
                let again = dump(disk.storage());
                assert!(again.is_err(), "bit {bit}: the second time it opened");
            }
            Err(other) => panic!("bit {bit}: {other}"),
        }
    }
    println!(
        "{refused} refused, {met} found when read, {same} harmless, {} silently different",
        wrong.len()
    );
    assert!(refused > 300 && met > 0 && same > 0);
    wrong
}

#[test]
fn damage_far_from_where_a_node_reads_is_found_beside_its_work_and_stops_it() {
    let mut bytes = all(&record(Workload::Buy));
    // A receipt's bytes are in a leaf that nothing here reads.
    let before = dump(Disk::holding(bytes.clone()).storage()).unwrap();
    let receipt = before
        .iter()
        .find(|((table, _), _)| *table == tirami_wallet::ledger::tables::Table::Receipts);
    let row = receipt.unwrap().1;
    let places: Vec<_> = (0..bytes.len() - row.len())
        .filter(|at| bytes[*at..].starts_with(row))
        .collect();
    for at in places {
        bytes[at + 20] ^= 4;
    }
    let disk = Disk::holding(bytes);
    block_on(async {
        let wallet = wallet(&disk, &clock()).unwrap();
        while wallet.integrity().unwrap() == Integrity::Checking {
            tokio::task::yield_now().await;
        }
        let Integrity::Failed(why) = wallet.integrity().unwrap() else {
            panic!("the damage was not found");
        };
        assert!(why.contains("restore a backup"), "{why}");
        for _ in 0..2 {
            let late = wallet.freeze("late".into()).await;
            let damaged = matches!(late, Err(WalletError::Store(StoreError::Damaged(_))));
            assert!(damaged, "{late:?}");
        }
        // What was read and is sound may still be seen.
        if let Err(error) = wallet.frozen() {
            let damaged = matches!(error, WalletError::Store(StoreError::Damaged(_)));
            assert!(damaged, "{error:?}");
        }
        wallet.close().await;
    });
}

#[test]
fn a_sound_wallet_is_found_sound() {
    let disk = Disk::holding(all(&record(Workload::Grow)));
    block_on(async {
        let wallet = wallet(&disk, &clock()).unwrap();
        while wallet.integrity().unwrap() == Integrity::Checking {
            tokio::task::yield_now().await;
        }
        assert_eq!(wallet.integrity().unwrap(), Integrity::Sound);
        world::sound(&wallet);
        wallet.close().await;
    });
}
