//! The side of the one who grants.

use serde::{Deserialize, Serialize};
use tirami_manifest::mandate_chain::{Grant, RangeReturn};
use tirami_manifest::range::{Range, RangeSet};
use tirami_manifest::signed::Signed;
use tirami_manifest::{Amount, GrantId, NodeId, Timestamp};

use super::units::Units;
use super::{RangesError, Refusal};
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::store::StoreError;

/// Tag of units handed out, by parent.
const GIVEN: u8 = b'g';
/// Tag of carvings, by parent and serial number.
const CARVING: u8 = b'c';

/// What is carved from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The grant whose holder carves; [`Grant::NO_PARENT`] for a root payer's own budget.
    pub parent: GrantId,
    /// Its units; `[0, N)` for a root payer's budget of N µTRM.
    pub range: Range,
}

/// What shall be carved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its number; asking twice with one is asking once.
    pub serial: u64,
    /// For whom.
    pub holder: NodeId,
    /// How many units.
    pub amount: Amount,
    /// Until when.
    pub expires: Timestamp,
}

/// Units set apart for a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carving {
    /// For whom.
    pub holder: NodeId,
    /// Which units.
    pub range: Range,
    /// Until when.
    pub expires: Timestamp,
    /// The grant that left; `None` while none has.
    pub grant: Option<GrantId>,
    /// Which of the units came back.
    pub back: RangeSet,
}

/// Sets the next free units in a row apart.
///
/// The same share again gives the same answer, also when units came back in between.
///
/// # Errors
///
/// [`Refusal::Zero`], [`Refusal::SerialTaken`], [`Refusal::NoRoom`].
pub fn carve(
    tables: &mut impl Tables,
    source: &Source,
    share: &Share,
) -> Result<Carving, RangesError> {
    if let Some(row) = row(tables, &source.parent, share.serial)? {
        let same = row.holder == share.holder
            && row.range.amount() == share.amount
            && row.expires == share.expires;
        let serial = share.serial;
        return same
            .then_some(row)
            .ok_or(Refusal::SerialTaken { serial }.into());
    }
    if share.amount.is_zero() {
        return Err(Refusal::Zero.into());
    }
    let given = given(&source.parent);
    let range = given
        .first_gap(tables, source.range, share.amount)?
        .map_err(|longest| Refusal::NoRoom {
            longest,
            asked: share.amount,
        })?;
    given.add(tables, range)?;
    let row = Carving {
        holder: share.holder,
        range,
        expires: share.expires,
        grant: None,
        back: RangeSet::new(),
    };
    put(tables, &source.parent, share.serial, &row)?;
    Ok(row)
}

/// Notes the grant made of carved units. Must be durable before the grant leaves.
///
/// # Errors
///
/// [`Refusal::NotCarved`] when the grant is not of these units, this holder and this time, or another
/// grant was sealed before.
pub fn seal(tables: &mut impl Tables, grant: &Grant) -> Result<(), RangesError> {
    let id = grant.id();
    let mut row = carved(tables, grant)?;
    match row.grant {
        Some(sealed) if sealed == id => Ok(()),
        Some(_) => Err(Refusal::NotCarved { grant: id }.into()),
        None => {
            row.grant = Some(id);
            Ok(put(tables, &grant.parent, grant.serial, &row)?)
        }
    }
}

/// Frees units of a grant, on the word of its tracker that they were not used and never will be
/// under it. Gives what became free; nothing when the same came back before.
///
/// # Errors
///
/// [`Refusal::NotCarved`] for a grant that was not sealed here, [`Refusal::Return`] when one is a return
/// of something else or not signed by the tracker.
pub fn give_back(
    tables: &mut impl Tables,
    grant: &Grant,
    proofs: &[Signed<RangeReturn>],
) -> Result<RangeSet, RangesError> {
    let mut row = carved(tables, grant)?;
    let id = grant.id();
    if row.grant != Some(id) {
        return Err(Refusal::NotCarved { grant: id }.into());
    }
    let mut proved = RangeSet::new();
    for proof in proofs {
        let range = RangeReturn::check_proof(proof, grant)?;
        for units in row.back.gaps(range).ranges() {
            proved.insert(*units).map_err(|_| DAMAGED)?;
            row.back.insert(*units).map_err(|_| DAMAGED)?;
        }
    }
    for units in proved.ranges() {
        given(&grant.parent).remove(tables, *units)?;
    }
    put(tables, &grant.parent, grant.serial, &row)?;
    Ok(proved)
}

