//! OpenAI's routes in OpenAI's shapes; ours live under `x_tirami`.

pub(crate) mod answer;
pub(crate) mod chat;
pub(crate) mod error;
pub(crate) mod models;
pub(crate) mod request;
pub(crate) mod stream;

use std::time::SystemTime;

/// Seconds since 1970, which OpenAI's shapes carry.
#[expect(
    clippy::disallowed_methods,
    reason = "OpenAI's shapes show the time; nothing is decided by it"
)]
fn created() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
