//! Old rows of the journal leave the wallet for a file, and come back.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tirami_manifest::Timestamp;
use tirami_manifest::verify::{Verified, verify};
use tirami_wallet::archive::UpTo;
use tirami_wallet::ledger::audit::Check;
use tirami_wallet::store::StoreError;
use tirami_wallet::{Wallet, WalletError};

use crate::world::sound;
use crate::{DAY, available, founder, hold, join, party, settle, spent};

const REPLAYED: &str = "replaying the journal gives the same ledger byte for byte";

/// A wallet with some purchases, and a folder for its archives.
async fn busy() -> (Wallet, TempDir) {
    let (wallet, _) = founder(1_000).await;
    for (name, amount) in [("a", 5), ("b", 7), ("c", 9)] {
        settle(&wallet, name, amount).await;
    }
    wallet.freeze("for the journal".into()).await.unwrap();
    (wallet, tempfile::tempdir().unwrap())
}

async fn dropped(wallet: &Wallet, file: &Path, up_to: UpTo) -> u64 {
    let archived = wallet.archive(file, up_to).unwrap();
    wallet.drop_archived(&archived).await.unwrap()
}

async fn put_back(wallet: &Wallet, file: &Path) -> Result<(), WalletError> {
    let mut archive = wallet.look_at_archive(file)?;
    while let Some(rows) = archive.next_rows()? {
        wallet.put_back(rows).await?;
    }
    Ok(())
}

fn replay(checks: Vec<Check>) -> (bool, String) {
    let check = checks.into_iter().find(|check| check.rule == REPLAYED);
    let check = check.unwrap();
    (check.holds, check.detail)
}

/// What the journal says, and where it stands.
fn state(wallet: &Wallet) -> impl PartialEq + std::fmt::Debug + use<> {
    let rows = wallet.journal_before(None, usize::MAX).unwrap();
    (rows, wallet.journal_head().unwrap())
}

