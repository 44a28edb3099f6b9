//! What is signed in one trade: quote, voucher, agreement, receipt.

mod receipt;

use crate::amount::{Amount, Multiplier};
use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{ModelId, NetworkId, NodeId, QuoteId, ReceiptId, TransferId};
use crate::job::Finish;
use crate::model::{ModelCard, Usage};
use crate::signed::{Document, hash};
use crate::time::Timestamp;

pub use receipt::{Consent, Receipt, ReceiptError, VerifiedReceipt};

/// A provider's binding price for one job of one consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The network whose TRM is asked.
    pub network: NetworkId,
    /// Who sells; the signer.
    pub provider: NodeId,
    /// Who may buy.
    pub consumer: NodeId,
    /// The model, and the figures its price follows from.
    pub card: ModelCard,
    /// Price relative to par.
    pub multiplier: Multiplier,
    /// Most prompt tokens that may be charged, from the prompt's bytes.
    pub max_in: u32,
    /// Most tokens that may be generated.
    pub max_out: u32,
    /// Most that may be charged; the price of `max_in` and `max_out`.
    pub max_amount: Amount,
    /// Tokens in a chunk, for which a voucher is due.
    pub chunk_tokens: u16,
    /// Chunks the provider sends ahead of vouchers; 0 when the job is paid by receipt alone. With 1 the
    /// prompt is paid for before it is read.
    pub window: u16,
    /// When the quote was made.
    pub issued: Timestamp,
    /// After this the quote binds nobody.
    pub expires: Timestamp,
    /// Makes each quote different.
    pub nonce: [u8; 16],
}

impl Quote {
    /// The id: digest of the unsigned body.
    pub fn id(&self) -> QuoteId {
        QuoteId::from_bytes(self.digest())
    }
}

impl Document for Quote {
    const DOMAIN: &'static [u8] = b"trm/v1/quote\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .raw(self.provider.as_bytes())
            .raw(self.consumer.as_bytes());
        self.card.encode(out);
        out.u32(self.multiplier.ppm())
            .u32(self.max_in)
            .u32(self.max_out)
            .u64(self.max_amount.utrm())
            .u16(self.chunk_tokens)
            .u16(self.window)
            .u64(self.issued.ms())
            .u64(self.expires.ms())
            .raw(&self.nonce);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        Ok(Self {
            network: NetworkId::from_bytes(from.raw("network")?),
            provider: NodeId::from_bytes(from.raw("provider")?),
            consumer: NodeId::from_bytes(from.raw("consumer")?),
            card: ModelCard::decode(from)?,
            multiplier: Multiplier::from_ppm(from.u32("multiplier")?),
            max_in: from.u32("max in")?,
            max_out: from.u32("max out")?,
            max_amount: amount(from, "max amount")?,
            chunk_tokens: from.u16("chunk tokens")?,
            window: from.u16("window")?,
            issued: Timestamp::from_ms(from.u64("issued")?),
            expires: Timestamp::from_ms(from.u64("expires")?),
            nonce: from.raw("nonce")?,
        })
    }
}

/// A consumer's signed promise inside a hold, growing as tokens arrive; the last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voucher {
    /// The network whose TRM is promised.
    pub network: NetworkId,
    /// The consumer's hold that backs the promise.
    pub hold: TransferId,
    /// Job within the hold.
    pub lane: u32,
    /// Who is promised the amount.
    pub payee: NodeId,
    /// Number of this voucher in its lane, from 1.
    pub seq: u32,
    /// All that is owed so far.
    pub total: Amount,
    /// All tokens generated so far.
    pub tokens_out: u32,
    /// Transcript hash so far.
    pub transcript: [u8; 32],
}

impl Voucher {
    /// Whether it promises exactly what an agreement comes to, for the same work.
    pub fn is_for(&self, agreement: &Agreement) -> bool {
        self.network == agreement.network
            && (self.hold, self.lane) == (agreement.hold, agreement.lane)
            && self.payee == agreement.provider
            && self.seq == agreement.voucher_seq
            && self.total == agreement.amount
            && self.tokens_out == agreement.usage.tokens_out
            && self.transcript == agreement.transcript
    }
}

