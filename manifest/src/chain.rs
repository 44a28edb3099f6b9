//! A node's public history: one signed step after another, each with the balances after it.
//!
//! A chain has one writer, so nobody has to agree on its order. Sequence numbers have no gaps, every
//! entry names the one before and commits to all of them by the root of a Merkle tree, and every entry
//! says what its node has after it. So two neighbours prove a false sum, and two entries with one
//! number prove a fork, to anybody, with nothing but their bytes. The layouts are in
//! `docs/protocol.md`.

mod certificate;
mod entry;
mod fold;
mod fraud;
mod rejected;
mod seen;
mod step;

pub use certificate::{Certificate, CertificateError, Head, Vote, quorum, vote};
pub use entry::{ENTRY_MAX, Entry, after};
pub use fold::{Chain, Loan, State, Waits};
pub use fraud::{FraudError, FraudKind, FraudProof};
pub use rejected::Rejected;
pub use step::{Predecessor, Repaid, Step, Trade, successor_hash};
