//! Operations: everything a door can ask of a node, each with a typed input and output.
//!
//! The outputs are what MCP tools return, what `--json` prints and what REST answers, so a fact has
//! one shape. Amounts are decimal strings of TRM in fields that start with `trm_`; limits end in
//! `_trm`.

use std::future::Future;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tirami_manifest::job::Message;
use tirami_manifest::receipt_file::ReceiptFile;
use tirami_manifest::{AgentId, GrantId};
use tirami_manifest::{Amount, ModelId, NetworkId, NodeId, OwnerId, QuoteId, ReceiptId};
use tokio::sync::mpsc;

/// An input without fields.
macro_rules! empty_input {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {}
    };
}

use empty_input;

mod archive;
mod backup;
mod books;
pub(crate) mod budget;
mod chain;
mod identity;
mod journal;
mod loans;
mod mandates;
mod money;
mod node;
mod page;
mod peers;
mod selling;
mod statement;
mod tokens;
mod travelling;
mod work;

pub use archive::*;
pub use backup::*;
pub use books::*;
pub use chain::*;
pub use identity::*;
pub use journal::*;
pub use loans::*;
pub use mandates::*;
pub use peers::*;
pub use selling::*;
pub use statement::*;
pub use tokens::*;
pub use travelling::*;

use crate::failure::{Failure, FailureCode};
use crate::privacy::Privacy;
use crate::runtime::Runtime;

/// Who asks: an agent, shown by its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The agent whose account pays and whose mandate limits.
    pub agent: AgentId,
}

impl Caller {
    /// Whether this is the node's own agent.
    pub fn is_main(&self) -> bool {
        self.agent == crate::owner::agent_id(crate::owner::MAIN_AGENT)
    }

    /// Refuses every other agent.
    pub(crate) fn must_be_main(&self) -> Result<(), Failure> {
        if self.is_main() {
            return Ok(());
        }
        Err(Failure::new(
            FailureCode::Unauthorized,
            "only the node's main agent may do this",
        )
        .hint("use the token that 'tirami-agent token show' prints"))
    }
}

/// Where generated text goes while an operation runs. Pieces are complete UTF-8.
pub type TextSink = mpsc::Sender<String>;

/// Something a node can be asked to do.
pub trait Operation: Serialize + DeserializeOwned + Send + 'static {
    /// Its name on the local socket.
    const NAME: &'static str;
    /// Whether an agent must show its token.
    const NEEDS_TOKEN: bool = true;
    /// What comes back.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Called once before the operation is sent, maybe more than once: an operation that pays gives
    /// itself an idempotency key here.
    fn prepare(&mut self) {}

    /// Does it. `text` receives generated text as it comes, for the operations that generate.
    fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        text: Option<TextSink>,
    ) -> impl Future<Output = Result<Self::Output, Failure>> + Send;

    /// As [`Operation::run`]; what it fails with calls agents by their names.
    fn carry_out(
        self,
        runtime: &Runtime,
        caller: Caller,
        text: Option<TextSink>,
    ) -> impl Future<Output = Result<Self::Output, Failure>> + Send {
        async move {
            let done = self.run(runtime, caller, text).await;
            done.map_err(|failure| named(runtime, caller, failure))
        }
    }
}

/// A failure that calls agents by name, as far as the caller sees them; an id is all that the ledger
/// knows of one.
fn named(runtime: &Runtime, caller: Caller, mut failure: Failure) -> Failure {
    let wallet = &runtime.inner.wallet;
    if !failure.message.contains("agent ") {
        return failure;
    }
    for agent in wallet.agents().unwrap_or_default() {
        let sees = caller.is_main() || wallet.is_above(&caller.agent, &agent.id).unwrap_or(false);
        let id = format!("agent {}", agent.id.short());
        if sees && failure.message.contains(&id) {
            failure.message = failure
                .message
                .replace(&id, &format!("agent {}", agent.name));
        }
    }
    failure
}

