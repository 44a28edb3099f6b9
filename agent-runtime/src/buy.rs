//! The consumer's side of one job. Read it beside `serve.rs`; the two are mirror images.
//!
//! One purchase: intent, choice (`choosing.rs`), quote, hold, work against vouchers (`intake.rs`), receipt,
//! post. Nothing is paid that was not quoted, held and signed by us; where a provider breaks off, what was
//! vouched for is owed, and the next one goes on where it stopped.

use std::time::Duration;

use tirami_manifest::commerce::{Agreement, Quote, Receipt};
use tirami_manifest::job::{Finish, Sampler};
use tirami_manifest::model::Usage;
use tirami_manifest::signed::{Verified, hash};
use tirami_manifest::{Amount, NodeId, ReceiptId};
use tirami_mesh::net::transport::Link;
use tirami_mesh::proto::Terms;
use tirami_mesh::proto::message::{Countersign, Frame, Offer};
use tirami_wallet::hold::{VoidReason, Work};
use tirami_wallet::intent::IntentKey;
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::{Hold, HoldRequest, WalletError};

use crate::begun::Begun;
use crate::clock::random;
use crate::failure::{Failure, FailureCode};
use crate::intake::Delivered;
use crate::means::Means;
use crate::ops::budget::bought_from;
use crate::ops::{Caller, Chat, ChatOutput, TextSink};
use crate::patience::Patience;
use crate::prices::Priced;
use crate::quoting::broke_its_word;
use crate::records::Since;
use crate::runtime::Runtime;
use crate::so_far::SoFar;

/// Longest idempotency key, in bytes.
pub(crate) use tirami_wallet::intent::KEY_MAX;

/// How long a reader of the text may take for one piece; chosen. One that takes longer is gone.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// How long the answer waits for the provider's booking; after it the outbox takes over.
const BOOKED_WITHIN: Duration = Duration::from_secs(2);

/// The way out for whoever has nothing.
const EARN: &str = "nothing is there: sell work with 'tirami-agent up', or have the owner move money here with \
                    'tirami-agent wallet fund'";

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
    let mut begun = match Begun::begin(wallet, intent, body_hash(chat)?).await? {
        Ok(begun) => begun,
        Err(stored) => return replay(runtime, caller, &stored),
    };
    let (before, means) = match spendable(runtime, caller, chat, &begun) {
        Ok(spendable) => spendable,
        Err(failure) => {
            begun.attempt().await?;
            return Err(failure);
        }
    };
    let mut purchase = Purchase {
        runtime,
        caller,
        chat,
        can_ask_again: !key.starts_with(GIVEN_KEY) || !begun.is_first(),
        key,
        begun,
        means,
        before,
        text,
        so_far: SoFar::default(),
        seen_by: Vec::new(),
        broke: Vec::new(),
    };
    let answer = Box::pin(purchase.carry_through()).await;
    // Whoever asks again with the key finds it known.
    purchase.begun.attempt().await?;
    answer.map_err(|failure| {
        let failure = purchase.so_far.told(failure);
        failure.seen_by(&purchase.seen_by)
    })
}

