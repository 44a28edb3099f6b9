//! Turns a job into counted tokens; does not know who pays.
//!
//! Here live the words every engine shares: a job, its running answer and why it can fail. What is
//! special to one engine lives in its own module below. Nothing here knows peers, quotes or money.

pub mod echo;
pub mod gguf;
#[cfg(feature = "llama")]
pub mod llama;
#[cfg(feature = "llama")]
mod sample;
#[cfg(feature = "llama")]
mod template;
mod text;

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use tirami_manifest::job::{Finish, Message, PromptShape, Sampler};
use tirami_manifest::model::{ModelCard, Usage};
use tokio::sync::mpsc;

/// Events that wait for a reader; an engine that finds no room does other work until there is.
///
/// Chosen: what an engine computes ahead of a consumer who stopped reading, and perhaps paying.
pub const EVENTS_AHEAD: usize = 32;

/// Bytes of prompt accepted for each token of context. Chosen: about twice what text needs.
pub const BYTES_PER_TOKEN: u32 = 8;

/// Bytes of all stop texts of a job together. Chosen: each token is compared with all of them.
pub const STOP_BYTES: usize = 4_096;

/// One request an engine shall answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// Most tokens the prompt may take; what was agreed with whoever pays.
    pub max_in: u32,
    /// Most tokens to generate.
    pub max_out: u32,
    /// How tokens are chosen.
    pub sampler: Sampler,
    /// Texts that end the answer and do not appear in it; none, or up to [`STOP_BYTES`] together.
    pub stop: Vec<String>,
}

/// Some tokens and the text they make.
///
/// The text is complete UTF-8: bytes of an unfinished character wait for the next piece, and so
/// does text that may turn out to be a stop text. A piece can have tokens and no text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Ids of the tokens, in the model's vocabulary.
    pub tokens: Vec<u32>,
    /// Their text.
    pub text: String,
}

/// What a running job reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// More of the answer.
    Piece(Piece),
    /// The end; nothing follows.
    End {
        /// What was used. `tokens_out` counts the tokens delivered in pieces: those that made a
        /// stop text are among them, the token with which the model ended its turn is not.
        usage: Usage,
        /// Why it ended.
        finish: Finish,
    },
}

/// Why a job was not answered, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt takes {tokens} tokens and the context holds {context}, answer included; \
         shorten the prompt"
    )]
    TooLong {
        /// Tokens of the prompt: counted, or estimated at [`BYTES_PER_TOKEN`] when the text is out
        /// of all proportion.
        tokens: u64,
        /// Most tokens of prompt and answer together.
        context: u32,
    },
    /// The prompt takes more tokens than were agreed.
    #[error("the prompt takes {tokens} tokens, and at most {max_in} were agreed; shorten it")]
    AboveAgreed {
        /// Tokens of the prompt.
        tokens: u64,
        /// Most that were agreed.
        max_in: u32,
    },
    /// Too many jobs wait already.
    #[error("too many jobs wait for the model; try again later")]
    Busy,
    /// There is nothing to answer.
    #[error("the job has no messages; send at least one")]
    NoMessages,
    /// The stop texts are longer than [`STOP_BYTES`] together.
    #[error("the stop texts have {bytes} bytes together; at most {STOP_BYTES} are accepted")]
    StopTexts {
        /// Their bytes.
        bytes: usize,
    },
    /// The model's chat template cannot show these messages.
    #[error("the model's chat template refused the messages: {0}")]
    Template(String),
    /// The model could not be loaded or failed while it ran.
    #[error("the model failed: {0}")]
    Model(String),
    /// The engine stopped before the job ended.
    #[error("the engine stopped before the job ended")]
    Stopped,
}

/// Something that turns a job into tokens.
pub trait Engine: Send + Sync + fmt::Debug {
    /// The name of the model, such as `sprout`, `echo` or the stem of a file.
    fn name(&self) -> &str;

    /// What the model costs; known without loading weights.
    fn card(&self) -> ModelCard;

    /// Which program computes: the first 8 bytes of SHA-256 of its name and version.
    fn fingerprint(&self) -> [u8; 8];

    /// An upper bound of the prompt's tokens, template included, for every prompt of this shape.
    ///
    /// # Errors
    ///
    /// [`EngineError::TooLong`] when no prompt of this shape can fit, [`EngineError::Template`] and
    /// [`EngineError::NoMessages`] when no prompt of this shape can be shown to the model.
    fn max_in(&self, shape: &PromptShape) -> Result<u32, EngineError>;

    /// The tokens that a prompt takes, template included, as a job with it will count them.
    ///
    /// # Errors
    ///
    /// As [`Engine::start`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    fn count<'a>(
        &'a self,
        messages: &'a [Message],
    ) -> Pin<Box<dyn Future<Output = Result<u32, EngineError>> + Send + 'a>>;

    /// Starts a job, or puts it into a bounded queue.
    ///
    /// # Errors
    ///
    /// [`EngineError::Busy`] when the queue is full, [`EngineError::StopTexts`]; otherwise as
    /// [`Engine::max_in`]. What shows only later is reported by the run.
    fn start(&self, job: Job) -> Result<Run, EngineError>;

    /// Most tokens of prompt and answer together in one job here; at most the card's context.
    fn context(&self) -> u32 {
        self.card().context
    }

    /// Gets ready in the background, so that the first job need not wait for it.
    fn preload(&self) {}
}

