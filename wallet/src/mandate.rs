//! Granting, tightening and revoking mandates.
//!
//! Only the owner makes anything possible that was not. An agent can hand out part of what it may do
//! itself, which adds nothing: whatever its child spends counts against the agent too.

use tirami_manifest::mandate::Terms;
use tirami_manifest::owner::AGENT_NAME_MAX;
use tirami_manifest::{AgentId, Timestamp};

use crate::error::WalletError;
use crate::ledger::mandate::{DEPTH_MAX, MandateRow, chain};
use crate::ledger::refusal::Refusal;
use crate::ledger::rows::{ReadRows, WriteRows};
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::token::{agent_id, name_agent};
use crate::wallet::Wallet;

/// Most agents of one node; chosen.
const AGENTS_MAX: usize = 1_000;

impl Wallet {
    /// Every mandate, by agent.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn mandates(&self) -> Result<Vec<(AgentId, MandateRow)>, WalletError> {
        Ok(all(&self.view()?)?)
    }

    /// Gives an agent a mandate out of `parent`'s, whose payer then pays. The agent is created when
    /// it is new; one whose mandate from the same parent was revoked may get another.
    ///
    /// # Errors
    ///
    /// [`WalletError::Mandate`] when the name is taken, the tree is too deep or the parent has no
    /// mandate itself; [`WalletError::Terms`].
    pub async fn grant(
        &self,
        parent: AgentId,
        name: String,
        terms: Terms,
    ) -> Result<AgentId, WalletError> {
        self.write(move |tables, now| {
            let id = agent_id(&name);
            if let Some(present) = tables.mandate(&id)? {
                if present.parent.is_none() {
                    return refuse(format!(
                        "the name {name} is taken by another agent, to which the owner granted; to do so \
                         anew: 'tirami-agent mandate grant {name} --owner'"
                    ));
                }
                if present.parent != Some(parent) {
                    return refuse(format!("the name {name} is taken by another agent"));
                }
                if !over(tables, &present)? {
                    return refuse(format!(
                        "agent {name} has a mandate already; tighten or revoke that"
                    ));
                }
            }
            grant(tables, &name, Some(parent), &terms, now)?;
            Ok(id)
        })
        .await
    }

    /// Replaces an agent's terms by tighter ones; anyone may.
    ///
    /// # Errors
    ///
    /// [`WalletError::Loosens`] when a term would allow more: that needs an owner's order.
    pub async fn tighten(&self, agent: AgentId, terms: Terms) -> Result<(), WalletError> {
        self.write(move |tables, _| {
            let mut row = tables
                .mandate(&agent)?
                .ok_or(Refusal::NoMandate { agent })?;
            if let Some(looser) = terms.looser_than(&row.terms) {
                return Err(WalletError::Loosens(looser));
            }
            sound(&terms)?;
            row.terms = terms;
            Ok(tables.set_mandate(&agent, &row)?)
        })
        .await
    }

    /// Takes an agent's mandate away, and with it those of everybody below. Answers all of them, the
    /// agent first.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownAgent`], or [`WalletError::Mandate`] when it is over already.
    pub async fn revoke(&self, agent: AgentId) -> Result<Vec<AgentId>, WalletError> {
        self.write(move |tables, now| {
            let mut row = tables
                .mandate(&agent)?
                .ok_or_else(|| WalletError::UnknownAgent(agent.short()))?;
            if row.revoked.is_some() {
                return refuse("the mandate is revoked already".into());
            }
            row.revoked = Some(now);
            row.epoch = row.epoch.saturating_add(1);
            tables.set_mandate(&agent, &row)?;
            let (every, mut gone) = (all(tables)?, vec![agent]);
            let mut next = 0;
            while let Some(parent) = gone.get(next).copied() {
                let children = every
                    .iter()
                    .filter(|(_, row)| row.parent == Some(parent))
                    .map(|(id, _)| *id);
                gone.extend(children);
                next = next.saturating_add(1);
            }
            Ok(gone)
        })
        .await
    }

    /// Whether `above` is `agent` or granted it, straight or through others.
    ///
    /// # Errors
    ///
    /// A refusal when the agent has no mandate, or a store failure.
    pub fn is_above(&self, above: &AgentId, agent: &AgentId) -> Result<bool, WalletError> {
        let links = chain(&self.view()?, agent)?;
        Ok(links.iter().any(|link| link.agent == *above))
    }
}

