//! Opening a wallet file: create, accept, or refuse and leave it alone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageBackend, TableDefinition};

use super::StoreError;
use super::redb_tables::{WriteTransaction, definition};
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

#[derive(Debug)]
struct Boxed(Box<dyn StorageBackend>);

impl StorageBackend for Boxed {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> std::io::Result<()> {
        self.0.close()
    }
}

/// An open wallet file.
#[derive(Clone)]
pub struct Opened(pub(crate) Arc<Database>);

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened(..)")
    }
}

/// Opens or creates the wallet.
///
/// # Errors
///
/// [`StoreError::InUse`] when another process has it, [`StoreError::Foreign`] when the file is
/// something else or damaged (it is left as it is), [`StoreError::Io`] otherwise.
pub fn open(storage: Storage) -> Result<Opened, StoreError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    let database = match storage {
        Storage::File(path) => {
            refuse_foreign(&path)?;
            builder
                .create(&path)
                .map_err(|e| opening(&e, &path.display().to_string()))?
        }
        Storage::Backend(backend) => builder
            .create_with_backend(Boxed(backend))
            .map_err(|e| opening(&e, "the wallet"))?,
    };
    check_format(&database)?;
    Ok(Opened(Arc::new(database)))
}

/// redb makes a new database out of an empty file; anything else that is not redb's is refused here
/// before redb sees it.
fn refuse_foreign(path: &Path) -> Result<(), StoreError> {
    use std::io::Read;
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io(format!("{}: {error}", path.display()))),
    };
    let mut magic = [0; 4];
    match file.read(&mut magic) {
        Ok(4) if &magic == b"redb" => Ok(()),
        Ok(0) => Ok(()),
        Ok(_) => Err(StoreError::Foreign(format!(
            "{} is not a wallet file",
            path.display()
        ))),
        Err(error) => Err(StoreError::io(format!("{}: {error}", path.display()))),
    }
}

fn opening(error: &DatabaseError, path: &str) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse,
        DatabaseError::Storage(redb::StorageError::Corrupted(what)) => {
            StoreError::Foreign(format!("{path} is damaged ({what})"))
        }
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
        Ok(table) => {
            table
                .get("version")
                .map_err(StoreError::io)?
                .map(|v| v.value())
        }
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
