//! The provider's side of one job. Read it beside `buy.rs`; the two are mirror images.
//!
//! One job: price asked, quote signed, consumer's means set aside; then `sale.rs`: tokens streamed against
//! vouchers, agreement proposed, countersignature awaited, earnings booked, booking confirmed.

use std::sync::Arc;
use std::time::Duration;

use tirami_manifest::commerce::Quote;
use tirami_manifest::model::Usage;
use tirami_manifest::signed::Verified;
use tirami_manifest::{Amount, NodeId, Timestamp};
use tirami_mesh::engine::Engine;
use tirami_mesh::net::transport::Link;
use tirami_mesh::proto::message::{AskQuote, Frame, Quoted, Refuse, RefuseCode, Retry, Start};
use tirami_wallet::WalletError;
use tirami_wallet::jobs::{self, JobStart};
use tirami_wallet::sales::Standing;

use crate::clock::random;
use crate::failure::Failure;
use crate::refusing::{engine_refused, in_default, internal, not_sold, refuse, refused, say};
use crate::running::Running;
use crate::runtime::Runtime;
use crate::sale::Sale;
use crate::selling::debts::{Debt, OPEN_MAX};
use crate::{selling, travelling};

/// How long a quote binds: 30 s.
const QUOTE_VALID_MS: u64 = 30_000;

/// How long a consumer that was quoted may think: as long as the quote binds.
const START_WITHIN: Duration = Duration::from_secs(30);

/// Tokens of a chunk and chunks without a voucher, for a consumer that never paid here; chosen: eight tokens
/// are at risk, and the prompt is paid for before it is read.
const TO_UNKNOWN: (u16, u16) = (8, 1);

/// The same for one that has paid; chosen, so that a round trip does not hold up the stream.
const TO_KNOWN: (u16, u16) = (32, 2);

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
            let (speed, wait_ms) = runtime.inner.selling.speed();
            link.send(&Frame::Quoted(Quoted {
                quote: quote.signed().to_bytes(),
                pace: speed.pace(quote.max_in, wait_ms),
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
                return match begin(runtime, &quote, &start, started).await {
                    Ok((engine, place, running)) => {
                        let sale = Sale {
                            runtime,
                            engine: &**engine,
                            quote,
                            start,
                            started,
                            place,
                        };
                        Box::pin(sale.work(link, running)).await
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
    let (chunk_tokens, window) = credit(runtime, &consumer, ask.under_mandate)?;
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
        chunk_tokens,
        window,
        issued,
        expires: issued.after_ms(QUOTE_VALID_MS),
        nonce: random(),
    };
    Ok(Verified::sign(quote, &runtime.inner.key))
}

/// How much is given on credit while a job streams: little, and no prompt, to whom this node never earned
/// from, or who left the last job unpaid. What a mandate of another machine pays for is paid by receipt alone.
fn credit(
    runtime: &Runtime,
    consumer: &NodeId,
    under_mandate: bool,
) -> Result<(u16, u16), Refused> {
    if under_mandate {
        return Ok((0, 0));
    }
    let known = runtime.inner.wallet.has_paid(consumer);
    let doubted = runtime.inner.selling.debts.doubts(consumer);
    Ok(if known.map_err(|e| internal(&e))? && !doubted {
        TO_KNOWN
    } else {
        TO_UNKNOWN
    })
}

/// Whether a consumer's own account covers a price beside what it owes for earlier jobs.
fn can_pay(runtime: &Runtime, consumer: &NodeId, price: Amount) -> Result<(), Refused> {
    let Debt { jobs, sum } = runtime.inner.selling.debts.of(consumer);
    if jobs >= OPEN_MAX {
        let text = format!(
            "{jobs} earlier jobs with {sum} TRM are not settled: sign for them, or book what is claimed"
        );
        return Err(refused(RefuseCode::NotFunded, &text, Retry::Later));
    }
    let standing = runtime.inner.wallet.standing(consumer);
    match standing.map_err(|e| internal(&e))? {
        Standing::Authority => Ok(()),
        Standing::Kept(available) if available.saturating_sub(sum) >= price => Ok(()),
        Standing::Kept(available) => {
            let owed = if sum.is_zero() {
                String::new()
            } else {
                format!(" and {sum} owed for earlier jobs")
            };
            let text = format!("{available} TRM are available{owed}, the quote would be {price}");
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

/// Takes a place, writes the job down and sets the means of who pays aside.
async fn begin<'a>(
    runtime: &'a Runtime,
    quote: &Verified<Quote>,
    start: &Start,
    started: Timestamp,
) -> Result<(&'a Arc<dyn Engine>, selling::Place, Running), Refused> {
    if start.quote != quote.id() || quote.expires <= runtime.now() {
        let text = "the quote is another one or has expired; ask for a new one";
        return Err(refused(RefuseCode::QuoteExpired, text, Retry::Later));
    }
    // Whoever pays by itself pays while it streams; only what a mandate pays for is on credit to the end.
    if (quote.window == 0) != start.under.is_some() {
        let text = "the quote was asked for another payer: ask for one under the mandate that pays, or without";
        return Err(refused(RefuseCode::BadRequest, text, Retry::Never));
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
    // What it owes may have grown since it was quoted, and while it waited.
    if under.is_none() {
        can_pay(runtime, &quote.consumer, quote.max_amount)?;
    }
    // Before it is written down: a job that nobody runs and nobody vouched for is forgotten.
    let Some(running) = Running::mark(runtime, jobs::lane(quote, &start.hold)) else {
        let text = "a job of this hold runs already";
        return Err(refused(RefuseCode::BadRequest, text, Retry::Never));
    };
    let elsewhere = under
        .as_ref()
        .filter(|under| under.tracker() != runtime.node())
        .map(|under| (under.tracker(), under.under().spend.clone()));
    let begun = JobStart {
        hold: start.hold,
        sampler: start.sampler,
        started,
        engine_fingerprint: engine.fingerprint(),
    };
    if let Err(error) = runtime.inner.wallet.reserve(quote, begun, under).await {
        if let Some((tracker, spend)) = elsewhere {
            travelling::let_go(runtime, tracker, &spend);
        }
        return Err(not_reserved(&error));
    }
    Ok((engine, place, running))
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
        WalletError::OtherReceipt(_) => {
            refused(RefuseCode::BadRequest, &error.to_string(), Retry::Never)
        }
        WalletError::Units(_) => refused(RefuseCode::Units, &error.to_string(), Retry::Never),
        WalletError::Mandate(_) | WalletError::UnknownGrant(_) => {
            refused(RefuseCode::Mandate, &error.to_string(), Retry::Never)
        }
        other => internal(other),
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

pub(crate) async fn release(runtime: &Runtime, quote: &Verified<Quote>, begun: bool) {
    let released = runtime.inner.wallet.release_reservation(quote.id(), begun);
    match released.await {
        Ok(Some((tracker, spend))) => travelling::let_go(runtime, tracker, &spend),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "a reservation is left to its time"),
    }
}
