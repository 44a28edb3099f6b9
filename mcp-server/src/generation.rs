//! An answer while it is being bought: pieces of text as they come, then the result.
//!
//! The purchase runs in a task of its own inside [`Access`]. Dropping a [`Generation`] drops the
//! receiver of its text, which tells the node that nobody listens any more.

use std::fmt;
use std::pin::Pin;

use tirami_agent_runtime::failure::Failure;
use tirami_agent_runtime::ops::{Chat, ChatOutput};
use tokio::sync::mpsc;

use crate::access::Access;

/// Pieces of text that wait for a slow reader; when full, the generation waits.
const PIECES_MAX: usize = 64;

/// What happens next.
#[derive(Debug)]
pub(crate) enum Step {
    /// More text.
    Text(String),
    /// The end; nothing comes after it.
    Done(Box<Result<ChatOutput, Failure>>),
}

/// An answer while it is being bought.
pub(crate) struct Generation {
    call: Pin<Box<dyn Future<Output = Result<ChatOutput, Failure>> + Send>>,
    text: mpsc::Receiver<String>,
    result: Option<Result<ChatOutput, Failure>>,
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").finish_non_exhaustive()
    }
}

impl Generation {
    /// Starts the purchase for the agent whose token this is.
    pub(crate) fn start(access: &Access, token: &str, chat: Chat) -> Self {
        let (sink, text) = mpsc::channel(PIECES_MAX);
        let (access, token) = (access.clone(), token.to_owned());
        let call = Box::pin(async move { access.call_streaming(&token, chat, sink).await });
        Self {
            call,
            text,
            result: None,
        }
    }

    /// What happens next. Not to be called after [`Step::Done`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Step {
        if self.result.is_none() {
            tokio::select! {
                biased;
                Some(text) = self.text.recv() => return Step::Text(text),
                result = &mut self.call => self.result = Some(result),
            }
        }
        // Whatever was sent before the end is in the channel by now.
        if let Ok(text) = self.text.try_recv() {
            return Step::Text(text);
        }
        let result = self
            .result
            .take()
            .expect("the result is there once the call has ended");
        Step::Done(Box::new(result))
    }
}
