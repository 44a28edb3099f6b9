//! The one place that asks what time it is or throws dice.
#![expect(
    clippy::disallowed_methods,
    reason = "this file is what everyone else is sent to"
)]

use std::sync::LazyLock;
use std::time::{Instant, SystemTime};

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
