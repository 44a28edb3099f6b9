//! How long a provider may keep this node waiting, by what it said of its own speed.
//!
//! Only the time counts in which this node waited for a word: a slow reader here is nobody else's fault.

use std::time::Duration;

use tirami_mesh::proto::{Pace, Terms};

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
    /// How long the job may take, and how long it was waited for since it began.
    lasts: Duration,
    in_all: Duration,
    /// How long the reader here took for its pieces.
    here: Duration,
}

impl Patience {
    pub(crate) const fn new(pace: Pace, terms: &Terms) -> Self {
        Self {
            pace,
            chunk: terms.chunk_tokens,
            begun: false,
            tokens: 0,
            waited: Duration::ZERO,
            lasts: terms.lasts(),
            in_all: Duration::ZERO,
            here: Duration::ZERO,
        }
    }

    /// How long the job may take in all.
    pub(crate) const fn lasts(&self) -> Duration {
        self.lasts
    }

    /// How much of that is left. Before it began, each word has its own time.
    pub(crate) const fn left_in_all(&self) -> Duration {
        self.lasts.saturating_sub(self.in_all)
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

    /// A word came after so long: whether the provider has counted the prompt and begun by now, and how many
    /// tokens came in all. What went before a beginning is not held against what follows it.
    pub(crate) fn heard(&mut self, (begun, tokens): (bool, u32), after: Duration) {
        let first = self.tokens == 0 && tokens > 0;
        self.waited = if first || begun && !self.begun {
            Duration::ZERO
        } else {
            self.waited.saturating_add(after)
        };
        if self.begun {
            self.in_all = self.in_all.saturating_add(after);
        }
        (self.begun, self.tokens) = (begun, tokens);
    }

    /// The reader here took a piece after so long. Time in which the provider takes nothing from this node is not in
    /// it: that is the provider's.
    pub(crate) fn read_in(&mut self, time: Duration) {
        self.here = self.here.saturating_add(time);
    }

    /// Whether the job's time is over and most of it was the reader's here, so that a provider that ends it is not at fault.
    pub(crate) fn is_spent_here(&self) -> bool {
        let in_all = self.in_all.saturating_add(self.here);
        // The two ends of a job do not see it begin at the same moment.
        self.here > self.in_all && in_all.saturating_add(ALWAYS) >= self.lasts
    }
}

#[cfg(test)]
mod tests {
    use tirami_manifest::commerce::Quote;
    use tirami_manifest::{Amount, Multiplier, NetworkId, NodeId, Timestamp, TransferId};
    use tirami_mesh::engine::Engine;
    use tirami_mesh::engine::echo::Echo;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A job of so many tokens of answer, in chunks of `chunk`, and none of prompt.
    fn terms(chunk: u16, max_out: u32) -> Terms {
        let quote = Quote {
            network: NetworkId::from_bytes([0; 32]),
            provider: NodeId::from_bytes([0; 32]),
            consumer: NodeId::from_bytes([0; 32]),
            card: Echo.card(),
            multiplier: Multiplier::PAR,
            max_in: 0,
            max_out,
            max_amount: Amount::ZERO,
            chunk_tokens: chunk,
            window: 1,
            issued: Timestamp::EPOCH,
            expires: Timestamp::EPOCH,
            nonce: [0; 16],
        };
        Terms::new(&quote, TransferId::from_bytes([0; 16]))
    }

    /// Four seconds to the first token, then ten tokens a second.
    fn patience() -> Patience {
        let pace = Pace {
            first_token_ms: 4_000,
            tokens_per_s_milli: 10_000,
        };
        Patience::new(pace, &terms(10, 1_000))
    }

    fn begun(patience: &mut Patience) {
        patience.heard((true, 0), Duration::ZERO);
    }

    #[test]
    fn the_first_token_may_take_three_times_what_was_said_once_it_has_begun() {
        let mut patience = patience();
        assert_eq!(patience.left(), SILENT_FOR);
        // However long it stood in line.
        patience.heard((true, 0), seconds(50));
        assert_eq!(patience.left(), seconds(12));
        patience.heard((true, 0), seconds(11));
        assert_eq!(patience.left(), seconds(1));
        patience.heard((true, 0), seconds(2));
        assert_eq!(patience.left(), Duration::ZERO);
    }

    #[test]
    fn the_others_may_take_three_times_as_long_and_five_seconds() {
        let mut patience = patience();
        begun(&mut patience);
        patience.heard((true, 10), seconds(11));
        // Twenty tokens at ten a second.
        assert_eq!(patience.left(), seconds(5 + 6));
        patience.heard((true, 20), seconds(10));
        assert_eq!(patience.left(), seconds(5 + 9 - 10));
        for _ in 0..20 {
            patience.heard((true, patience.tokens + 10), seconds(3));
        }
        assert_eq!(patience.left(), seconds(5 + 9 - 10), "a third of it passes");
    }

    #[test]
    fn who_says_nothing_is_waited_for_a_minute_each_time_and_nobody_longer() {
        let mut silent = Patience::new(Pace::default(), &terms(8, 1_000));
        begun(&mut silent);
        silent.heard((true, 1), seconds(50));
        silent.heard((true, 2), seconds(50));
        assert_eq!(silent.left(), SILENT_FOR);
        let slow = Pace {
            first_token_ms: u32::MAX,
            tokens_per_s_milli: 1,
        };
        let mut slow = Patience::new(slow, &terms(u16::MAX, u32::MAX));
        begun(&mut slow);
        assert_eq!(slow.left(), SILENT_FOR);
        slow.heard((true, u32::MAX), seconds(1));
        assert_eq!(slow.left(), SILENT_FOR);
    }

    #[test]
    fn a_job_is_waited_for_no_longer_than_it_may_take_once_it_began() {
        let mut drips = Patience::new(Pace::default(), &terms(8, 100));
        assert_eq!(drips.lasts(), seconds(400));
        drips.heard((true, 0), seconds(59));
        assert_eq!(drips.left_in_all(), seconds(400), "the line is not the job");
        for token in 1..=7 {
            drips.heard((true, token), seconds(55));
        }
        assert_eq!(drips.left_in_all(), seconds(15));
        drips.heard((true, 8), seconds(55));
        assert_eq!(drips.left_in_all(), Duration::ZERO);
        // One that is paid by receipt alone begins with its first chunk.
        let mut unsaid = Patience::new(Pace::default(), &terms(0, 100));
        unsaid.heard((true, 1), seconds(50));
        unsaid.heard((true, 2), seconds(50));
        assert_eq!(unsaid.left_in_all(), seconds(350));
    }

    #[test]
    fn a_job_is_spent_here_when_its_time_is_over_and_most_of_it_was_its_readers() {
        let mut read_slowly = Patience::new(Pace::default(), &terms(8, 100));
        read_slowly.heard((true, 0), seconds(1));
        for token in 1..=13 {
            read_slowly.heard((true, token), seconds(1));
            read_slowly.read_in(seconds(29));
        }
        assert!(!read_slowly.is_spent_here(), "390 of 400 seconds");
        read_slowly.heard((true, 14), seconds(6));
        assert!(read_slowly.is_spent_here());
        // Most of it was waited for.
        let mut dripped = Patience::new(Pace::default(), &terms(8, 100));
        begun(&mut dripped);
        for token in 1..=8 {
            dripped.heard((true, token), seconds(30));
            dripped.read_in(seconds(29));
        }
        assert!(!dripped.is_spent_here());
    }
}
