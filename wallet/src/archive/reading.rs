//! Reading an archive from a file, record by record.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tirami_manifest::NodeId;
use tirami_manifest::archive_file::{ArchiveFacts, ArchiveLine, ArchiveReader, LINE_MAX};
use tirami_manifest::id::hex_bytes;
use tirami_manifest::point::Point;

use crate::error::WalletError;

/// A file that cannot be used as an archive here.
pub(crate) fn misfit(file: &Path, why: impl Into<String>) -> WalletError {
    WalletError::Archive {
        file: file.display().to_string(),
        why: why.into(),
    }
}

/// An archive that is being read. What it says counts only once [`Reading::checked`] has answered.
pub(crate) struct Reading {
    path: PathBuf,
    file: BufReader<File>,
    reader: ArchiveReader,
    start: Point,
    /// Bytes read so far.
    offset: u64,
}

impl Reading {
    /// Opens it and reads its first line.
    pub(crate) fn open(path: &Path) -> Result<Self, WalletError> {
        let file =
            File::open(path).map_err(|error| misfit(path, format!("cannot be read: {error}")))?;
        let mut reading = Self {
            path: path.to_owned(),
            file: BufReader::new(file),
            reader: ArchiveReader::default(),
            start: Point::START,
            offset: 0,
        };
        reading.next_record()?;
        let start = reading.reader.point();
        reading.start = start.ok_or_else(|| misfit(path, "is empty"))?.clone();
        Ok(reading)
    }

    /// Where it begins.
    pub(crate) const fn start(&self) -> &Point {
        &self.start
    }

    /// Up to where it was read.
    pub(crate) fn point(&self) -> &Point {
        self.reader.point().unwrap_or(&self.start)
    }

    /// How many bytes of it were read.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next record; `None` after the last.
    pub(crate) fn next_record(&mut self) -> Result<Option<Vec<u8>>, WalletError> {
        loop {
            let Some(text) = self.line()? else {
                return Ok(None);
            };
            let begun = self.reader.point().is_some();
            let record = self.reader.line(&text);
            let record = record.map_err(|error| misfit(&self.path, no_archive(error)))?;
            if record.is_some() || !begun {
                return Ok(record);
            }
        }
    }

    /// Goes back to where a record begins that was read before, and answers the `count` from there on. They
    /// are only what was read before when they lead from the same place to the same.
    pub(crate) fn again(
        &mut self,
        offset: u64,
        (mut point, count): (Point, u64),
    ) -> Result<(Point, Vec<Vec<u8>>), WalletError> {
        let failed = |error: std::io::Error| misfit(&self.path, format!("cannot be read: {error}"));
        self.file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut records = Vec::new();
        for _ in 0..count {
            let text = self.line()?.unwrap_or_default();
            let line = serde_json::from_str::<ArchiveLine>(&text);
            let record = line.ok().and_then(|line| hex_bytes(&line.record));
            let record = record.ok_or_else(|| misfit(&self.path, "was changed meanwhile"))?;
            point.pass(&record);
            records.push(record);
        }
        Ok((point, records))
    }

    /// What it says, when it holds and is of a node with one of these keys; and the file, to read parts of it again.
    pub(crate) fn checked(mut self, keys: &[NodeId]) -> Result<(Self, ArchiveFacts), WalletError> {
        let facts = std::mem::take(&mut self.reader).finish();
        let facts = facts.map_err(|error| misfit(&self.path, no_archive(error)))?;
        if keys.contains(&facts.node) {
            Ok((self, facts))
        } else {
            let why = format!("is an archive of node {}, and not of this one", facts.node);
            Err(misfit(&self.path, why))
        }
    }

    /// What it says, when it holds and is of a node with one of these keys.
    pub(crate) fn finish(self, keys: &[NodeId]) -> Result<ArchiveFacts, WalletError> {
        Ok(self.checked(keys)?.1)
    }

    /// The next line without its end, as long as lines may be.
    fn line(&mut self) -> Result<Option<String>, WalletError> {
        let room = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        let mut file = (&mut self.file).take(room.saturating_add(2));
        let read = file.read_until(b'\n', &mut bytes);
        let failed = |error: std::io::Error| misfit(&self.path, format!("cannot be read: {error}"));
        let read = u64::try_from(read.map_err(failed)?).unwrap_or(u64::MAX);
        if read == 0 {
            return Ok(None);
        }
        self.offset = self.offset.saturating_add(read);
        let text = String::from_utf8(bytes).map_err(|_| misfit(&self.path, "is not text"))?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

fn no_archive(why: impl std::fmt::Display) -> String {
    format!("is no archive that holds: {why}")
}
