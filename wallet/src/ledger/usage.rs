//! What was used of a mandate: windows that slide, and what the breakers count.
//!
//! A window is a ring of buckets. The bucket that lies partly outside the window still counts in
//! full, so a limit holds over every span of its length, whenever it starts; neither fixed windows
//! nor a token bucket do that, both let up to twice the limit through.
//!
//! The layout is fixed and little-endian, so that reading and writing a row costs a copy.

use tirami_manifest::{Amount, Timestamp};

/// A sliding window: `N` buckets of `MS` milliseconds, of which the oldest is partly outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring<const N: usize, const MS: u64> {
    /// The newest bucket: milliseconds since 1970 divided by `MS`.
    newest: u64,
    /// What all buckets hold together.
    total: u64,
    /// Bucket `b` is at `b % N`.
    sums: [u64; N],
}

/// 60 seconds in buckets of one second.
pub type MinuteRing = Ring<61, 1_000>;
/// 60 minutes in buckets of one minute.
pub type HourRing = Ring<61, 60_000>;
/// 24 hours in buckets of 15 minutes.
pub type DayRing = Ring<97, 900_000>;

impl<const N: usize, const MS: u64> Default for Ring<N, MS> {
    fn default() -> Self {
        Self {
            newest: 0,
            total: 0,
            sums: [0; N],
        }
    }
}

impl<const N: usize, const MS: u64> Ring<N, MS> {
    const LEN: u64 = {
        #[expect(clippy::as_conversions, reason = "a constant that fits")]
        let len = N as u64;
        len
    };

    /// Bytes of its layout.
    const BYTES: usize = 16 + 8 * N;

    fn place(bucket: u64) -> usize {
        usize::try_from(bucket.checked_rem(Self::LEN).unwrap_or(0)).unwrap_or(0)
    }

    fn bucket(at: Timestamp) -> u64 {
        at.ms().checked_div(MS).unwrap_or(0)
    }

    /// Buckets that lie in the window that ends at `now`, oldest first, with what is in them. An
    /// earlier `now` than one seen before changes nothing.
    fn inside(&self, now: Timestamp) -> impl Iterator<Item = (u64, u64)> + '_ {
        let newest = Self::bucket(now).max(self.newest);
        let oldest = newest.saturating_sub(Self::LEN.saturating_sub(1));
        (oldest..=self.newest).map(|bucket| {
            let sum = self.sums.get(Self::place(bucket)).copied().unwrap_or(0);
            (bucket, sum)
        })
    }

    /// Buckets after the newest that have passed at `now`.
    fn passed(&self, now: Timestamp) -> u64 {
        Self::bucket(now).saturating_sub(self.newest)
    }

    /// The sum over the window that ends at `now`.
    pub fn sum(&self, now: Timestamp) -> u64 {
        let passed = self.passed(now);
        if passed >= Self::LEN {
            return 0;
        }
        // What lies where the buckets of the time since would go has left the window.
        (1..=passed).fold(self.total, |sum, gone| {
            let place = Self::place(self.newest.saturating_add(gone));
            sum.saturating_sub(self.sums.get(place).copied().unwrap_or(0))
        })
    }

    /// Adds to the bucket of `now`, and forgets what has left the window.
    pub(crate) fn add(&mut self, now: Timestamp, n: u64) {
        let passed = self.passed(now);
        if passed >= Self::LEN {
            self.sums = [0; N];
            self.total = 0;
        } else {
            for gone in 1..=passed {
                let place = Self::place(self.newest.saturating_add(gone));
                if let Some(sum) = self.sums.get_mut(place) {
                    self.total = self.total.saturating_sub(*sum);
                    *sum = 0;
                }
            }
        }
        self.newest = self.newest.saturating_add(passed);
        if let Some(sum) = self.sums.get_mut(Self::place(self.newest)) {
            *sum = sum.saturating_add(n);
            self.total = self.total.saturating_add(n);
        }
    }

    /// Takes back what was added at `when`, if its bucket is still kept.
    pub(crate) fn take_back(&mut self, when: Timestamp, n: u64) {
        let bucket = Self::bucket(when);
        let kept = bucket <= self.newest && self.newest.saturating_sub(bucket) < Self::LEN;
        if kept && let Some(sum) = self.sums.get_mut(Self::place(bucket)) {
            let part = n.min(*sum);
            *sum = sum.saturating_sub(part);
            self.total = self.total.saturating_sub(part);
        }
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

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.newest.to_le_bytes());
        out.extend_from_slice(&self.total.to_le_bytes());
        let start = out.len();
        out.resize(start.saturating_add(8_usize.saturating_mul(N)), 0);
        let (places, _) = out
            .get_mut(start..)
            .unwrap_or_default()
            .as_chunks_mut::<8>();
        for (place, sum) in places.iter_mut().zip(&self.sums) {
            *place = sum.to_le_bytes();
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let mut ring = Self {
            newest: take(from)?,
            total: take(from)?,
            ..Self::default()
        };
        let (sums, rest) = from.split_at_checked(Self::BYTES.checked_sub(16)?)?;
        *from = rest;
        let (sums, _) = sums.as_chunks::<8>();
        for (to, bytes) in ring.sums.iter_mut().zip(sums) {
            *to = u64::from_le_bytes(*bytes);
        }
        Some(ring)
    }

    /// A ring alone as a row.
    pub(crate) fn to_row(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::BYTES);
        self.write(&mut out);
        out
    }

    /// Reads what [`Ring::to_row`] wrote.
    pub(crate) fn from_row(mut bytes: &[u8]) -> Option<Self> {
        Self::read(&mut bytes).filter(|_| bytes.is_empty())
    }
}

