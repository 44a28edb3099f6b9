//! Operations on mandates that travel: handing one out, taking one that was handed here, and giving
//! back what is left.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::id::to_hex;
use tirami_manifest::mandate_chain::{ChainTextError, Grant, MandateChain};
use tirami_manifest::signed::hash;
use tirami_manifest::{
    AgentId, Amount, GrantId, ModelId, Multiplier, NodeId, ReceiptId, Timestamp,
};
use tirami_wallet::WalletError;
use tirami_wallet::intent::{Intent, IntentKey, KEY_MAX};
use tirami_wallet::travelling::handing_out::{HandOut, Outstanding};
use tirami_wallet::travelling::holding::Held;

use super::budget::whom;
use super::money::agent_name;
use super::{Caller, Operation, TextSink};
use crate::buy::GIVEN_KEY;
use crate::clock::random;
use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;
use crate::travelling;

/// Longest time for which a mandate is handed out: a year, in seconds; chosen.
const VALID_MAX_S: u64 = 366 * 86_400;

/// For how long it is handed out when nobody says.
const WEEK_MS: u64 = 7 * 86_400_000;

/// Hands part of what an agent may spend to another node, as one line of text. It is set aside at once
/// and counts against the agent's mandate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandOutMandate {
    /// The node that may spend it.
    pub to: NodeId,
    /// How much in all.
    pub trm_amount: Amount,
    /// Out of a mandate that was handed to this node; out of the agent's own when absent.
    #[serde(default)]
    pub from: Option<GrantId>,
    /// Which agent hands it out, by name; the caller when absent.
    #[serde(default)]
    pub agent: Option<String>,
    /// The one provider that may accept it, also while this node cannot be reached. Without one this
    /// node is asked before each job.
    #[serde(default)]
    pub pinned: Option<NodeId>,
    /// Most that one request may take; what the mandate allows when absent.
    #[serde(default)]
    pub per_request_trm: Option<Amount>,
    /// Most that 10^9 FLOP may cost; what the mandate allows when absent.
    #[serde(default)]
    pub price_ceiling_trm: Option<Amount>,
    /// For these models only, at most 8; for any when empty.
    #[serde(default)]
    pub models: Vec<ModelId>,
    /// For these providers only, at most 8; for any when empty.
    #[serde(default)]
    pub payees: Vec<NodeId>,
    /// For how long, in seconds; for a week, or as long as the mandate that it comes from, when absent.
    #[serde(default)]
    pub valid_s: Option<u64>,
    /// How often it may be handed on; not at all when 0.
    #[serde(default)]
    pub depth_left: u8,
    /// Names this: asking again with it answers the same and hands nothing out twice.
    #[serde(default)]
    pub idempotency_key: Option<String>,
}

/// A mandate that was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandOutOutput {
    /// Its id.
    pub mandate: GrantId,
    /// What to give to its holder: one line.
    pub text: String,
    /// Who may spend it.
    pub holder: NodeId,
    /// How much in all.
    pub trm_amount: Amount,
    /// The one provider that may accept it; this node is asked before each job when absent.
    pub pinned: Option<NodeId>,
    /// Most that one request may take.
    pub per_request_trm: Amount,
    /// When it ends, RFC 3339 in UTC.
    pub expires_at: String,
    /// The key this is known by.
    pub idempotency_key: String,
}

/// Takes a mandate that was handed to this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptMandate {
    /// The line that its giver made.
    pub text: String,
    /// Which agent may spend it, by name; the caller when absent.
    #[serde(default)]
    pub agent: Option<String>,
}

super::empty_input!(
    /// Mandates that were handed out here, and those that are held here.
    TravellingMandates
);

/// Mandates that travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TravellingOutput {
    /// Handed out here, the oldest first.
    pub handed_out: Vec<HandedOutOutput>,
    /// Held here, the oldest first.
    pub held: Vec<HeldOutput>,
    /// Receipts that their payer or provider refused for good, the oldest first: they are not sent
    /// again. The main agent sees them.
    pub refused: Vec<RefusedOutput>,
}

