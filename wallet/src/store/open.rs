//! Opening a wallet file: create, accept, or refuse and leave it alone.

use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageBackend, TableDefinition};

use super::StoreError;
use super::redb_tables::{ReadTransaction, WriteTransaction, definition};
use super::staged::{Handle, Image, Staged};
use crate::keystore::{KeyError, write_new};
use crate::ledger::tables::Table;

/// Memory redb may use for caching, in bytes. Its own default of 1 GiB is far beyond what a node's
/// ledger needs; chosen so that an idle node stays small.
const CACHE_BYTES: usize = 16 * 1_024 * 1_024;

/// Name and version of the file's layout, in a table of its own.
const FORMAT: TableDefinition<'static, &str, u32> = TableDefinition::new("tirami-wallet");

/// The layout this build writes.
const FORMAT_VERSION: u32 = 1;

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

/// An open wallet file.
#[derive(Clone)]
pub struct Opened(pub(crate) Arc<Database>);

impl Opened {
    /// Begins to read what is committed now.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn read(&self) -> Result<ReadTransaction, StoreError> {
        ReadTransaction::begin(&self.0)
    }

    /// Begins the one write transaction, waiting for another to end. A wallet's writer is the only
    /// one who does; this is public so that the conformance suite can.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn write(&self) -> Result<WriteTransaction, StoreError> {
        WriteTransaction::begin(&self.0)
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened(..)")
    }
}

/// Opens or creates the wallet.
///
/// Every page is read and its checksum checked before the first byte is written, which takes time
/// in proportion to the file; a damaged page found later could already have been acted upon.
///
/// # Errors
///
/// [`StoreError::InUse`] when another process has it, [`StoreError::Foreign`] when the file is
/// something else or damaged (it is left as it is), [`StoreError::Io`] otherwise.
pub fn open(storage: Storage) -> Result<Opened, StoreError> {
    let (backend, name): (Box<dyn StorageBackend>, _) = match storage {
        Storage::File(path) => {
            let name = path.display().to_string();
            if !path.try_exists().map_err(|e| io(&name, &e))? {
                create(&path)?;
            }
            refuse_foreign(&path)?;
            let file = File::options().read(true).write(true).open(&path);
            let file = file.map_err(|e| io(&name, &e))?;
            let file = FileBackend::new(file).map_err(|e| opening(&e, &name))?;
            (Box::new(file), name)
        }
        Storage::Backend(backend) => (backend, "the wallet".to_owned()),
    };
    let staged = Staged::new(backend).map_err(|e| io(&name, &e))?;
    // redb asserts some of what it reads; a damaged file must end in an answer, and everything the
    // panic leaves behind is dropped with the backend.
    let database = catch_unwind(AssertUnwindSafe(|| sound(&staged, &name)))
        .map_err(|_| StoreError::Foreign(format!("{name} is damaged (it contradicts itself)")))??;
    staged.accept().map_err(|e| io(&name, &e))?;
    Ok(Opened(Arc::new(database)))
}

/// Opens the database on the stage and reads all of it.
fn sound(staged: &Arc<Staged>, name: &str) -> Result<Database, StoreError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    let handle = Handle(staged.clone());
    let fresh = handle.len().map_err(|e| io(name, &e))? == 0;
    let mut database = builder
        .create_with_backend(handle)
        .map_err(|e| opening(&e, name))?;
    if !fresh {
        match database.check_integrity() {
            Ok(true) => {}
            Ok(false) => return Err(damaged(name, "its pages are not accounted for")),
            Err(error) => return Err(opening(&error, name)),
        }
    }
    check_format(&database)?;
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

fn opening(error: &DatabaseError, path: &str) -> StoreError {
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

fn check_format(database: &Database) -> Result<(), StoreError> {
    let read = database.begin_read().map_err(StoreError::io)?;
    let version = match read.open_table(FORMAT) {
        Ok(table) => table
            .get("version")
            .map_err(StoreError::io)?
            .map(|v| v.value()),
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => {
            return Err(StoreError::Foreign(format!(
                "the wallet is damaged ({error})"
            )));
        }
    };
    let has_tables = read.list_tables().map_err(StoreError::io)?.next().is_some();
    drop(read);
    match version {
        Some(FORMAT_VERSION) => Ok(()),
        Some(other) => Err(StoreError::Foreign(format!(
            "the wallet has format {other}, this build knows {FORMAT_VERSION}"
        ))),
        None if has_tables => Err(StoreError::Foreign("the file is another program's".into())),
        None => {
            let write = WriteTransaction::begin(database)?;
            {
                let mut table = write.raw().open_table(FORMAT).map_err(StoreError::io)?;
                table
                    .insert("version", FORMAT_VERSION)
                    .map_err(StoreError::io)?;
            }
            for (table, _) in Table::ALL {
                write
                    .raw()
                    .open_table(definition(table))
                    .map_err(StoreError::io)?;
            }
            write.commit()
        }
    }
}
