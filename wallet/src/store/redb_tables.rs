//! redb's transactions as [`Tables`].

use std::fmt;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::StoreError;
use crate::ledger::tables::{Order, Pair, ReadTables, Table, Tables};

pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The table's definition in redb.
pub(super) fn definition(table: Table) -> Definition {
    let name = Table::ALL
        .iter()
        .find(|(t, _)| *t == table)
        .map_or("", |(_, name)| *name);
    TableDefinition::new(name)
}

/// A consistent view of what is committed.
pub struct ReadTransaction(redb::ReadTransaction);

impl ReadTransaction {
    pub(crate) fn begin(database: &Database) -> Result<Self, StoreError> {
        database.begin_read().map(Self).map_err(StoreError::io)
    }
}

impl fmt::Debug for ReadTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadTransaction(..)")
    }
}

impl ReadTables for ReadTransaction {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(
            &self
                .0
                .open_table(definition(table))
                .map_err(StoreError::io)?,
            key,
        )
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        beyond: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let table = self
            .0
            .open_table(definition(table))
            .map_err(StoreError::io)?;
        scan(&table, prefix, beyond, order, limit)
    }
}

/// The one write transaction; dropping it writes nothing.
pub struct WriteTransaction(redb::WriteTransaction);

impl WriteTransaction {
    pub(crate) fn begin(database: &Database) -> Result<Self, StoreError> {
        let mut write = database.begin_write().map_err(StoreError::io)?;
        write
            .set_durability(Durability::Immediate)
            .map_err(StoreError::io)?;
        // Reopening after a crash then takes the same time whatever the file's size.
        write.set_quick_repair(true);
        Ok(Self(write))
    }

    pub(super) const fn raw(&self) -> &redb::WriteTransaction {
        &self.0
    }

    /// Makes everything that was put and removed durable, all of it or nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what the disk holds is then unknown until it is opened again.
    pub fn commit(self) -> Result<(), StoreError> {
        self.0.commit().map_err(StoreError::io)
    }
}

impl fmt::Debug for WriteTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteTransaction(..)")
    }
}

impl ReadTables for WriteTransaction {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(
            &self
                .0
                .open_table(definition(table))
                .map_err(StoreError::io)?,
            key,
        )
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        beyond: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let table = self
            .0
            .open_table(definition(table))
            .map_err(StoreError::io)?;
        scan(&table, prefix, beyond, order, limit)
    }
}

impl Tables for WriteTransaction {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let mut table = self
            .0
            .open_table(definition(table))
            .map_err(StoreError::io)?;
        table.insert(key, value).map_err(StoreError::io)?;
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let mut table = self
            .0
            .open_table(definition(table))
            .map_err(StoreError::io)?;
        table.remove(key).map_err(StoreError::io)?;
        Ok(())
    }
}

fn get(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(table
        .get(key)
        .map_err(StoreError::io)?
        .map(|value| value.value().to_vec()))
}

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    prefix: &[u8],
    beyond: Option<&[u8]>,
    order: Order,
    limit: usize,
) -> Result<Vec<Pair>, StoreError> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    // The smallest key after every key with this prefix; none when the prefix is all 0xff.
    let after = {
        let mut end = prefix.to_vec();
        loop {
            match end.pop() {
                None => break None,
                Some(0xff) => {}
                Some(last) => {
                    end.push(last.saturating_add(1));
                    break Some(end);
                }
            }
        }
    };
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
    let range = table.range::<&[u8]>((low, high)).map_err(StoreError::io)?;
    let pair = |row: Result<_, redb::StorageError>| {
        let (key, value): (redb::AccessGuard<'_, &[u8]>, redb::AccessGuard<'_, &[u8]>) =
            row.map_err(StoreError::io)?;
        Ok((key.value().to_vec(), value.value().to_vec()))
    };
    match order {
        Order::Ascending => range.take(limit).map(pair).collect(),
        Order::Descending => range.rev().take(limit).map(pair).collect(),
    }
}
