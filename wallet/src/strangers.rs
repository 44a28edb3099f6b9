//! Selling to somebody whose payment no witness stands behind yet.
//!
//! What is accepted so within any 24 hours stays within the *stranger budget*, whatever the number of
//! identities behind it; so does what may be lost. What was earned waits in an account of its own,
//! outside what can be spent, until the payer's debit is certified.

use serde::{Deserialize, Serialize};
use tirami_manifest::commerce::{Quote, VerifiedReceipt};
use tirami_manifest::{Amount, EntryId, NodeId, QuoteId, ReceiptId, Timestamp};

use crate::error::WalletError;
use crate::jobs;
use crate::ledger::account::Account;
use crate::ledger::apply::{apply, apply_group};
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode};
use crate::store::StoreError;
use crate::token::main_agent;
use crate::wallet::Wallet;

/// What is accepted uncertified in any 24 hours unless configured otherwise; chosen: half a welcome
/// loan.
pub const STRANGER_BUDGET: Amount = Amount::from_trm(500);

/// The window of the budget: 24 hours.
const DAY_MS: u64 = 24 * 3_600_000;

/// How long the receipt of a job may take: as long as those of mandates for other machines.
const LATE_MS: u64 = 30 * DAY_MS;

/// Late jobs that are looked at in one command.
const LATE_AT_ONCE: usize = 16;

/// Most jobs and credits that are counted at once; chosen, so that counting stays quick.
const COUNTED_MAX: usize = 4_096;

/// A job for a stranger that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Job {
    /// When it was begun.
    at: Timestamp,
    /// What it costs at most.
    amount: Amount,
}

/// What was earned and waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Who pays.
    pub payer: NodeId,
    /// How much.
    pub amount: Amount,
    /// When it was earned.
    pub at: Timestamp,
    /// The payer's certified entry, once it is known.
    pub debit: Option<EntryId>,
}

impl Wallet {
    /// What was earned and waits to be certified, by receipt.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn waiting(&self) -> Result<Vec<(ReceiptId, Waiting)>, WalletError> {
        Ok(waiting(&self.view()?)?)
    }

    /// What can still be accepted uncertified now.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn stranger_room(&self) -> Result<Amount, WalletError> {
        let (view, now) = self.view_now()?;
        Ok(self
            .inner
            .stranger_budget
            .saturating_sub(exposed(&view, now)?))
    }

    /// Books that a witness certified the debit of what waits: from now on it can be spent. Once; what
    /// does not wait here changes nothing.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn certified(&self, receipt: ReceiptId, debit: EntryId) -> Result<bool, WalletError> {
        self.write(move |tables, now| {
            let row: Option<Waiting> = tables.row(Table::Waiting, receipt.as_bytes())?;
            let Some(row) = row else {
                return Ok(false);
            };
            let steps = [
                (
                    Account::Uncertified(row.payer),
                    Account::Revenue,
                    TransferCode::Certified,
                ),
                (
                    Account::Revenue,
                    Account::Agent(main_agent()),
                    TransferCode::Earnings,
                ),
            ];
            let group = steps
                .map(|(debit, credit, code)| single((debit, credit), row.amount, code, &receipt));
            apply_group(tables, &group, now)?;
            let row = Waiting {
                debit: Some(debit),
                ..row
            };
            tables.put_row(Table::Waiting, receipt.as_bytes(), &row)?;
            Ok(true)
        })
        .await
    }
}

/// Counts a job for a stranger against the budget.
pub(crate) fn begin(
    tables: &mut impl Tables,
    quote: &Quote,
    budget: Amount,
    now: Timestamp,
) -> Result<(), WalletError> {
    let id = quote.id();
    if tables.get(Table::Strangers, id.as_bytes())?.is_some() {
        return Err(WalletError::OtherReceipt("job under the same quote"));
    }
    // What was begun a day ago counts no more, also where its provider stopped in the middle of it; its
    // receipt is taken all the same when it comes.
    let jobs = tables.scan(Table::Strangers, &[], None, Order::Ascending, COUNTED_MAX)?;
    for (key, row) in jobs {
        let job: Job = decode(Table::Strangers, &row)?;
        if now.since_ms(job.at) >= DAY_MS {
            tables.remove(Table::Strangers, &key)?;
            tables.put(
                Table::Late,
                &[&job.at.ms().to_be_bytes(), &key[..]].concat(),
                &[],
            )?;
            tables.put(Table::LateQuotes, &key, &job.at.ms().to_be_bytes())?;
        }
    }
    forget_late(tables, now)?;
    let exposed = exposed(tables, now)?;
    let amount = quote.max_amount;
    let sum = exposed.checked_add(amount);
    if sum.is_none_or(|sum| sum > budget) {
        return Err(WalletError::StrangerBudget {
            budget,
            left: budget.saturating_sub(exposed),
            asked: amount,
        });
    }
    let job = Job { at: now, amount };
    Ok(tables.put_row(Table::Strangers, id.as_bytes(), &job)?)
}

