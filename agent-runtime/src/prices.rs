//! Binding prices, asked of several providers at once, and which of them is best.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tirami_manifest::NodeId;
use tirami_manifest::commerce::Quote;
use tirami_manifest::job::Message;
use tirami_manifest::model::Usage;
use tirami_manifest::signed::Verified;
use tirami_mesh::net::transport::Link;
use tirami_mesh::proto::message::{Offer, Pace};
use tirami_mesh::scheduler::Ranked;
use tokio::time::timeout_at;

use crate::failure::Failure;
use crate::means::Means;
use crate::offers::Seller;
use crate::ops::Chat;
use crate::plan;
use crate::quoting::{NoPrice, Wanted, ask_quote};
use crate::runtime::Runtime;

/// Providers asked for a price at once; chosen, after simulations in which two were a little worse and more
/// than four no better.
pub(crate) const ASKED_AT_ONCE: usize = 4;

/// How long others may take once the first has answered; chosen: far above a way around the planet.
pub(crate) const OTHERS_WITHIN: Duration = Duration::from_millis(500);

/// What prices are asked for.
pub(crate) struct Request<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) means: &'a Means,
    pub(crate) chat: &'a Chat,
    /// The request's messages, and what there is of the answer.
    pub(crate) messages: &'a [Message],
    /// Most tokens to generate; what budget and context allow when absent.
    pub(crate) wanted: Option<u32>,
}

/// A binding price, and the stream on which it can be taken.
pub(crate) struct Priced<'a> {
    pub(crate) seller: &'a Seller,
    pub(crate) offer: &'a Offer,
    pub(crate) link: Link,
    pub(crate) quote: Verified<Quote>,
    /// How fast it says that it works.
    pub(crate) pace: Pace,
    /// What caps the length, when the request does not.
    pub(crate) capped_by: Option<String>,
}

impl Priced<'_> {
    /// The offer at the price that binds.
    pub(crate) fn offer(&self) -> Offer {
        Offer {
            multiplier: self.quote.multiplier,
            ..self.offer.clone()
        }
    }

    /// What is compared: the prompt, as its provider bounds it, and `out` tokens.
    pub(crate) fn usage(&self, out: u32) -> Usage {
        Usage {
            tokens_in: self.quote.max_in,
            tokens_cached: 0,
            tokens_out: out.min(self.quote.max_out),
        }
    }
}

/// What came of asking several.
pub(crate) struct Best<'a> {
    /// The best price; none when nobody gave one.
    pub(crate) priced: Option<Priced<'a>>,
    /// Everybody who gave one, in their order.
    pub(crate) ranked: Vec<Ranked>,
    /// Those who gave none.
    pub(crate) failed: Vec<(NodeId, Failure)>,
}

#[derive(Default)]
struct Asked<'a> {
    priced: Vec<Priced<'a>>,
    failed: Vec<(NodeId, NoPrice)>,
}

impl Request<'_> {
    /// Asks all of these at once, and calls off all prices but the best. What is no price is remembered of whose
    /// fault it is.
    pub(crate) async fn best_of<'s>(
        &self,
        sellers: &[(&'s Seller, &'s Offer)],
    ) -> Result<Best<'s>, Failure> {
        let since = self.runtime.inner.records.since();
        let Asked { mut priced, failed } = self.ask_all(sellers).await;
        let (runtime, most) = (self.runtime, self.means.most);
        let ranked = plan::of_priced(runtime, self.chat, &priced, most)?.ranked;
        let best = ranked.first().and_then(|best| {
            let is_best = |one: &Priced<'_>| one.seller.peer.id == best.provider;
            priced.iter().position(is_best)
        });
        let best = best.map(|best| priced.swap_remove(best));
        for mut other in priced {
            if let Err(error) = other.link.finish() {
                tracing::debug!(%error, "one that was not chosen did not hear so");
            }
        }
        let failed = failed.into_iter().map(|(id, none)| {
            if none.is_fault {
                runtime.inner.records.failed(id, since);
            }
            (id, none.failure)
        });
        Ok(Best {
            priced: best,
            ranked,
            failed: failed.collect(),
        })
    }

    /// Whoever answers much later than the first is not waited for.
    async fn ask_all<'s>(&self, sellers: &[(&'s Seller, &'s Offer)]) -> Asked<'s> {
        let asks = sellers.iter().map(|&(seller, offer)| {
            Box::pin(async move { (seller.peer.id, self.ask(seller, offer).await) })
        });
        let mut asks: FuturesUnordered<_> = asks.collect();
        let (mut asked, mut until) = (Asked::default(), None);
        loop {
            let next = match until {
                None => asks.next().await,
                Some(until) => timeout_at(until, asks.next()).await.unwrap_or(None),
            };
            match next {
                None => return asked,
                Some((_, Ok(priced))) => {
                    asked.priced.push(priced);
                    until.get_or_insert(tokio::time::Instant::now() + OTHERS_WITHIN);
                }
                Some((id, Err(none))) => asked.failed.push((id, none)),
            }
        }
    }

    /// Asks one for a price that fits what the request may spend.
    async fn ask<'s>(&self, seller: &'s Seller, offer: &'s Offer) -> Result<Priced<'s>, NoPrice> {
        let opened = self.runtime.transport()?.open(&seller.peer).await;
        let mut link = opened.map_err(Failure::from)?;
        let estimate = plan::guess_in(self.messages, offer.card.context);
        let (first, mut by) =
            self.means
                .affordable_out((link.peer(), &offer.card), estimate, offer.multiplier);
        let first = self.wanted.unwrap_or(first);
        let (mut quote, mut pace) = self.quote(&mut link, offer, first).await?;
        if self.wanted.is_none() {
            let fits;
            (fits, by) = self.means.affordable_out(
                (link.peer(), &quote.card),
                quote.max_in,
                quote.multiplier,
            );
            // The first guess was rough; the exact bound of the prompt may allow more, or less.
            let better = fits.min(quote.card.context.saturating_sub(quote.max_in));
            if better != quote.max_out && first != better && better > 0 {
                (quote, pace) = self.quote(&mut link, offer, better).await?;
            }
        }
        let room = quote.card.context.saturating_sub(quote.max_in);
        let capped_by = match self.wanted {
            Some(wanted) if quote.max_out < wanted => Some("context"),
            Some(_) => None,
            None if quote.max_out >= room => Some("context"),
            None => Some(by),
        };
        Ok(Priced {
            seller,
            offer,
            link,
            quote,
            pace,
            capped_by: capped_by.map(str::to_owned),
        })
    }

    async fn quote(
        &self,
        link: &mut Link,
        offer: &Offer,
        max_out: u32,
    ) -> Result<(Verified<Quote>, Pace), NoPrice> {
        let wanted = Wanted {
            max_out,
            under_mandate: self.means.under.is_some(),
        };
        ask_quote(self.runtime, link, offer, self.messages, wanted).await
    }
}