/// A receipt that another node will never book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedOutput {
    /// Its id.
    pub receipt: ReceiptId,
    /// Who refused it.
    pub by: NodeId,
    /// How much it is of.
    pub trm_amount: Amount,
    /// Why, in its words.
    pub reason: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
}

/// A mandate that was handed out here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandedOutOutput {
    /// Its id.
    pub mandate: GrantId,
    /// Which agent handed it out.
    pub agent: String,
    /// Whether this node's money pays; otherwise it was handed on.
    pub pays: bool,
    /// Who may spend it.
    pub holder: NodeId,
    /// The one provider that may accept it; this node is asked before each job when absent.
    pub pinned: Option<NodeId>,
    /// How much in all.
    pub trm_amount: Amount,
    /// What is known to be spent of it.
    pub trm_drawn: Amount,
    /// What came back.
    pub trm_back: Amount,
    /// What is still out.
    pub trm_out: Amount,
    /// When it ends, RFC 3339 in UTC.
    pub expires_at: String,
    /// `open`, `expired` or `closed`.
    pub state: String,
}

/// A mandate that is held here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldOutput {
    /// Its id.
    pub mandate: GrantId,
    /// Which agent may spend it.
    pub agent: String,
    /// The node whose money it is.
    pub payer: NodeId,
    /// The one provider that may accept it; the payer is asked before each job when absent.
    pub pinned: Option<NodeId>,
    /// How much in all.
    pub trm_amount: Amount,
    /// How much of it this node neither spent nor handed on.
    pub trm_free: Amount,
    /// The most that one request can take now.
    pub trm_left: Amount,
    /// How often it may be handed on.
    pub depth_left: u8,
    /// When it ends, RFC 3339 in UTC.
    pub expires_at: String,
    /// `open`, `expired` or `given_back`.
    pub state: String,
}

/// Takes back what is left of a mandate that was handed out here. Its holder spends nothing more of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReclaimMandate {
    /// Which, 64 hexadecimal digits.
    pub mandate: GrantId,
}

/// What became of a mandate that was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReclaimOutput {
    /// What came back now.
    pub trm_came_back: Amount,
    /// The mandate after it.
    pub mandate: HandedOutOutput,
}

super::empty_input!(
    /// Voids every mandate that was handed out here, and takes back what is left of each.
    ReclaimAllMandates
);

/// What became of every mandate that was handed out here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReclaimAllOutput {
    /// What came back now, of all.
    pub trm_came_back: Amount,
    /// Those that were open, after it.
    pub mandates: Vec<HandedOutOutput>,
    /// Why some could not be taken back whole; what is left of them stays set aside.
    pub failures: Vec<Failure>,
}

/// Gives back what is left of a mandate that is held here, and spends nothing more of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GiveBackMandate {
    /// Which, 64 hexadecimal digits.
    pub mandate: GrantId,
}

/// What was given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GiveBackOutput {
    /// How much its payer can take back.
    pub trm_given_back: Amount,
    /// Why the payer did not confirm it: it keeps track itself, so its next reclaim finds what is left.
    pub unconfirmed: Option<String>,
    /// The mandate after it.
    pub mandate: HeldOutput,
}

fn invalid<T>(text: String) -> Result<T, Failure> {
    Err(Failure::new(FailureCode::InvalidInput, text))
}

