//! Whether the books hold: used by tests and by `wallet audit`.

use std::collections::BTreeMap;

use serde::Serialize;
use tirami_manifest::mandate::Pot;
use tirami_manifest::{AgentId, Amount, TransferId};

use super::account::{Account, AccountRow, Flags, Totals};
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

const fn check(rule: &'static str, holds: bool, detail: String) -> Check {
    Check {
        rule,
        holds,
        detail,
    }
}

/// Reads the whole ledger and checks it against itself.
///
/// # Errors
///
/// A store failure.
pub fn audit(tables: &impl ReadRows) -> Result<Vec<Check>, StoreError> {
    let rows = tables.accounts()?;
    let accounts: BTreeMap<Account, Totals> = rows
        .iter()
        .map(|(account, row)| (*account, row.totals))
        .collect();
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
    let overdrawn = overdrawn(&rows);
    let (pots, mandates) = mismatches(tables, &accounts, &open)?;
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
            "each agent's pots hold what its account has",
            pots.is_empty(),
            pots.join(", "),
        ),
        check(
            "each mandate counts the open holds under it",
            mandates.is_empty(),
            mandates.join(", "),
        ),
        check(
            "the supply made is within the quota",
            issued <= u128::from(tables.quota()?.utrm()),
            format!("{issued} micro-TRM made"),
        ),
    ])
}

/// Accounts that do not keep the limits of their kind.
fn overdrawn(rows: &[(Account, AccountRow)]) -> Vec<String> {
    rows.iter()
        .filter(|(account, row)| {
            let t = &row.totals;
            row.flags != account.flags()
                || row.flags.keeps(Flags::DEBITS_WITHIN_CREDITS)
                    && t.debits_posted.saturating_add(t.debits_pending) > t.credits_posted
                || row.flags.keeps(Flags::CREDITS_WITHIN_DEBITS)
                    && t.credits_posted.saturating_add(t.credits_pending) > t.debits_posted
        })
        .map(|(account, _)| account.to_string())
        .collect()
}

struct Replay {
    accounts: BTreeMap<Account, Totals>,
    count: u64,
    gapless: bool,
}

/// Entries read at once.
const PAGE: usize = 4_096;

fn replay(tables: &impl ReadRows) -> Result<Replay, StoreError> {
    let mut replay = Replay {
        accounts: BTreeMap::new(),
        count: 0,
        gapless: true,
    };
    let mut holds = BTreeMap::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = tables.scan(Table::Log, &[], after.as_deref(), Order::Ascending, PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(replay);
        };
        after = Some(last.clone());
        for (key, id) in page {
            let damaged = StoreError::Row { table: Table::Log };
            let Ok(id) = id.try_into().map(TransferId::from_bytes) else {
                return Err(damaged);
            };
            let entry: Entry = tables.entry(&id)?.ok_or(damaged)?;
            replay.count = replay.count.saturating_add(1);
            replay.gapless &= seq_of(&key) == Some(replay.count)
                && entry.seq == replay.count
                && entry.transfer.id == id;
            replay.does(&mut holds, id, entry.transfer.kind);
        }
    }
}

/// A hold that nothing has ended so far.
struct Open {
    debit: Account,
    credit: Account,
    amount: Amount,
    vouched: Amount,
}

impl Replay {
    fn debit(&mut self, account: Account) -> &mut Totals {
        self.accounts.entry(account).or_default()
    }

    fn moves(&mut self, debit: Account, credit: Account, amount: Amount) {
        let totals = self.debit(debit);
        totals.debits_posted = totals.debits_posted.saturating_add(wide(amount));
        let totals = self.debit(credit);
        totals.credits_posted = totals.credits_posted.saturating_add(wide(amount));
    }

    fn does(&mut self, holds: &mut BTreeMap<TransferId, Open>, id: TransferId, kind: Kind) {
        match kind {
            Kind::Single {
                debit,
                credit,
                amount,
                ..
            } => self.moves(debit, credit, amount),
            Kind::Hold {
                debit,
                credit,
                amount,
                ..
            } => {
                let totals = self.debit(debit);
                totals.debits_pending = totals.debits_pending.saturating_add(wide(amount));
                let totals = self.debit(credit);
                totals.credits_pending = totals.credits_pending.saturating_add(wide(amount));
                let vouched = Amount::ZERO;
                holds.insert(
                    id,
                    Open {
                        debit,
                        credit,
                        amount,
                        vouched,
                    },
                );
            }
            Kind::Vouch { hold, amount } => {
                if let Some(open) = holds.get_mut(&hold) {
                    open.vouched = amount;
                }
            }
            Kind::Draw { hold, amount } => self.draws(holds, &hold, amount),
            Kind::Post { hold, amount } => self.ends(holds.remove(&hold), Some(amount)),
            Kind::Void { hold, .. } | Kind::Expire { hold } => self.ends(holds.remove(&hold), None),
            Kind::Allot {
                from, to, amount, ..
            } => {
                if from != to {
                    self.moves(Account::Agent(from), Account::Agent(to), amount);
                }
            }
        }
    }

