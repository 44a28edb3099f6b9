//! What this node earned by selling, summed up by time, model and buyer.
//!
//! The receipts are the truth; the sums only save reading all of them. A receipt is counted once: in the
//! transaction that books it, or by [`Wallet::count_earnings`] where a build without sums booked it.

use serde::{Deserialize, Serialize};
use tirami_manifest::commerce::{Agreement, VerifiedReceipt};
use tirami_manifest::{Amount, ModelId, NodeId, Timestamp};

use crate::error::WalletError;
use crate::ledger::tables::{Order, Pair, ReadTables, Table, Tables, decode};
use crate::statement::{ReceiptRow, Side};
use crate::store::StoreError;
use crate::wallet::Wallet;

/// Length of the finest sums; the day of every time zone begins on a quarter of an hour.
pub const QUARTER_MS: u64 = 15 * 60_000;

/// Length of the sums of each buyer and model: a day in UTC.
pub const DAY_MS: u64 = 24 * 3_600_000;

/// How long sums of a time are kept; chosen: a week and the day in which it begins.
const KEPT_MS: u64 = 8 * DAY_MS;

/// Receipts of an earlier build that are counted in one command; chosen, so that others wait little.
const COUNTED_AT_ONCE: usize = 1_000;

/// Sums that are over and removed in one command.
const REMOVED_AT_ONCE: usize = 16;

/// Most sums of buyers and models that are read; chosen, so that a question stays quick.
pub const SHARES_MAX: usize = 4_096;

/// Key in [`Table::Meta`] of how far receipts were counted.
const COUNTED: &[u8] = b"earnings-counted";

/// First byte of the key of a sum over all receipts.
const IN_ALL: u8 = 0;
/// Of a quarter of an hour; its start follows, big-endian.
const QUARTER: u8 = 1;
/// Of one buyer and model; both follow.
const SHARE: u8 = 2;
/// Of a day, one buyer and model; its start follows, big-endian, then both.
const SHARE_OF_DAY: u8 = 3;

/// A sum over some receipts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub jobs: u64,
    /// Tokens of their prompts.
    pub tokens_in: u64,
    /// Tokens generated.
    pub tokens_out: u64,
    /// What they paid, in µTRM.
    pub utrm: u128,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            jobs: self.jobs.saturating_add(other.jobs),
            tokens_in: self.tokens_in.saturating_add(other.tokens_in),
            tokens_out: self.tokens_out.saturating_add(other.tokens_out),
            utrm: self.utrm.saturating_add(other.utrm),
        }
    }

    /// What they paid, up to the largest amount there is.
    pub fn amount(self) -> Amount {
        Amount::try_from(self.utrm).unwrap_or(Amount::MAX)
    }

    fn of(agreement: &Agreement) -> Self {
        Self {
            jobs: 1,
            tokens_in: agreement.usage.tokens_in.into(),
            tokens_out: agreement.usage.tokens_out.into(),
            utrm: agreement.amount.utrm().into(),
        }
    }
}

/// What one buyer paid for one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Who bought.
    pub buyer: NodeId,
    /// What it bought.
    pub model: ModelId,
    /// How much.
    pub tally: Tally,
}

/// How far the receipts were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Counted {
    /// None yet.
    #[default]
    None,
    /// Those whose id is at most this.
    UpTo(Vec<u8>),
    /// All, and each new one when it is booked.
    All,
}

impl Wallet {
    /// What was earned in all.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn earned_in_all(&self) -> Result<Tally, WalletError> {
        let sum: Option<Tally> = self.view()?.row(Table::Earned, &[IN_ALL])?;
        Ok(sum.unwrap_or_default())
    }

    /// What was earned in each quarter of an hour from the one in which `since` lies, oldest first,
    /// with its start; those in which nothing was earned are left out. No more than eight days back.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn earned_since(&self, since: Timestamp) -> Result<Vec<(Timestamp, Tally)>, WalletError> {
        let view = self.view()?;
        let mut found = Vec::new();
        for (key, row) in after(&view, QUARTER, start(since, QUARTER_MS), usize::MAX)? {
            let at = key.get(1..9).and_then(|at| at.try_into().ok());
            let at = Timestamp::from_ms(u64::from_be_bytes(at.ok_or_else(damaged)?));
            found.push((at, decode(Table::Earned, &row)?));
        }
        Ok(found)
    }

    /// What each buyer paid for each model, in all. At most [`SHARES_MAX`].
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn shares(&self) -> Result<Vec<Share>, WalletError> {
        let view = self.view()?;
        let rows = view.scan(Table::Earned, &[SHARE], None, Order::Ascending, SHARES_MAX)?;
        rows.iter().map(|(key, row)| share(key, 1, row)).collect()
    }

    /// What each buyer paid for each model on each day, in UTC, from the one in which `since` lies. At
    /// most [`SHARES_MAX`], and no more than eight days back.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn shares_since(&self, since: Timestamp) -> Result<Vec<Share>, WalletError> {
        let view = self.view()?;
        let rows = after(&view, SHARE_OF_DAY, start(since, DAY_MS), SHARES_MAX)?;
        rows.iter().map(|(key, row)| share(key, 9, row)).collect()
    }

    /// Counts receipts that were booked by a build without sums, some at a time. True when all are.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn count_earnings(&self) -> Result<bool, WalletError> {
        if counted(&self.view()?)? == Counted::All {
            return Ok(true);
        }
        self.write(|tables, now| {
            let mark = match counted(tables)? {
                Counted::All => return Ok(true),
                Counted::UpTo(mark) => Some(mark),
                Counted::None => None,
            };
            let table = Table::Receipts;
            let rows = tables.scan(
                table,
                &[],
                mark.as_deref(),
                Order::Ascending,
                COUNTED_AT_ONCE,
            )?;
            let all = rows.len() < COUNTED_AT_ONCE;
            let mut up_to = Counted::All;
            for (key, row) in rows {
                let row: ReceiptRow = decode(table, &row)?;
                if row.side == Side::Sold {
                    add(tables, &row.receipt()?.agreement, row.at, now)?;
                }
                if !all {
                    up_to = Counted::UpTo(key);
                }
            }
            tables.put_row(Table::Meta, COUNTED, &up_to)?;
            Ok(all)
        })
        .await
    }
}

