//! Time as data. Nothing here reads a clock; whoever needs the time is handed a [`Clock`].

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// Wraps milliseconds since 1970.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970.
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// The moment `ms` milliseconds later.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here; zero when `earlier` is later.
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// RFC 3339 in UTC with milliseconds, such as `2026-01-31T12:00:00.250Z`.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "civil-from-days arithmetic stays far inside 64 bits for any u64 of milliseconds"
    )]
    pub fn to_rfc3339(self) -> String {
        let (ms, secs) = (self.0 % 1_000, self.0 / 1_000);
        let (days, rest) = (secs / 86_400, secs % 86_400);
        // Howard Hinnant's civil_from_days, for days since 1970 that are never negative.
        let z = days + 719_468;
        let era = z / 146_097;
        let doe = z % 146_097;
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }

    /// The moment that [`Timestamp::to_rfc3339`] writes so; `None` for anything else, and for another way to
    /// write the same moment.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let mut numbers = text.split(['-', 'T', ':', '.', 'Z']);
        let mut next = || numbers.next()?.parse::<u64>().ok();
        let (year, month, day) = (next()?, next()?, next()?);
        let (hour, minute, second, ms) = (next()?, next()?, next()?, next()?);
        // Howard Hinnant's days_from_civil; whatever the numbers are, what follows is compared below.
        let year = year.checked_sub(u64::from(month <= 2))?;
        let shifted = month.checked_add(9)?.checked_rem(12)?;
        let of_year = shifted.checked_mul(153)?.checked_add(2)? / 5;
        let (era, of_era) = (year / 400, year % 400);
        let days = era
            .checked_mul(146_097)?
            .checked_add(of_era.checked_mul(365)?)?
            .checked_add((of_era / 4).checked_sub(of_era / 100)?)?
            .checked_add(of_year.checked_add(day)?)?
            .checked_sub(719_469)?;
        let mut total = days;
        for (times, more) in [(24, hour), (60, minute), (60, second), (1_000, ms)] {
            total = total.checked_mul(times)?.checked_add(more)?;
        }
        let moment = Self(total);
        (moment.to_rfc3339() == text).then_some(moment)
    }
}

/// Where the time comes from: the machine's clock in a node, a number in a test.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall-clock time, which somebody may set forward and back.
    fn now(&self) -> Timestamp;

    /// Milliseconds since some moment, which nobody sets: for how long something took.
    fn elapsed_ms(&self) -> u64;

    /// How many minutes the local time was or will be ahead of UTC at that moment.
    fn ahead_of_utc_minutes(&self, _at: Timestamp) -> i16 {
        0
    }
}

/// A clock that says what it was told; for tests and simulation.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: std::sync::atomic::AtomicU64,
    elapsed: std::sync::atomic::AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now: now.0.into(),
            elapsed: 0.into(),
        }
    }

    /// Lets time pass.
    pub fn advance_ms(&self, ms: u64) {
        self.now.fetch_add(ms, std::sync::atomic::Ordering::SeqCst);
        self.elapsed
            .fetch_add(ms, std::sync::atomic::Ordering::SeqCst);
    }

    /// Sets the clock, backwards too; no time passes.
    pub fn set(&self, now: Timestamp) {
        self.now.store(now.0, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(std::sync::atomic::Ordering::SeqCst))
    }

    fn elapsed_ms(&self) -> u64 {
        self.elapsed.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_matches_known_dates() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(Timestamp::from_ms(ms).to_rfc3339(), text);
        }
    }

    #[test]
    fn rfc3339_is_read_back_in_one_form_only() {
        // Every day of some centuries, and what is far away.
        let days = (0..400 * 366_u64).map(|day| day * 86_400_000 + day);
        for ms in days.chain([253_402_300_800_000, 1 << 60, u64::MAX]) {
            let moment = Timestamp::from_ms(ms);
            let text = moment.to_rfc3339();
            assert_eq!(Timestamp::from_rfc3339(&text), Some(moment), "{text}");
        }
        for text in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00Z",
            "1970-01-01T00:00:00.000",
            "1970-01-01T00:00:00.000+00:00",
            "1970-01-01 00:00:00.000Z",
            "1970-1-01T00:00:00.000Z",
            "1970-01-01T00:00:60.000Z",
            "1970-02-30T00:00:00.000Z",
            "1970-13-01T00:00:00.000Z",
            "1970-00-01T00:00:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "+970-01-01T00:00:00.000Z",
            "99999999999999999999-01-01T00:00:00.000Z",
            "18446744073709551615-01-01T00:00:00.000Z",
        ] {
            assert_eq!(Timestamp::from_rfc3339(text), None, "{text}");
        }
    }
}
