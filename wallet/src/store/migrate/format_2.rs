//! From format 1 to 2: mandates become a tree with usage of its own, spends say what they are for,
//! holds remember what they were charged to, and an agent's money has pots.

use std::collections::BTreeMap;

use serde::Deserialize;
use tirami_manifest::mandate::{Breakers, Limits, Pot, Terms};
use tirami_manifest::{AgentId, Amount, InvitationId, NodeId, Timestamp, TransferId};

use super::Migration;
use crate::economy::loan::Loan;
use crate::ledger::account::{Account, Totals};
use crate::ledger::mandate::MandateRow;
use crate::ledger::pot::Pots;
use crate::ledger::tables::{Table, decode, encode};
use crate::ledger::transfer::{Charge, HoldEnd, HoldRow, Kind, Transfer, TransferCode};
use crate::ledger::{transfer, usage::Usage};
use crate::store::StoreError;

#[derive(Deserialize)]
struct OldEntry {
    seq: u64,
    at: Timestamp,
    transfer: OldTransfer,
}

#[derive(Deserialize)]
struct OldTransfer {
    id: TransferId,
    kind: OldKind,
    code: TransferCode,
    reference: [u8; 32],
}

#[derive(Deserialize)]
enum OldKind {
    Single {
        debit: Account,
        credit: Account,
        amount: Amount,
    },
    Hold {
        debit: Account,
        credit: Account,
        amount: Amount,
        timeout_ms: u64,
    },
    Post {
        hold: TransferId,
        amount: Amount,
    },
    Void {
        hold: TransferId,
    },
    Expire {
        hold: TransferId,
    },
}

#[derive(Deserialize)]
struct OldHold {
    debit: Account,
    credit: Account,
    amount: Amount,
    timeout_ms: u64,
    expires: Timestamp,
    charged_minute: u64,
    end: Option<HoldEnd>,
}

#[derive(Deserialize)]
struct OldMandate {
    per_request_trm: Amount,
    hour_trm: Amount,
    lifetime_trm: Amount,
    used: u128,
    minutes: Vec<(u64, u64)>,
}

#[derive(Deserialize)]
struct OldLoan {
    lender: NodeId,
    borrower: NodeId,
    invitation: InvitationId,
    principal: Amount,
    owed: Amount,
    granted: Timestamp,
    due: Timestamp,
}

/// A bucket of the hourly window was a minute.
const MINUTE_MS: u64 = 60_000;

pub(super) fn to_2(file: &mut Migration<'_>) -> Result<(), StoreError> {
    let mut borrowed: BTreeMap<AgentId, u128> = BTreeMap::new();
    file.rewrite("transfers-1", "transfers-2", |_, row| {
        let old: OldEntry = decode(Table::Transfers, row)?;
        let transfer = current(&old.transfer);
        if let (
            TransferCode::WelcomeLoan,
            Kind::Single {
                credit: Account::Agent(agent),
                amount,
                ..
            },
        ) = (transfer.code, transfer.kind)
        {
            let sum = borrowed.entry(agent).or_default();
            *sum = sum.saturating_add(u128::from(amount.utrm()));
        }
        let entry = transfer::Entry {
            seq: old.seq,
            at: old.at,
            transfer,
        };
        encode(Table::Transfers, &entry)
    })?;
    let pots = pots(file, &borrowed)?;
    let mut open: BTreeMap<AgentId, u32> = BTreeMap::new();
    // What an open hold took is in no pot now; what of it comes back was earned.
    file.rewrite("holds-1", "holds-2", |_, row| {
        let old: OldHold = decode(Table::Holds, row)?;
        if let (Account::Agent(agent), None) = (old.debit, old.end) {
            let count = open.entry(agent).or_default();
            *count = count.saturating_add(1);
        }
        encode(Table::Holds, &hold(&old))
    })?;
    let used = mandates(file, &open)?;
    for (agent, usage) in used {
        file.put("usage-1", agent.as_bytes(), usage.row())?;
    }
    for (agent, pots) in pots {
        file.put("pots-1", agent.as_bytes(), &encode(Table::Accounts, &pots)?)?;
    }
    file.rewrite("loans-1", "loans-2", |_, row| {
        let old: OldLoan = decode(Table::Loans, row)?;
        let loan = Loan {
            lender: old.lender,
            borrower: old.borrower,
            invitation: old.invitation,
            principal: old.principal,
            owed: old.owed,
            granted: old.granted,
            due: old.due,
            paid: Amount::ZERO,
            confirmed: Amount::ZERO,
            repaid_at: None,
        };
        encode(Table::Loans, &loan)
    })
}

