//! The only functions that change a balance.

use tirami_manifest::mandate::Pot;
use tirami_manifest::{AgentId, Amount, Timestamp, TransferId};

use super::account::{Account, Rule, Totals};
use super::gate::{self, Outcome};
use super::pot;
use super::refusal::{ApplyError, Refusal};
use super::rows::{ReadRows, WriteRows};
use super::tables::{Overlay, Table, Tables};
use super::transfer::{self, Charge, Entry, HoldEnd, HoldRow, Kind, Spend, Transfer, TransferCode};
use crate::store::StoreError;

/// What applying a transfer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was applied now.
    Now,
    /// The same transfer was applied before; nothing changed.
    Already,
}

/// Applies one transfer, or changes nothing.
///
/// Reads and writes only through `tables`; the caller supplies the time. Applying the same transfer
/// twice answers [`Applied::Already`]; the same id with other contents is refused.
///
/// # Errors
///
/// The first [`Refusal`] in the order documented in [`crate::ledger`], or a store failure.
pub fn apply(
    tables: &mut impl Tables,
    transfer: &Transfer,
    now: Timestamp,
) -> Result<Applied, ApplyError> {
    apply_group(tables, std::slice::from_ref(transfer), now)
}

/// Applies transfers that succeed or fail together.
///
/// # Errors
///
/// As [`apply`], for the first transfer that is refused; then none of them was applied.
pub fn apply_group(
    tables: &mut impl Tables,
    transfers: &[Transfer],
    now: Timestamp,
) -> Result<Applied, ApplyError> {
    let mut group = Overlay::new(tables);
    let mut applied = Applied::Already;
    for transfer in transfers {
        if one(&mut group, transfer, now)? == Applied::Now {
            applied = Applied::Now;
        }
    }
    group.keep()?;
    Ok(applied)
}

fn one(
    tables: &mut impl Tables,
    transfer: &Transfer,
    now: Timestamp,
) -> Result<Applied, ApplyError> {
    if let Some(earlier) = tables.entry(&transfer.id)? {
        return if earlier.transfer == *transfer {
            Ok(Applied::Already)
        } else {
            Err(Refusal::IdTaken { id: transfer.id }.into())
        };
    }
    match transfer.kind {
        Kind::Single {
            debit,
            credit,
            amount,
            spend,
        } => {
            check_pair(&debit, &credit, amount)?;
            let repays = transfer.code == TransferCode::Repayment;
            let charge = admit(tables, (&debit, repays), spend.as_ref(), amount, now)?;
            change(tables, &debit, |t| raise(&mut t.debits_posted, amount))?;
            change(tables, &credit, |t| raise(&mut t.credits_posted, amount))?;
            check_rules(tables, &debit, &credit, amount)?;
            if let (Some(charge), Account::Agent(payer)) = (charge, debit) {
                gate::ended(tables, &payer, &charge, Amount::ZERO, (Outcome::Paid, now))?;
            }
            enter(tables, &credit, pot::enters(transfer.code), amount)?;
        }
        Kind::Hold {
            debit,
            credit,
            amount,
            timeout_ms,
            spend,
        } => {
            check_pair(&debit, &credit, amount)?;
            let charge = admit(tables, (&debit, false), spend.as_ref(), amount, now)?;
            change(tables, &debit, |t| raise(&mut t.debits_pending, amount))?;
            change(tables, &credit, |t| raise(&mut t.credits_pending, amount))?;
            check_rules(tables, &debit, &credit, amount)?;
            let row = HoldRow {
                debit,
                credit,
                amount,
                timeout_ms,
                expires: now.after_ms(timeout_ms),
                charge,
                vouched: Amount::ZERO,
                end: None,
            };
            tables.set_hold(&transfer.id, &row)?;
        }
        Kind::Allot {
            from,
            from_pot,
            to,
            to_pot,
            amount,
        } => allot(tables, (&from, from_pot), (&to, to_pot), amount)?,
        on_a_hold => on_hold(tables, on_a_hold, transfer.code, now)?,
    }
    let seq = tables.last_seq()?.saturating_add(1);
    tables.record(&Entry {
        seq,
        at: now,
        transfer: *transfer,
    })?;
    Ok(Applied::Now)
}

