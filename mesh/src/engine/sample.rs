//! Chooses the next token from logits, with random numbers that anybody can compute again.
//!
//! At temperature 0 the likeliest token wins. Otherwise this is the Gumbel-max trick: to each logit,
//! divided by the temperature, a Gumbel-distributed number is added, and the largest sum wins, which
//! draws from the softmax. The number belongs to (seed, position, token) alone: `SplitMix64` is
//! applied to each of the three in turn. So one who has the logits can check any single choice,
//! without a generator's state and in any order.

use tirami_manifest::job::Sampler;

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014) on `x` plus its golden gamma.
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A Gumbel-distributed number from 32 random bits.
fn gumbel(key: u64, token: u32) -> f64 {
    let bits = u32::try_from(mix(key ^ u64::from(token)) >> 32).unwrap_or(u32::MAX);
    // Strictly between 0 and 1.
    let uniform = (f64::from(bits) + 0.5) / 4_294_967_296.0;
    -(-uniform.ln()).ln()
}

/// The token for a position (tokens before it, prompt included). The smaller id wins a tie; `None`
/// when no logit is a number.
pub(super) fn choose(logits: &[f32], sampler: Sampler, position: u32) -> Option<u32> {
    let candidates = (0_u32..)
        .zip(logits.iter().copied())
        .filter(|(_, logit)| !logit.is_nan());
    if sampler.temperature_milli == 0 {
        return best(candidates.map(|(token, logit)| (token, f64::from(logit))));
    }
    let temperature = f64::from(sampler.temperature_milli) / 1_000.0;
    let key = mix(mix(sampler.seed) ^ u64::from(position));
    let score =
        |(token, logit): (u32, f32)| (token, f64::from(logit) / temperature + gumbel(key, token));
    let top_k = usize::try_from(sampler.top_k).unwrap_or(usize::MAX);
    if top_k == 0 || top_k >= logits.len() {
        return best(candidates.map(score));
    }
    let mut candidates: Vec<_> = candidates.collect();
    if top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        candidates.truncate(top_k);
        candidates.sort_unstable_by_key(|(token, _)| *token);
    }
    best(candidates.into_iter().map(score))
}

fn best(scores: impl Iterator<Item = (u32, f64)>) -> Option<u32> {
    scores
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
        .map(|(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature_milli: u32, top_k: u32, seed: u64) -> Sampler {
        Sampler {
            temperature_milli,
            top_k,
            seed,
        }
    }

    #[test]
    fn greedy_takes_the_likeliest_and_the_first_of_equals() {
        assert_eq!(choose(&[0.0, 3.0, 3.0], Sampler::GREEDY, 9), Some(1));
        assert_eq!(
            choose(&[f32::NAN, f32::NEG_INFINITY], Sampler::GREEDY, 0),
            Some(1)
        );
        assert_eq!(choose(&[f32::NAN], Sampler::GREEDY, 0), None);
        assert_eq!(choose(&[], sampler(1_000, 0, 1), 0), None);
    }

    #[test]
    fn draws_follow_the_softmax() {
        // Odds 1 : 2 : 5, 8,000 draws; the tolerance is above five standard deviations.
        let logits = [1.0_f32.ln(), 2.0_f32.ln(), 5.0_f32.ln()];
        let mut counts = [0_i32; 3];
        for seed in 0..8 {
            for position in 0..1_000 {
                let token = choose(&logits, sampler(1_000, 0, seed), position).unwrap();
                counts[usize::try_from(token).unwrap()] += 1;
            }
        }
        for (count, want) in counts.into_iter().zip([1_000, 2_000, 5_000]) {
            assert!((count - want).abs() < 250, "{counts:?}");
        }
    }

    #[test]
    fn top_k_never_draws_what_is_below() {
        let logits = [0.0, 1.0, 1.0, 0.9, 1.0];
        for position in 0..500 {
            let token = choose(&logits, sampler(5_000, 2, 7), position).unwrap();
            assert!([1, 2].contains(&token));
        }
    }

    /// An audit recomputes these. The values come from a second implementation, in Python.
    #[test]
    fn the_random_numbers_are_fixed() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        let drawn: Vec<_> = (0..8)
            .map(|position| choose(&[0.0; 16], sampler(1_000, 0, 42), position).unwrap())
            .collect();
        assert_eq!(drawn, [10, 2, 5, 6, 2, 8, 2, 14]);
    }
}
