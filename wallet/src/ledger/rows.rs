//! Typed access to the ledger's own rows.

use tirami_manifest::{AgentId, Amount, ApprovalId, NodeId, Timestamp, TransferId};

use super::account::{Account, AccountRow, Totals};
use super::alert::{Alert, KEPT_MS};
use super::approval::Approval;
use super::gate::Freeze;
use super::journal::{self, Event};
use super::mandate::MandateRow;
use super::pot::Pots;
use super::tables::{Order, ReadTables, Table, Tables, decode};
use super::transfer::{Entry, HoldRow};
use super::usage::{Figures, PayeeUsage, Usage};
use crate::store::StoreError;

/// Key of the freeze in [`Table::Meta`].
const FREEZE: &[u8] = b"freeze";
/// Key of the issuer's quota in [`Table::Meta`].
const QUOTA: &[u8] = b"issuer-quota";

/// Reading rows.
pub trait ReadRows: ReadTables + Sized {
    /// An account: its limits, totals and pots; as the chart has it and all zero when nothing ever
    /// moved there.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the same holds for every method here.
    fn account(&self, account: &Account) -> Result<AccountRow, StoreError> {
        let damaged = StoreError::Row {
            table: Table::Accounts,
        };
        let read = |row: &[u8]| AccountRow::from_row(account, row);
        match self.look(Table::Accounts, &account.key(), read)? {
            None => Ok(AccountRow::new(account)),
            Some(row) => row.ok_or(damaged),
        }
    }

    /// The totals of an account; all zero when nothing ever moved there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn totals(&self, account: &Account) -> Result<Totals, StoreError> {
        Ok(self.account(account)?.totals)
    }

    /// A recorded transfer.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn entry(&self, id: &TransferId) -> Result<Option<Entry>, StoreError> {
        self.row(Table::Transfers, id.as_bytes())
    }

    /// A hold, open or ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn hold(&self, id: &TransferId) -> Result<Option<HoldRow>, StoreError> {
        self.row(Table::Holds, id.as_bytes())
    }

    /// An agent's mandate.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn mandate(&self, agent: &AgentId) -> Result<Option<MandateRow>, StoreError> {
        self.row(Table::Mandates, agent.as_bytes())
    }

    /// What was used of an agent's mandate; nothing when nobody ever charged it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn usage(&self, agent: &AgentId) -> Result<Usage, StoreError> {
        let damaged = StoreError::Row {
            table: Table::Usage,
        };
        match self.get(Table::Usage, agent.as_bytes())? {
            None => Ok(Usage::default()),
            Some(row) => Usage::from_row(row).ok_or(damaged),
        }
    }

    /// What the rules ask of what was used of an agent's mandate.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn figures(
        &self,
        agent: &AgentId,
        request: u64,
        now: Timestamp,
    ) -> Result<Figures, StoreError> {
        let damaged = StoreError::Row {
            table: Table::Usage,
        };
        let read = |row: &[u8]| Some(Usage::from_row(row)?.figures(request, now));
        match self.look(Table::Usage, agent.as_bytes(), read)? {
            None => Ok(Figures::default()),
            Some(figures) => figures.ok_or(damaged),
        }
    }

    /// What an agent's mandate paid to one payee in the 24 hours that end at `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn paid(&self, agent: &AgentId, payee: &NodeId, now: Timestamp) -> Result<u64, StoreError> {
        let damaged = StoreError::Row {
            table: Table::PayeeUsage,
        };
        let read = |row: &[u8]| Some(PayeeUsage::from_row(row)?.day().sum(now));
        match self.look(Table::PayeeUsage, &payee_key(agent, payee), read)? {
            None => Ok(0),
            Some(sum) => sum.ok_or(damaged),
        }
    }

    /// What an agent's mandate paid to one payee in the last 24 hours.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn payee_usage(&self, agent: &AgentId, payee: &NodeId) -> Result<PayeeUsage, StoreError> {
        let damaged = StoreError::Row {
            table: Table::PayeeUsage,
        };
        match self.get(Table::PayeeUsage, &payee_key(agent, payee))? {
            None => Ok(PayeeUsage::default()),
            Some(row) => PayeeUsage::from_row(row).ok_or(damaged),
        }
    }

    /// What an agent's pots hold.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn pots(&self, agent: &AgentId) -> Result<Pots, StoreError> {
        Ok(self.account(&Account::Agent(*agent))?.pots)
    }

    /// A request that waits, or waited, for the owner.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn approval(&self, id: &ApprovalId) -> Result<Option<Approval>, StoreError> {
        self.row(Table::Approvals, id.as_bytes())
    }

    /// The freeze, while there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn freeze(&self) -> Result<Option<Freeze>, StoreError> {
        self.row(Table::Meta, FREEZE)
    }

    /// What this node may issue in all; zero unless it is an issuer.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn quota(&self) -> Result<Amount, StoreError> {
        Ok(self.row(Table::Meta, QUOTA)?.unwrap_or(Amount::ZERO))
    }

    /// Number of the newest transfer; 0 before the first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn last_seq(&self) -> Result<u64, StoreError> {
        match self.last_key(Table::Log)? {
            None => Ok(0),
            Some(key) => seq_of(&key).ok_or(StoreError::Row { table: Table::Log }),
        }
    }

    /// Open holds that expire at or before `now`, soonest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn open_holds(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(TransferId, HoldRow)>, StoreError> {
        let mut due = Vec::new();
        for (key, _) in self.scan(Table::OpenHolds, &[], None, Order::Ascending, limit)? {
            let damaged = StoreError::Row {
                table: Table::OpenHolds,
            };
            let Some((expires, id)) = key.split_first_chunk::<8>() else {
                return Err(damaged);
            };
            if u64::from_be_bytes(*expires) > until.ms() {
                break;
            }
            let Ok(id) = id.try_into().map(TransferId::from_bytes) else {
                return Err(damaged);
            };
            due.push((id, self.hold(&id)?.ok_or(damaged)?));
        }
        Ok(due)
    }

    /// Every account that ever saw a transfer.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn accounts(&self) -> Result<Vec<(Account, AccountRow)>, StoreError> {
        self.scan(Table::Accounts, &[], None, Order::Ascending, usize::MAX)?
            .into_iter()
            .map(|(key, value)| {
                let account = Account::from_key(&key);
                let row = account
                    .and_then(|account| Some((account, AccountRow::from_row(&account, &value)?)));
                row.ok_or(StoreError::Row {
                    table: Table::Accounts,
                })
            })
            .collect()
    }
}

