//! Whom a purchase turns to: this node where that is free, else whoever asks least in all, and the next where
//! that one fails.

use tirami_manifest::NodeId;
use tirami_mesh::proto::message::Offer;

use crate::buy::{Purchase, Stopped};
use crate::failure::{Failure, FailureCode};
use crate::offers::Seller;
use crate::ops::ChatOutput;
use crate::prices::{ASKED_AT_ONCE, Priced, Request};
use crate::{offers, plan};

/// Those who may still be asked, best first.
type Open<'s> = Vec<(&'s Seller, &'s Offer)>;

impl Purchase<'_> {
    /// Has the work done: here where that is free, else by whoever is best of those who offered it a moment ago.
    /// Where none of them does it, all are asked anew what they offer.
    pub(crate) async fn carry_through(&mut self) -> Result<ChatOutput, Failure> {
        let runtime = self.runtime;
        let mut sellers = match self.free_here()? {
            Some(here) => here,
            None => self.means.limit(offers::sellers_lately(runtime).await?),
        };
        let mut nobody = None;
        if sellers.iter().any(|seller| seller.remembered) {
            match self.among(&sellers).await {
                Ok(answer) => return Ok(answer),
                Err(Stopped::Final(failure)) => return Err(failure),
                // Who saw the prompt did more than change its offer.
                Err(Stopped::TryNext(failure)) if !self.seen_by.is_empty() => return Err(failure),
                Err(Stopped::TryNext(failure)) => {
                    tracing::debug!(%failure, "offers are asked for anew");
                    nobody = Some(failure);
                }
            }
            sellers = self.means.limit(offers::sellers_soon(runtime).await?);
            // Who did not do what it should just now is not given the same request again.
            sellers.retain(|seller| !self.broke.contains(&seller.peer.id));
        }
        match self.among(&sellers).await {
            Ok(answer) => Ok(answer),
            Err(Stopped::Final(failure)) => Err(failure),
            Err(Stopped::TryNext(failure)) => Err(match nobody {
                // Nothing new is known of those who broke their word.
                Some(first) if !self.broke.is_empty() => first,
                _ => failure,
            }),
        }
    }

    /// Asks one after the other of those who sell it, the best first.
    async fn among(&mut self, sellers: &[Seller]) -> Result<ChatOutput, Stopped> {
        let (runtime, chat) = (self.runtime, self.chat);
        let plan = plan::plan(runtime, chat, sellers, self.means.most)?;
        let (mut open, mut last): (Open<'_>, _) = (plan::worth_asking(&plan, sellers), None);
        while let Some((seller, offer)) = open.first().copied() {
            if seller.local {
                self.begun.attempt().await?;
                return Ok(self.do_it_here(offer).await?);
            }
            let Some(best) = self.best(&mut open, &mut last).await? else {
                continue;
            };
            let (provider, offer) = (best.seller.peer.id, best.offer);
            match Box::pin(self.from(best)).await {
                Ok(answer) => return Ok(answer),
                Err(Stopped::Final(failure)) => {
                    self.noted(provider, &failure);
                    return Err(failure.into());
                }
                Err(Stopped::TryNext(failure)) => {
                    self.noted(provider, &failure);
                    last = Some(failure);
                }
            }
            if self.is_whole() {
                return Ok(self.as_it_arrived(offer).await?);
            }
            self.begun.again(&runtime.inner.wallet).await?;
        }
        let nobody = last.unwrap_or_else(|| plan::nobody(runtime, chat, &plan, sellers));
        Err(Stopped::TryNext(nobody))
    }

    /// This node alone, where it does the work at once and for nothing: nobody else can be better.
    fn free_here(&self) -> Result<Option<Vec<Seller>>, Failure> {
        let here = self.means.limit(vec![offers::here(self.runtime)]);
        let plan = plan::plan(self.runtime, self.chat, &here, self.means.most)?;
        let expected = plan.chosen().and_then(|chosen| chosen.trm_expected);
        Ok(expected.filter(|sum| sum.is_zero()).map(|_| here))
    }

    /// Asks the next few for a price that binds, and takes the best of them out of those who are open, with
    /// those that gave none.
    async fn best<'s>(
        &mut self,
        open: &mut Open<'s>,
        last: &mut Option<Failure>,
    ) -> Result<Option<Priced<'s>>, Failure> {
        let (runtime, chat) = (self.runtime, self.chat);
        let others = open.iter().take_while(|(seller, _)| !seller.local);
        let some: Open<'s> = others.take(ASKED_AT_ONCE).copied().collect();
        let messages = self.so_far.continued(&chat.messages);
        let wanted = chat.max_tokens;
        let request = Request {
            runtime,
            means: &self.means,
            chat,
            messages: &messages,
            wanted: wanted.map(|most| most.saturating_sub(self.so_far.tokens)),
        };
        let best = Box::pin(request.best_of(&some)).await?;
        for (id, failure) in best.failed {
            self.noted(id, &failure);
            open.retain(|(seller, _)| seller.peer.id != id);
            *last = Some(failure);
        }
        if let Some(best) = &best.priced {
            open.retain(|(seller, _)| seller.peer.id != best.seller.peer.id);
        }
        Ok(best.priced)
    }

    /// Says in the log what a provider did; where another does the work, nobody else would ever hear of it. What
    /// it had offered may be past.
    fn noted(&mut self, id: NodeId, failure: &Failure) {
        self.runtime.inner.heard.forget(&id);
        let provider = id.short();
        if failure.code == FailureCode::ProviderFailed {
            self.broke.push(id);
            tracing::warn!(%provider, %failure, "a provider did not do what it should");
        } else {
            tracing::debug!(%provider, %failure, "a provider did not do a job");
        }
    }
}
