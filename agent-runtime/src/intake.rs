//! What a provider delivers, and whether its proposal matches it.

use tirami_manifest::TransferId;
use tirami_manifest::commerce::{Agreement, Quote};
use tirami_manifest::job::{Message, Sampler, Transcript};
use tirami_manifest::signed::{Signed, Verified};

/// Chunks that may come beside one for each token: the rest of a text, and an end.
const SPARE_CHUNKS: u32 = 2;

/// Most bytes of text that one token makes; no vocabulary we know has a longer one.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// What has arrived so far.
pub(crate) struct Intake {
    transcript: Transcript,
    chunks: u32,
    tokens: u32,
    most: u32,
    pub(crate) text: String,
}

impl Intake {
    /// Before the first chunk.
    pub(crate) fn start(quote: &Verified<Quote>, messages: &[Message]) -> Self {
        let transcript = Transcript::start(&quote.id(), messages);
        Self {
            transcript,
            chunks: 0,
            tokens: 0,
            most: quote.max_out,
            text: String::new(),
        }
    }

    /// One more chunk.
    pub(crate) fn chunk(
        &mut self,
        index: u32,
        tokens: &[u32],
        text: &str,
    ) -> Result<(), &'static str> {
        if index != self.chunks {
            return Err("it sent a chunk out of order");
        }
        let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(count);
        if self.tokens > self.most {
            return Err("it sent more tokens than it quoted");
        }
        if index > self.most.saturating_add(SPARE_CHUNKS) {
            return Err("it sent more chunks than an answer can have");
        }
        let text_max = u64::from(self.most).saturating_mul(TOKEN_BYTES_MAX);
        let bytes = self.text.len().saturating_add(text.len());
        if u64::try_from(bytes).unwrap_or(u64::MAX) > text_max {
            return Err("it sent more text than its tokens can make");
        }
        self.chunks = self.chunks.saturating_add(1);
        self.transcript.extend(tokens, text.as_bytes());
        self.text.push_str(text);
        Ok(())
    }

    /// True while nothing was passed on, so that another provider can start afresh.
    pub(crate) const fn is_empty(&self) -> bool {
        self.chunks == 0
    }
}

/// Checks a proposal against everything we saw ourselves.
pub(crate) fn check(
    bytes: &[u8],
    quote: &Verified<Quote>,
    hold: TransferId,
    take: &Intake,
    sampler: Sampler,
) -> Result<Verified<Agreement>, String> {
    let proposal = Signed::<Agreement>::from_bytes(bytes).map_err(|e| e.to_string())?;
    let proposal = proposal
        .verify(&quote.provider)
        .map_err(|e| e.to_string())?;
    proposal.check_against(quote).map_err(|e| e.to_string())?;
    let asked = Sampler {
        temperature_milli: proposal.temperature_milli,
        top_k: proposal.top_k,
        seed: proposal.seed,
    };
    for (same, what) in [
        (proposal.hold == hold, "it names another hold"),
        (
            proposal.usage.tokens_out == take.tokens,
            "it counts other tokens than it sent",
        ),
        (
            proposal.transcript == *take.transcript.root(),
            "its transcript is not what it sent",
        ),
        (
            asked == sampler,
            "it used another sampler than was asked for",
        ),
    ] {
        if !same {
            return Err(what.to_owned());
        }
    }
    Ok(proposal)
}
