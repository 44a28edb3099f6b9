//! The side of the tracker: the root payer's ledger, or the pinned provider.

use serde::{Deserialize, Serialize};
use tirami_manifest::key::Signature;
use tirami_manifest::mandate_chain::{CheckedSpend, Grant, RangeReturn, ReturnError, is_over};
use tirami_manifest::range::{Range, RangeSet};
use tirami_manifest::signed::Document;
use tirami_manifest::{Amount, GrantId, NodeId, Timestamp, TransferId};

use super::units::Units;
use super::{RangesError, Refusal};
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::store::StoreError;

/// Tag of units used or reserved, by root payer.
const USED: u8 = b'u';
/// Tag of units that went back, by grant.
const RETURNED: u8 = b'r';
/// Tag of reservations, by hold.
const RESERVED: u8 = b'h';
/// Tag of holds, by root payer, holder and nonce.
const NONCE: u8 = b'n';
/// Tag of reservations without outcome, by the time at which their spend is over, and hold.
const OPEN: u8 = b'o';
/// Tag of epochs, by root payer.
const EPOCH: u8 = b'e';

/// How long units without an outcome are kept at most, whatever the holder signed: an hour, longer than
/// a job takes.
const RESERVED_MS: u64 = 3_600_000;

const DAMAGED: StoreError = StoreError::Row {
    table: Table::Ranges,
};

/// How a reservation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// So many of its units are used for ever, the lowest ones; the rest is free.
    Spent(Amount),
    /// All of its units are free.
    Released,
}

/// Units set aside for one spend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Whose units.
    pub root: NodeId,
    /// Who spends.
    pub holder: NodeId,
    /// The last grant of the chain.
    pub chain: GrantId,
    /// Digest of the spend.
    pub spend: [u8; 32],
    /// The units set aside: the lowest of the spend.
    pub range: Range,
    /// Since when.
    pub since: Timestamp,
    /// When the spend, its grant or an hour is over: from then on units without an outcome may be
    /// given up.
    pub until: Timestamp,
    /// The grants it stands under, the root payer's first.
    pub grants: Vec<GrantId>,
    /// `None` while nobody knows; all units count as used then.
    pub outcome: Option<Outcome>,
}

/// The answer to a spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The units are set aside from now on.
    New(Reservation),
    /// They were before; this is what became of it.
    Again(Reservation),
}

/// Sets aside the lowest `amount` units of a spend, under a hold of the caller's.
///
/// `me` is the node this ledger belongs to. The same spend with the same hold and amount again gives
/// what became of the first. A chain of a newer epoch than was known raises the epoch: the root payer
/// signed it.
///
/// # Errors
///
/// [`Refusal::NotTracker`], [`Refusal::NonceTaken`], [`Refusal::HoldTaken`], [`Refusal::Zero`],
/// [`Refusal::MoreThanSigned`], [`Refusal::OldEpoch`], [`Refusal::Returned`], [`Refusal::Used`].
pub fn reserve(
    tables: &mut impl Tables,
    me: &NodeId,
    spend: &CheckedSpend,
    hold: TransferId,
    amount: Amount,
) -> Result<Reserved, RangesError> {
    if spend.tracker() != *me {
        let tracker = spend.tracker();
        return Err(Refusal::NotTracker { tracker }.into());
    }
    let nonce_key = nonce_key(spend);
    if let Some(first) = tables.row::<TransferId>(Table::Ranges, &nonce_key)? {
        let row = reservation(tables, &first)?.ok_or(DAMAGED)?;
        let same = first == hold
            && row.spend == spend.spend().signed().body.digest()
            && row.range.amount() == amount;
        return same
            .then_some(Reserved::Again(row))
            .ok_or(Refusal::NonceTaken.into());
    }
    if reservation(tables, &hold)?.is_some() {
        return Err(Refusal::HoldTaken { hold }.into());
    }
    let range = admit(tables, spend, amount)?;
    if spend.epoch() > epoch(tables, &spend.root())? {
        set_epoch(tables, &spend.root(), spend.epoch())?;
    }
    used_units(&spend.root()).add(tables, range)?;
    let row = Reservation {
        root: spend.root(),
        holder: spend.holder(),
        chain: spend.spend().chain,
        spend: spend.spend().signed().body.digest(),
        range,
        since: spend.at(),
        until: spend.ends().min(spend.at().after_ms(RESERVED_MS)),
        grants: spend.grants().to_vec(),
        outcome: None,
    };
    tables.put_row(Table::Ranges, &nonce_key, &hold)?;
    tables.put(Table::Ranges, &open_key(&row, &hold), &[])?;
    tables.put_row(Table::Ranges, &hold_key(&hold), &row)?;
    Ok(Reserved::New(row))
}

