//! The node's public chain: what of the ledger others can check.
//!
//! The chain follows from the ledger. After each command, in its own transaction, every transfer that
//! it recorded is looked at, and what changes what the node has appends an entry (`publishing`). So
//! no operation can forget to, and a wallet from before there were chains gets its chain by the same
//! way. Entries are kept without what stands elsewhere in the wallet (`keeping`).

#[cfg(test)]
mod cost;
mod keeping;
mod open;
mod publishing;
mod reading;

pub(crate) use keeping::keep_grant;
pub(crate) use publishing::{
    CHECKPOINT_EVERY, may_succeed, name_successor, names_successor, publish, succeed,
};
pub use reading::{Ended, Position, Proof};
pub(crate) use reading::{audit, own_keys};
