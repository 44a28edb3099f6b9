//! The journal: everything that happened to the ledger, in its order, and what was refused.
//!
//! Each event is written where it happens, in the transaction that makes it true, so none can be
//! forgotten. Doing them again from the first on gives the same rows, byte for byte ([`redo`]); the
//! hashes over them are made in [`crate::journal`].

use serde::{Deserialize, Serialize};
use tirami_manifest::point::Point;
use tirami_manifest::{AgentId, Amount, ApprovalId, NodeId, OwnerId, Timestamp, TransferId};

use super::apply::{apply, renew};
use super::approval::Approval;
use super::gate::Freeze;
use super::mandate::MandateRow;
use super::refusal::ApplyError;
use super::rows::{ReadRows, WriteRows, seq_of};
use super::tables::{MemoryTables, Order, ReadTables, Table, Tables, decode, encode};
use super::transfer::Entry;
use crate::store::StoreError;

/// Tables that follow from the journal.
pub const FOLLOWING: [Table; 9] = [
    Table::Accounts,
    Table::Transfers,
    Table::Log,
    Table::Holds,
    Table::OpenHolds,
    Table::Mandates,
    Table::Usage,
    Table::PayeeUsage,
    Table::Approvals,
];

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A transfer was applied; it is in [`Table::Transfers`].
    Applied(TransferId),
    /// A hold lives its whole timeout again.
    Renewed(TransferId),
    /// A mandate was granted, changed or revoked.
    Mandate(AgentId, Box<MandateRow>),
    /// A request for approval was made, decided or dropped.
    Approval(ApprovalId, Option<Box<Approval>>),
    /// The kill switch was turned on, or off.
    Freeze(Option<Freeze>),
    /// What the node may issue was set.
    Quota(Amount),
    /// A spend was refused.
    Refused(Refused),
    /// A row that was there before there was a journal, by the place of its table.
    Row(u8, Vec<u8>, Vec<u8>),
    /// A token of an agent was made, or revoked; by its hash.
    Token(AgentId, [u8; 32], bool),
    /// The node got its owner.
    Owner(OwnerId),
}

/// A spend that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Who wanted to spend.
    pub agent: AgentId,
    /// How much.
    pub amount: Amount,
    /// On whom, if it was known.
    pub payee: Option<NodeId>,
    /// The number of the refusal.
    pub rule: u16,
}

/// Of one agent and rule, one refusal in so many milliseconds is kept: who asks without end fills no
/// disk. Chosen.
const REFUSED_EVERY_MS: u64 = 1_000;

impl Event {
    /// The word people and JSON see.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Applied(_) => "transfer",
            Self::Renewed(_) => "renewed",
            Self::Mandate(..) => "mandate",
            Self::Approval(..) => "approval",
            Self::Freeze(Some(_)) => "freeze",
            Self::Freeze(None) => "unfreeze",
            Self::Quota(_) => "quota",
            Self::Refused(_) => "refused",
            Self::Row(..) => "opening",
            Self::Token(..) => "token",
            Self::Owner(_) => "owner",
        }
    }
}

/// A row of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// A row with all that it says, as it is hashed and handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The row.
    pub row: Row,
    /// The transfer, where one was applied.
    pub transfer: Option<Box<Entry>>,
}

impl Record {
    /// The bytes that are hashed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Row`] when it does not serialise, which does not happen.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        encode(Table::Journal, self)
    }

    /// Reads what [`Record::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`StoreError::Row`] when it is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        decode(Table::Journal, bytes)
    }
}

/// Key of the place up to which rows were dropped, in [`Table::Meta`].
const DROPPED: &[u8] = b"journal-dropped";

/// The place up to which rows were archived and dropped: the first row that is there follows it.
///
/// # Errors
///
/// [`StoreError`].
pub fn dropped(tables: &impl ReadTables) -> Result<Point, StoreError> {
    Ok(tables.row(Table::Meta, DROPPED)?.unwrap_or_default())
}

/// Says up to which place rows are dropped now.
pub(crate) fn set_dropped(tables: &mut impl Tables, point: &Point) -> Result<(), StoreError> {
    if *point == Point::START {
        return tables.remove(Table::Meta, DROPPED);
    }
    tables.put_row(Table::Meta, DROPPED, point)
}

/// Number of the newest row; 0 before the first.
///
/// # Errors
///
/// [`StoreError`].
pub fn last(tables: &impl ReadTables) -> Result<u64, StoreError> {
    match tables.last_key(Table::Journal)? {
        Some(key) => seq_of(&key).ok_or_else(damaged),
        // There may have been rows, all of which were dropped.
        None => Ok(dropped(tables)?.seq),
    }
}

/// Writes that something happened. Its time is set when the command is over ([`date`]); a transfer has
/// its own.
pub(crate) fn note(tables: &mut impl Tables, event: Event) -> Result<(), StoreError> {
    let seq = last(tables)?.saturating_add(1);
    let at = Timestamp::EPOCH;
    tables.put_row(Table::Journal, &seq.to_be_bytes(), &Row { at, event })
}

