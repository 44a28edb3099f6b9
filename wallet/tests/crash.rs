//! What is left after a crash at any instant, a full disk, and a damaged file.
//!
//! The workload runs once on a disk that records everything written to it; what the disk would hold
//! had the machine stopped in between is then made from the record, for every write and sync there
//! is.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on should stop"
)]

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{QuoteId, TransferId};
use tirami_wallet::intent::{Intent, IntentKey};
use tirami_wallet::ledger::tables::{Order, ReadTables, Table};
use tirami_wallet::store::{Storage, StoreError};
use tirami_wallet::token::main_agent;
use tirami_wallet::{HoldRequest, Wallet, WalletError};

mod world;
use world::{START, Trade, fund, genesis, key, sound, trm};

// ---- a disk ----

#[derive(Clone, Debug)]
enum Step {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
    /// The wallet answered: this many commands are done.
    Answered(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// This and every later write fails, as on a full disk.
    Full,
    /// This one sync fails and later ones say nothing, as Linux does.
    Sync,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    steps: Vec<Step>,
    /// What goes wrong, and after how many more writes or syncs.
    fault: Option<(Fault, usize)>,
}

#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<State>>);

fn place(offset: u64, len: usize) -> Range<usize> {
    let from = usize::try_from(offset).unwrap();
    from..from + len
}

impl State {
    fn does(&mut self, step: Step) -> io::Result<()> {
        let meets = matches!(
            (&step, self.fault),
            (Step::Write(..) | Step::SetLen(_), Some((Fault::Full, _)))
                | (Step::Sync, Some((Fault::Sync, _)))
        );
        if meets && let Some((fault, left)) = &mut self.fault {
            if *left == 0 {
                let code = if *fault == Fault::Full { 28 } else { 5 };
                if *fault == Fault::Sync {
                    self.fault = None;
                }
                return Err(io::Error::from_raw_os_error(code));
            }
            *left -= 1;
        }
        replay(&mut self.bytes, &step);
        self.steps.push(step);
        Ok(())
    }
}

fn replay(bytes: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Write(offset, data) => {
            let at = place(*offset, data.len());
            if bytes.len() < at.end {
                bytes.resize(at.end, 0);
            }
            bytes[at].copy_from_slice(data);
        }
        Step::SetLen(len) => bytes.resize(usize::try_from(*len).unwrap(), 0),
        Step::Sync | Step::Answered(_) => {}
    }
}

impl Disk {
    fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            bytes,
            ..State::default()
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn storage(&self) -> Storage {
        Storage::Backend(Box::new(self.clone()))
    }

    fn answered(&self, commands: usize) {
        self.state().steps.push(Step::Answered(commands));
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.state().bytes.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let there = state.bytes.get(place(offset, out.len()));
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().does(Step::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state().does(Step::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().does(Step::Write(offset, data.to_vec()))
    }
}

/// `SplitMix64`: the same disks from the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n.max(1)).unwrap()).unwrap()
    }
}

/// Everything written so far.
fn all(steps: &[Step]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for step in steps {
        replay(&mut bytes, step);
    }
    bytes
}

/// What was synced, and some of what came after: lengths in their order, writes in any, the last of
/// them torn.
fn some(steps: &[Step], dice: &mut Dice) -> Vec<u8> {
    let synced = steps.iter().rposition(|step| matches!(step, Step::Sync));
    let (safe, loose) = steps.split_at(synced.map_or(0, |at| at + 1));
    let mut bytes = all(safe);
    let lengths: Vec<_> = loose
        .iter()
        .filter(|s| matches!(s, Step::SetLen(_)))
        .collect();
    for step in &lengths[..dice.below(lengths.len() + 1)] {
        replay(&mut bytes, step);
    }
    // Sometimes nearly all of it, sometimes nearly nothing.
    let odds = 1 + dice.below(7);
    let writes: Vec<_> = loose
        .iter()
        .filter(|s| matches!(s, Step::Write(..)))
        .collect();
    for (n, step) in writes.iter().enumerate() {
        let Step::Write(offset, data) = step else {
            continue;
        };
        let torn = if n + 1 == writes.len() {
            dice.below(data.len() + 1)
        } else {
            data.len()
        };
        // What lies beyond the length that the disk knows is not there.
        let room = bytes
            .len()
            .saturating_sub(usize::try_from(*offset).unwrap());
        let part = &data[..torn.min(room)];
        if dice.below(8) <= odds && !part.is_empty() {
            replay(&mut bytes, &Step::Write(*offset, part.to_vec()));
        }
    }
    bytes
}

