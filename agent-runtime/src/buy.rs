//! The consumer's side of one job. Read it beside `serve.rs`; the two are mirror images.
//!
//! One purchase: intent, choice, quote, hold, work, receipt, post. Nothing is paid that was not
//! quoted, held and countersigned; a purchase that breaks off before our signature costs nothing.

use std::time::Duration;

use tirami_manifest::commerce::{Agreement, Quote, Receipt};
use tirami_manifest::job::{Finish, Sampler};
use tirami_manifest::model::Usage;
use tirami_manifest::signed::{Verified, hash};
use tirami_manifest::{Amount, Timestamp};
use tirami_mesh::net::transport::{Link, NetError, PeerAddr};
use tirami_mesh::proto::message::{Countersign, Frame, Offer, RefuseCode, Start};
use tirami_wallet::hold::{VoidReason, Work};
use tirami_wallet::intent::{Attempt, Intent, IntentKey};
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::{Hold, HoldRequest, WalletError};

use crate::clock::random;
use crate::failure::{Failure, FailureCode};
use crate::intake::{self, Intake};
use crate::means::Means;
use crate::ops::budget::bought_from;
use crate::ops::{Caller, Chat, ChatOutput, TextSink};
use crate::quoting::{Wanted, ask_quote, broke_its_word, refusal};
use crate::runtime::Runtime;
use crate::{offers, plan, travelling};

/// Longest idempotency key, in bytes.
pub(crate) use tirami_wallet::intent::KEY_MAX;

/// How long a provider may be silent while it works; chosen: a cold model may load in between.
const SILENT_FOR: Duration = Duration::from_mins(1);

/// How long a reader of the text may take for one piece; chosen. One that takes longer is gone.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// How long the answer waits for the provider's booking; after it the outbox takes over.
const BOOKED_WITHIN: Duration = Duration::from_secs(2);

/// How a key starts that was given to a request because its caller named none. Unless a refusal told it,
/// nobody asks again for such a request once its caller is gone.
pub(crate) const GIVEN_KEY: &str = "auto-";

/// Carries one request through, or answers it from what is stored.
pub(crate) async fn buy(
    runtime: &Runtime,
    caller: Caller,
    chat: &Chat,
    text: Option<TextSink>,
) -> Result<ChatOutput, Failure> {
    let wallet = &runtime.inner.wallet;
    let key = chat.idempotency_key.clone().ok_or_else(|| {
        Failure::new(
            FailureCode::Internal,
            "a purchase without an idempotency key",
        )
    })?;
    let intent = IntentKey::new(caller.agent, &key);
    let turn = runtime.turn(&intent);
    let _turn = turn.lock().await;
    let attempt = match wallet.begin(intent, body_hash(chat)?).await? {
        Intent::Answered(stored) => return replay(runtime, caller, &stored),
        Intent::Attempt(attempt) => attempt,
    };
    if let Some(freeze) = wallet.frozen()? {
        let reason = freeze.reason;
        return Err(WalletError::from(Refusal::Frozen { reason }).into());
    }
    let means = Means::of(runtime, caller, chat)?;
    let sellers = means.limit(offers::sellers(runtime).await?);
    let plan = plan::plan(chat, &sellers, means.most, body_hash(chat)?);
    let chosen: Vec<_> = plan
        .ranked
        .iter()
        .filter(|ranked| plan::worth_trying(ranked))
        .collect();
    let can_ask_again = !key.starts_with(GIVEN_KEY) || !attempt.is_first();
    let mut last = None;
    let mut purchase = Purchase {
        runtime,
        caller,
        chat,
        key,
        can_ask_again,
        attempt,
        means,
        text,
    };
    for ranked in chosen {
        let Some((seller, offer)) = plan::find(&sellers, ranked.provider, &ranked.name) else {
            continue;
        };
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
    Err(last.unwrap_or_else(|| plan::nobody(chat, &plan, &sellers)))
}

/// What the idempotency key stands for: everything but the key.
pub(crate) fn body_hash(chat: &Chat) -> Result<[u8; 32], Failure> {
    let body = Chat {
        idempotency_key: None,
        ..chat.clone()
    };
    let json = serde_json::to_vec(&body)
        .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))?;
    Ok(hash(b"trm/v1/intent-body\0", &[&json]))
}

