//! A file of lines that only grows.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Adds a line, which ends in a line feed, in one write, and waits until it is on disk. What was cut off before
/// it, by whatever wrote there, stays a line of its own. Where the line could not be written whole nothing of
/// it stays.
pub(super) fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::with_capacity(line.len().saturating_add(1));
    if !ends_a_line(&mut file, length)? {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(line.as_bytes());
    whole(&mut file, &bytes)?;
    file.sync_all()?;
    match path.parent() {
        // A new name is on disk once its directory is.
        Some(folder) if length == 0 && !folder.as_os_str().is_empty() => {
            File::open(folder)?.sync_all()
        }
        _ => Ok(()),
    }
}

fn ends_a_line(file: &mut File, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// All of it in one write, since what is written in two may be cut between them; or nothing of it.
fn whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let written = file.write(bytes)?;
    if written == bytes.len() {
        return Ok(());
    }
    let end = file.metadata()?.len();
    file.set_len(end.saturating_sub(u64::try_from(written).unwrap_or(u64::MAX)))?;
    let text = format!(
        "only {written} of {} bytes could be written, and were taken back",
        bytes.len()
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_where_one_may_begin_and_what_was_cut_off_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        append(&path, "one\n").unwrap();
        append(&path, "two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        std::fs::write(&path, "one\n{\"cut").unwrap();
        append(&path, "two\n").unwrap();
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept, "one\n{\"cut\ntwo\n");
    }
}