/// The owner grants, also anew.
pub(crate) fn grant_by_owner(
    tables: &mut impl Tables,
    name: &str,
    parent: Option<AgentId>,
    terms: &Terms,
    now: Timestamp,
) -> Result<(), WalletError> {
    if let Some(present) = tables.mandate(&agent_id(name))?
        && present.parent != parent
    {
        return refuse(format!(
            "agent {name} has its mandate from somebody else, which is for good; take another name"
        ));
    }
    grant(tables, name, parent, terms, now)
}

fn grant(
    tables: &mut impl Tables,
    name: &str,
    parent: Option<AgentId>,
    terms: &Terms,
    now: Timestamp,
) -> Result<(), WalletError> {
    if name.is_empty() || name.len() > AGENT_NAME_MAX {
        return refuse(format!(
            "an agent's name has 1 to {AGENT_NAME_MAX} bytes, '{name}' has {}",
            name.len()
        ));
    }
    sound(terms)?;
    let id = agent_id(name);
    let mut row = MandateRow::from_owner(id, terms.clone(), now);
    if let Some(parent) = parent {
        let links = chain(tables, &parent)?;
        if links
            .iter()
            .any(|link| link.row.revoked.is_some() || link.cut_off)
        {
            return refuse("a revoked mandate grants nothing".into());
        }
        let Some(own) = links.first() else {
            return refuse("the granting agent has no mandate".into());
        };
        if own.row.depth >= DEPTH_MAX {
            return refuse(format!(
                "there are {DEPTH_MAX} mandates above already, which is the most"
            ));
        }
        row.parent = Some(parent);
        row.payer = own.row.payer;
        row.depth = own.row.depth.saturating_add(1);
        row.parent_epoch = own.row.epoch;
    }
    if let Some(present) = tables.mandate(&id)? {
        row.epoch = present.epoch.saturating_add(1);
    } else {
        let agents = tables.scan(Table::Agents, &[], None, Order::Ascending, AGENTS_MAX)?;
        if agents.len() >= AGENTS_MAX {
            return refuse(format!(
                "this node has {AGENTS_MAX} agents, which is the most"
            ));
        }
        name_agent(tables, id, name)?;
    }
    Ok(tables.set_mandate(&id, &row)?)
}

/// Whether a mandate is revoked, by itself or through one above it.
fn over(tables: &impl ReadRows, row: &MandateRow) -> Result<bool, WalletError> {
    if row.revoked.is_some() {
        return Ok(true);
    }
    let Some(parent) = row.parent else {
        return Ok(false);
    };
    let links = chain(tables, &parent)?;
    let moved_on = links
        .first()
        .is_some_and(|parent| parent.row.epoch != row.parent_epoch);
    Ok(moved_on
        || links
            .iter()
            .any(|link| link.row.revoked.is_some() || link.cut_off))
}

pub(crate) fn sound(terms: &Terms) -> Result<(), WalletError> {
    terms
        .flaw()
        .map_or(Ok(()), |flaw| Err(WalletError::Terms(flaw)))
}

fn all(tables: &impl ReadTables) -> Result<Vec<(AgentId, MandateRow)>, crate::store::StoreError> {
    let damaged = crate::store::StoreError::Row {
        table: Table::Mandates,
    };
    tables
        .scan(Table::Mandates, &[], None, Order::Ascending, usize::MAX)?
        .into_iter()
        .map(|(key, bytes)| {
            let id = key.try_into().map_err(|_| damaged.clone())?;
            Ok((AgentId::from_bytes(id), decode(Table::Mandates, &bytes)?))
        })
        .collect()
}

fn refuse<T>(text: String) -> Result<T, WalletError> {
    Err(WalletError::Mandate(text))
}
