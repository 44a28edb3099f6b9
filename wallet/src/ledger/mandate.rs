//! Mandates as the ledger keeps them: a tree from the owner down to every spender.

use serde::{Deserialize, Serialize};
use tirami_manifest::mandate::{Bearing, Purchase, Terms};
use tirami_manifest::{AgentId, Timestamp};

use super::refusal::{ApplyError, Refusal};
use super::rows::ReadRows;
use super::tables::{ROW_VERSION, Table, decode};
use super::transfer::Spend;
use super::usage::{Figures, PayeeUsage, Usage};
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

/// Where a mandate stands among others, and whether it is still one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) parent: Option<AgentId>,
    pub(crate) payer: AgentId,
    depth: u8,
    pub(crate) epoch: u32,
    parent_epoch: u32,
    pub(crate) revoked: Option<Timestamp>,
}

impl Standing {
    const fn of(row: &MandateRow) -> Self {
        Self {
            parent: row.parent,
            payer: row.payer,
            depth: row.depth,
            epoch: row.epoch,
            parent_epoch: row.parent_epoch,
            revoked: row.revoked,
        }
    }
}

/// Reads of a [`MandateRow`]'s bytes where it stands, and finds where its terms lie. Every spend does
/// this for each mandate above it, and serde would read the ids byte by byte.
fn unread(row: &[u8]) -> Option<(Standing, &[u8])> {
    let mut from = row.strip_prefix(&[ROW_VERSION])?;
    let from = &mut from;
    let len = usize::try_from(varint(from, LONG)?).ok()?;
    let (terms, rest) = from.split_at_checked(len)?;
    *from = rest;
    let parent = if is_there(from)? {
        Some(agent(from)?)
    } else {
        None
    };
    let payer = agent(from)?;
    let [depth] = *chunk(from)?;
    let epoch = u32::try_from(varint(from, SHORT)?).ok()?;
    let parent_epoch = u32::try_from(varint(from, SHORT)?).ok()?;
    pass(from)?;
    let revoked = if is_there(from)? {
        Some(Timestamp::from_ms(varint(from, LONG)?))
    } else {
        None
    };
    let standing = Standing {
        parent,
        payer,
        depth,
        epoch,
        parent_epoch,
        revoked,
    };
    from.is_empty().then_some((standing, terms))
}

fn chunk<'a, const N: usize>(from: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(head)
}

fn agent(from: &mut &[u8]) -> Option<AgentId> {
    chunk(from).map(|bytes| AgentId::from_bytes(*bytes))
}

fn is_there(from: &mut &[u8]) -> Option<bool> {
    match chunk(from)? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

/// A number of at most so many bytes: seven bits each, the lowest first; the highest bit says that
/// more follow.
#[inline]
fn varint(from: &mut &[u8], most: usize) -> Option<u64> {
    match from.split_first() {
        Some((byte, rest)) if *byte < 0x80 => {
            *from = rest;
            Some((*byte).into())
        }
        _ => long_varint(from, most),
    }
}

fn long_varint(from: &mut &[u8], most: usize) -> Option<u64> {
    let len = from.iter().take(most).position(|byte| *byte < 0x80)?;
    let (bytes, rest) = from.split_at_checked(len.saturating_add(1))?;
    *from = rest;
    bytes.iter().rev().try_fold(0_u64, |value, byte| {
        let value = value.checked_mul(0x80)?;
        Some(value | u64::from(byte & 0x7f))
    })
}

/// Passes over a number of 64 bits.
fn pass(from: &mut &[u8]) -> Option<()> {
    let most = from.get(..LONG).unwrap_or(from);
    let len = most.iter().position(|byte| *byte < 0x80)?;
    if len.saturating_add(1) == LONG {
        // The only length at which it may have too many bits.
        return varint(from, LONG).map(drop);
    }
    *from = from.get(len.saturating_add(1)..)?;
    Some(())
}

/// Bytes of a number of 32 bits, at most.
const SHORT: usize = 5;
/// Bytes of a number of 64 bits, at most.
const LONG: usize = 10;

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

/// One mandate of a chain, as it bears on a purchase.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) agent: AgentId,
    pub(crate) standing: Standing,
    pub(crate) terms: Bearing,
    /// Whether its parent was granted anew or revoked since.
    pub(crate) cut_off: bool,
    pub(crate) used: Figures,
    /// Paid to this payee in 24 hours, where that is limited and the payee is known.
    pub(crate) paid: Option<u64>,
    /// What the figures came from, where somebody wants to know when they fall.
    pub(crate) rows: Option<(Usage, PayeeUsage)>,
}

/// What a walk through a chain makes of each mandate.
trait Rung {
    fn standing(&self) -> Standing;
    fn cut_off(&mut self);
}

impl Rung for Link {
    fn standing(&self) -> Standing {
        Standing::of(&self.row)
    }

    fn cut_off(&mut self) {
        self.cut_off = true;
    }
}

impl Rung for Bound {
    fn standing(&self) -> Standing {
        self.standing
    }

    fn cut_off(&mut self) {
        self.cut_off = true;
    }
}

/// The mandates that a spend of `agent` counts against: its own first, then each ancestor's.
///
/// # Errors
///
/// [`Refusal::NoMandate`], or a store failure; a tree deeper than [`DEPTH_MAX`] is a damaged one.
pub fn chain(tables: &impl ReadRows, agent: &AgentId) -> Result<Vec<Link>, ApplyError> {
    let mut links = climb(tables, agent, |agent, bytes| {
        Some(Link {
            agent,
            row: decode(Table::Mandates, bytes).ok()?,
            usage: Usage::default(),
            cut_off: false,
        })
    })?;
    for link in &mut links {
        link.usage = tables.usage(&link.agent)?;
    }
    Ok(links)
}

