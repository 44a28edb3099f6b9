//! What can come back from asking the wallet for something.

use tirami_manifest::commerce::ReceiptError;

use crate::ledger::refusal::{ApplyError, Refusal};
use crate::store::StoreError;

/// Whether asking again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request will be refused again.
    Never,
    /// It may pass later, under the same key.
    Later,
}

/// What can come back from asking the wallet for something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// The rules say no; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many commands wait.
    #[error("the wallet is busy; try again")]
    Busy,
    /// The idempotency key was used for another request.
    #[error("idempotency_key '{key}' was used for another request; use a new key")]
    KeyReused {
        /// The key.
        key: String,
    },
    /// The request under this key is being worked on.
    #[error("the request under idempotency_key '{key}' is still running; ask again later")]
    KeyRunning {
        /// The key.
        key: String,
    },
    /// A receipt that proves nothing.
    #[error("the receipt was not accepted: {0}")]
    Receipt(#[from] ReceiptError),
    /// A receipt for another hold or another party.
    #[error("the receipt is for another {0}")]
    OtherReceipt(&'static str),
    /// The node has no owner yet.
    #[error("this node has no owner yet; run 'tirami-agent owner init' first")]
    NoOwner,
    /// The node has an owner already.
    #[error("this node already has an owner ({0})")]
    HasOwner(String),
    /// An order that is not the owner's, or was obeyed before.
    #[error("the order was refused: {0}")]
    Order(&'static str),
    /// A limit above the present one, asked for without the owner.
    #[error(
        "{limit} would rise from {from} to {to} TRM; only the owner can loosen a limit: use \
         --passphrase-file or a terminal"
    )]
    Loosens {
        /// Which limit.
        limit: &'static str,
        /// Present value.
        from: tirami_manifest::Amount,
        /// Asked for.
        to: tirami_manifest::Amount,
    },
    /// A token nobody made, or one that was revoked.
    #[error(
        "the token is not known to this node; 'tirami-agent token show' prints the one in its data \
         directory, and when that is the unknown one, the owner makes another: 'tirami-agent token \
         create main', to be put into agent.token"
    )]
    UnknownToken,
    /// An agent nobody made.
    #[error("there is no agent named '{0}'")]
    UnknownAgent(String),
    /// The node belongs to another network.
    #[error(
        "this node belongs to network {have} and has traded there; to join {other}, use another \
         --data-dir"
    )]
    OtherNetwork {
        /// Present network.
        have: String,
        /// Asked for.
        other: String,
    },
    /// The node belongs to no network yet.
    #[error("this node belongs to no network yet; run 'tirami-agent up' or 'tirami-agent join'")]
    NoNetwork,
    /// An invitation that is not this issuer's, or is used up.
    #[error("the invitation {0}")]
    Invitation(&'static str),
}

impl From<ApplyError> for WalletError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Refused(refusal) => Self::Refused(refusal),
            ApplyError::Store(error) => Self::Store(error),
        }
    }
}

impl WalletError {
    /// Whether asking again may help.
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Busy
            | Self::KeyRunning { .. }
            | Self::Refused(
                Refusal::NotEnough { .. }
                | Refusal::OverBudget {
                    frees_at: Some(_), ..
                },
            ) => Retry::Later,
            _ => Retry::Never,
        }
    }
}
