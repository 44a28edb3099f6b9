//! What is handed out allows nothing that the mandates of the agent's chain do not.

use std::collections::BTreeSet;

use tirami_manifest::mandate::{List, Terms};
use tirami_manifest::mandate_chain::Allowed;
use tirami_manifest::{Amount, ModelId, Multiplier, NodeId};

use super::handing_out::HandOut;
use crate::error::WalletError;
use crate::ledger::mandate::Link;

/// What the grant may say at most, where the request says nothing.
pub(super) struct Narrowed {
    pub(super) per_request: Amount,
    pub(super) ceiling: Option<Multiplier>,
    pub(super) models: Allowed<ModelId>,
    pub(super) payees: Allowed<NodeId>,
}

/// Checks that what is handed out allows nothing that a mandate of the agent's chain does not. What a
/// grant cannot say must not be in the way: a limit per payee and quiet hours need this node's word
/// before each job, so they are refused for a pinned grant.
pub(super) fn narrowed(links: &[Link], asked: &HandOut) -> Result<Narrowed, WalletError> {
    let mut per_request = asked.amount;
    let mut ceiling: Option<Multiplier> = None;
    let (mut payees, mut models) = (Scope::default(), Scope::default());
    for Link { row, .. } in links {
        let terms = &row.terms;
        per_request = per_request.min(terms.limits.per_request_trm);
        ceiling = match (ceiling, terms.limits.ceiling()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        payees.narrow(&terms.scope.payees);
        models.narrow(&terms.scope.models);
        let cannot = |what: &str| {
            Err(WalletError::Mandate(format!(
                "the mandate has {what}, which a pinned provider cannot hold; hand it out without a \
                 pin, so that this node is asked before each job"
            )))
        };
        if asked.pinned.is_some() && terms.quiet_hours.is_some() {
            return cannot("quiet hours");
        }
        if let Some(end) = terms.expires.filter(|end| asked.expires > *end) {
            return widens("expires", &asked.expires.to_rfc3339(), &end.to_rfc3339());
        }
        told_apart(terms, asked)?;
    }
    if let Some(own) = asked.per_request.filter(|own| *own > per_request) {
        return widens("per_request_trm", &own, &per_request);
    }
    let dearer = |own: &Multiplier| ceiling.is_some_and(|most| *own > most);
    if let (Some(own), Some(most)) = (asked.ceiling.filter(dearer), ceiling) {
        return widens("price_ceiling", &own.ppm(), &most.ppm());
    }
    if let Some(pin) = asked
        .pinned
        .filter(|pin| !asked.payees.is_empty() && !asked.payees.contains(pin))
    {
        let text = format!("pinned is {pin}, which is not among the payees");
        return Err(WalletError::Mandate(text));
    }
    let pinned: Vec<NodeId> = asked.pinned.into_iter().collect();
    let named = if asked.payees.is_empty() {
        &pinned
    } else {
        &asked.payees
    };
    Ok(Narrowed {
        per_request: asked.per_request.unwrap_or(per_request),
        ceiling: asked.ceiling.or(ceiling),
        models: models.only("model", &asked.models)?,
        payees: payees.only("payee", named)?,
    })
}

/// What is handed out is judged for one payee and one model: where a rule tells them apart, there must
/// be no others.
fn told_apart(terms: &Terms, asked: &HandOut) -> Result<(), WalletError> {
    let one_payee = asked.pinned.is_some() || asked.payees.len() == 1;
    let by_payee = terms.pots.iter().any(|pot| pot.payee.is_some());
    let by_model = terms.pots.iter().any(|pot| pot.model.is_some());
    let (what, way_out) = if terms.limits.payee_day_trm.is_some() && !one_payee {
        (
            "a limit per payee",
            "pin the grant to one provider, or name one payee",
        )
    } else if by_payee && !one_payee {
        (
            "a pot for one payee",
            "pin the grant to one provider, or name one payee",
        )
    } else if by_model && asked.models.len() != 1 {
        ("a pot for one model", "name one model")
    } else {
        return Ok(());
    };
    let text = format!("the mandate has {what}; {way_out}");
    Err(WalletError::Mandate(text))
}

fn widens<T>(
    field: &str,
    asked: &dyn std::fmt::Display,
    most: &dyn std::fmt::Display,
) -> Result<T, WalletError> {
    Err(WalletError::Mandate(format!(
        "{field} is {asked}; the mandate it comes from allows {most}"
    )))
}

/// What the lists of a chain of mandates leave.
struct Scope<T> {
    allow: Option<BTreeSet<T>>,
    deny: BTreeSet<T>,
}

impl<T> Default for Scope<T> {
    fn default() -> Self {
        Self {
            allow: None,
            deny: BTreeSet::new(),
        }
    }
}

impl<T: Copy + Ord + std::fmt::Display> Scope<T> {
    fn narrow(&mut self, list: &List<T>) {
        self.deny.extend(list.deny.iter().copied());
        if let Some(allow) = &list.allow {
            let kept = match &self.allow {
                Some(before) => before.intersection(allow).copied().collect(),
                None => allow.clone(),
            };
            self.allow = Some(kept);
        }
    }

    /// The list a grant shall have: what was named, if all of it is allowed, or all that is.
    fn only(&self, what: &str, named: &[T]) -> Result<Allowed<T>, WalletError> {
        let permits = |thing: &T| {
            !self.deny.contains(thing)
                && self
                    .allow
                    .as_ref()
                    .is_none_or(|allow| allow.contains(thing))
        };
        if let Some(other) = named.iter().find(|thing| !permits(thing)) {
            return Err(WalletError::Mandate(format!(
                "the mandate does not allow the {what} {other}"
            )));
        }
        if !named.is_empty() {
            return Ok(listed(what, named)?.unwrap_or(Allowed::ANY));
        }
        match &self.allow {
            None if self.deny.is_empty() => Ok(Allowed::ANY),
            None => Err(WalletError::Mandate(format!(
                "the mandate forbids some {what}s, which a grant cannot say; name the {what}s it is for"
            ))),
            Some(allow) => {
                let left: Vec<T> = allow.difference(&self.deny).copied().collect();
                listed(what, &left)?.ok_or_else(|| {
                    WalletError::Mandate(format!("the mandate allows no {what} at all"))
                })
            }
        }
    }
}

/// The list of a grant; none when nothing is named.
fn listed<T: Copy + Ord>(what: &str, named: &[T]) -> Result<Option<Allowed<T>>, WalletError> {
    if named.is_empty() {
        return Ok(None);
    }
    Allowed::only(named.iter().copied())
        .map(Some)
        .map_err(|error| WalletError::Mandate(format!("{what}: {error}")))
}
