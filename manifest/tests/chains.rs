//! Chains of whole networks: what holds, what does not, and the files that say so.
//!
//! `files/valid` and `files/forged` are what a second implementation, `examples/verifier`, is held
//! against too. Changing one is changing the protocol.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on should stop"
)]

#[path = "chains/alone.rs"]
mod alone;
#[path = "chains/anchored.rs"]
mod anchored;
#[path = "chains/any.rs"]
mod any;
#[path = "chains/files.rs"]
mod files;
#[path = "chains/forged.rs"]
mod forged;
#[path = "chains/fraud.rs"]
mod fraud;
#[path = "chains/issuers.rs"]
mod issuers;
#[path = "chains/journal.rs"]
mod journal;
#[path = "chains/layouts.rs"]
mod layouts;
#[path = "chains/market.rs"]
mod market;
#[path = "chains/rules.rs"]
mod rules;
#[path = "chains/signatures.rs"]
mod signatures;
#[path = "chains/statements.rs"]
mod statements;
#[path = "chains/world.rs"]
mod world;