fn why<T: std::fmt::Debug>(outcome: Result<T, WalletError>) -> String {
    match outcome {
        Err(error @ (WalletError::Archive { .. } | WalletError::NotArchived(_))) => {
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn wherever_the_journal_is_cut_the_archive_and_the_rest_replay_to_the_same_bytes() {
    let (wallet, folder) = busy().await;
    let (before, size) = (state(&wallet), wallet.journal_head().unwrap().size);
    assert!(size > 15, "{size}");
    for cut in 1..=size {
        let file = folder.path().join(format!("{cut}.archive"));
        assert_eq!(dropped(&wallet, &file, UpTo::Row(cut)).await, cut);
        let rows = wallet.journal_before(None, usize::MAX).unwrap();
        assert_eq!(u64::try_from(rows.len()).unwrap(), size - cut);
        // What is left is still what was sealed; the whole is not done again without the archive.
        sound(&wallet);
        let (holds, detail) = replay(wallet.audit().unwrap());
        let says = format!("not done again: rows 1 to {cut} are in an archive");
        assert!(holds && detail.starts_with(&says), "{detail}");
        let checks = wallet.audit_with(std::slice::from_ref(&file)).unwrap();
        assert_eq!(replay(checks), (true, format!("{size} rows")));
        put_back(&wallet, &file).await.unwrap();
        assert_eq!(state(&wallet), before);
        assert_eq!(
            replay(wallet.audit().unwrap()),
            (true, format!("{size} rows"))
        );
    }
}

#[tokio::test]
async fn what_is_dropped_takes_nothing_else_with_it_and_the_journal_goes_on() {
    let (wallet, clock) = founder(1_000).await;
    let folder = tempfile::tempdir().unwrap();
    settle(&wallet, "a", 5).await;
    let open = hold(&wallet, "open", 10).await.unwrap();
    let books = |wallet: &Wallet| {
        let lines = wallet.history(None, usize::MAX).unwrap();
        let ids: Vec<_> = lines.iter().map(|line| line.entry.transfer.id).collect();
        let position = wallet.chain_position().unwrap();
        (
            available(wallet),
            spent(wallet),
            ids,
            wallet.open_holds().unwrap(),
            (position.seq, position.head, position.spendable),
            wallet.accounts().unwrap(),
        )
    };
    let (before, head) = (books(&wallet), wallet.journal_head().unwrap());
    let file = folder.path().join("all.archive");
    assert_eq!(dropped(&wallet, &file, UpTo::Newest).await, head.size);
    assert_eq!(books(&wallet), before);
    let now = wallet.journal_head().unwrap();
    assert_eq!(
        (now.size, now.root, now.hash),
        (head.size, head.root, head.hash)
    );
    assert!(wallet.journal_before(None, 10).unwrap().is_empty());
    // Nothing happened meanwhile, and nothing begins anew: a command, a restart's first one included.
    wallet.sweep().await.unwrap();
    assert_eq!(wallet.journal_head().unwrap(), now);
    // The next row has the next number, and asking again for what was paid pays nothing.
    open.renew().await.unwrap();
    let row = &wallet.journal_before(None, 10).unwrap()[0];
    assert_eq!(row.seq, head.size + 1);
    clock.advance_ms(1_000);
    settle(&wallet, "b", 5).await;
    sound(&wallet);
    let size = wallet.journal_head().unwrap().size;
    for seq in 1..=size {
        let proof = wallet.prove_row(seq, None);
        if seq <= head.size {
            assert!(matches!(proof, Err(WalletError::Dropped(last)) if last == head.size));
        } else {
            assert_eq!(proof.unwrap().unwrap().verify().unwrap().seq, seq);
        }
        // The tree is whole, so growth is proved from any size.
        let growth = wallet.prove_growth(seq, None).unwrap().unwrap();
        assert_eq!(growth.verify().unwrap().size, size);
    }
    let early = wallet.prove_growth(1, Some(head.size)).unwrap().unwrap();
    assert_eq!(early.verify().unwrap().root, head.root);
    let gone = wallet.prove_growth(1, Some(head.size - 1));
    assert!(matches!(gone, Err(WalletError::Dropped(_))), "{gone:?}");
    assert!(wallet.prove_row(size + 1, None).unwrap().is_none());
}

#[tokio::test]
async fn what_left_in_parts_is_done_again_and_comes_back_in_parts() {
    let (wallet, folder) = busy().await;
    let before = state(&wallet);
    let size = wallet.journal_head().unwrap().size;
    let files: Vec<PathBuf> = (0..3).map(|n| folder.path().join(n.to_string())).collect();
    // One that stopped before it dropped what it has.
    let over = folder.path().join("over");
    wallet.archive(&over, UpTo::Row(6)).unwrap();
    for (file, up_to) in files.iter().zip([4, 9, size]) {
        assert_eq!(dropped(&wallet, file, UpTo::Row(up_to)).await, up_to);
    }
    let again = wallet.archive(&folder.path().join("again"), UpTo::Newest);
    assert!(why(again).contains("are archived already"));
    let (one, two, three) = (&files[0], &files[1], &files[2]);
    for all in [
        vec![three.clone(), one.clone(), two.clone()],
        vec![over.clone(), three.clone(), two.clone()],
        vec![over, three.clone(), one.clone(), two.clone()],
    ] {
        let again = replay(wallet.audit_with(&all).unwrap());
        assert_eq!(again, (true, format!("{size} rows")));
    }
    for (some, says) in [
        (vec![one.clone(), two.clone()], "ends with record 9"),
        (vec![two.clone(), three.clone()], "begins with record 5"),
        (vec![one.clone(), three.clone()], "begins with record 10"),
        (vec![one.clone(), one.clone()], "ends with record 4"),
    ] {
        let said = why(wallet.audit_with(&some));
        assert!(said.contains(says), "{said}");
    }
    let first = why(put_back(&wallet, one).await);
    assert!(first.contains("put them back first"), "{first}");
    put_back(&wallet, three).await.unwrap();
    assert_eq!(wallet.journal_head().unwrap().dropped, 9);
    let again = why(put_back(&wallet, three).await);
    assert!(again.contains("begins with record 10"), "{again}");
    put_back(&wallet, two).await.unwrap();
    put_back(&wallet, one).await.unwrap();
    assert_eq!(state(&wallet), before);
    sound(&wallet);
    let more = why(put_back(&wallet, one).await);
    assert!(more.contains("no entry was dropped"), "{more}");
}

#[tokio::test]
async fn an_archive_that_does_not_fit_changes_nothing() {
    let (wallet, folder) = busy().await;
    let file = folder.path().join("own");
    dropped(&wallet, &file, UpTo::Row(9)).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // Another node's, which holds; and one of this node's key that lived another life.
    let (member, _) = party(2);
    join(&wallet, &member, [3; 16]).await;
    let before = state(&wallet);
    let foreign = folder.path().join("foreign");
    member.archive(&foreign, UpTo::Newest).unwrap();
    let (other, _) = founder(77).await;
    for n in 0..4 {
        settle(&other, &n.to_string(), 3).await;
    }
    let twin = folder.path().join("twin");
    other.archive(&twin, UpTo::Row(9)).unwrap();
    let altered = text.replacen("\"event\":\"quota\"", "\"event\":\"transfer\"", 1);
    let cut = lines[..lines.len() - 1].join("\n");
    let mut files = vec![
        (foreign, "not of this one"),
        (twin, "other records than those"),
        (folder.path().join("missing"), "cannot be read"),
    ];
    for (name, text, says) in [
        ("altered", altered.clone(), "was altered"),
        ("cut", cut, "cut off"),
        ("empty", String::new(), "empty"),
        ("none", "{}".to_owned(), "not a line of an archive"),
    ] {
        assert_ne!(text, *lines.join("\n"));
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        files.push((path, says));
    }
    for (file, says) in &files {
        let said = why(put_back(&wallet, file).await);
        assert!(
            said.contains(says) && said.contains("nothing was changed"),
            "{said}"
        );
        assert_eq!(state(&wallet), before, "{}", file.display());
        // Nor is anything done again with it.
        why(wallet.audit_with(std::slice::from_ref(file)));
    }
    put_back(&wallet, &file).await.unwrap();
    sound(&wallet);
}

/// A file that changes between its check and its reading puts nothing else back.
#[tokio::test]
async fn an_archive_that_changes_meanwhile_is_noticed() {
    let (wallet, folder) = busy().await;
    let file = folder.path().join("own");
    dropped(&wallet, &file, UpTo::Row(9)).await;
    let before = state(&wallet);
    let mut archive = wallet.look_at_archive(&file).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let record = text.lines().nth(3).unwrap();
    let other = text.lines().nth(4).unwrap();
    std::fs::write(&file, text.replacen(record, other, 1)).unwrap();
    let said = why(archive.next_rows());
    assert!(said.contains("was changed meanwhile"), "{said}");
    assert_eq!(state(&wallet), before);
}

#[tokio::test]
async fn an_archive_is_written_whole_to_a_new_file_and_verifies() {
    let (wallet, folder) = busy().await;
    let file = folder.path().join("own");
    std::fs::write(&file, "mine").unwrap();
    let there = wallet.archive(&file, UpTo::Newest);
    assert!(
        matches!(there, Err(WalletError::Store(StoreError::Exists(_)))),
        "{there:?}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    std::fs::remove_file(&file).unwrap();
    let size = wallet.journal_head().unwrap().size;
    let none = wallet.archive(&file, UpTo::Row(size + 1));
    assert!(why(none).contains("is none of them"));
    assert!(why(wallet.archive(&file, UpTo::Row(0))).contains("no entries"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let archived = wallet.archive(&file, UpTo::Newest).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let text = std::fs::read_to_string(&file).unwrap();
    let Ok(Verified::Archive(facts)) = verify(&text) else {
        panic!("{text}");
    };
    assert_eq!(*facts, archived.facts);
    assert_eq!((facts.first, facts.last, facts.records), (1, size, size));
    // The words of each line are those of the row.
    let rows = wallet.journal_before(None, usize::MAX).unwrap();
    for (row, line) in rows.iter().rev().zip(text.lines().skip(1)) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["seq"], row.seq);
        assert_eq!(line["event"], row.record.row.event.name());
        assert_eq!(line["at"], row.record.row.at.to_rfc3339());
    }
}

#[tokio::test]
async fn what_is_old_enough_is_archived_and_no_more() {
    let (wallet, clock) = founder(1_000).await;
    let folder = tempfile::tempdir().unwrap();
    let early = wallet.journal_head().unwrap().size;
    let since = |days: u64| {
        let now = wallet.now().unwrap().ms();
        UpTo::OlderThan(Timestamp::from_ms(now - days * DAY))
    };
    let none = wallet.archive(&folder.path().join("none"), since(1));
    assert!(why(none).contains("is so old"));
    clock.advance_ms(3 * DAY);
    settle(&wallet, "late", 5).await;
    let file = folder.path().join("old");
    assert_eq!(dropped(&wallet, &file, since(1)).await, early);
    let rows = wallet.journal_before(None, usize::MAX).unwrap();
    assert_eq!(rows.last().unwrap().seq, early + 1);
    sound(&wallet);
}