/// Gives up reservations whose spend is over and of which nobody ever said what became of it, at most
/// `limit`. What was owed on one can still be claimed by [`commit_late`], while its units are free.
///
/// # Errors
///
/// [`StoreError`].
pub fn give_up(
    tables: &mut impl Tables,
    now: Timestamp,
    limit: usize,
) -> Result<usize, RangesError> {
    let mut count = 0_usize;
    for (hold, row) in open_reservations(tables, limit)? {
        if !is_over(row.until, now) {
            break;
        }
        release(tables, hold)?;
        count = count.saturating_add(1);
    }
    Ok(count)
}

/// Forgets reservations and their nonces whose spend was over at `before`, of the `limit` nonces beyond a
/// mark. Answers how many, and the mark to go on from; none at the end. What they used stays used;
/// what they did not is free, and the same spend again is a new one, if its time is not over.
///
/// # Errors
///
/// [`StoreError`].
pub fn forget_spends(
    tables: &mut impl Tables,
    before: Timestamp,
    (beyond, limit): (Option<&[u8]>, usize),
) -> Result<(usize, Option<Vec<u8>>), RangesError> {
    let seen = tables.scan(Table::Ranges, &[NONCE], beyond, Order::Ascending, limit)?;
    let mut count = 0_usize;
    for (key, hold) in &seen {
        let hold: TransferId = decode(Table::Ranges, hold)?;
        let row = reservation(tables, &hold)?.ok_or(DAMAGED)?;
        if row.until >= before {
            continue;
        }
        if row.outcome.is_none() {
            release(tables, hold)?;
        }
        tables.remove(Table::Ranges, &hold_key(&hold))?;
        tables.remove(Table::Ranges, key)?;
        count = count.saturating_add(1);
    }
    let full = seen.len() == limit;
    let mark = seen.into_iter().next_back().filter(|_| full);
    Ok((count, mark.map(|(key, _)| key)))
}

/// Ends a reservation as [`commit`] does, also one that was given up, when its units are still free.
///
/// # Errors
///
/// Those of [`commit`], [`Refusal::Returned`] and [`Refusal::Used`].
pub fn commit_late(
    tables: &mut impl Tables,
    hold: TransferId,
    actual: Amount,
) -> Result<Reservation, RangesError> {
    let mut row = reservation(tables, &hold)?.ok_or(Refusal::Unknown { hold })?;
    let spent = row.range.split(actual).0;
    let (Some(Outcome::Released), Some(spent)) = (row.outcome, spent) else {
        return commit(tables, hold, actual);
    };
    if actual > row.range.amount() {
        return Err(Refusal::MoreThanReserved {
            reserved: row.range.amount(),
            asked: actual,
        }
        .into());
    }
    refuse_returned(tables, &row.grants, spent)?;
    use_up(tables, &row.root, spent)?;
    row.outcome = Some(Outcome::Spent(actual));
    tables.put_row(Table::Ranges, &hold_key(&hold), &row)?;
    Ok(row)
}

/// Notes units as used for good, on somebody else's word: what a root payer does when its pinned
/// provider tells it what was spent.
///
/// # Errors
///
/// [`Refusal::Used`] when one of them is used already.
pub fn use_up(tables: &mut impl Tables, root: &NodeId, units: Range) -> Result<(), RangesError> {
    match used_units(root).overlap(tables, units)? {
        Some(units) => Err(Refusal::Used { units }.into()),
        None => Ok(used_units(root).add(tables, units)?),
    }
}

/// The units to set aside for a spend that is new here, when they may be.
fn admit(
    tables: &impl ReadTables,
    spend: &CheckedSpend,
    amount: Amount,
) -> Result<Range, RangesError> {
    let signed = spend.spend().range;
    let range = signed.split(amount).0.ok_or(Refusal::Zero)?;
    if amount > signed.amount() {
        return Err(Refusal::MoreThanSigned {
            signed: signed.amount(),
            asked: amount,
        }
        .into());
    }
    let current = epoch(tables, &spend.root())?;
    if spend.epoch() < current {
        let asked = spend.epoch();
        return Err(Refusal::OldEpoch { current, asked }.into());
    }
    refuse_returned(tables, spend.grants(), range)?;
    match used_units(&spend.root()).overlap(tables, range)? {
        Some(units) => Err(Refusal::Used { units }.into()),
        None => Ok(range),
    }
}

