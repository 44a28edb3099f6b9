//! What the rules may read and write: named tables of bytes, and typed rows over them.
//!
//! Two stores implement these traits: redb's transactions and a `BTreeMap`. The same suite runs on
//! both. Everything a node must remember beside money lives in the same tables, so that it commits
//! together with the money it belongs to.

mod memory;
mod overlay;

use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;

pub(crate) use memory::after;
pub use memory::{MemoryTables, Rows};
pub use overlay::{Aside, Overlay};

/// One table. The number is its place in [`Table::ALL`]; names on disk carry a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Account key to its limits, totals and pots.
    Accounts,
    /// Transfer id to entry.
    Transfers,
    /// Sequence number (big-endian) to transfer id.
    Log,
    /// Transfer id to hold.
    Holds,
    /// Expiry (big-endian milliseconds) and transfer id of every open hold.
    OpenHolds,
    /// Agent id to mandate.
    Mandates,
    /// Single values by name.
    Meta,
    /// Agent id to agent.
    Agents,
    /// Hash of a token to what it opens.
    Tokens,
    /// Invitation id to its use.
    Invitations,
    /// Loan key to loan.
    Loans,
    /// Agent id and hash of the idempotency key to intent.
    Intents,
    /// Receipt id to receipt.
    Receipts,
    /// Receipt id to the peer who must still acknowledge it.
    Outbox,
    /// Agent id to what was used of its mandate.
    Usage,
    /// Agent id and payee's node id to what was paid there in the last 24 hours.
    PayeeUsage,
    /// Approval id to approval.
    Approvals,
    /// Time (big-endian milliseconds), agent id and rule to alert.
    Alerts,
    /// Parent grant and serial number to what was carved from it.
    Carvings,
    /// Root payer and unit to the units used; reservations of them.
    Ranges,
    /// Grant id to a mandate that travels and was handed out here.
    HandedOut,
    /// Grant id to a mandate that travels and is held here.
    Held,
    /// Quote id to the mandate that travels under which the job is paid.
    Drawings,
    /// Quote id to the receipt of its job, where such a mandate paid.
    Drawn,
    /// Receipt id to who refused it for good, and why.
    Refused,
    /// Sequence number (big-endian) to what is kept of an entry of this node's chain.
    Chain,
    /// Level and place (big-endian) to a hash of the tree over the chain.
    ChainTree,
    /// Quote id to a job for somebody whose payment no witness stands behind.
    Strangers,
    /// Receipt id to what was earned and waits to be certified.
    Waiting,
    /// Node id to the newest entry of its chain that this witness certified.
    Witnessed,
    /// Node id and sequence number (big-endian) to an entry that this witness certified.
    Entries,
    /// Payee's node id and receipt id to a certified debit that it has not received yet.
    Credits,
    /// Accused node's id and the proof's id to a proof of fraud.
    Frauds,
    /// Sequence number (big-endian) to what happened to the ledger.
    Journal,
    /// Level and place (big-endian) to a hash of the tree over the journal.
    JournalTree,
    /// Agent id and number of a refusal (big-endian) to when it last stood in the journal.
    Refusals,
    /// Kind and id to a loan or credit that is open after the newest entry of the chain.
    Open,
    /// Time (big-endian milliseconds) and quote id of a job for a stranger whose receipt takes long.
    Late,
    /// Quote id to that time.
    LateQuotes,
    /// Node id to the keys before and after it, where one succeeded another.
    Keys,
    /// Job to what was vouched for, where this node works and nothing settled it.
    Jobs,
    /// Hold to when it was last vouched for, until that is settled or claimed.
    Promised,
    /// Span of time, buyer and model to what was earned.
    Earned,
}