impl Document for Voucher {
    const DOMAIN: &'static [u8] = b"trm/v1/voucher\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .raw(self.hold.as_bytes())
            .u32(self.lane)
            .raw(self.payee.as_bytes())
            .u32(self.seq)
            .u64(self.total.utrm())
            .u32(self.tokens_out)
            .raw(&self.transcript);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        Ok(Self {
            network: NetworkId::from_bytes(from.raw("network")?),
            hold: TransferId::from_bytes(from.raw("hold")?),
            lane: from.u32("lane")?,
            payee: NodeId::from_bytes(from.raw("payee")?),
            seq: from.u32("seq")?,
            total: amount(from, "total")?,
            tokens_out: from.u32("tokens out")?,
            transcript: from.raw("transcript")?,
        })
    }
}

/// Kind of agreement: a trade of inference.
const KIND_TRADE: u16 = 1;

/// Domain of what names a job of a hold.
const LANE: &[u8] = b"trm/v1/lane\0";

/// The name of a job: what [`Agreement::lane_key`] gives.
pub fn lane_key(consumer: &NodeId, hold: &TransferId, lane: u32, provider: &NodeId) -> [u8; 32] {
    let lane = lane.to_le_bytes();
    let (consumer, provider) = (consumer.as_bytes(), provider.as_bytes());
    hash(LANE, &[consumer, hold.as_bytes(), &lane, provider])
}

/// Settled TRM, the only ledger there is.
const LEDGER_SETTLED: u8 = 1;

/// The one object both parties of a trade sign.
///
/// Party a is the provider, party b the consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The network whose TRM is paid.
    pub network: NetworkId,
    /// Party a.
    pub provider: NodeId,
    /// Party b.
    pub consumer: NodeId,
    /// Makes each agreement different; chosen by the provider.
    pub nonce: [u8; 16],
    /// The quote this trade stands under.
    pub quote: QuoteId,
    /// The consumer's hold that is posted.
    pub hold: TransferId,
    /// The model that was run.
    pub model: ModelId,
    /// Tokens charged.
    pub usage: Usage,
    /// Thousands of nominal FLOP.
    pub kflop: u64,
    /// Price relative to par.
    pub multiplier: Multiplier,
    /// What earlier agreements of this lane came to.
    pub earlier: Amount,
    /// What this trade costs.
    pub amount: Amount,
    /// Last transcript hash.
    pub transcript: [u8; 32],
    /// Seed of the sampler.
    pub seed: u64,
    /// Temperature in thousandths.
    pub temperature_milli: u32,
    /// Tokens considered; 0 is all.
    pub top_k: u32,
    /// Job within the hold.
    pub lane: u32,
    /// Last voucher's number; 0 when there was none.
    pub voucher_seq: u32,
    /// True when the consumer may have the work scored again.
    pub audit_ok: bool,
    /// First 8 bytes of SHA-256 of the engine's name and version.
    pub engine_fingerprint: [u8; 8],
    /// When the provider started; hybrid time, 48 bits of milliseconds and 16 of counter.
    pub started_hlc: u64,
    /// When the provider ended; hybrid time.
    pub ended_hlc: u64,
    /// Why it ended.
    pub finish: Finish,
}

impl Agreement {
    /// The receipt's id: digest of the unsigned body.
    pub fn id(&self) -> ReceiptId {
        ReceiptId::from_bytes(self.digest())
    }

    /// What may be agreed once: a job of one consumer's hold with one provider, by receipt or by voucher.
    pub fn lane_key(&self) -> [u8; 32] {
        lane_key(&self.consumer, &self.hold, self.lane, &self.provider)
    }

    /// When the work ended, without the counter.
    pub const fn ended(&self) -> Timestamp {
        Timestamp::from_ms(self.ended_hlc >> 16)
    }

    /// Checks everything two parties can check without each other's ledger: that the agreement
    /// stands under the quote, charges what its FLOP cost, and stays within the quote's maxima.
    ///
    /// # Errors
    ///
    /// The first [`TermsError`] in the order of that enum.
    pub fn check_against(&self, quote: &Quote) -> Result<(), TermsError> {
        let require = |holds: bool, error: TermsError| if holds { Ok(()) } else { Err(error) };
        require(
            self.quote == quote.id()
                && self.network == quote.network
                && self.provider == quote.provider
                && self.consumer == quote.consumer
                && self.model == quote.card.id,
            TermsError::OtherQuote,
        )?;
        require(self.multiplier == quote.multiplier, TermsError::Multiplier)?;
        require(
            self.usage.tokens_in <= quote.max_in
                && self.usage.tokens_out <= quote.max_out
                && self.usage.tokens_cached <= self.usage.tokens_in,
            TermsError::Tokens,
        )?;
        require(
            quote.card.kflop(self.usage) == Ok(self.kflop),
            TermsError::Flop,
        )?;
        require(
            self.multiplier.price(self.kflop) == Ok(self.amount),
            TermsError::Amount,
        )?;
        require(self.earlier.is_zero() && self.lane == 0, TermsError::Lane)?;
        require(self.amount <= quote.max_amount, TermsError::AboveQuote)
    }
}

