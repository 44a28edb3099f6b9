//! The consumer's side of one job, from its start to the proposal. What arrives goes in as an [`Event`], what
//! is to be done comes out as [`Effect`]s, in their order.
//!
//! A voucher speaks of nothing that did not arrive, and of the prompt before it is read only where the
//! quote says so. Nothing is vouched for after something was wrong.

use tirami_manifest::Amount;
use tirami_manifest::commerce::{Agreement, Quote, Voucher};
use tirami_manifest::job::{Finish, Message, Sampler, Transcript};
use tirami_manifest::signed::{Signed, Verified};

use super::message::{Begun, Chunk, Frame, Refuse};
use super::terms::{Counted, Mark, Terms, Vouched};

/// Chunks that may come beside one for each token: the rest of a text, and an end.
const SPARE_CHUNKS: u32 = 2;

/// Most bytes of text that one token makes; no vocabulary we know has a longer one.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// Most bytes of text in an answer, whatever its tokens could make; chosen.
const TEXT_MAX: u64 = 4 << 20;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The provider said something.
    Said(Frame),
    /// The provider will say nothing more.
    Closed,
    /// Nobody wants the rest: what arrived is paid for.
    Cancel,
    /// Nothing may be promised any more.
    Freeze,
    /// The job took as long as it may: [`Terms::lasts`].
    Overdue,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Put this promise on disk, sign it, then send it.
    Vouch(Voucher),
    /// Hand this text on.
    PassOn(String),
    /// Say this.
    Send(Frame),
    /// The provider proposes this, and it is what was done.
    Agree(Box<Verified<Agreement>>),
    /// The provider says no.
    Refused(Refuse),
    /// It was called off before anything was owed.
    CalledOff,
    /// The provider went away before it was done.
    Gone,
    /// The provider took longer than the job may take.
    Overdue,
    /// The provider broke its word.
    Broke(String),
}

/// One job at its consumer.
#[derive(Clone, Debug)]
pub struct Buying {
    terms: Terms,
    quote: Quote,
    sampler: Sampler,
    counted: Option<Counted>,
    transcript: Transcript,
    chunks: u32,
    tokens: u32,
    text: String,
    vouched: Option<Vouched>,
    cancelled: bool,
    over: bool,
}

impl Buying {
    /// A job that was started and of which nothing has arrived yet.
    pub fn new(quote: &Quote, terms: Terms, messages: &[Message], sampler: Sampler) -> Self {
        Self {
            terms,
            quote: quote.clone(),
            sampler,
            counted: None,
            transcript: Transcript::start(&terms.quote, messages),
            chunks: 0,
            tokens: 0,
            text: String::new(),
            vouched: None,
            cancelled: false,
            over: false,
        }
    }

    /// The text that has arrived.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Tokens that have arrived.
    pub const fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Whether the provider began: it said so, or sent a part of the answer.
    pub const fn has_begun(&self) -> bool {
        self.counted.is_some() || self.chunks > 0
    }

    /// What the provider counted of the prompt, once it did.
    pub fn counted(&self) -> Counted {
        self.counted.unwrap_or_default()
    }

    /// What was vouched for so far.
    pub fn vouched(&self) -> Amount {
        self.vouched.map_or(Amount::ZERO, |last| last.total)
    }

