//! What is left after a crash at any instant, a full disk, a damaged file and a clock that jumps.
//!
//! Each workload runs once on a disk that records everything written to it; what the disk would hold
//! had the machine stopped in between is then made from the record.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that cannot go on should stop, and says how long it took"
)]

#[path = "../world/mod.rs"]
mod world;

mod archive;
mod books;
mod clock;
mod damage;
mod disk;
mod faults;
mod images;

/// A number that the nightly run sets.
fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}
