//! Two documents by one key that claim the same units.

use super::grant::Grant;
use super::spend::Spend;
use crate::id::NodeId;
use crate::range::Range;
use crate::signed::{Document, Signed};

/// What two signed documents claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claims {
    /// The same units handed to two holders.
    Grants(Signed<Grant>, Signed<Grant>),
    /// The same units spent twice under one grant.
    Spends(Signed<Spend>, Signed<Spend>),
    /// Units spent by the one who handed them on.
    GrantAndSpend(Signed<Grant>, Signed<Spend>),
}

/// Evidence that one key signed two claims on the same units. It needs nothing beside it.
///
/// It proves the two signatures and no loss: the tracker refuses the second use of a unit. Units that
/// came back, by a [`super::RangeReturn`] that the tracker signed or because a spend took less than
/// it named, may be claimed again by right; who is shown evidence asks for that before judging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equivocation {
    /// Whose key.
    pub by: NodeId,
    /// The claims.
    pub claims: Claims,
}

impl Equivocation {
    /// The units both documents claim.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`] when the documents are the same, are about different budgets, do not meet, or
    /// are not both signed by the accused.
    pub fn verify(&self) -> Result<Range, EvidenceError> {
        let (comparable, same, ranges, signed) = match &self.claims {
            Claims::Grants(a, b) => (
                a.body.network == b.body.network
                    && a.body.root == b.body.root
                    && a.body.parent == b.body.parent
                    && a.body.epoch == b.body.epoch,
                a.body == b.body,
                (a.body.range, b.body.range),
                self.signed(a) && self.signed(b),
            ),
            Claims::Spends(a, b) => (
                a.body.network == b.body.network && a.body.chain == b.body.chain,
                a.body == b.body,
                (a.body.range, b.body.range),
                self.signed(a) && self.signed(b),
            ),
            Claims::GrantAndSpend(a, b) => (
                a.body.network == b.body.network && a.body.parent == b.body.chain,
                false,
                (a.body.range, b.body.range),
                self.signed(a) && self.signed(b),
            ),
        };
        if same {
            return Err(EvidenceError::Same);
        }
        if !comparable {
            return Err(EvidenceError::OtherBudget);
        }
        let units = ranges.0.overlap(ranges.1).ok_or(EvidenceError::Apart)?;
        if signed {
            Ok(units)
        } else {
            Err(EvidenceError::NotSigned { by: self.by })
        }
    }

    fn signed<T: Document>(&self, claim: &Signed<T>) -> bool {
        claim.body.is_signed_by(&self.by, &claim.signature)
    }
}

/// Why evidence shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// It is one document twice.
    #[error("both documents are the same")]
    Same,
    /// The two number other units.
    #[error("the documents are of different budgets, grants or epochs")]
    OtherBudget,
    /// No unit is claimed twice.
    #[error("the documents have no unit in common")]
    Apart,
    /// Somebody else signed one of them.
    #[error("{by} did not sign both documents")]
    NotSigned {
        /// The accused.
        by: NodeId,
    },
}
