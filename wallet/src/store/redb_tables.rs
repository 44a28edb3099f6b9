//! redb's transactions as [`Tables`].

use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};

use super::StoreError;
use super::checked::Health;
use crate::ledger::tables::{Order, Pair, ReadTables, Rows, Table, Tables, after};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The table's definition in redb.
pub(super) fn definition(table: Table) -> Definition {
    let name = Table::ALL
        .iter()
        .find(|(t, _)| *t == table)
        .map_or("", |(_, name)| *name);
    TableDefinition::new(name)
}

/// A consistent view of what is committed.
pub struct ReadTransaction {
    read: redb::ReadTransaction,
    /// Tables that were read, each opened once.
    opened: [OnceLock<Opened>; Table::ALL.len()],
    health: Arc<Health>,
}

type Opened = ReadOnlyTable<&'static [u8], &'static [u8]>;

impl ReadTransaction {
    pub(super) fn begin(database: &Database, health: &Arc<Health>) -> Result<Self, StoreError> {
        let read = database.begin_read().map_err(|e| health.explain(e))?;
        Ok(Self {
            read,
            opened: [const { OnceLock::new() }; Table::ALL.len()],
            health: health.clone(),
        })
    }

    fn open(&self, table: Table) -> Result<&Opened, StoreError> {
        let place = Table::ALL.iter().position(|(other, _)| *other == table);
        let place = place
            .and_then(|place| self.opened.get(place))
            .ok_or(StoreError::Row { table })?;
        if let Some(opened) = place.get() {
            return Ok(opened);
        }
        let opened = self.read.open_table(definition(table));
        let opened = opened.map_err(|e| self.health.explain(e))?;
        Ok(place.get_or_init(|| opened))
    }

    /// Reads at most `limit` rows after `beyond` for nothing but to have read them: the key of the
    /// last, and how many there were.
    pub(super) fn walk(
        &self,
        table: Table,
        beyond: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Option<Vec<u8>>, u64), StoreError> {
        let explain = |e: redb::StorageError| self.health.explain(e);
        let table = self.read.open_table(definition(table));
        let table = table.map_err(|e| self.health.explain(e))?;
        let from = beyond.map_or(Bound::Unbounded, Bound::Excluded);
        let range = table.range::<&[u8]>((from, Bound::Unbounded));
        let (mut last, mut count) = (None, 0_u64);
        for row in range.map_err(explain)?.take(limit) {
            last = Some(row.map_err(explain)?.0);
            count = count.saturating_add(1);
        }
        Ok((last.map(|key| key.value().to_vec()), count))
    }
}

impl fmt::Debug for ReadTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadTransaction(..)")
    }
}

impl ReadTables for ReadTransaction {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.look(table, key, <[u8]>::to_vec)
    }

    fn look<R>(
        &self,
        table: Table,
        key: &[u8],
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, StoreError> {
        at(self.open(table)?, key, look).map_err(|e| self.health.explain(e))
    }

    fn last_key(&self, table: Table) -> Result<Option<Vec<u8>>, StoreError> {
        last_key(self.open(table)?).map_err(|e| self.health.explain(e))
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        beyond: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let table = self.open(table)?;
        scan(table, prefix, beyond, order, limit).map_err(|e| self.health.explain(e))
    }
}

/// The one write transaction; dropping it writes nothing.
pub struct WriteTransaction {
    write: redb::WriteTransaction,
    /// What was committed before: read from while nothing is written, since a table of the write
    /// transaction is opened anew for each row.
    before: Option<ReadTransaction>,
    health: Arc<Health>,
}

impl WriteTransaction {
    pub(super) fn begin(database: &Database, health: &Arc<Health>) -> Result<Self, StoreError> {
        let mut write = database.begin_write().map_err(|e| health.explain(e))?;
        write
            .set_durability(Durability::Immediate)
            .map_err(StoreError::io)?;
        // Reopening after a crash then takes the same time whatever the file's size.
        write.set_quick_repair(true);
        Ok(Self {
            write,
            before: Some(ReadTransaction::begin(database, health)?),
            health: health.clone(),
        })
    }

