//! The provider's side of one job, from the count of its prompt to the proposal. What arrives goes in as an
//! [`Event`], what is to be done comes out as [`Effect`]s, in their order.
//!
//! No more than [`Terms::ahead`] tokens are ever sent beyond those that the last voucher speaks of. What the
//! engine makes beyond them is kept back; it is not read while something is.

use std::collections::VecDeque;
use std::time::Duration;

use tirami_manifest::Amount;
use tirami_manifest::commerce::Voucher;
use tirami_manifest::job::{Finish, Message, Transcript};
use tirami_manifest::model::Usage;
use tirami_manifest::signed::{Signed, Verified};

use super::message::{Begun, Chunk, Frame, Refuse, RefuseCode, Retry, SignedBytes};
use super::terms::{Counted, Mark, Terms, Vouched};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The engine counted the prompt.
    Counted(Counted),
    /// The engine made some of the answer.
    Piece {
        /// Its tokens.
        tokens: Vec<u32>,
        /// Their text.
        text: String,
    },
    /// The engine is done.
    Ended {
        /// What it used.
        usage: Usage,
        /// Why it ended.
        finish: Finish,
    },
    /// The engine failed.
    Failed(Refuse),
    /// The consumer said something.
    Said(Frame),
    /// The consumer will say nothing more.
    Closed,
    /// The stream broke.
    Lost,
    /// A voucher was waited for, for as long as one is waited for.
    TimeUp,
    /// The job took as long as it may: [`Terms::lasts`].
    Overdue,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Say this.
    Send(Frame),
    /// Let the engine begin.
    Begin,
    /// Let the engine stop; what it still makes is not wanted.
    Stop,
    /// Put this voucher on disk, before anything that follows.
    Keep(Box<Verified<Voucher>>),
    /// Propose an agreement on this.
    Propose(Outcome),
    /// The job is over without an agreement. What was vouched for is claimed.
    Over(Why),
}

/// What an agreement is proposed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was used.
    pub usage: Usage,
    /// Why it ended.
    pub finish: Finish,
    /// Hash of what was sent.
    pub transcript: [u8; 32],
    /// Number of the last voucher; 0 when there was none.
    pub voucher_seq: u32,
}

/// Why a job ended without an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Nobody wants it any more, and nothing is owed.
    #[error("the consumer called it off before anything was owed")]
    CalledOff,
    /// No voucher came in time.
    #[error("the consumer stopped paying")]
    Unpaid,
    /// The consumer is gone.
    #[error("the consumer is gone")]
    Gone,
    /// It took as long as it may.
    #[error("the job took as long as one of its size may")]
    Overdue,
    /// The engine failed.
    #[error("the engine failed")]
    Engine,
    /// The consumer said what it must not.
    #[error("the consumer {0}")]
    Fault(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Counting,
    Prepaying,
    Working,
    Proposed,
    Over,
}

/// One job at its provider.
#[derive(Clone, Debug)]
pub struct Selling {
    terms: Terms,
    phase: Phase,
    counted: Counted,
    transcript: Transcript,
    index: u32,
    sent: u32,
    /// What a next voucher may speak of, oldest first.
    marks: VecDeque<Mark>,
    vouched: Option<Vouched>,
    /// What was made and may not be sent yet.
    kept_back: VecDeque<(Vec<u32>, String)>,
    ended: Option<(Usage, Finish)>,
    /// The consumer says nothing more.
    closed: bool,
    /// The engine was told to begin.
    begun: bool,
    /// The consumer called it off.
    cancelled: bool,
}

impl Selling {
    /// A job that was accepted and of which nothing was done yet.
    pub fn new(terms: Terms, messages: &[Message]) -> Self {
        Self {
            terms,
            phase: Phase::Counting,
            counted: Counted::default(),
            transcript: Transcript::start(&terms.quote, messages),
            index: 0,
            sent: 0,
            marks: VecDeque::new(),
            vouched: None,
            kept_back: VecDeque::new(),
            ended: None,
            closed: false,
            begun: false,
            cancelled: false,
        }
    }

    /// What was counted of the prompt.
    pub const fn counted(&self) -> Counted {
        self.counted
    }

    /// Whether the engine should be asked for more: not while something waits to be sent.
    pub fn wants_more(&self) -> bool {
        self.phase == Phase::Working && self.ended.is_none() && self.kept_back.is_empty()
    }

    /// Whether nothing goes on before the consumer vouches.
    pub fn waits_for_voucher(&self) -> bool {
        self.phase == Phase::Prepaying || self.phase == Phase::Working && !self.kept_back.is_empty()
    }

