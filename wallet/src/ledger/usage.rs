//! What was used of a mandate: what its windows hold, and what the breakers count.
//!
//! The layout is fixed and little-endian. A row is read and changed where it lies: a spend looks at a
//! few words of it, for each mandate above it.

use tirami_manifest::{Amount, Timestamp};

use super::window::{DayRing, HourRing, MinuteRing, Ring};

/// Eight bytes of a row: a number.
type Word = [u8; 8];

/// What one mandate paid to one payee in the last 24 hours: the highest share of that limit that was
/// told of, in percent, then a [`DayRing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayeeUsage<B = Vec<u8>>(B);

/// Bytes of such a row.
const PAYEE_BYTES: usize = 1 + DayRing::<()>::BYTES;

impl Default for PayeeUsage {
    fn default() -> Self {
        Self(vec![0; PAYEE_BYTES])
    }
}

impl<'a> PayeeUsage<&'a mut [u8]> {
    /// A row to be changed where it lies; an empty one becomes that of a payee who was paid nothing.
    pub(crate) fn in_place(row: &'a mut Vec<u8>) -> Option<Self> {
        if row.is_empty() {
            row.resize(PAYEE_BYTES, 0);
        }
        Self::from_row(row)
    }
}

impl<B: AsRef<[u8]>> PayeeUsage<B> {
    /// Reads a row.
    pub(crate) fn from_row(row: B) -> Option<Self> {
        (row.as_ref().len() == PAYEE_BYTES).then_some(Self(row))
    }

    pub(crate) fn told(&self) -> u8 {
        self.0.as_ref().first().copied().unwrap_or(0)
    }

    /// What was paid.
    pub fn day(&self) -> DayRing<&[u8]> {
        Ring(self.0.as_ref().get(1..).unwrap_or_default())
    }
}

impl<B: AsMut<[u8]>> PayeeUsage<B> {
    pub(crate) fn tell(&mut self, percent: u8) {
        if let Some(told) = self.0.as_mut().first_mut() {
            *told = percent;
        }
    }

    pub(crate) fn day_mut(&mut self) -> DayRing<&mut [u8]> {
        Ring(self.0.as_mut().get_mut(1..).unwrap_or_default())
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

// Where each field lies.
const USED: usize = 1;
const OPEN: usize = USED + 16;
const ERRORS: usize = OPEN + 4;
const FAILED: usize = ERRORS + 4;
const MINUTE: usize = FAILED + 8;
const HOUR: usize = MINUTE + MinuteRing::<()>::BYTES;
const DAY: usize = HOUR + HourRing::<()>::BYTES;
const SPENDS: usize = DAY + DayRing::<()>::BYTES;
const LATELY: usize = SPENDS + MinuteRing::<()>::BYTES;
const TOLD: usize = LATELY + 16 * RECENT;
const BYTES: usize = TOLD + 8;

/// What was used of one mandate, as its row: the version, what was spent and set aside since it
/// began, holds open, failures in a row and when the last was, four windows, what was asked for
/// lately, and of which shares of which limits was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage<B = Vec<u8>>(B);

impl Default for Usage {
    fn default() -> Self {
        let mut row = Vec::new();
        begin(&mut row);
        Self(row)
    }
}

/// Makes of no bytes the row of a mandate that was never used.
fn begin(row: &mut Vec<u8>) {
    row.resize(BYTES, 0);
    if let Some(version) = row.first_mut() {
        *version = VERSION;
    }
}

/// What the rules ask of a mandate's usage, for one purchase at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub(crate) used_in_all: Amount,
    pub(crate) open: u32,
    pub(crate) errors: u32,
    pub(crate) failed: Timestamp,
    pub(crate) minute: u64,
    pub(crate) hour: u64,
    pub(crate) day: u64,
    pub(crate) spends: u64,
    pub(crate) same: u64,
    pub(crate) told: [u8; 8],
}

/// A request that was bought: the first 8 bytes of its hash, and when.
fn bought(pair: &[Word; 2]) -> (u64, u64) {
    let [what, when] = pair;
    (u64::from_le_bytes(*what), u64::from_le_bytes(*when))
}

/// The earliest that counts at `now`. Zero is never, and not that.
fn counts_since(now: Timestamp) -> u64 {
    let ago = LOOP_MS.saturating_sub(1);
    now.ms().saturating_sub(ago).max(1)
}

impl<'a> Usage<&'a mut [u8]> {
    /// A row to be changed where it lies; an empty one becomes that of a mandate never used.
    pub(crate) fn in_place(row: &'a mut Vec<u8>) -> Option<Self> {
        if row.is_empty() {
            begin(row);
        }
        Self::from_row(row)
    }
}

impl<B: AsRef<[u8]>> Usage<B> {
    /// Reads a row.
    pub(crate) fn from_row(row: B) -> Option<Self> {
        let bytes = row.as_ref();
        (bytes.first() == Some(&VERSION) && bytes.len() == BYTES).then_some(Self(row))
    }

