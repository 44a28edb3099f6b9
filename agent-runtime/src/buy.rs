//! The consumer's side of one job. Read it beside `serve.rs`; the two are mirror images.
//!
//! One purchase: intent, choice, quote, hold, work, receipt, post. Nothing is paid that was not
//! quoted, held and countersigned; a purchase that breaks off before our signature costs nothing.

use std::time::Duration;

use tirami_manifest::commerce::{Agreement, Quote, Receipt};
use tirami_manifest::job::{Finish, Message, PromptShape, Sampler, Transcript};
use tirami_manifest::model::{ModelCard, Usage};
use tirami_manifest::signed::{Signed, Verified, hash};
use tirami_manifest::{Amount, Multiplier, NodeId, Timestamp};
use tirami_mesh::engine::{EngineError, Event, Job};
use tirami_mesh::net::transport::{Link, PeerAddr};
use tirami_mesh::proto::message::{AskQuote, Countersign, Frame, Offer, Refuse, RefuseCode, Start};
use tirami_mesh::scheduler::{self, Candidate, ModelChoice, Plan, Want};
use tirami_wallet::intent::{Attempt, Intent, IntentKey};
use tirami_wallet::{Hold, HoldRequest, WalletError};

use crate::clock::random;
use crate::failure::{Failure, FailureCode};
use crate::offers::{self, Seller};
use crate::ops::{Caller, Chat, ChatOutput, TextSink};
use crate::runtime::Runtime;

/// How long a provider may take for a quote; chosen.
const QUOTE_WITHIN: Duration = Duration::from_secs(5);

/// How long a provider may be silent while it works; chosen: a cold model may load in between.
const SILENT_FOR: Duration = Duration::from_secs(60);

/// How long the answer waits for the provider's booking; after it the outbox takes over.
const BOOKED_WITHIN: Duration = Duration::from_secs(2);

/// How a key starts that was given to a request because its caller named none. Nobody asks again for
/// such a request once its caller is gone.
pub(crate) const GIVEN_KEY: &str = "auto-";

/// Tokens a template adds to each message, for a first estimate; the quote says the exact bound.
const TEMPLATE_TOKENS: u32 = 16;

/// Carries one request through, or answers it from what is stored.
pub(crate) async fn buy(
    runtime: &Runtime,
    caller: Caller,
    chat: &Chat,
    text: Option<TextSink>,
) -> Result<ChatOutput, Failure> {
    let wallet = &runtime.inner.wallet;
    let key = chat.idempotency_key.clone().ok_or_else(|| {
        Failure::new(FailureCode::Internal, "a purchase without an idempotency key")
    })?;
    let intent = IntentKey::new(caller.agent, &key);
    let turn = runtime.turn(&intent);
    let _turn = turn.lock().await;
    let attempt = match wallet.begin(intent, body_hash(chat)?).await? {
        Intent::Answered(stored) => return replay(runtime, caller, &stored),
        Intent::Attempt(attempt) => attempt,
    };
    wallet.admits(&caller.agent, Amount::ZERO)?;
    let means = Means::of(runtime, caller, chat)?;
    let sellers = offers::sellers(runtime).await?;
    let plan = plan(chat, &sellers, means.most);
    let chosen: Vec<_> = plan.ranked.iter().filter(|ranked| worth_trying(ranked)).collect();
    let mut last = None;
    let mut purchase = Purchase { runtime, caller, chat, key, attempt, means, text };
    for ranked in chosen {
        let Some((seller, offer)) = find(&sellers, ranked.provider, &ranked.name) else { continue };
        if seller.local {
            return purchase.do_it_here(offer).await;
        }
        match purchase.from(&seller.peer, offer).await {
            Ok(answer) => return Ok(answer),
            Err(Stopped::Final(failure)) => return Err(failure),
            Err(Stopped::TryNext(failure)) => last = Some(failure),
        }
        purchase.again().await?;
    }
    Err(last.unwrap_or_else(|| nobody(chat, &plan, &sellers)))
}