    /// Tokens that were sent and are not vouched for.
    pub fn unpaid(&self) -> u32 {
        let paid = self.vouched.map_or(0, |last| last.mark.tokens_out);
        self.sent.saturating_sub(paid)
    }

    /// Whether the work was begun.
    pub const fn begun(&self) -> bool {
        self.begun
    }

    /// How long the job may take in all.
    pub const fn lasts(&self) -> Duration {
        self.terms.lasts()
    }

    /// What was vouched for so far.
    pub fn vouched(&self) -> Amount {
        self.vouched.map_or(Amount::ZERO, |last| last.total)
    }

    /// What follows from an event.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.phase != Phase::Over {
            self.does(event, &mut effects);
        }
        effects
    }

    fn does(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Counted(counted) => self.count(counted, effects),
            // There is nothing to send of one without tokens and text.
            Event::Piece { tokens, text } if tokens.is_empty() && text.is_empty() => {}
            Event::Piece { tokens, text } => {
                if self.phase == Phase::Working && self.ended.is_none() {
                    self.kept_back.push_back((tokens, text));
                    self.send(effects);
                }
            }
            Event::Ended { usage, finish } => {
                if self.phase == Phase::Working {
                    self.ended = Some((usage, finish));
                    self.send(effects);
                }
            }
            Event::Failed(refuse) => {
                effects.push(Effect::Send(Frame::Refuse(refuse)));
                self.over(Why::Engine, effects);
            }
            Event::Said(Frame::Voucher(bytes)) => self.voucher(&bytes, effects),
            Event::Said(Frame::Cancel) => self.cancel(effects),
            Event::Said(_) => self.fault("said what does not belong into a job", effects),
            Event::Closed => {
                self.closed = true;
                if self.waits_for_voucher() {
                    self.over(Why::Gone, effects);
                }
            }
            Event::Lost => self.over(Why::Gone, effects),
            Event::TimeUp => {
                if self.waits_for_voucher() {
                    self.over(Why::Unpaid, effects);
                }
            }
            Event::Overdue => self.overdue(effects),
        }
    }

    fn count(&mut self, counted: Counted, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Counting {
            return;
        }
        self.counted = counted;
        self.marks.push_back(self.mark());
        if self.terms.streams_payment() {
            effects.push(Effect::Send(Frame::Begun(Begun {
                tokens_in: counted.tokens_in,
                tokens_cached: counted.tokens_cached,
            })));
        }
        if self.terms.prepaid(counted).is_ok_and(Amount::is_zero) {
            self.phase = Phase::Working;
            self.begun = true;
            effects.push(Effect::Begin);
        } else {
            self.phase = Phase::Prepaying;
            if self.closed {
                self.over(Why::Gone, effects);
            }
        }
    }

    const fn mark(&self) -> Mark {
        Mark {
            tokens_out: self.sent,
            transcript: *self.transcript.root(),
        }
    }

    /// How many tokens may be sent now.
    fn room(&self) -> usize {
        let room = if self.terms.streams_payment() {
            self.terms.ahead().saturating_sub(self.unpaid())
        } else {
            u32::MAX
        };
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Sends what may be sent, and proposes when that was all.
    fn send(&mut self, effects: &mut Vec<Effect>) {
        while let Some((mut tokens, text)) = self.kept_back.pop_front() {
            let room = self.room();
            if tokens.len() <= room {
                effects.push(self.chunk(tokens, text));
                continue;
            }
            // Its text comes with its last token.
            let rest = tokens.split_off(room);
            self.kept_back.push_front((rest, text));
            if !tokens.is_empty() {
                effects.push(self.chunk(tokens, String::new()));
            }
            if self.closed {
                self.over(Why::Gone, effects);
            }
            return;
        }
        if let Some((usage, finish)) = self.ended {
            let transcript = *self.transcript.root();
            self.propose((usage, finish, transcript), effects);
        }
    }

    fn chunk(&mut self, tokens: Vec<u32>, text: String) -> Effect {
        let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        self.transcript.extend(&tokens, text.as_bytes());
        self.sent = self.sent.saturating_add(count);
        if self.terms.streams_payment() {
            self.marks.push_back(self.mark());
        }
        let index = self.index;
        self.index = index.saturating_add(1);
        Effect::Send(Frame::Chunk(Chunk {
            index,
            tokens,
            text,
        }))
    }

    fn propose(
        &mut self,
        (usage, finish, transcript): (Usage, Finish, [u8; 32]),
        effects: &mut Vec<Effect>,
    ) {
        self.phase = Phase::Proposed;
        effects.push(Effect::Propose(Outcome {
            usage,
            finish,
            transcript,
            voucher_seq: self.vouched.map_or(0, |last| last.seq),
        }));
    }

    /// A voucher must be the next one, and speak of something that was sent since the last.
    fn voucher(&mut self, bytes: &SignedBytes, effects: &mut Vec<Effect>) {
        let Ok(signed) = Signed::<Voucher>::from_bytes(&bytes.0) else {
            return self.fault("sent a voucher that cannot be read", effects);
        };
        let Ok(voucher) = signed.verify(&self.terms.consumer) else {
            return self.fault("sent a voucher that it did not sign", effects);
        };
        let Some(newest) = self.fits(&voucher) else {
            return self.fault("sent a voucher for something else than was sent", effects);
        };
        let is_paid = |mark: &Mark| *mark != newest.mark;
        while self.marks.front().is_some_and(is_paid) {
            self.marks.pop_front();
        }
        self.vouched = Some(newest);
        effects.push(Effect::Keep(Box::new(voucher)));
        match self.phase {
            Phase::Prepaying => {
                self.phase = Phase::Working;
                self.begun = true;
                effects.push(Effect::Begin);
            }
            Phase::Working => self.send(effects),
            Phase::Counting | Phase::Proposed | Phase::Over => {}
        }
    }

    fn fits(&self, voucher: &Voucher) -> Option<Vouched> {
        let last = self.vouched.map_or(0, |last| last.seq);
        let mark = Mark {
            tokens_out: voucher.tokens_out,
            transcript: voucher.transcript,
        };
        let advances = match self.vouched {
            Some(last) => voucher.tokens_out > last.mark.tokens_out,
            None => voucher.tokens_out > 0 || self.phase == Phase::Prepaying,
        };
        let fits = self.phase != Phase::Counting
            && self.terms.streams_payment()
            && voucher.network == self.terms.network
            && (voucher.hold, voucher.lane) == (self.terms.hold, 0)
            && voucher.payee == self.terms.provider
            && Some(voucher.seq) == last.checked_add(1)
            && advances
            && self.marks.contains(&mark)
            && self.terms.price(self.counted, voucher.tokens_out) == Ok(voucher.total);
        fits.then_some(Vouched {
            seq: voucher.seq,
            total: voucher.total,
            mark,
        })
    }

    /// What was vouched for is what is paid.
    fn cancel(&mut self, effects: &mut Vec<Effect>) {
        // Once is enough: whoever says it again and again would be heard instead of the engine.
        if self.cancelled {
            return self.fault("called it off twice", effects);
        }
        self.cancelled = true;
        if self.phase == Phase::Proposed {
            return;
        }
        effects.push(Effect::Stop);
        if !self.terms.streams_payment() {
            // What was made so far is proposed when the engine says how much that was.
            return;
        }
        self.kept_back.clear();
        match self.vouched {
            Some(last) => {
                let usage = Usage {
                    tokens_in: self.counted.tokens_in,
                    tokens_cached: self.counted.tokens_cached,
                    tokens_out: last.mark.tokens_out,
                };
                let what = (usage, Finish::Cancelled, last.mark.transcript);
                self.propose(what, effects);
            }
            None => self.over(Why::CalledOff, effects),
        }
    }

    /// Whoever pays a token at a time, or reads one, keeps its place no longer than this. What is paid by receipt
    /// alone is proposed as far as it came.
    fn overdue(&mut self, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Proposed {
            return;
        }
        if self.begun && !self.terms.streams_payment() {
            effects.push(Effect::Stop);
            return;
        }
        let (why, after) = (Why::Overdue, self.lasts().as_secs());
        effects.push(Effect::Send(Frame::Refuse(Refuse {
            code: RefuseCode::Busy,
            message: format!("{why}: {after} s"),
            retry: Retry::Later,
        })));
        self.over(why, effects);
    }

    fn fault(&mut self, what: &'static str, effects: &mut Vec<Effect>) {
        effects.push(Effect::Send(Frame::Refuse(Refuse {
            code: RefuseCode::BadRequest,
            message: format!("the consumer {what}"),
            retry: Retry::Never,
        })));
        self.over(Why::Fault(what), effects);
    }

    fn over(&mut self, why: Why, effects: &mut Vec<Effect>) {
        let proposed = self.phase == Phase::Proposed;
        self.phase = Phase::Over;
        self.kept_back.clear();
        effects.push(Effect::Stop);
        // What was proposed may have been agreed to.
        if !proposed {
            effects.push(Effect::Over(why));
        }
    }
}
