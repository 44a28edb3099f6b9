//! Choosing among sellers for one request.

use tirami_manifest::job::Message;
use tirami_manifest::model::Usage;
use tirami_manifest::{Amount, NodeId};
use tirami_mesh::proto::message::{Offer, Refuse, Retry};
use tirami_mesh::scheduler::{self, Barred, Candidate, ModelChoice, Plan, Reason, Want};

use crate::buy::body_hash;
use crate::failure::{Failure, FailureCode};
use crate::offers::Seller;
use crate::ops::Chat;
use crate::prices::Priced;
use crate::privacy::Privacy;
use crate::runtime::Runtime;

/// Tokens a template adds to each message, for a first estimate; the quote says the exact bound.
const TEMPLATE_TOKENS: u32 = 16;

/// Most sellers whose refusals are shown; chosen, for a text that is read.
const REFUSALS_SHOWN: usize = 3;

/// Ranks everyone who sells something, this node included, by what they offer.
pub(crate) fn plan(
    runtime: &Runtime,
    chat: &Chat,
    sellers: &[Seller],
    most: Amount,
) -> Result<Plan, Failure> {
    let candidates = sellers
        .iter()
        .flat_map(|seller| seller.offers.iter().map(move |offer| (seller, offer)))
        .map(|(seller, offer)| {
            let price = |tokens_out| {
                let usage = Usage {
                    tokens_in: guess_in(&chat.messages, offer.card.context),
                    tokens_cached: 0,
                    tokens_out,
                };
                offer.card.price(usage, offer.multiplier).ok()
            };
            let least = price(chat.max_tokens.unwrap_or(1));
            let (record, shut) = runtime.inner.records.of(&seller.peer.id);
            let barred = if seller.local {
                None
            } else if !runtime.may_see(&chat.privacy, &seller.peer.id) {
                Some(Barred::Privacy)
            } else {
                let in_a_row = record.in_a_row();
                shut.map(|again_ms| Barred::Failing { in_a_row, again_ms })
            };
            Candidate {
                provider: seller.peer.id,
                offer: offer.clone(),
                price: price(compared_out(chat)),
                connected: seller.connected,
                affordable: seller.local || least.is_some_and(|price| price <= most),
                record,
                takes_ms: None,
                barred,
            }
        });
    choose(chat, candidates)
}

/// Ranks those whose price binds.
pub(crate) fn of_priced(
    runtime: &Runtime,
    chat: &Chat,
    priced: &[Priced<'_>],
    most: Amount,
) -> Result<Plan, Failure> {
    let candidates = priced.iter().map(|priced| {
        let provider = priced.seller.peer.id;
        let quote = &priced.quote;
        let usage = priced.usage(compared_out(chat).min(quote.max_out));
        let price = quote.card.price(usage, quote.multiplier);
        Candidate {
            provider,
            offer: priced.offer(),
            price: price.ok(),
            connected: true,
            affordable: quote.max_amount <= most,
            record: runtime.inner.records.of(&provider).0,
            takes_ms: priced.pace.whole_ms(usage.tokens_out),
            barred: None,
        }
    });
    choose(chat, candidates)
}

/// Tokens of an answer for which prices are compared where the request names no number; chosen: a few
/// paragraphs. For much fewer, one that is cheap for prompts and dear for answers would always be chosen.
const USUAL_OUT: u32 = 256;

/// Tokens of an answer for which prices are compared.
fn compared_out(chat: &Chat) -> u32 {
    chat.max_tokens.unwrap_or(USUAL_OUT)
}

fn choose(chat: &Chat, candidates: impl Iterator<Item = Candidate>) -> Result<Plan, Failure> {
    let model = chat.model.as_ref().map(|text| match text.parse() {
        Ok(id) => ModelChoice::Id(id),
        Err(_) => ModelChoice::Name(text.clone()),
    });
    let want = Want {
        model,
        max_in: 1,
        max_out: 1,
        digest: body_hash(chat)?,
    };
    let candidates: Vec<Candidate> = candidates.collect();
    Ok(scheduler::choose(&want, &candidates))
}

/// Candidates to ask in turn. One that seems too dear is asked too: the quote binds, the estimate
/// does not, and the gate gives the reason.
fn worth_trying(ranked: &scheduler::Ranked) -> bool {
    ranked.reason.is_eligible() || ranked.reason == scheduler::Reason::TooDear
}

/// The same, as they can be asked.
pub(crate) fn worth_asking<'a>(plan: &Plan, sellers: &'a [Seller]) -> Vec<(&'a Seller, &'a Offer)> {
    let worth = plan.ranked.iter().filter(|one| worth_trying(one));
    let found = worth.filter_map(|one| find(sellers, one.provider, &one.name));
    found.collect()
}

