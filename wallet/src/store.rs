//! Bytes on disk: one redb file per node, exclusively locked, written by one thread.
//!
//! This module knows no rule except "all or nothing": what commits together is there together after
//! a crash, and nobody is answered before the commit.

mod backup;
mod check;
mod checked;
mod migrate;
mod node;
mod open;
mod pages;
pub(crate) mod queue;
mod redb_tables;
mod staged;
pub(crate) mod writer;

use tirami_manifest::NodeId;

use crate::ledger::tables::Table;

pub(crate) use backup::backup;
pub use backup::{BackupInfo, Restored, restore};
pub(crate) use check::Check;
pub use check::Integrity;
pub use migrate::FORMAT_VERSION;
pub(crate) use node::{check_node, set_node};
pub(crate) use open::open_cached;
pub use open::{CACHE_BYTES, Opened, Storage, open};
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
    /// A newer build wrote it.
    #[error(
        "{0} has format {1}, and this build knows {2}: a newer version of tirami-agent wrote it; install that one"
    )]
    Newer(String, u32, u32),
    /// What was to be restored is no sound copy of a wallet.
    #[error(
        "{0} cannot be restored; nothing was changed: choose a file that 'tirami-agent wallet backup' wrote"
    )]
    NoBackup(String),
    /// The wallet belongs to another node than the key beside it, or there is no key.
    #[error(
        "the wallet belongs to node {0}, whose node.key is not in the data directory; put it there, or \
         use another --data-dir"
    )]
    OtherNode(NodeId),
    /// A row cannot be read.
    #[error("a row of the table {table:?} is damaged; restore a backup, and keep the damaged file")]
    Row {
        /// Where.
        table: Table,
    },
    /// A page is not what was written: found when it was read, before anything acted upon it.
    #[error(
        "the wallet file is damaged ({0}); nothing more is written: stop the node, keep the damaged \
         file, and restore a backup"
    )]
    Damaged(String),
    /// There was no room to write; nothing was written. Reading goes on, and so does writing as soon
    /// as there is room.
    #[error("storage_full: the disk is full; nothing was written: make room, then try again")]
    Full,
    /// A file that would have been written over.
    #[error("{0} exists already and was left as it is; choose another name")]
    Exists(String),
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

/// What a failure at a file means for the store.
pub(crate) fn io(path: &std::path::Path, error: &std::io::Error) -> StoreError {
    if checked::is_full(error) {
        return StoreError::Full;
    }
    match error.kind() {
        std::io::ErrorKind::AlreadyExists => StoreError::Exists(path.display().to_string()),
        _ => StoreError::Io(format!("{}: {error}", path.display())),
    }
}
