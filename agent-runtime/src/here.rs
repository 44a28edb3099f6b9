//! Local work: free for the agent, metered, and allowed by the same gate.

use tirami_manifest::job::{Finish, PromptShape};
use tirami_manifest::model::Usage;
use tirami_manifest::{Amount, Multiplier};
use tirami_mesh::engine::{EngineError, Event, Job, Run};
use tirami_mesh::proto::message::Offer;

use crate::buy::{Purchase, sampler, stored, until};
use crate::failure::{Failure, FailureCode};
use crate::ops::ChatOutput;
use crate::ops::budget::done_here;
use crate::serve::divide_context;

impl Purchase<'_> {
    /// Does the work with this node's own engine.
    pub(crate) async fn do_it_here(&self, offer: &Offer) -> Result<ChatOutput, Failure> {
        let engine = self.runtime.inner.engine.as_ref();
        let engine = engine
            .ok_or_else(|| Failure::new(FailureCode::Internal, "an offer without an engine"))?;
        let work = done_here(self.runtime.node(), offer.card.id);
        let agent = self.caller.agent;
        self.runtime
            .inner
            .wallet
            .admits(&agent, work, Amount::ZERO)?;
        // What another began goes on here.
        let messages = self.so_far.continued(&self.chat.messages);
        let shape = PromptShape::of(&messages)
            .ok_or_else(|| Failure::new(FailureCode::InvalidInput, "the prompt is too long"))?;
        let bound = engine.max_in(&shape).map_err(model)?;
        let wanted = self.chat.max_tokens.unwrap_or(u32::MAX);
        let wanted = wanted.saturating_sub(self.so_far.tokens);
        let (max_in, max_out) = divide_context(engine.context(), bound, wanted);
        let job = Job {
            messages,
            max_in,
            max_out,
            sampler: sampler(self.chat),
            stop: self.chat.stop.clone(),
        };
        let (text, usage, finish) = self.take(engine.start(job).map_err(model)?).await?;
        let capped =
            finish == Finish::Length && self.chat.max_tokens.is_none_or(|wanted| max_out < wanted);
        let wallet = &self.runtime.inner.wallet;
        let answer = ChatOutput {
            text: format!("{}{text}", self.so_far.text),
            finish_reason: finish.to_string(),
            capped_by: capped.then(|| "context".to_owned()),
            model: offer.name.clone(),
            provider: self.runtime.node(),
            local: true,
            tokens_in: usage.tokens_in,
            tokens_out: usage.tokens_out.saturating_add(self.so_far.tokens),
            trm_cost: self.so_far.paid,
            trm_balance: wallet.balance(&self.caller.agent)?.available,
            trm_would_cost: offer.card.price(usage, Multiplier::PAR).ok(),
            receipt: None,
            payer: None,
            idempotency_key: self.key.clone(),
            replayed: false,
            parts: self.so_far.parts.clone(),
            seen_by: self.seen_by.clone(),
        };
        wallet
            .answer(self.begun.intent.clone(), stored(&answer)?)
            .await?;
        Ok(answer)
    }

    /// Takes what the engine generates, until it ends or the kill switch ends it.
    async fn take(&self, mut run: Run) -> Result<(String, Usage, Finish), Failure> {
        let mut frozen = self.runtime.inner.frozen.subscribe();
        let mut text = String::new();
        loop {
            let event = tokio::select! {
                biased;
                () = until(&mut frozen) => return Err(self.frozen_now()),
                event = run.next() => event,
            };
            match event
                .ok_or(EngineError::Stopped)
                .and_then(|event| event)
                .map_err(model)?
            {
                Event::Piece(piece) => {
                    text.push_str(&piece.text);
                    let read = tokio::select! {
                        biased;
                        () = until(&mut frozen) => return Err(self.frozen_now()),
                        read = self.pass_on(piece.text) => read,
                    };
                    if !read {
                        run.cancel();
                    }
                }
                Event::End { usage, finish } => return Ok((text, usage, finish)),
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err takes")]
fn model(error: EngineError) -> Failure {
    Failure::new(FailureCode::Model, error.to_string())
}
