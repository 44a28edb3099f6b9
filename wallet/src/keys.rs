//! Which key succeeded which.

use serde::{Deserialize, Serialize};
use tirami_manifest::NodeId;

use crate::ledger::tables::{ReadTables, Table, Tables};
use crate::store::StoreError;

/// The neighbours of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    /// The key that it succeeded.
    before: Option<NodeId>,
    /// The key that succeeded it.
    after: Option<NodeId>,
}

fn row(tables: &impl ReadTables, key: &NodeId) -> Result<Row, StoreError> {
    let row = tables.row(Table::Keys, key.as_bytes())?;
    Ok(row.unwrap_or_default())
}

/// The key that a node had before this one.
pub(crate) fn before(tables: &impl ReadTables, key: &NodeId) -> Result<Option<NodeId>, StoreError> {
    Ok(row(tables, key)?.before)
}

/// How many keys a node had until this one, itself included.
pub(crate) fn line(tables: &impl ReadTables, key: &NodeId) -> Result<usize, StoreError> {
    let (mut key, mut count) = (*key, 1_usize);
    while let Some(earlier) = before(tables, &key)? {
        (key, count) = (earlier, count.saturating_add(1));
    }
    Ok(count)
}

/// Whether another key has succeeded this one.
pub(crate) fn succeeded(tables: &impl ReadTables, key: &NodeId) -> Result<bool, StoreError> {
    Ok(row(tables, key)?.after.is_some())
}

/// The newest key of the node that has or had this one.
pub(crate) fn newest(tables: &impl ReadTables, key: &NodeId) -> Result<NodeId, StoreError> {
    let mut newest = *key;
    while let Some(after) = row(tables, &newest)?.after {
        newest = after;
    }
    Ok(newest)
}

/// Whether a key was part of a succession.
pub(crate) fn is_known(tables: &impl ReadTables, key: &NodeId) -> Result<bool, StoreError> {
    Ok(row(tables, key)? != Row::default())
}

/// Writes that `after` succeeded `before`. A key that succeeds must be a new one: following keys then comes
/// to an end.
pub(crate) fn follow(
    tables: &mut impl Tables,
    before: &NodeId,
    after: &NodeId,
) -> Result<(), StoreError> {
    let old = Row {
        after: Some(*after),
        ..row(tables, before)?
    };
    tables.put_row(Table::Keys, before.as_bytes(), &old)?;
    let new = Row {
        before: Some(*before),
        after: None,
    };
    tables.put_row(Table::Keys, after.as_bytes(), &new)
}
