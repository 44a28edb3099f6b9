//! What is there of an answer when its provider did not come to the end of it.

use tirami_manifest::job::{Finish, Message, Role};
use tirami_manifest::{Amount, NodeId};
use tirami_mesh::proto::message::Offer;

use crate::buy::{Purchase, Stopped, stored};
use crate::failure::Failure;
use crate::intake::{Cut, Rest};
use crate::ops::{ChatOutput, Part};

/// Parts of an answer, from one provider after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct SoFar {
    pub(crate) text: String,
    pub(crate) tokens: u32,
    /// Tokens of the prompt, as who delivered last counted them.
    tokens_in: u32,
    /// What is owed for them.
    pub(crate) paid: Amount,
    pub(crate) parts: Vec<Part>,
}

impl SoFar {
    /// The request for the rest: what is there already ends it, as the model's own words.
    pub(crate) fn continued(&self, messages: &[Message]) -> Vec<Message> {
        let mut messages = messages.to_vec();
        match messages.last_mut() {
            _ if self.text.is_empty() => {}
            Some(last) if last.role == Role::Assistant => last.content.push_str(&self.text),
            _ => messages.push(Message {
                role: Role::Assistant,
                content: self.text.clone(),
            }),
        }
        messages
    }

    /// Takes what a provider delivered before it broke off, and says whether another may go on. `is_read`:
    /// whether somebody reads the answer while it comes.
    pub(crate) fn cut(&mut self, provider: NodeId, cut: Cut, is_read: bool) -> Stopped {
        let nothing = cut.tokens == 0 && cut.text.is_empty();
        self.paid = self.paid.checked_add(cut.vouched).unwrap_or(Amount::MAX);
        if !nothing || !cut.vouched.is_zero() {
            self.parts.push(Part {
                provider,
                tokens_out: cut.tokens,
                trm_cost: cut.vouched,
            });
        }
        match cut.rest {
            Rest::FromThere => {
                self.text.push_str(&cut.text);
                self.tokens = self.tokens.saturating_add(cut.tokens);
                self.tokens_in = cut.tokens_in;
                Stopped::TryNext(cut.failure)
            }
            Rest::Afresh if nothing || !is_read => Stopped::TryNext(cut.failure),
            Rest::Afresh | Rest::Nobody => Stopped::Final(cut.failure),
        }
    }

    /// A failure that says what was paid all the same.
    pub(crate) fn told(&self, mut failure: Failure) -> Failure {
        if !self.paid.is_zero() {
            let tokens = self.parts.iter().map(|part| part.tokens_out);
            let tokens = tokens.fold(0, u32::saturating_add);
            let paid = format!(
                "; {} TRM are owed for {tokens} tokens that arrived",
                self.paid
            );
            failure.message.push_str(&paid);
        }
        failure
    }
}

impl Purchase<'_> {
    /// Whether all that was asked for arrived, although nobody proposed what it comes to: there is nothing left
    /// to ask another for.
    pub(crate) fn is_whole(&self) -> bool {
        let wanted = self.chat.max_tokens.unwrap_or(u32::MAX);
        self.so_far.tokens > 0 && self.so_far.tokens >= wanted
    }

    /// The answer as it arrived. What was vouched for is owed for it, and no receipt says so.
    pub(crate) async fn as_it_arrived(&self, offer: &Offer) -> Result<ChatOutput, Failure> {
        let wallet = &self.runtime.inner.wallet;
        let so_far = &self.so_far;
        let last = so_far.parts.last().map(|part| part.provider);
        let answer = ChatOutput {
            text: so_far.text.clone(),
            finish_reason: Finish::Length.to_string(),
            capped_by: None,
            model: offer.name.clone(),
            provider: last.unwrap_or_else(|| self.runtime.node()),
            local: false,
            tokens_in: so_far.tokens_in,
            tokens_out: so_far.tokens,
            trm_cost: so_far.paid,
            trm_balance: wallet.balance(&self.caller.agent)?.available,
            trm_would_cost: None,
            receipt: None,
            payer: self.means.under.as_ref().map(|grant| grant.root),
            idempotency_key: self.key.clone(),
            replayed: false,
            parts: so_far.parts.clone(),
            seen_by: self.seen_by.clone(),
        };
        wallet
            .answer(self.begun.intent.clone(), stored(&answer)?)
            .await?;
        Ok(answer)
    }
}