/// Frees every unit of a grant that was not used, where its tracker is no more. Gives what became free.
///
/// # Errors
///
/// [`Refusal::NotCarved`] for a grant that was not sealed here.
pub fn all_back(tables: &mut impl Tables, grant: &Grant) -> Result<RangeSet, RangesError> {
    let mut row = carved(tables, grant)?;
    let used = super::used(tables, &grant.root, grant.range)?;
    let mut free = RangeSet::new();
    for unused in used.gaps(grant.range).ranges() {
        for units in row.back.gaps(*unused).ranges() {
            free.insert(*units).map_err(|_| DAMAGED)?;
        }
    }
    for units in free.ranges() {
        row.back.insert(*units).map_err(|_| DAMAGED)?;
        given(&grant.parent).remove(tables, *units)?;
    }
    put(tables, &grant.parent, grant.serial, &row)?;
    Ok(free)
}

/// Forgets what was carved for a grant that is over; its units stay as they are. The newest number of a
/// parent is kept: it says which comes next.
///
/// # Errors
///
/// [`StoreError`].
pub fn forget_carving(tables: &mut impl Tables, grant: &Grant) -> Result<(), StoreError> {
    if next_serial(tables, &grant.parent)? == grant.serial.saturating_add(1) {
        return Ok(());
    }
    tables.remove(Table::Carvings, &key(&grant.parent, grant.serial))
}

/// The number after the highest in use; the first is 1.
///
/// # Errors
///
/// [`StoreError`].
pub fn next_serial(tables: &impl ReadTables, parent: &GrantId) -> Result<u64, StoreError> {
    let prefix = prefix(parent);
    let newest = tables.scan(Table::Carvings, &prefix, None, Order::Descending, 1)?;
    let last = match newest.first() {
        None => 0,
        Some((key, _)) => serial_of(key, &prefix)?,
    };
    Ok(last.saturating_add(1))
}

/// What was carved from `parent`, by serial number, after `beyond` when given, at most `limit`.
///
/// # Errors
///
/// [`StoreError`].
pub fn carvings(
    tables: &impl ReadTables,
    parent: &GrantId,
    beyond: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, Carving)>, StoreError> {
    let prefix = prefix(parent);
    let mark = beyond.map(|serial| key(parent, serial));
    tables
        .scan(
            Table::Carvings,
            &prefix,
            mark.as_deref(),
            Order::Ascending,
            limit,
        )?
        .into_iter()
        .map(|(key, value)| Ok((serial_of(&key, &prefix)?, decode(Table::Carvings, &value)?)))
        .collect()
}

pub(super) const DAMAGED: StoreError = StoreError::Row {
    table: Table::Carvings,
};

/// What was carved for `grant`, when that is what the grant says.
fn carved(tables: &impl ReadTables, grant: &Grant) -> Result<Carving, RangesError> {
    row(tables, &grant.parent, grant.serial)?
        .filter(|row| {
            row.holder == grant.holder && row.range == grant.range && row.expires == grant.expires
        })
        .ok_or_else(|| Refusal::NotCarved { grant: grant.id() }.into())
}

/// The units of a grant that were handed on or named in a spend.
pub(super) fn given(parent: &GrantId) -> Units {
    Units::of(Table::Carvings, GIVEN, parent.as_bytes())
}

fn prefix(parent: &GrantId) -> Vec<u8> {
    [[CARVING].as_slice(), parent.as_bytes()].concat()
}

fn key(parent: &GrantId, serial: u64) -> Vec<u8> {
    [prefix(parent).as_slice(), &serial.to_be_bytes()].concat()
}

fn serial_of(key: &[u8], prefix: &[u8]) -> Result<u64, StoreError> {
    key.strip_prefix(prefix)
        .and_then(|rest| rest.try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or(DAMAGED)
}

fn row(
    tables: &impl ReadTables,
    parent: &GrantId,
    serial: u64,
) -> Result<Option<Carving>, StoreError> {
    tables.row(Table::Carvings, &key(parent, serial))
}

fn put(
    tables: &mut impl Tables,
    parent: &GrantId,
    serial: u64,
    row: &Carving,
) -> Result<(), StoreError> {
    tables.put_row(Table::Carvings, &key(parent, serial), row)
}
