//! Why an operation did not do what was asked: one shape for every door.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::{ApprovalId, NodeId};
use tirami_wallet::keystore::KeyError;
use tirami_wallet::ledger::ranges;
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::ledger::rule::Rule;
use tirami_wallet::store::StoreError;
use tirami_wallet::{Retry, WalletError};

/// Why an operation did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// A stable word for programs; listed in `docs/mcp-tools.md`.
    pub code: FailureCode,
    /// What is wrong, with the field, the value and the numbers.
    pub message: String,
    /// Whether the same request may pass later, under the same idempotency key.
    pub retryable: bool,
    /// The way out, in one sentence.
    pub hint: Option<String>,
    /// The tool that helps next.
    pub next_tool: Option<Box<str>>,
    /// The approval that the request waits for: `tirami-agent approve` with it, then the same
    /// request under the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
    /// When the same request would pass, if time alone brings that; RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Box<str>>,
    /// Other nodes that were sent the prompt before it failed.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub seen_by: Box<[NodeId]>,
}

/// A stable word for a kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureCode {
    /// An input is not what it should be.
    InvalidInput,
    /// A limit of the agent's mandate.
    OverBudget,
    /// Something that the agent's mandate does not allow at all, or not now.
    NotAllowed,
    /// Too many purchases, failures or repetitions; spending stops for a while.
    RateLimited,
    /// The owner is to decide first.
    ApprovalRequired,
    /// The owner, or somebody for the owner, said no.
    Denied,
    /// Above the request's own `max_trm`.
    AboveMaxTrm,
    /// The kill switch is on.
    Frozen,
    /// Not enough TRM.
    InsufficientFunds,
    /// The node's loan was not paid back in time; its lender sells it nothing until it is.
    LoanDefault,
    /// Only the owner may do this.
    OwnerRequired,
    /// No token, or one that is not known.
    Unauthorized,
    /// Nothing has this id or name.
    NotFound,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// The request under this key is still running.
    InProgress,
    /// No provider can do it.
    NoProvider,
    /// The provider failed or broke its word; what was vouched for by then is owed.
    ProviderFailed,
    /// The ticket or invitation is of another network, used or damaged.
    Ticket,
    /// Another process has the wallet.
    InUse,
    /// Too much at once.
    Busy,
    /// The model could not be loaded or run.
    Model,
    /// The wallet file could not be read or written.
    Store,
    /// Something that should not happen.
    Internal,
}

impl FailureCode {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::OverBudget => "over_budget",
            Self::NotAllowed => "not_allowed",
            Self::RateLimited => "rate_limited",
            Self::ApprovalRequired => "approval_required",
            Self::Denied => "denied",
            Self::AboveMaxTrm => "above_max_trm",
            Self::Frozen => "frozen",
            Self::InsufficientFunds => "insufficient_funds",
            Self::LoanDefault => "loan_default",
            Self::OwnerRequired => "owner_required",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::InProgress => "in_progress",
            Self::NoProvider => "no_provider",
            Self::ProviderFailed => "provider_failed",
            Self::Ticket => "ticket",
            Self::InUse => "in_use",
            Self::Busy => "busy",
            Self::Model => "model",
            Self::Store => "store",
            Self::Internal => "internal",
        }
    }
}

impl Failure {
    /// A failure that the same request will meet again.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: false,
            hint: None,
            next_tool: None,
            approval: None,
            retry_at: None,
            seen_by: Box::default(),
        }
    }

    /// The same request may pass later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// With the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the key to ask again with, when it is the owner who is waited for: whoever named none was
    /// given one.
    #[must_use]
    pub(crate) fn asked_under(self, key: &str) -> Self {
        match self.approval {
            Some(id) => self.hint(format!(
                "the owner decides: 'tirami-agent approve {id}'; then ask again with \
                 idempotency_key '{key}'"
            )),
            None => self,
        }
    }

    /// With those who were sent the prompt all the same.
    #[must_use]
    pub(crate) fn seen_by(mut self, nodes: &[NodeId]) -> Self {
        self.seen_by = nodes.into();
        self
    }

    /// With the tool that helps next.
    #[must_use]
    pub fn next_tool(mut self, tool: &str) -> Self {
        self.next_tool = Some(tool.into());
        self
    }
}

/// The way to entries of the journal that are not in the wallet.
const PUT_BACK: &str = "'tirami-agent wallet unarchive FILE' puts them back";