    /// What follows from an event.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.over {
            return effects;
        }
        if let Err(what) = self.does(event, &mut effects) {
            self.over = true;
            effects.push(Effect::Broke(what));
        }
        effects
    }

    fn does(&mut self, event: Event, effects: &mut Vec<Effect>) -> Result<(), String> {
        match event {
            Event::Said(Frame::Begun(begun)) => self.begun(begun, effects),
            Event::Said(Frame::Chunk(chunk)) => self.chunk(chunk, effects),
            Event::Said(Frame::Propose(propose)) => {
                let proposal = self.proposal(&propose.agreement)?;
                self.over = true;
                effects.push(Effect::Agree(Box::new(proposal)));
                Ok(())
            }
            Event::Said(Frame::Refuse(refuse)) => {
                self.over = true;
                effects.push(Effect::Refused(refuse));
                Ok(())
            }
            Event::Said(other) => Err(format!("it said {} in the middle of a job", other.name())),
            Event::Closed if self.cancelled && self.vouched.is_none() => {
                self.over = true;
                effects.push(Effect::CalledOff);
                Ok(())
            }
            Event::Closed => {
                self.over = true;
                effects.push(Effect::Gone);
                Ok(())
            }
            Event::Cancel => {
                if !self.cancelled {
                    let paid = self.vouched.map_or(0, |last| last.mark.tokens_out);
                    if self.terms.streams_payment() && self.tokens > paid {
                        self.vouch(effects)?;
                    }
                    self.cancelled = true;
                    effects.push(Effect::Send(Frame::Cancel));
                }
                Ok(())
            }
            Event::Overdue => {
                self.over = true;
                effects.push(Effect::Overdue);
                Ok(())
            }
            Event::Freeze => {
                if !self.cancelled {
                    self.cancelled = true;
                    effects.push(Effect::Send(Frame::Cancel));
                }
                Ok(())
            }
        }
    }

    fn begun(&mut self, begun: Begun, effects: &mut Vec<Effect>) -> Result<(), String> {
        if !self.terms.streams_payment() || self.counted.is_some() {
            return Err("it began twice, or a job that it is not paid for while it streams".into());
        }
        if begun.tokens_in > self.terms.max_in {
            return Err("it counts more prompt tokens than it quoted".into());
        }
        if begun.tokens_cached > begun.tokens_in {
            return Err("it counts more tokens as cached than the prompt has".into());
        }
        let counted = Counted {
            tokens_in: begun.tokens_in,
            tokens_cached: begun.tokens_cached,
        };
        self.counted = Some(counted);
        let prepaid = self.terms.prepaid(counted).map_err(|e| e.to_string())?;
        if prepaid.is_zero() || self.cancelled {
            return Ok(());
        }
        self.vouch(effects)
    }

    fn chunk(&mut self, chunk: Chunk, effects: &mut Vec<Effect>) -> Result<(), String> {
        if self.terms.streams_payment() && self.counted.is_none() {
            return Err("it did not say how long the prompt is".into());
        }
        if chunk.index != self.chunks {
            return Err("it sent a chunk out of order".into());
        }
        if chunk.tokens.is_empty() && chunk.text.is_empty() {
            return Err("it sent a chunk with nothing in it".into());
        }
        let count = u32::try_from(chunk.tokens.len()).unwrap_or(u32::MAX);
        let (tokens, most) = (self.tokens.saturating_add(count), self.terms.max_out);
        if tokens > most {
            return Err("it sent more tokens than it quoted".into());
        }
        if chunk.index > most.saturating_add(SPARE_CHUNKS) {
            return Err("it sent more chunks than an answer can have".into());
        }
        let text_max = u64::from(most)
            .saturating_mul(TOKEN_BYTES_MAX)
            .min(TEXT_MAX);
        let bytes = self.text.len().saturating_add(chunk.text.len());
        if u64::try_from(bytes).unwrap_or(u64::MAX) > text_max {
            return Err("it sent more text than its tokens can make".into());
        }
        let paid = self.vouched.map_or(0, |last| last.mark.tokens_out);
        let unpaid = tokens.saturating_sub(paid);
        if self.terms.streams_payment() && unpaid > self.terms.ahead() {
            // What was on its way when it was called off is within the window too.
            let what = if self.cancelled {
                "it went on although it was called off"
            } else {
                "it sent more than its window without being paid"
            };
            return Err(what.into());
        }
        self.chunks = self.chunks.saturating_add(1);
        self.tokens = tokens;
        self.transcript.extend(&chunk.tokens, chunk.text.as_bytes());
        self.text.push_str(&chunk.text);
        let due = unpaid >= self.terms.chunk_tokens;
        if self.terms.streams_payment() && due && !self.cancelled {
            self.vouch(effects)?;
        }
        effects.push(Effect::PassOn(chunk.text));
        Ok(())
    }

    /// Promises all that has arrived.
    fn vouch(&mut self, effects: &mut Vec<Effect>) -> Result<(), String> {
        let counted = self.counted();
        let price = self.terms.price(counted, self.tokens);
        let vouched = Vouched {
            seq: self.vouched.map_or(0, |last| last.seq).saturating_add(1),
            total: price.map_err(|e| e.to_string())?,
            mark: Mark {
                tokens_out: self.tokens,
                transcript: *self.transcript.root(),
            },
        };
        self.vouched = Some(vouched);
        effects.push(Effect::Vouch(Voucher {
            network: self.terms.network,
            hold: self.terms.hold,
            lane: 0,
            payee: self.terms.provider,
            seq: vouched.seq,
            total: vouched.total,
            tokens_out: vouched.mark.tokens_out,
            transcript: vouched.mark.transcript,
        }));
        Ok(())
    }

    /// Checks a proposal against everything that arrived.
    fn proposal(&self, bytes: &[u8]) -> Result<Verified<Agreement>, String> {
        let proposal = Signed::<Agreement>::from_bytes(bytes).map_err(|e| e.to_string())?;
        let proposal = proposal.verify(&self.terms.provider);
        let proposal = proposal.map_err(|e| e.to_string())?;
        let checked = proposal.check_against(&self.quote);
        checked.map_err(|e| e.to_string())?;
        let asked = Sampler {
            temperature_milli: proposal.temperature_milli,
            top_k: proposal.top_k,
            seed: proposal.seed,
        };
        let counted = Counted {
            tokens_in: proposal.usage.tokens_in,
            tokens_cached: proposal.usage.tokens_cached,
        };
        let last = self.vouched.map_or(0, |last| last.seq);
        // Of what was called off, what was vouched for is paid, and nothing after it.
        let cut = self
            .vouched
            .filter(|_| proposal.finish == Finish::Cancelled);
        let whole = (self.tokens, *self.transcript.root());
        let said = (proposal.usage.tokens_out, proposal.transcript);
        let is_cut = cut.is_some_and(|last| {
            said == (last.mark.tokens_out, last.mark.transcript) && proposal.voucher_seq == last.seq
        });
        for (same, what) in [
            (proposal.hold == self.terms.hold, "it names another hold"),
            (
                is_cut || said.0 == whole.0,
                "it counts other tokens than it sent",
            ),
            (
                is_cut || said.1 == whole.1,
                "its transcript is not what it sent",
            ),
            (
                asked == self.sampler,
                "it used another sampler than was asked for",
            ),
            (
                self.counted.is_none_or(|at_first| at_first == counted),
                "it counts another prompt than at first",
            ),
            (
                proposal.voucher_seq <= last && proposal.amount >= self.vouched(),
                "it names other vouchers than it was sent",
            ),
        ] {
            if !same {
                return Err(what.to_owned());
            }
        }
        Ok(proposal)
    }
}
