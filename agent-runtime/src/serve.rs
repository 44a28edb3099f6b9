//! The provider's side of one job. Read it beside `buy.rs`; the two are mirror images.
//!
//! One job: price asked, quote signed, consumer's means set aside, tokens streamed, agreement
//! proposed, countersignature awaited, earnings booked, booking confirmed.

use std::time::Duration;

use tirami_manifest::commerce::{Agreement, Quote, Receipt};
use tirami_manifest::job::{Finish, Transcript};
use tirami_manifest::model::Usage;
use tirami_manifest::signed::{Signed, Verified};
use tirami_manifest::{Amount, NodeId, Timestamp};
use tirami_mesh::engine::{Engine, EngineError, Event, Job, Run};
use tirami_mesh::net::transport::{Link, LinkReceiver, LinkSender, NetError};
use tirami_mesh::proto::message::{
    AskQuote, Chunk, Frame, Propose, Quoted, Refuse, RefuseCode, Retry, Start,
};
use tirami_wallet::WalletError;
use tirami_wallet::sales::Standing;

use crate::clock::random;
use crate::failure::{Failure, FailureCode};
use crate::refusing::{engine_refused, in_default, internal, not_sold, refuse, refused, say};
use crate::runtime::Runtime;
use crate::{selling, sync, travelling};

/// How long a quote binds: 30 s.
const QUOTE_VALID_MS: u64 = 30_000;

/// How long a consumer that was quoted may think: as long as the quote binds.
const START_WITHIN: Duration = Duration::from_secs(30);

/// How long a countersignature may take before the consumer's own outbox is relied on; chosen.
const COUNTERSIGN_WITHIN: Duration = Duration::from_secs(30);

/// Quotes on one stream; chosen: a consumer asks once, and once more when it knows the exact bound.
const QUOTES_PER_STREAM: usize = 4;

/// Why a request of a peer was not served; what is said to the peer.
type Refused = Refuse;

/// Quotes until the consumer starts or goes away, then does the work.
pub(crate) async fn job(
    runtime: &Runtime,
    peer: NodeId,
    mut link: Link,
    first: AskQuote,
) -> Result<(), Failure> {
    let mut asked = Some(first);
    let mut quoted: Option<Verified<Quote>> = None;
    for _ in 0..=QUOTES_PER_STREAM {
        if let Some(ask) = asked.take() {
            let quote = match quote(runtime, peer, &ask) {
                Ok(quote) => quote,
                Err(refused) => {
                    say(link, Frame::Refuse(refused)).await;
                    return Ok(());
                }
            };
            link.send(&Frame::Quoted(Quoted {
                quote: quote.signed().to_bytes(),
            }))
            .await?;
            quoted = Some(quote);
        }
        match link.receive_within(START_WITHIN).await? {
            Some(Frame::AskQuote(ask)) => asked = Some(ask),
            Some(Frame::Start(start)) => {
                let Some(quote) = quoted else {
                    say(
                        link,
                        refuse(RefuseCode::BadRequest, "no quote", Retry::Never),
                    )
                    .await;
                    return Ok(());
                };
                // Before a mandate is checked, so that it held at the time that both will sign.
                let started = runtime.now();
                return match begin(runtime, &quote, &start).await {
                    Ok((run, place)) => {
                        Sale {
                            runtime,
                            quote,
                            start,
                            started,
                            place,
                        }
                        .work(link, run)
                        .await
                    }
                    Err(refused) => {
                        say(link, Frame::Refuse(refused)).await;
                        Ok(())
                    }
                };
            }
            Some(other) => {
                let text = format!("{} is not expected here", other.name());
                say(link, refuse(RefuseCode::BadRequest, &text, Retry::Never)).await;
                return Ok(());
            }
            None => return Ok(()),
        }
    }
    say(
        link,
        refuse(
            RefuseCode::Busy,
            "too many quotes on one stream",
            Retry::Later,
        ),
    )
    .await;
    Ok(())
}

