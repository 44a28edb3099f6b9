//! Where a model's file is, and how llama.cpp, which opens paths, gets at it.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Cursor};
use std::path::{Path, PathBuf};

use crate::engine::gguf::{Gguf, GgufError};

/// The bytes of a GGUF file.
pub enum Weights {
    /// Inside this program.
    Embedded(&'static [u8]),
    /// In a file, which stays open so that replacing it does not swap the model.
    File {
        /// Where it was found.
        path: PathBuf,
        /// The open file.
        file: File,
    },
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(bytes) => write!(f, "Embedded({} bytes)", bytes.len()),
            Self::File { path, .. } => write!(f, "File({})", path.display()),
        }
    }
}

impl Weights {
    /// Reads the head of the file.
    pub(super) fn describe(&self) -> Result<Gguf, GgufError> {
        match self {
            Self::Embedded(bytes) => {
                let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                Gguf::read(&mut Cursor::new(bytes), len)
            }
            Self::File { file, .. } => {
                let len = file.metadata().map_err(GgufError::Io)?.len();
                Gguf::read(&mut BufReader::new(file), len)
            }
        }
    }

    /// Calls `open` with a path that leads to these bytes while it runs.
    pub(super) fn at_path<T>(&self, open: impl FnOnce(&Path) -> T) -> io::Result<T> {
        match self {
            Self::Embedded(bytes) => at_memory(bytes, open),
            Self::File { path, file } => {
                let same = open_path(file);
                Ok(open(same.as_deref().unwrap_or(path)))
            }
        }
    }
}

/// A path that leads to an open file, whatever became of its name; `None` without /proc.
#[cfg(target_os = "linux")]
fn open_path(file: &File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    path.exists().then_some(path)
}

#[cfg(not(target_os = "linux"))]
fn open_path(_: &File) -> Option<PathBuf> {
    None
}

/// Lets the bytes be a file in memory, or else a temporary one.
fn at_memory<T>(bytes: &[u8], open: impl FnOnce(&Path) -> T) -> io::Result<T> {
    #[cfg(target_os = "linux")]
    {
        use std::io::Write;
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::memfd_create("tirami-model", flags)?);
        if let Some(path) = open_path(&file) {
            file.write_all(bytes)?;
            return Ok(open(&path));
        }
    }
    at_temporary(bytes, open)
}

fn at_temporary<T>(bytes: &[u8], open: impl FnOnce(&Path) -> T) -> io::Result<T> {
    use std::io::Write;
    let (path, mut file) = new_temporary()?;
    let written = file.write_all(bytes);
    drop(file);
    let opened = written.map(|()| open(&path));
    // Where a mapped file cannot be removed, it stays until somebody empties the folder.
    if let Err(e) = std::fs::remove_file(&path) {
        tracing::debug!(path = %path.display(), "not removed: {e}");
    }
    opened
}

/// A new file: one that exists, or a link, is never written to.
fn new_temporary() -> io::Result<(PathBuf, File)> {
    let folder = std::env::temp_dir();
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for n in 0..100 {
        let path = folder.join(format!("tirami-model-{}-{n}.gguf", std::process::id()));
        match File::options().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_bytes_are_found_at_a_path_while_it_is_used() {
        let read = |path: &Path| std::fs::read(path).map(|bytes| (path.to_owned(), bytes));
        for at in [at_memory::<io::Result<_>>, at_temporary] {
            let (path, bytes) = at(b"weights", read).unwrap().unwrap();
            assert_eq!(bytes, b"weights");
            assert!(!path.starts_with(std::env::temp_dir()) || !path.exists());
        }
    }
}
