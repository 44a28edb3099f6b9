//! How fast this node works, as its last jobs were.

use tirami_mesh::proto::Pace;

/// Jobs over which the speed is an average, about; chosen.
const JOBS: u64 = 8;

/// Averages over the last jobs, the newest counting most.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Speed {
    /// From the start of the engine to its first token, in thousandths of a millisecond; none before a job
    /// was done.
    first_us: Option<u64>,
    /// Tokens of the prompts.
    tokens_in: u64,
    /// From one token to the next, in thousandths of a millisecond.
    token_us: Option<u64>,
}

fn mix(before: Option<u64>, now: u64) -> u64 {
    before.map_or(now, |before| {
        before.saturating_mul(JOBS - 1).saturating_add(now) / JOBS
    })
}

impl Speed {
    /// A first token came after so many milliseconds.
    pub(crate) fn first(&mut self, tokens_in: u32, ms: u64) {
        let before = self.first_us.map(|_| self.tokens_in);
        self.tokens_in = mix(before, tokens_in.into());
        self.first_us = Some(mix(self.first_us, ms.saturating_mul(1_000)));
    }

    /// So many more tokens came in so many milliseconds. Too few say nothing.
    pub(crate) fn others(&mut self, tokens: u32, ms: u64) {
        if tokens > 0 && ms > 0 {
            let each = ms.saturating_mul(1_000) / u64::from(tokens);
            self.token_us = Some(mix(self.token_us, each.max(1)));
        }
    }

    /// What can be said of the next job: with so many tokens of prompt at most, after so many milliseconds of
    /// waiting for a place.
    pub(crate) fn pace(&self, max_in: u32, wait_ms: u64) -> Pace {
        let Some(first_us) = self.first_us else {
            return Pace::default();
        };
        let longer = u64::from(max_in).max(self.tokens_in);
        let first = first_us.saturating_mul(longer) / self.tokens_in.max(1);
        let first = (first / 1_000).saturating_add(wait_ms).max(1);
        let rate = self.token_us.map_or(0, |each| 1_000_000_000 / each.max(1));
        Pace {
            first_token_ms: u32::try_from(first).unwrap_or(u32::MAX),
            tokens_per_s_milli: u32::try_from(rate).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(speed: &Speed, max_in: u32, wait_ms: u64) -> (u32, u32) {
        let pace = speed.pace(max_in, wait_ms);
        (pace.first_token_ms, pace.tokens_per_s_milli)
    }

    #[test]
    fn nothing_is_said_before_a_job_was_done_and_then_what_it_was_like() {
        let mut speed = Speed::default();
        assert_eq!(said(&speed, 100, 0), (0, 0));
        speed.first(100, 200);
        assert_eq!(said(&speed, 100, 0), (200, 0));
        speed.others(50, 1_000);
        assert_eq!(said(&speed, 100, 0), (200, 50_000), "fifty a second");
        assert_eq!(said(&speed, 10, 0), (200, 50_000), "a short one no less");
        assert_eq!(said(&speed, 300, 1_000), (1_600, 50_000));
        speed.first(100, 1_000);
        assert_eq!(said(&speed, 100, 0), (300, 50_000), "an eighth of the new");
        speed.others(0, 1_000);
        speed.others(10, 0);
        assert_eq!(said(&speed, 100, 0), (300, 50_000));
    }

    #[test]
    fn an_engine_that_takes_no_time_says_so_and_no_figure_overflows() {
        let mut speed = Speed::default();
        speed.first(0, 0);
        assert_eq!(said(&speed, 5, 0), (1, 0));
        speed.first(u32::MAX, u64::MAX);
        speed.others(u32::MAX, u64::MAX);
        assert_eq!(speed.pace(u32::MAX, u64::MAX).first_token_ms, u32::MAX);
    }
}