/// A signed price, for a consumer who can pay it.
fn quote(runtime: &Runtime, consumer: NodeId, ask: &AskQuote) -> Result<Verified<Quote>, Refused> {
    let engine = engine(runtime, ask)?;
    let closed = |why| not_sold(&why, runtime.now());
    let multiplier = selling::quote(runtime, &consumer).map_err(closed)?;
    let card = engine.card();
    let bound = engine.max_in(&ask.shape).map_err(|e| engine_refused(&e))?;
    let (max_in, max_out) = divide_context(engine.context(), bound, ask.max_out);
    if max_out == 0 {
        return Err(refused(
            RefuseCode::BadRequest,
            "max_out is 0",
            Retry::Never,
        ));
    }
    let usage = Usage {
        tokens_in: max_in,
        tokens_cached: 0,
        tokens_out: max_out,
    };
    let max_amount = card.price(usage, multiplier).map_err(|_| {
        refused(
            RefuseCode::TooLong,
            "the price is above the cap",
            Retry::Never,
        )
    })?;
    selling::within_cap(runtime, max_amount).map_err(closed)?;
    // Who pays under a mandate shows when the job starts.
    if !ask.under_mandate {
        can_pay(runtime, &consumer, max_amount)?;
    }
    let issued = runtime.now();
    let quote = Quote {
        network: runtime.genesis().id(),
        provider: runtime.node(),
        consumer,
        card,
        multiplier,
        max_in,
        max_out,
        max_amount,
        // Paid by receipt alone: no vouchers are due.
        chunk_tokens: 0,
        window: 0,
        issued,
        expires: issued.after_ms(QUOTE_VALID_MS),
        nonce: random(),
    };
    Signed::new(quote, &runtime.inner.key)
        .verify(&runtime.node())
        .map_err(|e| refused(RefuseCode::Internal, &e.to_string(), Retry::Later))
}

/// Whether a consumer's own account covers a price.
fn can_pay(runtime: &Runtime, consumer: &NodeId, price: Amount) -> Result<(), Refused> {
    let standing = runtime.inner.wallet.standing(consumer);
    match standing.map_err(|e| internal(&e))? {
        Standing::Authority => Ok(()),
        Standing::Kept(available) if available >= price => Ok(()),
        Standing::Kept(available) => {
            let text = format!("{available} TRM are available, the quote would be {price}");
            Err(refused(RefuseCode::NotFunded, &text, Retry::Later))
        }
        Standing::Defaulted(owed) => Err(in_default(owed)),
        Standing::Stranger(left) if left >= price => Ok(()),
        Standing::Stranger(left) => {
            let text = format!(
                "what a member pays is certified afterwards, and until then this seller takes the risk of \
                 {left} TRM more in 24 hours; the quote would be {price}: ask for fewer tokens"
            );
            Err(refused(RefuseCode::NotFunded, &text, Retry::Later))
        }
        Standing::Unknown => {
            let text = "only members and the authority of this network can buy here";
            Err(refused(RefuseCode::NotMember, text, Retry::Never))
        }
    }
}

/// How many tokens of a context prompt and answer may take.
///
/// `bound` counts every byte as a token, several times what a text takes; so a prompt that might not
/// fit still gets what a wanted answer, but at least three quarters of the context, leaves. Whether
/// it fits shows when it is counted.
pub(crate) fn divide_context(context: u32, bound: u32, max_out: u32) -> (u32, u32) {
    let for_answer = max_out.min(context / 4);
    let max_in = bound.min(context.saturating_sub(for_answer));
    (max_in, max_out.min(context.saturating_sub(max_in)))
}

/// Takes a place, sets the means of who pays aside and starts the engine.
async fn begin(
    runtime: &Runtime,
    quote: &Verified<Quote>,
    start: &Start,
) -> Result<(Run, selling::Place), Refused> {
    if start.quote != quote.id() || quote.expires <= runtime.now() {
        let text = "the quote is another one or has expired; ask for a new one";
        return Err(refused(RefuseCode::QuoteExpired, text, Retry::Later));
    }
    let engine = runtime.inner.engine.as_ref().ok_or_else(|| {
        refused(
            RefuseCode::UnknownModel,
            "nothing is for sale here",
            Retry::Never,
        )
    })?;
    let place = selling::place(runtime, &quote.consumer, quote.max_amount).await;
    let place = place.map_err(|why| not_sold(&why, runtime.now()))?;
    let under = travelling::accept(runtime, quote, start).await?;
    let elsewhere = under
        .as_ref()
        .filter(|under| under.tracker() != runtime.node())
        .map(|under| (under.tracker(), under.under().spend.clone()));
    if let Err(error) = runtime.inner.wallet.reserve(quote, under).await {
        if let Some((tracker, spend)) = elsewhere {
            travelling::let_go(runtime, tracker, &spend);
        }
        return Err(not_reserved(&error));
    }
    let job = Job {
        messages: start.messages.clone(),
        max_in: quote.max_in,
        max_out: quote.max_out,
        sampler: start.sampler,
        stop: start.stop.clone(),
    };
    match engine.start(job) {
        Ok(run) => Ok((run, place)),
        Err(error) => {
            release(runtime, quote, false).await;
            Err(engine_refused(&error))
        }
    }
}

