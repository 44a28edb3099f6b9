//! Inputs and outputs of the operations on mandates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::mandate::{Action, Pot, Terms};
use tirami_manifest::{AgentId, Amount, ApprovalId, ModelId, NodeId};

use super::Chat;
use crate::failure::Failure;

/// An agent's mandate and what is left of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Which agent, by name; the caller when absent. Only agents below the caller can be asked about.
    #[serde(default)]
    pub agent: Option<String>,
}

/// An agent's mandate and what is left of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetOutput {
    /// The agent.
    pub agent: String,
    /// The agent's id, which an owner's order names.
    pub agent_id: AgentId,
    /// Who granted the mandate; the owner when absent.
    pub parent: Option<String>,
    /// Whose account pays.
    pub payer: String,
    /// What the mandate says. Mandates above it hold as well.
    pub terms: Terms,
    /// When it ends, RFC 3339 in UTC; never when absent.
    pub expires_at: Option<String>,
    /// What was used of it.
    pub used: UsedOutput,
    /// Where the payer's money came from, and how much of each is available.
    pub pots: Vec<PotOutput>,
    /// The most one request could hold now: by every limit of every mandate, pots and balance.
    pub trm_left: Amount,
    /// What sets that bound: a limit's name, `balance` or `pots`.
    pub left_by: String,
    /// Why spending is frozen, while it is.
    pub frozen: Option<String>,
}

/// What was used of a mandate; amounts include what is set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsedOutput {
    /// In the last 60 seconds.
    pub trm_minute: Amount,
    /// In the last 60 minutes.
    pub trm_hour: Amount,
    /// In the last 24 hours.
    pub trm_day: Amount,
    /// In all.
    pub trm_lifetime: Amount,
    /// Requests set aside now.
    pub in_flight: u32,
    /// Purchases in the last 60 seconds.
    pub spends_in_minute: u64,
    /// Purchases that failed since the last that did not.
    pub errors_in_row: u32,
}

/// Part of an account, by where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PotOutput {
    /// Which.
    pub pot: Pot,
    /// What it holds, less what is set aside.
    pub trm_available: Amount,
}

/// Whether a spend would pass now, and what every rule says. Nothing is spent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainBudget {
    /// How much would be set aside.
    pub trm_amount: Amount,
    /// Which agent would spend, by name; the caller when absent.
    #[serde(default)]
    pub agent: Option<String>,
    /// What would be done; `chat` when absent.
    #[serde(default)]
    pub action: Option<Action>,
    /// Who would be paid; unknown is not allowed where a mandate lists payees.
    #[serde(default)]
    pub payee: Option<NodeId>,
    /// The model; unknown is not allowed where a mandate lists models.
    #[serde(default)]
    pub model: Option<ModelId>,
    /// What 10^9 FLOP would cost.
    #[serde(default)]
    pub trm_per_gflop: Option<Amount>,
    /// The request itself, as it would be asked: whether it is one too many of the same. Its
    /// idempotency key does not matter.
    #[serde(default)]
    pub request: Option<Chat>,
}

/// What every rule says of a spend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainOutput {
    /// The agent that would spend.
    pub agent: String,
    /// How much.
    pub trm_amount: Amount,
    /// Whether it would pass.
    pub passes: bool,
    /// The number of the refusal, when it would not.
    pub refusal_number: Option<u16>,
    /// The refusal, as the spend itself would answer it.
    pub refusal: Option<Failure>,
    /// When it would pass, if time alone brings that; RFC 3339 in UTC.
    pub passes_at: Option<String>,
    /// Every rule of every mandate, in the order in which refusals are given.
    pub rules: Vec<RuleOutput>,
}

/// What one rule of one mandate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleOutput {
    /// Its number, as in `docs/ledger.md`.
    pub number: u16,
    /// Its name.
    pub rule: String,
    /// Whose mandate.
    pub mandate: String,
    /// What there would be with the spend, or what was seen before it where it counts nothing.
    pub observed: String,
    /// What is allowed.
    pub limit: String,
    /// Whether the spend passes.
    pub passes: bool,
    /// When it would, if time alone brings that; RFC 3339 in UTC.
    pub passes_at: Option<String>,
}

