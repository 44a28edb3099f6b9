//! One use of units, signed by the holder of the last grant.

use super::allowed::Action;
use super::chain::VerifiedChain;
use super::is_over;
use crate::amount::Amount;
use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{GrantId, ModelId, NetworkId, NodeId};
use crate::range::Range;
use crate::signed::{Document, SignatureError, Signed, Verified};
use crate::time::Timestamp;

/// An order to pay at most the units of `range` for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The network whose TRM is spent.
    pub network: NetworkId,
    /// The last grant of the chain it stands under; its holder signs.
    pub chain: GrantId,
    /// The units, at most as many as one request may take.
    pub range: Range,
    /// Who is paid.
    pub payee: NodeId,
    /// What for.
    pub action: Action,
    /// With which model.
    pub model: ModelId,
    /// What exactly: a quote's id, or a hash of the request.
    pub request: [u8; 32],
    /// Makes each spend of a holder different; asking twice with one is asking once.
    pub nonce: [u8; 16],
    /// After this it may not be accepted.
    pub expires: Timestamp,
}

impl Document for Spend {
    const DOMAIN: &'static [u8] = b"trm/v1/range-spend\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .raw(self.chain.as_bytes());
        self.range.encode(out);
        out.raw(self.payee.as_bytes())
            .u32(self.action.bit())
            .raw(self.model.as_bytes())
            .raw(&self.request)
            .raw(&self.nonce)
            .u64(self.expires.ms());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        Ok(Self {
            network: NetworkId::from_bytes(from.raw("network")?),
            chain: GrantId::from_bytes(from.raw("chain")?),
            range: Range::decode(from, "range")?,
            payee: NodeId::from_bytes(from.raw("payee")?),
            action: Action::from_bit(from.u32("action")?).ok_or(DecodeError::Value("action"))?,
            model: ModelId::from_bytes(from.raw("model")?),
            request: from.raw("request")?,
            nonce: from.raw("nonce")?,
            expires: Timestamp::from_ms(from.u64("expires")?),
        })
    }
}

impl VerifiedChain {
    /// Checks everything about a spend but whether its units are free, which only
    /// [`VerifiedChain::tracker`] knows. `payee` is who will be paid.
    ///
    /// # Errors
    ///
    /// The first [`SpendError`] in the order of that enum.
    pub fn check(
        &self,
        spend: &Signed<Spend>,
        payee: NodeId,
        now: Timestamp,
    ) -> Result<CheckedSpend, SpendError> {
        let limits = self.limits();
        let verified = spend.clone().verify(&limits.holder)?;
        let body = &spend.body;
        if body.network != limits.network || body.chain != self.id() {
            return Err(SpendError::OtherChain);
        }
        if !limits.range.contains(body.range) {
            return Err(SpendError::Range {
                granted: limits.range,
                asked: body.range,
            });
        }
        if body.range.amount() > limits.per_request {
            return Err(SpendError::PerRequest {
                most: limits.per_request,
                asked: body.range.amount(),
            });
        }
        let pinned_elsewhere = limits.pinned.is_some_and(|provider| provider != payee);
        if body.payee != payee || pinned_elsewhere || !limits.payees.allows(&payee) {
            return Err(SpendError::Payee { payee });
        }
        if !limits.actions.contains(body.action) {
            return Err(SpendError::Action {
                action: body.action,
            });
        }
        if !limits.models.allows(&body.model) {
            return Err(SpendError::Model { model: body.model });
        }
        let expires = body.expires.min(limits.expires);
        if is_over(expires, now) {
            return Err(SpendError::Expired { expires, now });
        }
        Ok(CheckedSpend {
            root: limits.root,
            epoch: limits.epoch,
            holder: limits.holder,
            tracker: self.tracker(),
            grants: self.ids().to_vec(),
            spend: verified,
            at: now,
            ends: expires,
        })
    }
}

/// A spend that its chain allows; [`VerifiedChain::check`] is the only maker. Whether its units are
/// free is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedSpend {
    root: NodeId,
    epoch: u64,
    holder: NodeId,
    tracker: NodeId,
    grants: Vec<GrantId>,
    spend: Verified<Spend>,
    at: Timestamp,
    ends: Timestamp,
}

impl CheckedSpend {
    /// Whose units they are.
    pub const fn root(&self) -> NodeId {
        self.root
    }

    /// The root payer's epoch in the chain.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Who spends.
    pub const fn holder(&self) -> NodeId {
        self.holder
    }

    /// Who alone may accept it.
    pub const fn tracker(&self) -> NodeId {
        self.tracker
    }

    /// The grants it stands under, the root payer's first.
    pub fn grants(&self) -> &[GrantId] {
        &self.grants
    }

    /// The spend with its signature.
    pub const fn spend(&self) -> &Verified<Spend> {
        &self.spend
    }

    /// When it is over: by itself or with its grant.
    pub const fn ends(&self) -> Timestamp {
        self.ends
    }

    /// The time it was checked at.
    pub const fn at(&self) -> Timestamp {
        self.at
    }
}

/// Why a chain does not allow a spend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpendError {
    /// The holder did not sign it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It stands under another chain.
    #[error("the spend names another chain or network")]
    OtherChain,
    /// It uses units that were not granted.
    #[error("the units {granted} are granted, {asked} asked")]
    Range {
        /// Of the last grant.
        granted: Range,
        /// Of the spend.
        asked: Range,
    },
    /// It takes too many at once.
    #[error("one request may take {most} TRM, {asked} TRM asked")]
    PerRequest {
        /// Allowed.
        most: Amount,
        /// Of the spend.
        asked: Amount,
    },
    /// It pays somebody else, or one the grant does not allow.
    #[error("paying {payee} is not what was signed, or not allowed")]
    Payee {
        /// Who would be paid.
        payee: NodeId,
    },
    /// The grant does not allow the action.
    #[error("{action:?} is not allowed")]
    Action {
        /// Which.
        action: Action,
    },
    /// The grant does not allow the model.
    #[error("the model {model} is not allowed")]
    Model {
        /// Which.
        model: ModelId,
    },
    /// Its time, or its grant's, is over.
    #[error("the spend or its grant expired at {}; it is {}", expires.to_rfc3339(), now.to_rfc3339())]
    Expired {
        /// When.
        expires: Timestamp,
        /// The verifier's time.
        now: Timestamp,
    },
}