fn not_reserved(error: &WalletError) -> Refused {
    match error {
        WalletError::Refused(_) => refused(RefuseCode::NotFunded, &error.to_string(), Retry::Later),
        WalletError::LoanDefault { owed } => in_default(*owed),
        WalletError::StrangerBudget { .. } => {
            refused(RefuseCode::NotFunded, &error.to_string(), Retry::Later)
        }
        WalletError::Fraud { .. } => {
            refused(RefuseCode::NotMember, &error.to_string(), Retry::Never)
        }
        WalletError::Units(_) => refused(RefuseCode::Units, &error.to_string(), Retry::Never),
        WalletError::Mandate(_) | WalletError::UnknownGrant(_) => {
            refused(RefuseCode::Mandate, &error.to_string(), Retry::Never)
        }
        other => internal(other),
    }
}

/// One job that was begun.
struct Sale<'a> {
    runtime: &'a Runtime,
    quote: Verified<Quote>,
    start: Start,
    started: Timestamp,
    place: selling::Place,
}

/// What was delivered.
struct Delivered {
    usage: Usage,
    finish: Finish,
    transcript: Transcript,
}

impl Sale<'_> {
    /// Streams the work and collects the countersignature.
    async fn work(mut self, link: Link, mut run: Run) -> Result<(), Failure> {
        let (mut sender, mut receiver) = link.split();
        let streamed = self.stream(&mut run, &mut sender, &mut receiver).await;
        self.place.leave_slot();
        let agreement = match streamed {
            Ok(delivered) => self.agree(&delivered),
            Err(broken) => {
                run.cancel();
                if let Broken::Engine(error) = &broken {
                    let frame = Frame::Refuse(engine_refused(error));
                    if sender
                        .send(&frame)
                        .await
                        .and_then(|()| sender.finish())
                        .is_err()
                    {
                        tracing::debug!("the consumer did not hear that the engine failed");
                    }
                }
                Err(broken.into())
            }
        };
        let agreement = match agreement {
            Ok(agreement) => agreement,
            Err(failure) => {
                release(self.runtime, &self.quote, true).await;
                return Err(failure);
            }
        };
        let signed = Signed::new(agreement, &self.runtime.inner.key);
        sender
            .send(&Frame::Propose(Propose {
                agreement: signed.to_bytes(),
            }))
            .await?;
        // From here the consumer may have signed: the reservation is left to its time.
        if let Some(answer) = self.countersigned(&mut receiver, &signed).await? {
            sender.send(&answer).await?;
        }
        Ok(sender.finish()?)
    }

    /// Waits for the countersignature and books the sale. `None` when the consumer hung up.
    async fn countersigned(
        &self,
        receiver: &mut LinkReceiver,
        signed: &Signed<Agreement>,
    ) -> Result<Option<Frame>, Failure> {
        loop {
            return Ok(Some(
                match receiver.receive_within(COUNTERSIGN_WITHIN).await? {
                    Some(Frame::Countersign(receipt)) => {
                        let same = Receipt::from_bytes(&receipt.receipt)
                            .is_ok_and(|receipt| receipt.agreement == signed.body);
                        if same {
                            sync::book_sale(self.runtime, self.quote.consumer, &receipt.receipt)
                                .await
                        } else {
                            refuse(
                                RefuseCode::BadRequest,
                                "that is another agreement",
                                Retry::Never,
                            )
                        }
                    }
                    Some(Frame::Cancel) => continue,
                    Some(other) => {
                        let text = format!("{} is not expected here", other.name());
                        refuse(RefuseCode::BadRequest, &text, Retry::Never)
                    }
                    None => return Ok(None),
                },
            ));
        }
    }

    /// Sends what the engine generates as it comes, and listens for a cancellation.
    async fn stream(
        &self,
        run: &mut Run,
        sender: &mut LinkSender,
        receiver: &mut LinkReceiver,
    ) -> Result<Delivered, Broken> {
        let mut transcript = Transcript::start(&self.start.quote, &self.start.messages);
        let (mut index, mut listening) = (0_u32, true);
        let mut renewed = self.started;
        loop {
            let event = tokio::select! {
                event = run.next() => event,
                word = receiver.receive(), if listening => {
                    listening = heard(word, run)?;
                    continue;
                }
            };
            match event
                .unwrap_or(Err(EngineError::Stopped))
                .map_err(Broken::Engine)?
            {
                Event::Piece(piece) => {
                    transcript.extend(&piece.tokens, piece.text.as_bytes());
                    let chunk = Chunk {
                        index,
                        tokens: piece.tokens,
                        text: piece.text,
                    };
                    sender
                        .send(&Frame::Chunk(chunk))
                        .await
                        .map_err(|e| Broken::Other(e.into()))?;
                    index = index.saturating_add(1);
                    self.renew(&mut renewed).await;
                }
                Event::End { usage, finish } => {
                    return Ok(Delivered {
                        usage,
                        finish,
                        transcript,
                    });
                }
            }
        }
    }

    /// Keeps the reservation alive while the work goes on.
    async fn renew(&self, renewed: &mut Timestamp) {
        let now = self.runtime.now();
        if now.since_ms(*renewed) > self.runtime.inner.config.hold_timeout_ms / 4 {
            *renewed = now;
            if let Err(error) = self
                .runtime
                .inner
                .wallet
                .renew_reservation(self.quote.id())
                .await
            {
                tracing::warn!(%error, "a reservation could not be renewed");
            }
        }
    }

    /// What both sides shall sign.
    fn agree(&self, delivered: &Delivered) -> Result<Agreement, Failure> {
        let internal = |what: &dyn std::fmt::Display| {
            Failure::new(
                FailureCode::Internal,
                format!("no agreement can be made: {what}"),
            )
        };
        let Self {
            runtime,
            quote,
            start,
            started,
            ..
        } = self;
        let kflop = quote
            .card
            .kflop(delivered.usage)
            .map_err(|e| internal(&e))?;
        let engine = runtime.inner.engine.as_ref();
        let hlc = |at: Timestamp| at.ms() << 16;
        let agreement = Agreement {
            network: quote.network,
            provider: quote.provider,
            consumer: quote.consumer,
            nonce: random(),
            quote: quote.id(),
            hold: start.hold,
            model: quote.card.id,
            usage: delivered.usage,
            kflop,
            multiplier: quote.multiplier,
            earlier: Amount::ZERO,
            amount: quote.multiplier.price(kflop).map_err(|e| internal(&e))?,
            transcript: *delivered.transcript.root(),
            seed: start.sampler.seed,
            temperature_milli: start.sampler.temperature_milli,
            top_k: start.sampler.top_k,
            lane: 0,
            voucher_seq: 0,
            audit_ok: false,
            engine_fingerprint: engine.map_or([0; 8], |engine| engine.fingerprint()),
            started_hlc: hlc(*started),
            ended_hlc: hlc(runtime.now()),
            finish: delivered.finish,
        };
        agreement.check_against(quote).map_err(|e| internal(&e))?;
        Ok(agreement)
    }
}

