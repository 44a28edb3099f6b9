//! Mandates that travel: permission to spend on another machine, handed out and handed on offline.
//!
//! Three sides, which meet only in signed documents of [`tirami_manifest::mandate_chain`]:
//!
//! - [`handing_out`]: the root payer sets money aside and numbers its units; a holder hands on part of
//!   what it holds. What was drawn is paid for here ([`drawing`]), and what nobody used comes back
//!   ([`reclaiming`]).
//! - [`holding`]: what was handed to this node, and the units that its spends name.
//! - [`tracking`]: the provider's side, and the one that remembers which units were used.
//!
//! The sum over any tree of grants stays within what the root payer set aside, whatever the holders
//! do: a unit is used once, and units that were handed out twice are refused the second time.

pub mod drawing;
pub mod handing_out;
pub mod holding;
mod narrowing;
pub mod reclaiming;
pub mod sweeping;
pub mod tracking;

use tirami_manifest::TransferId;
use tirami_manifest::mandate_chain::{MandateChain, Spend};
use tirami_manifest::signed::{Document, Signed};

use crate::ledger::tables::Table;
use crate::ledger::transfer;
use crate::store::StoreError;

/// A chain of grants and a spend under it: what pays for one job instead of the consumer's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Under {
    /// The grants, the root payer's first.
    pub chain: MandateChain,
    /// Which units, for what.
    pub spend: Signed<Spend>,
}

/// The reservation that a tracker makes for a spend.
fn units_hold(spend: &Spend) -> TransferId {
    transfer::id("units", &[&spend.digest()])
}

const fn damaged(table: Table) -> StoreError {
    StoreError::Row { table }
}