impl HandOutMandate {
    fn terms(&self, now: Timestamp, ends: Option<Timestamp>) -> Result<HandOut, Failure> {
        if self.trm_amount.is_zero() {
            return invalid("trm_amount is 0; it must be more".into());
        }
        let expires = match self.valid_s {
            Some(valid_s) if (1..=VALID_MAX_S).contains(&valid_s) => {
                now.after_ms(valid_s.saturating_mul(1_000))
            }
            Some(other) => {
                return invalid(format!("valid_s is {other}; it must be 1 to {VALID_MAX_S}"));
            }
            None => {
                let week = now.after_ms(WEEK_MS);
                ends.map_or(week, |ends| ends.min(week))
            }
        };
        let ceiling = self.price_ceiling_trm.map(|price| {
            u32::try_from(price.utrm())
                .map(Multiplier::from_ppm)
                .or_else(|_| {
                    invalid(format!(
                        "price_ceiling_trm is {price}; the most is 4294.967295"
                    ))
                })
        });
        Ok(HandOut {
            from: self.from,
            holder: self.to,
            amount: self.trm_amount,
            pinned: self.pinned,
            per_request: self.per_request_trm,
            ceiling: ceiling.transpose()?,
            models: self.models.clone(),
            payees: self.payees.clone(),
            expires,
            depth_left: self.depth_left,
        })
    }

    /// What the idempotency key stands for: everything but the key.
    fn body_hash(&self) -> Result<[u8; 32], Failure> {
        let body = Self {
            idempotency_key: None,
            ..self.clone()
        };
        let json = serde_json::to_vec(&body)
            .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))?;
        Ok(hash(b"trm/v1/intent-body\0", &[b"hand-out\0", &json]))
    }
}

/// When the first of the mandates that it comes from ends.
fn ends(
    runtime: &Runtime,
    agent: &AgentId,
    from: Option<&GrantId>,
) -> Result<Option<Timestamp>, Failure> {
    let wallet = &runtime.inner.wallet;
    let chain = wallet.budget(agent)?.chain;
    let own = chain.iter().filter_map(|link| link.row.terms.expires).min();
    let held = match from {
        Some(grant) => Some(wallet.held_by(agent, grant)?.grant.expires),
        None => None,
    };
    Ok(own.into_iter().chain(held).min())
}

impl Operation for HandOutMandate {
    const NAME: &'static str = "hand_out_mandate";
    type Output = HandOutOutput;

    fn prepare(&mut self) {
        self.idempotency_key
            .get_or_insert_with(|| format!("{GIVEN_KEY}{}", to_hex(&random::<16>())));
    }