/// Forgets jobs whose receipts did not come in all the time that there is for them.
fn forget_late(tables: &mut impl Tables, now: Timestamp) -> Result<(), StoreError> {
    for (key, _) in tables.scan(Table::Late, &[], None, Order::Ascending, LATE_AT_ONCE)? {
        let damaged = StoreError::Row { table: Table::Late };
        let (at, quote) = key.split_first_chunk::<8>().ok_or(damaged)?;
        if now.since_ms(Timestamp::from_ms(u64::from_be_bytes(*at))) < LATE_MS {
            break;
        }
        tables.remove(Table::LateQuotes, quote)?;
        tables.remove(Table::Late, &key)?;
    }
    Ok(())
}

/// Whether a job was begun here under this quote, however long ago; from here on it was not.
fn was_begun(tables: &mut impl Tables, quote: &QuoteId) -> Result<bool, StoreError> {
    let quote = quote.as_bytes();
    if tables.get(Table::Strangers, quote)?.is_some() {
        tables.remove(Table::Strangers, quote)?;
        return Ok(true);
    }
    let Some(at) = tables.get(Table::LateQuotes, quote)? else {
        return Ok(false);
    };
    tables.remove(Table::Late, &[&at[..], quote].concat())?;
    tables.remove(Table::LateQuotes, quote)?;
    Ok(true)
}

/// When the oldest job was begun that still counts.
pub(crate) fn oldest_job(
    tables: &impl ReadTables,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let mut oldest = None;
    for (_, row) in tables.scan(Table::Strangers, &[], None, Order::Ascending, COUNTED_MAX)? {
        let job: Job = decode(Table::Strangers, &row)?;
        if now.since_ms(job.at) < DAY_MS {
            oldest = Some(oldest.map_or(job.at, |at: Timestamp| at.min(job.at)));
        }
    }
    Ok(oldest)
}

/// The job came to nothing.
pub(crate) fn release(tables: &mut impl Tables, quote: &QuoteId) -> Result<(), WalletError> {
    if tables.get(Table::Strangers, quote.as_bytes())?.is_some() {
        tables.remove(Table::Strangers, quote.as_bytes())?;
    }
    Ok(())
}

/// Books what a stranger owes by receipt. The job must have been begun here.
pub(crate) fn earn(
    tables: &mut impl Tables,
    receipt: &VerifiedReceipt,
    now: Timestamp,
) -> Result<(), WalletError> {
    let (id, agreement) = (receipt.id(), &receipt.agreement);
    let quote = agreement.quote;
    if !was_begun(tables, &quote)? {
        return Err(WalletError::OtherReceipt(
            "consumer than the network's authority, and no job of a stranger",
        ));
    }
    if agreement.amount.is_zero() {
        return Ok(());
    }
    let accounts = (Account::Position, Account::Uncertified(agreement.consumer));
    let code = TransferCode::Uncertified;
    let earned = Transfer {
        // A job has one sale.
        id: jobs::sale_id(&agreement.lane_key()),
        ..single(accounts, agreement.amount, code, &id)
    };
    apply(tables, &earned, now)?;
    let row = Waiting {
        payer: agreement.consumer,
        amount: agreement.amount,
        at: now,
        debit: None,
    };
    Ok(tables.put_row(Table::Waiting, id.as_bytes(), &row)?)
}

fn single(
    (debit, credit): (Account, Account),
    amount: Amount,
    code: TransferCode,
    receipt: &ReceiptId,
) -> Transfer {
    Transfer {
        id: transfer::id(code.name(), &[b"stranger", receipt.as_bytes()]),
        kind: Kind::Single {
            debit,
            credit,
            amount,
            spend: None,
        },
        code,
        reference: *receipt.as_bytes(),
    }
}

/// What waits, by receipt; what was certified is no longer among it.
fn waiting(tables: &impl ReadTables) -> Result<Vec<(ReceiptId, Waiting)>, StoreError> {
    let mut rows = Vec::new();
    for (key, row) in tables.scan(Table::Waiting, &[], None, Order::Ascending, usize::MAX)? {
        let damaged = StoreError::Row {
            table: Table::Waiting,
        };
        let receipt = ReceiptId::from_bytes(key.try_into().map_err(|_| damaged)?);
        let row: Waiting = decode(Table::Waiting, &row)?;
        if row.debit.is_none() {
            rows.push((receipt, row));
        }
    }
    Ok(rows)
}

/// What was accepted uncertified in the last 24 hours, running jobs included.
fn exposed(tables: &impl ReadTables, now: Timestamp) -> Result<Amount, StoreError> {
    let mut sum = Amount::ZERO;
    let mut add = |at: Timestamp, amount| {
        if now.since_ms(at) < DAY_MS {
            sum = sum.checked_add(amount).unwrap_or(Amount::MAX);
        }
    };
    let jobs = tables.scan(Table::Strangers, &[], None, Order::Ascending, COUNTED_MAX)?;
    let full = jobs.len() >= COUNTED_MAX;
    for (_, row) in jobs {
        let job: Job = decode(Table::Strangers, &row)?;
        add(job.at, job.amount);
    }
    for (_, row) in waiting(tables)? {
        add(row.at, row.amount);
    }
    // What cannot be counted is not accepted.
    Ok(if full { Amount::MAX } else { sum })
}
