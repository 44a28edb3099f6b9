//! Finds peers and gets work done; sees prices, never balances.
//!
//! `proto` says what is said, `net` carries it, `scheduler` chooses among those who answered.

pub mod engine;
pub mod models;
pub mod net;
pub mod proto;
pub mod scheduler;
