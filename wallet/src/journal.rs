//! The hashes over the journal, and what they prove.
//!
//! Every command's rows are sealed in its own transaction: each is hashed with the hash of the one
//! before, and the hashes are the leaves of a Merkle tree, so that whoever kept a root can be shown that
//! nothing before it was changed since. Old rows may be dropped ([`crate::archive`]); the tree stays whole.

mod audit;

use tirami_manifest::Timestamp;
use tirami_manifest::journal_file::{GrowthFile, RecordFile};
use tirami_manifest::merkle::{self, Consistency, Hash, Inclusion};
use tirami_manifest::point::Point;
use tirami_manifest::signed::Signed;
use tirami_manifest::tree_head::{TreeHead, chained};

use crate::error::WalletError;
use crate::ledger::journal::{self, Event, FOLLOWING, Record, damaged};
use crate::ledger::rows::{ReadRows, seq_of};
use crate::ledger::tables::{Order, ReadTables, Table, Tables};
use crate::membership::network;
use crate::store::StoreError;
use crate::tree::{self, Tree};
use crate::wallet::Wallet;

pub(crate) use audit::audit;

/// Key of the seal's row in [`Table::Meta`].
const SEAL: &[u8] = b"journal";

/// The place up to which rows are hashed.
pub(crate) fn sealed(tables: &impl ReadTables) -> Result<Point, StoreError> {
    Ok(tables.row(Table::Meta, SEAL)?.unwrap_or_default())
}

/// Dates and hashes what a command wrote in the journal.
pub(crate) fn seal(tables: &mut impl Tables, now: Timestamp) -> Result<(), StoreError> {
    let last = journal::last(tables)?;
    let mut seal = sealed(tables)?;
    if seal.seq == last {
        return Ok(());
    }
    journal::date(tables, seal.seq, now)?;
    let mark = seal.seq.to_be_bytes();
    for (_, row) in tables.scan(
        Table::Journal,
        &[],
        Some(&mark),
        Order::Ascending,
        usize::MAX,
    )? {
        let record = journal::record(tables, &row)?.to_bytes()?;
        let hash = chained(&Hash(seal.hash), &record);
        // The lowest level is kept too: it hashes what came before.
        let leaf = merkle::leaf(&hash.0);
        tree::push(tables, (Table::JournalTree, 0, 0), &mut seal.log, leaf)?;
        (seal.hash, seal.seq) = (hash.0, seal.seq.saturating_add(1));
    }
    tables.put_row(Table::Meta, SEAL, &seal)
}

/// Begins the journal of a wallet from before there was one: with its rows as they are.
pub(crate) fn open(tables: &mut impl Tables) -> Result<(), StoreError> {
    if journal::last(tables)? > 0
        || tables.last_seq()? == 0 && tables.last_key(Table::Mandates)?.is_none()
    {
        return Ok(());
    }
    for table in FOLLOWING {
        let place = Table::ALL.iter().position(|(other, _)| *other == table);
        let place = place.and_then(|place| u8::try_from(place).ok());
        let place = place.ok_or_else(damaged)?;
        for (key, value) in tables.scan(table, &[], None, Order::Ascending, usize::MAX)? {
            journal::note(tables, Event::Row(place, key, value))?;
        }
    }
    if let Some(freeze) = tables.freeze()? {
        journal::note(tables, Event::Freeze(Some(freeze)))?;
    }
    journal::note(tables, Event::Quota(tables.quota()?))
}

/// The tree over the journal, as far as it is kept.
pub(crate) const fn tree_of<T: ReadTables>(tables: &T) -> Tree<'_, T> {
    Tree::whole(tables, Table::JournalTree)
}

/// Where the journal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalHead {
    /// How many rows.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// Hash of the newest with all before it.
    pub hash: Hash,
    /// The first so many were archived and dropped.
    pub dropped: u64,
}

/// A row of the journal with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRow {
    /// From 1, without gaps.
    pub seq: u64,
    /// What it says.
    pub record: Record,
}

