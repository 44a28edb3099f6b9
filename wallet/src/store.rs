//! Bytes on disk: one redb file per node, exclusively locked, written by one thread.
//!
//! This module knows no rule except "all or nothing": what commits together is there together after
//! a crash, and nobody is answered before the commit.

mod open;
mod redb_tables;
mod staged;
pub(crate) mod writer;

use crate::ledger::tables::Table;

pub use open::{Opened, Storage, open};
pub use redb_tables::{ReadTransaction, WriteTransaction};

/// What went wrong beneath the rules.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file.
    #[error("another process has this wallet open")]
    InUse,
    /// The file is not a wallet, or of a version this build does not know.
    #[error("{0}; it was left as it is: restore a backup or use another --data-dir")]
    Foreign(String),
    /// A row cannot be read.
    #[error("a row of the table {table:?} is damaged; restore a backup, and keep the damaged file")]
    Row {
        /// Where.
        table: Table,
    },
    /// Reading or writing failed. After a failed write nothing more is written until a restart.
    #[error("the wallet file could not be read or written: {0}")]
    Io(String),
    /// An earlier write failed.
    #[error("an earlier write failed ({0}); nothing more is written until the node is restarted")]
    Failed(String),
    /// The wallet is shutting down.
    #[error("the wallet is shutting down")]
    Closed,
}

impl StoreError {
    pub(crate) fn io(error: impl std::fmt::Display) -> Self {
        Self::Io(error.to_string())
    }
}
