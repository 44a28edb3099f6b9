//! Journals: proofs and archives that hold, those that somebody forged, and every byte of them changed.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tirami_manifest::archive_file::{ArchiveEnd, ArchiveHeader, ArchiveLine, ArchiveReader};
use tirami_manifest::id::to_hex;
use tirami_manifest::journal_file::{GrowthFile, RecordFile};
use tirami_manifest::merkle::{Consistency, Hash, Inclusion, Leaves};
use tirami_manifest::point::Point;
use tirami_manifest::signed::Signed;
use tirami_manifest::tree_head::TreeHead;
use tirami_manifest::verify::verify;

use crate::no_byte_can_be_changed;
use crate::world::{at, id, key, private, shared};

/// A record as the wallet writes them, as far as others can read it: version, time, kind, the rest.
fn record(n: u64) -> Vec<u8> {
    let mut bytes = vec![1];
    let mut ms = at(1_000 * n).ms();
    while ms >= 0x80 {
        bytes.push(0x80 | u8::try_from(ms & 0x7f).unwrap());
        ms >>= 7;
    }
    bytes.push(u8::try_from(ms).unwrap());
    bytes.extend([u8::try_from(n % 8).unwrap(), 1]);
    bytes.extend(vec![0xee; usize::try_from(n).unwrap()]);
    bytes
}

/// The journal of node `n` in the private network.
#[derive(Clone)]
pub(crate) struct Journal {
    node: u8,
    records: Vec<Vec<u8>>,
}

impl Journal {
    pub(crate) fn of(node: u8, size: u64) -> Self {
        let records = (0..size).map(record).collect();
        Self { node, records }
    }

    /// After its first `size` records.
    fn point(&self, size: u64) -> Point {
        let mut point = Point::START;
        for record in &self.records[..usize::try_from(size).unwrap()] {
            point.pass(record);
        }
        point
    }

    fn leaves(&self) -> Vec<Hash> {
        let mut point = Point::START;
        self.records.iter().map(|r| point.pass(r)).collect()
    }

    pub(crate) fn head(&self, size: u64) -> Signed<TreeHead> {
        let whose = (private().id(), id(self.node));
        let head = self.point(size).head(whose, at(60_000));
        Signed::new(head, &key(self.node))
    }

    fn record(&self, seq: u64, size: u64) -> RecordFile {
        let record = &self.records[usize::try_from(seq - 1).unwrap()];
        let leaves = self.leaves();
        let proof = Inclusion::new(&Leaves(&leaves), seq - 1, size).unwrap();
        let before = Hash(self.point(seq - 1).hash);
        RecordFile::new((seq, record), before, proof.unwrap().path, &self.head(size)).unwrap()
    }

    fn growth(&self, from: u64, to: u64) -> GrowthFile {
        let leaves = self.leaves();
        let proof = Consistency::new(&Leaves(&leaves), from, to).unwrap();
        let root = self.point(from).log.root();
        GrowthFile::new((from, root), proof.unwrap().path, &self.head(to))
    }

    /// The lines of an archive of records `first` to `last`.
    fn archive(&self, first: u64, last: u64) -> Vec<String> {
        let whose = (private().id(), id(self.node));
        let header = ArchiveHeader::new(whose, &self.point(first - 1));
        let mut lines = vec![serde_json::to_string(&header).unwrap()];
        for seq in first..=last {
            let record = &self.records[usize::try_from(seq - 1).unwrap()];
            let line = ArchiveLine::new(seq, record).unwrap();
            lines.push(serde_json::to_string(&line).unwrap());
        }
        let end = ArchiveEnd::new(last - first + 1, &self.head(last));
        lines.push(serde_json::to_string(&end).unwrap());
        lines
    }
}

fn text(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

pub(crate) fn valid() -> BTreeMap<&'static str, String> {
    let journal = Journal::of(1, 11);
    BTreeMap::from([
        ("journal-record.json", pretty(&journal.record(6, 11))),
        ("journal-newest.json", pretty(&journal.record(11, 11))),
        ("journal-growth.json", pretty(&journal.growth(5, 11))),
        ("journal.archive", text(&journal.archive(1, 7))),
        ("journal-later.archive", text(&journal.archive(8, 11))),
    ])
}

/// Every forgery with what is said of it; each is signed as well as can be.
pub(crate) fn forged() -> BTreeMap<&'static str, (String, &'static str)> {
    let (journal, other) = (Journal::of(1, 11), Journal::of(2, 11));
    let mut stranger = journal.record(6, 11);
    stranger.head = to_hex(&Signed::new(journal.head(11).body, &key(2)).to_bytes());
    let mut elsewhere = journal.record(6, 11);
    elsewhere.record = to_hex(&record(7));
    let mut rewritten = journal.clone();
    rewritten.records[2] = record(9);
    let mut growth = journal.growth(5, 11);
    growth.head = to_hex(&rewritten.head(11).to_bytes());
    growth.says.root = rewritten.point(11).log.root();
    let archive = journal.archive(1, 7);
    let without = |at: usize| {
        let mut lines = archive.clone();
        lines.remove(at);
        text(&lines)
    };
    let mut left_out = journal.clone();
    left_out.records.remove(3);
    let mut left_out = left_out.archive(1, 6);
    *left_out.last_mut().unwrap() =
        serde_json::to_string(&ArchiveEnd::new(6, &journal.head(7))).unwrap();
    let mut ended = archive.clone();
    *ended.last_mut().unwrap() = other.archive(1, 7).pop().unwrap();
    BTreeMap::from([
        ("journal-stranger.json", (pretty(&stranger), "signature")),
        (
            "journal-elsewhere.json",
            (pretty(&elsewhere), "root of the head"),
        ),
        ("journal-rewritten.json", (pretty(&growth), "earlier root")),
        ("journal-cut.archive", (without(8), "last line is missing")),
        (
            "journal-gap.archive",
            (without(4), "seq says something else"),
        ),
        ("journal-left-out.archive", (text(&left_out), "another end")),
        (
            "journal-foreign.archive",
            (text(&ended), "the node differs"),
        ),
    ])
}

