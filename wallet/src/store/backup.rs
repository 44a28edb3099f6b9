//! A copy of a wallet while it is at work, and the way back.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;
use serde::Serialize;
use tirami_manifest::NodeId;

use super::node::check_node;
use super::open::{Opening, open_with, view};
use super::{CACHE_BYTES, Opened, ReadTransaction, Storage, StoreError, io};
use crate::draft::Draft;
use crate::ledger::audit::audit;
use crate::ledger::tables::{Order, ReadTables, Table, Tables};

/// Rows copied in one transaction; chosen so that they fit into memory easily.
const CHUNK: usize = 4_096;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupInfo {
    /// Rows by table, each under its name on disk.
    pub rows: Vec<(&'static str, u64)>,
    /// Transfers among them.
    pub transfers: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
}

/// What [`restore`] did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// What is there now.
    pub info: BackupInfo,
    /// Where the wallet that was there before is now.
    pub moved: Option<PathBuf>,
}

/// Copies what is committed now to a new file, table by table, while others read and write; checks
/// the copy completely before it gets its name.
pub(crate) fn backup(opened: &Opened, to: &Path) -> Result<BackupInfo, StoreError> {
    if to.try_exists().map_err(|e| io(to, &e))? {
        return Err(StoreError::Exists(to.display().to_string()));
    }
    let (draft, file) = Draft::beside(to).map_err(|e| io(to, &e))?;
    let backend = FileBackend::new(file).map_err(StoreError::io)?;
    let copy = open_with(
        Storage::Backend(Box::new(backend)),
        Opening::new(CACHE_BYTES),
    )?;
    let read = opened.read()?;
    for (table, _) in Table::ALL {
        copy_table(&read, &copy, table)?;
    }
    drop(read);
    drop(copy);
    let info = verify(&draft.path)?;
    draft.keep_new(to).map_err(|e| io(to, &e))?;
    Ok(info)
}

fn copy_table(from: &ReadTransaction, to: &Opened, table: Table) -> Result<(), StoreError> {
    let mut beyond: Option<Vec<u8>> = None;
    loop {
        let rows = from.scan(table, &[], beyond.as_deref(), Order::Ascending, CHUNK)?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut write = to.write()?;
        for (key, value) in &rows {
            write.put(table, key, value)?;
        }
        write.commit()?;
        beyond = rows.into_iter().next_back().map(|(key, _)| key);
    }
}

/// Reads every page and every row of a wallet file, accounts for the free ones, and checks the books
/// against themselves; writes nothing.
fn verify(path: &Path) -> Result<BackupInfo, StoreError> {
    let opening = Opening {
        complete: true,
        ..Opening::new(CACHE_BYTES)
    };
    let opened = view(path, opening)?;
    let read = opened.read()?;
    let mut rows = Vec::new();
    let mut transfers = 0;
    for (table, name) in Table::ALL {
        let mut count = 0_u64;
        let mut beyond = None;
        loop {
            let (last, more) = read.walk(table, beyond.as_deref(), CHUNK)?;
            count = count.saturating_add(more);
            match last {
                None => break,
                some => beyond = some,
            }
        }
        if table == Table::Transfers {
            transfers = count;
        }
        rows.push((name, count));
    }
    for check in audit(&read)? {
        if !check.holds {
            let path = path.display();
            return Err(StoreError::Foreign(format!(
                "the books in {path} contradict themselves ({}: {})",
                check.rule, check.detail
            )));
        }
    }
    let bytes = fs::metadata(path).map_err(|e| io(path, &e))?.len();
    Ok(BackupInfo {
        rows,
        transfers,
        bytes,
    })
}

/// Puts the backup `from` where a node looks for its wallet. A wallet that is there is moved aside,
/// to a name of its own that ends in `.before-restore-<n>`, and is never deleted. At no moment is
/// there no wallet.
///
/// The backup is checked completely first; `from` is left as it is. It does not hold the node's key,
/// which is needed to read stored answers and to be the same node: `node` is the one that will open it.
///
/// # Errors
///
/// [`StoreError::OtherNode`] when it is another node's, [`StoreError::NoBackup`] when it is damaged or something
/// else, [`StoreError::InUse`] when a node has the wallet at `to` open,
/// [`StoreError::Io`] otherwise. Nothing has changed then.
pub fn restore(from: &Path, to: &Path, node: Option<&NodeId>) -> Result<Restored, StoreError> {
    let mut source = File::open(from).map_err(|e| io(from, &e))?;
    let (draft, mut file) = Draft::beside(to).map_err(|e| io(to, &e))?;
    if source.metadata().is_ok_and(|about| about.is_dir()) {
        return Err(StoreError::NoBackup(format!(
            "{} is a directory, which",
            from.display()
        )));
    }
    let copied = std::io::copy(&mut source, &mut file).and_then(|_| file.sync_all());
    copied.map_err(|e| io(&draft.path, &e))?;
    drop(file);
    // What is checked is what will be used: the copy.
    let info = verify(&draft.path).map_err(|error| no_backup(from, &draft.path, error))?;
    check_node(&view(&draft.path, Opening::new(CACHE_BYTES))?.read()?, node)?;
    if !to.try_exists().map_err(|e| io(to, &e))? {
        draft.keep_new(to).map_err(|e| io(to, &e))?;
        return Ok(Restored { info, moved: None });
    }
    // Held until the end, so that no node opens what is about to be moved.
    let _held = hold(to)?;
    let moved = aside(to)?;
    draft.keep_over(to).map_err(|e| io(to, &e))?;
    Ok(Restored {
        info,
        moved: Some(moved),
    })
}

/// What is wrong with the file that was named, where it was found in a copy of it.
fn no_backup(from: &Path, copy: &Path, error: StoreError) -> StoreError {
    let why = match error {
        StoreError::Foreign(why) | StoreError::Io(why) => why,
        StoreError::Damaged(why) => format!("it is damaged: {why}"),
        StoreError::Row { table } => format!("a row of its table {table:?} is damaged"),
        StoreError::Newer(_, version, newest) => {
            return StoreError::Newer(from.display().to_string(), version, newest);
        }
        other => return other,
    };
    let from = from.display().to_string();
    let why = why.replace(&copy.display().to_string(), &from);
    StoreError::NoBackup(if why.contains(&from) {
        why
    } else {
        format!("{from}: {why}")
    })
}

/// Locks a file as a node does that has it open. What is in it does not matter: it may be why a
/// backup is restored.
fn hold(path: &Path) -> Result<FileBackend, StoreError> {
    use std::ops::Bound::Unbounded;
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(|e| io(path, &e))?;
    let backend = FileBackend::new(file).map_err(|_| StoreError::InUse)?;
    match backend.try_lock_range(Unbounded, Unbounded) {
        Ok(true) => Ok(backend),
        Ok(false) => Err(StoreError::InUse),
        Err(error) => Err(StoreError::io(error)),
    }
}

/// Gives the file at `path` a second name that nothing has.
fn aside(path: &Path) -> Result<PathBuf, StoreError> {
    for n in 1..=u32::MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".before-restore-{n}"));
        match fs::hard_link(path, &name) {
            Ok(()) => return Ok(name.into()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io(path, &error)),
        }
    }
    Err(StoreError::Exists(path.display().to_string()))
}