/// Why an agreement is not what its quote allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TermsError {
    /// It names another quote, party, network or model.
    #[error("the receipt names another quote, party, network or model than the quote beside it")]
    OtherQuote,
    /// It charges at another multiplier.
    #[error("the receipt charges at another multiplier than the quote")]
    Multiplier,
    /// It counts more tokens than were quoted.
    #[error("the receipt counts more tokens than the quote allows")]
    Tokens,
    /// Its FLOP do not follow from its tokens.
    #[error("the receipt's FLOP do not follow from its tokens and the model")]
    Flop,
    /// Its amount does not follow from its FLOP.
    #[error("the receipt's amount does not follow from its FLOP and the multiplier")]
    Amount,
    /// It counts on an earlier agreement, which this build does not make.
    #[error("the receipt continues an earlier one, which is not known here")]
    Lane,
    /// It charges more than the quote's maximum.
    #[error("the receipt charges more than the quote's maximum")]
    AboveQuote,
}

impl Document for Agreement {
    const DOMAIN: &'static [u8] = b"trm/v1/agreement\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .u16(KIND_TRADE)
            .raw(self.provider.as_bytes())
            .raw(self.consumer.as_bytes())
            .raw(&self.nonce)
            .raw(self.quote.as_bytes())
            .u8(LEDGER_SETTLED)
            .raw(self.hold.as_bytes())
            .raw(self.model.as_bytes())
            .u32(self.usage.tokens_in)
            .u32(self.usage.tokens_cached)
            .u32(self.usage.tokens_out)
            .u64(self.kflop)
            .u32(self.multiplier.ppm())
            .u64(self.earlier.utrm())
            .u64(self.amount.utrm())
            .raw(&self.transcript)
            .u64(self.seed)
            .u32(self.temperature_milli)
            .u32(self.top_k)
            .u32(self.lane)
            .u32(self.voucher_seq)
            .u8(u8::from(self.audit_ok))
            .raw(&self.engine_fingerprint)
            .u64(self.started_hlc)
            .u64(self.ended_hlc)
            .u8(self.finish.code());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        let network = NetworkId::from_bytes(from.raw("network")?);
        if from.u16("kind")? != KIND_TRADE {
            return Err(DecodeError::Value("kind"));
        }
        let provider = NodeId::from_bytes(from.raw("provider")?);
        let consumer = NodeId::from_bytes(from.raw("consumer")?);
        let nonce = from.raw("nonce")?;
        let quote = QuoteId::from_bytes(from.raw("quote")?);
        if from.u8("ledger")? != LEDGER_SETTLED {
            return Err(DecodeError::Value("ledger"));
        }
        Ok(Self {
            network,
            provider,
            consumer,
            nonce,
            quote,
            hold: TransferId::from_bytes(from.raw("hold")?),
            model: ModelId::from_bytes(from.raw("model")?),
            usage: Usage {
                tokens_in: from.u32("tokens in")?,
                tokens_cached: from.u32("tokens cached")?,
                tokens_out: from.u32("tokens out")?,
            },
            kflop: from.u64("kflop")?,
            multiplier: Multiplier::from_ppm(from.u32("multiplier")?),
            earlier: amount(from, "earlier")?,
            amount: amount(from, "amount")?,
            transcript: from.raw("transcript")?,
            seed: from.u64("seed")?,
            temperature_milli: from.u32("temperature")?,
            top_k: from.u32("top k")?,
            lane: from.u32("lane")?,
            voucher_seq: from.u32("voucher seq")?,
            audit_ok: match from.u8("audit ok")? {
                0 => false,
                1 => true,
                _ => return Err(DecodeError::Value("audit ok")),
            },
            engine_fingerprint: from.raw("engine fingerprint")?,
            started_hlc: from.u64("started")?,
            ended_hlc: from.u64("ended")?,
            finish: Finish::from_code(from.u8("finish")?).ok_or(DecodeError::Value("finish"))?,
        })
    }
}

fn amount(from: &mut Reader<'_>, field: &'static str) -> Result<Amount, DecodeError> {
    Amount::from_utrm(from.u64(field)?).map_err(|_| DecodeError::Value(field))
}
