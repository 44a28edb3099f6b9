//! The doors of a Tirami node: they translate, authenticate and limit, and decide nothing.
//!
//! Every door reaches the node through [`access::Access`], which finds it in this process or in the
//! one that has the data directory.

pub mod access;
pub mod cli;
pub mod config;
pub mod demo;
mod generation;
pub mod http;
mod local;
pub mod mcp;
pub mod tools;
