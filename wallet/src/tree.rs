//! How a Merkle tree over rows lies in the store: the hashes of every so many levels, and the rest is
//! computed anew. The chain and the journal each have one.

use tirami_manifest::merkle::{self, Frontier, Hash, Nodes};

use crate::ledger::tables::{ReadTables, Table, Tables};
use crate::store::StoreError;

/// Every so many levels are kept.
const LEVELS: u8 = 4;

/// The hash of a leaf that is not kept, by its place in the table.
pub(crate) type Leaf<T> = fn(&T, u64) -> Result<Hash, StoreError>;

/// A tree as far as it is kept in a table.
pub(crate) struct Tree<'a, T> {
    tables: &'a T,
    table: Table,
    /// Where in the table it begins: several trees may stand in one.
    base: u64,
    leaf: Option<Leaf<T>>,
}

impl<'a, T: ReadTables> Tree<'a, T> {
    /// One whose leaves are kept too.
    pub(crate) const fn whole(tables: &'a T, table: Table) -> Self {
        Self {
            tables,
            table,
            base: 0,
            leaf: None,
        }
    }

    /// One whose leaves follow from what is kept elsewhere.
    pub(crate) const fn over(tables: &'a T, (table, base): (Table, u64), leaf: Leaf<T>) -> Self {
        Self {
            tables,
            table,
            base,
            leaf: Some(leaf),
        }
    }
}

impl<T: ReadTables> Nodes for Tree<'_, T> {
    type Error = StoreError;

    fn full(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        if let (0, Some(leaf)) = (level, self.leaf) {
            return leaf(self.tables, self.base.saturating_add(index));
        }
        if level.is_multiple_of(LEVELS) {
            let key = key(level, self.base.saturating_add(index));
            let hash = self.tables.get(self.table, &key)?;
            let hash = hash.and_then(|hash| hash.try_into().ok());
            let damaged = StoreError::Row { table: self.table };
            return hash.map(Hash).ok_or(damaged);
        }
        let (below, left) = (level.saturating_sub(1), index.saturating_mul(2));
        Ok(merkle::node(
            &self.full(below, left)?,
            &self.full(below, left.saturating_add(1))?,
        ))
    }
}

/// Appends a leaf to a tree that begins at `base`, and keeps what is full now, from level `lowest` on.
pub(crate) fn push(
    tables: &mut impl Tables,
    (table, base, lowest): (Table, u64, u8),
    log: &mut Frontier,
    leaf: Hash,
) -> Result<(), StoreError> {
    let mut full = Vec::new();
    log.push(leaf, |level, index, hash| {
        if level >= lowest && level.is_multiple_of(LEVELS) {
            full.push((level, index, *hash));
        }
    });
    for (level, index, hash) in full {
        let key = key(level, base.saturating_add(index));
        tables.put(table, &key, &hash.0)?;
    }
    Ok(())
}

fn key(level: u8, index: u64) -> [u8; 9] {
    let mut key = [level; 9];
    for (to, from) in key.iter_mut().skip(1).zip(index.to_be_bytes()) {
        *to = from;
    }
    key
}
