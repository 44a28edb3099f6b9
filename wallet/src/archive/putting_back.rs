//! Putting rows back that were dropped, from the archive that has them.
//!
//! They go back newest first, some in each transaction, so that at every moment the rows that are there
//! follow the place up to which others are not. Nothing is written before the whole file was checked.

use std::path::Path;

use tirami_manifest::archive_file::ArchiveFacts;
use tirami_manifest::point::Point;

use super::{CHUNK, Reading, misfit};
use crate::chain::own_keys;
use crate::error::WalletError;
use crate::ledger::journal::{self, Record};
use crate::ledger::tables::{ReadTables, Table, Tables};
use crate::wallet::Wallet;

/// An archive that was checked and has the newest rows that were dropped.
pub struct PutBack {
    /// What it says.
    pub facts: ArchiveFacts,
    reading: Reading,
    /// Where each part begins in the file, and after which place; oldest first.
    parts: Vec<(u64, Point)>,
    /// Up to where rows are to be put back.
    end: Point,
}

impl std::fmt::Debug for PutBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PutBack").field(&self.facts).finish()
    }
}

/// The next rows to put back.
#[derive(Debug)]
pub struct Rows {
    /// After which place they are.
    from: Point,
    /// Up to which.
    to: Point,
    /// Key and row of each.
    each: Vec<(u64, Vec<u8>)>,
}

impl PutBack {
    /// The next rows, newest first; `None` when all are back.
    ///
    /// # Errors
    ///
    /// [`WalletError::Archive`] when the file was changed meanwhile.
    pub fn next_rows(&mut self) -> Result<Option<Rows>, WalletError> {
        let Some((offset, from)) = self.parts.pop() else {
            return Ok(None);
        };
        let to = std::mem::replace(&mut self.end, from.clone());
        let count = to.seq.saturating_sub(from.seq);
        let (reached, records) = self.reading.again(offset, (from.clone(), count))?;
        if reached != to {
            return Err(misfit(self.reading.path(), "was changed meanwhile"));
        }
        let mut each = Vec::new();
        for (seq, record) in (from.seq.saturating_add(1)..).zip(records) {
            each.push((seq, journal::row_of(&Record::from_bytes(&record)?)?));
        }
        Ok(Some(Rows { from, to, each }))
    }
}

impl Wallet {
    /// Checks that an archive has the newest rows that were dropped from this wallet. This takes time in
    /// proportion to the file: call it on a blocking thread.
    ///
    /// # Errors
    ///
    /// [`WalletError::Archive`], which says what does not fit.
    pub fn look_at_archive(&self, file: &Path) -> Result<PutBack, WalletError> {
        let view = self.view()?;
        let gone = journal::dropped(&view)?;
        let mut reading = Reading::open(file)?;
        let start = reading.start().clone();
        let mut parts = vec![(reading.offset(), start.clone())];
        let (mut same, mut fits) = (None, true);
        while let Some(record) = reading.next_record()? {
            let point = reading.point();
            if point.seq <= gone.seq {
                fits &= is_of(&view, &record)?;
            }
            if point.seq == gone.seq {
                same = Some(*point == gone);
            }
            let full = point.seq.saturating_sub(start.seq).is_multiple_of(CHUNK);
            if full && point.seq < gone.seq {
                parts.push((reading.offset(), point.clone()));
            }
        }
        let path = reading.path().to_owned();
        let end = reading.point().seq;
        // The file stays open: what is read again is what was checked.
        let (reading, facts) = reading.checked(&own_keys(&view, self.node())?)?;
        let why = match same {
            _ if gone.seq == 0 => "is not needed: no entry was dropped from this wallet".to_owned(),
            None if start.seq >= gone.seq => format!(
                "begins with record {}, and the newest that is missing is {}",
                facts.first, gone.seq
            ),
            None => format!(
                "ends with record {end}, and those up to {} are missing too: put them back first",
                gone.seq
            ),
            Some(true) if fits => {
                return Ok(PutBack {
                    facts,
                    reading,
                    parts,
                    end: gone,
                });
            }
            Some(_) => "has other records than those that were dropped from this wallet".to_owned(),
        };
        Err(misfit(&path, why))
    }

    /// Puts the next rows back.
    ///
    /// # Errors
    ///
    /// [`WalletError::Archive`] when others were put back meanwhile, or a store failure.
    pub async fn put_back(&self, rows: Rows) -> Result<(), WalletError> {
        self.write(move |tables, _| {
            if journal::dropped(tables)? != rows.to {
                let why = "does not follow what is in the wallet any more".to_owned();
                let file = "the archive".to_owned();
                return Err(WalletError::Archive { file, why });
            }
            for (seq, row) in rows.each {
                tables.put_owned(Table::Journal, seq.to_be_bytes().to_vec(), row)?;
            }
            Ok(journal::set_dropped(tables, &rows.from)?)
        })
        .await
    }
}

/// Whether the row of a record would say the same here: its transfer is one that this wallet has.
fn is_of(tables: &impl ReadTables, bytes: &[u8]) -> Result<bool, WalletError> {
    let Ok(record) = Record::from_bytes(bytes) else {
        return Ok(false);
    };
    let said = journal::record(tables, &journal::row_of(&record)?);
    Ok(said.is_ok_and(|said| said == record))
}
