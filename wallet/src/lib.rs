//! Everything that can change what someone owns, and nothing that can reach the network.
//!
//! [`Wallet`] is the handle. Value moves only through [`ledger::apply`], inside one store
//! transaction that checks freeze, mandate, limits and funds. Having a [`Hold`] is the only way to
//! pay, and only [`Wallet::hold`] makes one.
#![deny(
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::iter_over_hash_type
)]

pub mod approvals;
pub mod archive;
pub mod budget;
pub mod bundle;
pub mod chain;
pub mod claims;
mod draft;
pub mod earnings;
pub mod economy;
pub mod error;
pub mod hold;
pub mod intent;
pub mod jobs;
pub mod journal;
mod keys;
pub mod keystore;
pub mod ledger;
pub mod mandate;
pub mod membership;
pub mod outbox;
pub mod owner;
pub mod sales;
mod selling;
pub mod statement;
pub mod store;
pub mod strangers;
pub mod succession;
pub mod token;
pub mod travelling;
pub mod witness;

mod tree;
mod wallet;

pub use error::{Retry, WalletError};
pub use hold::{Hold, HoldRequest, Work};
pub use wallet::{HOLD_TIMEOUT_MS, OpenOptions, Wallet};
