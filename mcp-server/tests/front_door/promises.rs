//! The promises, each through a real door.

mod agent_alone;
mod anchors;
mod approvals;
mod archive;
mod books;
mod buying;
mod chain;
mod freeze;
mod hostile;
mod keys;
mod limits;
mod mandates;
mod owner;
mod restart;
mod rules;
mod secrets;
mod selling;
mod stop;
mod streaming;
mod trade;
mod travelling;
