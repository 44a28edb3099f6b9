//! Whether the books hold: used by tests and by `wallet audit`.

use std::collections::BTreeMap;

use serde::Serialize;
use tirami_manifest::{Amount, TransferId};

use super::account::{Account, Totals};
use super::rows::{ReadRows, seq_of};
use super::tables::{Order, Table};
use super::transfer::{Entry, HoldRow, Kind};
use crate::store::StoreError;

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What should hold.
    pub rule: &'static str,
    /// Whether it does.
    pub holds: bool,
    /// The figures.
    pub detail: String,
}

/// Reads the whole ledger and checks it against itself.
///
/// # Errors
///
/// A store failure.
pub fn audit(tables: &impl ReadRows) -> Result<Vec<Check>, StoreError> {
    let accounts: BTreeMap<Account, Totals> = tables.accounts()?.into_iter().collect();
    let replayed = replay(tables)?;
    let open = tables.open_holds(tirami_manifest::Timestamp::from_ms(u64::MAX), usize::MAX)?;
    let sum = |part: fn(&Totals) -> u128| {
        accounts
            .values()
            .fold(0_u128, |sum, totals| sum.saturating_add(part(totals)))
    };
    let (debits, credits) = (sum(|t| t.debits_posted), sum(|t| t.credits_posted));
    let (held_out, held_in) = (sum(|t| t.debits_pending), sum(|t| t.credits_pending));
    let open_sum = open.iter().fold(0_u128, |sum, (_, row)| {
        sum.saturating_add(u128::from(row.amount.utrm()))
    });
    let issued = accounts
        .get(&Account::Issuer)
        .map_or(0, |t| t.debits_posted);
    let overdrawn: Vec<String> = accounts
        .iter()
        .filter(|(account, t)| {
            matches!(account.rule(), super::account::Rule::DebitsWithinCredits)
                && t.debits_posted.saturating_add(t.debits_pending) > t.credits_posted
        })
        .map(|(account, _)| account.to_string())
        .collect();
    let check = |rule, holds, detail| Check {
        rule,
        holds,
        detail,
    };
    Ok(vec![
        check(
            "debits equal credits",
            debits == credits,
            format!("{debits} and {credits} micro-TRM"),
        ),
        check(
            "what is held out equals what is held in, and the open holds",
            held_out == held_in && held_out == open_sum,
            format!(
                "{held_out}, {held_in} and {open_sum} micro-TRM in {} holds",
                open.len()
            ),
        ),
        check(
            "no account is overdrawn",
            overdrawn.is_empty(),
            overdrawn.join(", "),
        ),
        check(
            "replaying every transfer gives the same balances",
            replayed.accounts == accounts,
            format!("{} transfers, {} accounts", replayed.count, accounts.len()),
        ),
        check(
            "transfers are numbered without gaps",
            replayed.gapless,
            replayed.count.to_string(),
        ),
        check(
            "the supply made is within the quota",
            issued <= u128::from(tables.quota()?.utrm()),
            format!("{issued} micro-TRM made"),
        ),
    ])
}

struct Replay {
    accounts: BTreeMap<Account, Totals>,
    count: u64,
    gapless: bool,
}

fn replay(tables: &impl ReadRows) -> Result<Replay, StoreError> {
    let mut accounts: BTreeMap<Account, Totals> = BTreeMap::new();
    let mut holds: BTreeMap<TransferId, (Account, Account, Amount)> = BTreeMap::new();
    let (mut count, mut gapless) = (0_u64, true);
    let wide = |amount: Amount| u128::from(amount.utrm());
    for (key, id) in tables.scan(Table::Log, &[], None, Order::Ascending, usize::MAX)? {
        count = count.saturating_add(1);
        let damaged = StoreError::Row { table: Table::Log };
        let Ok(id) = id.try_into().map(TransferId::from_bytes) else {
            return Err(damaged);
        };
        let entry: Entry = tables.entry(&id)?.ok_or(damaged)?;
        gapless &= seq_of(&key) == Some(count) && entry.seq == count && entry.transfer.id == id;
        let mut ends = |accounts: &mut BTreeMap<Account, Totals>, hold, posted: u128| {
            if let Some((debit, credit, amount)) = holds.remove(&hold) {
                let totals = accounts.entry(debit).or_default();
                totals.debits_pending = totals.debits_pending.saturating_sub(wide(amount));
                totals.debits_posted = totals.debits_posted.saturating_add(posted);
                let totals = accounts.entry(credit).or_default();
                totals.credits_pending = totals.credits_pending.saturating_sub(wide(amount));
                totals.credits_posted = totals.credits_posted.saturating_add(posted);
            }
        };
        match entry.transfer.kind {
            Kind::Single {
                debit,
                credit,
                amount,
            } => {
                let totals = accounts.entry(debit).or_default();
                totals.debits_posted = totals.debits_posted.saturating_add(wide(amount));
                let totals = accounts.entry(credit).or_default();
                totals.credits_posted = totals.credits_posted.saturating_add(wide(amount));
            }
            Kind::Hold {
                debit,
                credit,
                amount,
                ..
            } => {
                let totals = accounts.entry(debit).or_default();
                totals.debits_pending = totals.debits_pending.saturating_add(wide(amount));
                let totals = accounts.entry(credit).or_default();
                totals.credits_pending = totals.credits_pending.saturating_add(wide(amount));
                holds.insert(id, (debit, credit, amount));
            }
            Kind::Post { hold, amount } => ends(&mut accounts, hold, wide(amount)),
            Kind::Void { hold } | Kind::Expire { hold } => ends(&mut accounts, hold, 0),
        }
    }
    Ok(Replay {
        accounts,
        count,
        gapless,
    })
}

/// Open holds with what they are for, for statements and recovery.
///
/// # Errors
///
/// A store failure.
pub fn open_holds(tables: &impl ReadRows) -> Result<Vec<(TransferId, HoldRow)>, StoreError> {
    tables.open_holds(tirami_manifest::Timestamp::from_ms(u64::MAX), usize::MAX)
}
