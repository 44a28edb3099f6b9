//! One job at its provider, from its start to what settles it: runs [`Selling`] on a link, an engine and the
//! wallet.

use std::collections::VecDeque;
use std::time::Duration;

use tirami_manifest::commerce::{Agreement, Quote, Receipt};
use tirami_manifest::signed::Verified;
use tirami_manifest::{Amount, Timestamp};
use tirami_mesh::engine::{Engine, EngineError, Event as Made, Job, Run};
use tirami_mesh::net::transport::{Link, LinkReceiver, LinkSender, NetError};
use tirami_mesh::proto::message::{Frame, Propose, RefuseCode, Retry, Start};
use tirami_mesh::proto::selling::{Effect, Event, Outcome, Selling, Why};
use tirami_mesh::proto::{Counted, Terms};
use tirami_wallet::jobs::{self, Lane};

use crate::clock::random;
use crate::failure::{Failure, FailureCode};
use crate::refusing::{engine_refused, log, refuse};
use crate::running::Running;
use crate::runtime::Runtime;
use crate::selling::Place;
use crate::serve::release;
use crate::sync;

/// How long a voucher may take; chosen: a consumer puts it on disk first, and may be far away.
const VOUCHER_WITHIN: Duration = Duration::from_secs(10);

/// How long a countersignature may take before the consumer's own outbox is relied on; chosen.
const COUNTERSIGN_WITHIN: Duration = Duration::from_secs(30);

/// Frames that are sent together; chosen, so that the first of them does not wait long.
const SAID_AT_ONCE: usize = 32;

/// One job that was begun.
pub(crate) struct Sale<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) engine: &'a dyn Engine,
    pub(crate) quote: Verified<Quote>,
    pub(crate) start: Start,
    pub(crate) started: Timestamp,
    pub(crate) place: Place,
}

/// What was agreed or not.
enum Ended {
    Proposed(Outcome),
    Over(Why),
}

