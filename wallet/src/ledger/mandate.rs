//! Mandates as the ledger keeps them: a tree from the owner down to every spender.

use serde::{Deserialize, Serialize};
use tirami_manifest::mandate::Terms;
use tirami_manifest::{AgentId, Timestamp};

use super::refusal::{ApplyError, Refusal};
use super::rows::ReadRows;
use super::usage::Usage;
use crate::store::StoreError;

/// Most mandates above one another; chosen.
pub const DEPTH_MAX: u8 = 8;

/// One agent's mandate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MandateRow {
    /// What it allows.
    #[serde(with = "as_bytes")]
    pub terms: Terms,
    /// Who granted it: another agent, or the owner when absent.
    pub parent: Option<AgentId>,
    /// Whose account pays.
    pub payer: AgentId,
    /// Mandates above it.
    pub depth: u8,
    /// How often it was granted anew; what was approved under an earlier one is void.
    pub epoch: u32,
    /// The parent's epoch when it was granted: once the parent's moves on, this mandate is over.
    pub parent_epoch: u32,
    /// When it was granted.
    pub granted: Timestamp,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

/// Terms in the layout in which they are signed: every spend reads them, and that layout is read
/// several times as fast as one made of serde's parts.
mod as_bytes {
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};
    use tirami_manifest::mandate::Terms;

    pub(super) fn serialize<S: Serializer>(terms: &Terms, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(&terms.to_bytes())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Terms, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Terms;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a mandate's terms")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Terms, E> {
                Terms::from_bytes(bytes).map_err(E::custom)
            }
        }

        from.deserialize_bytes(Bytes)
    }
}

impl MandateRow {
    /// A mandate straight from the owner, out of the agent's own account.
    pub const fn from_owner(agent: AgentId, terms: Terms, now: Timestamp) -> Self {
        Self {
            terms,
            parent: None,
            payer: agent,
            depth: 0,
            epoch: 1,
            parent_epoch: 0,
            granted: now,
            revoked: None,
        }
    }
}

/// One mandate of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whose.
    pub agent: AgentId,
    /// What it says.
    pub row: MandateRow,
    /// What was used of it.
    pub usage: Usage,
    /// Whether its parent was granted anew or revoked since.
    pub cut_off: bool,
}

/// The mandates that a spend of `agent` counts against: its own first, then each ancestor's.
///
/// # Errors
///
/// [`Refusal::NoMandate`], or a store failure; a tree deeper than [`DEPTH_MAX`] is a damaged one.
pub fn chain(tables: &impl ReadRows, agent: &AgentId) -> Result<Vec<Link>, ApplyError> {
    let row = tables
        .mandate(agent)?
        .ok_or(Refusal::NoMandate { agent: *agent })?;
    let mut links = Vec::with_capacity(usize::from(row.depth).saturating_add(1));
    let mut next = Some((*agent, row));
    while let Some((agent, row)) = next {
        if links.len() > usize::from(DEPTH_MAX) {
            return Err(damaged().into());
        }
        let parent = match row.parent {
            None => None,
            Some(parent) => Some((parent, tables.mandate(&parent)?.ok_or_else(damaged)?)),
        };
        let cut_off = parent.as_ref().is_some_and(|(_, parent)| {
            parent.epoch != row.parent_epoch || parent.revoked.is_some()
        });
        links.push(Link {
            agent,
            usage: tables.usage(&agent)?,
            row,
            cut_off,
        });
        next = parent;
    }
    Ok(links)
}

const fn damaged() -> StoreError {
    StoreError::Row {
        table: super::tables::Table::Mandates,
    }
}
