//! Choosing among sellers for one request.

use tirami_manifest::job::Message;
use tirami_manifest::model::Usage;
use tirami_manifest::{Amount, NodeId};
use tirami_mesh::proto::message::{Offer, Refuse, Retry};
use tirami_mesh::scheduler::{self, Candidate, ModelChoice, Plan, Want};

use crate::failure::{Failure, FailureCode};
use crate::offers::Seller;
use crate::ops::Chat;

/// Tokens a template adds to each message, for a first estimate; the quote says the exact bound.
const TEMPLATE_TOKENS: u32 = 16;

/// Most sellers whose refusals are shown; chosen, for a text that is read.
const REFUSALS_SHOWN: usize = 3;

/// Ranks everyone who sells something, this node included.
pub(crate) fn plan(chat: &Chat, sellers: &[Seller], most: Amount, digest: [u8; 32]) -> Plan {
    let max_out = chat.max_tokens.unwrap_or(1);
    let model = chat.model.as_ref().map(|text| match text.parse() {
        Ok(id) => ModelChoice::Id(id),
        Err(_) => ModelChoice::Name(text.clone()),
    });
    let candidates: Vec<Candidate> = sellers
        .iter()
        .flat_map(|seller| seller.offers.iter().map(move |offer| (seller, offer)))
        .map(|(seller, offer)| {
            let usage = Usage {
                tokens_in: guess_in(&chat.messages, offer.card.context),
                tokens_cached: 0,
                tokens_out: max_out,
            };
            let price = offer.card.price(usage, offer.multiplier).ok();
            Candidate {
                provider: seller.peer.id,
                offer: offer.clone(),
                price,
                connected: seller.connected,
                affordable: seller.local || price.is_some_and(|price| price <= most),
            }
        })
        .collect();
    scheduler::choose(
        &Want {
            model,
            max_in: 1,
            max_out: 1,
            digest,
        },
        &candidates,
    )
}

/// Candidates to ask in turn. One that seems too dear is asked too: the quote binds, the estimate
/// does not, and the gate gives the reason.
pub(crate) fn worth_trying(ranked: &scheduler::Ranked) -> bool {
    ranked.reason.is_eligible() || ranked.reason == scheduler::Reason::TooDear
}

pub(crate) fn find<'a>(
    sellers: &'a [Seller],
    id: NodeId,
    name: &str,
) -> Option<(&'a Seller, &'a Offer)> {
    let seller = sellers.iter().find(|seller| seller.peer.id == id)?;
    Some((
        seller,
        seller.offers.iter().find(|offer| offer.name == name)?,
    ))
}

pub(crate) fn nobody(chat: &Chat, plan: &Plan, sellers: &[Seller]) -> Failure {
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
