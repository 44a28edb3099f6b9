//! Tables that are nothing but a map in memory.

use std::collections::BTreeMap;

use super::{Order, Pair, ReadTables, Table, Tables};
use crate::store::StoreError;

/// Rows of one table.
pub type Rows<V> = BTreeMap<Vec<u8>, V>;

/// The rows whose keys start with `prefix`, strictly beyond `beyond`, in order.
pub(super) fn within<'a, V>(
    rows: &'a Rows<V>,
    prefix: &[u8],
    beyond: Option<&[u8]>,
    order: Order,
) -> Box<dyn Iterator<Item = (&'a Vec<u8>, &'a V)> + 'a> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let end = after(prefix);
    let (mut low, mut high) = (Included(prefix), end.as_deref().map_or(Unbounded, Excluded));
    match (beyond, order) {
        (Some(mark), Order::Ascending) if mark >= prefix => low = Excluded(mark),
        (Some(mark), Order::Descending) if mark < prefix => return Box::new(std::iter::empty()),
        (Some(mark), Order::Descending) if mark.starts_with(prefix) => high = Excluded(mark),
        _ => {}
    }
    // Beyond everything with this prefix there is nothing, and such bounds would cross.
    if let (Excluded(from) | Included(from), Excluded(to)) = (&low, &high)
        && from >= to
    {
        return Box::new(std::iter::empty());
    }
    let found = rows.range::<[u8], _>((low, high));
    match order {
        Order::Ascending => Box::new(found),
        Order::Descending => Box::new(found.rev()),
    }
}

/// The smallest key after every key with this prefix; none when the prefix is all 0xff.
pub(crate) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    loop {
        match end.pop()? {
            0xff => {}
            last => {
                end.push(last.saturating_add(1));
                return Some(end);
            }
        }
    }
}

/// Tables in memory: for tests, and as the naive twin that redb is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryTables([Rows<Vec<u8>>; Table::ALL.len()]);

impl Default for MemoryTables {
    fn default() -> Self {
        Self([const { Rows::new() }; Table::ALL.len()])
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "there are rows for every table's place"
)]
impl MemoryTables {
    const fn rows(&self, table: Table) -> &Rows<Vec<u8>> {
        &self.0[table.place()]
    }

    const fn rows_mut(&mut self, table: Table) -> &mut Rows<Vec<u8>> {
        &mut self.0[table.place()]
    }
}

impl ReadTables for MemoryTables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.look(table, key, <[u8]>::to_vec)
    }

    fn look<R>(
        &self,
        table: Table,
        key: &[u8],
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, StoreError> {
        Ok(self.rows(table).get(key).map(|value| look(value)))
    }

    fn last_key(&self, table: Table) -> Result<Option<Vec<u8>>, StoreError> {
        let last = self.rows(table).last_key_value();
        Ok(last.map(|(key, _)| key.clone()))
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        beyond: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        Ok(within(self.rows(table), prefix, beyond, order)
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}

impl Tables for MemoryTables {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.put_owned(table, key.to_vec(), value.to_vec())
    }

    fn put_owned(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.rows_mut(table).insert(key, value);
        Ok(())
    }

    fn update<R>(
        &mut self,
        table: Table,
        key: &[u8],
        change: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> Result<R, StoreError> {
        let rows = self.rows_mut(table);
        if let Some(value) = rows.get_mut(key) {
            return Ok(change(value));
        }
        let mut value = Vec::new();
        let changed = change(&mut value);
        rows.insert(key.to_vec(), value);
        Ok(changed)
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.rows_mut(table).remove(key);
        Ok(())
    }
}
