//! Permission to spend: how much an agent may spend, per request and in time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::bytes::{DecodeError, Reader, Writer};

/// The limits of one agent's mandate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most that one request may hold.
    pub per_request_trm: Amount,
    /// Most in any 60 minutes.
    pub hour_trm: Amount,
    /// Most in the mandate's lifetime.
    pub lifetime_trm: Amount,
}

impl Limits {
    /// What an agent may do before its owner says otherwise.
    pub const DEFAULT: Self = Self {
        per_request_trm: Amount::from_trm(5_000),
        hour_trm: Amount::from_trm(10_000),
        lifetime_trm: Amount::from_trm(1_000_000),
    };

    /// True when no limit here is above the same limit in `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        self.per_request_trm <= other.per_request_trm
            && self.hour_trm <= other.hour_trm
            && self.lifetime_trm <= other.lifetime_trm
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u64(self.per_request_trm.utrm())
            .u64(self.hour_trm.utrm())
            .u64(self.lifetime_trm.utrm());
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut next =
            |field| Amount::from_utrm(from.u64(field)?).map_err(|_| DecodeError::Value(field));
        Ok(Self {
            per_request_trm: next("per request")?,
            hour_trm: next("hour")?,
            lifetime_trm: next("lifetime")?,
        })
    }
}