/// What a request may spend, and what says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    pub(crate) most: Amount,
    by: &'static str,
}

impl Means {
    /// The least of balance, limits and the request's own maximum.
    pub(crate) fn of(runtime: &Runtime, caller: Caller, chat: &Chat) -> Result<Self, Failure> {
        let wallet = &runtime.inner.wallet;
        let balance = wallet.balance(&caller.agent)?;
        let budget = wallet.budget(&caller.agent)?;
        let limits = budget.limits;
        let mut all = vec![
            ("balance", balance.available),
            ("per_request", limits.per_request_trm),
            ("hour", limits.hour_trm.saturating_sub(budget.used_hour)),
            ("lifetime", limits.lifetime_trm.saturating_sub(budget.used_lifetime)),
        ];
        all.extend(chat.max_trm.map(|most| ("max_trm", most)));
        let (by, most) = all.into_iter().min_by_key(|(_, most)| *most).unwrap_or(("balance", Amount::ZERO));
        Ok(Self { most, by })
    }
}

/// Ranks everyone who sells something, this node included.
pub(crate) fn plan(chat: &Chat, sellers: &[Seller], most: Amount) -> Plan {
    let max_in = estimate_in(&chat.messages);
    let max_out = chat.max_tokens.unwrap_or(1);
    let model = chat.model.as_ref().map(|text| match text.parse() {
        Ok(id) => ModelChoice::Id(id),
        Err(_) => ModelChoice::Name(text.clone()),
    });
    let digest = body_hash(chat).unwrap_or_default();
    let candidates: Vec<Candidate> = sellers
        .iter()
        .flat_map(|seller| seller.offers.iter().map(move |offer| (seller, offer)))
        .map(|(seller, offer)| {
            let usage = Usage { tokens_in: max_in, tokens_cached: 0, tokens_out: max_out };
            let price = offer.card.price(usage, offer.multiplier).ok();
            Candidate {
                provider: seller.peer.id,
                offer: offer.clone(),
                price,
                connected: seller.connected,
                affordable: seller.local || price.is_some_and(|price| price <= most),
            }
        })
        .collect();
    scheduler::choose(&Want { model, max_in: 1, max_out: 1, digest }, &candidates)
}

/// Candidates to ask in turn. One that seems too dear is asked too: the quote binds, the estimate
/// does not, and the gate gives the reason.
pub(crate) fn worth_trying(ranked: &scheduler::Ranked) -> bool {
    ranked.reason.is_eligible() || ranked.reason == scheduler::Reason::TooDear
}

pub(crate) fn find<'a>(sellers: &'a [Seller], id: NodeId, name: &str) -> Option<(&'a Seller, &'a Offer)> {
    let seller = sellers.iter().find(|seller| seller.peer.id == id)?;
    Some((seller, seller.offers.iter().find(|offer| offer.name == name)?))
}

pub(crate) fn nobody(chat: &Chat, plan: &Plan, sellers: &[Seller]) -> Failure {
    let reachable = sellers.iter().filter(|seller| !seller.local && seller.connected).count();
    let message = match (&chat.model, plan.ranked.is_empty()) {
        (_, true) => format!(
            "nobody sells inference: this node has no model and {reachable} peers answered"
        ),
        (Some(model), false) => format!("nobody who answered sells the model '{model}'"),
        (None, false) => "no model on offer fits this request".to_owned(),
    };
    Failure::new(FailureCode::NoProvider, message)
        .retryable()
        .hint("see who is there and what they sell")
        .next_tool(if plan.ranked.is_empty() { "peers" } else { "models" })
}

/// An upper guess of the prompt's tokens: every byte one token, and the template's share.
pub(crate) fn estimate_in(messages: &[Message]) -> u32 {
    messages.iter().fold(TEMPLATE_TOKENS, |sum, message| {
        let bytes = u32::try_from(message.content.len()).unwrap_or(u32::MAX);
        sum.saturating_add(bytes).saturating_add(TEMPLATE_TOKENS)
    })
}

