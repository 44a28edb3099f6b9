//! What both sides of a job know when it starts, and what follows from it.

use std::time::Duration;

use tirami_manifest::amount::AmountError;
use tirami_manifest::commerce::Quote;
use tirami_manifest::model::{ModelCard, Usage};
use tirami_manifest::{Amount, Multiplier, NetworkId, NodeId, QuoteId, TransferId};

/// How long a job may take in any case, and how much longer for each token of the prompt and of the answer that
/// was quoted; chosen: slow machines that work need a fraction of it, so that it is met by who dawdles.
const LASTS_ALWAYS: Duration = Duration::from_mins(5);
const LASTS_EACH_IN: Duration = Duration::from_millis(50);
const LASTS_EACH_OUT: Duration = Duration::from_secs(1);

/// The terms of one job: those of its quote, and the consumer's hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The network whose TRM is paid.
    pub network: NetworkId,
    /// The quote.
    pub quote: QuoteId,
    /// Who works.
    pub provider: NodeId,
    /// Who pays.
    pub consumer: NodeId,
    /// The consumer's hold that covers the quote's maximum.
    pub hold: TransferId,
    /// The figures the price follows from.
    pub card: ModelCard,
    /// Price relative to par.
    pub multiplier: Multiplier,
    /// Most prompt tokens that may be charged.
    pub max_in: u32,
    /// Most tokens that may be generated.
    pub max_out: u32,
    /// Tokens for which a voucher is due.
    pub chunk_tokens: u32,
    /// Chunks that may be sent and not vouched for; 0 when the job is paid by receipt alone.
    pub window: u32,
}

/// What a provider counted of a prompt before it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Tokens of the prompt, template included.
    pub tokens_in: u32,
    /// Of those, tokens that are not charged.
    pub tokens_cached: u32,
}

/// The state of a job that a voucher speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) tokens_out: u32,
    pub(super) transcript: [u8; 32],
}

/// The last voucher of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vouched {
    pub(super) seq: u32,
    pub(super) total: Amount,
    pub(super) mark: Mark,
}

impl Terms {
    /// The terms of a quote, under a hold.
    pub fn new(quote: &Quote, hold: TransferId) -> Self {
        Self {
            network: quote.network,
            quote: quote.id(),
            provider: quote.provider,
            consumer: quote.consumer,
            hold,
            card: quote.card,
            multiplier: quote.multiplier,
            max_in: quote.max_in,
            max_out: quote.max_out,
            chunk_tokens: u32::from(quote.chunk_tokens),
            window: u32::from(quote.window),
        }
    }

    /// Whether the job is paid while it streams; otherwise by receipt alone.
    pub const fn streams_payment(&self) -> bool {
        self.window > 0 && self.chunk_tokens > 0
    }

    /// Most tokens that the provider sends without a voucher.
    pub const fn ahead(&self) -> u32 {
        self.window.saturating_mul(self.chunk_tokens)
    }

    /// How long the job may take in all. After it the provider ends it, and the consumer leaves.
    pub const fn lasts(&self) -> Duration {
        LASTS_ALWAYS
            .saturating_add(LASTS_EACH_IN.saturating_mul(self.max_in))
            .saturating_add(LASTS_EACH_OUT.saturating_mul(self.max_out))
    }

    /// What a job comes to after so many tokens of answer.
    ///
    /// # Errors
    ///
    /// [`AmountError::TooLarge`] above the supply cap.
    pub fn price(&self, counted: Counted, tokens_out: u32) -> Result<Amount, AmountError> {
        let usage = Usage {
            tokens_in: counted.tokens_in,
            tokens_cached: counted.tokens_cached,
            tokens_out,
        };
        self.card.price(usage, self.multiplier)
    }

    /// What is paid for the prompt before it is read: nothing where it is read on credit.
    pub(super) fn prepaid(&self, counted: Counted) -> Result<Amount, AmountError> {
        if self.streams_payment() && self.window == 1 {
            self.price(counted, 0)
        } else {
            Ok(Amount::ZERO)
        }
    }
}
