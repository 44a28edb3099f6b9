//! Rows of the journal as files, so that a wallet need not keep all of them; and the way back.
//!
//! What is dropped is only what a file has that was written, read again and found to be what the wallet
//! says: having an [`Archived`] is the only way to drop. Balances, transfers, holds, mandates, receipts and
//! the chain stay as they are, and so does the tree over the journal.

mod putting_back;
mod reading;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tirami_manifest::Timestamp;
use tirami_manifest::archive_file::{ArchiveEnd, ArchiveFacts, ArchiveHeader, ArchiveLine};
use tirami_manifest::merkle;
use tirami_manifest::point::Point;

pub use putting_back::{PutBack, Rows};
pub(crate) use reading::{Reading, misfit};

use crate::chain::own_keys;
use crate::draft::Draft;
use crate::error::WalletError;
use crate::journal::{sealed, tree_of};
use crate::ledger::journal::{self, Record, damaged};
use crate::ledger::tables::{ReadTables, Table, Tables};
use crate::membership::network;
use crate::store::{StoreError, io};
use crate::wallet::Wallet;

/// Rows dropped or put back in one transaction; chosen so that nobody waits long behind it.
pub(crate) const CHUNK: u64 = 512;

/// Up to where the journal is archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpTo {
    /// All of it.
    Newest,
    /// This row.
    Row(u64),
    /// The last row of which all up to it are older than this.
    OlderThan(Timestamp),
}

/// An archive that was written, read again and found to be what the wallet has.
#[derive(Clone, Debug)]
pub struct Archived {
    /// What it says.
    pub facts: ArchiveFacts,
    file: PathBuf,
    end: Point,
}

impl Wallet {
    /// Writes the journal's rows, from the first that is there, to a new file, which has its name only once
    /// it is whole and was checked. This takes time in proportion to the rows: call it on a blocking thread.
    ///
    /// # Errors
    ///
    /// [`WalletError::NotArchived`] when there are no such rows, [`StoreError::Exists`] when there is a file at
    /// `to`; no room, or another failure of a disk.
    pub fn archive(&self, to: &Path, up_to: UpTo) -> Result<Archived, WalletError> {
        if to.try_exists().map_err(|e| io(to, &e))? {
            return Err(StoreError::Exists(to.display().to_string()).into());
        }
        let (view, now) = self.view_now()?;
        let from = journal::dropped(&view)?;
        let last = last_row(&view, &from, up_to)?;
        let network = network(&view)?.ok_or(WalletError::NoNetwork)?;
        let header = ArchiveHeader::new((network.id(), self.node()), &from);
        let (draft, file) = Draft::beside(to).map_err(|e| io(to, &e))?;
        let mut file = BufWriter::new(file);
        let failed = |error: std::io::Error| WalletError::from(io(to, &error));
        line(&mut file, &header).map_err(failed)?;
        let mut seq = from.seq;
        let end = journal::walk(&view, from.clone(), last, |_, bytes| {
            seq = seq.saturating_add(1);
            let said = ArchiveLine::new(seq, bytes).ok_or_else(damaged)?;
            line(&mut file, &said).map_err(failed)
        })?;
        let seal = sealed(&view)?;
        let sealed = if last == seal.seq {
            end == seal
        } else {
            merkle::root_of(&tree_of(&view), last)? == end.log.root()
        };
        if !sealed {
            return Err(damaged().into());
        }
        let head = self.sign(&view, &end, now)?;
        let records = last.saturating_sub(from.seq);
        line(&mut file, &ArchiveEnd::new(records, &head)).map_err(failed)?;
        let file = file
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        drop(file);
        // What is on the disk is read again before it counts.
        let facts = self.is_what_was_meant(&draft.path, (&from, &end))?;
        draft.keep_new(to).map_err(|e| io(to, &e))?;
        Ok(Archived {
            facts,
            file: to.to_owned(),
            end,
        })
    }

