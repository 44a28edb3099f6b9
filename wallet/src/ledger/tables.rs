//! What the rules may read and write: named tables of bytes, and typed rows over them.
//!
//! Two stores implement these traits: redb's transactions and a `BTreeMap`. The same suite runs on
//! both. Everything a node must remember beside money lives in the same tables, so that it commits
//! together with the money it belongs to.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::StoreError;

/// One table. The number is its place in [`Table::ALL`]; names on disk carry a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Account key to totals.
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
}

impl Table {
    /// Every table with its name on disk.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::Accounts, "accounts-1"),
        (Self::Transfers, "transfers-1"),
        (Self::Log, "log-1"),
        (Self::Holds, "holds-1"),
        (Self::OpenHolds, "open-holds-1"),
        (Self::Mandates, "mandates-1"),
        (Self::Meta, "meta-1"),
        (Self::Agents, "agents-1"),
        (Self::Tokens, "tokens-1"),
        (Self::Invitations, "invitations-1"),
        (Self::Loans, "loans-1"),
        (Self::Intents, "intents-1"),
        (Self::Receipts, "receipts-1"),
        (Self::Outbox, "outbox-1"),
    ];
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

    /// The row at `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`], also when the bytes are not such a row.
    fn row<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError>
    where
        Self: Sized,
    {
        self.get(table, key)?
            .map(|bytes| decode(table, &bytes))
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
        self.put(table, key, &encode(table, row)?)
    }
}

/// Version of every row's layout, its first byte.
const ROW_VERSION: u8 = 1;

/// A row's bytes: version, then postcard.
///
/// # Errors
///
/// [`StoreError::Row`] when the row does not serialise, which does not happen.
pub fn encode<T: Serialize>(table: Table, row: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(row, vec![ROW_VERSION]).map_err(|_| StoreError::Row { table })
}

/// Reads a row's bytes.
///
/// # Errors
///
/// [`StoreError::Row`] for another version, missing or trailing bytes.
pub fn decode<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&ROW_VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((row, [])) => Ok(row),
            _ => Err(StoreError::Row { table }),
        },
        _ => Err(StoreError::Row { table }),
    }
}

/// The part of `rows` in `table` whose keys start with `prefix`, smallest key first.
fn within<'a, V>(
    rows: &'a BTreeMap<(Table, Vec<u8>), V>,
    table: Table,
    prefix: &'a [u8],
) -> impl Iterator<Item = (&'a Vec<u8>, &'a V)> {
    rows.range((table, prefix.to_vec())..)
        .take_while(move |((t, key), _)| *t == table && key.starts_with(prefix))
        .map(|((_, key), value)| (key, value))
}

fn is_beyond(key: &[u8], mark: Option<&[u8]>, order: Order) -> bool {
    mark.is_none_or(|mark| match order {
        Order::Ascending => key > mark,
        Order::Descending => key < mark,
    })
}

/// Tables in memory: for tests, and as the naive twin that redb is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryTables(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl ReadTables for MemoryTables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        beyond: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let mut pairs: Vec<Pair> = within(&self.0, table, prefix)
            .filter(|(key, _)| is_beyond(key, beyond, order))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if order == Order::Descending {
            pairs.reverse();
        }
        pairs.truncate(limit);
        Ok(pairs)
    }
}

impl Tables for MemoryTables {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.0.insert((table, key.to_vec()), value.to_vec());
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.0.remove(&(table, key.to_vec()));
        Ok(())
    }
}

/// Writes kept beside a store until they are all known to be wanted: what makes one command, or one
/// group of transfers, succeed or fail as a whole inside a larger transaction.
#[derive(Debug)]
pub struct Overlay<'a, T> {
    base: &'a mut T,
    writes: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
}

impl<'a, T: Tables> Overlay<'a, T> {
    /// Starts with no writes of its own.
    pub const fn new(base: &'a mut T) -> Self {
        Self {
            base,
            writes: BTreeMap::new(),
        }
    }

    /// Whether there are no writes.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Writes everything into the store beneath. Dropping the overlay instead writes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction beneath must then be given up.
    pub fn keep(self) -> Result<(), StoreError> {
        for ((table, key), value) in self.writes {
            match value {
                Some(value) => self.base.put(table, &key, &value)?,
                None => self.base.remove(table, &key)?,
            }
        }
        Ok(())
    }
}

impl<T: Tables> ReadTables for Overlay<'_, T> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.writes.get(&(table, key.to_vec())) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        beyond: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let changes: Vec<_> = within(&self.writes, table, prefix)
            .filter(|(key, _)| is_beyond(key, beyond, order))
            .collect();
        // Only what was removed hides pairs beneath, so this many more suffice.
        let removed = changes.iter().filter(|(_, value)| value.is_none()).count();
        let beneath =
            self.base
                .scan(table, prefix, beyond, order, limit.saturating_add(removed))?;
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = beneath.into_iter().collect();
        for (key, value) in changes {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        let mut pairs: Vec<Pair> = merged.into_iter().collect();
        if order == Order::Descending {
            pairs.reverse();
        }
        pairs.truncate(limit);
        Ok(pairs)
    }
}

impl<T: Tables> Tables for Overlay<'_, T> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.writes
            .insert((table, key.to_vec()), Some(value.to_vec()));
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.writes.insert((table, key.to_vec()), None);
        Ok(())
    }
}
