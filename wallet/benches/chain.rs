//! What the public chain costs: entries signed and verified a second beside bare signature checks in the
//! same run, inclusion proofs over a million entries, and bytes on disk for a settled trade.
//!
//! `cargo bench -p tirami-wallet --bench chain`, or `make bench-chain`. Figures of two machines do not
//! compare; the ratios travel.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on should stop, and says what it measured"
)]

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use tirami_manifest::chain::{Chain, Entry, Step, Trade as Half, after};
use tirami_manifest::commerce::Consent;
use tirami_manifest::key::{Keyring, Signature};
use tirami_manifest::merkle::{self, Frontier, Hash, Inclusion, Nodes};
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::time::ManualClock;
use tirami_manifest::{NodeId, TransferId};
use tirami_wallet::intent::{Intent, IntentKey};
use tirami_wallet::store::Storage;
use tirami_wallet::token::main_agent;
use tirami_wallet::{HoldRequest, Wallet};

#[path = "../tests/world/mod.rs"]
#[expect(dead_code, reason = "not all of the world is measured")]
mod world;
use world::{START, Trade, WORK, fund, genesis, key, open};

/// Entries of the chain that is verified.
const ENTRIES: u64 = 100_000;
/// Leaves of the tree whose proofs are made.
const LEAVES: u64 = 1_000_000;
/// Proofs that are made.
const PROOFS: u64 = 10_000;
/// Trades that are settled.
const TRADES: u32 = 10_000;
/// Of a tree, every so many levels are kept, as the wallet does.
const LEVELS: u8 = 4;

fn main() {
    let rounds = std::env::args().find_map(|word| word.parse().ok());
    let entries = rounds.unwrap_or(ENTRIES);
    verifying(entries);
    proving();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(storing());
}

/// A provider's chain.
fn written(entries: u64) -> Vec<Vec<u8>> {
    let network = genesis();
    let trade = Trade::new(network.id(), &key(1), &key(2), (1, 1));
    let model = trade.receipt(TransferId::from_bytes([1; 16]), 1);
    let mut log = Frontier::default();
    let (mut prev, mut spendable) = (*network.id().as_bytes(), model.agreement.amount);
    let mut chain = Vec::new();
    let started = Instant::now();
    for seq in 1..=entries {
        let step = if seq == 1 {
            spendable = spendable.saturating_sub(spendable);
            Step::Genesis {
                successor: [0; 32],
                predecessor: None,
            }
        } else {
            let mut agreement = model.agreement.clone();
            // Of another job each time: one job has one agreement.
            let mut hold = [1; 16];
            hold[..8].copy_from_slice(&seq.to_le_bytes());
            agreement.hold = TransferId::from_bytes(hold);
            spendable = spendable.checked_add(agreement.amount).unwrap();
            Step::Trade(Box::new(Half {
                payer: agreement.consumer,
                provider_signature: agreement.sign(&key(1)),
                consent: Consent::Signature(agreement.sign(&key(2))),
                agreement,
            }))
        };
        let entry = Entry {
            network: network.id(),
            author: key(1).id(),
            seq,
            prev,
            hlc: after(0, START.after_ms(seq)),
            spendable,
            held: spendable.saturating_sub(spendable),
            staked: spendable.saturating_sub(spendable),
            log_root: log.root(),
            waits: false,
            step,
        };
        prev = *entry.id().as_bytes();
        log.push(merkle::leaf(&prev), |_, _, _| ());
        chain.push(Signed::new(entry, &key(1)).to_bytes());
    }
    let took = started.elapsed();
    println!(
        "written: {:.0} entries a second, both signatures of each agreement included",
        entries as f64 / took.as_secs_f64()
    );
    chain
}

/// How fast it is read.
fn verifying(entries: u64) {
    let chain = written(entries);
    // The same signatures, bare: three for each trade, by cached keys; before and after.
    let checks = signatures(&chain);
    let half = checks.len() / 2;
    let ring = Keyring::default();
    let bare = |checks: &[Check]| {
        let started = Instant::now();
        for (signer, digest, signature) in checks {
            assert!(ring.signed(signer, digest, signature));
        }
        started.elapsed().as_secs_f64()
    };
    let before = bare(&checks[..half]);
    let started = Instant::now();
    let mut read = Chain::new(genesis(), key(1).id());
    for entry in &chain {
        read.append_bytes(entry).unwrap();
    }
    let verified = entries as f64 / started.elapsed().as_secs_f64();
    assert_eq!(read.seq(), entries);
    let bare = checks.len() as f64 / (before + bare(&checks[half..]));
    let ratio = verified * (checks.len() as f64 / entries as f64) / bare;
    println!(
        "verified: {verified:.0} entries a second of a chain of {entries}; bare verify_strict {bare:.0} a \
         second; ratio {ratio:.3} (target 0.85{})",
        if ratio < 0.85 { ", MISSED" } else { "" }
    );
}

/// Who signed which digest.
type Check = (NodeId, [u8; 32], Signature);

fn signatures(chain: &[Vec<u8>]) -> Vec<Check> {
    let mut checks = Vec::new();
    for bytes in chain {
        let signed = Signed::<Entry>::from_bytes(bytes).unwrap();
        if let Step::Trade(half) = &signed.body.step {
            let id = half.agreement.digest();
            checks.push((key(1).id(), id, half.provider_signature));
            let (promised, consent) = half.consent.signed(&half.agreement).unwrap();
            checks.push((key(2).id(), promised, consent));
        }
        checks.push((key(1).id(), signed.body.digest(), signed.signature));
    }
    checks
}

struct Kept(HashMap<(u8, u64), Hash>);

impl Nodes for Kept {
    type Error = Infallible;

