//! The messages themselves: plain data and their numbers. No limits, no bytes, no decisions.

use std::fmt;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tirami_manifest::job::{Message, PromptShape, Sampler};
use tirami_manifest::model::ModelCard;
use tirami_manifest::{EntryId, ModelId, Multiplier, QuoteId, ReceiptId, RepaymentId, TransferId};

/// One message on a stream. Each kind has a fixed number, never reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// 1: no, and why. Any request may be answered by it.
    Refuse(Refuse),
    /// 2: asks for an answer and nothing else, to see whether a peer is there and how far away.
    Ping(u64),
    /// 3: the answer, with the same number.
    Pong(u64),
    /// 16: a newcomer asks an issuer to be let in.
    Join(Join),
    /// 17: the issuer let it in.
    Joined(Joined),
    /// 18: a borrower pays back.
    Repay(Repay),
    /// 19: the lender has the repayment on disk.
    Repaid(RepaymentId),
    /// 32: asks what a node sells.
    ListOffers,
    /// 33: what it sells.
    Offers(Offers),
    /// 57: asks for a binding price. (48 was the same without mandates.)
    AskQuote(AskQuote),
    /// 49: the binding price.
    Quoted(Quoted),
    /// 58: the prompt, under a quote and a hold. (50 was the same without mandates.)
    Start(Start),
    /// 51: some of the answer.
    Chunk(Chunk),
    /// 52: the consumer's promise so far, a signed voucher.
    Voucher(SignedBytes),
    /// 53: the provider's statement of work done, with its signature.
    Propose(Propose),
    /// 54: the receipt, signed by both.
    Countersign(Countersign),
    /// 55: the provider has the receipt on disk.
    Settled(ReceiptId),
    /// 56: the consumer wants no more; what was made so far is proposed as usual.
    Cancel,
    /// 59: how long the prompt is, before a job that is paid while it streams.
    Begun(Begun),
    /// 60: a provider shows what it claims by voucher, as a receipt; answered with `Settled`, or with
    /// `Countersign` where the consumer agreed to more.
    Claim(Countersign),
    /// 64: a provider asks the root payer of a travelling mandate for units, before it works.
    ReserveUnits(ReserveUnits),
    /// 65: they are set aside.
    UnitsReserved,
    /// 66: a provider will not be paid for a spend, so its units are free: the signed spend.
    ReleaseUnits(SignedBytes),
    /// 67: they are.
    UnitsReleased,
    /// 68: a provider tells the root payer of a travelling mandate what was bought under it; answered
    /// with `Settled`.
    Drawn(Drawn),
    /// 69: asks the one that remembers a mandate's units to give back those that were not used.
    ReturnUnits(ReturnUnits),
    /// 70: those that were not, and never will be under that mandate.
    UnitsReturned(UnitsReturned),
    /// 80: a node shows a witness entries of its chain, to be certified.
    Certify(Certify),
    /// 81: what the witness has certified of it.
    Certified(Certified),
}

impl Frame {
    /// The number on the wire.
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Refuse(_) => 1,
            Self::Ping(_) => 2,
            Self::Pong(_) => 3,
            Self::Join(_) => 16,
            Self::Joined(_) => 17,
            Self::Repay(_) => 18,
            Self::Repaid(_) => 19,
            Self::ListOffers => 32,
            Self::Offers(_) => 33,
            Self::AskQuote(_) => 57,
            Self::Quoted(_) => 49,
            Self::Start(_) => 58,
            Self::Chunk(_) => 51,
            Self::Voucher(_) => 52,
            Self::Propose(_) => 53,
            Self::Countersign(_) => 54,
            Self::Settled(_) => 55,
            Self::Cancel => 56,
            Self::Begun(_) => 59,
            Self::Claim(_) => 60,
            Self::ReserveUnits(_) => 64,
            Self::UnitsReserved => 65,
            Self::ReleaseUnits(_) => 66,
            Self::UnitsReleased => 67,
            Self::Drawn(_) => 68,
            Self::ReturnUnits(_) => 69,
            Self::UnitsReturned(_) => 70,
            Self::Certify(_) => 80,
            Self::Certified(_) => 81,
        }
    }

    /// The name, for logs and errors: what was said without its content.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Refuse(_) => "Refuse",
            Self::Ping(_) => "Ping",
            Self::Pong(_) => "Pong",
            Self::Join(_) => "Join",
            Self::Joined(_) => "Joined",
            Self::Repay(_) => "Repay",
            Self::Repaid(_) => "Repaid",
            Self::ListOffers => "ListOffers",
            Self::Offers(_) => "Offers",
            Self::AskQuote(_) => "AskQuote",
            Self::Quoted(_) => "Quoted",
            Self::Start(_) => "Start",
            Self::Chunk(_) => "Chunk",
            Self::Voucher(_) => "Voucher",
            Self::Propose(_) => "Propose",
            Self::Countersign(_) => "Countersign",
            Self::Settled(_) => "Settled",
            Self::Cancel => "Cancel",
            Self::Begun(_) => "Begun",
            Self::Claim(_) => "Claim",
            Self::ReserveUnits(_) => "ReserveUnits",
            Self::UnitsReserved => "UnitsReserved",
            Self::ReleaseUnits(_) => "ReleaseUnits",
            Self::UnitsReleased => "UnitsReleased",
            Self::Drawn(_) => "Drawn",
            Self::ReturnUnits(_) => "ReturnUnits",
            Self::UnitsReturned(_) => "UnitsReturned",
            Self::Certify(_) => "Certify",
            Self::Certified(_) => "Certified",
        }
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuse {
    /// Why, for programs.
    pub code: RefuseCode,
    /// Why, for people: one line of at most 300 bytes. From a peer, so show it as its words.
    pub message: String,
    /// Whether asking the same again can help.
    pub retry: Retry,
}

