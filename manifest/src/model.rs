//! What a model costs to run, as a pure function of its GGUF file and token counts.
//!
//! Nominal FLOP are a unit of account, independent of quantisation, batch and hardware. Every party
//! that has the card computes the same price.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amount::{Amount, AmountError, Multiplier, kflop};
use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::ModelId;

/// The figures of one GGUF file that decide its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelCard {
    /// SHA-256 of the file.
    pub id: ModelId,
    /// Weights multiplied for every token: elements of the blocks' matrices.
    pub block_weights: u64,
    /// Weights multiplied for every token that is generated: elements of the output matrix.
    pub head_weights: u64,
    /// FLOP per token and attended position, over all layers; 0 for architectures we do not know.
    pub attention_flop: u64,
    /// Sliding attention window in tokens; 0 when attention sees everything.
    pub window: u32,
    /// Most tokens of prompt and answer together.
    pub context: u32,
}

/// Tokens of one job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Tokens of the prompt, template included.
    pub tokens_in: u32,
    /// Of those, tokens whose state the provider had and does not charge for.
    pub tokens_cached: u32,
    /// Tokens generated.
    pub tokens_out: u32,
}

impl ModelCard {
    /// Nominal FLOP of a job.
    ///
    /// `2·P_blk·(in − cached + out − 1) + 2·P_head·out + A·(attended positions)`, where a prompt
    /// position t attends t+1 positions and the k-th generated token (from 0) attends in+k, each at
    /// most `window`.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "token counts are below 2^33, their triangle below 2^67, and weights below 2^64 \
                  times counts below 2^99; what a hostile card could take beyond saturates"
    )]
    pub fn flop(&self, usage: Usage) -> u128 {
        let (n_in, cached, out) = (
            u128::from(usage.tokens_in),
            u128::from(usage.tokens_cached.min(usage.tokens_in)),
            u128::from(usage.tokens_out),
        );
        let processed = (n_in - cached + out).saturating_sub(u128::from(usage.tokens_out > 0));
        let prefill = self.attended(n_in) - self.attended(cached);
        // The k-th generated token attends in+k positions: the same sum, one step earlier.
        let decode =
            self.attended((n_in + out).saturating_sub(1)) - self.attended(n_in.saturating_sub(1));
        let weights = 2 * u128::from(self.block_weights) * processed
            + 2 * u128::from(self.head_weights) * out;
        let attention = u128::from(self.attention_flop).saturating_mul(prefill + decode);
        weights.saturating_add(attention)
    }

    /// Sum of min(t, window) for t from 1 to `n`.
    #[expect(clippy::arithmetic_side_effects, reason = "n is below 2^34")]
    fn attended(&self, n: u128) -> u128 {
        let triangle = |n: u128| n * (n + 1) / 2;
        let window = u128::from(self.window);
        if window == 0 || n <= window {
            triangle(n)
        } else {
            triangle(window) + (n - window) * window
        }
    }

    /// Thousands of FLOP of a job, rounded up, which at par is its price in µTRM.
    ///
    /// # Errors
    ///
    /// [`AmountError::TooLarge`] when the count does not fit in 64 bits.
    pub fn kflop(&self, usage: Usage) -> Result<u64, AmountError> {
        kflop(self.flop(usage)).ok_or(AmountError::TooLarge)
    }

    /// The price of a job.
    ///
    /// # Errors
    ///
    /// [`AmountError::TooLarge`] above the supply cap.
    pub fn price(&self, usage: Usage, multiplier: Multiplier) -> Result<Amount, AmountError> {
        multiplier.price(self.kflop(usage)?)
    }

    /// The most tokens that can be generated for `budget` after a prompt of `tokens_in`; `None`
    /// when the prompt and one token already cost more.
    pub fn affordable_out(
        &self,
        tokens_in: u32,
        multiplier: Multiplier,
        budget: Amount,
    ) -> Option<u32> {
        let fits = |tokens_out: u32| {
            self.price(
                Usage {
                    tokens_in,
                    tokens_cached: 0,
                    tokens_out,
                },
                multiplier,
            )
            .is_ok_and(|price| price <= budget)
        };
        let room = self
            .context
            .checked_sub(tokens_in)
            .filter(|room| *room > 0)?;
        if !fits(1) {
            return None;
        }
        // `low` always fits, `high` never does.
        let (mut low, mut high) = (1_u32, room.checked_add(1)?);
        while high.checked_sub(low)? > 1 {
            let middle = low.midpoint(high);
            if fits(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(low)
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.raw(self.id.as_bytes())
            .u64(self.block_weights)
            .u64(self.head_weights)
            .u64(self.attention_flop)
            .u32(self.window)
            .u32(self.context);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: ModelId::from_bytes(from.raw("model id")?),
            block_weights: from.u64("block weights")?,
            head_weights: from.u64("head weights")?,
            attention_flop: from.u64("attention flop")?,
            window: from.u32("window")?,
            context: from.u32("context")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Qwen2.5-0.5B from its published shape.
    fn qwen() -> ModelCard {
        let (layers, d, ff, kv) = (24, 896, 4_864, 128);
        ModelCard {
            id: ModelId::from_bytes([0; 32]),
            block_weights: layers * (2 * d * d + 2 * d * kv + 3 * d * ff),
            head_weights: 151_936 * d,
            attention_flop: layers * 2 * 14 * (64 + 64),
            window: 0,
            context: 32_768,
        }
    }

    #[test]
    fn a_card_that_would_overflow_has_no_price() {
        let card = ModelCard {
            attention_flop: u64::MAX,
            block_weights: u64::MAX,
            head_weights: u64::MAX,
            window: 0,
            ..qwen()
        };
        let usage = Usage {
            tokens_in: u32::MAX,
            tokens_cached: 0,
            tokens_out: u32::MAX,
        };
        assert_eq!(card.flop(usage), u128::MAX);
        assert_eq!(card.kflop(usage), Err(AmountError::TooLarge));
    }

    #[test]
    fn qwen_costs_what_the_published_shape_says() {
        // 0.988 GF per decoded token, 0.716 per prefilled one, 0.086 MF per attended position.
        let card = qwen();
        let decode = 2 * (card.block_weights + card.head_weights);
        assert_eq!(decode.div_ceil(1_000_000), 988);
        assert_eq!((2 * card.block_weights).div_ceil(1_000_000), 716);
        assert_eq!(card.attention_flop, 86_016);
    }

    /// The formula written out position by position.
    fn naive(card: &ModelCard, usage: Usage) -> u128 {
        let see = |n: u32| {
            u128::from(if card.window == 0 {
                n
            } else {
                n.min(card.window)
            })
        };
        let mut attended = 0;
        for t in usage.tokens_cached..usage.tokens_in {
            attended += see(t + 1);
        }
        for k in 0..usage.tokens_out {
            attended += see(usage.tokens_in + k);
        }
        let n = u128::from(usage.tokens_in - usage.tokens_cached + usage.tokens_out)
            .saturating_sub(u128::from(usage.tokens_out > 0));
        2 * u128::from(card.block_weights) * n
            + 2 * u128::from(card.head_weights) * u128::from(usage.tokens_out)
            + u128::from(card.attention_flop) * attended
    }

    proptest! {
        #[test]
        fn the_closed_form_is_the_sum(
            tokens_in in 1_u32..300, cached in 0_u32..300, tokens_out in 0_u32..300, window in 0_u32..200
        ) {
            let card = ModelCard { window, ..qwen() };
            let usage = Usage { tokens_in, tokens_cached: cached.min(tokens_in), tokens_out };
            prop_assert_eq!(card.flop(usage), naive(&card, usage));
        }

        #[test]
        fn what_is_affordable_fits_and_one_more_does_not(
            tokens_in in 1_u32..400, utrm in 0_u64..2_000_000_000_000
        ) {
            let (card, budget) = (qwen(), Amount::from_utrm(utrm).unwrap());
            let price = |tokens_out| {
                card.price(Usage { tokens_in, tokens_cached: 0, tokens_out }, Multiplier::PAR).unwrap()
            };
            match card.affordable_out(tokens_in, Multiplier::PAR, budget) {
                None => prop_assert!(price(1) > budget),
                Some(n) => {
                    prop_assert!(price(n) <= budget);
                    prop_assert!(n + tokens_in == card.context || price(n + 1) > budget);
                }
            }
        }
    }
}