/// Vouches for part of a hold, or ends it.
fn on_hold(
    tables: &mut impl Tables,
    kind: Kind,
    code: TransferCode,
    now: Timestamp,
) -> Result<(), ApplyError> {
    match kind {
        Kind::Vouch { amount, .. } | Kind::Post { amount, .. } | Kind::Draw { amount, .. }
            if amount.is_zero() =>
        {
            return Err(Refusal::Zero.into());
        }
        Kind::Vouch { hold, amount } => {
            let mut row = open_hold(tables, &hold, now)?;
            within(&row, amount)?;
            if amount == row.vouched {
                return Err(Refusal::Zero.into());
            }
            gate::refuse_when_frozen(tables)?;
            row.vouched = amount;
            tables.set_hold(&hold, &row)?;
        }
        Kind::Post { hold, amount } => {
            let row = open_hold(tables, &hold, now)?;
            within(&row, amount)?;
            let end = (HoldEnd::Posted, amount);
            end_hold(tables, (&hold, code), row, end, (Outcome::Paid, now))?;
        }
        Kind::Void { hold, failed } => {
            let row = open_hold(tables, &hold, now)?;
            let outcome = if failed {
                Outcome::Failed
            } else {
                Outcome::CalledOff
            };
            let end = (HoldEnd::Voided, row.vouched);
            end_hold(tables, (&hold, code), row, end, (outcome, now))?;
        }
        Kind::Expire { hold } => {
            let row = unended_hold(tables, &hold)?;
            let end = (HoldEnd::Expired, row.vouched);
            end_hold(tables, (&hold, code), row, end, (Outcome::Failed, now))?;
        }
        Kind::Draw { hold, amount } => move_part(tables, (&hold, code), amount, now)?,
        Kind::Single { .. } | Kind::Hold { .. } | Kind::Allot { .. } => {}
    }
    Ok(())
}

/// Moves part of a hold and leaves the rest set aside. What was charged stays charged: the hold was
/// charged whole when it was made.
fn move_part(
    tables: &mut impl Tables,
    (hold, code): (&TransferId, TransferCode),
    amount: Amount,
    now: Timestamp,
) -> Result<(), ApplyError> {
    let mut row = open_hold(tables, hold, now)?;
    let left = row.amount.checked_sub(amount);
    let left = left.ok_or(Refusal::MoreThanHeld {
        held: row.amount,
        asked: amount,
    })?;
    if left.is_zero() {
        let end = (HoldEnd::Posted, amount);
        return end_hold(tables, (hold, code), row, end, (Outcome::Paid, now));
    }
    change(tables, &row.debit, |t| {
        lower(&mut t.debits_pending, amount)?;
        raise(&mut t.debits_posted, amount)
    })?;
    change(tables, &row.credit, |t| {
        lower(&mut t.credits_pending, amount)?;
        raise(&mut t.credits_posted, amount)
    })?;
    enter(tables, &row.credit, pot::enters(code), amount)?;
    row.amount = left;
    row.vouched = row.vouched.saturating_sub(amount);
    Ok(tables.set_hold(hold, &row)?)
}

/// Ends every hold whose time is over, at most `limit` of them.
///
/// # Errors
///
/// A store failure.
pub fn expire_due(
    tables: &mut impl Tables,
    now: Timestamp,
    limit: usize,
) -> Result<usize, ApplyError> {
    let due = tables.open_holds(now, limit)?;
    for (hold, _) in &due {
        let id = transfer::id_after(hold, "expire", &[hold.as_bytes()]);
        let kind = Kind::Expire { hold: *hold };
        let reference = tables
            .entry(hold)?
            .map_or([0; 32], |entry| entry.transfer.reference);
        apply(
            tables,
            &Transfer {
                id,
                kind,
                code: TransferCode::Expiry,
                reference,
            },
            now,
        )?;
    }
    Ok(due.len())
}

