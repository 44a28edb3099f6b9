//! The time, for the two commands that compare a document or a clock with it and have no node.

use std::time::SystemTime;

use tirami_manifest::Timestamp;

/// The machine's time.
#[expect(
    clippy::disallowed_methods,
    reason = "a check of a manifest or of the clock itself has no node whose clock could be asked"
)]
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
