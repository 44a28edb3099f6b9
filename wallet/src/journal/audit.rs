//! Whether the journal is what was sealed, and what comes of doing it again.

use std::path::PathBuf;

use tirami_manifest::NodeId;
use tirami_manifest::merkle;
use tirami_manifest::point::Point;

use super::{place, sealed, tree_of};
use crate::archive::{Reading, misfit};
use crate::error::WalletError;
use crate::ledger::audit::Check;
use crate::ledger::journal::{self, Record};
use crate::ledger::refusal::ApplyError;
use crate::ledger::tables::{MemoryTables, ReadTables};

/// Most rows that the audit does again; a longer journal is only read and hashed.
const REPLAYED_MAX: u64 = 200_000;

/// Reads and hashes the journal from its first row that is there, and does it again, with the archives of
/// the rows that are not.
pub(crate) fn audit(
    tables: &impl ReadTables,
    keys: &[NodeId],
    archives: &[PathBuf],
) -> Result<Vec<Check>, WalletError> {
    let (seal, dropped) = (sealed(tables)?, journal::dropped(tables)?);
    // As many rows as there are, whatever the seal says.
    let last = journal::last(tables)?;
    let now = journal::walk(tables, dropped.clone(), last, |_, _| {
        Ok::<_, WalletError>(())
    })?;
    let before = merkle::root_of(&tree_of(tables), dropped.seq)? == dropped.log.root();
    let detail = match dropped.seq {
        0 => format!("{} rows", now.seq),
        gone => format!(
            "{} rows, from number {} on",
            now.seq.saturating_sub(gone),
            gone.saturating_add(1)
        ),
    };
    let hashes = Check {
        rule: "the journal is what was sealed",
        holds: now == seal && before,
        detail,
    };
    let (holds, detail) = if now.seq > REPLAYED_MAX {
        let detail = format!("not done again: more than {REPLAYED_MAX} rows");
        (true, detail)
    } else if dropped.seq > 0 && archives.is_empty() {
        let detail = format!(
            "not done again: rows 1 to {} are in an archive; name it with --archive",
            dropped.seq
        );
        (true, detail)
    } else {
        replayed(tables, keys, archives)?
    };
    let replays = Check {
        rule: "replaying the journal gives the same ledger byte for byte",
        holds,
        detail,
    };
    Ok(vec![hashes, replays])
}

/// What was done again, and where it went wrong.
#[derive(Default)]
struct Redone {
    memory: MemoryTables,
    seq: u64,
    failed: Option<(u64, ApplyError)>,
}

impl Redone {
    fn redo(&mut self, record: &Record) {
        self.seq = self.seq.saturating_add(1);
        if self.failed.is_none()
            && let Err(error) = journal::redo(&mut self.memory, record)
        {
            self.failed = Some((self.seq, error));
        }
    }
}

fn replayed(
    tables: &impl ReadTables,
    keys: &[NodeId],
    archives: &[PathBuf],
) -> Result<(bool, String), WalletError> {
    let mut readings = archives
        .iter()
        .map(|file| Reading::open(file))
        .collect::<Result<Vec<_>, _>>()?;
    readings.sort_by_key(|reading| reading.start().seq);
    let last_file = readings.last().map(|reading| reading.path().to_owned());
    let (mut redone, mut point) = (Redone::default(), Point::START);
    for reading in readings {
        point = archived(reading, keys, &point, &mut redone)?;
    }
    let fits = match point.seq {
        0 => journal::dropped(tables)?.seq == 0,
        seq if seq > sealed(tables)?.seq => false,
        seq => place(tables, seq)
            .map(|place| place == point)
            .or_else(|error| match error {
                WalletError::Dropped(_) => Ok(false),
                other => Err(other),
            })?,
    };
    if !fits && let Some(file) = &last_file {
        let why = format!(
            "ends with record {}, and what is in the wallet does not follow it",
            point.seq
        );
        return Err(misfit(file, why));
    }
    let last = journal::last(tables)?;
    journal::walk(tables, point, last, |record, _| {
        redone.redo(record);
        Ok::<_, WalletError>(())
    })?;
    if let Some((seq, error)) = redone.failed {
        return Ok((false, format!("row {seq}: {error:?}")));
    }
    Ok(match journal::difference(&redone.memory, tables)? {
        None => (true, format!("{last} rows")),
        Some(table) => (false, format!("the table {table:?} differs")),
    })
}

/// Does the records of an archive again, from where the one before ended; what both have is the same.
fn archived(
    mut reading: Reading,
    keys: &[NodeId],
    from: &Point,
    redone: &mut Redone,
) -> Result<Point, WalletError> {
    let mut same = reading.start() == from;
    if reading.start().seq > from.seq {
        let why = format!(
            "begins with record {}; what is needed begins with record {}",
            reading.start().seq.saturating_add(1),
            from.seq.saturating_add(1)
        );
        return Err(misfit(reading.path(), why));
    }
    while let Some(bytes) = reading.next_record()? {
        if reading.point().seq <= from.seq {
            same |= reading.point() == from;
            continue;
        }
        let record = Record::from_bytes(&bytes);
        let unread = |_| misfit(reading.path(), "has a record that this version cannot read");
        redone.redo(&record.map_err(unread)?);
    }
    let (path, end) = (reading.path().to_owned(), reading.point().clone());
    reading.finish(keys)?;
    if end.seq < from.seq {
        return Ok(from.clone());
    }
    if same {
        Ok(end)
    } else {
        let why = format!(
            "has other records up to number {} than the one before",
            from.seq
        );
        Err(misfit(&path, why))
    }
}
