//! What can come back from asking the wallet for something.

use tirami_manifest::chain::Rejected;
use tirami_manifest::commerce::ReceiptError;
use tirami_manifest::mandate::Looser;
use tirami_manifest::mandate_chain::{ChainError, SpendError};
use tirami_manifest::{Amount, ApprovalId, NodeId};

use crate::ledger::ranges::{self, RangesError};
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
    /// A job that is claimed is not over here.
    #[error("the job is not over here; claim it again later")]
    StillOpen,
    /// The node has no owner yet.
    #[error("this node has no owner yet; run 'tirami-agent owner init' first")]
    NoOwner,
    /// The node has an owner already.
    #[error("this node already has an owner ({0})")]
    HasOwner(String),
    /// An order that is not the owner's, or was obeyed before.
    #[error("the order was refused: {0}")]
    Order(&'static str),
    /// A term that allows more than the present one, asked for without the owner.
    #[error(
        "{} would go from {} to {}; only the owner can loosen a term, with 'tirami-agent budget \
         loosen'",
        .0.term, .0.from, .0.to
    )]
    Loosens(Looser),
    /// A term that cannot be.
    #[error("the mandate's {0} cannot be as asked: a list is too long or a figure is out of range")]
    Terms(&'static str),
    /// A mandate that cannot be granted or revoked as asked.
    #[error("{0}")]
    Mandate(String),
    /// A mandate that travels does not hold.
    #[error("the mandate does not hold: {0}")]
    Chain(#[from] ChainError),
    /// A mandate that travels does not allow the spend.
    #[error("the mandate does not allow it: {0}")]
    Spend(#[from] SpendError),
    /// Units of a mandate that travels cannot be used, handed out or taken back as asked.
    #[error("the mandate's units: {0}")]
    Units(#[from] ranges::Refusal),
    /// No such mandate was handed out here, or is held here by this agent.
    #[error(
        "no mandate {0} was handed out here or is held by this agent; 'tirami-agent mandate list' \
         shows those that are"
    )]
    UnknownGrant(String),
    /// The owner, or somebody for the owner, said no to this request.
    #[error("the request was denied ({0}); ask for something else under another idempotency_key")]
    Denied(ApprovalId),
    /// No request waits under this id.
    #[error(
        "no request waits for approval under {0}; 'tirami-agent approvals' lists those that do"
    )]
    UnknownApproval(String),
    /// It cannot be decided as asked.
    #[error("{0} cannot be approved or denied: {1}")]
    Approval(ApprovalId, String),
    /// So many requests that the owner approved are remembered, that none can be asked besides.
    #[error("the owner approved {0} requests in the last 24 hours, which is the most; ask later")]
    ApprovalsFull(usize),
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
    /// Nothing was ever lent to this node.
    #[error("this node has no loan to repay")]
    NoLoan,
    /// A repayment that is not for a loan of this node.
    #[error("the repayment {0}")]
    Repayment(&'static str),
    /// No witness stands behind the payer, and no more is accepted so today.
    #[error(
        "what a member pays is certified afterwards, and until then this seller takes the risk of {left} TRM \
         more, of {budget} in 24 hours; {asked} are asked for: ask for fewer tokens"
    )]
    StrangerBudget {
        /// In 24 hours.
        budget: Amount,
        /// What is left of it.
        left: Amount,
        /// What the job would cost at most.
        asked: Amount,
    },
    /// Only members are certified.
    #[error("only members of this network are certified; join it with a ticket")]
    NotMember,
    /// Only a network's only witness certifies, and others' chains.
    #[error("this node is not the witness of that chain")]
    NotWitness,
    /// Somebody who was proved a fraud.
    #[error("node {} was proved a fraud ({kind}); 'tirami-agent network' shows the proof", .accused.short())]
    Fraud {
        /// Who.
        accused: NodeId,
        /// What it did.
        kind: &'static str,
    },
    /// What should be a proof of fraud is none.
    #[error("the proof of fraud does not hold: {0}")]
    NoFraud(String),
    /// An entry of somebody's chain does not hold.
    #[error("entry {seq} of the chain does not hold: {why}")]
    ChainRejected {
        /// Its number.
        seq: u64,
        /// Why.
        why: Rejected,
    },
    /// A certificate that certifies nothing of this node's chain.
    #[error("the certificate does not hold: {0}")]
    Certificate(String),
    /// The node's key cannot be changed as asked.
    #[error("the key cannot be changed: {0}")]
    Succession(String),
    /// A chain that cannot be certified just now.
    #[error("not certified yet: {0}")]
    NotYet(String),
    /// Rows of the journal that were asked for are not here any more.
    #[error("entries 1 to {0} of the journal were archived and are not in the wallet any more")]
    Dropped(u64),
    /// Nothing of the journal can be archived as asked.
    #[error("nothing was archived: {0}")]
    NotArchived(String),
    /// A file that is no archive, or not one that fits this wallet.
    #[error("{file} {why}; nothing was changed")]
    Archive {
        /// Which file.
        file: String,
        /// Why, as the rest of a sentence.
        why: String,
    },
    /// A member whose loan is in default buys nothing until it is repaid.
    #[error("the member's welcome loan is in default: {owed} TRM of it are owed")]
    LoanDefault {
        /// Still owed.
        owed: Amount,
    },
}

impl From<ApplyError> for WalletError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Refused(refusal) => Self::Refused(refusal),
            ApplyError::Store(error) => Self::Store(error),
        }
    }
}

impl From<RangesError> for WalletError {
    fn from(error: RangesError) -> Self {
        match error {
            RangesError::Refused(refusal) => Self::Units(refusal),
            RangesError::Store(error) => Self::Store(error),
        }
    }
}

impl WalletError {
    /// Whether asking again may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Busy
            | Self::ApprovalsFull(_)
            | Self::KeyRunning { .. }
            | Self::Store(StoreError::Full)
            | Self::StrangerBudget { .. }
            | Self::NotYet(_)
            | Self::LoanDefault { .. } => Retry::Later,
            Self::Refused(Refusal::NotEnough { .. } | Refusal::NeedsApproval { .. }) => {
                Retry::Later
            }
            Self::Refused(refusal) if refusal.passes_at().is_some() => Retry::Later,
            _ => Retry::Never,
        }
    }
}