impl<T: ReadTables> ReadRows for T {}

/// Writing rows; only the rules do.
pub(crate) trait WriteRows: Tables + ReadRows + Sized {
    fn set_account(&mut self, account: &Account, row: &AccountRow) -> Result<(), StoreError> {
        let key = account.key().to_vec();
        self.put_owned(Table::Accounts, key, row.to_row(account))
    }

    fn set_mandate(&mut self, agent: &AgentId, row: &MandateRow) -> Result<(), StoreError> {
        self.put_row(Table::Mandates, agent.as_bytes(), row)?;
        journal::note(self, Event::Mandate(*agent, Box::new(row.clone())))
    }

    /// Changes what was used of an agent's mandate.
    fn update_usage<R>(
        &mut self,
        agent: &AgentId,
        change: impl FnOnce(Usage<&mut [u8]>) -> R,
    ) -> Result<R, StoreError> {
        let change = |row: &mut Vec<u8>| Usage::in_place(row).map(change);
        let changed = self.update(Table::Usage, agent.as_bytes(), change)?;
        changed.ok_or(StoreError::Row {
            table: Table::Usage,
        })
    }

    /// Changes what an agent's mandate paid to one payee.
    fn update_payee_usage<R>(
        &mut self,
        agent: &AgentId,
        payee: &NodeId,
        change: impl FnOnce(PayeeUsage<&mut [u8]>) -> R,
    ) -> Result<R, StoreError> {
        let change = |row: &mut Vec<u8>| PayeeUsage::in_place(row).map(change);
        let changed = self.update(Table::PayeeUsage, &payee_key(agent, payee), change)?;
        changed.ok_or(StoreError::Row {
            table: Table::PayeeUsage,
        })
    }

