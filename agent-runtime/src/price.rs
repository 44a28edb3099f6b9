//! What a request would cost, without buying it.

use tirami_manifest::Amount;
use tirami_mesh::scheduler::Ranked;

use crate::buy::work;
use crate::failure::Failure;
use crate::means::Means;
use crate::ops::{Caller, Chat, QuoteOutput};
use crate::prices::{ASKED_AT_ONCE, Priced, Request};
use crate::runtime::Runtime;
use crate::{offers, plan};

/// Asks the best choice for a signed price. Nothing is held and the prompt stays here.
pub(crate) async fn price(
    runtime: &Runtime,
    caller: Caller,
    chat: &Chat,
) -> Result<QuoteOutput, Failure> {
    let means = Means::of(runtime, caller, chat, Amount::ZERO)?;
    let mut sellers = means.limit(offers::sellers_soon(runtime).await?);
    let here = sellers
        .iter()
        .any(|seller| seller.local && !seller.offers.is_empty());
    sellers.retain(|seller| !seller.local);
    let plan = plan::plan(runtime, chat, &sellers, means.most)?;
    let mut some = plan::worth_asking(&plan, &sellers);
    some.truncate(ASKED_AT_ONCE);
    if some.is_empty() {
        let nobody = plan::nobody(runtime, chat, &plan, &sellers);
        return Err(if here {
            nobody.hint("this node answers itself, for free: call chat")
        } else {
            nobody
        });
    }
    let request = Request {
        runtime,
        means: &means,
        chat,
        messages: &chat.messages,
        wanted: chat.max_tokens,
    };
    let mut best = Box::pin(request.best_of(&some)).await?;
    let Some(Priced {
        offer,
        quote,
        mut link,
        ..
    }) = best.priced
    else {
        let last = best.failed.pop().map(|(_, failure)| failure);
        return Err(last.unwrap_or_else(|| plan::nobody(runtime, chat, &plan, &sellers)));
    };
    link.finish()?;
    let asked = means
        .under
        .as_ref()
        .map_or(quote.max_amount, |_| Amount::ZERO);
    let refusal = runtime
        .inner
        .wallet
        .admits(&caller.agent, work(&quote), asked)
        .err();
    let refusal = refusal.map(|error| error.to_string()).or_else(|| {
        (quote.max_amount > means.most)
            .then(|| format!("{} TRM are left for one request", means.most))
    });
    Ok(QuoteOutput {
        quote_id: quote.id(),
        provider: quote.provider,
        model: offer.name.clone(),
        trm_max: quote.max_amount,
        max_tokens_in: quote.max_in,
        max_tokens_out: quote.max_out,
        multiplier_ppm: quote.multiplier.ppm(),
        expires_at: quote.expires.to_rfc3339(),
        within_budget: refusal.is_none(),
        refusal,
        why: why(&best.ranked),
    })
}

/// Why the first was chosen, and how the others compare.
fn why(ranked: &[Ranked]) -> String {
    let told = ranked.iter().enumerate().map(|(n, one)| match n {
        0 => one.reason.to_string(),
        _ => format!("provider {}: {}", one.provider.short(), one.reason),
    });
    told.collect::<Vec<_>>().join("; ")
}
