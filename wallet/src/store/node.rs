//! Whose wallet a file is.

use tirami_manifest::NodeId;

use super::StoreError;
use crate::ledger::tables::{ReadTables, Table, Tables};

/// Key of the node's id in [`Table::Meta`], written when it enters a network.
const NODE: &[u8] = b"node";

/// Refuses a wallet that another node keeps, or nobody's where a key is missing: what it signed there
/// would be in nobody's name.
pub(crate) fn check_node(
    tables: &impl ReadTables,
    node: Option<&NodeId>,
) -> Result<(), StoreError> {
    let Some(kept) = tables.get(Table::Meta, NODE)? else {
        return Ok(());
    };
    if node.is_some_and(|node| kept == node.as_bytes()) {
        return Ok(());
    }
    let kept = <[u8; 32]>::try_from(kept.as_slice());
    let kept = kept.map_err(|_| StoreError::Row { table: Table::Meta })?;
    Err(StoreError::OtherNode(NodeId::from_bytes(kept)))
}

/// Writes whose wallet it is.
pub(crate) fn set_node(tables: &mut impl Tables, node: &NodeId) -> Result<(), StoreError> {
    if tables.get(Table::Meta, NODE)?.as_deref() == Some(node.as_bytes()) {
        return Ok(());
    }
    tables.put(Table::Meta, NODE, node.as_bytes())
}
