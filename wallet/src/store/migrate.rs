//! The format of a wallet file, and the way from each to the next.
//!
//! A format is a set of tables with their rows' layout. A table whose rows change gets a new name
//! (`holds-1` becomes `holds-2`), so that no build reads rows it does not know. To change one:
//!
//! 1. save a file of the present format, if `tests/files` has none: `UPDATE=1 make golden`;
//! 2. give the table its new name in [`Table::ALL`];
//! 3. write `fn to_N(old: &mut Migration<'_>)` here, with the old row's layout copied beside it, and
//!    append it to [`STEPS`], with [`FORMAT_VERSION`] one higher;
//! 4. say in `tests/migrate.rs` what such a wallet must remember.
//!
//! A table that is merely new needs none of this: it is made when it is missing.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

use super::StoreError;
use super::checked::Health;
use super::redb_tables::{WriteTransaction, definition};
use crate::ledger::tables::{Pair, Table};

/// Name and version of the file's layout, in a table of its own.
const FORMAT: TableDefinition<'static, &str, u32> = TableDefinition::new("tirami-wallet");

/// The format this build writes.
pub const FORMAT_VERSION: u32 = 3;

/// The way from format 1 to 2, from 2 to 3, and so on.
pub(super) const STEPS: &[Step] = &[format_2::to_2, format_3::to_3];

/// Rows moved at a time.
const CHUNK: usize = 4_096;

/// Turns one format into the next, inside the one transaction that all steps share. When it fails
/// the file is left as it was, to the byte.
pub(super) type Step = fn(&mut Migration<'_>) -> Result<(), StoreError>;

/// What a step may do: tables by the names they have on disk, which later formats do not change.
#[derive(Debug)]
pub(super) struct Migration<'a>(&'a WriteTransaction);

impl Migration<'_> {
    /// At most `limit` rows after `beyond`, smallest key first.
    pub(super) fn rows(
        &self,
        table: &str,
        beyond: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let table = self.table(table)?;
        let from = beyond.map_or(Bound::Unbounded, Bound::Excluded);
        let range = table.range::<&[u8]>((from, Bound::Unbounded));
        let range = range.map_err(StoreError::io)?;
        range
            .take(limit)
            .map(|row| {
                let (key, value) = row.map_err(StoreError::io)?;
                Ok((key.value().to_vec(), value.value().to_vec()))
            })
            .collect()
    }

    /// Sets one row.
    pub(super) fn put(&mut self, table: &str, key: &[u8], row: &[u8]) -> Result<(), StoreError> {
        let mut table = self.table(table)?;
        table.insert(key, row).map_err(StoreError::io)?;
        Ok(())
    }

    /// Moves every row of table `from` to table `to`, each as `row` makes it of key and value, and
    /// ends the table `from`.
    pub(super) fn rewrite(
        &mut self,
        from: &str,
        to: &str,
        mut row: impl FnMut(&[u8], &[u8]) -> Result<Vec<u8>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut beyond: Option<Vec<u8>> = None;
        loop {
            let rows = self.rows(from, beyond.as_deref(), CHUNK)?;
            for (key, value) in &rows {
                self.put(to, key, &row(key, value)?)?;
            }
            match rows.into_iter().next_back() {
                Some((key, _)) => beyond = Some(key),
                None => break,
            }
        }
        self.end(from)
    }

    /// Ends a table.
    pub(super) fn end(&mut self, table: &str) -> Result<(), StoreError> {
        let ended: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(table);
        self.0.raw().delete_table(ended).map_err(StoreError::io)?;
        Ok(())
    }

    /// The row at `key`.
    pub(super) fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self.table(table)?;
        let row = table.get(key).map_err(StoreError::io)?;
        Ok(row.map(|row| row.value().to_vec()))
    }

    fn table<'t>(
        &'t self,
        name: &str,
    ) -> Result<redb::Table<'t, &'static [u8], &'static [u8]>, StoreError> {
        let definition: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(name);
        self.0.raw().open_table(definition).map_err(StoreError::io)
    }
}

/// What a file says it is.
struct Found {
    version: Option<u32>,
    tables: BTreeSet<String>,
}

fn found(database: &Database) -> Result<Found, StoreError> {
    let read = database.begin_read().map_err(StoreError::io)?;
    let version = match read.open_table(FORMAT) {
        Ok(table) => {
            let version = table.get("version").map_err(StoreError::io)?;
            version.map(|version| version.value())
        }
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(error) => {
            return Err(StoreError::Foreign(format!(
                "the wallet is damaged ({error})"
            )));
        }
    };
    let tables = read.list_tables().map_err(StoreError::io)?;
    let tables = tables.map(|table| table.name().to_owned()).collect();
    Ok(Found { version, tables })
}

/// Makes what an empty file lacks, takes an older one to the present format, and refuses the rest.
pub(super) fn prepare(
    database: &Database,
    health: &Arc<Health>,
    steps: &[Step],
) -> Result<(), StoreError> {
    let newest = version_after(steps);
    let Found { version, tables } = found(database)?;
    let version = match version {
        Some(version) if version > newest => {
            return Err(StoreError::Newer("the wallet".into(), version, newest));
        }
        Some(version) => version,
        None if !tables.is_empty() => {
            return Err(StoreError::Foreign("the file is another program's".into()));
        }
        None => newest,
    };
    let complete = Table::ALL.iter().all(|(_, name)| tables.contains(*name));
    if version == newest && complete {
        return Ok(());
    }
    let write = WriteTransaction::begin(database, health)?;
    // Format 1 has all steps before it.
    let done = usize::try_from(version.saturating_sub(1)).unwrap_or(usize::MAX);
    for step in steps.iter().skip(done) {
        step(&mut Migration(&write))?;
    }
    {
        let mut table = write.raw().open_table(FORMAT).map_err(StoreError::io)?;
        let version = table.insert("version", newest);
        version.map_err(StoreError::io)?;
    }
    for (table, _) in Table::ALL {
        let table = write.raw().open_table(definition(table));
        table.map_err(StoreError::io)?;
    }
    write.commit()
}

/// The format that `steps` lead to.
fn version_after(steps: &[Step]) -> u32 {
    u32::try_from(steps.len()).map_or(u32::MAX, |steps| steps.saturating_add(1))
}

mod format_2;
mod format_3;

#[cfg(test)]
mod tests;
