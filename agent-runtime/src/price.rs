//! What a request would cost, without buying it.

use tirami_manifest::Amount;

use crate::buy::{body_hash, work};
use crate::failure::Failure;
use crate::means::Means;
use crate::ops::{Caller, Chat, QuoteOutput};
use crate::quoting::{Wanted, ask_quote};
use crate::runtime::Runtime;
use crate::{offers, plan};

/// Asks the best choice for a signed price. Nothing is held and the prompt stays here.
pub(crate) async fn price(
    runtime: &Runtime,
    caller: Caller,
    chat: &Chat,
) -> Result<QuoteOutput, Failure> {
    let means = Means::of(runtime, caller, chat)?;
    let mut sellers = means.limit(offers::sellers(runtime).await?);
    let here = sellers
        .iter()
        .any(|seller| seller.local && !seller.offers.is_empty());
    sellers.retain(|seller| !seller.local);
    let plan = plan::plan(chat, &sellers, means.most, body_hash(chat)?);
    let first = plan.ranked.iter().find(|ranked| plan::worth_trying(ranked));
    let found = first.and_then(|ranked| plan::find(&sellers, ranked.provider, &ranked.name));
    let Some((seller, offer)) = found else {
        let nobody = plan::nobody(chat, &plan, &sellers);
        return Err(if here {
            nobody.hint("this node answers itself, for free: call chat")
        } else {
            nobody
        });
    };
    let estimate = plan::guess_in(&chat.messages, offer.card.context);
    let (affordable, _) =
        means.affordable_out((seller.peer.id, &offer.card), estimate, offer.multiplier);
    let max_out = chat.max_tokens.unwrap_or(affordable);
    let mut link = runtime.transport()?.open(&seller.peer).await?;
    let wanted = Wanted {
        max_out,
        under_mandate: means.under.is_some(),
    };
    let quote = ask_quote(runtime, &mut link, offer, &chat.messages, wanted).await?;
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
    })
}