impl fmt::Display for Refuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// Why a request was refused. On the wire the position in this list, from 0; append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefuseCode {
    /// 0: too much to do just now.
    Busy,
    /// 1: the model is not served here.
    UnknownModel,
    /// 2: the asking node is not a member of this network.
    NotMember,
    /// 3: the asking node's account does not cover the price.
    NotFunded,
    /// 4: the prompt, or prompt and answer, do not fit.
    TooLong,
    /// 5: the quote is not known or no longer binds.
    QuoteExpired,
    /// 6: the invitation is not valid here, or was used.
    Invitation,
    /// 7: the issuer lent all it lends in a day.
    LoanCap,
    /// 8: the request makes no sense at this point.
    BadRequest,
    /// 9: something failed inside.
    Internal,
    /// 10: the asking node's loan was not paid back in time.
    LoanDefault,
    /// 11: the travelling mandate that should pay does not hold or does not allow this.
    Mandate,
    /// 12: the units that were named of a travelling mandate are not free.
    Units,
    /// 13: the chain does not hold, or is not the one that was shown before.
    Chain,
}

impl RefuseCode {
    /// The name in lower case with underscores, as in logs and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::UnknownModel => "unknown_model",
            Self::NotMember => "not_member",
            Self::NotFunded => "not_funded",
            Self::TooLong => "too_long",
            Self::QuoteExpired => "quote_expired",
            Self::Invitation => "invitation",
            Self::LoanCap => "loan_cap",
            Self::BadRequest => "bad_request",
            Self::Internal => "internal",
            Self::LoanDefault => "loan_default",
            Self::Mandate => "mandate",
            Self::Units => "units",
            Self::Chain => "chain",
        }
    }
}

impl fmt::Display for RefuseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether the same request may succeed another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// It will not.
    Never,
    /// It may.
    Later,
}

/// A newcomer's request to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// `Signed<Invitation>`, as its `to_bytes` made it.
    pub invitation: Vec<u8>,
}

/// The issuer's yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// `Signed<LoanGrant>`; none when the newcomer is let in without a loan.
    pub grant: Option<Vec<u8>>,
    /// A line for people, at most 300 bytes; from a peer.
    pub note: String,
}

/// A borrower's repayment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repay {
    /// `Signed<Repayment>`, as its `to_bytes` made it.
    pub repayment: Vec<u8>,
}

/// What a node sells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offers {
    /// One per model.
    pub offers: Vec<Offer>,
}

/// One model for sale. Binds nobody; a quote does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Name for people, at most 100 bytes; from a peer. The card's id says which model it is.
    pub name: String,
    /// The figures its price follows from.
    pub card: ModelCard,
    /// Price relative to par.
    pub multiplier: Multiplier,
    /// Jobs queued or running there, as the node says itself.
    pub waiting: u32,
}

