//! Why an entry is not the next of its chain.

use crate::amount::Amount;
use crate::bytes::DecodeError;

/// Why an entry is not the next of its chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The bytes are not an entry.
    #[error("the bytes are not an entry: {0}")]
    Decode(#[from] DecodeError),
    /// It is larger than entries may be.
    #[error("the entry has {0} bytes; entries have at most {max}", max = super::ENTRY_MAX)]
    TooLarge(usize),
    /// Not signed by the one whose chain it is.
    #[error("the signature is not by the chain's author, or the bytes were altered")]
    Signature,
    /// Of another network.
    #[error("the entry is of another network")]
    Network,
    /// Of another chain.
    #[error("the entry is of another node's chain")]
    Author,
    /// A gap, or an entry again.
    #[error("the entry has number {has}, but {wants} is the next")]
    Seq {
        /// What it says.
        has: u64,
        /// What would follow.
        wants: u64,
    },
    /// It does not follow the entry before.
    #[error("the entry names another one before it")]
    Prev,
    /// Its time is not after the entry's before, or the agreement's.
    #[error("the entry's time is not after what it follows")]
    Time,
    /// It commits to another history.
    #[error("the entry commits to another history than the entries before it")]
    LogRoot,
    /// What it says the node has does not follow from what happened.
    #[error("the entry says {says} TRM {what}, but {follows} follow from the entries before it")]
    Balance {
        /// `spendable`, `held` or `staked`.
        what: &'static str,
        /// What it says.
        says: Amount,
        /// What follows.
        follows: Amount,
    },
    /// It spends more than there is.
    #[error("the entry spends {asked} TRM, but {has} are there")]
    Overdrawn {
        /// What is there.
        has: Amount,
        /// What it takes.
        asked: Amount,
    },
    /// The kind of entry cannot stand here.
    #[error("{0}")]
    Order(&'static str),
    /// A trade that its author has no part in, or with itself.
    #[error("{0}")]
    Party(&'static str),
    /// A trade whose terms do not follow from each other, or not signed by both.
    #[error("the trade does not hold: {0}")]
    Trade(&'static str),
    /// The same agreement, grant or credit a second time.
    #[error("{0} stands on this chain already")]
    Twice(&'static str),
    /// A grant that is not by an issuer of the network, or not for the author.
    #[error("the loan does not hold: {0}")]
    Loan(&'static str),
    /// More TRM than the issuer may make.
    #[error("the issuer would have made {made} TRM, but its quota is {quota}")]
    OverQuota {
        /// In all.
        made: Amount,
        /// At most.
        quota: Amount,
    },
    /// More TRM in a day than the issuer may make.
    #[error("the issuer would have made {made} TRM in 24 hours, but at most {most} are allowed")]
    OverDay {
        /// In the 24 hours.
        made: Amount,
        /// At most.
        most: Amount,
    },
    /// A checkpoint that says something else than the entries before it.
    #[error("the checkpoint does not say what the entries before it do")]
    Checkpoint,
}
