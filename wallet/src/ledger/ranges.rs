//! Units of travelling mandates: which were handed out, and which were used.
//!
//! Sides that meet only in signed documents of [`tirami_manifest::mandate_chain`].
//!
//! The one who grants ([`carve`]) takes the next free units in a row, puts them into a grant, and
//! [`seal`]s it before it leaves. Units come free again only by a return that the tracker signed
//! ([`give_back`]); the end of a grant alone frees nothing, because what was spent under it is known
//! to the tracker only.
//!
//! The holder of a grant names units in its spends out of the same set ([`name_units`]), so that it
//! spends nothing that it handed on.
//!
//! The tracker ([`reserve`]) takes each unit of a root payer once, whatever chain it comes through. It
//! reserves units before work begins and ends the reservation once: [`commit`] keeps what was used,
//! [`release`] nothing. A reservation whose outcome nobody knows counts as used until somebody says, or
//! until its spend is over and the tracker chooses to [`give_up`]. Nothing here ends by time alone.
//!
//! Nothing is written when an answer is a refusal.

mod accept;
mod carve;
mod own;
mod units;

pub use accept::{
    Outcome, Reservation, Reserved, ReturnRequest, bump_epoch, commit, commit_late, epoch,
    forget_spends, give_up, open_reservations, release, reservation, reserve, take_back, use_up,
    used,
};
pub use carve::{
    Carving, Share, Source, all_back, carve, carvings, forget_carving, give_back, next_serial, seal,
};
pub use own::{forget_names, free_rest, free_units, keep_units, name_units};

use tirami_manifest::mandate_chain::ReturnError;
use tirami_manifest::range::Range;
use tirami_manifest::{Amount, GrantId, NodeId, TransferId};

use crate::store::StoreError;

/// Why units are not handed out or not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nothing is asked for.
    #[error("an amount of zero is no unit")]
    Zero,
    /// The serial number stands for something else.
    #[error("the serial number {serial} already stands for another grant")]
    SerialTaken {
        /// The number.
        serial: u64,
    },
    /// No free units in a row are that many.
    #[error("the most free units in a row are {longest} TRM, {asked} TRM asked")]
    NoRoom {
        /// Free in a row.
        longest: Amount,
        /// Asked for.
        asked: Amount,
    },
    /// Nothing was carved under this number, or something else than the grant says.
    #[error("the grant {grant} is not what was carved under its serial number")]
    NotCarved {
        /// Its id.
        grant: GrantId,
    },
    /// Somebody else remembers which of these units were used.
    #[error("only {tracker} may accept these units")]
    NotTracker {
        /// Who.
        tracker: NodeId,
    },
    /// The nonce stands for another spend, hold or amount.
    #[error("the nonce was used for another spend, hold or amount")]
    NonceTaken,
    /// The hold stands for another spend.
    #[error("the hold {hold} already stands for another spend")]
    HoldTaken {
        /// The id.
        hold: TransferId,
    },
    /// More than the holder signed.
    #[error("the spend is of {signed} TRM, {asked} TRM asked")]
    MoreThanSigned {
        /// Signed.
        signed: Amount,
        /// Asked for.
        asked: Amount,
    },
    /// The root payer has voided the chain, or an epoch would go back.
    #[error("epoch {asked} is over; the root payer's epoch is {current}")]
    OldEpoch {
        /// The newest known.
        current: u64,
        /// Of the chain.
        asked: u64,
    },
    /// The holder gave these units back.
    #[error("the units {units} went back and cannot be spent under the grant {grant}")]
    Returned {
        /// Under which grant.
        grant: GrantId,
        /// Which.
        units: Range,
    },
    /// The units were used before.
    #[error("the units {units} are used")]
    Used {
        /// Which.
        units: Range,
    },
    /// No reservation has this id.
    #[error("no units are reserved under the hold {hold}")]
    Unknown {
        /// The id.
        hold: TransferId,
    },
    /// A reservation ends once.
    #[error("the reservation under the hold {hold} has already ended ({outcome:?})")]
    Ended {
        /// The id.
        hold: TransferId,
        /// How.
        outcome: Outcome,
    },
    /// More than was reserved.
    #[error("{reserved} TRM are reserved, {asked} TRM asked")]
    MoreThanReserved {
        /// Reserved.
        reserved: Amount,
        /// Asked for.
        asked: Amount,
    },
    /// The return is not one that may be granted or believed.
    #[error(transparent)]
    Return(#[from] ReturnError),
}

/// What can come back from handing out or accepting units.
#[derive(Debug, thiserror::Error)]
pub enum RangesError {
    /// The rules say no; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ReturnError> for RangesError {
    fn from(error: ReturnError) -> Self {
        Self::Refused(error.into())
    }
}
