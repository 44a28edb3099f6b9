//! The hashes over the journal, and what they prove.
//!
//! Every command's rows are sealed in its own transaction: each is hashed with the hash of the one
//! before, and the hashes are the leaves of a Merkle tree, so that whoever kept a root can be shown that
//! nothing before it was changed since.

use serde::{Deserialize, Serialize};
use tirami_manifest::Timestamp;
use tirami_manifest::merkle::{self, Consistency, Frontier, Hash, Inclusion};
use tirami_manifest::signed::hash;

use crate::error::WalletError;
use crate::ledger::audit::Check;
use crate::ledger::journal::{self, Event, FOLLOWING, Record, damaged};
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{Order, ReadTables, Table, Tables};
use crate::store::StoreError;
use crate::tree::{self, Tree};
use crate::wallet::Wallet;

/// Domain of the hash of a row and of the one before it.
const JOURNAL: &[u8] = b"trm/v1/journal\0";

/// Key of the seal's row in [`Table::Meta`].
const SEAL: &[u8] = b"journal";

/// Most rows that the audit does again; a longer journal is only read and hashed.
const REPLAYED_MAX: u64 = 200_000;

/// Rows that are hashed so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    /// How many.
    seq: u64,
    /// Hash of the newest with all before it.
    hash: [u8; 32],
    /// The tree over the hashes.
    log: Frontier,
}

impl Seal {
    fn read(tables: &impl ReadTables) -> Result<Self, StoreError> {
        Ok(tables.row(Table::Meta, SEAL)?.unwrap_or_default())
    }
}

/// The hash of a row after the one before it.
pub fn chained(before: &[u8; 32], record: &[u8]) -> [u8; 32] {
    hash(JOURNAL, &[before, record])
}

/// Dates and hashes what a command wrote in the journal.
pub(crate) fn seal(tables: &mut impl Tables, now: Timestamp) -> Result<(), StoreError> {
    let last = journal::last(tables)?;
    let mut seal = Seal::read(tables)?;
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
        seal.hash = chained(&seal.hash, &record);
        // The lowest level is kept too: it hashes what came before.
        let leaf = merkle::leaf(&seal.hash);
        tree::push(tables, (Table::JournalTree, 0, 0), &mut seal.log, leaf)?;
        seal.seq = seal.seq.saturating_add(1);
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
const fn tree_of<T: ReadTables>(tables: &T) -> Tree<'_, T> {
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
        let seal = Seal::read(&self.view()?)?;
        Ok(JournalHead {
            size: seal.seq,
            root: seal.log.root(),
            hash: Hash(seal.hash),
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

    /// That row `seq` is in the journal of `size` rows; `None` when it is not.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn prove_row(&self, seq: u64, size: u64) -> Result<Option<Inclusion>, WalletError> {
        let view = self.view()?;
        if seq == 0 || size > Seal::read(&view)?.seq {
            return Ok(None);
        }
        Ok(Inclusion::new(
            &tree_of(&view),
            seq.saturating_sub(1),
            size,
        )?)
    }

    /// That the journal of `to` rows begins with that of `from`; `None` when there are not so many.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn prove_growth(&self, from: u64, to: u64) -> Result<Option<Consistency>, WalletError> {
        let view = self.view()?;
        if to > Seal::read(&view)?.seq {
            return Ok(None);
        }
        Ok(Consistency::new(&tree_of(&view), from, to)?)
    }
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
        let seq = key
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| damaged())?;
        let record = journal::record(view, &row)?;
        rows.push(JournalRow { seq, record });
    }
    Ok(rows)
}

/// Reads and hashes the whole journal, and does it again.
pub(crate) fn audit(tables: &impl ReadTables) -> Result<Vec<Check>, WalletError> {
    let seal = Seal::read(tables)?;
    let mut now = Seal::default();
    let mut after = None::<Vec<u8>>;
    loop {
        let page = tables.scan(
            Table::Journal,
            &[],
            after.as_deref(),
            Order::Ascending,
            1_024,
        )?;
        let Some((last, _)) = page.last() else {
            break;
        };
        after = Some(last.clone());
        for (key, row) in page {
            let record = journal::record(tables, &row)?.to_bytes()?;
            now.hash = chained(&now.hash, &record);
            now.log.push(merkle::leaf(&now.hash), |_, _, _| ());
            now.seq = now.seq.saturating_add(1);
            if key != now.seq.to_be_bytes() {
                return Err(damaged().into());
            }
        }
    }
    let hashes = Check {
        rule: "the journal is what was sealed",
        holds: now == seal,
        detail: format!("{} rows", now.seq),
    };
    let (holds, detail) = if now.seq > REPLAYED_MAX {
        (
            true,
            format!("not done again: more than {REPLAYED_MAX} rows"),
        )
    } else {
        match journal::replay(tables) {
            Ok(memory) => match journal::difference(&memory, tables)? {
                None => (true, format!("{} rows", now.seq)),
                Some(table) => (false, format!("the table {table:?} differs")),
            },
            Err((seq, error)) => (false, format!("row {seq}: {error:?}")),
        }
    };
    let replays = Check {
        rule: "replaying the journal gives the same ledger byte for byte",
        holds,
        detail,
    };
    Ok(vec![hashes, replays])
}
