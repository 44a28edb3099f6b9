//! Units of mandates that travel, against a bitmap: every unit at most once, whatever the order of
//! spends, repeats, returns, ends and epochs.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

mod granting;
mod grants;
mod holding;
mod tracking;
