//! Requests that wait for the owner, bound to exactly what was asked for.

use serde::{Deserialize, Serialize};
use tirami_manifest::mandate::Action;
use tirami_manifest::{AgentId, Amount, ModelId, NodeId, Timestamp};

/// How long a request waits, and how long an approval is good: 24 hours.
pub const APPROVAL_MS: u64 = 24 * 3_600_000;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing yet.
    Waiting,
    /// The owner said yes.
    Approved {
        /// When.
        at: Timestamp,
    },
    /// Somebody said no.
    Denied {
        /// When.
        at: Timestamp,
    },
}

/// One request that waits, or waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who asks.
    pub agent: AgentId,
    /// The name of the purchase: its idempotency key.
    pub key: String,
    /// What it is to do.
    pub action: Action,
    /// Whom it is to pay.
    pub payee: Option<NodeId>,
    /// For which model.
    pub model: Option<ModelId>,
    /// What it may cost at most.
    pub amount: Amount,
    /// The epoch of the mandate under which it was asked.
    pub epoch: u32,
    /// When it was asked.
    pub asked: Timestamp,
    /// When it is void by itself.
    pub expires: Timestamp,
    /// What was decided.
    pub verdict: Verdict,
}

impl Approval {
    /// Whether it lets `amount` through now.
    pub fn covers(&self, amount: Amount, epoch: u32, now: Timestamp) -> bool {
        matches!(self.verdict, Verdict::Approved { .. })
            && amount <= self.amount
            && epoch == self.epoch
            && now < self.expires
    }
}