/// What earlier tries at a request cost, and what can be spent on it now.
fn spendable(
    runtime: &Runtime,
    caller: Caller,
    chat: &Chat,
    begun: &Begun,
) -> Result<(Amount, Means), Failure> {
    let wallet = &runtime.inner.wallet;
    if let Some(freeze) = wallet.frozen()? {
        let reason = freeze.reason;
        return Err(WalletError::from(Refusal::Frozen { reason }).into());
    }
    // What earlier tries at the same request cost is part of what it may cost.
    let before = match (chat.max_trm, begun.later()) {
        (Some(_), Some(attempt)) => wallet.owed_before(attempt)?,
        _ => Amount::ZERO,
    };
    Ok((before, Means::of(runtime, caller, chat, before)?))
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
pub(crate) enum Stopped {
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
    pub(crate) begun: Begun,
    pub(crate) means: Means,
    /// What is owed for earlier tries, where `max_trm` limits it.
    before: Amount,
    pub(crate) text: Option<TextSink>,
    /// What providers delivered that did not come to the end.
    pub(crate) so_far: SoFar,
    /// Who was sent the prompt.
    pub(crate) seen_by: Vec<NodeId>,
    /// Who did not do what it should.
    pub(crate) broke: Vec<NodeId>,
}

impl Purchase<'_> {
    /// Buys from one provider what is still missing of the answer.
    pub(crate) async fn from(&mut self, mut priced: Priced<'_>) -> Result<ChatOutput, Stopped> {
        let hold = self.hold(&priced.quote).await?;
        let provider = priced.seller.peer.id;
        let Some(since) = self.runtime.inner.records.tried(provider) else {
            give_back(hold, VoidReason::CalledOff).await;
            let text = format!(
                "provider {} failed before, and another request tries it now",
                provider.short()
            );
            let failure = Failure::new(FailureCode::Busy, text).retryable();
            return Err(Stopped::TryNext(failure));
        };
        let (hold, delivered) = self.take_from(&mut priced, hold, since).await?;
        self.pay(priced, (hold, since), delivered).await
    }

    /// Has the work done under a hold, which comes back with it, and ends where the work breaks off.
    async fn take_from(
        &mut self,
        priced: &mut Priced<'_>,
        hold: Hold,
        since: Since,
    ) -> Result<(Hold, Delivered), Stopped> {
        let (provider, records) = (priced.seller.peer.id, &self.runtime.inner.records);
        if !self.seen_by.contains(&provider) {
            self.seen_by.push(provider);
        }
        let messages = self.so_far.continued(&self.chat.messages);
        let terms = Terms::new(&priced.quote, hold.id());
        let patience = Patience::new(priced.pace, &terms);
        let work = (&priced.quote, messages.as_slice(), patience);
        match self.perform(&mut priced.link, work, &hold).await {
            Ok(delivered) => Ok((hold, delivered)),
            Err(cut) => {
                if cut.is_fault {
                    records.failed(provider, since);
                } else {
                    records.not_judged(provider);
                }
                give_back(hold, cut.reason).await;
                Err(self.so_far.cut(provider, cut, self.text.is_some()))
            }
        }
    }

    /// Signs for what was delivered, posts it, and shows the provider the receipt.
    async fn pay(
        &self,
        priced: Priced<'_>,
        (hold, since): (Hold, Since),
        delivered: Delivered,
    ) -> Result<ChatOutput, Stopped> {
        let Priced {
            seller,
            offer,
            mut link,
            quote,
            capped_by,
            ..
        } = priced;
        let (peer, records) = (&seller.peer, &self.runtime.inner.records);
        let agreement = delivered.proposal.signed().body.clone();
        let signed = Receipt::countersign(&quote, &delivered.proposal, &self.runtime.inner.key);
        let receipt = match signed {
            Ok(receipt) => receipt,
            Err(error) => {
                records.failed(peer.id, since);
                give_back(hold, VoidReason::Failed).await;
                return Err(Stopped::TryNext(broke_its_word(
                    peer.id,
                    &error.to_string(),
                )));
            }
        };
        let answer = self.answer(
            offer,
            (delivered.text, capped_by),
            (&agreement, receipt.id()),
        );
        let stored = stored(&answer)?;
        let (id, bytes) = (receipt.id(), receipt.to_bytes());
        if let Err((hold, error)) = hold.settle(receipt, stored).await {
            let failure = Failure::from(error);
            if failure.code == FailureCode::Store {
                hold.leave_to_expire();
            } else {
                give_back(hold, VoidReason::CalledOff).await;
            }
            return Err(Stopped::Final(failure));
        }
        records.succeeded(peer.id);
        self.deliver(&mut link, (id, bytes)).await;
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

    /// The whole answer, what others began included.
    fn answer(
        &self,
        offer: &Offer,
        (text, capped_by): (String, Option<String>),
        (agreement, receipt): (&Agreement, ReceiptId),
    ) -> ChatOutput {
        let so_far = &self.so_far;
        ChatOutput {
            text: format!("{}{}", so_far.text, text),
            finish_reason: agreement.finish.to_string(),
            capped_by: (agreement.finish == Finish::Length)
                .then_some(capped_by)
                .flatten(),
            model: offer.name.clone(),
            provider: agreement.provider,
            local: false,
            tokens_in: agreement.usage.tokens_in,
            tokens_out: agreement.usage.tokens_out.saturating_add(so_far.tokens),
            trm_cost: agreement
                .amount
                .checked_add(so_far.paid)
                .unwrap_or(Amount::MAX),
            trm_balance: Amount::ZERO,
            trm_would_cost: None,
            receipt: Some(receipt),
            payer: self.means.under.as_ref().map(|grant| grant.root),
            idempotency_key: self.key.clone(),
            replayed: false,
            parts: so_far.parts.clone(),
            seen_by: self.seen_by.clone(),
        }
    }

    /// Sets the quote's maximum aside. The gate says no here, if anywhere.
    async fn hold(&mut self, quote: &Verified<Quote>) -> Result<Hold, Stopped> {
        let paid = self.before.checked_add(self.so_far.paid);
        let paid = paid.unwrap_or(Amount::MAX);
        let left = self.chat.max_trm.map(|most| most.saturating_sub(paid));
        if let Some(most) = left.filter(|most| quote.max_amount > *most) {
            let mut text = format!(
                "the quote is {} TRM, max_trm is {most} TRM",
                quote.max_amount
            );
            if !paid.is_zero() {
                text = format!("{text} without the {paid} TRM owed for what came before");
            }
            let failure = Failure::new(FailureCode::AboveMaxTrm, text);
            let failure = failure.hint(what_fits(quote, most)).next_tool("quote");
            return Err(Stopped::TryNext(failure));
        }
        let request = HoldRequest {
            attempt: self.begun.attempt().await?.clone(),
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
                    FailureCode::InsufficientFunds if self.means.most.is_zero() => {
                        failure.hint(EARN)
                    }
                    FailureCode::OverBudget | FailureCode::InsufficientFunds => {
                        failure.hint(format!("{}{later}", what_fits(quote, self.means.most)))
                    }
                    _ => failure,
                })
            })
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

    /// Waits until nobody reads the text any more and nobody can ask for it again.
    pub(crate) async fn hung_up(&self) {
        match &self.text {
            Some(sink) if !self.can_ask_again => sink.closed().await,
            _ => std::future::pending().await,
        }
    }

    /// Sends the countersigned receipt, and waits until its provider has booked it. That it has is noted behind
    /// the answer, except where it frees units of a mandate for the next request. If the provider does not answer
    /// now, the outbox sends it again: the payment is made either way.
    async fn deliver(&self, link: &mut Link, (id, receipt): (ReceiptId, Vec<u8>)) {
        let booked = async {
            link.send(&Frame::Countersign(Countersign { receipt }))
                .await?;
            link.receive_within(BOOKED_WITHIN).await
        };
        match booked.await {
            Ok(Some(Frame::Settled(said))) if said != id => {
                tracing::warn!(provider = %link.peer().short(), "a provider booked another receipt than it was sent");
            }
            Ok(Some(Frame::Settled(_))) if self.means.under.is_some() => {
                note_booked(self.runtime, id).await;
            }
            Ok(Some(Frame::Settled(_))) => {
                let runtime = self.runtime.clone();
                self.runtime
                    .spawn(async move { note_booked(&runtime, id).await });
            }
            Ok(_) => tracing::debug!("the provider did not book the receipt at once"),
            Err(error) => tracing::debug!(%error, "the receipt will be sent again"),
        }
    }
}

/// Notes that a provider booked a receipt.
async fn note_booked(runtime: &Runtime, receipt: ReceiptId) {
    if let Err(error) = runtime.inner.wallet.acknowledged(receipt).await {
        tracing::warn!(%error, "an acknowledgement could not be booked");
    }
}

/// Ends a hold: what was vouched for stays owed, the rest comes back. Where that fails, the hold has ended
/// already or ends with its time.
async fn give_back(hold: Hold, reason: VoidReason) {
    if let Err(error) = hold.void(reason).await {
        tracing::warn!(%error, "a hold is left to its time");
    }
}

/// What is bought, as mandates see it.
pub(crate) fn work(quote: &Quote) -> Work {
    bought_from(quote.provider, quote.card.id, quote.multiplier)
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
             allow that much, or shorten the prompt"
        ),
        Err(_) => "shorten the prompt".to_owned(),
    }
}
