//! The promises, each through a real door.

mod freeze;
mod limits;
mod owner;
mod restart;
mod trade;
