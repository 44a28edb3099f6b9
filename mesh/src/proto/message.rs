//! The messages themselves: plain data and their numbers. No limits, no bytes, no decisions.

use std::fmt;

use serde::{Deserialize, Serialize};
use tirami_manifest::job::{Message, PromptShape, Sampler};
use tirami_manifest::model::ModelCard;
use tirami_manifest::{ModelId, Multiplier, QuoteId, ReceiptId, RepaymentId, TransferId};

/// One message on a stream. Each kind has a fixed number, never reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// 1: no, and why. Any request may be answered by it.
    Refuse(Refuse),
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
    /// 48: asks for a binding price.
    AskQuote(AskQuote),
    /// 49: the binding price.
    Quoted(Quoted),
    /// 50: the prompt, under a quote and a hold.
    Start(Start),
    /// 51: some of the answer.
    Chunk(Chunk),
    /// 52: the consumer's promise so far, a signed voucher. The number is kept; this build neither
    /// sends nor expects it.
    Voucher(SignedBytes),
    /// 53: the provider's statement of work done, with its signature.
    Propose(Propose),
    /// 54: the receipt, signed by both.
    Countersign(Countersign),
    /// 55: the provider has the receipt on disk.
    Settled(ReceiptId),
    /// 56: the consumer wants no more; what was made so far is proposed as usual.
    Cancel,
}

impl Frame {
    /// The number on the wire.
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Refuse(_) => 1,
            Self::Join(_) => 16,
            Self::Joined(_) => 17,
            Self::Repay(_) => 18,
            Self::Repaid(_) => 19,
            Self::ListOffers => 32,
            Self::Offers(_) => 33,
            Self::AskQuote(_) => 48,
            Self::Quoted(_) => 49,
            Self::Start(_) => 50,
            Self::Chunk(_) => 51,
            Self::Voucher(_) => 52,
            Self::Propose(_) => 53,
            Self::Countersign(_) => 54,
            Self::Settled(_) => 55,
            Self::Cancel => 56,
        }
    }

    /// The name, for logs and errors: what was said without its content.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Refuse(_) => "Refuse",
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
}

/// A binding price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quoted {
    /// `Signed<Quote>`, as its `to_bytes` made it.
    pub quote: Vec<u8>,
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

/// A signed document, opaque here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedBytes(pub Vec<u8>);