fn replay(runtime: &Runtime, caller: Caller, stored: &[u8]) -> Result<ChatOutput, Failure> {
    let answer: ChatOutput = serde_json::from_slice(stored)
        .map_err(|e| Failure::new(FailureCode::Store, format!("a stored answer: {e}")))?;
    let trm_balance = runtime.inner.wallet.balance(&caller.agent)?.available;
    Ok(ChatOutput {
        replayed: true,
        trm_balance,
        ..answer
    })
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
pub(crate) struct Purchase<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) caller: Caller,
    pub(crate) chat: &'a Chat,
    pub(crate) key: String,
    /// Whether the caller knows the key: it named one, or was told what it was given.
    can_ask_again: bool,
    pub(crate) attempt: Attempt,
    pub(crate) means: Means,
    pub(crate) text: Option<TextSink>,
}

/// A purchase that broke off, and how its hold ends.
struct Cut {
    stopped: Stopped,
    reason: VoidReason,
}

impl From<Stopped> for Cut {
    fn from(stopped: Stopped) -> Self {
        let reason = why(&stopped);
        Self { stopped, reason }
    }
}

impl Cut {
    /// The provider said no, so it claims nothing. Units of a mandate are free then, except where it
    /// says that they are not: the next try shall name others. What failed counts where this node pays.
    fn refused(stopped: Stopped, code: RefuseCode, under_mandate: bool) -> Self {
        let reason = match why(&stopped) {
            reason if code == RefuseCode::Units => reason,
            VoidReason::Failed if !under_mandate => VoidReason::Failed,
            _ => VoidReason::NotTaken,
        };
        Self { stopped, reason }
    }
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
        match self
            .runtime
            .inner
            .wallet
            .begin(intent, body_hash(self.chat)?)
            .await?
        {
            Intent::Attempt(attempt) => self.attempt = attempt,
            Intent::Answered(_) => {
                return Err(Failure::new(
                    FailureCode::Internal,
                    "answered while it was asked",
                ));
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
        let (quote, capped_by) = self.quote(&mut link, offer).await?;
        let hold = self.hold(&quote).await?;
        let delivered = match self.perform(&mut link, &quote, &hold).await {
            Ok(delivered) => delivered,
            Err(Cut { stopped, reason }) => {
                give_back(hold, reason).await;
                return Err(stopped);
            }
        };
        let agreement = delivered.proposal.signed().body.clone();
        let receipt = Receipt::countersign(&quote, &delivered.proposal, &self.runtime.inner.key);
        let receipt = match receipt.verify() {
            Ok(receipt) => receipt,
            Err(error) => {
                give_back(hold, VoidReason::Failed).await;
                return Err(Stopped::TryNext(broke_its_word(
                    peer.id,
                    &error.to_string(),
                )));
            }
        };
        let answer = ChatOutput {
            text: delivered.text,
            finish_reason: agreement.finish.to_string(),
            capped_by: (agreement.finish == Finish::Length)
                .then_some(capped_by)
                .flatten(),
            model: offer.name.clone(),
            provider: peer.id,
            local: false,
            tokens_in: agreement.usage.tokens_in,
            tokens_out: agreement.usage.tokens_out,
            trm_cost: agreement.amount,
            trm_balance: Amount::ZERO,
            trm_would_cost: None,
            receipt: Some(receipt.id()),
            payer: self.means.under.as_ref().map(|grant| grant.root),
            idempotency_key: self.key.clone(),
            replayed: false,
        };
        let stored = stored(&answer)?;
        let bytes = receipt.to_bytes();
        if let Err((hold, error)) = hold.settle(receipt, stored).await {
            let failure = Failure::from(error);
            if failure.code == FailureCode::Store {
                hold.leave_to_expire();
            } else {
                give_back(hold, VoidReason::CalledOff).await;
            }
            return Err(Stopped::Final(failure));
        }
        self.deliver(&mut link, bytes).await;
        let trm_balance = self
            .runtime
            .inner
            .wallet
            .balance(&self.caller.agent)?
            .available;
        Ok(ChatOutput {
            trm_balance,
            ..answer
        })
    }

    /// Asks for a binding price that fits what the request may spend. Answers also what caps the
    /// length, when the request does not.
    async fn quote(
        &self,
        link: &mut Link,
        offer: &Offer,
    ) -> Result<(Verified<Quote>, Option<String>), Stopped> {
        let wanted = self.chat.max_tokens;
        let estimate = plan::guess_in(&self.chat.messages, offer.card.context);
        let (first, mut by) =
            self.means
                .affordable_out((link.peer(), &offer.card), estimate, offer.multiplier);
        let first = wanted.unwrap_or(first);
        let mut quote = self.ask(link, offer, first).await?;
        if wanted.is_none() {
            let fits;
            (fits, by) = self.means.affordable_out(
                (link.peer(), &quote.card),
                quote.max_in,
                quote.multiplier,
            );
            // The first guess was rough; the exact bound of the prompt may allow more, or less.
            let better = fits.min(quote.card.context.saturating_sub(quote.max_in));
            if better != quote.max_out && first != better && better > 0 {
                quote = self.ask(link, offer, better).await?;
            }
        }
        let room = quote.card.context.saturating_sub(quote.max_in);
        let capped_by = match wanted {
            Some(wanted) if quote.max_out < wanted => Some("context"),
            Some(_) => None,
            None if quote.max_out >= room => Some("context"),
            None => Some(by),
        };
        Ok((quote, capped_by.map(str::to_owned)))
    }

    async fn ask(
        &self,
        link: &mut Link,
        offer: &Offer,
        max_out: u32,
    ) -> Result<Verified<Quote>, Stopped> {
        let wanted = Wanted {
            max_out,
            under_mandate: self.means.under.is_some(),
        };
        ask_quote(self.runtime, link, offer, &self.chat.messages, wanted)
            .await
            .map_err(Stopped::TryNext)
    }

    /// Sets the quote's maximum aside. The gate says no here, if anywhere.
    async fn hold(&self, quote: &Verified<Quote>) -> Result<Hold, Stopped> {
        if let Some(most) = self.chat.max_trm.filter(|most| quote.max_amount > *most) {
            let failure = Failure::new(
                FailureCode::AboveMaxTrm,
                format!(
                    "the quote is {} TRM, max_trm is {most} TRM",
                    quote.max_amount
                ),
            );
            let failure = failure.hint(what_fits(quote, most)).next_tool("quote");
            return Err(Stopped::TryNext(failure));
        }
        let request = HoldRequest {
            attempt: self.attempt.clone(),
            amount: quote.max_amount,
            quote: quote.id(),
            work: work(quote),
            under: self.means.mandate(),
        };
        self.runtime
            .inner
            .wallet
            .hold(request)
            .await
            .map_err(|error| {
                let failure = Failure::from(error);
                let later = failure
                    .retry_at
                    .as_ref()
                    .map_or_else(String::new, |at| format!("; the whole passes after {at}"));
                Stopped::Final(match failure.code {
                    FailureCode::OverBudget | FailureCode::InsufficientFunds => {
                        failure.hint(format!("{}{later}", what_fits(quote, self.means.most)))
                    }
                    _ => failure,
                })
            })
    }

    /// Sends the prompt and takes the work, until the provider proposes what it costs.
    async fn perform(
        &self,
        link: &mut Link,
        quote: &Verified<Quote>,
        hold: &Hold,
    ) -> Result<Delivered, Cut> {
        let sampler = sampler(self.chat);
        let start = Start {
            quote: quote.id(),
            hold: hold.id(),
            messages: self.chat.messages.clone(),
            sampler,
            stop: self.chat.stop.clone(),
            under: hold.under().map(travelling::to_wire),
        };
        let lost = |error: NetError| Stopped::TryNext(error.into());
        link.send(&Frame::Start(start)).await.map_err(lost)?;
        let mut take = Intake::start(quote, &self.chat.messages);
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
                    return Err(Stopped::Final(self.frozen_now()).into());
                }
                frame = link.receive_within(SILENT_FOR) => frame,
            };
            let peer = link.peer();
            let after = |failure| stopped(&take, failure);
            match frame.map_err(|error| stopped(&take, error.into()))? {
                Some(Frame::Chunk(chunk)) => {
                    take.chunk(chunk.index, &chunk.tokens, &chunk.text)
                        .map_err(|what| stopped(&take, broke_its_word(peer, what)))?;
                    let read = tokio::select! {
                        biased;
                        () = until(&mut frozen) => continue,
                        read = self.pass_on(chunk.text) => read,
                    };
                    if !read && !cancelled {
                        cancelled = true;
                        link.send(&Frame::Cancel)
                            .await
                            .map_err(|error| stopped(&take, error.into()))?;
                    }
                    self.renew(hold, &mut renewed)
                        .await
                        .map_err(Stopped::from)?;
                }
                Some(Frame::Propose(propose)) => {
                    let checked =
                        intake::check(&propose.agreement, quote, hold.id(), &take, sampler);
                    let proposal = checked.map_err(|what| after(broke_its_word(peer, &what)))?;
                    return Ok(Delivered {
                        text: take.text,
                        proposal,
                    });
                }
                Some(Frame::Refuse(refused)) => {
                    let stopped = after(refusal(peer, &refused));
                    let under = self.means.under.is_some();
                    return Err(Cut::refused(stopped, refused.code, under));
                }
                Some(other) => {
                    let what = format!("it said {} in the middle of a job", other.name());
                    return Err(after(broke_its_word(peer, &what)).into());
                }
                None => return Err(after(broke_its_word(peer, "it hung up")).into()),
            }
        }
    }

    /// What the gate says to a request that the kill switch stopped on its way.
    pub(crate) fn frozen_now(&self) -> Failure {
        match self.runtime.inner.wallet.frozen() {
            Ok(Some(freeze)) => {
                let reason = freeze.reason;
                WalletError::from(Refusal::Frozen { reason }).into()
            }
            Ok(None) => Failure::new(FailureCode::Frozen, "spending was frozen").retryable(),
            Err(error) => error.into(),
        }
    }

    /// Hands text on. False when nobody reads it any more and nobody can ask for it again.
    pub(crate) async fn pass_on(&self, text: String) -> bool {
        match &self.text {
            Some(sink) if !text.is_empty() => {
                let sent = tokio::time::timeout(READ_WITHIN, sink.send(text)).await;
                matches!(sent, Ok(Ok(()))) || self.can_ask_again
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
            link.send(&Frame::Countersign(Countersign { receipt }))
                .await?;
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
}

/// Ends a hold under which nothing of ours is signed, so nothing is owed. Where that fails, the hold
/// has ended already or ends with its time.
async fn give_back(hold: Hold, reason: VoidReason) {
    if let Err(error) = hold.void(reason).await {
        tracing::warn!(%error, "a hold is left to its time");
    }
}

/// Whether the provider failed, or nobody wanted it any more.
fn why(stopped: &Stopped) -> VoidReason {
    let (Stopped::Final(failure) | Stopped::TryNext(failure)) = stopped;
    match failure.code {
        FailureCode::ProviderFailed | FailureCode::Model => VoidReason::Failed,
        _ => VoidReason::CalledOff,
    }
}

/// What is bought, as mandates see it.
pub(crate) fn work(quote: &Quote) -> Work {
    bought_from(quote.provider, quote.card.id, quote.multiplier)
}

/// Another provider can start afresh only while nothing of this one was passed on.
fn stopped(take: &Intake, failure: Failure) -> Stopped {
    if take.is_empty() {
        Stopped::TryNext(failure)
    } else {
        Stopped::Final(failure)
    }
}

/// What is kept of an answer for whoever asks again with its key.
pub(crate) fn stored(answer: &ChatOutput) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(answer).map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))
}