#[test]
fn proofs_and_archives_of_a_journal_hold_and_forged_ones_do_not() {
    for (name, text) in valid() {
        let verified = verify(&text);
        assert!(verified.is_ok(), "{name}: {}", verified.unwrap_err());
    }
    for (name, (text, why)) in forged() {
        let error = verify(&text).expect_err(name).to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
}

/// Every size up to a few levels of the tree, every record of it and every earlier one.
#[test]
fn every_record_and_every_growth_is_proved() {
    let journal = Journal::of(3, 20);
    for size in 1..=20 {
        for seq in 1..=size {
            let said = journal.record(seq, size).verify().unwrap();
            assert_eq!((said.seq, said.size), (seq, size));
            let said = journal.growth(seq, size).verify().unwrap();
            assert_eq!((said.from, said.size), (seq, size));
            // The same path for another record, or another size before, is none.
            for other in (1..=size).filter(|other| *other != seq) {
                let mut file = journal.record(seq, size);
                file.says.seq = other;
                assert!(file.verify().is_err(), "{seq} as {other} of {size}");
                let mut file = journal.growth(seq, size);
                (file.from, file.says.from) = (other, other);
                assert!(file.verify().is_err(), "{seq} as {other} of {size}");
            }
        }
    }
}

/// Archives that follow each other join to the whole, wherever the journal is cut.
#[test]
fn archives_join_where_the_journal_was_cut() {
    let journal = Journal::of(1, 20);
    for cut in 1..20 {
        let mut at = Point::START;
        let mut records = Vec::new();
        for (first, last) in [(1, cut), (cut + 1, 20)] {
            let mut reader = ArchiveReader::default();
            for line in journal.archive(first, last) {
                records.extend(reader.line(&line).unwrap());
            }
            assert_eq!(reader.header().unwrap().point(), Ok(at));
            at = reader.point().unwrap().clone();
            let facts = reader.finish().unwrap();
            assert_eq!((facts.first, facts.last), (first, last));
            assert_eq!(facts.records, last - first + 1);
        }
        assert_eq!((records, at), (journal.records.clone(), journal.point(20)));
    }
}

#[test]
fn no_byte_of_a_proof_or_an_archive_of_a_journal_can_be_changed() {
    let refused = no_byte_can_be_changed(&valid());
    assert!(refused > 10_000, "{refused}");
}

/// What is signed correctly and says nonsense all the same.
#[test]
fn a_journal_that_cannot_be_is_refused() {
    let journal = Journal::of(1, 11);
    let changed = |file: &RecordFile, change: &dyn Fn(&mut Value)| {
        let mut value = serde_json::to_value(file).unwrap();
        change(&mut value);
        verify(&value.to_string()).is_err()
    };
    let file = journal.record(6, 11);
    assert!(!changed(&file, &|_| ()));
    for field in ["more", "tirami_growth", "certificate"] {
        assert!(changed(&file, &|value| value[field] = json!(1)), "{field}");
    }
    for field in [
        "seq", "size", "at", "event", "node", "network", "root", "hash", "as_of",
    ] {
        let change = |value: &mut Value| {
            let word = &mut value["says"][field];
            *word = if word.is_u64() { json!(3) } else { json!("x") };
        };
        assert!(changed(&file, &change), "{field}");
        let gone = |value: &mut Value| {
            value["says"].as_object_mut().unwrap().remove(field);
        };
        assert!(changed(&file, &gone), "{field} is gone");
    }
    // The same head in another network is another one, which was not signed.
    let mut head = journal.head(11);
    head.body.network = shared().id();
    let mut foreign = journal.record(6, 11);
    foreign.head = to_hex(&head.to_bytes());
    foreign.says.network = shared().id();
    assert!(foreign.verify().is_err());
    // Archives that count from nowhere, have other peaks, or nothing in them.
    let archive = journal.archive(8, 11);
    let header: Value = serde_json::from_str(&archive[0]).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut header = header.clone();
        change(&mut header);
        let mut lines = archive.clone();
        lines[0] = header.to_string();
        verify(&text(&lines))
    };
    assert!(with(&|_| ()).is_ok());
    for first in [0, 1, 7, 9, u64::MAX] {
        assert!(
            with(&|header| header["first"] = json!(first)).is_err(),
            "{first}"
        );
    }
    assert!(with(&|header| header["tirami_archive"] = json!(2)).is_err());
    assert!(with(&|header| header["peaks"] = json!([])).is_err());
    assert!(with(&|header| header["before"] = json!("00".repeat(32))).is_err());
    assert!(
        with(&|header| {
            header["peaks"].as_array_mut().unwrap().reverse();
        })
        .is_err()
    );
    let empty = vec![archive[0].clone(), archive[5].clone()];
    assert!(verify(&text(&empty)).is_err());
    let twice = [&archive[..5], &archive[4..]].concat();
    assert!(verify(&text(&twice)).is_err());
    let on = [archive.clone(), journal.archive(1, 7)].concat();
    assert!(verify(&text(&on)).is_err());
}
