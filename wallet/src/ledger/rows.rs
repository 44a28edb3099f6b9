//! Typed access to the ledger's own rows.

use tirami_manifest::{AgentId, Amount, ApprovalId, NodeId, Timestamp, TransferId};

use super::account::{Account, Totals};
use super::alert::{Alert, KEPT_MS};
use super::approval::Approval;
use super::gate::Freeze;
use super::mandate::MandateRow;
use super::pot::Pots;
use super::tables::{Order, ReadTables, Table, Tables, decode};
use super::transfer::{Entry, HoldRow};
use super::usage::{DayRing, Usage};
use crate::store::StoreError;

/// Key of the freeze in [`Table::Meta`].
const FREEZE: &[u8] = b"freeze";
/// Key of the issuer's quota in [`Table::Meta`].
const QUOTA: &[u8] = b"issuer-quota";

/// Reading rows.
pub trait ReadRows: ReadTables + Sized {
    /// The totals of an account; all zero when nothing ever moved there.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the same holds for every method here.
    fn totals(&self, account: &Account) -> Result<Totals, StoreError> {
        Ok(self
            .row(Table::Accounts, &account.key())?
            .unwrap_or_default())
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
            Some(bytes) => Usage::from_row(&bytes).ok_or(damaged),
        }
    }

    /// What an agent's mandate paid to one payee in the last 24 hours, and the highest share of
    /// that limit that was told of.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn payee_usage(&self, agent: &AgentId, payee: &NodeId) -> Result<(DayRing, u8), StoreError> {
        let damaged = StoreError::Row {
            table: Table::PayeeUsage,
        };
        match self.get(Table::PayeeUsage, &payee_key(agent, payee))? {
            None => Ok((DayRing::default(), 0)),
            Some(bytes) => {
                let (told, ring) = bytes.split_first().ok_or(damaged.clone())?;
                Ok((DayRing::from_row(ring).ok_or(damaged)?, *told))
            }
        }
    }

    /// What an agent's pots hold.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn pots(&self, agent: &AgentId) -> Result<Pots, StoreError> {
        Ok(self.row(Table::Pots, agent.as_bytes())?.unwrap_or_default())
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
        let newest = self.scan(Table::Log, &[], None, Order::Descending, 1)?;
        match newest.first() {
            None => Ok(0),
            Some((key, _)) => seq_of(key).ok_or(StoreError::Row { table: Table::Log }),
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
    fn accounts(&self) -> Result<Vec<(Account, Totals)>, StoreError> {
        self.scan(Table::Accounts, &[], None, Order::Ascending, usize::MAX)?
            .into_iter()
            .map(|(key, value)| {
                let account = Account::from_key(&key).ok_or(StoreError::Row {
                    table: Table::Accounts,
                })?;
                Ok((account, decode(Table::Accounts, &value)?))
            })
            .collect()
    }
}

impl<T: ReadTables> ReadRows for T {}

/// Writing rows; only the rules do.
pub(crate) trait WriteRows: Tables + ReadRows {
    fn set_totals(&mut self, account: &Account, totals: &Totals) -> Result<(), StoreError> {
        self.put_row(Table::Accounts, &account.key(), totals)
    }

    fn set_mandate(&mut self, agent: &AgentId, row: &MandateRow) -> Result<(), StoreError> {
        self.put_row(Table::Mandates, agent.as_bytes(), row)
    }

    fn set_usage(&mut self, agent: &AgentId, usage: &Usage) -> Result<(), StoreError> {
        self.put_owned(Table::Usage, agent.as_bytes().to_vec(), usage.to_row())
    }

    fn set_payee_usage(
        &mut self,
        agent: &AgentId,
        payee: &NodeId,
        ring: &DayRing,
        told: u8,
    ) -> Result<(), StoreError> {
        let row = [vec![told], ring.to_row()].concat();
        self.put(Table::PayeeUsage, &payee_key(agent, payee), &row)
    }

    fn set_pots(&mut self, agent: &AgentId, pots: &Pots) -> Result<(), StoreError> {
        self.put_row(Table::Pots, agent.as_bytes(), pots)
    }

    fn set_approval(&mut self, id: &ApprovalId, approval: &Approval) -> Result<(), StoreError> {
        self.put_row(Table::Approvals, id.as_bytes(), approval)
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
            Some(freeze) => self.put_row(Table::Meta, FREEZE, freeze),
            None => self.remove(Table::Meta, FREEZE),
        }
    }

    fn set_quota(&mut self, quota: Amount) -> Result<(), StoreError> {
        self.put_row(Table::Meta, QUOTA, &quota)
    }

    /// Writes a hold and keeps the index of open holds in step.
    fn set_hold(&mut self, id: &TransferId, row: &HoldRow) -> Result<(), StoreError> {
        if let Some(before) = self.hold(id)? {
            self.remove(Table::OpenHolds, &open_key(before.expires, id))?;
        }
        if row.end.is_none() {
            self.put(Table::OpenHolds, &open_key(row.expires, id), &[])?;
        }
        self.put_row(Table::Holds, id.as_bytes(), row)
    }

    fn record(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let id = entry.transfer.id;
        self.put(Table::Log, &entry.seq.to_be_bytes(), id.as_bytes())?;
        self.put_row(Table::Transfers, id.as_bytes(), entry)
    }
}

impl<T: Tables> WriteRows for T {}

/// The sequence number in a key of [`Table::Log`].
pub(crate) fn seq_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

fn open_key(expires: Timestamp, id: &TransferId) -> Vec<u8> {
    [expires.ms().to_be_bytes().as_slice(), id.as_bytes()].concat()
}

fn payee_key(agent: &AgentId, payee: &NodeId) -> Vec<u8> {
    [agent.as_bytes().as_slice(), payee.as_bytes()].concat()
}