/// Refuses units that went back from one of the grants they stand under.
fn refuse_returned(
    tables: &impl ReadTables,
    grants: &[GrantId],
    range: Range,
) -> Result<(), RangesError> {
    for grant in grants {
        if let Some(units) = returned_units(grant).overlap(tables, range)? {
            let grant = *grant;
            return Err(Refusal::Returned { grant, units }.into());
        }
    }
    Ok(())
}

/// Ends a reservation: its lowest `actual` units stay used, the rest comes free. The same again
/// changes nothing.
///
/// # Errors
///
/// [`Refusal::Unknown`], [`Refusal::Ended`] when it ended otherwise, [`Refusal::MoreThanReserved`].
pub fn commit(
    tables: &mut impl Tables,
    hold: TransferId,
    actual: Amount,
) -> Result<Reservation, RangesError> {
    end(tables, hold, Outcome::Spent(actual))
}

/// Ends a reservation: all of its units come free. Only for work that certainly is not owed. The
/// same again changes nothing.
///
/// # Errors
///
/// [`Refusal::Unknown`], [`Refusal::Ended`] when it ended otherwise.
pub fn release(tables: &mut impl Tables, hold: TransferId) -> Result<Reservation, RangesError> {
    end(tables, hold, Outcome::Released)
}

fn end(
    tables: &mut impl Tables,
    hold: TransferId,
    outcome: Outcome,
) -> Result<Reservation, RangesError> {
    let mut row = reservation(tables, &hold)?.ok_or(Refusal::Unknown { hold })?;
    match row.outcome {
        Some(before) if before == outcome => return Ok(row),
        Some(outcome) => return Err(Refusal::Ended { hold, outcome }.into()),
        None => {}
    }
    let kept = match outcome {
        Outcome::Spent(actual) => actual,
        Outcome::Released => Amount::ZERO,
    };
    if kept > row.range.amount() {
        return Err(Refusal::MoreThanReserved {
            reserved: row.range.amount(),
            asked: kept,
        }
        .into());
    }
    if let (_, Some(free)) = row.range.split(kept) {
        used_units(&row.root).remove(tables, free)?;
    }
    row.outcome = Some(outcome);
    tables.remove(Table::Ranges, &open_key(&row, &hold))?;
    tables.put_row(Table::Ranges, &hold_key(&hold), &row)?;
    Ok(row)
}

/// A request to give units back, as the tracker sees it.
#[derive(Clone, Copy, Debug)]
pub struct ReturnRequest<'a> {
    /// The grant they go back from.
    pub grant: &'a Grant,
    /// The units.
    pub back: &'a RangeReturn,
    /// The holder's signature or the root payer's; not needed when the grant is over or of an earlier
    /// epoch, nor for units that went back before.
    pub by: Option<&'a Signature>,
    /// Most runs of units that go back at once; whoever asks asks again for what is above the last.
    pub runs_max: usize,
}

/// Grants a return: whatever of the range is not used cannot be used from now on under this grant or
/// any below it; the lowest runs of it, when there are many. Answers those units. When this is durable
/// the caller signs, as the tracker, a return of each run of them.
///
/// # Errors
///
/// [`Refusal::NotTracker`], [`Refusal::Return`].
pub fn take_back(
    tables: &mut impl Tables,
    me: &NodeId,
    request: &ReturnRequest<'_>,
    now: Timestamp,
) -> Result<RangeSet, RangesError> {
    let ReturnRequest {
        grant,
        back,
        by,
        runs_max,
    } = *request;
    if grant.tracker() != *me {
        let tracker = grant.tracker();
        return Err(Refusal::NotTracker { tracker }.into());
    }
    match back.check_request(grant, by, now, epoch(tables, &grant.root)?) {
        // Whoever handed it out may hear of what its holder gave back.
        Err(ReturnError::StillHeld { expires }) => {
            let ever = returned_units(&back.grant).overlap(tables, grant.range)?;
            return match ever {
                None => Err(ReturnError::StillHeld { expires }.into()),
                Some(_) => Ok(went_back(tables, grant, back, runs_max)?),
            };
        }
        checked => checked?,
    }
    let free = used_units(&grant.root).gaps(tables, back.range, runs_max)?;
    for units in free.ranges() {
        returned_units(&back.grant).add(tables, *units)?;
    }
    Ok(free)
}

