//! History, balances and receipts; reads, never writes.

mod signing;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tirami_manifest::commerce::Receipt;
use tirami_manifest::mandate::Pot;
use tirami_manifest::{AgentId, Amount, GrantId, NodeId, ReceiptId, Timestamp};

use crate::chain;
use crate::economy::loan::{self, Loan};
use crate::error::WalletError;
use crate::journal;
use crate::keys;
use crate::ledger::account::{Account, Totals};
use crate::ledger::audit::{self, Check};
use crate::ledger::rows::{ReadRows, seq_of};
use crate::ledger::tables::{Order, ReadTables, Table};
use crate::ledger::transfer::{Entry, HoldRow, Kind};
use crate::store::StoreError;
use crate::wallet::Wallet;

pub use signing::Movements;

/// Which side of a receipt this node was on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// An agent of this node bought.
    Bought {
        /// Which.
        agent: AgentId,
    },
    /// This node sold.
    Sold,
    /// An agent of this node bought under a mandate that travels: another node pays.
    BoughtUnder {
        /// Which.
        agent: AgentId,
        /// The mandate.
        grant: GrantId,
    },
    /// This node pays: it was bought under a mandate that was handed out here.
    Drawn {
        /// Which agent handed it out.
        agent: AgentId,
        /// The first grant of the chain.
        grant: GrantId,
    },
}

/// A stored receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRow {
    /// As [`Receipt::to_bytes`] wrote it.
    pub bytes: Vec<u8>,
    /// Which side this node was on.
    pub side: Side,
    /// When it was booked.
    pub at: Timestamp,
}

impl ReceiptRow {
    /// The receipt.
    ///
    /// # Errors
    ///
    /// [`StoreError::Row`] when the bytes are damaged.
    pub fn receipt(&self) -> Result<Receipt, StoreError> {
        Receipt::from_bytes(&self.bytes).map_err(|_| StoreError::Row {
            table: Table::Receipts,
        })
    }
}

/// What an agent and its node have. What is free and set aside is of the account that it pays from,
/// which may be that of an agent above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// What is free to be set aside.
    pub available: Amount,
    /// What is set aside.
    pub held: Amount,
    /// What was paid in all: by its account for work, to lenders and to other accounts; or, where it
    /// pays from another's, what its mandate has counted.
    pub spent: u128,
    /// What the node earned by serving, in all.
    pub earned: u128,
    /// What the node owes: its loans.
    pub loans: Vec<Loan>,
    /// What the node lent.
    pub lent: Vec<Loan>,
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What the ledger recorded.
    pub entry: Entry,
    /// From, to and how much; of the hold for its ends.
    pub debit: Account,
    /// See `debit`.
    pub credit: Account,
    /// See `debit`.
    pub amount: Amount,
    /// What it moved for good: nothing when it only set aside, promised or gave back.
    pub moved: Amount,
    /// Who spends: the holder of the mandate, who is not always the one that pays.
    pub spender: Option<AgentId>,
}

impl Line {
    /// What this did to an account's balance: what came in, and what went out.
    pub fn moved_for(&self, account: &Account) -> (Amount, Amount) {
        let part = |side: &Account| {
            if side == account {
                self.moved
            } else {
                Amount::ZERO
            }
        };
        (part(&self.credit), part(&self.debit))
    }
}