/// Requests remembered for the loop breaker; as many as the breaker can be set to.
const RECENT: usize = 32;

/// How long the same request is counted: 10 minutes.
pub(crate) const LOOP_MS: u64 = 600_000;

/// How long spending stops after too many errors: a minute.
pub(crate) const COOL_MS: u64 = 60_000;

/// Version of the layout, its first byte.
const VERSION: u8 = 1;

/// What was used of one mandate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Spent and set aside since the mandate began, in µTRM.
    pub used: u128,
    /// Holds open now.
    pub open: u32,
    /// Purchases that failed since the last that did not.
    pub errors: u32,
    /// When the last of them failed.
    pub failed: Timestamp,
    /// µTRM in the last 60 seconds.
    pub minute: MinuteRing,
    /// µTRM in the last 60 minutes.
    pub hour: HourRing,
    /// µTRM in the last 24 hours.
    pub day: DayRing,
    /// Purchases in the last 60 seconds.
    pub spends: MinuteRing,
    /// What was asked for lately and when: the first 8 bytes of each request's hash.
    /// Sorted.
    recent: [(u64, u64); RECENT],
    /// Per limit, the highest share of it in percent that was told of, zero below the first; in the
    /// order of [`super::alert::WATCHED`].
    pub(crate) told: [u8; 8],
}

impl Usage {
    /// What was spent and set aside in all.
    pub fn used_in_all(&self) -> Amount {
        Amount::try_from(self.used).unwrap_or(Amount::MAX)
    }

