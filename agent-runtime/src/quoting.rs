//! Asking a provider for a price, and what to make of a provider's words.

use std::time::Duration;

use tirami_manifest::NodeId;
use tirami_manifest::commerce::Quote;
use tirami_manifest::job::{Message, PromptShape};
use tirami_manifest::model::Usage;
use tirami_manifest::signed::{Signed, Verified};
use tirami_mesh::net::transport::Link;
use tirami_mesh::proto::message::{
    AskQuote, Frame, Offer, Pace, Quoted, Refuse, RefuseCode, Retry,
};

use crate::certifying;
use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;

/// How long a provider may take for a quote; chosen.
const QUOTE_WITHIN: Duration = Duration::from_secs(5);

/// Most tokens of a chunk, and of all that is sent before it is vouched for; what this build quotes itself to
/// whom it knows.
const CHUNK_MOST: u32 = 32;
const AHEAD_MOST: u32 = 64;

/// Tokens a chat template may add to a prompt in all, and to each message; chosen: the longest
/// default system prompts of known templates stay below the first, their marks below the second.
const TEMPLATE_TOKENS: (u32, u32) = (512, 64);

/// The most tokens a prompt can take: one for each byte, and the template's.
fn most_in(messages: &[Message]) -> u32 {
    let (in_all, each) = TEMPLATE_TOKENS;
    messages.iter().fold(in_all, |sum, message| {
        let bytes = u32::try_from(message.content.len()).unwrap_or(u32::MAX);
        sum.saturating_add(bytes).saturating_add(each)
    })
}

/// What a price is asked for, beside the prompt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Most tokens to generate.
    pub(crate) max_out: u32,
    /// Whether a travelling mandate will pay.
    pub(crate) under_mandate: bool,
}

/// Why there is no price.
pub(crate) struct NoPrice {
    pub(crate) failure: Failure,
    /// Whether the provider did something else than it should, or nothing.
    pub(crate) is_fault: bool,
}

impl From<Failure> for NoPrice {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            is_fault: false,
        }
    }
}

fn fault(failure: Failure) -> NoPrice {
    NoPrice {
        failure,
        is_fault: true,
    }
}

/// Asks one provider for a price and checks that the quote is for us and follows from its card.
pub(crate) async fn ask_quote(
    runtime: &Runtime,
    link: &mut Link,
    offer: &Offer,
    messages: &[Message],
    Wanted {
        max_out,
        under_mandate,
    }: Wanted,
) -> Result<(Verified<Quote>, Pace), NoPrice> {
    let provider = link.peer();
    if let Err(failure) = certifying::introduce(runtime).await {
        tracing::debug!(%failure, "the witness does not know this node's new key yet");
    }
    let shape = PromptShape::of(messages)
        .ok_or_else(|| Failure::new(FailureCode::InvalidInput, "the prompt is too long"))?;
    link.send(&Frame::AskQuote(AskQuote {
        model: offer.card.id,
        shape,
        max_out,
        under_mandate,
    }))
    .await
    .map_err(|error| fault(error.into()))?;
    let wrong = |what: &str| fault(broke_its_word(provider, what));
    let said = link.receive_within(QUOTE_WITHIN).await;
    let Quoted { quote, pace } = match said.map_err(|error| fault(error.into()))? {
        Some(Frame::Quoted(quoted)) => quoted,
        Some(Frame::Refuse(refused)) => return Err(refusal(provider, &refused).into()),
        Some(other) => return Err(wrong(&format!("it said {}", other.name()))),
        None => return Err(wrong("it hung up")),
    };
    let quote = Signed::<Quote>::from_bytes(&quote).map_err(|e| wrong(&e.to_string()))?;
    let quote = quote.verify(&provider).map_err(|e| wrong(&e.to_string()))?;
    let usage = Usage {
        tokens_in: quote.max_in,
        tokens_cached: 0,
        tokens_out: quote.max_out,
    };
    let ours = quote.provider == provider
        && quote.consumer == runtime.node()
        && quote.network == runtime.genesis().id()
        && quote.card == offer.card
        && quote.max_out <= max_out
        && quote.expires > runtime.now();
    if !ours {
        return Err(wrong("its quote is not for what was asked"));
    }
    if quote.multiplier > offer.multiplier {
        return Err(wrong("its quote is dearer than its offer"));
    }
    if quote.max_in > most_in(messages) {
        return Err(wrong(
            "its quote counts more prompt tokens than the prompt has bytes",
        ));
    }
    if !gives_credit(&quote, under_mandate) {
        return Err(wrong("its window is not one that this build buys in"));
    }
    if quote.max_amount.is_zero() {
        return Err(wrong(
            "its quote is for nothing; work that costs nothing is not traded",
        ));
    }
    if quote.card.price(usage, quote.multiplier) != Ok(quote.max_amount) {
        return Err(wrong("its quote does not follow from its model's figures"));
    }
    Ok((quote, pace))
}

/// Whether a quote is paid as it should be: by receipt alone where a travelling mandate pays, else while it
/// streams, in steps that this node can bear to lose.
fn gives_credit(quote: &Quote, under_mandate: bool) -> bool {
    let (chunk, window) = (u32::from(quote.chunk_tokens), u32::from(quote.window));
    if under_mandate {
        return (chunk, window) == (0, 0);
    }
    (1..=CHUNK_MOST).contains(&chunk) && (1..=AHEAD_MOST).contains(&(chunk * window))
}

/// Peers' words are theirs: they are quoted, never spoken as ours.
pub(crate) fn refusal(provider: NodeId, refused: &Refuse) -> Failure {
    let code = match refused.code {
        RefuseCode::NotFunded => FailureCode::InsufficientFunds,
        RefuseCode::TooLong => FailureCode::InvalidInput,
        RefuseCode::Busy => FailureCode::Busy,
        RefuseCode::LoanDefault => FailureCode::LoanDefault,
        RefuseCode::Mandate | RefuseCode::Units => FailureCode::NotAllowed,
        _ => FailureCode::ProviderFailed,
    };
    let text = format!("provider {} refused: \"{}\"", provider.short(), refused);
    let failure = Failure::new(code, text);
    let failure = match code {
        FailureCode::LoanDefault => failure.hint(
            "repay the welcome loan: 'tirami-agent loans repay'; or sell to the lender, which \
             repays it first",
        ),
        FailureCode::NotAllowed => failure
            .hint("its payer decides what the mandate allows; without one your own account pays"),
        _ => failure,
    };
    if refused.retry == Retry::Later {
        failure.retryable()
    } else {
        failure
    }
}

/// A provider that did something else than it should.
pub(crate) fn broke_its_word(provider: NodeId, what: &str) -> Failure {
    let text = format!("provider {} failed: {what}", provider.short());
    Failure::new(FailureCode::ProviderFailed, text).retryable()
}
