//! Windows that slide.
//!
//! A window is a ring of buckets. The bucket that lies partly outside the window still counts in
//! full, so a limit holds over every span of its length, whenever it starts; neither fixed windows
//! nor a token bucket do that, both let up to twice the limit through.

use tirami_manifest::Timestamp;

/// A sliding window over its bytes: `N` buckets of `MS` milliseconds, of which the oldest is partly
/// outside. The newest bucket's number (milliseconds since 1970 divided by `MS`), what all buckets
/// hold together, then the buckets: number `b` at `b % N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring<const N: usize, const MS: u64, B>(pub(super) B);

/// 60 seconds in buckets of one second.
pub type MinuteRing<B> = Ring<61, 1_000, B>;
/// 60 minutes in buckets of one minute.
pub type HourRing<B> = Ring<61, 60_000, B>;
/// 24 hours in buckets of 15 minutes.
pub type DayRing<B> = Ring<97, 900_000, B>;

/// Words before the buckets.
const BEFORE_BUCKETS: usize = 2;

impl<const N: usize, const MS: u64, B> Ring<N, MS, B> {
    const LEN: u64 = {
        #[expect(clippy::as_conversions, reason = "a constant that fits")]
        let len = N as u64;
        len
    };

    /// Bytes of its layout.
    pub(super) const BYTES: usize = 8 * (BEFORE_BUCKETS + N);

    /// Where a bucket lies, in words.
    fn place(bucket: u64) -> usize {
        let place = usize::try_from(bucket.checked_rem(Self::LEN).unwrap_or(0)).unwrap_or(0);
        place.saturating_add(BEFORE_BUCKETS)
    }

    fn bucket(at: Timestamp) -> u64 {
        at.ms().checked_div(MS).unwrap_or(0)
    }
}

impl<const N: usize, const MS: u64, B: AsRef<[u8]>> Ring<N, MS, B> {
    fn word(&self, place: usize) -> u64 {
        let (words, _) = self.0.as_ref().as_chunks::<8>();
        words.get(place).map_or(0, |word| u64::from_le_bytes(*word))
    }

    fn newest(&self) -> u64 {
        self.word(0)
    }

    fn total(&self) -> u64 {
        self.word(1)
    }

    /// Buckets that lie in the window that ends at `now`, oldest first, with what is in them. An
    /// earlier `now` than one seen before changes nothing.
    fn inside(&self, now: Timestamp) -> impl Iterator<Item = (u64, u64)> + '_ {
        let newest = Self::bucket(now).max(self.newest());
        let oldest = newest.saturating_sub(Self::LEN.saturating_sub(1));
        (oldest..=self.newest()).map(|bucket| (bucket, self.word(Self::place(bucket))))
    }

    /// Buckets after the newest that have passed at `now`.
    fn passed(&self, now: Timestamp) -> u64 {
        Self::bucket(now).saturating_sub(self.newest())
    }

    /// The sum over the window that ends at `now`.
    pub fn sum(&self, now: Timestamp) -> u64 {
        let (newest, passed) = (self.newest(), self.passed(now));
        if passed >= Self::LEN {
            return 0;
        }
        // What lies where the buckets of the time since would go has left the window.
        (1..=passed).fold(self.total(), |sum, gone| {
            let place = Self::place(newest.saturating_add(gone));
            sum.saturating_sub(self.word(place))
        })
    }

    /// The first moment at which at most `room` is in the window; `now` when that is so already.
    pub fn falls_to(&self, room: u64, now: Timestamp) -> Timestamp {
        let mut sum = self.sum(now);
        if sum <= room {
            return now;
        }
        for (bucket, n) in self.inside(now) {
            sum = sum.saturating_sub(n);
            if sum <= room {
                let gone = bucket.saturating_add(Self::LEN);
                return Timestamp::from_ms(gone.saturating_mul(MS));
            }
        }
        now
    }
}

impl<const N: usize, const MS: u64, B: AsRef<[u8]> + AsMut<[u8]>> Ring<N, MS, B> {
    fn set(&mut self, place: usize, n: u64) {
        let (words, _) = self.0.as_mut().as_chunks_mut::<8>();
        if let Some(word) = words.get_mut(place) {
            *word = n.to_le_bytes();
        }
    }

    /// Adds to the bucket of `now`, and forgets what has left the window.
    pub(crate) fn add(&mut self, now: Timestamp, n: u64) {
        let (mut total, newest, passed) = (self.total(), self.newest(), self.passed(now));
        if passed >= Self::LEN {
            self.0.as_mut().fill(0);
            total = 0;
        } else {
            for gone in 1..=passed {
                let place = Self::place(newest.saturating_add(gone));
                total = total.saturating_sub(self.word(place));
                self.set(place, 0);
            }
        }
        let newest = newest.saturating_add(passed);
        let place = Self::place(newest);
        self.set(0, newest);
        self.set(1, total.saturating_add(n));
        self.set(place, self.word(place).saturating_add(n));
    }

    /// Takes back what was added at `when`, if its bucket is still kept.
    pub(crate) fn take_back(&mut self, when: Timestamp, n: u64) {
        let (bucket, newest) = (Self::bucket(when), self.newest());
        if bucket <= newest && newest.saturating_sub(bucket) < Self::LEN {
            let place = Self::place(bucket);
            let sum = self.word(place);
            let part = n.min(sum);
            self.set(place, sum.saturating_sub(part));
            self.set(1, self.total().saturating_sub(part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour in milliseconds.
    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn a_window_forgets_what_left_it_and_says_when_it_falls() {
        let mut ring = Ring::<61, 60_000, _>(vec![0_u8; HourRing::<()>::BYTES]);
        let start = Timestamp::from_ms(1_000 * HOUR_MS + 59_999);
        ring.add(start, 5);
        ring.add(start.after_ms(600_000), 7);
        assert_eq!(
            ring.sum(start.after_ms(HOUR_MS)),
            12,
            "partly inside counts"
        );
        assert_eq!(ring.sum(start.after_ms(HOUR_MS + 60_000)), 7);
        let falls = ring.falls_to(7, start.after_ms(600_000));
        assert_eq!(falls, Timestamp::from_ms(1_001 * HOUR_MS + 60_000));
        assert_eq!(ring.sum(falls), 7);
        assert_eq!(ring.sum(Timestamp::from_ms(falls.ms() - 1)), 12);
        ring.take_back(start, 5);
        assert_eq!(ring.sum(start.after_ms(600_000)), 7);
        ring.add(start.after_ms(30 * HOUR_MS), 1);
        assert_eq!(ring.sum(start.after_ms(30 * HOUR_MS)), 1);
        // What has left the window takes nothing off newer buckets at the same place.
        ring.take_back(start.after_ms(600_000), 7);
        assert_eq!(ring.sum(start), 1, "an earlier clock frees nothing");
    }
}
