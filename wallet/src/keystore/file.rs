//! Small secret files: of mode 600, written whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use tirami_manifest::id::to_hex;
use zeroize::Zeroizing;

use super::{KeyError, random};

/// Largest file read as a key.
const FILE_MAX: u64 = 4_096;

pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let io = |source| KeyError::Io {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    refuse_exposed(&file, path)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_MAX).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// Writes a file of mode 600 that did not exist, durably: complete or not at all.
///
/// # Errors
///
/// [`KeyError::Exists`] or [`KeyError::Io`].
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let io = |source| KeyError::Io {
        path: path.into(),
        source,
    };
    let (draft, written) = draft(path, bytes)?;
    // A hard link does not replace what is there, a rename would.
    let linked = written.and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft).map_err(io)?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(KeyError::Exists { path: path.into() });
        }
        Err(error) => return Err(io(error)),
    }
    sync_folder(path).map_err(io)
}

/// Puts other bytes in the place of a file of mode 600, durably: complete or not at all.
///
/// # Errors
///
/// [`KeyError::Io`]; then the file is as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let io = |source| KeyError::Io {
        path: path.into(),
        source,
    };
    let (draft, written) = draft(path, bytes)?;
    let renamed = written.and_then(|()| std::fs::rename(&draft, path));
    if renamed.is_err() {
        drop(std::fs::remove_file(&draft));
    }
    renamed.map_err(io)?;
    sync_folder(path).map_err(io)
}

/// A new file beside `path` that holds the bytes, unless writing them failed.
fn draft(path: &Path, bytes: &[u8]) -> Result<(PathBuf, std::io::Result<()>), KeyError> {
    // A name of its own, and never a file that is there: two processes that start at once must not
    // write into each other's draft, which after the link is the key itself.
    let mut unique = [0; 8];
    random(&mut unique).map_err(|e| KeyError::Random(e.to_string()))?;
    let draft = path.with_extension(format!("{}.new", to_hex(&unique)));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft).map_err(|source| KeyError::Io {
        path: path.into(),
        source,
    })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    Ok((draft, written))
}

/// Makes the names in a file's folder durable.
///
/// # Errors
///
/// That of the disk.
pub fn sync_folder(path: &Path) -> std::io::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    // The parent of a bare file name is empty, which means here.
    let here = folder.as_os_str().is_empty();
    File::open(if here { Path::new(".") } else { folder }).and_then(|folder| folder.sync_all())
}

#[cfg(unix)]
fn refuse_exposed(file: &File, path: &Path) -> Result<(), KeyError> {
    use std::os::unix::fs::MetadataExt;
    let mode = file
        .metadata()
        .map_err(|source| KeyError::Io {
            path: path.into(),
            source,
        })?
        .mode();
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(KeyError::Exposed { path: path.into() }),
    }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &File, _: &Path) -> Result<(), KeyError> {
    Ok(())
}
