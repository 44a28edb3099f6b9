//! Opening a wallet file: create, accept, bring up to date, or refuse and leave it alone.

use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::StoreError;
use super::checked::{Checked, Health, is_full};
use super::migrate::{STEPS, Step, prepare};
use super::redb_tables::{ReadTransaction, WriteTransaction};
use super::staged::{Image, Staged};
use crate::keystore::{KeyError, write_new};

/// Memory redb may use for caching by default, in bytes: 16 MiB. Its own default of 1 GiB is far
/// beyond what a node's ledger needs; chosen so that an idle node stays small.
pub const CACHE_BYTES: usize = 16 * 1_024 * 1_024;

/// Where the bytes go: a file, or for tests anything redb can write to.
pub enum Storage {
    /// A file, created when missing.
    File(PathBuf),
    /// A backend that a test controls.
    Backend(Box<dyn StorageBackend>),
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Backend(_) => f.write_str("Backend(..)"),
        }
    }
}

/// How a file is opened.
#[derive(Clone, Copy)]
pub(super) struct Opening {
    pub(super) cache_bytes: usize,
    pub(super) steps: &'static [Step],
    /// Reads every page and accounts for every free one, which takes time in proportion to the file.
    pub(super) complete: bool,
}

impl Opening {
    pub(super) const fn new(cache_bytes: usize) -> Self {
        Self {
            cache_bytes,
            steps: STEPS,
            complete: false,
        }
    }
}

/// An open wallet file. Every clone is the same one; the last to go releases it.
#[derive(Clone)]
pub struct Opened(Arc<Shared>);

struct Shared {
    /// Absent only while it is opened anew and while it is released. No await happens inside.
    database: RwLock<Option<Database>>,
    staged: Mutex<Arc<Staged>>,
    beneath: Arc<dyn StorageBackend>,
    health: Arc<Health>,
    opening: Opening,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let database = self.database.get_mut();
        *database.unwrap_or_else(PoisonError::into_inner) = None;
        if let Err(error) = self.beneath.close() {
            tracing::warn!(%error, "the wallet file was not closed in order");
        }
    }
}

impl Opened {
    /// Begins to read what is committed now.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn read(&self) -> Result<ReadTransaction, StoreError> {
        let database = self.database();
        let database = database.as_ref().ok_or(StoreError::Closed)?;
        ReadTransaction::begin(database, &self.0.health)
    }

    /// Begins the one write transaction, waiting for another to end. A wallet's writer is the only
    /// one who does; this is public so that the conformance suite can.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn write(&self) -> Result<WriteTransaction, StoreError> {
        let database = self.database();
        let database = database.as_ref().ok_or(StoreError::Closed)?;
        WriteTransaction::begin(database, &self.0.health)
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        let database = &self.0.database;
        database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went wrong with the file, if something did.
    pub(super) fn fault(&self) -> Option<StoreError> {
        self.0.health.fault()
    }

    #[cfg(test)]
    pub(super) fn fails(&self, fault: StoreError) {
        self.0.health.failed(fault);
    }

    /// How many commits reached the point of no return; compared with itself.
    pub(super) fn turns(&self) -> u64 {
        self.0.health.turns()
    }

    /// Begins anew from what the file holds, after a write found no room. What was being written is
    /// forgotten; reads go on from memory where something must still be written first.
    pub(super) fn again(&self) -> Result<(), StoreError> {
        let shared = &self.0;
        let mut database = shared.database.write();
        let database = database.as_deref_mut();
        let Ok(database) = database else {
            return Err(StoreError::Failed("a thread died while it read".into()));
        };
        *database = None;
        shared.health.forget_full();
        let (opened, staged) = stage(&shared.beneath, &shared.health, &shared.opening, true)?;
        *shared.staged.lock().unwrap_or_else(PoisonError::into_inner) = staged;
        *database = Some(opened);
        Ok(())
    }

    /// Whether what comes next may go on; writes what waits since the file was opened on a full
    /// disk.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] while there is no room, which may be tried again; any other fault that
    /// is known.
    pub(super) fn catch_up(&self) -> Result<(), StoreError> {
        let fault = self.fault();
        if let Some(fault) = fault.filter(|fault| !matches!(fault, StoreError::Full)) {
            return Err(fault);
        }
        let staged = self.0.staged.lock().unwrap_or_else(PoisonError::into_inner);
        staged.accept().map_err(|error| {
            if is_full(&error) {
                StoreError::Full
            } else {
                StoreError::io(error)
            }
        })
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened(..)")
    }
}

/// Opens or creates the wallet, and brings an older one up to date.
///
/// This takes the same short time for a file of any size, also after a crash. Each page is checked
/// when it is read, here and for as long as the wallet is open, so that nothing acts upon a damaged
/// one; see `docs/adr/0006-opening-a-large-wallet.md`.
///
/// # Errors
///
/// [`StoreError::InUse`] when another process has it, [`StoreError::Foreign`] when the file is
/// something else, newer than this build or found damaged (it is left as it is), [`StoreError::Io`]
/// otherwise.
pub fn open(storage: Storage) -> Result<Opened, StoreError> {
    open_with(storage, Opening::new(CACHE_BYTES))
}

/// [`open`] with a cache of that many bytes.
pub(crate) fn open_cached(storage: Storage, cache_bytes: usize) -> Result<Opened, StoreError> {
    open_with(storage, Opening::new(cache_bytes))
}