/// Writes that a spend was refused, unless the same was just now.
pub(crate) fn note_refusal(
    tables: &mut impl Tables,
    refused: Refused,
    now: Timestamp,
) -> Result<(), StoreError> {
    let key = [
        refused.agent.as_bytes().as_slice(),
        &refused.rule.to_be_bytes(),
    ]
    .concat();
    let last: Option<Timestamp> = tables.row(Table::Refusals, &key)?;
    if last.is_some_and(|last| now.since_ms(last) < REFUSED_EVERY_MS) {
        return Ok(());
    }
    tables.put_row(Table::Refusals, &key, &now)?;
    note(tables, Event::Refused(refused))
}

/// Sets the time of rows after number `after`.
pub(crate) fn date(tables: &mut impl Tables, after: u64, now: Timestamp) -> Result<(), StoreError> {
    let mark = after.to_be_bytes();
    for (key, row) in tables.scan(
        Table::Journal,
        &[],
        Some(&mark),
        Order::Ascending,
        usize::MAX,
    )? {
        let row: Row = decode(Table::Journal, &row)?;
        if !matches!(row.event, Event::Applied(_)) {
            tables.put_row(Table::Journal, &key, &Row { at: now, ..row })?;
        }
    }
    Ok(())
}

/// A row with all that it says.
///
/// # Errors
///
/// [`StoreError`].
pub fn record(tables: &impl ReadTables, row: &[u8]) -> Result<Record, StoreError> {
    let mut row: Row = decode(Table::Journal, row)?;
    let mut transfer = None;
    if let Event::Applied(id) = &row.event {
        let entry = tables.entry(id)?.ok_or_else(damaged)?;
        row.at = entry.at;
        transfer = Some(Box::new(entry));
    }
    Ok(Record { row, transfer })
}

/// The row of a record, as it lies in the store: the time of a transfer stands with the transfer.
pub(crate) fn row_of(record: &Record) -> Result<Vec<u8>, StoreError> {
    let mut row = record.row.clone();
    if matches!(row.event, Event::Applied(_)) {
        row.at = Timestamp::EPOCH;
    }
    encode(Table::Journal, &row)
}

pub(crate) fn damaged() -> StoreError {
    StoreError::Row {
        table: Table::Journal,
    }
}

/// Does again what a record says.
///
/// # Errors
///
/// [`ApplyError`] when the rules refuse what they had let through, or the record is not one.
pub fn redo(tables: &mut MemoryTables, record: &Record) -> Result<(), ApplyError> {
    let at = record.row.at;
    match (&record.row.event, &record.transfer) {
        (Event::Applied(id), Some(entry)) if entry.transfer.id == *id => {
            apply(tables, &entry.transfer, at)?;
        }
        (Event::Renewed(hold), _) => renew(tables, hold, at)?,
        (Event::Mandate(agent, row), _) => tables.set_mandate(agent, row)?,
        (Event::Approval(id, approval), _) => tables.set_approval(id, approval.as_deref())?,
        (Event::Freeze(freeze), _) => tables.set_freeze(freeze.as_ref())?,
        (Event::Quota(quota), _) => tables.set_quota(*quota)?,
        // These change nothing of the ledger.
        (Event::Refused(_) | Event::Token(..) | Event::Owner(_), _) => {}
        (Event::Row(table, key, value), _) => {
            let place = usize::from(*table);
            let (table, _) = Table::ALL.get(place).ok_or_else(damaged)?;
            tables.put(*table, key, value)?;
        }
        (Event::Applied(_), _) => return Err(damaged().into()),
    }
    Ok(())
}

/// Goes through the rows after `point` up to number `to`; `each` is told of them and their hashed bytes.
/// Answers the place it came to.
///
/// # Errors
///
/// What `each` fails with; a row that is missing or damaged.
pub fn walk<E: From<StoreError>>(
    tables: &impl ReadTables,
    mut point: Point,
    to: u64,
    mut each: impl FnMut(&Record, &[u8]) -> Result<(), E>,
) -> Result<Point, E> {
    while point.seq < to {
        let mark = point.seq.to_be_bytes();
        let left = usize::try_from(to.saturating_sub(point.seq)).unwrap_or(PAGE);
        let page = tables.scan(
            Table::Journal,
            &[],
            Some(&mark),
            Order::Ascending,
            left.min(PAGE),
        )?;
        if page.is_empty() {
            return Err(damaged().into());
        }
        for (key, row) in page {
            if seq_of(&key) != point.seq.checked_add(1) {
                return Err(damaged().into());
            }
            let record = record(tables, &row)?;
            let bytes = record.to_bytes()?;
            each(&record, &bytes)?;
            point.pass(&bytes);
        }
    }
    Ok(point)
}

/// Rows read at once.
const PAGE: usize = 1_024;

/// The first row in which two stores differ, of the tables that follow from the journal.
///
/// # Errors
///
/// [`StoreError`].
pub fn difference(
    one: &impl ReadTables,
    other: &impl ReadTables,
) -> Result<Option<Table>, StoreError> {
    if one.freeze()? != other.freeze()? || one.quota()? != other.quota()? {
        return Ok(Some(Table::Meta));
    }
    for table in FOLLOWING {
        let mut after = None::<Vec<u8>>;
        loop {
            let mark = after.as_deref();
            let left = one.scan(table, &[], mark, Order::Ascending, PAGE)?;
            if left != other.scan(table, &[], mark, Order::Ascending, PAGE)? {
                return Ok(Some(table));
            }
            let Some((last, _)) = left.last() else {
                break;
            };
            after = Some(last.clone());
        }
    }
    Ok(None)
}