    /// How often this request was bought in the last ten minutes.
    pub(crate) fn same(&self, request: u64, now: Timestamp) -> u64 {
        let count = self
            .recent
            .iter()
            .filter(|(what, when)| {
                *what == request && now.since_ms(Timestamp::from_ms(*when)) < LOOP_MS && *when > 0
            })
            .count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// When this request will have been bought less than `most` times in ten minutes.
    pub(crate) fn same_falls_below(&self, request: u64, most: u64, now: Timestamp) -> Timestamp {
        let mut when: Vec<u64> = self
            .recent
            .iter()
            .filter(|(what, when)| {
                *what == request && now.since_ms(Timestamp::from_ms(*when)) < LOOP_MS && *when > 0
            })
            .map(|(_, when)| *when)
            .collect();
        when.sort_unstable();
        let excess = u64::try_from(when.len())
            .unwrap_or(u64::MAX)
            .saturating_sub(most);
        let last = usize::try_from(excess).unwrap_or(usize::MAX);
        when.get(last)
            .map_or(now, |when| Timestamp::from_ms(*when).after_ms(LOOP_MS))
    }

    /// Counts a purchase of `amount` at `now`.
    pub(crate) fn charge(&mut self, amount: Amount, request: u64, now: Timestamp) {
        let utrm = amount.utrm();
        self.used = self.used.saturating_add(u128::from(utrm));
        self.open = self.open.saturating_add(1);
        self.minute.add(now, utrm);
        self.hour.add(now, utrm);
        self.day.add(now, utrm);
        self.spends.add(now, 1);
        let place = self.place_for(request, now);
        if let Some(place) = self.recent.get_mut(place) {
            *place = (request, now.ms());
        }
        self.recent.sort_unstable();
    }

    /// Which remembered request makes room: one that is too old to count; else one of those that
    /// were bought least often, the oldest first, so that a loop over several requests shows too.
    fn place_for(&self, request: u64, now: Timestamp) -> usize {
        let is_old = |when: u64| now.since_ms(Timestamp::from_ms(when)) >= LOOP_MS || when == 0;
        let free = self.recent.iter().position(|(_, when)| is_old(*when));
        let least = || {
            let (mut start, mut least) = (0_usize, None);
            // Equal requests lie side by side, the oldest first.
            for run in self.recent.chunk_by(|a, b| a.0 == b.0) {
                let place = start;
                start = start.saturating_add(run.len());
                if let Some((what, when)) = run.first().filter(|(what, _)| *what != request) {
                    let worth = (run.len(), *when, place, *what);
                    least = Some(least.map_or(worth, |best| worth.min(best)));
                }
            }
            least.map_or(0, |(_, _, place, _)| place)
        };
        free.unwrap_or_else(least)
    }

    /// A hold made at `when` ended and left `unspent` of what it was charged.
    pub(crate) fn ended(&mut self, unspent: Amount, when: Timestamp) {
        let utrm = unspent.utrm();
        self.used = self.used.saturating_sub(u128::from(utrm));
        self.open = self.open.saturating_sub(1);
        self.minute.take_back(when, utrm);
        self.hour.take_back(when, utrm);
        self.day.take_back(when, utrm);
    }

    /// The row's bytes.
    pub(crate) fn to_row(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            MinuteRing::BYTES
                .saturating_mul(2)
                .saturating_add(HourRing::BYTES)
                .saturating_add(DayRing::BYTES)
                .saturating_add(600),
        );
        out.push(VERSION);
        out.extend_from_slice(&self.used.to_le_bytes());
        out.extend_from_slice(&self.open.to_le_bytes());
        out.extend_from_slice(&self.errors.to_le_bytes());
        out.extend_from_slice(&self.failed.ms().to_le_bytes());
        self.minute.write(&mut out);
        self.hour.write(&mut out);
        self.day.write(&mut out);
        self.spends.write(&mut out);
        for (what, when) in &self.recent {
            out.extend_from_slice(&what.to_le_bytes());
            out.extend_from_slice(&when.to_le_bytes());
        }
        out.extend_from_slice(&self.told);
        out
    }

    /// Reads what [`Usage::to_row`] wrote.
    pub(crate) fn from_row(bytes: &[u8]) -> Option<Self> {
        let (version, mut rest) = bytes.split_first()?;
        if *version != VERSION {
            return None;
        }
        let from = &mut rest;
        let used = u128::from_le_bytes(array(from)?);
        let open = u32::from_le_bytes(array(from)?);
        let errors = u32::from_le_bytes(array(from)?);
        let failed = Timestamp::from_ms(take(from)?);
        let minute = Ring::read(from)?;
        let hour = Ring::read(from)?;
        let day = Ring::read(from)?;
        let spends = Ring::read(from)?;
        let mut recent = [(0, 0); RECENT];
        for (what, when) in &mut recent {
            *what = take(from)?;
            *when = take(from)?;
        }
        let told = array(from)?;
        from.is_empty().then_some(Self {
            used,
            open,
            errors,
            failed,
            minute,
            hour,
            day,
            spends,
            recent,
            told,
        })
    }
}

fn array<const L: usize>(from: &mut &[u8]) -> Option<[u8; L]> {
    let (head, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*head)
}