/// Lets an open hold live its whole timeout again, counted from `now`.
///
/// # Errors
///
/// [`Refusal::UnknownHold`], [`Refusal::HoldEnded`] or a store failure.
pub fn renew(
    tables: &mut impl Tables,
    hold: &TransferId,
    now: Timestamp,
) -> Result<(), ApplyError> {
    let mut row = open_hold(tables, hold, now)?;
    row.expires = now.after_ms(row.timeout_ms);
    Ok(tables.set_hold(hold, &row)?)
}

fn check_pair(debit: &Account, credit: &Account, amount: Amount) -> Result<(), Refusal> {
    if amount.is_zero() {
        return Err(Refusal::Zero);
    }
    if debit == credit {
        return Err(Refusal::SameAccount);
    }
    Ok(())
}

/// Everything that takes from an agent passes the gate; nothing else does.
fn admit(
    tables: &mut impl Tables,
    (debit, repays): (&Account, bool),
    spend: Option<&Spend>,
    amount: Amount,
    now: Timestamp,
) -> Result<Option<Charge>, ApplyError> {
    let Account::Agent(payer) = debit else {
        return Ok(None);
    };
    match spend {
        Some(spend) => gate::charge(tables, payer, spend, amount, now).map(Some),
        // What is owed is paid without a mandate, first out of what was lent; a freeze stops it.
        None if repays => {
            gate::refuse_when_frozen(tables)?;
            let mut pots = tables.pots(payer)?;
            let order = [Pot::Borrowed, Pot::Earned, Pot::Seed];
            let available = pots.sum(&order);
            pots.draw(&order, amount).ok_or(Refusal::NotEnough {
                account: *debit,
                available,
                asked: amount,
            })?;
            tables.set_pots(payer, &pots)?;
            Ok(None)
        }
        None => {
            gate::refuse_when_frozen(tables)?;
            Err(Refusal::NoMandate { agent: *payer }.into())
        }
    }
}

/// What enters an agent's account enters one of its pots.
fn enter(
    tables: &mut impl Tables,
    credit: &Account,
    pot: Pot,
    amount: Amount,
) -> Result<(), StoreError> {
    let Account::Agent(agent) = credit else {
        return Ok(());
    };
    let mut pots = tables.pots(agent)?;
    pots.put(pot, amount)
        .ok_or(StoreError::Row { table: Table::Pots })?;
    tables.set_pots(agent, &pots)
}

/// Moves money from a pot to another, of one agent or of two.
fn allot(
    tables: &mut impl Tables,
    (from, from_pot): (&AgentId, Pot),
    (to, to_pot): (&AgentId, Pot),
    amount: Amount,
) -> Result<(), ApplyError> {
    if amount.is_zero() {
        return Err(Refusal::Zero.into());
    }
    if (from, from_pot) == (to, to_pot) {
        return Err(Refusal::SameAccount.into());
    }
    let mut pots = tables.pots(from)?;
    let (account, available) = (Account::Agent(*from), pots.get(from_pot));
    pots.take(from_pot, amount).ok_or(Refusal::NotEnough {
        account,
        available,
        asked: amount,
    })?;
    tables.set_pots(from, &pots)?;
    let credit = Account::Agent(*to);
    if from != to {
        change(tables, &account, |t| raise(&mut t.debits_posted, amount))?;
        change(tables, &credit, |t| raise(&mut t.credits_posted, amount))?;
        check_rules(tables, &account, &credit, amount)?;
    }
    Ok(enter(tables, &credit, to_pot, amount)?)
}

/// Refuses to move more than is held or less than was vouched for.
fn within(row: &HoldRow, asked: Amount) -> Result<(), Refusal> {
    if asked > row.amount {
        return Err(Refusal::MoreThanHeld {
            held: row.amount,
            asked,
        });
    }
    if asked < row.vouched {
        return Err(Refusal::Vouched {
            vouched: row.vouched,
            asked,
        });
    }
    Ok(())
}