/// Limits that were used up to 50, 80 or 95 percent, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// Most to return, 1 to 1000; 50 when absent.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Limits that were used up to a share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertsOutput {
    /// Newest first.
    pub alerts: Vec<AlertOutput>,
}

/// One limit that was used up to a share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertOutput {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Whose mandate.
    pub agent: String,
    /// Which limit.
    pub limit: String,
    /// The share reached, in percent: 50, 80 or 95.
    pub percent: u8,
    /// What was used then.
    pub used: String,
    /// What is allowed.
    pub allowed: String,
}

super::empty_input!(
    /// The caller's mandate and every one below it; everybody's for the main agent.
    Mandates
);

/// Mandates, those from the owner first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MandatesOutput {
    /// The mandates.
    pub mandates: Vec<MandateOutput>,
}

/// One mandate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MandateOutput {
    /// Whose.
    pub agent: String,
    /// The agent's id.
    pub agent_id: AgentId,
    /// Who granted it; the owner when absent.
    pub parent: Option<String>,
    /// Whose account pays.
    pub payer: String,
    /// Mandates above it.
    pub depth: u8,
    /// How often it was granted.
    pub epoch: u32,
    /// When it was granted, RFC 3339 in UTC.
    pub granted_at: String,
    /// When it was revoked, RFC 3339 in UTC.
    pub revoked_at: Option<String>,
    /// False when it, or one above it, was revoked or granted anew.
    pub valid: bool,
    /// Spent and set aside in all.
    pub trm_used_lifetime: Amount,
    /// The most one request could hold now.
    pub trm_left: Amount,
    /// When it ends, RFC 3339 in UTC; never when absent.
    pub expires_at: Option<String>,
    /// What it says.
    pub terms: Terms,
}

/// Gives an agent part of what another may spend. It counts against both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantMandate {
    /// Name of the agent that gets it; created when it is new.
    pub agent: String,
    /// Out of whose mandate, by name; the caller's when absent.
    #[serde(default)]
    pub parent: Option<String>,
    /// What it may do.
    pub terms: Terms,
}

/// Takes an agent's mandate away, and those of everybody below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeMandate {
    /// Name of the agent.
    pub agent: String,
}

/// Whose mandates are over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevokedOutput {
    /// The agent first, then those below it.
    pub agents: Vec<String>,
}

super::empty_input!(
    /// Requests that wait for the owner, or were decided in the last day.
    Approvals
);

/// Requests that wait for the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalsOutput {
    /// Newest first.
    pub approvals: Vec<ApprovalOutput>,
}

/// One request that waits, or waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalOutput {
    /// Its id.
    pub approval: ApprovalId,
    /// Who asks.
    pub agent: String,
    /// The purchase's idempotency key: asking again with it goes on once it is approved.
    pub idempotency_key: String,
    /// What would be done.
    pub action: Action,
    /// Who would be paid.
    pub payee: Option<NodeId>,
    /// For which model.
    pub model: Option<ModelId>,
    /// The most it may cost.
    pub trm_amount: Amount,
    /// `waiting`, `approved`, `denied`, or `used` once the request went through.
    pub state: String,
    /// When it was asked, RFC 3339 in UTC.
    pub asked_at: String,
    /// When it is void by itself, RFC 3339 in UTC.
    pub expires_at: String,
    /// When it was decided, RFC 3339 in UTC.
    pub decided_at: Option<String>,
}

/// Says no to a request that waits for the owner, or was approved and not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deny {
    /// Which, 32 hexadecimal digits.
    pub approval: ApprovalId,
}

/// Tightens a mandate. Loosening needs an owner's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TightenBudget {
    /// Which agent's, by name; the caller's when absent.
    #[serde(default)]
    pub agent: Option<String>,
    /// The new terms, none of which allows more than the present ones.
    pub terms: Terms,
}
