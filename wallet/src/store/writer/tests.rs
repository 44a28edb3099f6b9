use std::sync::mpsc::{Receiver, Sender, channel};

use tirami_manifest::Timestamp;
use tirami_manifest::time::ManualClock;

use super::*;
use crate::store::{Storage, open};

fn writer(clock: &Arc<ManualClock>) -> (Writer, Opened) {
    let backend = redb::backends::InMemoryBackend::new();
    let opened = open(Storage::Backend(Box::new(backend))).unwrap();
    (
        Writer::start(opened.clone(), clock.clone()).unwrap(),
        opened,
    )
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_ms(1_000)))
}

/// Until so many wait.
async fn waiting(writer: &Writer, many: usize) {
    while writer.commands.0.waiting() < many {
        tokio::task::yield_now().await;
    }
}

/// A command that writes `n`, and says which transaction it ran in by how many rows were committed
/// when it began.
async fn writes(writer: Arc<Writer>, lane: Lane, n: u16, opened: Opened) -> usize {
    let command = move |tables: &mut Scratch<'_, '_>, _| {
        let there = opened.read()?.scan(
            Table::Tokens,
            &[],
            None,
            crate::ledger::tables::Order::Ascending,
            usize::MAX,
        )?;
        tables.put(Table::Tokens, &n.to_be_bytes(), &[])?;
        Ok(there.len())
    };
    writer.run(lane, command).await.unwrap()
}

/// Keeps the writer busy until told; says when it is.
fn blocked(writer: &Arc<Writer>) -> (tokio::task::JoinHandle<()>, Receiver<()>, Sender<()>) {
    let (busy, is_busy) = channel();
    let (go, may_go) = channel::<()>();
    let writer = writer.clone();
    let command = move |tables: &mut Scratch<'_, '_>, _| {
        tables.put(Table::Tokens, b"blocked", &[])?;
        busy.send(()).unwrap();
        may_go.recv().unwrap();
        Ok(())
    };
    let task = tokio::spawn(async move { writer.run(Lane::Usual, command).await.unwrap() });
    (task, is_busy, go)
}

#[tokio::test]
async fn what_is_urgent_overtakes_a_thousand_and_is_in_the_next_commit() {
    let (writer, opened) = writer(&clock());
    let writer = Arc::new(writer);
    let (held, is_busy, go) = blocked(&writer);
    tokio::task::yield_now().await;
    is_busy.recv().unwrap();
    let mut usual = tokio::task::JoinSet::new();
    for n in 0..1_000 {
        usual.spawn(writes(writer.clone(), Lane::Usual, n, opened.clone()));
    }
    waiting(&writer, 1_000).await;
    let first = tokio::spawn(writes(writer.clone(), Lane::First, 5_000, opened.clone()));
    waiting(&writer, 1_001).await;
    go.send(()).unwrap();
    held.await.unwrap();
    // Nothing was committed before the transaction that it ran in.
    assert_eq!(first.await.unwrap(), 0);
    let mut transactions: Vec<_> = usual.join_all().await;
    transactions.sort_unstable();
    transactions.dedup();
    assert!(transactions.len() >= 4, "{transactions:?}");
    // And it was committed alone with the one that was running: none of the thousand came with it.
    assert_eq!(transactions.first(), Some(&2), "{transactions:?}");
    writer.stop().await;
}

#[tokio::test]
async fn a_full_queue_turns_away_and_the_first_lane_still_has_room() {
    let (writer, opened) = writer(&clock());
    let writer = Arc::new(writer);
    let (held, is_busy, go) = blocked(&writer);
    tokio::task::yield_now().await;
    is_busy.recv().unwrap();
    let mut usual = tokio::task::JoinSet::new();
    for n in 0..1_024 {
        usual.spawn(writes(writer.clone(), Lane::Usual, n, opened.clone()));
    }
    waiting(&writer, 1_024).await;
    let late = writer.run(Lane::Usual, |_, _| Ok(())).await;
    assert!(matches!(late, Err(WalletError::Busy)), "{late:?}");
    let first = tokio::spawn(writes(writer.clone(), Lane::First, 5_000, opened.clone()));
    waiting(&writer, 1_025).await;
    go.send(()).unwrap();
    held.await.unwrap();
    assert_eq!(first.await.unwrap(), 0);
    assert_eq!(usual.join_all().await.len(), 1_024);
    writer.stop().await;
    let late = writer.run(Lane::First, |_, _| Ok(())).await;
    assert!(matches!(late, Err(WalletError::Store(StoreError::Closed))));
}

#[tokio::test]
async fn a_transaction_ends_when_it_takes_long_and_the_next_goes_on() {
    let clock = clock();
    let (writer, opened) = writer(&clock);
    let writer = Arc::new(writer);
    let (held, is_busy, go) = blocked(&writer);
    tokio::task::yield_now().await;
    is_busy.recv().unwrap();
    let mut usual = tokio::task::JoinSet::new();
    for n in 0..3 {
        usual.spawn(writes(writer.clone(), Lane::Usual, n, opened.clone()));
    }
    waiting(&writer, 3).await;
    clock.advance_ms(BATCH_MS);
    go.send(()).unwrap();
    held.await.unwrap();
    let ran = usual.join_all().await;
    // The slow one was committed by itself, so the three share the next.
    assert_eq!(ran, [1, 1, 1]);
    let (held, is_busy, go) = blocked(&writer);
    tokio::task::yield_now().await;
    is_busy.recv().unwrap();
    let next = tokio::spawn(writes(writer.clone(), Lane::Usual, 9, opened.clone()));
    waiting(&writer, 1).await;
    go.send(()).unwrap();
    held.await.unwrap();
    // One that takes no time is committed with what waits behind it.
    assert_eq!(next.await.unwrap(), 4);
    writer.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_a_writer_that_died() {
    let (writer, _opened) = writer(&clock());
    let died = writer.run(Lane::Usual, |_, _| -> Result<(), WalletError> {
        panic!("a test")
    });
    assert!(matches!(
        died.await,
        Err(WalletError::Store(StoreError::Closed))
    ));
    writer.stop().await;
    let late = writer.run(Lane::Usual, |_, _| Ok(())).await;
    assert!(matches!(late, Err(WalletError::Store(StoreError::Closed))));
}

/// A page is found damaged by whoever reads it first, and redb may know of it only a moment later.
#[tokio::test]
async fn once_damage_is_known_not_even_what_changes_nothing_is_answered() {
    let (writer, opened) = writer(&clock());
    writer.run(Lane::Usual, |_, _| Ok(())).await.unwrap();
    opened.fails(StoreError::Damaged("a page".into()));
    for lane in [Lane::First, Lane::Usual] {
        let late = writer.run(lane, |_, _| Ok(())).await;
        let damaged = matches!(late, Err(WalletError::Store(StoreError::Damaged(_))));
        assert!(damaged, "{late:?}");
    }
    writer.stop().await;
}
