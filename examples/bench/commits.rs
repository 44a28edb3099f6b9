//! Commits: those of a node's wallet, counted where redb flushes, and what redb alone takes for one.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use redb::backends::FileBackend;
use redb::{BackendError, Builder, Database, Durability, StorageBackend, TableDefinition};
use tokio::time::Instant;

const ROWS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("rows");

/// Flushes of a commit that lets a file open fast after a crash, as the wallet's do.
const FLUSHES: f64 = 2.0;

/// Bytes of a row: about what the smallest step of a trade writes.
const ROW: [u8; 200] = [7; 200];

/// Flushes of one file so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flushes(Arc<AtomicU32>);

impl Flushes {
    /// Commits so far.
    pub(crate) fn commits(&self) -> f64 {
        f64::from(self.0.load(Ordering::Relaxed)) / FLUSHES
    }
}

/// A file whose flushes are counted.
#[derive(Debug)]
pub(crate) struct Counted {
    file: FileBackend,
    flushes: Flushes,
}

impl Counted {
    /// Makes the file.
    pub(crate) fn new(path: &Path, flushes: Flushes) -> Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        let file = FileBackend::new(file)?;
        Ok(Self { file, flushes })
    }
}

impl StorageBackend for Counted {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.flushes.0.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

/// redb without a wallet.
#[derive(Debug)]
pub(crate) struct Bare {
    database: Database,
    next: u64,
}

impl Bare {
    pub(crate) fn new(path: &Path) -> Result<Self> {
        Ok(Self {
            database: Builder::new().create(path)?,
            next: 0,
        })
    }

    /// Milliseconds of one commit with one row, as durable as the wallet's.
    pub(crate) fn commit(&mut self) -> Result<f64> {
        let start = Instant::now();
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.set_quick_repair(true);
        write.open_table(ROWS)?.insert(self.next, ROW.as_slice())?;
        write.commit()?;
        self.next += 1;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
}
