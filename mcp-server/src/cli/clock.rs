//! The time, for the two commands that compare a document or a clock with it and have no node.

use tirami_manifest::Timestamp;

/// The machine's time.
pub(super) fn now() -> Timestamp {
    tirami_agent_runtime::clock::now()
}
