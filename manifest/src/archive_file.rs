//! An archive as a file: records of a node's journal, one to a line, which anyone can check without asking
//! anybody.
//!
//! The first line says what was before, as one hash and the peaks of the Merkle tree, and the last carries
//! the head that the node signed: every record stands between the two, so none can be changed, left out or
//! put in. The words beside a record are for people, and a line whose words say something else is refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{self, NetworkId, NodeId};
use crate::journal_file::signed_head;
use crate::merkle::{Frontier, Hash};
use crate::point::Point;
use crate::proof_file::ProofError;
use crate::record::{Glance, RECORD_MAX};
use crate::signed::Signed;
use crate::tree_head::TreeHead;

/// Longest line: a record in hexadecimal or the peaks of the largest tree, and the words beside them.
pub const LINE_MAX: usize = 2 * RECORD_MAX + 8_192;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveHeader {
    /// Version of this layout: 1.
    pub tirami_archive: u8,
    /// The network.
    pub network: NetworkId,
    /// Whose journal.
    pub node: NodeId,
    /// Number of the first record.
    pub first: u64,
    /// Hash of the record before it with all before that one; zeros before the first of all.
    pub before: Hash,
    /// Roots of the full subtrees over the records before, largest first.
    pub peaks: Vec<Hash>,
}

/// A line for a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveLine {
    /// Its number.
    pub seq: u64,
    /// When it happened, RFC 3339 in UTC.
    pub at: String,
    /// What happened, in one word.
    pub event: String,
    /// The record in hexadecimal.
    pub record: String,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveEnd {
    /// How many records there are.
    pub records: u64,
    /// The head that the node signed of its journal up to the last of them, in hexadecimal.
    pub head: String,
}

/// What an archive that holds says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArchiveFacts {
    /// The network.
    pub network: NetworkId,
    /// Whose journal.
    pub node: NodeId,
    /// How many records.
    pub records: u64,
    /// Number of the first.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
    /// When the first happened, RFC 3339 in UTC.
    pub since: String,
    /// When the last happened, RFC 3339 in UTC.
    pub until: String,
    /// Hash of the last with all before it.
    pub hash: Hash,
    /// Root of the tree over all up to the last.
    pub root: Hash,
    /// When the node signed that, RFC 3339 in UTC.
    pub as_of: String,
}

