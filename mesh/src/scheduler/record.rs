//! What one provider's jobs came to, as one consumer saw them, and whether it is asked now.
//!
//! Only what this node saw itself counts. A provider that failed some times in a row is not asked for a while,
//! then once; a job that it does well makes it one like any other. Integers only, and no clock: the time is
//! told, in milliseconds of any one clock.

use tirami_manifest::Amount;

/// Failures in a row after which a provider is not asked for a while; chosen: one may be bad luck, and each
/// may cost a prepaid prompt and a chunk.
pub const FAILURES_MAX: u32 = 3;

/// How long it is not asked, at first; chosen: about as long as a restart takes with a model to load.
pub const SHUT_MS: u64 = 30_000;

/// The most; each failure after a pause doubles it up to this.
pub const SHUT_MOST_MS: u64 = 600_000;

/// Jobs over which failures are remembered, about; chosen: what was ten jobs ago weighs a quarter.
const MEMORY: u32 = 8;

const MILLION: u32 = 1_000_000;

/// What one provider's jobs came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Share of its jobs that failed, the last ones counting most, in parts per million.
    failed_ppm: u32,
    in_a_row: u32,
    /// When the last of them was noticed.
    failed_at: Option<u64>,
    shut: Option<Shut>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shut {
    until_ms: u64,
    pause_ms: u64,
}

impl Record {
    /// A job came to its receipt.
    pub fn succeeded(&mut self) {
        self.failed_ppm -= self.failed_ppm.div_ceil(MEMORY);
        (self.in_a_row, self.failed_at, self.shut) = (0, None, None);
    }

    /// A job that was begun then broke off, and not by a fault of this node. Jobs that ran side by side when
    /// one thing went wrong, a cable pulled out, are one failure in the row, however many they are.
    pub fn failed(&mut self, begun_ms: u64, now_ms: u64) {
        self.failed_ppm += MILLION.saturating_sub(self.failed_ppm) / MEMORY;
        if self.failed_at.is_some_and(|failed_at| begun_ms < failed_at) {
            return;
        }
        self.failed_at = Some(now_ms);
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row >= FAILURES_MAX {
            let pause_ms = self.shut.map_or(SHUT_MS, |shut| {
                shut.pause_ms.saturating_mul(2).min(SHUT_MOST_MS)
            });
            self.shut = Some(Shut {
                until_ms: now_ms.saturating_add(pause_ms),
                pause_ms,
            });
        }
    }

    /// How long it is not asked yet, in milliseconds.
    pub fn shut_for(&self, now_ms: u64) -> Option<u64> {
        let left = self.shut?.until_ms.saturating_sub(now_ms);
        (left > 0).then_some(left)
    }

    /// It is given a job. After a pause that is one alone: others wait for what comes of it.
    pub fn tried(&mut self, now_ms: u64) {
        if let Some(shut) = &mut self.shut {
            shut.until_ms = now_ms.saturating_add(shut.pause_ms);
        }
    }

    /// What it was given ended for another reason: the next job may try it.
    pub fn not_judged(&mut self, now_ms: u64) {
        if let Some(shut) = &mut self.shut {
            shut.until_ms = now_ms;
        }
    }

    /// Failures in a row.
    pub const fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// Whether there is nothing to remember.
    pub const fn is_clean(&self) -> bool {
        self.failed_ppm == 0 && self.in_a_row == 0
    }

    /// What a failure may cost of a job at this price, by how often one is to be expected.
    pub fn risk(&self, price: Amount) -> u128 {
        u128::from(price.utrm()) * u128::from(self.failed_ppm) / u128::from(MILLION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price() -> Amount {
        Amount::from_utrm(1_000_000).unwrap()
    }

    #[test]
    fn three_failures_in_a_row_shut_it_and_one_try_alone_opens_it_again() {
        let mut record = Record::default();
        for now in [10, 20] {
            record.failed(now, now);
            assert_eq!(record.shut_for(now), None);
        }
        record.failed(30, 30);
        assert_eq!(record.shut_for(30), Some(SHUT_MS));
        assert_eq!(record.shut_for(30 + SHUT_MS - 1), Some(1));
        let later = 30 + SHUT_MS;
        assert_eq!(record.shut_for(later), None, "its turn has come");
        record.tried(later);
        assert_eq!(record.shut_for(later), Some(SHUT_MS), "one alone tries");
        record.not_judged(later);
        assert_eq!(record.shut_for(later), None, "and nothing came of that");
        record.succeeded();
        assert_eq!((record.shut_for(later), record.in_a_row()), (None, 0));
    }

    #[test]
    fn jobs_that_ran_side_by_side_fail_once() {
        let mut record = Record::default();
        for now in 100..200 {
            record.failed(50, now);
        }
        assert_eq!((record.in_a_row(), record.shut_for(200)), (1, None));
        assert!(record.risk(price()) > 900_000, "each weighs all the same");
        for begun in [200, 300] {
            record.failed(begun, begun + 50);
        }
        assert_eq!(record.shut_for(350), Some(SHUT_MS));
        // One that was begun before it was shut makes the pause no longer.
        record.failed(340, 360);
        assert_eq!(record.shut_for(360), Some(SHUT_MS - 10));
    }

    #[test]
    fn each_pause_is_twice_the_last_up_to_the_most() {
        let (mut record, mut now, mut pauses) = (Record::default(), 0, Vec::new());
        for _ in 0..9 {
            record.tried(now);
            record.failed(now, now);
            if let Some(pause) = record.shut_for(now) {
                pauses.push(pause / 1_000);
                now += pause;
            }
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
        record.succeeded();
        for _ in 0..3 {
            record.failed(now, now);
        }
        assert_eq!(record.shut_for(now), Some(SHUT_MS), "it begins anew");
    }

    #[test]
    fn what_failed_weighs_in_the_price_and_is_forgotten_job_by_job() {
        let mut record = Record::default();
        assert_eq!(record.risk(price()), 0);
        record.failed(0, 0);
        assert_eq!(record.risk(price()), 125_000, "an eighth");
        for _ in 0..1_000 {
            record.failed(0, 0);
        }
        assert!(record.risk(price()) > 999_000);
        assert!(record.risk(price()) <= 1_000_000);
        let mut jobs = 0;
        while !record.is_clean() {
            let before = record.risk(price());
            record.succeeded();
            assert!(record.risk(price()) < before);
            jobs += 1;
        }
        assert!((40..200).contains(&jobs), "{jobs}");
    }
}