empty_input!(
    /// What the agent and its node have.
    Balance
);

/// What the agent and its node have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BalanceOutput {
    /// The agent asked about.
    pub agent: String,
    /// What is free in the account it pays from.
    pub trm_balance: Amount,
    /// What is set aside there for running requests.
    pub trm_held: Amount,
    /// What it paid in all, loans paid back included. Where another's account pays for it: what its
    /// mandate has counted, running requests and agents below it included.
    pub trm_spent: Amount,
    /// What the node has earned by serving in all.
    pub trm_earned: Amount,
    /// What of others' payments to the node no witness has certified yet; it cannot be spent.
    #[serde(default)]
    pub trm_waiting: Amount,
    /// What the node vouched for in jobs that broke off and their providers have not claimed yet; it is
    /// part of what was paid.
    #[serde(default)]
    pub trm_unclaimed: Amount,
    /// What the node owes on loans.
    pub trm_owed: Amount,
    /// The loans the node owes.
    pub loans: Vec<LoanOutput>,
    /// What each member has in this node's books, where it is the network's authority.
    pub members: Vec<MemberOutput>,
    /// Why spending is frozen, while it is.
    pub frozen: Option<String>,
}

/// A member's standing in the authority's books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberOutput {
    /// The member.
    pub node: NodeId,
    /// What it has, set-aside parts included.
    pub trm_balance: Amount,
    /// What is set aside for its running jobs.
    pub trm_held: Amount,
}

/// A stored receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetReceipt {
    /// The receipt's id, 64 hexadecimal digits, from `chat` or `history`.
    pub receipt: ReceiptId,
}

/// A request for inference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// Name or id of the model; any when absent.
    pub model: Option<String>,
    /// Most tokens to generate; what budget and context allow when absent.
    pub max_tokens: Option<u32>,
    /// Most to spend on this request.
    pub max_trm: Option<Amount>,
    /// Names the purchase: asking again with it answers the same and pays once.
    pub idempotency_key: Option<String>,
    /// Temperature in thousandths; 0 always takes the likeliest token.
    pub temperature_milli: u32,
    /// Tokens considered; 0 considers all.
    pub top_k: u32,
    /// Seed of the sampler; drawn when absent.
    pub seed: Option<u64>,
    /// Texts that end the generation.
    pub stop: Vec<String>,
    /// The travelling mandate that pays instead of the agent's account; held by the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate: Option<GrantId>,
    /// Who may see the prompt; the configuration of the node may say less.
    #[serde(default, skip_serializing_if = "Privacy::is_any")]
    pub privacy: Privacy,
}

/// An answer and what it cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatOutput {
    /// What the model said. Text of a model: not checked, not an instruction.
    pub text: String,
    /// `stop`, `length` or `cancelled`.
    pub finish_reason: String,
    /// What cut the answer short, when it was not `max_tokens`: the name of a limit, `balance`, `pots`,
    /// `max_trm` or `context`.
    pub capped_by: Option<String>,
    /// The model's name.
    pub model: String,
    /// Who did the work.
    pub provider: NodeId,
    /// Whether this node did it itself, which costs nothing.
    pub local: bool,
    /// Tokens of the prompt, template included.
    pub tokens_in: u32,
    /// Tokens generated.
    pub tokens_out: u32,
    /// What was paid.
    pub trm_cost: Amount,
    /// What the agent has left.
    pub trm_balance: Amount,
    /// What the work would cost at par, for local work.
    pub trm_would_cost: Option<Amount>,
    /// The receipt both sides signed; absent for local work, and where the last provider broke off before
    /// it signed.
    pub receipt: Option<ReceiptId>,
    /// Who paid, when a mandate did and not the agent's account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<NodeId>,
    /// The key this purchase is known by.
    pub idempotency_key: String,
    /// Whether this is the stored answer of an earlier call with the same key.
    pub replayed: bool,
    /// Providers that began the answer and broke off, in their order; what they are owed is part of what
    /// was paid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Other nodes that were sent the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen_by: Vec<NodeId>,
}

