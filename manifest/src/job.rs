//! One request for inference, as the two parties see it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bytes::Writer;
use crate::id::QuoteId;
use crate::signed::hash;

/// Domain of a transcript hash.
pub const TRANSCRIPT_DOMAIN: &[u8] = b"trm/v1/transcript\0";

/// Domain of a prompt hash.
pub const PROMPT_DOMAIN: &[u8] = b"trm/v1/prompt\0";

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that frame the conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name chat templates use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::System => 0,
            Self::User => 1,
            Self::Assistant => 2,
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampler {
    /// Temperature in thousandths; 0 always takes the likeliest token.
    pub temperature_milli: u32,
    /// Tokens considered; 0 considers all.
    pub top_k: u32,
    /// Seed of the sampler's random numbers.
    pub seed: u64,
}

impl Sampler {
    /// Always the likeliest token.
    pub const GREEDY: Self = Self {
        temperature_milli: 0,
        top_k: 0,
        seed: 0,
    };
}

/// What a provider may know of a prompt before money is held: who speaks, and how many bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptShape(pub Vec<(Role, u32)>);

impl PromptShape {
    /// The shape of `messages`; `None` when one of them is above 4 GiB.
    pub fn of(messages: &[Message]) -> Option<Self> {
        messages
            .iter()
            .map(|m| Some((m.role, u32::try_from(m.content.len()).ok()?)))
            .collect::<Option<_>>()
            .map(Self)
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model said it is done.
    Stop,
    /// The token limit or the end of the context was reached.
    Length,
    /// The consumer asked to stop.
    Cancelled,
}

impl Finish {
    /// The byte in signed documents.
    pub const fn code(self) -> u8 {
        match self {
            Self::Stop => 1,
            Self::Length => 2,
            Self::Cancelled => 3,
        }
    }

    /// Reads the byte in signed documents.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Stop),
            2 => Some(Self::Length),
            3 => Some(Self::Cancelled),
            _ => None,
        }
    }
}

impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        })
    }
}

/// SHA-256 of a prompt: count, then role byte and length-prefixed content of each message.
pub fn prompt_hash(messages: &[Message]) -> [u8; 32] {
    let mut out = Writer::default();
    for message in messages {
        out.u8(message.role.code())
            .string(message.content.as_bytes());
    }
    hash(PROMPT_DOMAIN, &[&out.finish()])
}

/// The running hash of what was generated: it starts from quote and prompt, and each chunk extends
/// it. Both sides compute it; the last value stands in the receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript([u8; 32]);

impl Transcript {
    /// Before the first chunk: SHA-256 over the domain, the quote id and the prompt hash.
    pub fn start(quote: &QuoteId, messages: &[Message]) -> Self {
        Self(hash(
            TRANSCRIPT_DOMAIN,
            &[quote.as_bytes(), &prompt_hash(messages)],
        ))
    }

    /// After one more chunk: SHA-256 over the domain, the hash so far, the count and ids of its
    /// tokens (`u32` each), and the length-prefixed text they make.
    pub fn extend(&mut self, tokens: &[u32], text: &[u8]) {
        let mut out = Writer::default();
        out.u32(u32::try_from(tokens.len()).unwrap_or(u32::MAX));
        for token in tokens {
            out.u32(*token);
        }
        out.string(text);
        self.0 = hash(TRANSCRIPT_DOMAIN, &[&self.0, &out.finish()]);
    }

    /// The hash so far.
    pub const fn root(&self) -> &[u8; 32] {
        &self.0
    }
}