impl Sale<'_> {
    fn job(&self) -> Lane {
        jobs::lane(&self.quote, &self.start.hold)
    }

    /// Does the work, and sees to it that what was vouched for is earned. While the job is marked as running
    /// nobody else settles it.
    pub(crate) async fn work(mut self, link: Link, _running: Running) -> Result<(), Failure> {
        let (mut sender, mut receiver) = link.split();
        let terms = Terms::new(&self.quote, self.start.hold);
        let mut selling = Selling::new(terms, &self.start.messages);
        let ended = self.stream(&mut selling, &mut sender, &mut receiver).await;
        self.place.leave_slot();
        let why = match ended {
            Ok(Ended::Proposed(outcome)) => {
                let signed = match self.agree(outcome) {
                    Ok(agreement) => Verified::sign(agreement, &self.runtime.inner.key),
                    Err(failure) => {
                        self.settle_unsigned(&selling).await;
                        return Err(failure);
                    }
                };
                let agreement = signed.signed().to_bytes();
                sender.send(&Frame::Propose(Propose { agreement })).await?;
                // From here the consumer may have signed: the reservation is left to its time.
                let answer = self
                    .countersigned(&mut selling, &mut receiver, &signed)
                    .await;
                if !matches!(answer, Ok(Some(Frame::Settled(_)))) {
                    self.left_open(&selling);
                }
                let answer = answer?;
                if let Some(answer) = answer {
                    log(self.quote.consumer, &answer);
                    sender.send(&answer).await?;
                }
                return Ok(sender.finish()?);
            }
            Ok(Ended::Over(why)) => Failure::new(FailureCode::ProviderFailed, why.to_string()),
            Err(failure) => failure,
        };
        if let Err(error) = sender.finish() {
            tracing::debug!(%error, "the consumer did not hear that the job is over");
        }
        self.settle_unsigned(&selling).await;
        Err(why)
    }

    /// Runs the job until it is proposed or over.
    async fn stream(
        &self,
        selling: &mut Selling,
        sender: &mut LinkSender,
        receiver: &mut LinkReceiver,
    ) -> Result<Ended, Failure> {
        let counted = self.engine.count(&self.start.messages);
        let mut counting = std::pin::pin!(counted);
        let mut lasts = std::pin::pin!(tokio::time::sleep(selling.lasts()));
        let (mut is_counted, mut listening, mut overdue) = (false, true, false);
        let mut renewed = self.started;
        let mut work = Work::default();
        loop {
            let event = tokio::select! {
                biased;
                () = &mut lasts, if !overdue => {
                    overdue = true;
                    Event::Overdue
                }
                said = receiver.receive(), if listening => {
                    let (event, more) = heard(said);
                    listening = more;
                    event
                }
                counted = &mut counting, if !is_counted => {
                    is_counted = true;
                    self.counted(counted)
                }
                made = next(&mut work.run), if selling.wants_more() && !work.has_much_to_say() => {
                    let event = of_engine(made);
                    work.went.heard(self, &event, selling.counted());
                    event
                }
                // Nothing else is ready.
                () = std::future::ready(()), if !work.to_say.is_empty() => {
                    if !work.say(sender).await {
                        return Ok(Ended::Over(Why::Gone));
                    }
                    continue;
                }
                () = tokio::time::sleep(VOUCHER_WITHIN), if selling.waits_for_voucher() => {
                    Event::TimeUp
                }
            };
            if let Some(ended) = self.follow(selling, event, &mut work).await? {
                // What was to be said before it is.
                let heard = work.say(sender).await;
                return Ok(if heard { ended } else { Ended::Over(Why::Gone) });
            }
            self.renew(&mut renewed).await;
        }
    }

    /// Does what follows from an event, but for what is to be said.
    async fn follow(
        &self,
        selling: &mut Selling,
        event: Event,
        work: &mut Work,
    ) -> Result<Option<Ended>, Failure> {
        let mut effects = VecDeque::from(selling.on(event));
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Send(frame) => {
                    log(self.quote.consumer, &frame);
                    work.to_say.push(frame);
                }
                Effect::Begin => match self.begin(selling.counted()) {
                    Ok(begun) => {
                        work.run = Some(begun);
                        work.went = Went::begun(self.elapsed_ms());
                    }
                    Err(error) => {
                        let failed = Event::Failed(engine_refused(&error));
                        effects.extend(selling.on(failed));
                    }
                },
                Effect::Stop => stop(&mut work.run, selling),
                Effect::Keep(voucher) => {
                    let counted = selling.counted();
                    let counted = (counted.tokens_in, counted.tokens_cached);
                    let wallet = &self.runtime.inner.wallet;
                    wallet.keep_voucher(self.job(), counted, &voucher).await?;
                }
                Effect::Propose(outcome) => return Ok(Some(Ended::Proposed(outcome))),
                Effect::Over(why) => return Ok(Some(Ended::Over(why))),
            }
        }
        Ok(None)
    }

    fn elapsed_ms(&self) -> u64 {
        self.runtime.inner.clock.elapsed_ms()
    }

    /// What was counted, if it is no more than was agreed.
    fn counted(&self, counted: Result<u32, EngineError>) -> Event {
        let max_in = self.quote.max_in;
        let checked = counted.and_then(|tokens_in| {
            let tokens = u64::from(tokens_in);
            if tokens_in > max_in {
                return Err(EngineError::AboveAgreed { tokens, max_in });
            }
            Ok(Counted {
                tokens_in,
                tokens_cached: 0,
            })
        });
        match checked {
            Ok(counted) => Event::Counted(counted),
            Err(error) => Event::Failed(engine_refused(&error)),
        }
    }

    fn begin(&self, counted: Counted) -> Result<Run, EngineError> {
        let job = Job {
            messages: self.start.messages.clone(),
            max_in: counted.tokens_in,
            max_out: self.quote.max_out,
            sampler: self.start.sampler,
            stop: self.start.stop.clone(),
        };
        self.engine.start(job)
    }

    /// The job ended before anything was proposed: what was vouched for is claimed, and the rest of what was
    /// set aside is free.
    async fn settle_unsigned(&self, selling: &Selling) {
        self.left_open(selling);
        if selling.vouched().is_zero() {
            let wallet = &self.runtime.inner.wallet;
            if let Err(error) = wallet.forget_job(self.job()).await {
                tracing::warn!(%error, "a job that came to nothing is remembered");
            }
            release(self.runtime, &self.quote, selling.begun()).await;
            return;
        }
        if let Err(failure) = earn_claim(self.runtime, &self.job()).await {
            tracing::warn!(%failure, "what was vouched for is claimed later");
        }
    }

    /// The job ended, and no receipt settles it: its consumer gets little on credit until it paid.
    fn left_open(&self, selling: &Selling) {
        let (debts, consumer) = (&self.runtime.inner.selling.debts, self.quote.consumer);
        if selling.begun() && self.start.under.is_none() {
            debts.doubt(consumer);
        }
        if !selling.vouched().is_zero() {
            debts.left(consumer, self.job(), selling.vouched());
        }
    }

    /// Waits for the countersignature and books the sale. `None` when the consumer hung up.
    async fn countersigned(
        &self,
        selling: &mut Selling,
        receiver: &mut LinkReceiver,
        signed: &Verified<Agreement>,
    ) -> Result<Option<Frame>, Failure> {
        // However much is said meanwhile: what the job may earn is not kept free for ever.
        let until = tokio::time::Instant::now() + COUNTERSIGN_WITHIN;
        loop {
            if tokio::time::Instant::now() >= until {
                return Err(never_signed());
            }
            let word = tokio::time::timeout_at(until, receiver.receive()).await;
            let answer = match word.map_err(|_| never_signed())?? {
                Some(Frame::Countersign(receipt)) => self.book(&receipt.receipt, signed).await,
                // Sent before the proposal was read.
                Some(word @ (Frame::Cancel | Frame::Voucher(_))) => {
                    for effect in selling.on(Event::Said(word)) {
                        if let Effect::Keep(voucher) = effect {
                            let counted = selling.counted();
                            let counted = (counted.tokens_in, counted.tokens_cached);
                            let wallet = &self.runtime.inner.wallet;
                            wallet.keep_voucher(self.job(), counted, &voucher).await?;
                        }
                    }
                    continue;
                }
                Some(other) => {
                    let text = format!("{} is not expected here", other.name());
                    refuse(RefuseCode::BadRequest, &text, Retry::Never)
                }
                None => return Ok(None),
            };
            return Ok(Some(answer));
        }
    }

    /// Books a receipt on what was proposed.
    async fn book(&self, receipt: &[u8], proposed: &Verified<Agreement>) -> Frame {
        let bad = |text: &str| refuse(RefuseCode::BadRequest, text, Retry::Never);
        match Receipt::from_bytes(receipt) {
            Ok(receipt) if receipt.agreement == proposed.signed().body => {
                match receipt.verify_on(&self.quote, proposed) {
                    Ok(receipt) => sync::book(self.runtime, self.quote.consumer, receipt).await,
                    Err(error) => bad(&error.to_string()),
                }
            }
            _ => bad("that is another agreement"),
        }
    }

    /// Keeps the reservation alive while the work goes on.
    async fn renew(&self, renewed: &mut Timestamp) {
        let now = self.runtime.now();
        if now.since_ms(*renewed) > self.runtime.inner.config.hold_timeout_ms / 4 {
            *renewed = now;
            let wallet = &self.runtime.inner.wallet;
            if let Err(error) = wallet.renew_reservation(self.quote.id()).await {
                tracing::warn!(%error, "a reservation could not be renewed");
            }
        }
    }

    /// What both sides shall sign.
    fn agree(&self, outcome: Outcome) -> Result<Agreement, Failure> {
        let internal = |what: &dyn std::fmt::Display| {
            let text = format!("no agreement can be made: {what}");
            Failure::new(FailureCode::Internal, text)
        };
        let (quote, start) = (&self.quote, &self.start);
        let kflop = quote.card.kflop(outcome.usage).map_err(|e| internal(&e))?;
        let hlc = |at: Timestamp| at.ms() << 16;
        let agreement = Agreement {
            network: quote.network,
            provider: quote.provider,
            consumer: quote.consumer,
            nonce: random(),
            quote: quote.id(),
            hold: start.hold,
            model: quote.card.id,
            usage: outcome.usage,
            kflop,
            multiplier: quote.multiplier,
            earlier: Amount::ZERO,
            amount: quote.multiplier.price(kflop).map_err(|e| internal(&e))?,
            transcript: outcome.transcript,
            seed: start.sampler.seed,
            temperature_milli: start.sampler.temperature_milli,
            top_k: start.sampler.top_k,
            lane: 0,
            voucher_seq: outcome.voucher_seq,
            audit_ok: false,
            engine_fingerprint: self.engine.fingerprint(),
            started_hlc: hlc(self.started),
            ended_hlc: hlc(self.runtime.now()),
            finish: outcome.finish,
        };
        agreement.check_against(quote).map_err(|e| internal(&e))?;
        Ok(agreement)
    }
}