/// Counts a receipt that is booked now.
pub(crate) fn book(
    tables: &mut impl Tables,
    receipt: &VerifiedReceipt,
    now: Timestamp,
) -> Result<(), StoreError> {
    let comes_later = match counted(tables)? {
        Counted::None => true,
        Counted::UpTo(mark) => receipt.id().as_bytes().as_slice() > mark.as_slice(),
        Counted::All => false,
    };
    if comes_later {
        return Ok(());
    }
    remove_old(tables, now)?;
    add(tables, &receipt.agreement, now, now)
}

fn add(
    tables: &mut impl Tables,
    agreement: &Agreement,
    at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (buyer, model) = (agreement.consumer, agreement.model);
    let share = [&buyer.as_bytes()[..], model.as_bytes()].concat();
    let quarter = start(at, QUARTER_MS).to_be_bytes();
    let day = start(at, DAY_MS).to_be_bytes();
    let mut keys = vec![vec![IN_ALL], [&[SHARE], &share[..]].concat()];
    if now.since_ms(at) < KEPT_MS {
        keys.push([&[QUARTER], &quarter[..]].concat());
        keys.push([&[SHARE_OF_DAY], &day[..], &share].concat());
    }
    for key in keys {
        let sum: Option<Tally> = tables.row(Table::Earned, &key)?;
        let sum = sum.unwrap_or_default().and(Tally::of(agreement));
        tables.put_row(Table::Earned, &key, &sum)?;
    }
    Ok(())
}

/// Removes some sums of times that nobody asks for any more.
fn remove_old(tables: &mut impl Tables, now: Timestamp) -> Result<(), StoreError> {
    let oldest = now.ms().saturating_sub(KEPT_MS).to_be_bytes();
    for kind in [QUARTER, SHARE_OF_DAY] {
        let rows = tables.scan(
            Table::Earned,
            &[kind],
            None,
            Order::Ascending,
            REMOVED_AT_ONCE,
        )?;
        let is_old = |key: &[u8]| key.get(1..9).is_some_and(|at| at < oldest.as_slice());
        for (key, _) in rows.iter().take_while(|(key, _)| is_old(key)) {
            tables.remove(Table::Earned, key)?;
        }
    }
    Ok(())
}

fn counted(tables: &impl ReadTables) -> Result<Counted, StoreError> {
    let row: Option<Counted> = tables.row(Table::Meta, COUNTED)?;
    Ok(row.unwrap_or_default())
}

/// The beginning of the span of `length_ms` in which `at` lies.
fn start(at: Timestamp, length_ms: u64) -> u64 {
    let into = at.ms().checked_rem(length_ms).unwrap_or(0);
    at.ms().saturating_sub(into)
}

/// The sums of one kind from that time on.
fn after(
    tables: &impl ReadTables,
    kind: u8,
    from: u64,
    limit: usize,
) -> Result<Vec<Pair>, StoreError> {
    // Keys of the time before that have more bytes than this come before it as well.
    let before = from.checked_sub(1).map(|last| {
        let longest = [0xff; 64];
        [&[kind], &last.to_be_bytes()[..], &longest].concat()
    });
    let before = before.as_deref();
    tables.scan(Table::Earned, &[kind], before, Order::Ascending, limit)
}

fn share(key: &[u8], from: usize, row: &[u8]) -> Result<Share, WalletError> {
    let part = |skip: usize| -> Option<[u8; 32]> {
        let rest = key.get(from..)?.get(skip..)?;
        rest.first_chunk::<32>().copied()
    };
    let (buyer, model) = part(0).zip(part(32)).ok_or_else(damaged)?;
    Ok(Share {
        buyer: NodeId::from_bytes(buyer),
        model: ModelId::from_bytes(model),
        tally: decode(Table::Earned, row)?,
    })
}

fn damaged() -> StoreError {
    StoreError::Row {
        table: Table::Earned,
    }
}
