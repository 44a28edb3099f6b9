//! redb without a wallet: what the same store does for somebody who only writes rows.

use std::path::Path;

use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTableMetadata, TableDefinition,
    TableHandle, WriteTransaction,
};

use crate::meter::{Lap, Traffic, Watch, counted};

const ROWS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");
/// As many as a hold writes to.
const SEVEN: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
const SUMS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("sums");

/// The wallet's own.
const CACHE_BYTES: usize = 16 * 1_024 * 1_024;

/// Rows of the second table: balances, so to speak.
const SUM_ROWS: u64 = 1_000;

/// In which order keys come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys {
    /// Every key is larger than the one before.
    Rising,
    /// As a hash would have them.
    Scattered,
}

/// How a commit is made durable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Commit {
    /// redb's default: one flush.
    Plain,
    /// With the allocator's state, in two phases: two flushes.
    QuickRepair,
}

pub(crate) struct Raw {
    database: Database,
    traffic: Traffic,
    next: u64,
    keys: Keys,
    commit: Commit,
    value: Vec<u8>,
}

impl Raw {
    /// A new file whose rows have `bytes`, key included.
    pub(crate) fn new(path: &Path, keys: Keys, commit: Commit, bytes: usize) -> Self {
        let traffic = Traffic::default();
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(Boxed(counted(path, &traffic)))
            .expect("redb makes a database");
        Self {
            database,
            traffic,
            next: 0,
            keys,
            commit,
            value: vec![7; bytes.saturating_sub(16)],
        }
    }

    /// One row a commit.
    pub(crate) fn single(&mut self, commits: u64) -> Lap {
        let mut watch = Watch::new(&self.traffic);
        watch.start();
        for _ in 0..commits {
            self.write(1, false);
        }
        watch.stop(commits);
        watch.lap()
    }

    /// The same bytes, spread over as many tables as a hold writes to.
    pub(crate) fn spread(&mut self, commits: u64) -> Lap {
        let mut watch = Watch::new(&self.traffic);
        watch.start();
        for _ in 0..commits {
            let write = self.begin();
            let share = self.value.len() / SEVEN.len();
            for name in SEVEN {
                let rows: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(name);
                let mut table = write.open_table(rows).expect("redb opens it");
                let value = self.value.get(..share).unwrap_or_default();
                table
                    .insert(self.key().as_slice(), value)
                    .expect("redb inserts");
            }
            self.next += 1;
            write.commit().expect("redb commits");
        }
        watch.stop(commits);
        watch.lap()
    }

    /// Pairs of rows, `at_once` to a commit: one that is new and one that changes.
    pub(crate) fn batched(&mut self, commits: u64, at_once: u64) -> Lap {
        let mut watch = Watch::new(&self.traffic);
        watch.start();
        for _ in 0..commits {
            self.write(at_once, true);
        }
        watch.stop(commits * at_once);
        watch.lap()
    }

    /// Many rows, fast.
    pub(crate) fn fill(&mut self, rows: u64) {
        let mut left = rows;
        while left > 0 {
            let some = left.min(20_000);
            self.write(some, false);
            left -= some;
        }
    }

    fn begin(&self) -> WriteTransaction {
        let mut write = self.database.begin_write().expect("redb begins");
        write
            .set_durability(Durability::Immediate)
            .expect("nothing is in the way");
        write.set_quick_repair(matches!(self.commit, Commit::QuickRepair));
        write
    }

    fn write(&mut self, rows: u64, pairs: bool) {
        let write = self.begin();
        {
            let mut table = write.open_table(ROWS).expect("redb opens it");
            let mut sums = write.open_table(SUMS).expect("redb opens it");
            for _ in 0..rows {
                let key = self.key();
                table
                    .insert(key.as_slice(), self.value.as_slice())
                    .expect("redb inserts");
                if pairs {
                    let whose = mixed(self.next) % SUM_ROWS;
                    let sum = [self.next.to_be_bytes(); 4].concat();
                    sums.insert(whose.to_be_bytes().as_slice(), sum.as_slice())
                        .expect("redb inserts");
                }
                self.next += 1;
            }
        }
        write.commit().expect("redb commits");
    }

    fn key(&self) -> [u8; 16] {
        match self.keys {
            Keys::Rising => key(self.next, self.next),
            Keys::Scattered => scattered(self.next),
        }
    }
}

/// The `n`th id, as a hash would have made it.
pub(crate) fn scattered(n: u64) -> [u8; 16] {
    key(mixed(n), n)
}

fn key(high: u64, low: u64) -> [u8; 16] {
    let mut key = [0; 16];
    let (first, rest) = key.split_at_mut(8);
    first.copy_from_slice(&high.to_be_bytes());
    rest.copy_from_slice(&low.to_be_bytes());
    key
}

/// What each table of a closed file holds: rows, MiB of rows, and MiB of the pages they lie in.
pub(crate) fn tables(path: &Path) -> Vec<(String, u64, u64, u64)> {
    let database = Database::open(path).expect("redb opens it");
    let read = database.begin_read().expect("redb reads");
    let tables = read.list_tables().expect("redb lists them");
    tables
        .filter_map(|handle| {
            let name = handle.name().to_owned();
            let table = read.open_untyped_table(handle).ok()?;
            let stats = table.stats().ok()?;
            let stored = stats.stored_bytes();
            let pages = stored + stats.metadata_bytes() + stats.fragmented_bytes();
            Some((name, table.len().ok()?, stored, pages))
        })
        .collect()
}

/// A number that looks random, another for every `n` (splitmix64).
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

use boxed::Boxed;

mod boxed {
    //! redb takes a backend by value.

    use std::io;
    use std::ops::Bound;

    use redb::{BackendError, StorageBackend};

    #[derive(Debug)]
    pub(super) struct Boxed(pub(super) Box<dyn StorageBackend>);

    impl StorageBackend for Boxed {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write(offset, data)
        }
        fn close(&self) -> io::Result<()> {
            self.0.close()
        }
        fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.0.try_lock_range(start, end)
        }
        fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
            self.0.unlock_range(start, end)
        }
    }
}