fn take(from: &mut &[u8]) -> Option<u64> {
    array(from).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_row_reads_back_and_no_shorter_or_longer_one_does() {
        let mut usage = Usage::default();
        for n in 0..50 {
            usage.charge(Amount::from_trm(n), n, Timestamp::from_ms(n * 1_234_567));
        }
        usage.told = [1, 2, 3, 4, 5, 6, 7, 8];
        let row = usage.to_row();
        assert_eq!(Usage::from_row(&row), Some(usage));
        for len in 0..row.len() {
            assert_eq!(Usage::from_row(row.get(..len).unwrap_or(&[])), None);
        }
        assert_eq!(Usage::from_row(&[row.as_slice(), &[0]].concat()), None);
    }

    #[test]
    fn a_window_forgets_what_left_it_and_says_when_it_falls() {
        let mut ring = HourRing::default();
        let start = Timestamp::from_ms(1_000 * HOUR + 59_999);
        ring.add(start, 5);
        ring.add(start.after_ms(600_000), 7);
        assert_eq!(ring.sum(start.after_ms(HOUR)), 12, "partly inside counts");
        assert_eq!(ring.sum(start.after_ms(HOUR + 60_000)), 7);
        let falls = ring.falls_to(7, start.after_ms(600_000));
        assert_eq!(falls, Timestamp::from_ms(1_001 * HOUR + 60_000));
        assert_eq!(ring.sum(falls), 7);
        assert_eq!(ring.sum(Timestamp::from_ms(falls.ms() - 1)), 12);
        ring.take_back(start, 5);
        assert_eq!(ring.sum(start.after_ms(600_000)), 7);
        ring.add(start.after_ms(30 * HOUR), 1);
        assert_eq!(ring.sum(start.after_ms(30 * HOUR)), 1);
        // What has left the window takes nothing off newer buckets at the same place.
        ring.take_back(start.after_ms(600_000), 7);
        assert_eq!(ring.sum(start), 1, "an earlier clock frees nothing");
    }

    #[test]
    fn the_same_request_is_counted_for_ten_minutes() {
        let mut usage = Usage::default();
        let start = Timestamp::from_ms(HOUR);
        for n in 0..3 {
            usage.charge(Amount::ZERO, 9, start.after_ms(n * 1_000));
            usage.charge(Amount::ZERO, 8, start.after_ms(n * 1_000));
        }
        let now = start.after_ms(2_000);
        assert_eq!(usage.same(9, now), 3);
        assert_eq!(usage.same(7, now), 0);
        let falls = usage.same_falls_below(9, 2, now);
        assert_eq!(falls, start.after_ms(LOOP_MS + 1_000));
        assert_eq!(usage.same(9, falls), 1);
    }

    #[test]
    fn what_was_bought_least_often_and_longest_ago_is_forgotten_first() {
        let mut usage = Usage::default();
        let start = Timestamp::from_ms(HOUR);
        let at = |n: u64| start.after_ms(n * 1_000);
        for request in 1..=32 {
            usage.charge(Amount::ZERO, request, at(request));
        }
        // Full: whoever comes again stays, and the oldest of the others goes.
        usage.charge(Amount::ZERO, 1, at(33));
        let counts = |usage: &Usage, now| [1, 2, 3, 4, 33].map(|n| usage.same(n, now));
        assert_eq!(counts(&usage, at(33)), [2, 0, 1, 1, 0]);
        usage.charge(Amount::ZERO, 33, at(34));
        assert_eq!(counts(&usage, at(34)), [2, 0, 0, 1, 1]);
        // What is too old to count goes before anything that counts.
        let later = at(33).after_ms(LOOP_MS - 1);
        usage.charge(Amount::ZERO, 2, later);
        assert_eq!(counts(&usage, later), [1, 1, 0, 0, 1]);
        assert_eq!(usage.same(2, later.after_ms(LOOP_MS - 1)), 1);
        assert_eq!(usage.same(2, later.after_ms(LOOP_MS)), 0);
        // Also when it was bought often, and what counts only once.
        let mut usage = Usage::default();
        for n in 0..31 {
            usage.charge(Amount::ZERO, 7, at(n));
        }
        let later = at(31).after_ms(LOOP_MS);
        usage.charge(Amount::ZERO, 8, later);
        usage.charge(Amount::ZERO, 9, later);
        assert_eq!([7, 8, 9].map(|n| usage.same(n, later)), [0, 1, 1]);
        // Alone in the memory it is counted to the end.
        let mut usage = Usage::default();
        for n in 0..40 {
            usage.charge(Amount::ZERO, 7, at(n));
        }
        assert_eq!(usage.same(7, at(40)), 32);
    }
}