    async fn run(
        mut self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<HandOutOutput, Failure> {
        self.prepare();
        let agent = whom(runtime, caller, self.agent.as_deref())?;
        let key = self.idempotency_key.clone().unwrap_or_default();
        if key.is_empty() || key.len() > KEY_MAX {
            let text = format!("idempotency_key has {} bytes, at most {KEY_MAX}", key.len());
            return invalid(text);
        }
        let terms = self.terms(runtime.now(), ends(runtime, &agent, self.from.as_ref())?)?;
        let intent = IntentKey::new(agent, &key);
        let turn = runtime.turn(&intent);
        let _turn = turn.lock().await;
        let wallet = &runtime.inner.wallet;
        let attempt = match wallet.begin(intent, self.body_hash()?).await? {
            Intent::Answered(stored) => {
                return serde_json::from_slice(&stored).map_err(|error| {
                    Failure::new(FailureCode::Store, format!("a stored answer: {error}"))
                });
            }
            Intent::Attempt(attempt) => attempt,
        };
        let stored = {
            let key = key.clone();
            move |chain: &MandateChain| {
                handed(chain, &key)
                    .and_then(|answer| serde_json::to_vec(&answer).ok())
                    .unwrap_or_default()
            }
        };
        let made = wallet.hand_out(attempt, terms, stored).await;
        let chain = made.map_err(|error| Failure::from(error).asked_under(&key))?;
        handed(&chain, &key)
            .ok_or_else(|| Failure::new(FailureCode::Internal, "a mandate without a grant"))
    }
}

fn handed(chain: &MandateChain, key: &str) -> Option<HandOutOutput> {
    let grant = chain.last()?;
    Some(HandOutOutput {
        mandate: grant.id(),
        text: chain.to_string(),
        holder: grant.holder,
        trm_amount: grant.range.amount(),
        pinned: grant.pinned,
        per_request_trm: grant.per_request,
        expires_at: grant.expires.to_rfc3339(),
        idempotency_key: key.to_owned(),
    })
}

impl Operation for AcceptMandate {
    const NAME: &'static str = "accept_mandate";
    type Output = HeldOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<HeldOutput, Failure> {
        let agent = whom(runtime, caller, self.agent.as_deref())?;
        let chain: MandateChain = self.text.parse().map_err(|error: ChainTextError| {
            Failure::new(FailureCode::InvalidInput, error.to_string())
                .hint("copy the whole line that was printed where it was handed out")
        })?;
        let wallet = &runtime.inner.wallet;
        let id = wallet.accept_mandate(agent, chain).await?;
        held_output(runtime, &wallet.held_by(&agent, &id)?)
    }
}

impl Operation for TravellingMandates {
    const NAME: &'static str = "travelling_mandates";
    type Output = TravellingOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<TravellingOutput, Failure> {
        let wallet = &runtime.inner.wallet;
        let sees = |agent: &AgentId| -> Result<bool, Failure> {
            Ok(caller.is_main() || wallet.is_above(&caller.agent, agent)?)
        };
        let (mut handed_out, mut held) = (Vec::new(), Vec::new());
        for out in wallet.handed_out()? {
            if sees(&out.row.agent)? {
                handed_out.push(handed_out_output(runtime, &out)?);
            }
        }
        for one in wallet.held()? {
            if sees(&one.row.agent)? {
                held.push(held_output(runtime, &one)?);
            }
        }
        let refused = if caller.is_main() {
            refused(runtime)?
        } else {
            Vec::new()
        };
        Ok(TravellingOutput {
            handed_out,
            held,
            refused,
        })
    }
}

impl Operation for ReclaimMandate {
    const NAME: &'static str = "reclaim_mandate";
    type Output = ReclaimOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<ReclaimOutput, Failure> {
        let before = one(runtime, &self.mandate)?;
        let wallet = &runtime.inner.wallet;
        if !caller.is_main() && !wallet.is_above(&caller.agent, &before.row.agent)? {
            return Err(unknown(&self.mandate));
        }
        let trm_came_back = travelling::reclaim(runtime, self.mandate).await?;
        let after = one(runtime, &self.mandate)?;
        Ok(ReclaimOutput {
            trm_came_back,
            mandate: handed_out_output(runtime, &after)?,
        })
    }
}

impl Operation for ReclaimAllMandates {
    const NAME: &'static str = "reclaim_all_mandates";
    type Output = ReclaimAllOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<ReclaimAllOutput, Failure> {
        caller.must_be_main()?;
        let wallet = &runtime.inner.wallet;
        wallet.void_handed_out().await?;
        let (mut trm_came_back, mut failures, mut mandates) =
            (Amount::ZERO, Vec::new(), Vec::new());
        let all = wallet.handed_out()?;
        let open = all
            .iter()
            .filter(|out| out.row.is_root() && out.row.closed.is_none());
        for out in open {
            let grant = out.grant.id();
            match travelling::reclaim(runtime, grant).await {
                Ok(came) => {
                    trm_came_back = trm_came_back.checked_add(came).unwrap_or(Amount::MAX);
                }
                Err(failure) => failures.push(failure),
            }
            mandates.push(handed_out_output(runtime, &one(runtime, &grant)?)?);
        }
        Ok(ReclaimAllOutput {
            trm_came_back,
            mandates,
            failures,
        })
    }
}

impl Operation for GiveBackMandate {
    const NAME: &'static str = "give_back_mandate";
    type Output = GiveBackOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<GiveBackOutput, Failure> {
        let wallet = &runtime.inner.wallet;
        let all = wallet.held()?;
        let held = all.iter().find(|held| held.grant.id() == self.mandate);
        let agent = held.ok_or_else(|| unknown(&self.mandate))?.row.agent;
        if !caller.is_main() && !wallet.is_above(&caller.agent, &agent)? {
            return Err(unknown(&self.mandate));
        }
        let before = wallet.held_by(&agent, &self.mandate)?;
        let given = travelling::give_up(runtime, agent, self.mandate).await;
        let (trm_given_back, unconfirmed) = match given {
            Err(error) => {
                let after = wallet.held_by(&agent, &self.mandate)?;
                // Only a root payer that remembers the units itself takes them back without having
                // heard of this.
                let takes_back =
                    before.grant.pinned.is_none() && before.grant.parent == Grant::NO_PARENT;
                if !takes_back || after.row.given_back.is_none() || !error.retryable {
                    return Err(error);
                }
                let now = match before.row.given_back {
                    None => before.free,
                    Some(_) => Amount::ZERO,
                };
                (now, Some(error.message))
            }
            Ok(given) => (given, None),
        };
        Ok(GiveBackOutput {
            trm_given_back,
            unconfirmed,
            mandate: held_output(runtime, &wallet.held_by(&agent, &self.mandate)?)?,
        })
    }
}

fn refused(runtime: &Runtime) -> Result<Vec<RefusedOutput>, Failure> {
    let wallet = &runtime.inner.wallet;
    let mut all = Vec::new();
    for (receipt, row) in wallet.refused()? {
        let agreed = wallet.receipt(&receipt)?.map(|row| row.receipt());
        let agreed = agreed.transpose().map_err(WalletError::from)?;
        all.push(RefusedOutput {
            receipt,
            by: row.by,
            trm_amount: agreed.map_or(Amount::ZERO, |receipt| receipt.agreement.amount),
            reason: row.reason,
            at: row.at.to_rfc3339(),
        });
    }
    Ok(all)
}

fn one(runtime: &Runtime, grant: &GrantId) -> Result<Outstanding, Failure> {
    let all = runtime.inner.wallet.handed_out()?;
    let found = all.into_iter().find(|out| out.grant.id() == *grant);
    found.ok_or_else(|| unknown(grant))
}

fn unknown(grant: &GrantId) -> Failure {
    WalletError::UnknownGrant(grant.short()).into()
}

fn is_over(runtime: &Runtime, grant: &Grant) -> bool {
    runtime.now() >= grant.expires
}

fn handed_out_output(runtime: &Runtime, out: &Outstanding) -> Result<HandedOutOutput, Failure> {
    let Outstanding { row, grant, back } = out;
    let whole = grant.range.amount();
    let known = row.drawn.checked_add(*back).unwrap_or(Amount::MAX);
    let state = if row.closed.is_some() {
        "closed"
    } else if is_over(runtime, grant) {
        "expired"
    } else {
        "open"
    };
    Ok(HandedOutOutput {
        mandate: grant.id(),
        agent: agent_name(runtime, &row.agent)?,
        pays: row.is_root(),
        holder: grant.holder,
        pinned: grant.pinned,
        trm_amount: whole,
        trm_drawn: row.drawn,
        trm_back: *back,
        trm_out: whole.saturating_sub(known),
        expires_at: grant.expires.to_rfc3339(),
        state: state.to_owned(),
    })
}

fn held_output(runtime: &Runtime, held: &Held) -> Result<HeldOutput, Failure> {
    let grant = &held.grant;
    let state = if held.row.given_back.is_some() {
        "given_back"
    } else if is_over(runtime, grant) {
        "expired"
    } else {
        "open"
    };
    Ok(HeldOutput {
        mandate: grant.id(),
        agent: agent_name(runtime, &held.row.agent)?,
        payer: grant.root,
        pinned: grant.pinned,
        trm_amount: grant.range.amount(),
        trm_free: held.free,
        trm_left: held.left,
        depth_left: grant.depth_left,
        expires_at: grant.expires.to_rfc3339(),
        state: state.to_owned(),
    })
}
