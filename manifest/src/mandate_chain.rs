//! Travelling mandates: permission to spend, handed on from machine to machine without asking.
//!
//! Who pays, the root payer, numbers the µTRM of its budget: N µTRM are the units `[0, N)`. A grant
//! names a range of them, its holder and what the units may be used for. The holder may hand a part
//! of its range to somebody else by a grant of its own, offline; a grant can only narrow. A chain is
//! the grants from the root payer to the one who spends. A spend names units of the last grant, and
//! each unit is used once. So the sum over any tree of grants stays within the root's range, whatever
//! the holders do.
//!
//! Somebody must remember which units were used: the one that [`VerifiedChain::tracker`] names, and
//! nobody else may accept a spend.
//!
//! - **Ledger** (no pin): the root payer's ledger remembers. A spend is asked for online.
//! - **Pinned**: the root payer's own grant names one provider, which alone may accept and therefore
//!   can remember alone, without reaching anybody.
//!
//! A pin stands in the first grant or nowhere. A holder that could set one later could let two
//! providers, or a provider and the ledger, accept the same units without either knowing.
//!
//! A holder that spends a range itself keeps it out of its grants. One that hands out units twice
//! finds them refused the second time, and leaves an [`Equivocation`] that names it.

mod allowed;
mod chain;
mod evidence;
mod giving_back;
mod grant;
mod spend;

pub use allowed::{Action, Actions, Allowed, LIST_MAX, ListError};
pub use chain::{
    CHAIN_BYTES_MAX, CHAIN_PREFIX, ChainError, ChainTextError, LINKS_MAX, MandateChain,
    VerifiedChain,
};
pub use evidence::{Claims, Equivocation, EvidenceError};
pub use giving_back::{RangeReturn, ReturnError};
pub use grant::Grant;
pub use spend::{CheckedSpend, Spend, SpendError};

use crate::time::Timestamp;

/// How far another machine's clock may be behind this one's before what it signed counts as
/// expired: 60 seconds, in milliseconds.
pub const SKEW_MS: u64 = 60_000;

/// True when something that ends at `expires` has ended by every clock within [`SKEW_MS`].
pub const fn is_over(expires: Timestamp, now: Timestamp) -> bool {
    now.ms() >= expires.after_ms(SKEW_MS).ms()
}