pub(super) fn open_with(storage: Storage, opening: Opening) -> Result<Opened, StoreError> {
    let (beneath, name): (Arc<dyn StorageBackend>, _) = match storage {
        Storage::File(path) => {
            let name = path.display().to_string();
            if !path.try_exists().map_err(|e| io(&name, &e))? {
                create(&path)?;
            }
            (Arc::new(file(&path)?), name)
        }
        Storage::Backend(backend) => (Arc::from(backend), "the wallet".to_owned()),
    };
    let health = Arc::new(Health::new(&name));
    let (database, staged) = stage(&beneath, &health, &opening, false)?;
    staged.accept().map_err(|e| io(&name, &e))?;
    Ok(Opened(Arc::new(Shared {
        database: RwLock::new(Some(database)),
        staged: Mutex::new(staged),
        beneath,
        health,
        opening,
    })))
}

/// A file as redb reads and writes one.
pub(super) fn file(path: &Path) -> Result<FileBackend, StoreError> {
    let name = path.display().to_string();
    refuse_foreign(path)?;
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(|e| io(&name, &e))?;
    FileBackend::new(file).map_err(|e| opening_failed(&e, &name))
}

/// Opens a file and writes nothing to it, whatever it takes: what would be written stays in memory.
pub(super) fn view(path: &Path, opening: Opening) -> Result<Opened, StoreError> {
    let beneath: Arc<dyn StorageBackend> = Arc::new(file(path)?);
    let health = Arc::new(Health::new(&path.display().to_string()));
    let (database, staged) = stage(&beneath, &health, &opening, false)?;
    Ok(Opened(Arc::new(Shared {
        database: RwLock::new(Some(database)),
        staged: Mutex::new(staged),
        beneath,
        health,
        opening,
    })))
}

/// Opens the database on a stage and brings it up to date there.
fn stage(
    beneath: &Arc<dyn StorageBackend>,
    health: &Arc<Health>,
    opening: &Opening,
    locked: bool,
) -> Result<(Database, Arc<Staged>), StoreError> {
    let name = health.name();
    let staged = Staged::new(beneath.clone()).map_err(|e| io(name, &e))?;
    let checked = Checked::new(staged.clone(), health.clone(), locked);
    // redb asserts some of what it reads; a damaged file must end in an answer, and everything the
    // panic leaves behind is dropped with the backend.
    let database = catch_unwind(AssertUnwindSafe(|| sound(checked, health, opening)))
        .map_err(|_| damaged(name, "it contradicts itself"))?;
    // Whatever redb makes of it, a damaged page is what was wrong.
    let database = match health.fault() {
        Some(StoreError::Damaged(page)) => {
            return Err(damaged(&page, "it is not what was written"));
        }
        _ => database?,
    };
    Ok((database, staged))
}

fn sound(
    checked: Checked,
    health: &Arc<Health>,
    opening: &Opening,
) -> Result<Database, StoreError> {
    let name = health.name();
    let fresh = checked.is_empty().map_err(|e| io(name, &e))?;
    let mut builder = Builder::new();
    builder.set_cache_size(opening.cache_bytes);
    let mut database = builder
        .create_with_backend(checked)
        .map_err(|e| opening_failed(&e, name))?;
    if opening.complete && !fresh {
        match database.check_integrity() {
            Ok(true) => {}
            Ok(false) => return Err(damaged(name, "its pages are not accounted for")),
            Err(error) => return Err(opening_failed(&error, name)),
        }
    }
    prepare(&database, health, opening.steps)?;
    Ok(database)
}

fn damaged(name: &str, what: &str) -> StoreError {
    StoreError::Foreign(format!("{name} is damaged ({what})"))
}

fn io(name: &str, error: &dyn fmt::Display) -> StoreError {
    StoreError::Io(format!("{name}: {error}"))
}

/// Makes an empty wallet beside `path` and moves it there whole, readable by its user alone: a crash
/// in between leaves no half of one, and two processes that start at once make one.
fn create(path: &Path) -> Result<(), StoreError> {
    let image = Image::default();
    drop(open(Storage::Backend(Box::new(image.clone())))?);
    let bytes = image.0.lock().unwrap_or_else(PoisonError::into_inner);
    match write_new(path, &bytes) {
        Ok(()) | Err(KeyError::Exists { .. }) => Ok(()),
        Err(error) => Err(StoreError::io(error)),
    }
}

/// Anything that is not redb's is refused here, before redb sees it. So is an empty file: redb would
/// make a new database out of it, but a wallet is never empty, so something else emptied it.
fn refuse_foreign(path: &Path) -> Result<(), StoreError> {
    use std::io::Read;
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return Err(io(&path.display().to_string(), &error)),
    };
    let mut magic = [0; 4];
    match file.read(&mut magic) {
        Ok(4) if &magic == b"redb" => Ok(()),
        Ok(_) => Err(StoreError::Foreign(format!(
            "{} is not a wallet file",
            path.display()
        ))),
        Err(error) => Err(io(&path.display().to_string(), &error)),
    }
}

fn opening_failed(error: &DatabaseError, path: &str) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse,
        DatabaseError::Storage(redb::StorageError::Corrupted(what)) => damaged(path, what),
        DatabaseError::Storage(redb::StorageError::Io(io))
            if io.kind() == std::io::ErrorKind::InvalidData =>
        {
            StoreError::Foreign(format!("{path} is damaged or not a wallet file ({io})"))
        }
        DatabaseError::UpgradeRequired(version) => {
            StoreError::Foreign(format!("{path} has the older file format {version}"))
        }
        other => StoreError::Io(format!("{path}: {other}")),
    }
}