/// Rewrites the mandates; answers what was used of each.
fn mandates(
    file: &mut Migration<'_>,
    open: &BTreeMap<AgentId, u32>,
) -> Result<Vec<(AgentId, Usage)>, StoreError> {
    let mut used = Vec::new();
    file.rewrite("mandates-1", "mandates-2", |key, row| {
        let old: OldMandate = decode(Table::Mandates, row)?;
        let damaged = StoreError::Row {
            table: Table::Mandates,
        };
        let agent = AgentId::from_bytes(key.try_into().map_err(|_| damaged)?);
        used.push((agent, usage(&old, open.get(&agent).copied().unwrap_or(0))));
        let terms = Terms {
            // Nobody asked for breakers or approvals before: they begin as they would for a new
            // agent.
            breakers: Breakers::DEFAULT,
            ..Terms::of(Limits {
                per_request_trm: old.per_request_trm,
                hour_trm: old.hour_trm,
                lifetime_trm: old.lifetime_trm,
                ..Limits::DEFAULT
            })
        };
        encode(
            Table::Mandates,
            &MandateRow::from_owner(agent, terms, Timestamp::EPOCH),
        )
    })?;
    Ok(used)
}

fn current(old: &OldTransfer) -> Transfer {
    let kind = match old.kind {
        OldKind::Single {
            debit,
            credit,
            amount,
        } => Kind::Single {
            debit,
            credit,
            amount,
            spend: None,
        },
        OldKind::Hold {
            debit,
            credit,
            amount,
            timeout_ms,
        } => Kind::Hold {
            debit,
            credit,
            amount,
            timeout_ms,
            spend: None,
        },
        OldKind::Post { hold, amount } => Kind::Post { hold, amount },
        OldKind::Void { hold } => Kind::Void {
            hold,
            failed: false,
        },
        OldKind::Expire { hold } => Kind::Expire { hold },
    };
    Transfer {
        id: old.id,
        kind,
        code: old.code,
        reference: old.reference,
    }
}

fn hold(old: &OldHold) -> HoldRow {
    let charge = match old.debit {
        Account::Agent(agent) => Some(Charge {
            agent,
            at: Timestamp::from_ms(old.charged_minute.saturating_mul(MINUTE_MS)),
            payee: None,
            counted_to_payee: 0,
            draw: [Some((Pot::Earned, old.amount)), None, None, None],
        }),
        _ => None,
    };
    HoldRow {
        debit: old.debit,
        credit: old.credit,
        amount: old.amount,
        timeout_ms: old.timeout_ms,
        expires: old.expires,
        charge,
        vouched: Amount::ZERO,
        end: old.end,
    }
}

fn usage(old: &OldMandate, open: u32) -> Usage {
    let mut usage = Usage::default();
    usage.set_used(old.used);
    usage.set_open(open);
    for (minute, utrm) in &old.minutes {
        let at = Timestamp::from_ms(minute.saturating_mul(MINUTE_MS));
        usage.hour_mut().add(at, *utrm);
        usage.day_mut().add(at, *utrm);
    }
    usage
}

/// What each agent has available was lent, up to what it was lent in all; the rest it earned.
fn pots(
    file: &Migration<'_>,
    borrowed: &BTreeMap<AgentId, u128>,
) -> Result<Vec<(AgentId, Pots)>, StoreError> {
    let mut found = Vec::new();
    let mut beyond: Option<Vec<u8>> = None;
    loop {
        let rows = file.rows("accounts-1", beyond.as_deref(), 256)?;
        let Some((last, _)) = rows.last() else {
            return Ok(found);
        };
        beyond = Some(last.clone());
        for (key, row) in rows {
            let damaged = StoreError::Row {
                table: Table::Accounts,
            };
            let Account::Agent(agent) = Account::from_key(&key).ok_or(damaged)? else {
                continue;
            };
            let totals: Totals = decode(Table::Accounts, &row)?;
            let available = totals.available();
            let lent = borrowed.get(&agent).copied().unwrap_or(0);
            let lent = available.min(Amount::try_from(lent).unwrap_or(Amount::MAX));
            let mut pots = Pots::default();
            let whole = pots
                .put(Pot::Borrowed, lent)
                .and_then(|()| pots.put(Pot::Earned, available.saturating_sub(lent)));
            whole.ok_or(StoreError::Row {
                table: Table::Accounts,
            })?;
            found.push((agent, pots));
        }
    }
}