    fn full(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        if level.is_multiple_of(LEVELS) {
            return Ok(self.0[&(level, index)]);
        }
        Ok(merkle::node(
            &self.full(level - 1, index * 2)?,
            &self.full(level - 1, index * 2 + 1)?,
        ))
    }
}

fn proving() {
    let mut kept = Kept(HashMap::new());
    let mut tree = Frontier::default();
    for n in 0..LEAVES {
        tree.push(merkle::leaf(&n.to_le_bytes()), |level, index, hash| {
            if level.is_multiple_of(LEVELS) {
                kept.0.insert((level, index), *hash);
            }
        });
    }
    let (mut longest, root) = (0, tree.root());
    let started = Instant::now();
    let mut slowest = 0.0_f64;
    for n in 0..PROOFS {
        let index = n * (LEAVES / PROOFS);
        let one = Instant::now();
        let proof = Inclusion::new(&kept, index, LEAVES).unwrap().unwrap();
        slowest = slowest.max(one.elapsed().as_secs_f64());
        longest = longest.max(proof.path.len());
        black_box(&proof);
        assert_eq!(proof.root(&merkle::leaf(&index.to_le_bytes())), Some(root));
    }
    let each = started.elapsed().as_secs_f64() / PROOFS as f64;
    let missed = |missed| if missed { ", MISSED" } else { "" };
    println!(
        "inclusion proofs over {LEAVES} entries: {:.3} ms each, checked too (target 1{}); the slowest of \
         {PROOFS} {:.3} ms (target 1{}); {longest} hashes (target 20{})",
        each * 1e3,
        missed(each > 1e-3),
        slowest * 1e3,
        missed(slowest > 1e-3),
        missed(longest > 20)
    );
}

/// A buyer's wallet that settles trades, and how its file grows.
async fn storing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.redb");
    let clock = Arc::new(ManualClock::at(START));
    let wallet = open(Storage::File(path.clone()), &clock, key(1)).unwrap();
    fund(&wallet, 90_000, || ()).await.unwrap();
    settle(&wallet, &clock, 0, TRADES / 10).await;
    let before = used(&wallet, folder.path(), 1).await;
    settle(&wallet, &clock, TRADES / 10, TRADES).await;
    let after = used(&wallet, folder.path(), 2).await;
    let each = (after - before) as f64 / f64::from(TRADES - TRADES / 10);
    println!(
        "on disk: {each:.0} bytes for a settled trade, its intent and answer included (aim 400{})",
        if each > 400.0 { ", MISSED" } else { "" }
    );
    wallet.close().await;
    let (before, after) = (by_table(folder.path(), 1), by_table(folder.path(), 2));
    let trades = f64::from(TRADES - TRADES / 10);
    let mut parts: Vec<_> = after
        .iter()
        .map(|(table, (rows, room))| {
            let (rows_then, room_then) = before.get(table).copied().unwrap_or_default();
            let grown = |now: &u64, then: u64| (*now as f64 - then as f64) / trades;
            (table, grown(rows, rows_then), grown(room, room_then))
        })
        .filter(|(_, rows, room)| rows + room >= 1.0)
        .collect();
    parts.sort_by(|one, other| (other.1 + other.2).total_cmp(&(one.1 + one.2)));
    for (table, rows, room) in parts {
        println!("  {table}: {rows:.0} bytes of rows, {room:.0} of the tree and free in its pages");
    }
}

/// By table: bytes of its rows, and of the tree that holds them with what is free in its pages.
fn by_table(folder: &std::path::Path, n: u8) -> BTreeMap<String, (u64, u64)> {
    use redb::{ReadOnlyDatabase, ReadableDatabase, TableHandle};
    let copy = ReadOnlyDatabase::open(folder.join(format!("copy-{n}.redb"))).unwrap();
    let read = copy.begin_read().unwrap();
    let tables = read.list_tables().unwrap();
    tables
        .map(|table| {
            let name = table.name().to_owned();
            let stats = read.open_untyped_table(table).unwrap();
            let stats = redb::ReadableTableMetadata::stats(&stats).unwrap();
            let room = stats.metadata_bytes() + stats.fragmented_bytes();
            (name, (stats.stored_bytes(), room))
        })
        .collect()
}

async fn settle(wallet: &Wallet, clock: &ManualClock, from: u32, to: u32) {
    let network = genesis().id();
    for n in from..to {
        clock.advance_ms(60_000);
        // Another quote each time: of another maximum, or with another nonce.
        let (max, nonce) = (1 + n / 250, u8::try_from(n % 250).unwrap());
        let trade = Trade::new(network, &key(2), &key(1), (max, nonce));
        let intent = IntentKey::new(main_agent(), &format!("trade {n}"));
        let mut body = [0; 32];
        body[..4].copy_from_slice(&n.to_le_bytes());
        let Intent::Attempt(attempt) = wallet.begin(intent, body).await.unwrap() else {
            continue;
        };
        let request = HoldRequest {
            attempt,
            amount: world::trm(max.into()),
            quote: trade.quote.id(),
            work: WORK,
            under: None,
        };
        let hold = wallet.hold(request).await.unwrap();
        let receipt = trade.receipt(hold.id(), 1);
        hold.settle(receipt, b"an answer".to_vec())
            .await
            .map_err(|(_, error)| error)
            .unwrap();
    }
}

/// Bytes of the wallet as a backup has them, without room to grow.
async fn used(wallet: &Wallet, folder: &std::path::Path, n: u8) -> u64 {
    wallet.sweep().await.unwrap();
    let copy = folder.join(format!("copy-{n}.redb"));
    wallet.backup(&copy).unwrap();
    std::fs::metadata(&copy).unwrap().len()
}
