//! Reading a store without writing to it, and writing beside it until it is known what is wanted.

use std::collections::BTreeMap;

use super::memory::within;
use super::{Order, Pair, ReadTables, Rows, Table, Tables};
use crate::store::StoreError;

/// What is committed, to be looked at and never written: an [`Overlay`] over it that is dropped does
/// something on paper.
#[derive(Debug)]
pub struct Aside<'a, T>(pub &'a T);

impl<T: ReadTables> ReadTables for Aside<'_, T> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(table, key)
    }

    fn look<R>(
        &self,
        table: Table,
        key: &[u8],
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, StoreError> {
        self.0.look(table, key, look)
    }

    fn last_key(&self, table: Table) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.last_key(table)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        beyond: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        self.0.scan(table, prefix, beyond, order, limit)
    }
}

impl<T: ReadTables> Tables for Aside<'_, T> {
    fn put(&mut self, _: Table, _: &[u8], _: &[u8]) -> Result<(), StoreError> {
        Err(StoreError::Io("this view is not for writing".into()))
    }

    fn remove(&mut self, _: Table, _: &[u8]) -> Result<(), StoreError> {
        Err(StoreError::Io("this view is not for writing".into()))
    }
}

/// Writes kept beside a store until they are all known to be wanted: what makes one command, or one
/// group of transfers, succeed or fail as a whole inside a larger transaction.
#[derive(Debug)]
pub struct Overlay<'a, T> {
    base: &'a mut T,
    writes: BTreeMap<Table, Rows<Option<Vec<u8>>>>,
}

impl<'a, T: Tables> Overlay<'a, T> {
    /// Starts with no writes of its own.
    pub const fn new(base: &'a mut T) -> Self {
        Self {
            base,
            writes: BTreeMap::new(),
        }
    }

    /// Whether there are no writes.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Writes everything into the store beneath. Dropping the overlay instead writes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction beneath must then be given up.
    pub fn keep(self) -> Result<(), StoreError> {
        for (table, rows) in self.writes {
            self.base.put_all(table, rows)?;
        }
        Ok(())
    }
}

impl<T: Tables> ReadTables for Overlay<'_, T> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.look(table, key, <[u8]>::to_vec)
    }

    fn look<R>(
        &self,
        table: Table,
        key: &[u8],
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, StoreError> {
        match self.writes.get(&table).and_then(|rows| rows.get(key)) {
            Some(value) => Ok(value.as_deref().map(look)),
            None => self.base.look(table, key, look),
        }
    }

    fn last_key(&self, table: Table) -> Result<Option<Vec<u8>>, StoreError> {
        match self.writes.get(&table).and_then(Rows::last_key_value) {
            None => self.base.last_key(table),
            Some((last, value)) => {
                let beneath = self.base.last_key(table)?;
                match value {
                    // What is beneath is smaller, so it matters neither whether it was removed.
                    Some(_) if beneath.as_ref().is_none_or(|key| key <= last) => {
                        Ok(Some(last.clone()))
                    }
                    // Nothing here touches what is larger than all of it.
                    _ if beneath.as_ref().is_some_and(|key| key > last) => Ok(beneath),
                    _ => {
                        let pairs = self.scan(table, &[], None, Order::Descending, 1)?;
                        Ok(pairs.into_iter().next().map(|(key, _)| key))
                    }
                }
            }
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
        let Some(rows) = self.writes.get(&table) else {
            return self.base.scan(table, prefix, beyond, order, limit);
        };
        // Of the changes only as many matter as there may be pairs in the answer.
        let mut added = 0_usize;
        let changes: Vec<_> = within(rows, prefix, beyond, order)
            .take_while(|(_, value)| {
                let wanted = added < limit;
                added = added.saturating_add(usize::from(value.is_some()));
                wanted
            })
            .collect();
        // Only what was removed hides pairs beneath, so this many more suffice.
        let removed = changes.iter().filter(|(_, value)| value.is_none()).count();
        let beneath =
            self.base
                .scan(table, prefix, beyond, order, limit.saturating_add(removed))?;
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = beneath.into_iter().collect();
        for (key, value) in changes {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        let mut pairs: Vec<Pair> = merged.into_iter().collect();
        if order == Order::Descending {
            pairs.reverse();
        }
        pairs.truncate(limit);
        Ok(pairs)
    }
}

impl<T: Tables> Tables for Overlay<'_, T> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.put_owned(table, key.to_vec(), value.to_vec())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let rows = self.writes.entry(table).or_default();
        rows.insert(key.to_vec(), None);
        Ok(())
    }

    fn put_owned(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        let rows = self.writes.entry(table).or_default();
        rows.insert(key, Some(value));
        Ok(())
    }

    fn update<R>(
        &mut self,
        table: Table,
        key: &[u8],
        change: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> Result<R, StoreError> {
        let rows = self.writes.entry(table).or_default();
        if let Some(value) = rows.get_mut(key) {
            return Ok(change(value.get_or_insert_default()));
        }
        let mut value = self.base.get(table, key)?.unwrap_or_default();
        let changed = change(&mut value);
        rows.insert(key.to_vec(), Some(value));
        Ok(changed)
    }
}
