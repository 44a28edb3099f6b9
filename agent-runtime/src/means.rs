//! What a request may spend, and out of what.

use tirami_manifest::mandate_chain::Grant;
use tirami_manifest::model::ModelCard;
use tirami_manifest::{Amount, GrantId, Multiplier, NodeId};
use tirami_wallet::budget::Budget;
use tirami_wallet::ledger::approval::{Approval, Verdict};
use tirami_wallet::ledger::rule::Rule;

use crate::failure::Failure;
use crate::offers::Seller;
use crate::ops::{Caller, Chat};
use crate::runtime::Runtime;

/// What a request may spend, and what says so.
#[derive(Clone, Debug)]
pub(crate) struct Means {
    pub(crate) most: Amount,
    pub(crate) by: &'static str,
    /// The same for a request that the owner approves.
    approved: (Amount, &'static str),
    /// What this request waits for the owner for, or has the owner's yes for.
    asked: Vec<Approval>,
    /// The travelling mandate that pays instead of the agent's account.
    pub(crate) under: Option<Box<Grant>>,
}

/// What was asked of the owner under an idempotency key and the present mandate, and not denied.
fn asked(
    runtime: &Runtime,
    caller: Caller,
    (key, budget): (&str, &Budget),
) -> Result<Vec<Approval>, Failure> {
    let epoch = budget.chain.first().map(|own| own.row.epoch);
    let all = runtime.inner.wallet.approvals()?.into_iter();
    Ok(all
        .map(|(_, approval)| approval)
        .filter(|one| one.agent == caller.agent && one.key == key && Some(one.epoch) == epoch)
        .filter(|one| !matches!(one.verdict, Verdict::Denied { .. }))
        .collect())
}

impl Means {
    /// The least of what every mandate, the balance and the request itself allow, of which so much is owed for
    /// earlier tries at it.
    pub(crate) fn of(
        runtime: &Runtime,
        caller: Caller,
        chat: &Chat,
        before: Amount,
    ) -> Result<Self, Failure> {
        let wallet = &runtime.inner.wallet;
        let means = if let Some(id) = &chat.mandate {
            let held = wallet.held_by(&caller.agent, id)?;
            Self {
                most: held.left,
                by: "mandate",
                approved: (held.left, "mandate"),
                asked: Vec::new(),
                under: Some(Box::new(held.grant)),
            }
        } else {
            let budget = wallet.budget(&caller.agent)?;
            let (rule, approved) = budget.approved;
            Self {
                most: budget.left,
                by: budget.by.name(),
                approved: (approved, rule.name()),
                asked: match (budget.by, &chat.idempotency_key) {
                    (Rule::Approval, Some(key)) => asked(runtime, caller, (key, &budget))?,
                    _ => Vec::new(),
                },
                under: None,
            }
        };
        let of_request = chat.max_trm.map(|most| most.saturating_sub(before));
        let capped = |(left, by)| match of_request {
            Some(most) if most < left => (most, "max_trm"),
            _ => (left, by),
        };
        let (most, by) = capped((means.most, means.by));
        let approved = capped(means.approved);
        Ok(Self {
            most,
            by,
            approved,
            ..means
        })
    }

    /// How many tokens an answer may have, and what caps that. Where not even one passes without the
    /// owner's approval, it is to be asked for what passes with it, not for a useless token.
    pub(crate) fn affordable_out(
        &self,
        (provider, card): (NodeId, &ModelCard),
        tokens_in: u32,
        multiplier: Multiplier,
    ) -> (u32, &'static str) {
        let (approved, approved_by) = self.approved;
        // The owner was asked for so much: what has become free since is no part of it.
        let asked = self
            .asked
            .iter()
            .find(|one| one.payee == Some(provider) && one.model == Some(card.id));
        let approved = asked.map_or(approved, |asked| asked.amount.min(approved));
        [(self.most, self.by), (approved, approved_by)]
            .into_iter()
            .find_map(|(most, by)| Some((card.affordable_out(tokens_in, multiplier, most)?, by)))
            .unwrap_or((1, self.by))
    }

    /// The mandate that pays, if one does.
    pub(crate) fn mandate(&self) -> Option<GrantId> {
        self.under.as_ref().map(|grant| grant.id())
    }

    /// Those who may be paid: a travelling mandate may name them, and what this node does itself costs
    /// nothing that somebody else would have to pay for.
    pub(crate) fn limit(&self, mut sellers: Vec<Seller>) -> Vec<Seller> {
        if let Some(grant) = &self.under {
            sellers.retain(|seller| {
                let id = seller.peer.id;
                let pinned = grant.pinned.is_none_or(|provider| provider == id);
                !seller.local && pinned && grant.payees.allows(&id)
            });
            for seller in &mut sellers {
                seller
                    .offers
                    .retain(|offer| grant.models.allows(&offer.card.id));
            }
        }
        sellers
    }
}
