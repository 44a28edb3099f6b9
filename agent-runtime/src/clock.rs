//! The one place that asks what time it is or throws dice.
#![expect(
    clippy::disallowed_methods,
    reason = "this file is what everyone else is sent to"
)]

use std::sync::LazyLock;
use std::time::{Instant, SystemTime};

use jiff::tz::TimeZone;
use tirami_manifest::{Clock, Timestamp};

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemClock;

/// What [`Clock::elapsed_ms`] counts from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn ahead_of_utc_minutes(&self, at: Timestamp) -> i16 {
        let moment = i64::try_from(at.ms()).ok();
        let moment = moment.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let seconds = moment.map_or(0, |at| TimeZone::system().to_offset(at).seconds());
        i16::try_from(seconds / 60).unwrap_or(0)
    }
}

/// The machine's time, for a door that has no node to ask.
pub fn now() -> Timestamp {
    SystemClock.now()
}

/// Bytes from the system's random generator.
///
/// # Panics
///
/// When the system has none: nothing here can be done safely without.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}
