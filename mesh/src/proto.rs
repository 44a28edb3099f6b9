//! What two nodes say to each other, without sockets: if it awaits, it is in the wrong file.
//!
//! The order of one job on its stream: `AskQuote`, `Quoted`, `Start`, `Chunk` as often as needed,
//! `Propose`, `Countersign`, `Settled`. The bytes are made in `net::codec` and written down in
//! `docs/protocol.md`.

pub mod message;

pub use message::{
    AskQuote, Certified, Certify, Chunk, Countersign, Credit, Drawn, Frame, Join, Joined, Offer,
    Offers, Propose, Quoted, Refuse, RefuseCode, Repay, ReserveUnits, Retry, ReturnUnits,
    SignedBytes, Start, UnderMandate, UnitsReturned,
};