impl Wallet {
    /// What an agent and its node have.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn balance(&self, agent: &AgentId) -> Result<Balance, WalletError> {
        let (view, node) = (self.view()?, self.node());
        let payer = view.mandate(agent)?.map_or(*agent, |row| row.payer);
        let totals = view.totals(&Account::Agent(payer))?;
        let spent = if payer == *agent {
            totals.debits_posted
        } else {
            view.usage(agent)?.used()
        };
        let (loans, lent) = loan::all(&view)?
            .into_iter()
            .partition(|loan: &Loan| loan.lender != node);
        Ok(Balance {
            available: totals.available(),
            held: totals.pending(),
            spent,
            earned: view.totals(&Account::Revenue)?.credits_posted,
            loans,
            lent,
        })
    }

    /// What an agent's account has available, by where it came from.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn pots(&self, agent: &AgentId) -> Result<[(Pot, Amount); 4], WalletError> {
        let pots = self.view()?.pots(agent)?;
        Ok(Pot::ALL.map(|pot| (pot, pots.get(pot))))
    }

    /// What each member has in this node's books, where it is the authority.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn members(&self) -> Result<Vec<(NodeId, Totals)>, WalletError> {
        let view = self.view()?;
        let mut members = Vec::new();
        for (account, row) in view.accounts()? {
            if let Account::Clearing(peer) = account
                && !keys::succeeded(&view, &peer)?
            {
                members.push((peer, row.totals));
            }
        }
        Ok(members)
    }

    /// Every account.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn accounts(&self) -> Result<Vec<(Account, Totals)>, WalletError> {
        let accounts = self.view()?.accounts()?.into_iter();
        Ok(accounts
            .map(|(account, row)| (account, row.totals))
            .collect())
    }

    /// The newest transfers before number `before`, newest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn history(&self, before: Option<u64>, limit: usize) -> Result<Vec<Line>, WalletError> {
        let view = self.view()?;
        let mark = before.map(u64::to_be_bytes);
        let mark = mark.as_ref().map(<[u8; 8]>::as_slice);
        let mut lines = Vec::new();
        for (key, id) in view.scan(Table::Log, &[], mark, Order::Descending, limit)? {
            lines.push(line(&view, logged(&view, &key, id)?)?);
        }
        Ok(lines)
    }

    /// The transfers after number `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn history_after(&self, after: u64, limit: usize) -> Result<Vec<Line>, WalletError> {
        let view = self.view()?;
        let mark = after.to_be_bytes();
        let mut lines = Vec::new();
        for (key, id) in view.scan(Table::Log, &[], Some(&mark), Order::Ascending, limit)? {
            lines.push(line(&view, logged(&view, &key, id)?)?);
        }
        Ok(lines)
    }

    /// How many transfers were applied before `time`: the number of the last of them.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn transfers_before(&self, time: Timestamp) -> Result<u64, WalletError> {
        let view = self.view()?;
        let newest = view.scan(Table::Log, &[], None, Order::Descending, 1)?;
        let newest = newest.first().and_then(|(key, _)| seq_of(key)).unwrap_or(0);
        // The ledger's time never goes back and its numbers have no gaps, so this halves them.
        let (mut before, mut from) = (0, newest.saturating_add(1));
        while from.saturating_sub(before) > 1 {
            let middle = before.midpoint(from);
            let damaged = || StoreError::Row { table: Table::Log };
            let key = middle.to_be_bytes();
            let id = view.get(Table::Log, &key)?.ok_or_else(damaged)?;
            if logged(&view, &key, id)?.at < time {
                before = middle;
            } else {
                from = middle;
            }
        }
        Ok(before)
    }

    /// A stored receipt.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn receipt(&self, id: &ReceiptId) -> Result<Option<ReceiptRow>, WalletError> {
        Ok(self.view()?.row(Table::Receipts, id.as_bytes())?)
    }

    /// Holds that are open now.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn open_holds(&self) -> Result<Vec<(tirami_manifest::TransferId, HoldRow)>, WalletError> {
        Ok(audit::open_holds(&self.view()?)?)
    }

    /// Checks the books against themselves.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn audit(&self) -> Result<Vec<Check>, WalletError> {
        self.audit_with(&[])
    }

    /// The same, with the archives of the journal's rows that were dropped, in any order.
    ///
    /// # Errors
    ///
    /// [`WalletError::Archive`] when one does not hold or another is needed, or a store failure.
    pub fn audit_with(&self, archives: &[PathBuf]) -> Result<Vec<Check>, WalletError> {
        let view = self.view()?;
        let mut checks = audit::audit(&view)?;
        checks.extend(journal::audit(
            &view,
            &chain::own_keys(&view, self.node())?,
            archives,
        )?);
        checks.extend(chain::audit(&view, self.node())?);
        Ok(checks)
    }
}

/// The entry that a pair of the log names.
fn logged(tables: &impl ReadRows, key: &[u8], id: Vec<u8>) -> Result<Entry, StoreError> {
    let damaged = || StoreError::Row { table: Table::Log };
    let id = id.try_into().map_err(|_| damaged())?;
    tables
        .entry(&tirami_manifest::TransferId::from_bytes(id))?
        .filter(|entry| seq_of(key) == Some(entry.seq))
        .ok_or_else(damaged)
}

#[expect(
    clippy::large_types_passed_by_value,
    reason = "the line keeps the entry"
)]
fn line(tables: &impl ReadRows, entry: Entry) -> Result<Line, WalletError> {
    let hold = match entry.transfer.kind {
        Kind::Single {
            debit,
            credit,
            amount,
            spend,
        } => {
            return Ok(Line {
                entry,
                debit,
                credit,
                amount,
                moved: amount,
                spender: spend.map(|spend| spend.agent),
            });
        }
        Kind::Hold {
            debit,
            credit,
            amount,
            spend,
            ..
        } => {
            return Ok(Line {
                entry,
                debit,
                credit,
                amount,
                moved: Amount::ZERO,
                spender: spend.map(|spend| spend.agent),
            });
        }
        Kind::Allot {
            from, to, amount, ..
        } => {
            return Ok(Line {
                entry,
                debit: Account::Agent(from),
                credit: Account::Agent(to),
                amount,
                moved: amount,
                spender: None,
            });
        }
        Kind::Post { hold, .. }
        | Kind::Draw { hold, .. }
        | Kind::Vouch { hold, .. }
        | Kind::Void { hold, .. }
        | Kind::Expire { hold } => hold,
    };
    let row = tables.hold(&hold)?.ok_or(StoreError::Row {
        table: Table::Holds,
    })?;
    let (amount, moved) = match entry.transfer.kind {
        Kind::Post { amount, .. } | Kind::Draw { amount, .. } => (amount, amount),
        Kind::Vouch { amount, .. } => (amount, Amount::ZERO),
        // What was vouched for goes to the payee whatever ends the hold.
        _ => (row.amount, row.vouched),
    };
    Ok(Line {
        entry,
        debit: row.debit,
        credit: row.credit,
        amount,
        moved,
        spender: row.charge.map(|charge| charge.agent),
    })
}