/// Waits until the kill switch is on.
pub(crate) async fn until(frozen: &mut tokio::sync::watch::Receiver<bool>) {
    if frozen.wait_for(|frozen| *frozen).await.is_err() {
        // The node that would switch is gone, and with it this request.
        std::future::pending::<()>().await;
    }
}

pub(crate) fn sampler(chat: &Chat) -> Sampler {
    let seed = match (chat.temperature_milli, chat.seed) {
        (0, None) => 0,
        (_, Some(seed)) => seed,
        (_, None) => u64::from_le_bytes(random()),
    };
    Sampler {
        temperature_milli: chat.temperature_milli,
        top_k: chat.top_k,
        seed,
    }
}

/// What a request that was too dear could ask for instead.
fn what_fits(quote: &Quote, most: Amount) -> String {
    if let Some(tokens) = quote
        .card
        .affordable_out(quote.max_in, quote.multiplier, most)
    {
        return format!("max_tokens {tokens} would fit, under an idempotency_key of its own");
    }
    let least = Usage {
        tokens_in: quote.max_in,
        tokens_cached: 0,
        tokens_out: 1,
    };
    match quote.card.price(least, quote.multiplier) {
        Ok(least) => format!(
            "with this prompt even one token may cost {least} TRM, and {most} TRM can be spent; \
             shorten the prompt"
        ),
        Err(_) => "shorten the prompt".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tirami_manifest::NodeId;
    use tirami_mesh::proto::message::Retry;

    use super::*;
    use crate::refusing::refused;

    #[test]
    fn a_refusal_frees_units_unless_it_says_that_they_are_not_free() {
        let provider = NodeId::from_bytes([1; 32]);
        let ends = |code, under| {
            let said = refused(code, "no", Retry::Never);
            let stopped = Stopped::TryNext(refusal(provider, &said));
            Cut::refused(stopped, code, under).reason
        };
        for code in [
            RefuseCode::Busy,
            RefuseCode::NotMember,
            RefuseCode::NotFunded,
            RefuseCode::QuoteExpired,
            RefuseCode::BadRequest,
            RefuseCode::Internal,
            RefuseCode::Mandate,
        ] {
            assert_eq!(ends(code, true), VoidReason::NotTaken, "{code}");
        }
        assert_ne!(ends(RefuseCode::Units, true), VoidReason::NotTaken);
        // Where this node pays, its breakers count what failed.
        assert_eq!(ends(RefuseCode::Internal, false), VoidReason::Failed);
        assert_eq!(ends(RefuseCode::NotFunded, false), VoidReason::NotTaken);
    }
}