/// The lowest runs of units that went back before and that nobody has used since.
fn went_back(
    tables: &impl ReadTables,
    grant: &Grant,
    back: &RangeReturn,
    runs_max: usize,
) -> Result<RangeSet, StoreError> {
    let (mut free, mut rest) = (RangeSet::new(), Some(back.range));
    while let Some(range) = rest
        && let Some(run) = returned_units(&back.grant).overlap(tables, range)?
    {
        let room = runs_max.saturating_sub(free.ranges().len());
        let unused = used_units(&grant.root).gaps(tables, run, room)?;
        for units in unused.ranges() {
            free.insert(*units).map_err(|_| StoreError::Row {
                table: Table::Ranges,
            })?;
        }
        rest = range.without(run).1.filter(|_| room > 0);
    }
    Ok(free)
}

/// Raises a root payer's epoch: every grant of an earlier one is void from now on. Reservations stay
/// what they are, and no unit comes free. The same epoch again changes nothing.
///
/// # Errors
///
/// [`Refusal::OldEpoch`] when it would go back.
pub fn bump_epoch(tables: &mut impl Tables, root: &NodeId, to: u64) -> Result<(), RangesError> {
    let current = epoch(tables, root)?;
    if to < current {
        return Err(Refusal::OldEpoch { current, asked: to }.into());
    }
    Ok(set_epoch(tables, root, to)?)
}

/// The newest epoch known of a root payer; 0 before the first.
///
/// # Errors
///
/// [`StoreError`].
pub fn epoch(tables: &impl ReadTables, root: &NodeId) -> Result<u64, StoreError> {
    Ok(tables
        .row(Table::Ranges, &epoch_key(root))?
        .unwrap_or_default())
}

/// A reservation, open or ended.
///
/// # Errors
///
/// [`StoreError`].
pub fn reservation(
    tables: &impl ReadTables,
    hold: &TransferId,
) -> Result<Option<Reservation>, StoreError> {
    tables.row(Table::Ranges, &hold_key(hold))
}

/// Reservations without outcome, those that are over first in front, at most `limit`: what must still
/// be reconciled.
///
/// # Errors
///
/// [`StoreError`].
pub fn open_reservations(
    tables: &impl ReadTables,
    limit: usize,
) -> Result<Vec<(TransferId, Reservation)>, StoreError> {
    tables
        .scan(Table::Ranges, &[OPEN], None, Order::Ascending, limit)?
        .into_iter()
        .map(|(key, _)| {
            let hold = key.last_chunk().ok_or(DAMAGED)?;
            let hold = TransferId::from_bytes(*hold);
            Ok((hold, reservation(tables, &hold)?.ok_or(DAMAGED)?))
        })
        .collect()
}

/// The units of `within` that are used or reserved.
///
/// # Errors
///
/// [`StoreError`].
pub fn used(
    tables: &impl ReadTables,
    root: &NodeId,
    within: Range,
) -> Result<RangeSet, StoreError> {
    used_units(root).inside(tables, within)
}

fn used_units(root: &NodeId) -> Units {
    Units::of(Table::Ranges, USED, root.as_bytes())
}

fn returned_units(grant: &GrantId) -> Units {
    Units::of(Table::Ranges, RETURNED, grant.as_bytes())
}

fn set_epoch(tables: &mut impl Tables, root: &NodeId, to: u64) -> Result<(), StoreError> {
    tables.put_row(Table::Ranges, &epoch_key(root), &to)
}

fn epoch_key(root: &NodeId) -> Vec<u8> {
    [[EPOCH].as_slice(), root.as_bytes()].concat()
}

fn hold_key(hold: &TransferId) -> Vec<u8> {
    [[RESERVED].as_slice(), hold.as_bytes()].concat()
}

fn open_key(row: &Reservation, hold: &TransferId) -> Vec<u8> {
    let until = row.until.ms().to_be_bytes();
    [[OPEN].as_slice(), &until, hold.as_bytes()].concat()
}

fn nonce_key(spend: &CheckedSpend) -> Vec<u8> {
    let (root, holder) = (spend.root(), spend.holder());
    [
        [NONCE].as_slice(),
        root.as_bytes(),
        holder.as_bytes(),
        &spend.spend().nonce,
    ]
    .concat()
}
