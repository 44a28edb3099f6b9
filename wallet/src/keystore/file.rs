//! Small secret files: of mode 600, written whole or not at all.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use zeroize::Zeroizing;

use super::KeyError;
use crate::draft::Draft;

/// Largest file read as a key.
const FILE_MAX: u64 = 4_096;

pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let file = File::open(path).map_err(|source| io(path, source))?;
    refuse_exposed(&file, path)?;
    // Room for all of it beforehand: a buffer that grows leaves copies behind.
    let room = usize::try_from(FILE_MAX).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    file.take(FILE_MAX)
        .read_to_end(&mut bytes)
        .map_err(|source| io(path, source))?;
    Ok(bytes)
}

/// Writes a file of mode 600 that did not exist, durably: complete or not at all.
///
/// # Errors
///
/// [`KeyError::Exists`] or [`KeyError::Io`].
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let kept = written(path, bytes).and_then(|draft| draft.keep_new(path));
    kept.map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => KeyError::Exists { path: path.into() },
        _ => io(path, source),
    })
}

/// Puts other bytes in the place of a file of mode 600, durably: complete or not at all.
///
/// # Errors
///
/// [`KeyError::Io`]; then the file is as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let kept = written(path, bytes).and_then(|draft| draft.keep_over(path));
    kept.map_err(|source| io(path, source))
}

/// A draft that has the bytes on the disk.
fn written(path: &Path, bytes: &[u8]) -> std::io::Result<Draft> {
    let (draft, mut file) = Draft::beside(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all())?;
    Ok(draft)
}

fn io(path: &Path, source: std::io::Error) -> KeyError {
    KeyError::Io {
        path: path.into(),
        source,
    }
}

#[cfg(unix)]
fn refuse_exposed(file: &File, path: &Path) -> Result<(), KeyError> {
    use std::os::unix::fs::MetadataExt;
    let about = file.metadata().map_err(|source| io(path, source))?;
    let mode = about.mode();
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(KeyError::Exposed { path: path.into() }),
    }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &File, _: &Path) -> Result<(), KeyError> {
    Ok(())
}
