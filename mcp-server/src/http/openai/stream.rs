//! An answer as server-sent events: each piece of text as it comes, then the cost, then `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tirami_agent_runtime::failure::{Failure, FailureCode};
use tirami_agent_runtime::ops::ChatOutput;
use tokio::time::Duration;

use super::answer::Pieces;
use super::error::ApiError;
use crate::generation::{Generation, Step};
use crate::http::guard::Room;

/// A comment is sent when nothing else was for this long, so that nobody takes the line for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A stream on its way. Dropping it, when the caller hangs up, drops the generation.
#[derive(Debug)]
pub(crate) struct TextStream {
    pub(crate) generation: Generation,
    pub(crate) pieces: Pieces,
    /// The purchase's key, and whether the caller chose it.
    pub(crate) key: (String, bool),
    /// Keeps this request counted while the stream lasts.
    #[expect(dead_code, reason = "held, not read")]
    pub(crate) room: Room,
}

/// Where a stream stands.
struct Telling {
    stream: TextStream,
    told: String,
    waiting: VecDeque<Event>,
    ended: bool,
}

impl TextStream {
    /// Waits for the first text, so that a refusal still is an HTTP error, then streams.
    pub(crate) async fn respond(mut self) -> Response {
        let first = self.generation.next().await;
        if let Step::Done(result) = &first
            && let Err(failure) = &**result
        {
            return self.error(failure.clone()).into_response();
        }
        let role = self
            .pieces
            .choice(&json!({ "role": "assistant", "content": "" }), None);
        let mut telling = Telling {
            stream: self,
            told: String::new(),
            waiting: VecDeque::from([event(&role)]),
            ended: false,
        };
        telling.take(first);
        let events = stream::unfold(telling, |mut telling| async move {
            let event = telling.next().await?;
            Some((Ok::<_, Infallible>(event), telling))
        });
        Sse::new(events)
            .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
            .into_response()
    }

    fn error(&self, failure: Failure) -> ApiError {
        ApiError::from(failure).purchase(&self.key.0, self.key.1)
    }
}

impl Telling {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            let step = self.stream.generation.next().await;
            self.take(step);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Text(text) => self.say(&text),
            Step::Done(result) => {
                self.ended = true;
                match *result {
                    Ok(output) => self.end(&output),
                    Err(failure) => {
                        let error = self.stream.error(failure).body();
                        self.waiting.push_back(event(&error));
                    }
                }
                self.waiting.push_back(Event::default().data("[DONE]"));
            }
        }
    }

    fn say(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.told.push_str(text);
        let piece = self.stream.pieces.choice(&json!({ "content": text }), None);
        self.waiting.push_back(event(&piece));
    }

    /// A stored answer comes whole at the end. Text that was said again from its beginning, because
    /// the node changed hands, cannot be taken back: the caller is told to ask again.
    fn end(&mut self, output: &ChatOutput) {
        self.stream.pieces.answered_by(&output.model);
        if let Some(rest) = output.text.strip_prefix(&self.told) {
            let rest = rest.to_owned();
            self.say(&rest);
        } else {
            let message = "the text above is not what was paid for: the node restarted meanwhile";
            let failure = Failure::new(FailureCode::Internal, message)
                .retryable()
                .hint("ask again with the same idempotency_key for the answer that was paid");
            let error = self.stream.error(failure).body();
            self.waiting.push_back(event(&error));
        }
        let last = self.stream.pieces.end(output);
        self.waiting.extend(last.iter().map(event));
    }
}

fn event(value: &Value) -> Event {
    Event::default().data(value.to_string())
}
