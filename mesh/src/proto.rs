//! What two nodes say to each other, without sockets: if it awaits, it is in the wrong file.
//!
//! The order of one job on its stream: `AskQuote`, `Quoted`, `Start`, `Begun`, `Chunk` and `Voucher` as often
//! as needed, `Propose`, `Countersign`, `Settled`. `buying` and `selling` are its two sides as state machines;
//! whoever runs them has the sockets, the clock and the money. The bytes are made in `net::codec` and written
//! down in `docs/protocol.md`.

pub mod buying;
pub mod message;
pub mod selling;
mod terms;
#[cfg(test)]
mod tests;

pub use terms::{Counted, Terms};

pub use message::{
    AskQuote, Begun, Certified, Certify, Chunk, Countersign, Credit, Drawn, Frame, Join, Joined,
    Offer, Offers, Pace, Propose, Quoted, Refuse, RefuseCode, Repay, ReserveUnits, Retry,
    ReturnUnits, SignedBytes, Start, UnderMandate, UnitsReturned,
};