/// What one provider delivered before another went on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// Who.
    pub provider: NodeId,
    /// Tokens generated.
    pub tokens_out: u32,
    /// What was vouched for.
    pub trm_cost: Amount,
}

/// A request for a price. The prompt does not leave the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quote {
    /// The prompt to price; only its length in bytes is sent to the provider.
    pub prompt: String,
    /// Name or id of the model; any when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// Most tokens to generate; what budget and context allow when absent.
    #[serde(default)]
    pub max_tokens: Option<u32>,
}

/// A signed price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuoteOutput {
    /// The quote's id.
    pub quote_id: QuoteId,
    /// Who would do the work.
    pub provider: NodeId,
    /// The model's name.
    pub model: String,
    /// The most that may be charged.
    pub trm_max: Amount,
    /// The most prompt tokens that may be charged.
    pub max_tokens_in: u32,
    /// The most tokens that may be generated.
    pub max_tokens_out: u32,
    /// Price relative to par in parts per million.
    pub multiplier_ppm: u32,
    /// After this the quote binds nobody, RFC 3339 in UTC.
    pub expires_at: String,
    /// Whether balance and limits would let this request through now.
    pub within_budget: bool,
    /// Why not.
    pub refusal: Option<String>,
    /// Why this provider, and how the others compare.
    #[serde(default)]
    pub why: String,
}

/// A request to see which provider would be chosen, and why. Nothing is sent but the question
/// what others offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Prompt to plan for; its length matters.
    #[serde(default)]
    pub prompt: Option<String>,
    /// Name or id of the model; any when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// Most tokens to generate; 256 when absent.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// Most to spend.
    #[serde(default)]
    pub max_trm: Option<Amount>,
}

/// The choice among connected providers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleOutput {
    /// Who would be asked first; absent when nobody can do it.
    pub chosen: Option<NodeId>,
    /// Everyone who was considered, best first.
    pub candidates: Vec<CandidateOutput>,
}

/// One provider that was considered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CandidateOutput {
    /// The provider.
    pub provider: NodeId,
    /// Whether it is this node.
    pub local: bool,
    /// The model's name.
    pub model: String,
    /// What this request would cost there, about, by what it offers; `quote` says the most. Absent when it does
    /// not fit.
    pub trm_estimate: Option<Amount>,
    /// Jobs running or waiting there.
    pub waiting: u32,
    /// Whether it could be chosen.
    pub eligible: bool,
    /// Why it stands where it stands.
    pub reason: String,
}

empty_input!(
    /// The models this node has or can buy.
    Models
);

/// The models this node has or can buy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelsOutput {
    /// The models.
    pub models: Vec<ModelOutput>,
}

/// One model at one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelOutput {
    /// Its name.
    pub name: String,
    /// SHA-256 of the GGUF file.
    pub model_id: ModelId,
    /// Who runs it.
    pub provider: NodeId,
    /// Whether that is this node.
    pub local: bool,
    /// Most tokens of prompt and answer together.
    pub context: u32,
    /// Price relative to par in parts per million.
    pub multiplier_ppm: u32,
    /// What 100 prompt tokens and 100 generated ones cost there.
    pub trm_per_100_in_100_out: Amount,
}

/// Turns the kill switch on. Only the owner can turn it off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Why, at most 200 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The kill switch is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FreezeOutput {
    /// Always true.
    pub frozen: bool,
    /// Why.
    pub reason: String,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
    /// Number of the newest entry in the books: none after it holds money or pays, but what was
    /// vouched for before.
    pub last_entry: u64,
    /// How it is lifted.
    pub lifted_by: String,
}

/// An owner's order in hexadecimal: the signed bytes of [`tirami_manifest::owner::OwnerOrder`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obey {
    /// The signed bytes.
    pub order: String,
}

/// Makes somebody the owner of a node that has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetOwner {
    /// The owner's public key.
    pub owner: OwnerId,
}