    fn field<const L: usize>(&self, at: usize) -> [u8; L] {
        let field = self
            .0
            .as_ref()
            .get(at..)
            .and_then(|rest| rest.first_chunk());
        field.copied().unwrap_or([0; L])
    }

    fn part(&self, at: usize, len: usize) -> &[u8] {
        let part = self.0.as_ref().get(at..).and_then(|rest| rest.get(..len));
        part.unwrap_or_default()
    }

    /// Spent and set aside since the mandate began, in µTRM.
    pub fn used(&self) -> u128 {
        u128::from_le_bytes(self.field(USED))
    }

    /// Holds open now.
    pub fn open(&self) -> u32 {
        u32::from_le_bytes(self.field(OPEN))
    }

    /// Purchases that failed since the last that did not.
    pub fn errors(&self) -> u32 {
        u32::from_le_bytes(self.field(ERRORS))
    }

    /// When the last of them failed.
    pub fn failed(&self) -> Timestamp {
        Timestamp::from_ms(u64::from_le_bytes(self.field(FAILED)))
    }

    /// µTRM in the last 60 seconds.
    pub fn minute(&self) -> MinuteRing<&[u8]> {
        Ring(self.part(MINUTE, MinuteRing::<()>::BYTES))
    }

    /// µTRM in the last 60 minutes.
    pub fn hour(&self) -> HourRing<&[u8]> {
        Ring(self.part(HOUR, HourRing::<()>::BYTES))
    }

    /// µTRM in the last 24 hours.
    pub fn day(&self) -> DayRing<&[u8]> {
        Ring(self.part(DAY, DayRing::<()>::BYTES))
    }

    /// Purchases in the last 60 seconds.
    pub fn spends(&self) -> MinuteRing<&[u8]> {
        Ring(self.part(SPENDS, MinuteRing::<()>::BYTES))
    }

    /// What was asked for lately and when. Sorted, so that equal requests lie side by side, the
    /// oldest first.
    fn lately(&self) -> &[[Word; 2]] {
        let (words, _) = self.part(LATELY, 16 * RECENT).as_chunks::<8>();
        words.as_chunks().0
    }

    /// Per limit, the highest share of it in percent that was told of, zero below the first; in the
    /// order of the limits in the gate: minute, hour, day, lifetime, in flight, spends.
    pub(crate) fn told(&self) -> [u8; 8] {
        self.field(TOLD)
    }

    /// What was spent and set aside in all.
    pub fn used_in_all(&self) -> Amount {
        Amount::try_from(self.used()).unwrap_or(Amount::MAX)
    }

    /// When this request was bought, as far as it counts, the earliest first.
    fn bought_at(&self, request: u64, now: Timestamp) -> impl Iterator<Item = u64> + '_ {
        let lately = self.lately();
        let counts = (request, counts_since(now));
        let first = lately.partition_point(|pair| bought(pair) < counts);
        let same = lately.get(first..).unwrap_or_default().iter().map(bought);
        same.take_while(move |(what, _)| *what == request)
            .map(|(_, when)| when)
    }

    /// How often this request was bought in the last ten minutes.
    pub(crate) fn same(&self, request: u64, now: Timestamp) -> u64 {
        u64::try_from(self.bought_at(request, now).count()).unwrap_or(u64::MAX)
    }

