//! The only functions that change a balance.

use tirami_manifest::mandate::Pot;
use tirami_manifest::{AgentId, Amount, Timestamp, TransferId};

use super::account::{Account, AccountRow, Flags};
use super::gate::{self, Admitted, Outcome};
use super::journal::{self, Event};
use super::pot;
use super::refusal::{ApplyError, Refusal};
use super::rows::{ReadRows, WriteRows};
use super::tables::{Overlay, Table, Tables};
use super::transfer::{self, Entry, HoldEnd, HoldRow, Kind, Spend, Transfer, TransferCode};
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
/// As [`apply`], for the first transfer that is refused; then none of them was applied. After a store
/// failure the transaction beneath must be given up.
pub fn apply_group(
    tables: &mut impl Tables,
    transfers: &[Transfer],
    now: Timestamp,
) -> Result<Applied, ApplyError> {
    if let [transfer] = transfers {
        return one(tables, transfer, now);
    }
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

/// Applies one transfer. Every refusal comes before the first write, so a refused one needs no
/// undoing.
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
        Kind::Single { .. } => move_at_once(tables, transfer, now)?,
        Kind::Hold { .. } => set_aside(tables, transfer, now)?,
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

/// Moves an amount at once.
fn move_at_once(
    tables: &mut impl Tables,
    transfer: &Transfer,
    now: Timestamp,
) -> Result<(), ApplyError> {
    let Kind::Single {
        debit,
        credit,
        amount,
        spend,
    } = transfer.kind
    else {
        return Ok(());
    };
    check_pair(&debit, &credit, amount)?;
    let repays = transfer.code == TransferCode::Repayment;
    let (spending, mut from) = admit(tables, (&debit, repays), spend.as_ref(), amount, now)?;
    let mut to = tables.account(&credit)?;
    raise(&mut from.totals.debits_posted, amount)?;
    raise(&mut to.totals.credits_posted, amount)?;
    check_limits(tables, [(&debit, &from), (&credit, &to)], amount)?;
    // Nothing is refused from here on.
    if let Some(spending) = spending {
        spending.count(tables, true)?;
    }
    enter((&credit, &mut to), pot::enters(transfer.code), amount)?;
    tables.set_account(&debit, &from)?;
    Ok(tables.set_account(&credit, &to)?)
}

/// Sets an amount aside.
fn set_aside(
    tables: &mut impl Tables,
    transfer: &Transfer,
    now: Timestamp,
) -> Result<(), ApplyError> {
    let Kind::Hold {
        debit,
        credit,
        amount,
        timeout_ms,
        spend,
    } = transfer.kind
    else {
        return Ok(());
    };
    check_pair(&debit, &credit, amount)?;
    let (spending, mut from) = admit(tables, (&debit, false), spend.as_ref(), amount, now)?;
    let mut to = tables.account(&credit)?;
    raise(&mut from.totals.debits_pending, amount)?;
    raise(&mut to.totals.credits_pending, amount)?;
    check_limits(tables, [(&debit, &from), (&credit, &to)], amount)?;
    // Nothing is refused from here on.
    let charge = spending
        .map(|spending| spending.count(tables, false))
        .transpose()?;
    tables.set_account(&debit, &from)?;
    tables.set_account(&credit, &to)?;
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
    Ok(tables.add_hold(&transfer.id, &row)?)
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
            let before = row;
            row.vouched = amount;
            tables.set_hold(&hold, &before, &row)?;
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
    let before = row;
    let (mut from, mut to) = (tables.account(&row.debit)?, tables.account(&row.credit)?);
    lower(&mut from.totals.debits_pending, amount)?;
    raise(&mut from.totals.debits_posted, amount)?;
    lower(&mut to.totals.credits_pending, amount)?;
    raise(&mut to.totals.credits_posted, amount)?;
    enter((&row.credit, &mut to), pot::enters(code), amount)?;
    tables.set_account(&row.debit, &from)?;
    tables.set_account(&row.credit, &to)?;
    row.amount = left;
    row.vouched = row.vouched.saturating_sub(amount);
    Ok(tables.set_hold(hold, &before, &row)?)
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
    let before = open_hold(tables, hold, now)?;
    let mut row = before;
    row.expires = now.after_ms(row.timeout_ms);
    tables.set_hold(hold, &before, &row)?;
    Ok(journal::note(tables, Event::Renewed(*hold))?)
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

/// Everything that takes from an agent passes the gate; nothing else does. Answers the account that
/// pays with its pots drawn on, and what is still to be counted; writes nothing.
fn admit<'a>(
    tables: &impl ReadRows,
    (debit, repays): (&Account, bool),
    spend: Option<&'a Spend>,
    amount: Amount,
    now: Timestamp,
) -> Result<(Option<Admitted<'a>>, AccountRow), ApplyError> {
    let Account::Agent(payer) = debit else {
        return Ok((None, tables.account(debit)?));
    };
    match spend {
        Some(spend) => {
            let admitted = gate::admit(tables, payer, spend, amount, now)?;
            let account = admitted.account();
            Ok((Some(admitted), account))
        }
        // What is owed is paid without a mandate, first out of what was lent; a freeze stops it.
        None if repays => {
            gate::refuse_when_frozen(tables)?;
            let mut account = tables.account(debit)?;
            let order = [Pot::Borrowed, Pot::Earned, Pot::Seed];
            let available = account.pots.sum(&order);
            let draw = account.pots.draw(&order, amount);
            draw.ok_or(Refusal::NotEnough {
                account: *debit,
                available,
                asked: amount,
            })?;
            Ok((None, account))
        }
        None => {
            gate::refuse_when_frozen(tables)?;
            Err(Refusal::NoMandate { agent: *payer }.into())
        }
    }
}

/// What enters an agent's account enters one of its pots.
fn enter(
    (credit, row): (&Account, &mut AccountRow),
    pot: Pot,
    amount: Amount,
) -> Result<(), StoreError> {
    if matches!(credit, Account::Agent(_)) {
        row.pots.put(pot, amount).ok_or_else(damaged)?;
    }
    Ok(())
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
    let (debit, credit) = (Account::Agent(*from), Account::Agent(*to));
    let mut payer = tables.account(&debit)?;
    let available = payer.pots.get(from_pot);
    let taken = payer.pots.take(from_pot, amount);
    taken.ok_or(Refusal::NotEnough {
        account: debit,
        available,
        asked: amount,
    })?;
    if from == to {
        enter((&debit, &mut payer), to_pot, amount)?;
        return Ok(tables.set_account(&debit, &payer)?);
    }
    let mut receiver = tables.account(&credit)?;
    raise(&mut payer.totals.debits_posted, amount)?;
    raise(&mut receiver.totals.credits_posted, amount)?;
    check_limits(tables, [(&debit, &payer), (&credit, &receiver)], amount)?;
    enter((&credit, &mut receiver), to_pot, amount)?;
    tables.set_account(&debit, &payer)?;
    Ok(tables.set_account(&credit, &receiver)?)
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

/// Refuses what would break a limit of either account, whose totals have changed already.
fn check_limits(
    tables: &impl ReadRows,
    accounts: [(&Account, &AccountRow); 2],
    asked: Amount,
) -> Result<(), ApplyError> {
    for (account, AccountRow { flags, totals, .. }) in accounts {
        let out = totals.debits_posted.saturating_add(totals.debits_pending);
        let within = |used: u128, limit: u128| {
            let before = used.saturating_sub(u128::from(asked.utrm()));
            let left = Amount::try_from(limit.saturating_sub(before)).unwrap_or(Amount::MAX);
            if used <= limit { Ok(()) } else { Err(left) }
        };
        let not_enough = |available| Refusal::NotEnough {
            account: *account,
            available,
            asked,
        };
        if flags.keeps(Flags::DEBITS_WITHIN_QUOTA) {
            let quota = u128::from(tables.quota()?.utrm());
            within(out, quota).map_err(|left| Refusal::OverCap { left, asked })?;
        }
        if flags.keeps(Flags::DEBITS_WITHIN_CREDITS) {
            within(out, totals.credits_posted).map_err(not_enough)?;
        }
        if flags.keeps(Flags::CREDITS_WITHIN_DEBITS) {
            let into = totals.credits_posted.saturating_add(totals.credits_pending);
            within(into, totals.debits_posted).map_err(not_enough)?;
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
    let before = row;
    let (mut from, mut to) = (tables.account(&row.debit)?, tables.account(&row.credit)?);
    lower(&mut from.totals.debits_pending, row.amount)?;
    raise(&mut from.totals.debits_posted, posted)?;
    lower(&mut to.totals.credits_pending, row.amount)?;
    raise(&mut to.totals.credits_posted, posted)?;
    if let (Account::Agent(_), Some(charge)) = (&row.debit, &row.charge) {
        let unspent = row.amount.saturating_sub(posted);
        gate::ended(tables, &mut from.pots, charge, unspent, (outcome, now))?;
    }
    enter((&row.credit, &mut to), pot::enters(code), posted)?;
    tables.set_account(&row.debit, &from)?;
    tables.set_account(&row.credit, &to)?;
    row.end = Some(end);
    Ok(tables.set_hold(hold, &before, &row)?)
}

/// Totals are sums of amounts below 2^55 over at most 2^64 transfers, which fit in 128 bits; more
/// means that the row was damaged.
fn raise(total: &mut u128, amount: Amount) -> Result<(), StoreError> {
    let sum = total.checked_add(u128::from(amount.utrm()));
    *total = sum.ok_or_else(damaged)?;
    Ok(())
}

/// What is taken off a pending total was added to it when the hold was made; less means that the
/// row was damaged.
fn lower(total: &mut u128, amount: Amount) -> Result<(), StoreError> {
    let rest = total.checked_sub(u128::from(amount.utrm()));
    *total = rest.ok_or_else(damaged)?;
    Ok(())
}

const fn damaged() -> StoreError {
    StoreError::Row {
        table: Table::Accounts,
    }
}

#[cfg(test)]
mod tests;