/// Why a file is not an archive that holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveFileError {
    /// A line is not what it should be.
    #[error("line {line} is not a line of an archive: {why}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// Why.
        why: String,
    },
    /// What it says of the records before its first cannot be.
    #[error("the first line {0}")]
    Header(&'static str),
    /// Words that say something else than the bytes.
    #[error("line {line}: {field} says something else than the record; the file was altered")]
    Altered {
        /// Which line, from 1.
        line: u64,
        /// Which word.
        field: &'static str,
    },
    /// The end is missing, or says something else.
    #[error("the file is cut off: {0}")]
    CutOff(&'static str),
    /// The signed head is damaged or not the node's.
    #[error(transparent)]
    Head(#[from] ProofError),
    /// The records are not those that the node signed.
    #[error("the records are not those that the node signed: {0} differs")]
    Records(&'static str),
}

impl ArchiveHeader {
    /// The first line of an archive that begins after `point`.
    pub fn new((network, node): (NetworkId, NodeId), point: &Point) -> Self {
        Self {
            tirami_archive: 1,
            network,
            node,
            first: point.seq.saturating_add(1),
            before: Hash(point.hash),
            peaks: point.log.peaks(),
        }
    }

    /// The place after which it begins.
    ///
    /// # Errors
    ///
    /// [`ArchiveFileError::Header`] when there can be no such place.
    pub fn point(&self) -> Result<Point, ArchiveFileError> {
        if self.tirami_archive != 1 {
            return Err(ArchiveFileError::Header("is of a version not known here"));
        }
        let seq = self.first.checked_sub(1);
        let seq = seq.ok_or(ArchiveFileError::Header("counts records from 0"))?;
        let log = Frontier::of(seq, &self.peaks);
        let log = log.ok_or(ArchiveFileError::Header("has not the peaks of such a tree"))?;
        if seq == 0 && self.before != Hash([0; 32]) {
            return Err(ArchiveFileError::Header(
                "has a hash before the first record",
            ));
        }
        let hash = self.before.0;
        Ok(Point { seq, hash, log })
    }
}

impl ArchiveLine {
    /// The line for a record; `None` when it is none of a kind that is known here.
    pub fn new(seq: u64, record: &[u8]) -> Option<Self> {
        let glance = Glance::at(record)?;
        Some(Self {
            seq,
            at: glance.at.to_rfc3339(),
            event: glance.event.to_owned(),
            record: id::to_hex(record),
        })
    }
}

impl ArchiveEnd {
    /// The last line after so many records.
    pub fn new(records: u64, head: &Signed<TreeHead>) -> Self {
        Self {
            records,
            head: id::to_hex(&head.to_bytes()),
        }
    }
}

/// Checks an archive line by line, so that a long one needs little memory.
#[derive(Debug, Default)]
pub struct ArchiveReader {
    lines: u64,
    begun: Option<Begun>,
    end: Option<ArchiveEnd>,
}

/// An archive whose first line was read.
#[derive(Debug)]
struct Begun {
    header: ArchiveHeader,
    point: Point,
    times: Option<(String, String)>,
}

impl ArchiveReader {
    /// Whether `line` begins an archive.
    pub fn begins(line: &str) -> bool {
        serde_json::from_str::<ArchiveHeader>(line).is_ok()
    }

    /// Up to where the records were read.
    pub fn point(&self) -> Option<&Point> {
        self.begun.as_ref().map(|begun| &begun.point)
    }

    /// The first line.
    pub fn header(&self) -> Option<&ArchiveHeader> {
        self.begun.as_ref().map(|begun| &begun.header)
    }

    /// Checks the next line, without its line end; the record in it, where it has one. That the node signed
    /// it shows in the end: [`ArchiveReader::finish`].
    ///
    /// # Errors
    ///
    /// [`ArchiveFileError`]; nothing more can be read then.
    pub fn line(&mut self, text: &str) -> Result<Option<Vec<u8>>, ArchiveFileError> {
        self.lines = self.lines.saturating_add(1);
        let line = self.lines;
        let not = |why: String| ArchiveFileError::Line { line, why };
        if text.len() > LINE_MAX {
            return Err(not(format!("it has more than {LINE_MAX} bytes")));
        }
        if self.end.is_some() {
            return Err(not("the file has ended before".to_owned()));
        }
        let Some(begun) = &mut self.begun else {
            let header: ArchiveHeader =
                serde_json::from_str(text).map_err(|error| not(error.to_string()))?;
            let (point, times) = (header.point()?, None);
            self.begun = Some(Begun {
                header,
                point,
                times,
            });
            return Ok(None);
        };
        if let Ok(end) = serde_json::from_str::<ArchiveEnd>(text) {
            self.end = Some(end);
            return Ok(None);
        }
        let said: ArchiveLine =
            serde_json::from_str(text).map_err(|error| not(error.to_string()))?;
        let record = id::hex_bytes(&said.record)
            .ok_or_else(|| not("its record is not hexadecimal".to_owned()))?;
        let seq = begun.point.seq.checked_add(1);
        let truth = seq.and_then(|seq| ArchiveLine::new(seq, &record));
        let truth = truth
            .ok_or_else(|| not("its record is not one of a kind that is known here".to_owned()))?;
        for (field, same) in [
            ("seq", said.seq == truth.seq),
            ("at", said.at == truth.at),
            ("event", said.event == truth.event),
        ] {
            if !same {
                return Err(ArchiveFileError::Altered { line, field });
            }
        }
        begun.point.pass(&record);
        match &mut begun.times {
            Some((_, until)) => *until = said.at,
            none => *none = Some((said.at.clone(), said.at)),
        }
        Ok(Some(record))
    }

    /// What the archive says, after its last line.
    ///
    /// # Errors
    ///
    /// [`ArchiveFileError`], when the records are not those that the node signed.
    pub fn finish(self) -> Result<ArchiveFacts, ArchiveFileError> {
        let begun = self.begun.ok_or(ArchiveFileError::CutOff("it is empty"))?;
        let end = self
            .end
            .ok_or(ArchiveFileError::CutOff("its last line is missing"))?;
        let (since, until) = begun
            .times
            .ok_or(ArchiveFileError::CutOff("no record stands in it"))?;
        let (header, point) = (begun.header, begun.point);
        let head = signed_head(&end.head)?;
        let records = point.seq.saturating_sub(header.first).saturating_add(1);
        if end.records != records || head.size != point.seq {
            return Err(ArchiveFileError::CutOff("its last line names another end"));
        }
        for (what, same) in [
            ("the node", head.node == header.node),
            ("the network", head.network == header.network),
            ("their hash", head.hash.0 == point.hash),
            ("the root over them", head.root == point.log.root()),
        ] {
            if !same {
                return Err(ArchiveFileError::Records(what));
            }
        }
        Ok(ArchiveFacts {
            network: header.network,
            node: header.node,
            records,
            first: header.first,
            last: point.seq,
            since,
            until,
            hash: head.hash,
            root: head.root,
            as_of: head.at.to_rfc3339(),
        })
    }
}