    /// When this request will have been bought less than `most` times in ten minutes.
    pub(crate) fn same_falls_below(&self, request: u64, most: u64, now: Timestamp) -> Timestamp {
        let excess = self.same(request, now).saturating_sub(most);
        let last = usize::try_from(excess).unwrap_or(usize::MAX);
        let when = self.bought_at(request, now).nth(last);
        when.map_or(now, |when| Timestamp::from_ms(when).after_ms(LOOP_MS))
    }

    /// Which remembered request makes room: one that is too old to count; else one of those that
    /// were bought least often, the oldest first, so that a loop over several requests shows too.
    fn place_for(&self, request: u64, now: Timestamp) -> usize {
        let lately = self.lately();
        let since = counts_since(now);
        let free = lately.iter().position(|pair| bought(pair).1 < since);
        let least = || {
            let (mut start, mut least) = (0_usize, None);
            for run in lately.chunk_by(|[a, _], [b, _]| a == b) {
                let place = start;
                start = start.saturating_add(run.len());
                let first = run.first().map(bought);
                if let Some((what, when)) = first.filter(|(what, _)| *what != request) {
                    let worth = (run.len(), when, place, what);
                    least = Some(least.map_or(worth, |best| worth.min(best)));
                }
            }
            least.map_or(0, |(_, _, place, _)| place)
        };
        free.unwrap_or_else(least)
    }