    fn set_approval(
        &mut self,
        id: &ApprovalId,
        approval: Option<&Approval>,
    ) -> Result<(), StoreError> {
        match approval {
            Some(approval) => self.put_row(Table::Approvals, id.as_bytes(), approval)?,
            None => self.remove(Table::Approvals, id.as_bytes())?,
        }
        let approval = approval.map(|approval| Box::new(approval.clone()));
        journal::note(self, Event::Approval(*id, approval))
    }

    fn tell(&mut self, alert: &Alert) -> Result<(), StoreError> {
        // Old ones go as new ones come, so that they never pile up.
        for (key, bytes) in self.scan(Table::Alerts, &[], None, Order::Ascending, 2)? {
            let old: Alert = decode(Table::Alerts, &bytes)?;
            if alert.at.since_ms(old.at) > KEPT_MS {
                self.remove(Table::Alerts, &key)?;
            }
        }
        let key = [
            alert.at.ms().to_be_bytes().as_slice(),
            alert.agent.as_bytes(),
            &alert.rule.number().to_be_bytes(),
        ]
        .concat();
        self.put_row(Table::Alerts, &key, alert)
    }

    fn set_freeze(&mut self, freeze: Option<&Freeze>) -> Result<(), StoreError> {
        match freeze {
            Some(freeze) => self.put_row(Table::Meta, FREEZE, freeze)?,
            None => self.remove(Table::Meta, FREEZE)?,
        }
        journal::note(self, Event::Freeze(freeze.cloned()))
    }

    fn set_quota(&mut self, quota: Amount) -> Result<(), StoreError> {
        self.put_row(Table::Meta, QUOTA, &quota)?;
        journal::note(self, Event::Quota(quota))
    }

    /// Writes a hold that was just made, and the index of open holds.
    fn add_hold(&mut self, id: &TransferId, row: &HoldRow) -> Result<(), StoreError> {
        let open = open_key(row.expires, id).to_vec();
        self.put_owned(Table::OpenHolds, open, Vec::new())?;
        self.put_owned(Table::Holds, id.as_bytes().to_vec(), row.to_row())
    }

    /// Writes a hold that changed since it was `before`, and keeps the index of open holds in step.
    fn set_hold(
        &mut self,
        id: &TransferId,
        before: &HoldRow,
        row: &HoldRow,
    ) -> Result<(), StoreError> {
        let (was, is) = (open_key(before.expires, id), open_key(row.expires, id));
        if row.end.is_some() || was != is {
            self.remove(Table::OpenHolds, &was)?;
        }
        if row.end.is_none() && was != is {
            self.put(Table::OpenHolds, &is, &[])?;
        }
        self.put_owned(Table::Holds, id.as_bytes().to_vec(), row.to_row())
    }

    fn record(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let id = entry.transfer.id;
        self.put(Table::Log, &entry.seq.to_be_bytes(), id.as_bytes())?;
        self.put_row(Table::Transfers, id.as_bytes(), entry)?;
        journal::note(self, Event::Applied(id))
    }
}

impl<T: Tables> WriteRows for T {}

/// The sequence number in a key of [`Table::Log`].
pub(crate) fn seq_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

fn open_key(expires: Timestamp, id: &TransferId) -> [u8; 24] {
    joined(&expires.ms().to_be_bytes(), id.as_bytes())
}

fn payee_key(agent: &AgentId, payee: &NodeId) -> [u8; 48] {
    joined(agent.as_bytes(), payee.as_bytes())
}

/// One after the other; a key's parts together are as long as the key.
fn joined<const A: usize, const B: usize, const N: usize>(
    first: &[u8; A],
    second: &[u8; B],
) -> [u8; N] {
    const { assert!(A + B == N, "the parts fill the key") };
    let mut key = [0; N];
    if let Some((head, tail)) = key.split_first_chunk_mut()
        && let Some(tail) = tail.first_chunk_mut()
    {
        (*head, *tail) = (*first, *second);
    }
    key
}
