//! Sockets and timers; if it decides, it is in the wrong file.
//!
//! `transport` is the seam: whoever sends frames names only that. `iroh` is the real wire, `memory`
//! the one tests cut. `codec` is the only file that knows the bytes of a frame.

pub mod codec;
pub mod iroh;
pub mod memory;
pub mod probe;
pub mod transport;

pub use codec::CodecError;
pub use iroh::{IrohOptions, IrohTransport};
pub use memory::{MemoryNetwork, MemoryTransport};
pub use transport::{
    BoxFuture, Incoming, Link, LinkReceiver, LinkSender, NetError, PeerAddr, PeerPath, PeerState,
    Relay, RelayState, Transport,
};
