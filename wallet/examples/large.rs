//! Makes a wallet file as large as years of use make it, and measures opening and committing.
//!
//! `cargo run --release -p tirami-wallet --example large -- make FILE 1000000`, then
//! `-- open FILE` or `-- commit FILE 2000`. `crash FILE` ends without closing.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement stops when something is wrong"
)]

use std::path::PathBuf;

use tirami_wallet::ledger::tables::{ReadTables, Table, Tables};
use tirami_wallet::store::{Opened, Storage, open};

/// Transfers in one commit.
const BATCH: u64 = 50_000;

/// `SplitMix64`'s step: ids as scattered as real ones.
fn scatter(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn id(n: u64) -> Vec<u8> {
    [scatter(n).to_be_bytes(), scatter(!n).to_be_bytes()].concat()
}

fn bytes(n: u64, len: usize) -> Vec<u8> {
    (0..)
        .flat_map(|word: u64| scatter(n ^ (word << 40)).to_be_bytes())
        .take(len)
        .collect()
}

/// Rows of the sizes that one purchase leaves: two transfers, a hold, an intent and a receipt.
fn purchase(write: &mut impl Tables, n: u64) {
    let (hold, post) = (2 * n, 2 * n + 1);
    for seq in [hold, post] {
        write
            .put(Table::Transfers, &id(seq), &bytes(seq, 150))
            .unwrap();
        write.put(Table::Log, &seq.to_be_bytes(), &id(seq)).unwrap();
    }
    write.put(Table::Holds, &id(hold), &bytes(n, 120)).unwrap();
    let key = [id(n % 8), id(n), id(!n)].concat();
    write.put(Table::Intents, &key, &bytes(n, 250)).unwrap();
    write
        .put(Table::Receipts, &id(post), &bytes(n, 600))
        .unwrap();
    write
        .put(Table::Accounts, &id(n % 8), &bytes(n, 40))
        .unwrap();
    write.put(Table::Meta, b"clock", &n.to_be_bytes()).unwrap();
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = tokio::time::Instant::now();
    let made = work();
    println!("{what}: {:?}", start.elapsed());
    made
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, path, rest @ ..] = args.as_slice() else {
        panic!("make FILE N, open FILE, commit FILE N, or crash FILE");
    };
    let count = rest.first().map_or(0, |n| n.parse::<u64>().unwrap());
    let opened: Opened = timed("open", || open(Storage::File(PathBuf::from(path))).unwrap());
    timed("read a row", || {
        opened
            .read()
            .unwrap()
            .get(Table::Transfers, &id(1))
            .unwrap()
    });
    match what.as_str() {
        "make" => timed("make", || {
            for start in (0..count / 2).step_by(usize::try_from(BATCH / 2).unwrap()) {
                let mut write = opened.write().unwrap();
                for n in start..(start + BATCH / 2).min(count / 2) {
                    purchase(&mut write, n);
                }
                write.commit().unwrap();
            }
        }),
        "commit" => timed("commit", || {
            for n in 0..count {
                let mut write = opened.write().unwrap();
                purchase(&mut write, (1 << 40) | n);
                write.commit().unwrap();
            }
        }),
        "crash" => {
            let mut write = opened.write().unwrap();
            purchase(&mut write, 1 << 41);
            write.commit().unwrap();
            std::process::exit(0);
        }
        _ => {}
    }
    timed("close", || drop(opened));
}
