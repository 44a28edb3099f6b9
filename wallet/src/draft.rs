//! Files that are whole when they get their name, and until then are nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Error};
use std::path::{Path, PathBuf};

use tirami_manifest::id::to_hex;

use crate::keystore::random;

/// A file that is not finished: it goes unless it is kept.
pub(crate) struct Draft {
    /// Where it is.
    pub(crate) path: PathBuf,
    kept: bool,
}

impl Draft {
    /// An empty file beside `to`, which its user alone can read, under a name of its own and never a file
    /// that is there: two processes that start at once must not write into each other's draft, which after
    /// it is kept is the file itself.
    pub(crate) fn beside(to: &Path) -> io::Result<(Self, File)> {
        let mut unique = [0; 8];
        random(&mut unique).map_err(Error::other)?;
        let path = to.with_extension(format!("{}.new", to_hex(&unique)));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        Ok((Self { path, kept: false }, file))
    }

    /// Gives it its name, which nothing may have.
    pub(crate) fn keep_new(self, to: &Path) -> io::Result<()> {
        // A hard link does not replace what is there, a rename would.
        fs::hard_link(&self.path, to)?;
        sync_folder(to)
    }

    /// Gives it its name, whatever has it.
    pub(crate) fn keep_over(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
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

/// Makes the names in a file's folder durable.
///
/// # Errors
///
/// That of the disk.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        // The parent of a bare file name is empty, which means here.
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all())
}
