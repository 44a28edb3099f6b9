//! Files that are whole when they get their name, and until then are nothing.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use tirami_manifest::id::to_hex;

use super::StoreError;
use crate::keystore::random;

/// A file that is not finished: it goes unless it is kept.
pub(crate) struct Draft {
    /// Where it is.
    pub(crate) path: PathBuf,
    kept: bool,
}

impl Draft {
    /// An empty file beside `to`, under a name of its own, which its user alone can read.
    pub(crate) fn beside(to: &Path) -> Result<(Self, File), StoreError> {
        let mut unique = [0; 8];
        random(&mut unique)?;
        let path = to.with_extension(format!("{}.new", to_hex(&unique)));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(|e| io(&path, &e))?;
        Ok((Self { path, kept: false }, file))
    }

    /// Gives it its name, which nothing may have.
    pub(crate) fn keep_new(self, to: &Path) -> Result<(), StoreError> {
        // A hard link does not replace what is there, a rename would.
        fs::hard_link(&self.path, to).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => StoreError::Exists(to.display().to_string()),
            _ => io(to, &error),
        })?;
        sync_folder(to)
    }

    /// Gives it its name, whatever has it.
    pub(crate) fn keep_over(mut self, to: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, to).map_err(|e| io(to, &e))?;
        self.kept = true;
        sync_folder(to)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a draft was left behind");
        }
    }
}

pub(crate) fn io(path: &Path, error: &std::io::Error) -> StoreError {
    if super::checked::is_full(error) {
        return StoreError::Full;
    }
    StoreError::Io(format!("{}: {error}", path.display()))
}

fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|e| io(folder, &e))
}