impl Wallet {
    /// Where the journal stands.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn journal_head(&self) -> Result<JournalHead, WalletError> {
        let view = self.view()?;
        let seal = sealed(&view)?;
        Ok(JournalHead {
            size: seal.seq,
            root: seal.log.root(),
            hash: Hash(seal.hash),
            dropped: journal::dropped(&view)?.seq,
        })
    }

    /// The newest rows before number `before`, newest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn journal_before(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<JournalRow>, WalletError> {
        rows(&self.view()?, before, limit)
    }

    /// That row `seq` is in the journal of the first `size` rows, all of them when absent; `None` when it is
    /// not. This reads the journal from its first row that is there: call it on a blocking thread.
    ///
    /// # Errors
    ///
    /// [`WalletError::Dropped`], or a store failure.
    pub fn prove_row(
        &self,
        seq: u64,
        size: Option<u64>,
    ) -> Result<Option<RecordFile>, WalletError> {
        let (view, now) = self.view_now()?;
        let seal = sealed(&view)?;
        let size = size.unwrap_or(seal.seq);
        if seq == 0 || seq > size || size > seal.seq {
            return Ok(None);
        }
        let before = seq.saturating_sub(1);
        let at = place(&view, before)?;
        let mut record = Vec::new();
        let after = journal::walk(&view, at.clone(), seq, |_, bytes| {
            record = bytes.to_vec();
            Ok::<_, StoreError>(())
        })?;
        let end = if size == seal.seq {
            seal
        } else {
            journal::walk(&view, after, size, |_, _| Ok::<_, StoreError>(()))?
        };
        let proof = Inclusion::new(&tree_of(&view), before, size)?;
        let path = proof.map(|proof| proof.path).unwrap_or_default();
        let head = self.sign(&view, &end, now)?;
        let file = RecordFile::new((seq, &record), Hash(at.hash), path, &head);
        Ok(Some(file.ok_or_else(damaged)?))
    }

    /// That the journal of the first `to` rows, all of them when absent, begins with that of `from`; `None`
    /// when there are not so many. With `to` this may read the journal, as [`Wallet::prove_row`] does.
    ///
    /// # Errors
    ///
    /// [`WalletError::Dropped`], or a store failure.
    pub fn prove_growth(
        &self,
        from: u64,
        to: Option<u64>,
    ) -> Result<Option<GrowthFile>, WalletError> {
        let (view, now) = self.view_now()?;
        let seal = sealed(&view)?;
        let to = to.unwrap_or(seal.seq);
        if to > seal.seq {
            return Ok(None);
        }
        let tree = tree_of(&view);
        let Some(proof) = Consistency::new(&tree, from, to)? else {
            return Ok(None);
        };
        let end = if to == seal.seq {
            seal
        } else {
            place(&view, to)?
        };
        let head = self.sign(&view, &end, now)?;
        let root = merkle::root_of(&tree, from)?;
        Ok(Some(GrowthFile::new((from, root), proof.path, &head)))
    }

    /// What this node signs of its journal up to `point`.
    pub(crate) fn sign(
        &self,
        tables: &impl ReadTables,
        point: &Point,
        now: Timestamp,
    ) -> Result<Signed<TreeHead>, WalletError> {
        let network = network(tables)?.ok_or(WalletError::NoNetwork)?;
        let head = point.head((network.id(), self.node()), now);
        Ok(Signed::new(head, &self.inner.key))
    }
}

/// The place after the first `seq` rows, all of which are sealed.
pub(crate) fn place(tables: &impl ReadTables, seq: u64) -> Result<Point, WalletError> {
    let from = journal::dropped(tables)?;
    if seq < from.seq {
        return Err(WalletError::Dropped(from.seq));
    }
    journal::walk(tables, from, seq, |_, _| Ok(()))
}

fn rows(
    view: &impl ReadTables,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<JournalRow>, WalletError> {
    let mark = before.map(u64::to_be_bytes);
    let mark = mark.as_ref().map(<[u8; 8]>::as_slice);
    let mut rows = Vec::new();
    for (key, row) in view.scan(Table::Journal, &[], mark, Order::Descending, limit)? {
        let seq = seq_of(&key).ok_or_else(damaged)?;
        let record = journal::record(view, &row)?;
        rows.push(JournalRow { seq, record });
    }
    Ok(rows)
}