    pub(super) const fn raw(&self) -> &redb::WriteTransaction {
        &self.write
    }

    /// Makes everything that was put and removed durable, all of it or nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what the disk holds is then unknown until it is opened again.
    pub fn commit(self) -> Result<(), StoreError> {
        let Self {
            write,
            before,
            health,
        } = self;
        // A reader would keep pages from being used again.
        drop(before);
        write.commit().map_err(|e| health.explain(e))
    }

    fn open(
        &self,
        table: Table,
    ) -> Result<redb::Table<'_, &'static [u8], &'static [u8]>, StoreError> {
        let table = self.write.open_table(definition(table));
        table.map_err(|e| self.health.explain(e))
    }
}

impl fmt::Debug for WriteTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteTransaction(..)")
    }
}

impl ReadTables for WriteTransaction {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.look(table, key, <[u8]>::to_vec)
    }

    fn look<R>(
        &self,
        table: Table,
        key: &[u8],
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, StoreError> {
        match &self.before {
            Some(before) => before.look(table, key, look),
            None => at(&self.open(table)?, key, look).map_err(|e| self.health.explain(e)),
        }
    }

    fn last_key(&self, table: Table) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.before {
            Some(before) => before.last_key(table),
            None => last_key(&self.open(table)?).map_err(|e| self.health.explain(e)),
        }
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        beyond: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        if let Some(before) = &self.before {
            return before.scan(table, prefix, beyond, order, limit);
        }
        let table = self.open(table)?;
        scan(&table, prefix, beyond, order, limit).map_err(|e| self.health.explain(e))
    }
}

impl Tables for WriteTransaction {
    fn put_all(&mut self, table: Table, rows: Rows<Option<Vec<u8>>>) -> Result<(), StoreError> {
        self.before = None;
        let mut table = self.open(table)?;
        for (key, value) in rows {
            let done = match value {
                Some(value) => table.insert(key.as_slice(), value.as_slice()).map(drop),
                None => table.remove(key.as_slice()).map(drop),
            };
            done.map_err(|e| self.health.explain(e))?;
        }
        Ok(())
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.before = None;
        let mut table = self.open(table)?;
        let before = table.insert(key, value);
        before.map(drop).map_err(|e| self.health.explain(e))
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.before = None;
        let mut table = self.open(table)?;
        let before = table.remove(key);
        before.map(drop).map_err(|e| self.health.explain(e))
    }
}

fn at<R>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
    look: impl FnOnce(&[u8]) -> R,
) -> Result<Option<R>, redb::StorageError> {
    Ok(table.get(key)?.map(|value| look(value.value())))
}

fn last_key(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Option<Vec<u8>>, redb::StorageError> {
    Ok(table.last()?.map(|(key, _)| key.value().to_vec()))
}

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    prefix: &[u8],
    beyond: Option<&[u8]>,
    order: Order,
    limit: usize,
) -> Result<Vec<Pair>, redb::StorageError> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let after = after(prefix);
    let (mut low, mut high) = (
        Included(prefix),
        after.as_deref().map_or(Unbounded, Excluded),
    );
    match (beyond, order) {
        (Some(mark), Order::Ascending) if mark >= prefix => low = Excluded(mark),
        (None, _) | (Some(_), Order::Ascending) => {}
        (Some(mark), Order::Descending) => {
            if after.as_deref().is_none_or(|after| mark < after) {
                if mark <= prefix {
                    return Ok(Vec::new());
                }
                high = Excluded(mark);
            }
        }
    }
    // A mark beyond the prefix leaves an empty range, which redb does not accept as one.
    if let (Excluded(low), Excluded(high)) = (low, high)
        && low >= high
    {
        return Ok(Vec::new());
    }
    let range = table.range::<&[u8]>((low, high))?;
    let pair = |row: Result<_, redb::StorageError>| {
        let (key, value): (redb::AccessGuard<'_, &[u8]>, redb::AccessGuard<'_, &[u8]>) = row?;
        Ok((key.value().to_vec(), value.value().to_vec()))
    };
    match order {
        Order::Ascending => range.take(limit).map(pair).collect(),
        Order::Descending => range.rev().take(limit).map(pair).collect(),
    }
}
