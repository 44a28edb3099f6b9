//! What an agent's node does: buys, serves, keeps its place in a network, and recovers.
//!
//! The only crate that knows both money and network. They meet in nine files: `buy.rs` with `intake.rs`,
//! `serve.rs` with `sale.rs`, `claiming.rs`, `sync.rs`, `certifying.rs`, `travelling.rs` and `recover.rs`;
//! `runtime.rs` builds both.

pub mod agent;
pub mod bundle;
pub mod clock;
pub mod data_dir;
pub mod failure;
pub mod keys;
pub mod ops;
pub mod owner;
pub mod privacy;
pub mod runtime;

mod accept;
mod agent_manifest;
mod asking;
mod backoff;
mod begun;
mod buy;
mod certifying;
mod choosing;
mod claiming;
mod config;
mod heard;
mod here;
mod intake;
mod means;
mod offers;
mod patience;
mod pinging;
mod plan;
mod price;
mod prices;
mod quoting;
mod records;
mod recover;
mod refusing;
mod running;
mod sale;
mod selling;
mod serve;
mod so_far;
mod staying;
mod sync;
mod travelling;

pub use agent::{Answer, Ask, Payment};
pub use config::NodeConfig;
pub use failure::{Failure, FailureCode};
pub use runtime::{Builder, Runtime, StartError};
pub use tirami_mesh::models::Source as ModelSource;
pub use tirami_mesh::net::transport::{PeerAddr, Relay};
