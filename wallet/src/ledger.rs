//! The rules of double entry, in prose; the code is beside this file.
//!
//! An account has four totals: debits and credits, each posted and pending. A balance is derived
//! from them and never stored. A transfer moves one amount from one account (its debit) to another
//! (its credit), is immutable, and carries an id made from what it is for, so that asking twice is
//! asking once. A hold sets an amount aside; it ends once, by post (part or all moves, the rest goes
//! back), void or expiry. A group of transfers succeeds or fails together.
//!
//! Spending by an agent passes the gate ([`gate`]) inside the same transaction, whatever the door.
//!
//! Nothing here knows a store, a clock or a random number: what is read and written goes through
//! [`tables::Tables`], and the time is an argument.
//!
//! When several refusals apply, the first in this order is given: another transfer has this id;
//! the amount is zero; debit and credit are the same account; the hold is unknown; the hold has
//! ended; more than was held; then the gate (frozen, no mandate, per request, hour, lifetime); then
//! the issuer's cap; then funds.

pub mod account;
pub mod apply;
pub mod audit;
pub mod gate;
pub mod refusal;
pub mod rows;
pub mod tables;
pub mod transfer;