impl From<WalletError> for Failure {
    fn from(error: WalletError) -> Self {
        let (code, hint, tool) = match &error {
            WalletError::Refused(refusal) => refused(refusal),
            WalletError::Store(StoreError::InUse) => (FailureCode::InUse, None, None),
            WalletError::Store(StoreError::Io(_) | StoreError::Failed(_)) => (
                FailureCode::Store,
                Some("see whether the disk is full or failing, then restart the node".into()),
                None,
            ),
            WalletError::Store(_) => (FailureCode::Store, None, None),
            WalletError::Busy => (FailureCode::Busy, None, None),
            WalletError::ApprovalsFull(_) => (FailureCode::RateLimited, None, None),
            WalletError::KeyReused { .. } => (FailureCode::IdempotencyKeyReused, None, None),
            WalletError::KeyRunning { .. } => (FailureCode::InProgress, None, None),
            WalletError::Receipt(_) | WalletError::OtherReceipt(_) => {
                (FailureCode::ProviderFailed, None, None)
            }
            WalletError::NoOwner
            | WalletError::Loosens(_)
            | WalletError::HasOwner(_)
            | WalletError::Order(_) => (FailureCode::OwnerRequired, None, None),
            WalletError::Denied(_) => (FailureCode::Denied, None, None),
            WalletError::Units(ranges::Refusal::NoRoom { longest, .. }) => (
                FailureCode::OverBudget,
                Some(format!(
                    "ask for at most {longest} TRM, or for another mandate"
                )),
                None,
            ),
            WalletError::Chain(_) | WalletError::Spend(_) | WalletError::Units(_) => (
                FailureCode::NotAllowed,
                Some("ask the one who handed the mandate out for another".into()),
                None,
            ),
            WalletError::Terms(_)
            | WalletError::Mandate(_)
            | WalletError::Approval(..)
            | WalletError::Repayment(_)
            | WalletError::NotArchived(_)
            | WalletError::Archive { .. } => (FailureCode::InvalidInput, None, None),
            WalletError::UnknownToken => (FailureCode::Unauthorized, None, None),
            WalletError::UnknownAgent(_)
            | WalletError::UnknownApproval(_)
            | WalletError::UnknownGrant(_)
            | WalletError::NoLoan => (FailureCode::NotFound, None, None),
            WalletError::Dropped(_) => (FailureCode::NotFound, Some(PUT_BACK.into()), None),
            WalletError::LoanDefault { .. } => (FailureCode::LoanDefault, None, None),
            WalletError::OtherNetwork { .. } | WalletError::Invitation(_) => {
                (FailureCode::Ticket, None, None)
            }
            _ => (FailureCode::Internal, None, None),
        };
        let (approval, retry_at) = match &error {
            WalletError::Refused(Refusal::NeedsApproval { approval, .. }) => (*approval, None),
            WalletError::Refused(refusal) => (None, refusal.passes_at()),
            _ => (None, None),
        };
        Self {
            code,
            message: error.to_string(),
            retryable: error.retry() == Retry::Later,
            hint,
            next_tool: tool.map(Into::into),
            approval,
            retry_at: retry_at.map(|at| at.to_rfc3339().into()),
            seen_by: Box::default(),
        }
    }
}

fn refused(refusal: &Refusal) -> (FailureCode, Option<String>, Option<&'static str>) {
    match refusal {
        Refusal::OverBudget {
            limit,
            left,
            frees_at,
            ..
        } => {
            let hint = match (limit, frees_at) {
                (_, Some(at)) => format!(
                    "ask for at most {left} TRM now, or for the whole after {}",
                    at.to_rfc3339()
                ),
                (Rule::PerRequest, None) => {
                    format!("ask for at most {left} TRM: lower max_tokens or shorten the prompt")
                }
                (_, None) => format!("ask for at most {left} TRM, or ask the owner for more"),
            };
            (FailureCode::OverBudget, Some(hint), Some("budget"))
        }
        Refusal::NotAllowed { rule, passes_at, .. } => (
            FailureCode::NotAllowed,
            Some(match passes_at {
                None if *rule == Rule::Revoked => {
                    "the owner grants another: 'tirami-agent mandate grant NAME --owner', at the default limits".into()
                }
                Some(at) => format!("ask again after {}", at.to_rfc3339()),
                None => "ask for something the mandate allows, or ask the owner for more".into(),
            }),
            Some("budget"),
        ),
        Refusal::TooMany { passes_at, .. } => (
            FailureCode::RateLimited,
            Some(match passes_at {
                Some(at) => format!("ask again after {}", at.to_rfc3339()),
                None => "ask again when one of them has ended".into(),
            }),
            Some("budget"),
        ),
        Refusal::NeedsApproval { approval, .. } => (
            FailureCode::ApprovalRequired,
            Some(approval.map_or_else(
                || "ask for less, or ask the owner for a higher threshold".to_owned(),
                |id| {
                    format!(
                        "the owner decides: 'tirami-agent approve {id}'; then ask again with the \
                         same idempotency_key"
                    )
                },
            )),
            Some("budget"),
        ),
        Refusal::Frozen { .. } => (
            FailureCode::Frozen,
            Some("only the owner lifts it: 'tirami-agent unfreeze', with the passphrase".into()),
            Some("budget"),
        ),
        Refusal::NotEnough { available, .. } => (
            FailureCode::InsufficientFunds,
            Some(format!(
                "ask for at most {available} TRM, or earn more by serving"
            )),
            Some("balance"),
        ),
        Refusal::NoMandate { .. } => (FailureCode::OwnerRequired, None, None),
        Refusal::OverCap { .. } => (FailureCode::InsufficientFunds, None, None),
        Refusal::UnknownHold { .. } => (FailureCode::NotFound, None, None),
        _ => (FailureCode::Internal, None, None),
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        let code = match &error {
            KeyError::Passphrase | KeyError::Exists { .. } => FailureCode::OwnerRequired,
            KeyError::TooShort { .. } => FailureCode::InvalidInput,
            _ => FailureCode::Store,
        };
        let locked = matches!(error, KeyError::Locked { .. });
        let failure = Self::new(code, error.to_string());
        if locked {
            return failure.hint(
                "give --key-passphrase-file FILE, or key_passphrase_file in the config file",
            );
        }
        failure
    }
}