fn find<'a>(sellers: &'a [Seller], id: NodeId, name: &str) -> Option<(&'a Seller, &'a Offer)> {
    let seller = sellers.iter().find(|seller| seller.peer.id == id)?;
    Some((
        seller,
        seller.offers.iter().find(|offer| offer.name == name)?,
    ))
}

pub(crate) fn nobody(runtime: &Runtime, chat: &Chat, plan: &Plan, sellers: &[Seller]) -> Failure {
    let reachable = sellers
        .iter()
        .filter(|seller| !seller.local && !seller.offers.is_empty())
        .count();
    let refusals: Vec<(NodeId, &Refuse)> = sellers
        .iter()
        .filter_map(|seller| Some((seller.peer.id, seller.refusal.as_ref()?)))
        .collect();
    if !refusals.is_empty() && !plan.ranked.iter().any(worth_trying) {
        return nobody_sells_now(chat, &refusals);
    }
    if let Some(failure) = barred(runtime, chat, plan) {
        return failure;
    }
    let failure = match (&chat.model, plan.ranked.is_empty()) {
        (_, true) => Failure::new(
            FailureCode::NoProvider,
            format!(
                "nobody sells inference to this node: {reachable} peers answered with an offer"
            ),
        )
        .retryable()
        .next_tool("peers"),
        (Some(model), false) => {
            let text = format!("nobody who answered sells the model '{model}'");
            Failure::new(FailureCode::NotFound, text).next_tool("models")
        }
        (None, false) => {
            let text = "no model on offer fits this request";
            Failure::new(FailureCode::NoProvider, text).next_tool("models")
        }
    };
    failure.hint("'tirami-agent peers' shows who is there, 'tirami-agent models' what they sell")
}

/// Somebody could do it, and is kept out.
fn barred(runtime: &Runtime, chat: &Chat, plan: &Plan) -> Option<Failure> {
    let barred = plan.ranked.iter().filter_map(|ranked| match ranked.reason {
        Reason::Barred(barred) => Some((ranked.provider, barred)),
        _ => None,
    });
    let barred: Vec<(NodeId, Barred)> = barred.collect();
    let said = |kept: &[(NodeId, Barred)]| {
        let said = kept
            .iter()
            .take(REFUSALS_SHOWN)
            .map(|(node, barred)| format!("provider {} {}", node.short(), Reason::Barred(*barred)));
        said.collect::<Vec<_>>().join("; ")
    };
    let failing: Vec<_> = barred
        .iter()
        .filter(|(_, barred)| *barred != Barred::Privacy)
        .copied()
        .collect();
    if !failing.is_empty() {
        let text = format!("nobody is asked for this now: {}", said(&failing));
        let failure = Failure::new(FailureCode::NoProvider, text).retryable();
        return Some(failure.next_tool("schedule"));
    }
    let (node, _) = barred.first()?;
    let (whose, privacy) = if runtime.may_see(&Privacy::Any, node) {
        ("", &chat.privacy)
    } else {
        (" in the config file", &runtime.inner.config.privacy)
    };
    let text = format!(
        "privacy is '{privacy}'{whose}: nobody who may see the prompt sells this; provider {} does, and may \
         not",
        node.short()
    );
    let failure = Failure::new(FailureCode::NoProvider, text).next_tool("schedule");
    Some(failure.hint("a wider privacy in the request, or in the config file, lets others do it"))
}

/// Those who might sell it say why they do not. Peers' words are theirs: they are quoted.
fn nobody_sells_now(chat: &Chat, refusals: &[(NodeId, &Refuse)]) -> Failure {
    let said: Vec<String> = refusals
        .iter()
        .take(REFUSALS_SHOWN)
        .map(|(node, refused)| format!("provider {} says \"{refused}\"", node.short()))
        .collect();
    let what = match &chat.model {
        Some(model) => format!("the model '{model}'"),
        None => "inference".to_owned(),
    };
    let text = format!("nobody sells {what} to this node now: {}", said.join("; "));
    let failure = Failure::new(FailureCode::NoProvider, text).next_tool("peers");
    let failure = failure.hint("ask again later, or join others who sell: 'tirami-agent peers'");
    if refusals
        .iter()
        .any(|(_, refused)| refused.retry == Retry::Later)
    {
        failure.retryable()
    } else {
        failure
    }
}

/// An upper guess of the prompt's tokens: every byte one token, and the template's share.
fn estimate_in(messages: &[Message]) -> u32 {
    messages.iter().fold(TEMPLATE_TOKENS, |sum, message| {
        let bytes = u32::try_from(message.content.len()).unwrap_or(u32::MAX);
        sum.saturating_add(bytes).saturating_add(TEMPLATE_TOKENS)
    })
}

/// The same guess, leaving a quarter of the context to the answer, as providers do.
pub(crate) fn guess_in(messages: &[Message], context: u32) -> u32 {
    estimate_in(messages).min(context.saturating_sub(context / 4))
}