impl Table {
    /// Every table with its name on disk.
    pub const ALL: [(Self, &'static str); 43] = [
        (Self::Accounts, "accounts-2"),
        (Self::Transfers, "transfers-2"),
        (Self::Log, "log-1"),
        (Self::Holds, "holds-2"),
        (Self::OpenHolds, "open-holds-1"),
        (Self::Mandates, "mandates-2"),
        (Self::Meta, "meta-1"),
        (Self::Agents, "agents-1"),
        (Self::Tokens, "tokens-1"),
        (Self::Invitations, "invitations-1"),
        (Self::Loans, "loans-2"),
        (Self::Intents, "intents-1"),
        (Self::Receipts, "receipts-1"),
        (Self::Outbox, "outbox-1"),
        (Self::Usage, "usage-1"),
        (Self::PayeeUsage, "payee-usage-1"),
        (Self::Approvals, "approvals-1"),
        (Self::Alerts, "alerts-1"),
        (Self::Carvings, "carvings-1"),
        (Self::Ranges, "ranges-1"),
        (Self::HandedOut, "handed-out-1"),
        (Self::Held, "held-1"),
        (Self::Drawings, "drawings-1"),
        (Self::Drawn, "drawn-1"),
        (Self::Refused, "refused-1"),
        (Self::Chain, "chain-1"),
        (Self::ChainTree, "chain-tree-1"),
        (Self::Strangers, "strangers-1"),
        (Self::Waiting, "waiting-1"),
        (Self::Witnessed, "witnessed-1"),
        (Self::Entries, "entries-1"),
        (Self::Credits, "credits-1"),
        (Self::Frauds, "frauds-1"),
        (Self::Journal, "journal-1"),
        (Self::JournalTree, "journal-tree-1"),
        (Self::Refusals, "refusals-1"),
        (Self::Open, "open-1"),
        (Self::Late, "late-1"),
        (Self::LateQuotes, "late-quotes-1"),
        (Self::Keys, "keys-1"),
        (Self::Jobs, "jobs-1"),
        (Self::Promised, "promised-1"),
        (Self::Earned, "earned-1"),
    ];

    /// Its place in [`Table::ALL`].
    #[expect(clippy::as_conversions, reason = "a variant's number is small")]
    const fn place(self) -> usize {
        self as usize
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Which way a scan walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// Reading.
pub trait ReadTables {
    /// The value at `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store cannot be read; the same holds for every method here.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` pairs whose key starts with `prefix`, strictly beyond `beyond` when given.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    #[expect(
        clippy::too_many_arguments,
        reason = "a question about a range has this many parts"
    )]
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        beyond: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError>;

    /// What `look` makes of the value at `key`, which is not copied where that can be avoided.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn look<R>(
        &self,
        table: Table,
        key: &[u8],
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, StoreError>
    where
        Self: Sized,
    {
        Ok(self.get(table, key)?.map(|value| look(&value)))
    }

    /// The largest key of a table.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn last_key(&self, table: Table) -> Result<Option<Vec<u8>>, StoreError> {
        let last = self.scan(table, &[], None, Order::Descending, 1)?;
        Ok(last.into_iter().next().map(|(key, _)| key))
    }

    /// The row at `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`], also when the bytes are not such a row.
    fn row<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError>
    where
        Self: Sized,
    {
        self.look(table, key, |bytes| decode(table, bytes))?
            .transpose()
    }
}

/// Reading and writing, inside one transaction.
pub trait Tables: ReadTables {
    /// Sets the value at `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Sets the value at `key`, both given away.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn put_owned(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.put(table, &key, &value)
    }

    /// Sets rows of one table, or removes those without a value, smallest key first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn put_all(&mut self, table: Table, rows: Rows<Option<Vec<u8>>>) -> Result<(), StoreError> {
        for (key, value) in rows {
            match value {
                Some(value) => self.put_owned(table, key, value)?,
                None => self.remove(table, &key)?,
            }
        }
        Ok(())
    }

    /// Changes the value at `key`, where it lies if that can be; it is empty when there was none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn update<R>(
        &mut self,
        table: Table,
        key: &[u8],
        change: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> Result<R, StoreError>
    where
        Self: Sized,
    {
        let mut value = self.get(table, key)?.unwrap_or_default();
        let changed = change(&mut value);
        self.put_owned(table, key.to_vec(), value)?;
        Ok(changed)
    }

    /// Removes the value at `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError>;

    /// Sets the row at `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn put_row<T: Serialize>(&mut self, table: Table, key: &[u8], row: &T) -> Result<(), StoreError>
    where
        Self: Sized,
    {
        self.put_owned(table, key.to_vec(), encode(table, row)?)
    }
}

/// Version of every row's layout, its first byte.
pub(super) const ROW_VERSION: u8 = 1;

/// A row's bytes: version, then postcard.
///
/// # Errors
///
/// [`StoreError::Row`] when the row does not serialise, which does not happen.
pub fn encode<T: Serialize>(table: Table, row: &T) -> Result<Vec<u8>, StoreError> {
    let mut out = Vec::with_capacity(ROW_USUALLY);
    out.push(ROW_VERSION);
    postcard::serialize_with_flavor(row, Bytes(out)).map_err(|_| StoreError::Row { table })
}

/// Bytes that hold most rows.
const ROW_USUALLY: usize = 256;

/// Where a row's bytes go.
struct Bytes(Vec<u8>);

impl Flavor for Bytes {
    type Output = Vec<u8>;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// Reads a row's bytes.
///
/// # Errors
///
/// [`StoreError::Row`] for another version, missing or trailing bytes.
pub fn decode<'a, T: Deserialize<'a>>(table: Table, bytes: &'a [u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&ROW_VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((row, [])) => Ok(row),
            _ => Err(StoreError::Row { table }),
        },
        _ => Err(StoreError::Row { table }),
    }
}
