//! Peers that know the protocol and do not keep to it. A cheat is a row: what is done, what the log of the one
//! that is cheated says of it, and what it costs. Whoever is cheated loses what that row says and no more, and
//! everybody else trades as before.
#![expect(
    clippy::indexing_slicing,
    reason = "a row changes words whose place it knows"
)]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

#[path = "dishonest/claims.rs"]
mod claims;
#[path = "dishonest/consumer.rs"]
mod consumer;
#[path = "dishonest/consumers.rs"]
mod consumers;
#[path = "dishonest/provider.rs"]
mod provider;
#[path = "dishonest/providers.rs"]
mod providers;
#[path = "dishonest/witness.rs"]
mod witness;

/// How the log is read: from the default on, or with details.
const DEFAULT: tracing::Level = tracing::Level::WARN;
const DETAILS: tracing::Level = tracing::Level::DEBUG;

/// What this thread's nodes say in their logs while this lives.
struct Log {
    lines: Lines,
    _from_now_on: tracing::subscriber::DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn from(level: tracing::Level) -> Self {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        Self {
            lines,
            _from_now_on: tracing::subscriber::set_default(subscriber),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.lines.0.lock().unwrap()).into_owned()
    }

    /// Waits until a reason is in it.
    async fn comes(&self, why: &str, what: &str) {
        let there = async || self.text().contains(why).then_some(());
        let there = tokio::time::timeout(Duration::from_secs(20), until(what, there)).await;
        assert!(there.is_ok(), "{what}: '{why}' is not in:\n{}", self.text());
    }

    /// Asserts that a reason is in it.
    #[track_caller]
    fn says(&self, why: &str, what: &str) {
        let text = self.text();
        assert!(text.contains(why), "{what}: '{why}' is not in:\n{text}");
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// So much time passes at once, for everything that waits.
async fn passes(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// A deadline for what should happen at once.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let soon = tokio::time::timeout(Duration::from_mins(10), future).await;
    soon.unwrap_or_else(|_| panic!("{what}: it never ends"))
}

/// Looks until there is something to see.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let seen = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    };
    soon(what, seen).await
}