/// What a consumer said while it was served; false when it will say nothing more.
fn heard(word: Result<Option<Frame>, NetError>, run: &Run) -> Result<bool, Broken> {
    match word {
        Ok(Some(Frame::Cancel)) => {
            run.cancel();
            Ok(true)
        }
        Ok(Some(other)) => {
            let text = format!("a consumer said {} while it was served", other.name());
            Err(Broken::Other(Failure::new(
                FailureCode::ProviderFailed,
                text,
            )))
        }
        Ok(None) => Ok(false),
        Err(error) => Err(Broken::Other(error.into())),
    }
}

/// Why a stream ended without an agreement.
enum Broken {
    Engine(EngineError),
    Other(Failure),
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Engine(error) => Self::new(FailureCode::Model, error.to_string()),
            Broken::Other(failure) => failure,
        }
    }
}

fn engine<'a>(
    runtime: &'a Runtime,
    ask: &AskQuote,
) -> Result<&'a std::sync::Arc<dyn Engine>, Refused> {
    runtime
        .inner
        .engine
        .as_ref()
        .filter(|engine| engine.card().id == ask.model)
        .ok_or_else(|| {
            refused(
                RefuseCode::UnknownModel,
                "that model is not sold here",
                Retry::Never,
            )
        })
}

async fn release(runtime: &Runtime, quote: &Verified<Quote>, begun: bool) {
    let released = runtime.inner.wallet.release_reservation(quote.id(), begun);
    match released.await {
        Ok(Some((tracker, spend))) => travelling::let_go(runtime, tracker, &spend),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "a reservation is left to its time"),
    }
}
