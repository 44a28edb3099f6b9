//! OpenAI's routes in OpenAI's shapes; ours live under `x_tirami`.

pub(crate) mod answer;
pub(crate) mod chat;
pub(crate) mod error;
pub(crate) mod models;
pub(crate) mod request;
pub(crate) mod stream;

/// Seconds since 1970, which OpenAI's shapes carry.
fn created() -> u64 {
    tirami_agent_runtime::clock::now().ms() / 1_000
}