    /// Whether a file has the records between two places of this wallet's journal.
    fn is_what_was_meant(
        &self,
        file: &Path,
        (from, to): (&Point, &Point),
    ) -> Result<ArchiveFacts, WalletError> {
        let mut reading = Reading::open(file)?;
        let begins = reading.point() == from;
        while reading.next_record()?.is_some() {}
        let ends = reading.point() == to;
        let facts = reading.finish(&own_keys(&self.view()?, self.node())?)?;
        if begins && ends {
            Ok(facts)
        } else {
            Err(misfit(file, "is not what was written to it"))
        }
    }

    /// Removes the rows of an archive from the wallet, some in each transaction: whatever stops it, those
    /// that are left follow the last that went. Answers up to which they are gone.
    ///
    /// # Errors
    ///
    /// [`WalletError::Archive`] when the file is not what it was any more, or a store failure.
    pub async fn drop_archived(&self, archived: &Archived) -> Result<u64, WalletError> {
        loop {
            let (end, file) = (archived.end.clone(), archived.file.clone());
            let gone = self.write(move |tables, _| drop_some(tables, (&end, &file)));
            if gone.await? {
                return Ok(archived.end.seq);
            }
        }
    }
}

/// Drops the next rows before `end`; whether all of them are gone.
fn drop_some(tables: &mut impl Tables, (end, file): (&Point, &Path)) -> Result<bool, WalletError> {
    let from = journal::dropped(tables)?;
    if from.seq >= end.seq {
        return Ok(true);
    }
    let first = from.seq.saturating_add(1);
    let to = end.seq.min(from.seq.saturating_add(CHUNK));
    let gone = journal::walk(tables, from, to, |_, _| Ok::<_, StoreError>(()))?;
    if gone.seq == end.seq && gone != *end {
        return Err(misfit(file, "is not of the rows that are in this wallet"));
    }
    for seq in first..=to {
        tables.remove(Table::Journal, &seq.to_be_bytes())?;
    }
    journal::set_dropped(tables, &gone)?;
    Ok(gone.seq == end.seq)
}

/// The last row that is to be archived.
fn last_row(tables: &impl ReadTables, from: &Point, up_to: UpTo) -> Result<u64, WalletError> {
    let newest = sealed(tables)?.seq;
    let last = match up_to {
        UpTo::Newest => newest,
        UpTo::Row(seq) if seq > newest => {
            let why = format!("the journal has {newest} entries, and {seq} is none of them");
            return Err(WalletError::NotArchived(why));
        }
        UpTo::Row(seq) => seq,
        UpTo::OlderThan(then) => older(tables, from.clone(), (newest, then))?,
    };
    if last > from.seq {
        return Ok(last);
    }
    Err(WalletError::NotArchived(match (from.seq, up_to) {
        (_, UpTo::OlderThan(_)) => "no entry that is in the wallet is so old".to_owned(),
        (0, _) => "there are no entries up to there".to_owned(),
        (gone, _) => format!("entries 1 to {gone} are archived already"),
    }))
}

/// The last row of which all up to it are older than `then`.
fn older(
    tables: &impl ReadTables,
    from: Point,
    (newest, then): (u64, Timestamp),
) -> Result<u64, WalletError> {
    /// Ends the walk, or is what went wrong.
    enum Stop {
        Young,
        Failed(StoreError),
    }
    impl From<StoreError> for Stop {
        fn from(error: StoreError) -> Self {
            Self::Failed(error)
        }
    }
    let mut seq = from.seq;
    let walked = journal::walk(tables, from, newest, |record: &Record, _| {
        if record.row.at >= then {
            return Err(Stop::Young);
        }
        seq = seq.saturating_add(1);
        Ok(())
    });
    match walked {
        Err(Stop::Failed(error)) => Err(error.into()),
        Ok(_) | Err(Stop::Young) => Ok(seq),
    }
}

fn line(to: &mut BufWriter<File>, of: &impl Serialize) -> Result<(), std::io::Error> {
    serde_json::to_writer(&mut *to, of)?;
    to.write_all(b"\n")
}