/// A running job. Dropping it cancels the job at the next token.
#[derive(Debug)]
pub struct Run {
    source: Source,
    link: Arc<Link>,
    ended: bool,
    /// What must live as long as the run.
    kept: Option<Arc<dyn Any + Send + Sync>>,
}

enum Source {
    /// Events are made elsewhere.
    Channel(mpsc::Receiver<Result<Event, EngineError>>),
    /// Events are made when asked for.
    Lazy(Box<dyn Answer>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Channel(_) => "Channel",
            Self::Lazy(_) => "Lazy",
        })
    }
}

/// An answer that is computed while it is read. The last event is an end.
trait Answer: Send + Sync {
    fn event(&mut self, cancelled: bool) -> Event;
}

/// What a run and its feed share.
#[derive(Debug, Default)]
struct Link {
    cancelled: AtomicBool,
    /// Who waits for room, or for the reader to give up.
    worker: Option<std::thread::Thread>,
}

impl Link {
    fn wake(&self) {
        if let Some(worker) = &self.worker {
            worker.unpark();
        }
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.wake();
    }
}

impl Run {
    /// A run whose events come from the feed. For engines that work elsewhere.
    pub fn channel() -> (Feed, Self) {
        Self::woken(None)
    }

    /// Like [`Run::channel`]; whenever there is room again or the run is cancelled, `worker` is
    /// unparked.
    fn woken(worker: Option<std::thread::Thread>) -> (Feed, Self) {
        let (events, receiver) = mpsc::channel(EVENTS_AHEAD);
        let link = Arc::new(Link {
            cancelled: AtomicBool::new(false),
            worker,
        });
        let feed = Feed {
            events,
            link: Arc::clone(&link),
        };
        let run = Self {
            source: Source::Channel(receiver),
            link,
            ended: false,
            kept: None,
        };
        (feed, run)
    }

    /// Keeps something alive as long as the run, such as the thread that feeds it.
    pub fn keep(&mut self, kept: Arc<dyn Any + Send + Sync>) {
        self.kept = Some(kept);
    }

    fn lazy(answer: impl Answer + 'static) -> Self {
        Self {
            source: Source::Lazy(Box::new(answer)),
            link: Arc::default(),
            ended: false,
            kept: None,
        }
    }

    /// The next event; `None` after the end or an error.
    ///
    /// # Errors
    ///
    /// Whatever ended the job early; nothing follows.
    ///
    /// # Cancel safety
    ///
    /// No event is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Event, EngineError>> {
        if self.ended {
            return None;
        }
        let event = match &mut self.source {
            Source::Channel(events) => {
                let event = events.recv().await.unwrap_or(Err(EngineError::Stopped));
                self.link.wake();
                event
            }
            Source::Lazy(answer) => Ok(answer.event(self.link.cancelled.load(Ordering::Acquire))),
        };
        self.ended = !matches!(event, Ok(Event::Piece(_)));
        Some(event)
    }

    /// Asks the engine to stop at the next token. The end still comes, with what was used.
    pub fn cancel(&self) {
        self.link.cancel();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Source::Channel(events) = &mut self.source {
            events.close();
        }
        self.link.cancel();
    }
}

/// Where an engine puts the events of one job. Dropping it before the end tells the reader that
/// the engine stopped.
#[derive(Debug)]
pub struct Feed {
    events: mpsc::Sender<Result<Event, EngineError>>,
    link: Arc<Link>,
}

impl Feed {
    /// True when the reader asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.link.cancelled.load(Ordering::Acquire)
    }

    /// True when the reader is gone, so that nothing need be sent.
    pub fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    /// True when an event can be sent without waiting.
    pub fn has_room(&self) -> bool {
        self.events.capacity() > 0
    }

    /// Sends an event, waiting for room; `false` when the reader is gone.
    pub async fn send(&self, event: Result<Event, EngineError>) -> bool {
        self.events.send(event).await.is_ok()
    }

    /// Sends an event unless there is no room; `false` when it was not sent.
    pub fn try_send(&self, event: Result<Event, EngineError>) -> bool {
        self.events.try_send(event).is_ok()
    }
}

/// The first 8 bytes of SHA-256 of a name and a version.
fn fingerprint(name_and_version: &str) -> [u8; 8] {
    let hash = Sha256::digest(name_and_version);
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(hash) {
        *to = from;
    }
    first
}

/// Refuses stop texts that would cost more than the answer.
fn check_stop(stop: &[String]) -> Result<(), EngineError> {
    let bytes = stop.iter().map(String::len).fold(0, usize::saturating_add);
    if bytes > STOP_BYTES {
        return Err(EngineError::StopTexts { bytes });
    }
    Ok(())
}

/// Refuses a shape that cannot fit whatever the tokenizer makes of it, before any work is put into
/// it. A message counts like a byte.
fn check_shape(shape: &PromptShape, context: u32) -> Result<u64, EngineError> {
    if shape.0.is_empty() {
        return Err(EngineError::NoMessages);
    }
    let said = shape.0.iter().map(|(_, bytes)| u64::from(*bytes));
    let bytes = said.fold(0_u64, |sum, bytes| {
        sum.saturating_add(bytes).saturating_add(1)
    });
    check_bytes(bytes, context)?;
    Ok(bytes)
}

/// Refuses text that is out of all proportion.
fn check_bytes(bytes: u64, context: u32) -> Result<(), EngineError> {
    let per_token = u64::from(BYTES_PER_TOKEN);
    if bytes > u64::from(context).saturating_mul(per_token) {
        return Err(EngineError::TooLong {
            tokens: bytes.div_ceil(per_token),
            context,
        });
    }
    Ok(())
}
