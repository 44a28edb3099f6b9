//! An engine without a model: it says again what the user said last, word by word.
//!
//! For tests and first steps. Deterministic, with a card of its own so that prices are real.

use std::collections::VecDeque;
use std::pin::Pin;

use sha2::{Digest, Sha256};
use tirami_manifest::ModelId;
use tirami_manifest::job::{Finish, Message, PromptShape, Role};
use tirami_manifest::model::{ModelCard, Usage};

use super::text::Assembler;
use super::{
    Answer, Engine, EngineError, Event, Job, Piece, Run, check_shape, check_stop, fingerprint,
};

/// What is hashed into the id of this model; a different way to count or answer needs another.
pub const IDENTITY: &[u8] = b"tirami echo engine 1";

/// Weights of the imaginary blocks. Chosen: a prompt token costs 0.001 TRM at par.
pub const BLOCK_WEIGHTS: u64 = 500_000;

/// Weights of the imaginary output matrix. Chosen: a generated token costs 0.002 TRM at par.
pub const HEAD_WEIGHTS: u64 = 500_000;

/// Most tokens of prompt and answer together. Chosen.
pub const CONTEXT: u32 = 4_096;

/// Repeats the last user message.
///
/// A token is a word with the white space after it; a message costs one token more, for its role. An answer
/// that is begun goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

/// The tokens of a text: runs that end at white space.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(char::is_whitespace)
}

/// The id of a word: the first 4 bytes of its SHA-256.
fn token(word: &str) -> u32 {
    let hash = Sha256::digest(word);
    hash.iter()
        .take(4)
        .fold(0, |id, byte| (id << 8) | u32::from(*byte))
}

fn count(messages: &[Message]) -> u64 {
    let tokens = messages
        .iter()
        .map(|message| words(&message.content).count().saturating_add(1))
        .fold(0, usize::saturating_add);
    u64::try_from(tokens).unwrap_or(u64::MAX)
}

fn narrow(tokens: u64) -> Result<u32, EngineError> {
    u32::try_from(tokens).map_err(|_| EngineError::TooLong {
        tokens,
        context: CONTEXT,
    })
}

impl Engine for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn card(&self) -> ModelCard {
        ModelCard {
            id: ModelId::from_bytes(Sha256::digest(IDENTITY).into()),
            block_weights: BLOCK_WEIGHTS,
            head_weights: HEAD_WEIGHTS,
            attention_flop: 0,
            window: 0,
            context: CONTEXT,
        }
    }

    fn fingerprint(&self) -> [u8; 8] {
        fingerprint(concat!("echo ", env!("CARGO_PKG_VERSION")))
    }

    fn max_in(&self, shape: &PromptShape) -> Result<u32, EngineError> {
        // A word has at least one byte, and a role counts like one.
        narrow(check_shape(shape, CONTEXT)?)
    }

    fn count<'a>(
        &'a self,
        messages: &'a [Message],
    ) -> Pin<Box<dyn Future<Output = Result<u32, EngineError>> + Send + 'a>> {
        Box::pin(std::future::ready(narrow(count(messages))))
    }

    fn start(&self, job: Job) -> Result<Run, EngineError> {
        check_stop(&job.stop)?;
        let last = job
            .messages
            .iter()
            .rev()
            .find(|message| message.role == Role::User)
            .or(job.messages.last())
            .ok_or(EngineError::NoMessages)?;
        let said = last.content.as_str();
        let rest = match job.messages.last() {
            // What is there of the answer already is not said again.
            Some(begun) if begun.role == Role::Assistant => {
                said.strip_prefix(begun.content.as_str()).unwrap_or(said)
            }
            _ => said,
        };
        let tokens = count(&job.messages);
        let room = u64::from(CONTEXT).saturating_sub(tokens);
        if room == 0 {
            return Err(EngineError::TooLong {
                tokens,
                context: CONTEXT,
            });
        }
        if tokens > u64::from(job.max_in) {
            return Err(EngineError::AboveAgreed {
                tokens,
                max_in: job.max_in,
            });
        }
        let tokens_in = narrow(tokens)?;
        Ok(Run::lazy(Echoing {
            words: words(rest).map(str::to_owned).collect(),
            left: u64::from(job.max_out).min(room),
            text: Assembler::new(job.stop),
            usage: Usage {
                tokens_in,
                ..Usage::default()
            },
            finish: None,
        }))
    }
}

/// One answer in the making.
struct Echoing {
    words: VecDeque<String>,
    left: u64,
    text: Assembler,
    usage: Usage,
    /// Set when only the end is left to tell.
    finish: Option<Finish>,
}

impl Echoing {
    fn deliver(&mut self, piece: Piece) -> Event {
        let tokens = u32::try_from(piece.tokens.len()).unwrap_or(u32::MAX);
        self.usage.tokens_out = self.usage.tokens_out.saturating_add(tokens);
        Event::Piece(piece)
    }
}

impl Answer for Echoing {
    fn event(&mut self, cancelled: bool) -> Event {
        while self.finish.is_none() {
            if cancelled {
                self.finish = Some(Finish::Cancelled);
            } else if self.words.is_empty() {
                self.finish = Some(Finish::Stop);
            } else if self.left == 0 {
                self.finish = Some(Finish::Length);
            } else if let Some(word) = self.words.pop_front() {
                self.left = self.left.saturating_sub(1);
                if self.text.push(token(&word), word.as_bytes()) {
                    self.finish = Some(Finish::Stop);
                } else if let Some(piece) = self.text.take() {
                    return self.deliver(piece);
                }
            }
            if self.finish.is_some()
                && let Some(piece) = self.text.flush()
            {
                return self.deliver(piece);
            }
        }
        Event::End {
            usage: self.usage,
            finish: self.finish.unwrap_or(Finish::Stop),
        }
    }
}
