//! How long a provider may keep this node waiting, by what it said of its own speed.
//!
//! Only the time counts in which this node waited for a word: a slow reader here is nobody else's fault.

use std::time::Duration;

use tirami_mesh::proto::Pace;

/// How long a provider may be silent that said nothing of its speed, or has not begun; chosen: a cold model may
/// load, and a line of jobs may go first.
const SILENT_FOR: Duration = Duration::from_mins(1);

/// The first token may always take so long, and the others together so much longer than said; chosen, so that
/// a stumble is no reason to leave.
const ALWAYS: Duration = Duration::from_secs(5);

/// How many times what was said; in simulations this is what keeps those away who say too much.
const TIMES: u32 = 3;

/// How long one provider was waited for in one job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pace: Pace,
    /// Tokens that come together.
    chunk: u32,
    begun: bool,
    tokens: u32,
    waited: Duration,
}

impl Patience {
    pub(crate) const fn new(pace: Pace, chunk: u32) -> Self {
        Self {
            pace,
            chunk,
            begun: false,
            tokens: 0,
            waited: Duration::ZERO,
        }
    }

    /// How long the next word may take.
    pub(crate) fn left(&self) -> Duration {
        let may = match (self.begun, self.tokens) {
            (false, _) => return SILENT_FOR,
            (true, 0) => self.pace.first_token().map(|said| ALWAYS.max(said * TIMES)),
            (true, tokens) => {
                let said = self.pace.of(tokens.saturating_add(self.chunk));
                said.map(|said| ALWAYS + said * TIMES)
            }
        };
        may.map_or(SILENT_FOR, |may| {
            may.saturating_sub(self.waited).min(SILENT_FOR)
        })
    }

    /// The provider has counted the prompt and begins.
    pub(crate) fn begun(&mut self) {
        (self.begun, self.waited) = (true, Duration::ZERO);
    }

    /// A word came after so long, with so many tokens in all.
    pub(crate) fn heard(&mut self, tokens: u32, after: Duration) {
        let first = self.tokens == 0 && tokens > 0;
        self.waited = if first {
            Duration::ZERO
        } else {
            self.waited.saturating_add(after)
        };
        self.tokens = tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Four seconds to the first token, then ten tokens a second.
    fn patience() -> Patience {
        let pace = Pace {
            first_token_ms: 4_000,
            tokens_per_s_milli: 10_000,
        };
        Patience::new(pace, 10)
    }

    #[test]
    fn the_first_token_may_take_three_times_what_was_said_once_it_has_begun() {
        let mut patience = patience();
        assert_eq!(patience.left(), SILENT_FOR);
        patience.begun();
        assert_eq!(patience.left(), seconds(12));
        patience.heard(0, seconds(11));
        assert_eq!(patience.left(), seconds(1));
        patience.heard(0, seconds(2));
        assert_eq!(patience.left(), Duration::ZERO);
    }

    #[test]
    fn the_others_may_take_three_times_as_long_and_five_seconds() {
        let mut patience = patience();
        patience.begun();
        patience.heard(10, seconds(11));
        // Twenty tokens at ten a second.
        assert_eq!(patience.left(), seconds(5 + 6));
        patience.heard(20, seconds(10));
        assert_eq!(patience.left(), seconds(5 + 9 - 10));
        for _ in 0..20 {
            patience.heard(patience.tokens + 10, seconds(3));
        }
        assert_eq!(patience.left(), seconds(5 + 9 - 10), "a third of it passes");
    }

    #[test]
    fn who_says_nothing_is_waited_for_a_minute_each_time_and_nobody_longer() {
        let mut silent = Patience::new(Pace::default(), 8);
        silent.begun();
        silent.heard(1, seconds(50));
        silent.heard(2, seconds(50));
        assert_eq!(silent.left(), SILENT_FOR);
        let slow = Pace {
            first_token_ms: u32::MAX,
            tokens_per_s_milli: 1,
        };
        let mut slow = Patience::new(slow, u32::MAX);
        slow.begun();
        assert_eq!(slow.left(), SILENT_FOR);
        slow.heard(u32::MAX, seconds(1));
        assert_eq!(slow.left(), SILENT_FOR);
    }
}