/// What a job is doing.
#[derive(Default)]
struct Work {
    run: Option<Run>,
    went: Went,
    /// Frames that are sent together: an engine may have more ready than one.
    to_say: Vec<Frame>,
}

impl Work {
    const fn has_much_to_say(&self) -> bool {
        self.to_say.len() >= SAID_AT_ONCE
    }

    /// Sends what is to be said. False when the consumer is gone.
    async fn say(&mut self, sender: &mut LinkSender) -> bool {
        let frames = std::mem::take(&mut self.to_say);
        if frames.is_empty() {
            return true;
        }
        let sent = sender.send_all(&frames).await;
        if let Err(error) = &sent {
            tracing::debug!(%error, "a consumer went away");
        }
        sent.is_ok()
    }
}

/// How long the engine took, and what for.
#[derive(Clone, Copy, Debug, Default)]
struct Went {
    begun_ms: u64,
    first_ms: Option<u64>,
    /// Tokens after the first word.
    others: u32,
}

impl Went {
    fn begun(now_ms: u64) -> Self {
        Self {
            begun_ms: now_ms,
            ..Self::default()
        }
    }

    /// Notes what an engine says. The time in which nobody asked it for more, because the window was used up,
    /// is in it: that is how fast a job goes here.
    fn heard(&mut self, sale: &Sale<'_>, event: &Event, counted: Counted) {
        let (now_ms, desk) = (sale.elapsed_ms(), &sale.runtime.inner.selling);
        match (event, self.first_ms) {
            (Event::Piece { .. }, None) => {
                self.first_ms = Some(now_ms);
                let took = now_ms.saturating_sub(self.begun_ms);
                desk.went(|speed| speed.first(counted.tokens_in, took));
            }
            (Event::Piece { tokens, .. }, Some(_)) => {
                let more = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
                self.others = self.others.saturating_add(more);
            }
            (Event::Ended { .. }, Some(first_ms)) => {
                let took = now_ms.saturating_sub(first_ms);
                desk.went(|speed| speed.others(self.others, took));
            }
            _ => {}
        }
    }
}