/// What the idempotency key stands for: everything but the key.
fn body_hash(chat: &Chat) -> Result<[u8; 32], Failure> {
    let body = Chat { idempotency_key: None, ..chat.clone() };
    let json = serde_json::to_vec(&body)
        .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))?;
    Ok(hash(b"trm/v1/intent-body\0", &[&json]))
}

fn replay(runtime: &Runtime, caller: Caller, stored: &[u8]) -> Result<ChatOutput, Failure> {
    let answer: ChatOutput = serde_json::from_slice(stored)
        .map_err(|e| Failure::new(FailureCode::Store, format!("a stored answer: {e}")))?;
    let trm_balance = runtime.inner.wallet.balance(&caller.agent)?.available;
    Ok(ChatOutput { replayed: true, trm_balance, ..answer })
}

/// Why one provider did not answer the request.
enum Stopped {
    /// Nobody else would either.
    Final(Failure),
    /// Another may.
    TryNext(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

impl From<WalletError> for Stopped {
    fn from(error: WalletError) -> Self {
        Self::Final(error.into())
    }
}

/// One request on its way.
struct Purchase<'a> {
    runtime: &'a Runtime,
    caller: Caller,
    chat: &'a Chat,
    key: String,
    attempt: Attempt,
    means: Means,
    text: Option<TextSink>,
}

/// What a provider delivered.
struct Delivered {
    text: String,
    proposal: Verified<Agreement>,
}

impl Purchase<'_> {
    /// The next try at the same intent has transfer ids of its own.
    async fn again(&mut self) -> Result<(), Failure> {
        let intent = self.attempt.intent().clone();
        match self.runtime.inner.wallet.begin(intent, body_hash(self.chat)?).await? {
            Intent::Attempt(attempt) => self.attempt = attempt,
            Intent::Answered(_) => {
                return Err(Failure::new(FailureCode::Internal, "answered while it was asked"));
            }
        }
        Ok(())
    }