/// [`chain`], with what each mandate says of one spend and what the rules ask of its usage; also, if
/// `dated`, what it takes to say when a rule would pass.
pub(crate) fn bounds(
    tables: &impl ReadRows,
    spend: &Spend,
    (now, dated): (Timestamp, bool),
) -> Result<Vec<Bound>, ApplyError> {
    let purchase = Purchase {
        action: spend.action,
        payee: spend.payee.as_ref(),
        model: spend.model.as_ref(),
    };
    let mut links = climb(tables, &spend.agent, |agent, bytes| {
        let (standing, terms) = unread(bytes)?;
        Some(Bound {
            agent,
            standing,
            terms: Bearing::read(terms, &purchase)?,
            cut_off: false,
            used: Figures::default(),
            paid: None,
            rows: None,
        })
    })?;
    for link in &mut links {
        let agent = &link.agent;
        let payee = spend.payee.as_ref();
        let payee = payee.filter(|_| link.terms.limits.payee_day_trm.is_some());
        link.used = tables.figures(agent, spend.request, now)?;
        if let Some(payee) = payee {
            link.paid = Some(tables.paid(agent, payee, now)?);
        }
        if dated {
            let paid = payee.map(|payee| tables.payee_usage(agent, payee));
            let paid = paid.transpose()?.unwrap_or_default();
            link.rows = Some((tables.usage(agent)?, paid));
        }
    }
    Ok(links)
}

/// Where an agent's mandate stands; `None` without one.
pub(crate) fn standing(
    tables: &impl ReadRows,
    agent: &AgentId,
) -> Result<Option<Standing>, StoreError> {
    let read = |row: &[u8]| unread(row).map(|(standing, _)| standing);
    match tables.look(Table::Mandates, agent.as_bytes(), read)? {
        None => Ok(None),
        Some(standing) => standing.ok_or_else(damaged).map(Some),
    }
}

/// Walks from a mandate to the owner's and reads each row once.
fn climb<L: Rung>(
    tables: &impl ReadRows,
    agent: &AgentId,
    read: impl Fn(AgentId, &[u8]) -> Option<L>,
) -> Result<Vec<L>, ApplyError> {
    let mut links: Vec<L> = Vec::new();
    let mut next = Some(*agent);
    while let Some(agent) = next {
        if links.len() > usize::from(DEPTH_MAX) {
            return Err(damaged().into());
        }
        let before = links.last().map(Rung::standing);
        let read = |row: &[u8]| {
            let link = read(agent, row)?;
            let standing = link.standing();
            if before.is_none() {
                links.reserve_exact(usize::from(standing.depth.min(DEPTH_MAX)).saturating_add(1));
            }
            links.push(link);
            Some(standing)
        };
        let standing = match (
            tables.look(Table::Mandates, agent.as_bytes(), read)?,
            before,
        ) {
            (None, None) => return Err(Refusal::NoMandate { agent }.into()),
            (standing, _) => standing.flatten().ok_or_else(damaged)?,
        };
        if let Some(child) = before
            && (standing.epoch != child.parent_epoch || standing.revoked.is_some())
            && let [.., child, _] = links.as_mut_slice()
        {
            child.cut_off();
        }
        next = standing.parent;
    }
    Ok(links)
}

const fn damaged() -> StoreError {
    StoreError::Row {
        table: Table::Mandates,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tables::encode;

    #[test]
    fn where_a_mandate_stands_is_read_off_its_bytes_as_serde_reads_it() {
        let agent = |n| AgentId::from_bytes([n; 16]);
        let mut rows = vec![MandateRow::from_owner(
            agent(1),
            Terms::standard(),
            Timestamp::EPOCH,
        )];
        for (n, ms) in [0, 1, 127, 128, 1 << 35, u64::MAX].into_iter().enumerate() {
            let at = Timestamp::from_ms(ms);
            let small = u8::try_from(n).unwrap_or(u8::MAX);
            rows.push(MandateRow {
                parent: Some(agent(small)),
                depth: small,
                epoch: u32::MAX.wrapping_shr(u32::from(small)),
                parent_epoch: u32::from(small),
                revoked: Some(at),
                ..MandateRow::from_owner(agent(9), Terms::standard(), at)
            });
        }
        for row in rows {
            let bytes = encode(Table::Mandates, &row).unwrap_or_default();
            let terms = row.terms.to_bytes();
            assert_eq!(unread(&bytes), Some((Standing::of(&row), terms.as_slice())));
            for place in 0..bytes.len() {
                assert_eq!(unread(bytes.get(..place).unwrap_or_default()), None);
                for change in [1, 2, 0x7f, 0x80, 0xff] {
                    let mut other = bytes.clone();
                    if let Some(byte) = other.get_mut(place) {
                        *byte ^= change;
                    }
                    // What serde refuses is refused, and what it reads is read alike.
                    let read: Option<MandateRow> = decode(Table::Mandates, &other).ok();
                    let found =
                        unread(&other).filter(|(_, terms)| Terms::from_bytes(terms).is_ok());
                    let found = found.map(|(standing, _)| standing);
                    assert_eq!(found, read.as_ref().map(Standing::of), "byte {place}");
                }
            }
            assert_eq!(unread(&[bytes.as_slice(), &[0]].concat()), None);
        }
    }
}