    fn draws(&mut self, holds: &mut BTreeMap<TransferId, Open>, id: &TransferId, amount: Amount) {
        let Some(hold) = holds.get_mut(id) else {
            return;
        };
        hold.amount = hold.amount.saturating_sub(amount);
        hold.vouched = hold.vouched.saturating_sub(amount);
        let (debit, credit, ended) = (hold.debit, hold.credit, hold.amount.is_zero());
        let totals = self.debit(debit);
        totals.debits_pending = totals.debits_pending.saturating_sub(wide(amount));
        let totals = self.debit(credit);
        totals.credits_pending = totals.credits_pending.saturating_sub(wide(amount));
        self.moves(debit, credit, amount);
        if ended {
            holds.remove(id);
        }
    }

    fn ends(&mut self, hold: Option<Open>, posted: Option<Amount>) {
        let Some(hold) = hold else {
            return;
        };
        let totals = self.debit(hold.debit);
        totals.debits_pending = totals.debits_pending.saturating_sub(wide(hold.amount));
        let totals = self.debit(hold.credit);
        totals.credits_pending = totals.credits_pending.saturating_sub(wide(hold.amount));
        let posted = posted.unwrap_or(hold.vouched);
        if !posted.is_zero() {
            self.moves(hold.debit, hold.credit, posted);
        }
    }
}

fn wide(amount: Amount) -> u128 {
    u128::from(amount.utrm())
}

/// Agents whose pots do not hold together what their account has available, and mandates that count
/// another number of open holds than there are.
fn mismatches(
    tables: &impl ReadRows,
    accounts: &BTreeMap<Account, Totals>,
    open: &[(TransferId, HoldRow)],
) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let mut pots = Vec::new();
    for (account, totals) in accounts {
        if let Account::Agent(agent) = account {
            let sum = tables.pots(agent)?.sum(&Pot::ALL);
            if sum != totals.available() {
                pots.push(format!("{account}: {sum} of {} TRM", totals.available()));
            }
        }
    }
    let mut counted: BTreeMap<AgentId, u32> = BTreeMap::new();
    for (_, row) in open {
        let mut next = row.charge.as_ref().map(|charge| charge.agent);
        while let Some(agent) = next {
            let count = counted.entry(agent).or_default();
            *count = count.saturating_add(1);
            next = tables.mandate(&agent)?.and_then(|row| row.parent);
        }
    }
    let mut mandates = Vec::new();
    for (key, _) in tables.scan(Table::Mandates, &[], None, Order::Ascending, usize::MAX)? {
        let damaged = StoreError::Row {
            table: Table::Mandates,
        };
        let agent = AgentId::from_bytes(key.try_into().map_err(|_| damaged)?);
        let (says, are) = (
            tables.usage(&agent)?.open(),
            counted.get(&agent).copied().unwrap_or(0),
        );
        if says != are {
            mandates.push(format!("agent {}: {says}, not {are}", agent.short()));
        }
    }
    Ok((pots, mandates))
}

/// Open holds with what they are for, for statements and recovery.
///
/// # Errors
///
/// A store failure.
pub fn open_holds(tables: &impl ReadRows) -> Result<Vec<(TransferId, HoldRow)>, StoreError> {
    tables.open_holds(tirami_manifest::Timestamp::from_ms(u64::MAX), usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_beyond_its_limit_is_overdrawn_whichever_side_is_limited() {
        let with = |account: Account, change: fn(&mut Totals)| {
            let mut row = AccountRow::new(&account);
            change(&mut row.totals);
            overdrawn(&[(account, row)]).len()
        };
        let agent = Account::Agent(crate::token::main_agent());
        assert_eq!(with(agent, |_| ()), 0);
        assert_eq!(with(agent, |totals| totals.debits_posted = 1), 1);
        assert_eq!(with(agent, |totals| totals.debits_pending = 1), 1);
        let position = Account::Position;
        assert_eq!(with(position, |totals| totals.debits_posted = 1), 0);
        assert_eq!(with(position, |totals| totals.credits_posted = 1), 1);
        assert_eq!(with(position, |totals| totals.credits_pending = 1), 1);
    }
}