    /// The row's bytes.
    pub(crate) fn row(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// What the rules ask.
    pub(crate) fn figures(&self, request: u64, now: Timestamp) -> Figures {
        Figures {
            used_in_all: self.used_in_all(),
            open: self.open(),
            errors: self.errors(),
            failed: self.failed(),
            minute: self.minute().sum(now),
            hour: self.hour().sum(now),
            day: self.day().sum(now),
            spends: self.spends().sum(now),
            same: self.same(request, now),
            told: self.told(),
        }
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Usage<B> {
    fn set<const L: usize>(&mut self, at: usize, value: [u8; L]) {
        if let Some(field) = self
            .0
            .as_mut()
            .get_mut(at..)
            .and_then(|r| r.first_chunk_mut())
        {
            *field = value;
        }
    }

    fn part_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        let part = self
            .0
            .as_mut()
            .get_mut(at..)
            .and_then(|rest| rest.get_mut(..len));
        part.unwrap_or_default()
    }

    pub(crate) fn set_used(&mut self, utrm: u128) {
        self.set(USED, utrm.to_le_bytes());
    }

    pub(crate) fn set_open(&mut self, holds: u32) {
        self.set(OPEN, holds.to_le_bytes());
    }

    /// Something was bought.
    pub(crate) fn succeeds(&mut self) {
        self.set(ERRORS, 0_u32.to_le_bytes());
    }

    /// A purchase failed.
    pub(crate) fn fails(&mut self, now: Timestamp) {
        self.set(ERRORS, self.errors().saturating_add(1).to_le_bytes());
        self.set(FAILED, now.ms().to_le_bytes());
    }

    pub(crate) fn minute_mut(&mut self) -> MinuteRing<&mut [u8]> {
        Ring(self.part_mut(MINUTE, MinuteRing::<()>::BYTES))
    }

    pub(crate) fn hour_mut(&mut self) -> HourRing<&mut [u8]> {
        Ring(self.part_mut(HOUR, HourRing::<()>::BYTES))
    }

    pub(crate) fn day_mut(&mut self) -> DayRing<&mut [u8]> {
        Ring(self.part_mut(DAY, DayRing::<()>::BYTES))
    }

    fn spends_mut(&mut self) -> MinuteRing<&mut [u8]> {
        Ring(self.part_mut(SPENDS, MinuteRing::<()>::BYTES))
    }

    pub(crate) fn tell(&mut self, told: [u8; 8]) {
        self.set(TOLD, told);
    }

    /// Counts a purchase of `amount` at `now`, which is over when its hold ends.
    pub(crate) fn charge(&mut self, amount: Amount, request: u64, now: Timestamp) {
        self.set_open(self.open().saturating_add(1));
        self.charge_at_once(amount, request, now);
    }

    /// Counts a purchase of `amount` at `now`, which is over already.
    pub(crate) fn charge_at_once(&mut self, amount: Amount, request: u64, now: Timestamp) {
        let utrm = amount.utrm();
        self.set_used(self.used().saturating_add(u128::from(utrm)));
        self.minute_mut().add(now, utrm);
        self.hour_mut().add(now, utrm);
        self.day_mut().add(now, utrm);
        self.spends_mut().add(now, 1);
        self.remember(request, now);
    }

    /// Puts a request among those asked for lately, in the place of one that makes room.
    fn remember(&mut self, request: u64, now: Timestamp) {
        let new = (request, now.ms());
        let gone = self.place_for(request, now);
        let end = self.lately().partition_point(|pair| bought(pair) < new);
        let (words, _) = self.part_mut(LATELY, 16 * RECENT).as_chunks_mut::<8>();
        let lately = words.as_chunks_mut::<2>().0;
        // What lies between moves by one over the place that was made.
        let place = if gone < end {
            if let Some(between @ [_, ..]) = lately.get_mut(gone..end) {
                between.copy_within(1.., 0);
            }
            end.saturating_sub(1)
        } else {
            if let Some(between @ [.., _]) = lately.get_mut(end..=gone) {
                between.copy_within(..between.len().saturating_sub(1), 1);
            }
            end
        };
        if let Some(place) = lately.get_mut(place) {
            let (what, when) = new;
            *place = [what.to_le_bytes(), when.to_le_bytes()];
        }
    }

    /// A hold made at `when` ended and left `unspent` of what it was charged.
    pub(crate) fn ended(&mut self, unspent: Amount, when: Timestamp) {
        let utrm = unspent.utrm();
        self.set_used(self.used().saturating_sub(u128::from(utrm)));
        self.set_open(self.open().saturating_sub(1));
        self.minute_mut().take_back(when, utrm);
        self.hour_mut().take_back(when, utrm);
        self.day_mut().take_back(when, utrm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour in milliseconds.
    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn a_row_reads_back_and_no_shorter_or_longer_one_does() {
        let mut usage = Usage::default();
        for n in 0..50 {
            usage.charge(Amount::from_trm(n), n, Timestamp::from_ms(n * 1_234_567));
        }
        usage.tell([1, 2, 3, 4, 5, 6, 7, 8]);
        let row = usage.0.clone();
        assert_eq!(Usage::from_row(row.clone()), Some(usage));
        for len in 0..row.len() {
            assert_eq!(
                Usage::from_row(row.get(..len).unwrap_or(&[]).to_vec()),
                None
            );
        }
        assert_eq!(Usage::from_row([row.as_slice(), &[0]].concat()), None);
        let other = [&[2], row.get(1..).unwrap_or_default()].concat();
        assert_eq!(Usage::from_row(other), None, "of another version");
    }

    #[test]
    fn a_row_keeps_its_layout() {
        // It is in files: another place for a field needs another version.
        let fields = [
            USED, OPEN, ERRORS, FAILED, MINUTE, HOUR, DAY, SPENDS, LATELY, TOLD, BYTES,
        ];
        assert_eq!(
            fields,
            [1, 17, 21, 25, 33, 537, 1041, 1833, 2337, 2849, 2857]
        );
        assert_eq!(PAYEE_BYTES, 793);
    }

    #[test]
    fn the_same_request_is_counted_for_ten_minutes() {
        let mut usage = Usage::default();
        let start = Timestamp::from_ms(HOUR_MS);
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
        let start = Timestamp::from_ms(HOUR_MS);
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
        // What counts for its last millisecond does not.
        let mut usage = Usage::default();
        for n in 0..3 {
            usage.charge(Amount::ZERO, 7, at(0));
            usage.charge(Amount::ZERO, 100 + n, at(1));
        }
        for request in 1..=26 {
            usage.charge(Amount::ZERO, 200 + request, at(2));
        }
        let last = at(0).after_ms(LOOP_MS - 1);
        usage.charge(Amount::ZERO, 300, last);
        assert_eq!([7, 100, 300].map(|n| usage.same(n, last)), [3, 0, 1]);
        // Alone in the memory it is counted to the end.
        let mut usage = Usage::default();
        for n in 0..40 {
            usage.charge(Amount::ZERO, 7, at(n));
        }
        assert_eq!(usage.same(7, at(40)), 32);
    }
}
