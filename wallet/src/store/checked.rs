//! What redb is given: a backend that lets no damaged page through, and tells why it failed.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

use super::StoreError;
use super::pages::{Expected, Geometry, PAGE, check, is_header, newest, roots, written};
use super::staged::Staged;

/// What became of a wallet's file; shared by everything that reads or writes it.
#[derive(Debug)]
pub(super) struct Health {
    name: String,
    /// The first thing that went wrong; a disk that was full may be forgotten.
    fault: Mutex<Option<StoreError>>,
    /// How often the header came to call its other slot the newest: what a commit does, last.
    turns: AtomicU64,
}

impl Health {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            fault: Mutex::new(None),
            turns: AtomicU64::new(0),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fault(&self) -> Option<StoreError> {
        self.lock().clone()
    }

    /// The reason behind an error that redb reports.
    pub(super) fn explain(&self, error: impl std::fmt::Display) -> StoreError {
        self.fault().unwrap_or_else(|| StoreError::io(error))
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    /// Forgets a disk that was full; every other fault stays.
    pub(super) fn forget_full(&self) {
        self.lock()
            .take_if(|fault| matches!(fault, StoreError::Full));
    }

    pub(super) fn failed(&self, fault: StoreError) {
        self.lock().get_or_insert(fault);
    }

    fn damaged(&self, offset: u64) -> io::Error {
        let what = format!("{}: the page at byte {offset}", self.name);
        tracing::error!(what, "the wallet file is damaged");
        let fault = StoreError::Damaged(what);
        let error = io::Error::new(io::ErrorKind::InvalidData, fault.to_string());
        self.failed(fault);
        error
    }

    /// A failed sync, a write that failed for another reason than room, and damage end everything.
    fn refuse(&self) -> io::Result<()> {
        match &*self.lock() {
            None => Ok(()),
            Some(fault) => Err(io::Error::other(fault.to_string())),
        }
    }
}

/// Whether a failed write only found no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[derive(Clone, Copy, Debug)]
enum Page {
    /// A sound page says what it is.
    Pointed(Expected),
    /// This process wrote it.
    Written { len: usize, sum: u128 },
}

#[derive(Debug, Default)]
struct Known {
    geometry: Geometry,
    newest: Option<u8>,
    /// By where they start. Whoever reaches a page has read or written what points to it, so a page
    /// that is not here is reachable only through damage.
    pages: BTreeMap<u64, Page>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Checked {
    staged: Arc<Staged>,
    known: Mutex<Known>,
    health: Arc<Health>,
    /// The file is locked already, by an earlier database over the same backend.
    locked: bool,
}

impl Checked {
    pub(super) fn new(staged: Arc<Staged>, health: Arc<Health>, locked: bool) -> Self {
        Self {
            staged,
            known: Mutex::new(Known::default()),
            health,
            locked,
        }
    }

    pub(super) fn is_empty(&self) -> io::Result<bool> {
        self.staged.len().map(|len| len == 0)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, offset: u64, data: &[u8]) {
        let mut known = self.known();
        if offset >= PAGE {
            let page = Page::Written {
                len: data.len(),
                sum: written(data),
            };
            known.pages.insert(offset, page);
        } else if is_header(offset, data.len()) {
            let now = newest(data);
            if known.newest.is_some() && known.newest != now {
                self.health.turns.fetch_add(1, Ordering::SeqCst);
            }
            known.newest = now;
        }
    }

    /// Whether what was read is what was written.
    fn verify(&self, offset: u64, out: &[u8]) -> io::Result<()> {
        if offset < PAGE {
            // redb checks the header itself, slot by slot.
            if is_header(offset, out.len())
                && let Some((geometry, roots)) = roots(out)
            {
                let mut known = self.known();
                known.geometry = geometry;
                known.newest = newest(out);
                let roots = roots.into_iter();
                known
                    .pages
                    .extend(roots.map(|(at, page)| (at, Page::Pointed(page))));
            }
            return Ok(());
        }
        let (page, geometry) = {
            let known = self.known();
            (known.pages.get(&offset).copied(), known.geometry)
        };
        match page {
            Some(Page::Written { len, sum }) if len == out.len() && sum == written(out) => Ok(()),
            Some(Page::Pointed(expected)) => {
                let below =
                    check(out, expected, geometry).map_err(|_| self.health.damaged(offset))?;
                let below = below
                    .into_iter()
                    .map(|(at, page)| (at, Page::Pointed(page)));
                self.known().pages.extend(below);
                Ok(())
            }
            Some(Page::Written { .. }) | None => Err(self.health.damaged(offset)),
        }
    }

    fn note<T>(&self, done: io::Result<T>, lasting: bool) -> io::Result<T> {
        if let Err(error) = &done {
            self.health.failed(if is_full(error) && !lasting {
                StoreError::Full
            } else {
                StoreError::io(error)
            });
        }
        done
    }
}

impl StorageBackend for Checked {
    fn len(&self) -> io::Result<u64> {
        self.staged.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.note(self.staged.read(offset, out), true)?;
        self.verify(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.health.refuse()?;
        self.note(self.staged.set_len(len), false)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.health.refuse()?;
        self.note(self.staged.sync_data(), true)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.health.refuse()?;
        self.remember(offset, data);
        self.note(self.staged.write(offset, data), false)
    }

    // The file is closed, and its locks released, by whoever opened it: a database may be opened
    // anew over the same file, with nobody in between.
    fn close(&self) -> io::Result<()> {
        Ok(())
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if self.locked {
            return Ok(true);
        }
        self.staged.beneath().try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        if self.locked {
            return Ok(true);
        }
        self.staged.beneath().try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if self.locked {
            return Ok(());
        }
        self.staged.beneath().lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if self.locked {
            return Ok(());
        }
        self.staged.beneath().lock_shared_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.staged.beneath().query_lock_range(start, end)
    }
}