    /// Buys from one provider.
    async fn from(&self, peer: &PeerAddr, offer: &Offer) -> Result<ChatOutput, Stopped> {
        let mut link = match self.runtime.transport()?.open(peer).await {
            Ok(link) => link,
            Err(error) => return Err(Stopped::TryNext(error.into())),
        };
        let (quote, capped_by) = self.quote(&mut link, peer, offer).await?;
        let hold = self.hold(&quote).await?;
        let delivered = match self.perform(&mut link, &quote, &hold).await {
            Ok(delivered) => delivered,
            Err(stopped) => {
                // Nothing of ours is signed, so nothing is owed.
                hold.void().await?;
                return Err(stopped);
            }
        };
        let agreement = delivered.proposal.signed().body.clone();
        let receipt = Receipt::countersign(&quote, &delivered.proposal, &self.runtime.inner.key);
        let receipt = match receipt.verify() {
            Ok(receipt) => receipt,
            Err(error) => {
                hold.void().await?;
                return Err(Stopped::TryNext(broke_its_word(peer.id, &error.to_string())));
            }
        };
        let answer = ChatOutput {
            text: delivered.text,
            finish_reason: agreement.finish.to_string(),
            capped_by: (agreement.finish == Finish::Length).then_some(capped_by).flatten(),
            model: offer.name.clone(),
            provider: peer.id,
            local: false,
            tokens_in: agreement.usage.tokens_in,
            tokens_out: agreement.usage.tokens_out,
            trm_cost: agreement.amount,
            trm_balance: Amount::ZERO,
            trm_would_cost: None,
            receipt: Some(receipt.id()),
            idempotency_key: self.key.clone(),
            replayed: false,
        };
        let stored = serde_json::to_vec(&answer)
            .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))?;
        let bytes = receipt.to_bytes();
        if let Err((hold, error)) = hold.settle(receipt, stored).await {
            let failure = Failure::from(error);
            if failure.code == FailureCode::Store {
                hold.leave_to_expire();
            } else {
                hold.void().await?;
            }
            return Err(Stopped::Final(failure));
        }
        self.deliver(&mut link, bytes).await;
        let trm_balance = self.runtime.inner.wallet.balance(&self.caller.agent)?.available;
        Ok(ChatOutput { trm_balance, ..answer })
    }

    /// Asks for a binding price that fits what the request may spend. Answers also what caps the
    /// length, when the request does not.
    async fn quote(
        &self,
        link: &mut Link,
        peer: &PeerAddr,
        offer: &Offer,
    ) -> Result<(Verified<Quote>, Option<String>), Stopped> {
        let wanted = self.chat.max_tokens;
        let estimate = estimate_in(&self.chat.messages).min(offer.card.context.saturating_sub(1));
        let afford = |tokens_in, card: &ModelCard, multiplier: Multiplier| {
            card.affordable_out(tokens_in, multiplier, self.means.most).unwrap_or(1)
        };
        let first = wanted.unwrap_or_else(|| afford(estimate, &offer.card, offer.multiplier));
        let mut quote = self.ask(link, peer, offer, first).await?;
        if wanted.is_none() {
            let fits = afford(quote.max_in, &quote.card, quote.multiplier);
            // The first guess was rough; the exact bound of the prompt may allow more, or less.
            let better = fits.min(quote.card.context.saturating_sub(quote.max_in));
            if better != quote.max_out && first != better && better > 0 {
                quote = self.ask(link, peer, offer, better).await?;
            }
        }
        let room = quote.card.context.saturating_sub(quote.max_in);
        let capped_by = match wanted {
            Some(wanted) if quote.max_out < wanted => Some("context"),
            Some(_) => None,
            None if quote.max_out >= room => Some("context"),
            None => Some(self.means.by),
        };
        Ok((quote, capped_by.map(str::to_owned)))
    }

    async fn ask(
        &self,
        link: &mut Link,
        peer: &PeerAddr,
        offer: &Offer,
        max_out: u32,
    ) -> Result<Verified<Quote>, Stopped> {
        ask_quote(self.runtime, link, peer.id, &offer.card, &self.chat.messages, max_out)
            .await
            .map_err(Stopped::TryNext)
    }

    /// Sets the quote's maximum aside. The gate says no here, if anywhere.
    async fn hold(&self, quote: &Verified<Quote>) -> Result<Hold, Failure> {
        let fits = |most| quote.card.affordable_out(quote.max_in, quote.multiplier, most);
        if let Some(most) = self.chat.max_trm.filter(|most| quote.max_amount > *most) {
            let failure = Failure::new(
                FailureCode::AboveMaxTrm,
                format!("the quote is {} TRM, max_trm is {most} TRM", quote.max_amount),
            );
            return Err(failure.hint(what_fits(fits(most))).next_tool("quote"));
        }
        let request = HoldRequest {
            attempt: self.attempt.clone(),
            amount: quote.max_amount,
            quote: quote.id(),
        };
        self.runtime.inner.wallet.hold(request).await.map_err(|error| {
            let failure = Failure::from(error);
            match failure.code {
                FailureCode::OverBudget | FailureCode::InsufficientFunds => {
                    let way_out = failure.hint.clone().unwrap_or_default();
                    failure.hint(format!("{}; {way_out}", what_fits(fits(self.means.most))))
                }
                _ => failure,
            }
        })
    }

    /// Sends the prompt and takes the work, until the provider proposes what it costs.
    async fn perform(
        &self,
        link: &mut Link,
        quote: &Verified<Quote>,
        hold: &Hold,
    ) -> Result<Delivered, Stopped> {
        let sampler = sampler(self.chat);
        let start = Start {
            quote: quote.id(),
            hold: hold.id(),
            messages: self.chat.messages.clone(),
            sampler,
            stop: self.chat.stop.clone(),
        };
        let lost = |error: tirami_mesh::net::transport::NetError| Stopped::TryNext(error.into());
        link.send(&Frame::Start(start)).await.map_err(lost)?;
        let mut take = Intake {
            transcript: Transcript::start(&quote.id(), &self.chat.messages),
            chunks: 0,
            tokens: 0,
            text: String::new(),
        };
        let mut frozen = self.runtime.inner.frozen.subscribe();
        let (mut renewed, mut cancelled) = (self.runtime.now(), false);
        loop {
            let frame = tokio::select! {
                biased;
                () = until(&mut frozen) => {
                    // The provider stops at the next token; what it did is not paid for.
                    if let Err(error) = link.send(&Frame::Cancel).await {
                        tracing::debug!(%error, "the provider did not hear the cancellation");
                    }
                    return Err(Stopped::Final(self.frozen_now()));
                }
                frame = link.receive_within(SILENT_FOR) => frame,
            };
            match frame.map_err(|error| take.lost(error.into()))? {
                Some(Frame::Chunk(chunk)) => {
                    take.chunk(chunk.index, &chunk.tokens, &chunk.text)
                        .map_err(|what| take.lost(broke_its_word(link.peer(), what)))?;
                    if !self.pass_on(chunk.text).await && !cancelled {
                        cancelled = true;
                        link.send(&Frame::Cancel).await.map_err(lost)?;
                    }
                    self.renew(hold, &mut renewed).await?;
                }
                Some(Frame::Propose(propose)) => {
                    let proposal = check(&propose.agreement, quote, hold, &take, sampler)
                        .map_err(|what| take.lost(broke_its_word(link.peer(), &what)))?;
                    return Ok(Delivered { text: take.text, proposal });
                }
                Some(Frame::Refuse(refused)) => return Err(take.lost(refusal(link.peer(), &refused))),
                Some(other) => {
                    let what = format!("it said {} in the middle of a job", other.name());
                    return Err(take.lost(broke_its_word(link.peer(), &what)));
                }
                None => return Err(take.lost(broke_its_word(link.peer(), "it hung up"))),
            }
        }
    }

    /// What the gate says to a request that the kill switch stopped on its way.
    fn frozen_now(&self) -> Failure {
        match self.runtime.inner.wallet.admits(&self.caller.agent, Amount::ZERO) {
            Err(error) => error.into(),
            Ok(()) => Failure::new(FailureCode::Frozen, "spending was frozen").retryable(),
        }
    }

    /// Hands text on. False when nobody reads it any more and nobody will ask for it again: a
    /// request with a key of its caller's may be asked for again, so that one goes on.
    async fn pass_on(&self, text: String) -> bool {
        match &self.text {
            Some(sink) if !text.is_empty() => {
                sink.send(text).await.is_ok() || !self.key.starts_with(GIVEN_KEY)
            }
            _ => true,
        }
    }

    /// Keeps the hold alive while the provider gives signs of life.
    async fn renew(&self, hold: &Hold, renewed: &mut Timestamp) -> Result<(), Failure> {
        let now = self.runtime.now();
        if now.since_ms(*renewed) > self.runtime.inner.config.hold_timeout_ms / 4 {
            *renewed = now;
            hold.renew().await?;
        }
        Ok(())
    }

    /// Sends the countersigned receipt. If the provider does not answer now, the outbox sends it
    /// again: the payment is made either way.
    async fn deliver(&self, link: &mut Link, receipt: Vec<u8>) {
        let booked = async {
            link.send(&Frame::Countersign(Countersign { receipt })).await?;
            link.receive_within(BOOKED_WITHIN).await
        };
        match booked.await {
            Ok(Some(Frame::Settled(id))) => {
                if let Err(error) = self.runtime.inner.wallet.acknowledged(id).await {
                    tracing::warn!(%error, "an acknowledgement could not be booked");
                }
            }
            Ok(_) => tracing::debug!("the provider did not book the receipt at once"),
            Err(error) => tracing::debug!(%error, "the receipt will be sent again"),
        }
    }

    /// Local work: free for the agent, metered, and allowed by the same gate.
    async fn do_it_here(&self, offer: &Offer) -> Result<ChatOutput, Failure> {
        let (engine, runtime) = (self.runtime.inner.engine.as_ref(), self.runtime);
        let model = |error: EngineError| Failure::new(FailureCode::Model, error.to_string());
        let engine = engine
            .ok_or_else(|| Failure::new(FailureCode::Internal, "an offer without an engine"))?;
        let shape = PromptShape::of(&self.chat.messages)
            .ok_or_else(|| Failure::new(FailureCode::InvalidInput, "the prompt is too long"))?;
        let max_in = engine.max_in(&shape).map_err(model)?;
        let room = engine.context().saturating_sub(max_in);
        let max_out = self.chat.max_tokens.map_or(room, |wanted| wanted.min(room));
        let mut run = engine
            .start(Job {
                messages: self.chat.messages.clone(),
                max_out,
                sampler: sampler(self.chat),
                stop: self.chat.stop.clone(),
            })
            .map_err(model)?;
        let mut frozen = runtime.inner.frozen.subscribe();
        let mut text = String::new();
        let (usage, finish) = loop {
            let event = tokio::select! {
                biased;
                () = until(&mut frozen) => return Err(self.frozen_now()),
                event = run.next() => event,
            };
            match event.ok_or(EngineError::Stopped).and_then(|event| event).map_err(model)? {
                Event::Piece(piece) => {
                    text.push_str(&piece.text);
                    if !self.pass_on(piece.text).await {
                        run.cancel();
                    }
                }
                Event::End { usage, finish } => break (usage, finish),
            }
        };
        let capped = finish == Finish::Length
            && self.chat.max_tokens.is_none_or(|wanted| max_out < wanted);
        let answer = ChatOutput {
            text,
            finish_reason: finish.to_string(),
            capped_by: capped.then(|| "context".to_owned()),
            model: offer.name.clone(),
            provider: runtime.node(),
            local: true,
            tokens_in: usage.tokens_in,
            tokens_out: usage.tokens_out,
            trm_cost: Amount::ZERO,
            trm_balance: runtime.inner.wallet.balance(&self.caller.agent)?.available,
            trm_would_cost: offer.card.price(usage, runtime.inner.config.multiplier).ok(),
            receipt: None,
            idempotency_key: self.key.clone(),
            replayed: false,
        };
        let stored = serde_json::to_vec(&answer)
            .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))?;
        runtime.inner.wallet.answer(self.attempt.intent().clone(), stored).await?;
        Ok(answer)
    }
}

