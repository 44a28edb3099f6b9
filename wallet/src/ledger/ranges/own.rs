//! The holder's own use of its units.
//!
//! The tracker has the last word on which units are used. The holder keeps its own count, so that it
//! names different units in spends that run at once and never spends what it handed on: both come out
//! of one set, that of [`super::carve`].

use serde::{Deserialize, Serialize};
use tirami_manifest::mandate_chain::SKEW_MS;
use tirami_manifest::range::Range;
use tirami_manifest::{Amount, GrantId, Timestamp, TransferId};

use super::carve::{DAMAGED, given};
use super::{RangesError, Refusal, Source};
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::store::StoreError;

/// Tag of units named in a spend, by hold.
const NAMED: u8 = b's';
/// Tag of those of which the tracker may count more as used than were spent, by the time at which the
/// spend is over, and hold.
const OPEN: u8 = b't';

/// How many forgotten spends are looked at, per new one; two, so that they never pile up.
const FORGET_AT_ONCE: usize = 2;

/// Units named in one spend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Named {
    grant: GrantId,
    range: Range,
    until: Timestamp,
    /// What was spent of them; `None` while nobody knows.
    spent: Option<Amount>,
}

/// Takes the next free units of a grant for one spend, which is over at `until`. Units of spends that
/// were forgotten come free first.
///
/// # Errors
///
/// [`Refusal::Zero`], [`Refusal::NoRoom`], [`Refusal::HoldTaken`].
pub fn name_units(
    tables: &mut impl Tables,
    source: &Source,
    (hold, amount): (TransferId, Amount),
    (now, until): (Timestamp, Timestamp),
) -> Result<Range, RangesError> {
    forget(tables, now)?;
    if named(tables, &hold)?.is_some() {
        return Err(Refusal::HoldTaken { hold }.into());
    }
    if amount.is_zero() {
        return Err(Refusal::Zero.into());
    }
    let units = given(&source.parent);
    let range = units
        .first_gap(tables, source.range, amount)?
        .map_err(|longest| Refusal::NoRoom {
            longest,
            asked: amount,
        })?;
    units.add(tables, range)?;
    let row = Named {
        grant: source.parent,
        range,
        until,
        spent: None,
    };
    tables.put(Table::Carvings, &open_key(until, &hold), &[])?;
    put(tables, &hold, &row)?;
    Ok(range)
}

/// A spend took `actual` of its units, the lowest ones. The others stay named until the tracker knows
/// it too: [`free_rest`].
///
/// # Errors
///
/// [`Refusal::Unknown`], [`Refusal::MoreThanReserved`].
pub fn keep_units(
    tables: &mut impl Tables,
    hold: TransferId,
    actual: Amount,
) -> Result<(), RangesError> {
    let mut row = named(tables, &hold)?.ok_or(Refusal::Unknown { hold })?;
    if actual > row.range.amount() {
        return Err(Refusal::MoreThanReserved {
            reserved: row.range.amount(),
            asked: actual,
        }
        .into());
    }
    if row.spent.is_none() {
        row.spent = Some(actual);
        put(tables, &hold, &row)?;
    }
    Ok(())
}

/// Frees what a spend named and did not take; all of it when nothing was said of it. Once.
///
/// # Errors
///
/// [`Refusal::Unknown`].
pub fn free_rest(tables: &mut impl Tables, hold: TransferId) -> Result<(), RangesError> {
    let row = named(tables, &hold)?.ok_or(Refusal::Unknown { hold })?;
    let open = open_key(row.until, &hold);
    if tables.get(Table::Carvings, &open)?.is_none() {
        return Ok(());
    }
    tables.remove(Table::Carvings, &open)?;
    let spent = row.spent.unwrap_or(Amount::ZERO);
    if let (_, Some(free)) = row.range.split(spent) {
        given(&row.grant).remove(tables, free)?;
    }
    keep_units(tables, hold, spent)
}

/// The most units in a row that are free, and how many are free in all.
///
/// # Errors
///
/// [`StoreError`].
pub fn free_units(
    tables: &impl ReadTables,
    source: &Source,
) -> Result<(Amount, Amount), StoreError> {
    let free = given(&source.parent)
        .inside(tables, source.range)?
        .gaps(source.range);
    let longest = free.ranges().iter().map(|range| range.amount()).max();
    Ok((longest.unwrap_or(Amount::ZERO), free.total()))
}

/// Frees what was left of spends that are over by every clock: the tracker gives such units up as well,
/// and refuses them if it has booked them after all.
fn forget(tables: &mut impl Tables, now: Timestamp) -> Result<(), RangesError> {
    let oldest = tables.scan(
        Table::Carvings,
        &[OPEN],
        None,
        Order::Ascending,
        FORGET_AT_ONCE,
    )?;
    for (key, _) in oldest {
        let hold = TransferId::from_bytes(*key.last_chunk().ok_or(DAMAGED)?);
        let row = named(tables, &hold)?.ok_or(DAMAGED)?;
        // The tracker waits for its own clock's skew; the holder as long again.
        if now < row.until.after_ms(SKEW_MS.saturating_mul(2)) {
            break;
        }
        free_rest(tables, hold)?;
    }
    Ok(())
}

/// Forgets which units were named in spends that were over at `before`, of the `limit` spends beyond a
/// mark. Answers how many, and the mark to go on from; none at the end. What was spent stays spent.
///
/// # Errors
///
/// [`StoreError`].
pub fn forget_names(
    tables: &mut impl Tables,
    before: Timestamp,
    (beyond, limit): (Option<&[u8]>, usize),
) -> Result<(usize, Option<Vec<u8>>), RangesError> {
    let seen = tables.scan(Table::Carvings, &[NAMED], beyond, Order::Ascending, limit)?;
    let mut count = 0_usize;
    for (key, row) in &seen {
        let row: Named = decode(Table::Carvings, row)?;
        if row.until >= before {
            continue;
        }
        free_rest(
            tables,
            TransferId::from_bytes(*key.last_chunk().ok_or(DAMAGED)?),
        )?;
        tables.remove(Table::Carvings, key)?;
        count = count.saturating_add(1);
    }
    let full = seen.len() == limit;
    let mark = seen.into_iter().next_back().filter(|_| full);
    Ok((count, mark.map(|(key, _)| key)))
}

fn named(tables: &impl ReadTables, hold: &TransferId) -> Result<Option<Named>, StoreError> {
    tables.row(Table::Carvings, &named_key(hold))
}

fn put(tables: &mut impl Tables, hold: &TransferId, row: &Named) -> Result<(), StoreError> {
    tables.put_row(Table::Carvings, &named_key(hold), row)
}

fn named_key(hold: &TransferId) -> Vec<u8> {
    [[NAMED].as_slice(), hold.as_bytes()].concat()
}

fn open_key(until: Timestamp, hold: &TransferId) -> Vec<u8> {
    [
        [OPEN].as_slice(),
        &until.ms().to_be_bytes(),
        hold.as_bytes(),
    ]
    .concat()
}