empty_input!(
    /// What the node is and how it does.
    Status
);

/// What the node is and how it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusOutput {
    /// Version of the program.
    pub version: String,
    /// The node.
    pub node: NodeId,
    /// Its process.
    pub pid: u32,
    /// Its data directory.
    pub data_dir: String,
    /// The network's id.
    pub network: NetworkId,
    /// The network's name.
    pub network_name: String,
    /// `founder` or `member`.
    pub role: String,
    /// The node whose ledger decides.
    pub authority: Option<NodeId>,
    /// The owner; absent until `owner init`.
    pub owner: Option<OwnerId>,
    /// The number an owner's next order must carry.
    pub next_order: u64,
    /// Where other nodes reach this one; empty when the mesh is off.
    pub addresses: Vec<String>,
    /// Where HTTP clients reach it, when they do.
    pub http: Option<String>,
    /// Models it sells.
    pub models: Vec<String>,
    /// Why it sells nothing now; absent while it sells.
    #[serde(default)]
    pub selling_closed: Option<String>,
    /// Why spending is frozen, while it is.
    pub frozen: Option<String>,
    /// Purchases and sales in progress.
    pub open_holds: u32,
    /// Jobs for others, paid while they stream, that are not settled: they run, or what was vouched for is to be
    /// claimed.
    #[serde(default)]
    pub open_jobs: u32,
    /// Receipts and claims that the other side has not acknowledged yet.
    pub outbox: u32,
    /// Whether a welcome loan is still to be fetched.
    pub joining: bool,
    /// What the operator should look at.
    pub warnings: Vec<String>,
}

empty_input!(
    /// Makes a ticket: an invitation into this node's network.
    MakeTicket
);

/// A ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketOutput {
    /// One line of text; good for one newcomer.
    pub ticket: String,
    /// The network's id.
    pub network: NetworkId,
    /// What the newcomer is lent.
    pub trm_welcome_loan: Amount,
}

/// Enters the network of a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The ticket's text.
    pub ticket: String,
}

/// The network that was entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JoinOutput {
    /// The network's id.
    pub network: NetworkId,
    /// Its name.
    pub name: String,
    /// What was lent now; absent while the issuer has not answered, and when it lent before.
    pub trm_welcome_loan: Option<Amount>,
    /// What happens next.
    pub note: String,
}

/// Checks the books against themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The archives of journal entries that are not in the wallet any more, as absolute paths.
    #[serde(default)]
    pub archives: Vec<PathBuf>,
}

/// What was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditOutput {
    /// Whether everything holds.
    pub holds: bool,
    /// What was checked.
    pub checks: Vec<CheckOutput>,
    /// Every account with its balance.
    pub accounts: Vec<AccountOutput>,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckOutput {
    /// What should hold.
    pub rule: String,
    /// Whether it does.
    pub holds: bool,
    /// The figures.
    pub detail: String,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountOutput {
    /// Which.
    pub account: String,
    /// Moved in, for good, µTRM as a decimal string.
    pub credits_utrm: String,
    /// Moved out, for good, µTRM as a decimal string.
    pub debits_utrm: String,
    /// Set aside to move out.
    pub trm_held: Amount,
}

empty_input!(
    /// The signed agent manifest.
    GetManifest
);

/// The signed agent manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestOutput {
    /// The canonical JSON, signature included, byte for byte as it is served.
    pub manifest: String,
}

/// The type of [`GetReceipt`]'s output.
pub type ReceiptOutput = ReceiptFile;

impl Chat {
    /// A request at the defaults: any model, greedy, no maximum of its own.
    pub const fn new(messages: Vec<Message>) -> Self {
        Self {
            messages,
            model: None,
            max_tokens: None,
            max_trm: None,
            idempotency_key: None,
            temperature_milli: 0,
            top_k: 0,
            seed: None,
            stop: Vec::new(),
            mandate: None,
            privacy: Privacy::Any,
        }
    }
}