/// Waits until the kill switch is on.
async fn until(frozen: &mut tokio::sync::watch::Receiver<bool>) {
    if frozen.wait_for(|frozen| *frozen).await.is_err() {
        // The node that would switch is gone, and with it this request.
        std::future::pending::<()>().await;
    }
}

/// What has arrived so far.
struct Intake {
    transcript: Transcript,
    chunks: u32,
    tokens: u32,
    text: String,
}

impl Intake {
    fn chunk(&mut self, index: u32, tokens: &[u32], text: &str) -> Result<(), &'static str> {
        if index != self.chunks {
            return Err("it sent a chunk out of order");
        }
        self.chunks = self.chunks.saturating_add(1);
        self.tokens = self.tokens.saturating_add(u32::try_from(tokens.len()).unwrap_or(u32::MAX));
        self.transcript.extend(tokens, text.as_bytes());
        self.text.push_str(text);
        Ok(())
    }

    /// Another provider can start afresh only while nothing of this one was passed on.
    fn lost(&self, failure: Failure) -> Stopped {
        if self.chunks == 0 { Stopped::TryNext(failure) } else { Stopped::Final(failure) }
    }
}

/// Asks one provider for a price and checks that the quote is for us and follows from its card.
pub(crate) async fn ask_quote(
    runtime: &Runtime,
    link: &mut Link,
    provider: NodeId,
    card: &ModelCard,
    messages: &[Message],
    max_out: u32,
) -> Result<Verified<Quote>, Failure> {
    let shape = PromptShape::of(messages)
        .ok_or_else(|| Failure::new(FailureCode::InvalidInput, "the prompt is too long"))?;
    link.send(&Frame::AskQuote(AskQuote { model: card.id, shape, max_out })).await?;
    let quote = match link.receive_within(QUOTE_WITHIN).await? {
        Some(Frame::Quoted(quoted)) => quoted.quote,
        Some(Frame::Refuse(refused)) => return Err(refusal(provider, &refused)),
        Some(other) => return Err(broke_its_word(provider, &format!("it said {}", other.name()))),
        None => return Err(broke_its_word(provider, "it hung up")),
    };
    let wrong = |what: &str| broke_its_word(provider, what);
    let quote = Signed::<Quote>::from_bytes(&quote).map_err(|e| wrong(&e.to_string()))?;
    let quote = quote.verify(&provider).map_err(|e| wrong(&e.to_string()))?;
    let usage = Usage { tokens_in: quote.max_in, tokens_cached: 0, tokens_out: quote.max_out };
    let ours = quote.provider == provider
        && quote.consumer == runtime.node()
        && quote.network == runtime.genesis().id()
        && quote.card == *card
        && quote.max_out <= max_out
        && quote.expires > runtime.now();
    if !ours {
        return Err(wrong("its quote is not for what was asked"));
    }
    if quote.card.price(usage, quote.multiplier) != Ok(quote.max_amount) {
        return Err(wrong("its quote does not follow from its model's figures"));
    }
    Ok(quote)
}