type Dump = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Everything a wallet file says.
fn dump(storage: Storage) -> Result<Dump, StoreError> {
    let opened = tirami_wallet::store::open(storage)?;
    let (read, mut rows) = (opened.read()?, Dump::new());
    for (table, _) in Table::ALL {
        for (key, value) in read.scan(table, &[], None, Order::Ascending, usize::MAX)? {
            rows.insert((table, key), value);
        }
    }
    Ok(rows)
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(START))
}

fn wallet(disk: &Disk, clock: &Arc<ManualClock>) -> Result<Wallet, WalletError> {
    world::open(disk.storage(), clock, key(1))
}

// ---- what is done ----

/// Purchases of the main agent from party 2: idempotency key, most, used.
const PURCHASES: [(&str, u32, u32); 3] = [("one", 50, 30), ("two", 20, 20), ("three", 70, 1)];
const FUNDS: u32 = 5_000;

fn intent(name: &str) -> IntentKey {
    IntentKey::new(main_agent(), name)
}

/// Buys `name` once, from wherever an earlier try stopped, telling of every answer.
async fn buy(
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
async fn workload(
    wallet: &Wallet,
    clock: &ManualClock,
    mut told: impl FnMut(),
) -> Result<(), WalletError> {
    fund(wallet, FUNDS, &mut told).await?;
    let sale = Trade::new(genesis().id(), &key(1), &key(2), (9, 9));
    wallet.reserve(&sale.quote).await?;
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
        };
        let hold = wallet.hold(request).await?;
        told();
        if ends {
            hold.void().await?;
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

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// The record of one whole run.
fn record() -> Vec<Step> {
    let (disk, clock) = (Disk::default(), clock());
    block_on(async {
        let wallet = wallet(&disk, &clock).unwrap();
        let mut commands = 0;
        disk.answered(commands);
        let told = || {
            commands += 1;
            disk.answered(commands);
        };
        workload(&wallet, &clock, told).await.unwrap();
        sound(&wallet);
        wallet.close().await;
    });
    std::mem::take(&mut disk.state().steps)
}

/// Finishes what a crashed node had begun, and checks that nothing was paid twice.
fn carry_on(bytes: Vec<u8>) {
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

#[test]
fn after_a_crash_at_any_write_every_answered_command_is_there_and_no_half_of_any() {
    let steps = record();
    // What the books say after each answer, read from a disk on which nothing was lost.
    let mut after: Vec<Dump> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        if matches!(step, Step::Answered(_)) {
            let bytes = all(&steps[..at]);
            after.push(dump(Disk::holding(bytes.clone()).storage()).unwrap());
            carry_on(bytes);
        }
    }
    assert!(after.len() >= 30, "{} commands", after.len());
    let mut dice = Dice(20_260_131);
    let (mut opened, mut ahead) = (0_usize, 0_usize);
    for at in 0..=steps.len() {
        let done = &steps[..at];
        let answered = done.iter().rev().find_map(|step| match step {
            Step::Answered(n) => Some(*n),
            _ => None,
        });
        for disk in [all(done), some(done, &mut dice)] {
            let found = match dump(Disk::holding(disk).storage()) {
                Ok(found) => found,
                // A file is moved into place whole; a backend is made in place, and until that
                // was synced there is no wallet to be half of.
                Err(_) if answered.is_none() => continue,
                Err(error) => panic!("after {at} of {} steps: {error}", steps.len()),
            };
            opened += 1;
            let Some(answered) = answered else {
                assert!(found.is_empty(), "the wallet was not open yet");
                continue;
            };
            // The next command may be there already, whole: its answer was on its way.
            let next = after.get(answered + 1);
            ahead += usize::from(next == Some(&found) && next != after.get(answered));
            assert!(
                found == after[answered] || Some(&found) == next,
                "after {at} steps and {answered} answers the books are neither before nor after a command"
            );
        }
    }
    println!(
        "{opened} disks of {} steps, {ahead} of them a command ahead",
        steps.len()
    );
    assert!(ahead > 0);
}

/// Opens, buys and says what went wrong, with the wallet when it was opened, and how much of the
/// record the last answer stands for.
async fn until_it_fails(
    disk: &Disk,
    (fault, left, funded): (Fault, usize, bool),
) -> (Result<(), WalletError>, Option<Wallet>, usize) {
    let (clock, mut answered) = (clock(), 0);
    let arm = || disk.state().fault = Some((fault, left));
    if !funded {
        arm();
    }
    let wallet = match wallet(disk, &clock) {
        Ok(wallet) => wallet,
        Err(error) => return (Err(error), None, answered),
    };
    if funded {
        fund(&wallet, FUNDS, || ()).await.unwrap();
        arm();
    } else if let Err(error) = wallet.found(genesis()).await {
        return (Err(error), Some(wallet), answered);
    }
    if funded {
        for (nonce, purchase) in (0..).zip(PURCHASES) {
            let told = || answered = disk.state().steps.len();
            if let Err(error) = buy(&wallet, (nonce, purchase), told).await {
                return (Err(error), Some(wallet), answered);
            }
        }
    }
    (Ok(()), Some(wallet), answered)
}

/// A command fails, later ones say why, and what is on the disk is whole.
fn fails_cleanly(fault: Fault, left: usize, funded: bool) -> bool {
    let disk = Disk::default();
    let (outcome, wallet, answered) = block_on(until_it_fails(&disk, (fault, left, funded)));
    let failed = match outcome {
        Ok(()) => false,
        Err(WalletError::Store(StoreError::Io(_))) => true,
        Err(other) => panic!("{fault:?} after {left}: {other:?}"),
    };
    block_on(async {
        let Some(wallet) = wallet else { return };
        if failed {
            // Reading goes on, writing does not, and says why.
            wallet.frozen().unwrap();
            for _ in 0..2 {
                let later = wallet.freeze("late".into()).await;
                let failed = matches!(later, Err(WalletError::Store(StoreError::Failed(_))));
                assert!(failed, "{fault:?} after {left}: {later:?}");
            }
        }
        wallet.close().await;
    });
    let steps = disk.state().steps.clone();
    if !funded {
        // Nothing was answered but perhaps the opening: what is there opens, or was never a wallet.
        return failed;
    }
    let synced = steps.iter().rposition(|s| matches!(s, Step::Sync)).unwrap();
    let before = dump(Disk::holding(all(&steps[..answered])).storage()).unwrap();
    for bytes in [all(&steps[..=synced]), all(&steps)] {
        let found = dump(Disk::holding(bytes.clone()).storage())
            .unwrap_or_else(|error| panic!("{fault:?} after {left}: {error}"));
        // Rows are only added by these commands, open holds and the outbox aside.
        let kept = [
            Table::Log,
            Table::Transfers,
            Table::Holds,
            Table::Receipts,
            Table::Intents,
        ];
        for (key, _) in before.iter().filter(|((table, _), _)| kept.contains(table)) {
            assert!(
                found.contains_key(key),
                "{fault:?} after {left}: an answered row is gone"
            );
        }
        carry_on(bytes);
    }
    failed
}

#[test]
fn a_full_or_failing_disk_fails_the_command_and_everything_after_it_until_reopened() {
    for fault in [Fault::Full, Fault::Sync] {
        let step = if fault == Fault::Full { 7 } else { 2 };
        let opening = (0..12)
            .filter(|left| fails_cleanly(fault, *left, false))
            .count();
        let buying = (0..)
            .step_by(step)
            .take_while(|left| fails_cleanly(fault, *left, true));
        let buying = buying.count();
        println!("{fault:?}: failed {opening} times while opening, {buying} while buying");
        assert!(opening > 3 && buying > 10);
    }
}

// ---- damaged and foreign files ----

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
        .insert("version", 2)
        .unwrap();
    write.commit().unwrap();
    drop(database);
    let bytes = std::fs::read(&path).unwrap();
    let outcome = dump(Storage::File(path.clone())).map(|rows| rows.len());
    assert!(
        matches!(&outcome, Err(StoreError::Foreign(what)) if what.contains('2')),
        "{outcome:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_truncated_file_is_refused_and_left_as_it_is() {
    let whole = all(&record());
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
    let steps = record();
    let end = steps
        .iter()
        .rposition(|s| matches!(s, Step::Answered(_)))
        .unwrap();
    let closed = flipped(&all(&steps), 1_500);
    let crashed = flipped(&all(&steps[..end]), 500);
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
    let (mut refused, mut same, mut wrong) = (0_usize, 0_usize, Vec::new());
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
            Err(other) => panic!("bit {bit}: {other}"),
        }
    }
    println!(
        "{refused} refused, {same} harmless, {} silently different",
        wrong.len()
    );
    assert!(refused > 300 && same > 0);
    wrong
}