/// Checks both accounts' rules after the totals were changed; a refusal undoes the change.
fn check_rules(
    tables: &impl ReadRows,
    debit: &Account,
    credit: &Account,
    asked: Amount,
) -> Result<(), ApplyError> {
    for account in [debit, credit] {
        let totals = tables.totals(account)?;
        let out = totals.debits_posted.saturating_add(totals.debits_pending);
        let (limit, used) = match account.rule() {
            Rule::DebitsWithinCredits => (totals.credits_posted, out),
            Rule::CreditsWithinDebits => (
                totals.debits_posted,
                totals.credits_posted.saturating_add(totals.credits_pending),
            ),
            Rule::DebitsWithinQuota => (u128::from(tables.quota()?.utrm()), out),
        };
        if used > limit {
            let asked_utrm = u128::from(asked.utrm());
            let before = used.saturating_sub(asked_utrm);
            let left = Amount::try_from(limit.saturating_sub(before)).unwrap_or(Amount::MAX);
            return Err(match account.rule() {
                Rule::DebitsWithinQuota => Refusal::OverCap { left, asked },
                Rule::DebitsWithinCredits | Rule::CreditsWithinDebits => Refusal::NotEnough {
                    account: *account,
                    available: left,
                    asked,
                },
            }
            .into());
        }
    }
    Ok(())
}

/// A hold that nothing has ended, although its time may be over.
fn unended_hold(tables: &impl ReadRows, hold: &TransferId) -> Result<HoldRow, ApplyError> {
    let hold = *hold;
    let row = tables.hold(&hold)?.ok_or(Refusal::UnknownHold { hold })?;
    match row.end {
        Some(end) => Err(Refusal::HoldEnded { hold, end }.into()),
        None => Ok(row),
    }
}

fn open_hold(
    tables: &impl ReadRows,
    hold: &TransferId,
    now: Timestamp,
) -> Result<HoldRow, ApplyError> {
    let row = unended_hold(tables, hold)?;
    if row.expires <= now {
        let (hold, end) = (*hold, HoldEnd::Expired);
        return Err(Refusal::HoldEnded { hold, end }.into());
    }
    Ok(row)
}

fn end_hold(
    tables: &mut impl Tables,
    (hold, code): (&TransferId, TransferCode),
    mut row: HoldRow,
    (end, posted): (HoldEnd, Amount),
    (outcome, now): (Outcome, Timestamp),
) -> Result<(), ApplyError> {
    change(tables, &row.debit, |t| {
        lower(&mut t.debits_pending, row.amount)?;
        raise(&mut t.debits_posted, posted)
    })?;
    change(tables, &row.credit, |t| {
        lower(&mut t.credits_pending, row.amount)?;
        raise(&mut t.credits_posted, posted)
    })?;
    if let (Account::Agent(payer), Some(charge)) = (&row.debit, &row.charge) {
        let unspent = row.amount.saturating_sub(posted);
        gate::ended(tables, payer, charge, unspent, (outcome, now))?;
    }
    enter(tables, &row.credit, pot::enters(code), posted)?;
    row.end = Some(end);
    Ok(tables.set_hold(hold, &row)?)
}

fn change(
    tables: &mut impl Tables,
    account: &Account,
    update: impl FnOnce(&mut Totals) -> Option<()>,
) -> Result<(), StoreError> {
    let mut totals = tables.totals(account)?;
    update(&mut totals).ok_or(StoreError::Row {
        table: Table::Accounts,
    })?;
    tables.set_totals(account, &totals)
}

/// Totals are sums of amounts below 2^55 over at most 2^64 transfers, which fit in 128 bits; `None`
/// means that the row was damaged.
fn raise(total: &mut u128, amount: Amount) -> Option<()> {
    *total = total.checked_add(u128::from(amount.utrm()))?;
    Some(())
}

/// What is taken off a pending total was added to it when the hold was made; `None` means that the
/// row was damaged.
fn lower(total: &mut u128, amount: Amount) -> Option<()> {
    *total = total.checked_sub(u128::from(amount.utrm()))?;
    Some(())
}

#[cfg(test)]
mod tests;