fn never_signed() -> Failure {
    let text = format!("no receipt came within {} s", COUNTERSIGN_WITHIN.as_secs());
    Failure::new(FailureCode::ProviderFailed, text)
}

/// Books what was vouched for in a job, as far as this node can prove it.
pub(crate) async fn earn_claim(runtime: &Runtime, job: &Lane) -> Result<(), Failure> {
    let wallet = &runtime.inner.wallet;
    if let Some(receipt) = wallet.claim(job)? {
        let receipt = receipt
            .verify()
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?;
        let consumer = receipt.agreement.consumer;
        wallet.earn(receipt).await?;
        runtime.inner.selling.debts.settled(&consumer, job);
    }
    Ok(())
}

/// What the engine makes next; nothing before it has begun.
async fn next(run: &mut Option<Run>) -> Option<Result<Made, EngineError>> {
    match run {
        Some(run) => run.next().await,
        None => std::future::pending().await,
    }
}

fn of_engine(made: Option<Result<Made, EngineError>>) -> Event {
    match made.unwrap_or(Err(EngineError::Stopped)) {
        Ok(Made::Piece(piece)) => Event::Piece {
            tokens: piece.tokens,
            text: piece.text,
        },
        Ok(Made::End { usage, finish }) => Event::Ended { usage, finish },
        Err(error) => Event::Failed(engine_refused(&error)),
    }
}

/// What a consumer said while it was served; false when it will say nothing more.
fn heard(word: Result<Option<Frame>, NetError>) -> (Event, bool) {
    match word {
        Ok(Some(frame)) => (Event::Said(frame), true),
        Ok(None) => (Event::Closed, false),
        Err(error) => {
            tracing::debug!(%error, "the stream of a job broke");
            (Event::Lost, false)
        }
    }
}

/// Lets the engine stop. Where its end is still waited for, it says what was made so far.
fn stop(run: &mut Option<Run>, selling: &Selling) {
    if let Some(run) = run {
        run.cancel();
    }
    if !selling.wants_more() {
        *run = None;
    }
}
