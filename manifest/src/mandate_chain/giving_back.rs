//! Units that go back to whom they were carved from.

use super::grant::Grant;
use super::is_over;
use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{GrantId, NetworkId, NodeId};
use crate::key::Signature;
use crate::range::Range;
use crate::signed::{Document, SignatureError, Signed};
use crate::time::Timestamp;

/// A statement that a range was not used and, under this grant, never will be.
///
/// Signed by the grant's holder, or by the root payer whose units they are, it asks the tracker to give
/// the units back: that is how a grant is revoked. Signed by the tracker it
/// proves to whoever carved them that they may be carved again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeReturn {
    /// The network whose TRM it is about.
    pub network: NetworkId,
    /// Whose units they are.
    pub root: NodeId,
    /// The grant they go back from.
    pub grant: GrantId,
    /// The units.
    pub range: Range,
    /// Who remembers which units were used.
    pub tracker: NodeId,
}

impl RangeReturn {
    /// The return of `range` from `grant`.
    pub fn of(grant: &Grant, range: Range) -> Self {
        Self {
            network: grant.network,
            root: grant.root,
            grant: grant.id(),
            range,
            tracker: grant.tracker(),
        }
    }

    /// Checks that the tracker may grant this request: it is about units of `grant`, and the holder or
    /// the root payer signed it, or `grant` is over, or `epoch`, the root payer's, has passed it.
    ///
    /// # Errors
    ///
    /// [`ReturnError`].
    pub fn check_request(
        &self,
        grant: &Grant,
        by: Option<&Signature>,
        now: Timestamp,
        epoch: u64,
    ) -> Result<(), ReturnError> {
        self.check_about(grant)?;
        let signed = by.is_some_and(|by| {
            self.is_signed_by(&grant.holder, by) || self.is_signed_by(&grant.root, by)
        });
        if signed || is_over(grant.expires, now) || epoch > grant.epoch {
            Ok(())
        } else {
            Err(ReturnError::StillHeld {
                expires: grant.expires,
            })
        }
    }

    /// Checks that the tracker of `grant` says that the units are free again.
    ///
    /// # Errors
    ///
    /// [`ReturnError`].
    pub fn check_proof(proof: &Signed<Self>, grant: &Grant) -> Result<Range, ReturnError> {
        proof.body.check_about(grant)?;
        proof.clone().verify(&grant.tracker())?;
        Ok(proof.body.range)
    }

    /// True when the tracker it names signed it.
    pub fn is_by_tracker(&self, signature: &Signature) -> bool {
        self.is_signed_by(&self.tracker, signature)
    }

    fn check_about(&self, grant: &Grant) -> Result<(), ReturnError> {
        if *self != Self::of(grant, self.range) {
            return Err(ReturnError::OtherGrant);
        }
        if !grant.range.contains(self.range) {
            return Err(ReturnError::Range {
                granted: grant.range,
                asked: self.range,
            });
        }
        Ok(())
    }
}

impl Document for RangeReturn {
    const DOMAIN: &'static [u8] = b"trm/v1/range-return\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .raw(self.root.as_bytes())
            .raw(self.grant.as_bytes());
        self.range.encode(out);
        out.raw(self.tracker.as_bytes());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        Ok(Self {
            network: NetworkId::from_bytes(from.raw("network")?),
            root: NodeId::from_bytes(from.raw("root")?),
            grant: GrantId::from_bytes(from.raw("grant")?),
            range: Range::decode(from, "range")?,
            tracker: NodeId::from_bytes(from.raw("tracker")?),
        })
    }
}

/// Why units do not go back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReturnError {
    /// It names another grant, root payer, network or tracker.
    #[error("the return is not of this grant")]
    OtherGrant,
    /// It names units that were not granted.
    #[error("the units {granted} are granted, {asked} are to go back")]
    Range {
        /// Of the grant.
        granted: Range,
        /// Of the return.
        asked: Range,
    },
    /// Neither the holder nor the root payer has agreed, and the grant is not over.
    #[error(
        "neither the holder nor the root payer has signed, and the holder may spend until {}",
        expires.to_rfc3339()
    )]
    StillHeld {
        /// When the grant ends by itself.
        expires: Timestamp,
    },
    /// The tracker did not sign it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}
