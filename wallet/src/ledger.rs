//! The rules of double entry, in prose; the code is beside this file.
//!
//! An account has four totals: debits and credits, each posted and pending. A balance is derived
//! from them and never stored. A transfer moves one amount from one account (its debit) to another
//! (its credit), is immutable, and carries an id made from what it is for, so that asking twice is
//! asking once. A hold sets an amount aside; it ends once, by post (part or all moves, the rest goes
//! back), void or expiry. What was vouched for moves, whatever ends the hold. A group of transfers
//! succeeds or fails together.
//!
//! Spending by an agent passes the gate ([`gate`]) inside the same transaction, whatever the door. A
//! spend counts against the spender's mandate and every mandate above it.
//!
//! Nothing here knows a store, a clock or a random number: what is read and written goes through
//! [`tables::Tables`], and the time is an argument.
//!
//! When several refusals apply, the one with the smallest number is given ([`refusal::Refusal`],
//! [`rule::Rule`]): another transfer has this id; the amount is zero; debit and credit are the same
//! account; the hold is unknown; the hold has ended; more than was held; less than was vouched for;
//! then the gate, rule by rule, and for each rule the spender's own mandate before those above it;
//! then the issuer's cap; then funds.

pub mod account;
pub mod alert;
pub mod apply;
pub mod approval;
pub mod audit;
#[cfg(test)]
mod fixture;
pub mod gate;
pub mod journal;
pub mod mandate;
pub mod pot;
pub mod ranges;
pub mod refusal;
pub mod rows;
pub mod rule;
pub mod tables;
pub mod transfer;
pub mod usage;
pub mod window;
