//! Which transfers the economy makes; they go through the ledger like anyone else's.

pub mod loan;
pub mod repayment;
