//! Mandates that travel, between whole nodes over a wire in memory.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's fixtures stop it when they fail"
)]

mod net;
mod receipts;
mod returns;
mod spending;
