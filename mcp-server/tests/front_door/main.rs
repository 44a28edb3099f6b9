//! The front doors of real nodes: each promise, through the entry point that a user has.
//!
//! Every node here is a process of the program that is shipped, with a data directory of its own,
//! speaking iroh on loopback. Nothing is mocked and nothing sleeps: what is waited for is looked at
//! until it is there, within a deadline. Every port is one the system chose.

#[cfg(test)]
mod attach;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bad_wire;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod http;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod mcp;
#[cfg(test)]
mod namespaces;
#[cfg(test)]
mod net;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod socket;
#[cfg(test)]
#[path = "../../../mesh/tests/transport/wire.rs"]
#[expect(dead_code, reason = "the tests of the transport use all of it")]
mod wire;