/// A request for a binding price. The prompt itself stays at home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskQuote {
    /// The model.
    pub model: ModelId,
    /// Who speaks in the prompt, and how many bytes.
    pub shape: PromptShape,
    /// Most tokens to generate.
    pub max_out: u32,
    /// Whether a travelling mandate will pay, so that the asking node's own means do not matter.
    pub under_mandate: bool,
}

/// A binding price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quoted {
    /// `Signed<Quote>`, as its `to_bytes` made it.
    pub quote: Vec<u8>,
    /// How fast the work would go.
    pub pace: Pace,
}

/// How fast a provider says that it works. Zeros say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Milliseconds from the start of the work to its first token, waiting for a place included.
    pub first_token_ms: u32,
    /// Tokens a second after that, in thousandths.
    pub tokens_per_s_milli: u32,
}

impl Pace {
    /// The time to the first token.
    pub fn first_token(self) -> Option<Duration> {
        let ms = u64::from(self.first_token_ms);
        (ms > 0).then(|| Duration::from_millis(ms))
    }

    /// The time of so many tokens after the first.
    pub fn of(self, tokens: u32) -> Option<Duration> {
        let ms = u64::from(tokens).saturating_mul(1_000_000);
        let ms = ms.checked_div(self.tokens_per_s_milli.into())?;
        Some(Duration::from_millis(ms))
    }

    /// The time of a job with so many tokens of answer, in milliseconds.
    pub fn whole_ms(self, tokens: u32) -> Option<u64> {
        let whole = self.first_token()? + self.of(tokens)?;
        u64::try_from(whole.as_millis()).ok()
    }
}

/// The prompt, sent once money is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The quote it stands under.
    pub quote: QuoteId,
    /// The consumer's hold that covers it.
    pub hold: TransferId,
    /// The conversation.
    pub messages: Vec<Message>,
    /// How tokens are chosen.
    pub sampler: Sampler,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The travelling mandate that pays instead of the consumer's account.
    pub under: Option<UnderMandate>,
}

/// What pays for a job instead of the consumer's account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderMandate {
    /// `MandateChain`, as its `to_bytes` made it.
    pub chain: Vec<u8>,
    /// `Signed<Spend>` under it, as its `to_bytes` made it.
    pub spend: Vec<u8>,
}

/// The length of a prompt, as its provider counted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Tokens of the prompt, template included.
    pub tokens_in: u32,
    /// Of those, tokens that are not charged.
    pub tokens_cached: u32,
}

/// A piece of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Counts from 0, without gaps.
    pub index: u32,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// The text they make; what a token leaves incomplete comes with a later chunk.
    pub text: String,
}

/// The provider's statement of work done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propose {
    /// `Signed<Agreement>`, as its `to_bytes` made it, signed by the provider.
    pub agreement: Vec<u8>,
}

/// The receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Countersign {
    /// As `Receipt::to_bytes` made it.
    pub receipt: Vec<u8>,
}

/// A provider's question to the root payer of a mandate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveUnits {
    /// Mandate and spend.
    pub under: UnderMandate,
    /// How much of the spend at most, in micro-TRM.
    pub utrm: u64,
}

/// What was bought under a mandate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    /// The receipt, as `Receipt::to_bytes` made it.
    pub receipt: Vec<u8>,
    /// Mandate and spend.
    pub under: UnderMandate,
}

/// A request to give units back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnUnits {
    /// `MandateChain` that ends in the grant the units go back from.
    pub chain: Vec<u8>,
    /// `Signed<RangeReturn>` of all its units, by its holder or by the root payer.
    pub back: Vec<u8>,
}

/// Units that went back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitsReturned {
    /// `Signed<RangeReturn>` by the one that remembers the units, one for each run of them.
    pub backs: Vec<Vec<u8>>,
}

/// Entries of the asking node's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certify {
    /// `Signed<Entry>` each, as its `to_bytes` made it, oldest first; none to ask what is certified.
    pub entries: Vec<Vec<u8>>,
    /// Receipts whose debits the node waits for.
    pub waiting: Vec<ReceiptId>,
}

/// What a witness certified of the asking node's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certified {
    /// `Certificate` over the newest entry that the witness took; none before the first.
    pub certificate: Option<Vec<u8>>,
    /// Of the receipts that the node waits for, those whose debits are certified.
    pub credits: Vec<Credit>,
}

/// A credit whose debit is certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// The receipt.
    pub receipt: ReceiptId,
    /// The payer's entry with the trade.
    pub debit: EntryId,
}

/// A signed document, opaque here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedBytes(pub Vec<u8>);
