//! The words two Tirami parties exchange: ids, amounts and signed documents.
//!
//! If two parties must agree on something byte for byte, it lives here. If it needs a socket, a
//! file, a runtime or a clock, it does not.
#![cfg_attr(
    not(test),
    deny(
        clippy::float_arithmetic,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::iter_over_hash_type
    )
)]

pub mod agent;
pub mod amount;
pub mod anchor;
pub mod anchored_file;
pub mod archive_file;
pub mod bytes;
pub mod chain;
pub mod chain_file;
pub mod commerce;
pub mod did;
pub mod genesis;
pub mod id;
pub mod issuance;
pub mod job;
pub mod journal_file;
pub mod key;
mod line;
pub mod loan;
pub mod mandate;
pub mod mandate_chain;
pub mod merkle;
pub mod model;
pub mod owner;
pub mod point;
pub mod proof_file;
pub mod range;
pub mod receipt_file;
pub mod record;
pub mod signed;
pub mod statement;
pub mod statement_file;
pub mod ticket;
pub mod time;
pub mod tree_head;
pub mod verify;

pub use amount::{Amount, AmountError, Multiplier};
pub use id::{
    AgentId, ApprovalId, EntryId, GrantId, InvitationId, ModelId, NetworkId, NodeId, OwnerId,
    QuoteId, ReceiptId, RepaymentId, TransferId,
};
pub use time::{Clock, Timestamp};
