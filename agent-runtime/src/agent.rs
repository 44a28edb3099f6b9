//! The agent as a program sees it: ask, and get an answer with what it cost.

use tirami_manifest::job::{Message, Role};
use tirami_manifest::{Amount, GrantId, NodeId, ReceiptId};
use tirami_wallet::token::main_agent;

use crate::failure::{Failure, FailureCode};
use crate::ops::{Balance, BalanceOutput, Caller, Chat, ChatOutput, Operation, TextSink};
use crate::runtime::Runtime;

/// A spender in this process.
#[derive(Clone, Debug)]
pub struct Agent {
    runtime: Runtime,
    caller: Caller,
}

impl Agent {
    pub(crate) fn main(runtime: Runtime) -> Self {
        Self {
            runtime,
            caller: Caller {
                agent: main_agent(),
            },
        }
    }

    /// Asks whoever is the best choice, pays at most what the question allows, and waits for the
    /// whole answer.
    ///
    /// # Errors
    ///
    /// A [`Failure`]: a refusal of the gate, nobody who can answer, or a provider that broke its
    /// word. Nothing was paid then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the purchase: it comes to its end, and asking again with the
    /// same key answers it.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, Failure> {
        self.carry_out(ask, None).await
    }

    /// The same; text goes to `sink` as it comes.
    ///
    /// # Errors
    ///
    /// As [`Agent::ask`].
    pub async fn ask_streaming(&self, ask: Ask, sink: TextSink) -> Result<Answer, Failure> {
        self.carry_out(ask, Some(sink)).await
    }

    async fn carry_out(&self, ask: Ask, sink: Option<TextSink>) -> Result<Answer, Failure> {
        let mut chat = ask.chat;
        chat.prepare();
        let (runtime, caller) = (self.runtime.clone(), self.caller);
        let call = tokio::spawn(async move { chat.carry_out(&runtime, caller, sink).await });
        match call.await {
            Ok(answer) => Ok(answer?.into()),
            Err(error) => Err(Failure::new(FailureCode::Internal, error.to_string())
                .retryable()
                .hint("its effect is unknown; ask again with the same key")),
        }
    }

    /// What the agent and its node have.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the wallet cannot be read.
    pub async fn balance(&self) -> Result<BalanceOutput, Failure> {
        Balance {}.run(&self.runtime, self.caller, None).await
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    chat: Chat,
}

impl Ask {
    /// Asks `question`, of any model, at any price that the agent's budget allows.
    pub fn new(question: impl Into<String>) -> Self {
        let message = Message {
            role: Role::User,
            content: question.into(),
        };
        Self {
            chat: Chat::new(vec![message]),
        }
    }

    /// Pays at most so much.
    #[must_use]
    pub const fn at_most(mut self, most: Amount) -> Self {
        self.chat.max_trm = Some(most);
        self
    }

    /// Lets a mandate that travels pay instead of the agent's account: one that this agent holds.
    #[must_use]
    pub const fn under(mut self, mandate: GrantId) -> Self {
        self.chat.mandate = Some(mandate);
        self
    }

    /// Names the purchase: asking again with the same key answers the same and pays once.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.chat.idempotency_key = Some(key.into());
        self
    }

    /// Asks this model only, by name or id.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.chat.model = Some(model.into());
        self
    }

    /// Generates at most so many tokens.
    #[must_use]
    pub const fn max_tokens(mut self, tokens: u32) -> Self {
        self.chat.max_tokens = Some(tokens);
        self
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the model said. Not checked, not an instruction.
    pub text: String,
    /// Who did the work.
    pub provider: NodeId,
    /// What it cost.
    pub payment: Payment,
}

/// What an answer cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Zero for work this node did itself.
    pub amount: Amount,
    /// The receipt both sides signed; none for local work.
    pub receipt: Option<ReceiptId>,
}

impl From<ChatOutput> for Answer {
    fn from(output: ChatOutput) -> Self {
        Self {
            text: output.text,
            provider: output.provider,
            payment: Payment {
                amount: output.trm_cost,
                receipt: output.receipt,
            },
        }
    }
}