/// Checks a proposal against everything we saw ourselves.
fn check(
    bytes: &[u8],
    quote: &Verified<Quote>,
    hold: &Hold,
    take: &Intake,
    sampler: Sampler,
) -> Result<Verified<Agreement>, String> {
    let proposal = Signed::<Agreement>::from_bytes(bytes).map_err(|e| e.to_string())?;
    let proposal = proposal.verify(&quote.provider).map_err(|e| e.to_string())?;
    proposal.check_against(quote).map_err(|e| e.to_string())?;
    let asked = Sampler {
        temperature_milli: proposal.temperature_milli,
        top_k: proposal.top_k,
        seed: proposal.seed,
    };
    for (same, what) in [
        (proposal.hold == hold.id(), "it names another hold"),
        (proposal.usage.tokens_out == take.tokens, "it counts other tokens than it sent"),
        (proposal.transcript == *take.transcript.root(), "its transcript is not what it sent"),
        (asked == sampler, "it used another sampler than was asked for"),
    ] {
        if !same {
            return Err(what.to_owned());
        }
    }
    Ok(proposal)
}

fn sampler(chat: &Chat) -> Sampler {
    let seed = match (chat.temperature_milli, chat.seed) {
        (0, None) => 0,
        (_, Some(seed)) => seed,
        (_, None) => u64::from_le_bytes(random()),
    };
    Sampler { temperature_milli: chat.temperature_milli, top_k: chat.top_k, seed }
}

fn what_fits(tokens: Option<u32>) -> String {
    match tokens {
        Some(tokens) => format!("max_tokens {tokens} would fit"),
        None => "not even one token would fit; shorten the prompt".to_owned(),
    }
}

/// Peers' words are theirs: they are quoted, never spoken as ours.
fn refusal(provider: NodeId, refused: &Refuse) -> Failure {
    let code = match refused.code {
        RefuseCode::NotFunded => FailureCode::InsufficientFunds,
        RefuseCode::TooLong => FailureCode::InvalidInput,
        RefuseCode::Busy => FailureCode::Busy,
        _ => FailureCode::ProviderFailed,
    };
    let text = format!("provider {} refused: \"{}\"", provider.short(), refused);
    let failure = Failure::new(code, text);
    if refused.retry == tirami_mesh::proto::message::Retry::Later {
        failure.retryable()
    } else {
        failure
    }
}

fn broke_its_word(provider: NodeId, what: &str) -> Failure {
    let text = format!("provider {} failed: {what}; nothing was paid", provider.short());
    Failure::new(FailureCode::ProviderFailed, text).retryable()
}
