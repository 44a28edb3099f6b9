//! Proofs about a node's journal as files: that a record is in it, and that it only grew.
//!
//! Only the signed head and what leads to it prove anything; words that say something else are refused.
//! What a record means beyond its time and kind, only the node can tell.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{self, NetworkId, NodeId};
use crate::merkle::{self, Consistency, Hash, Inclusion};
use crate::proof_file::{ProofError, bytes, damaged, wrong};
use crate::record::Glance;
use crate::signed::Signed;
use crate::tree_head::{TreeHead, chained};

/// That a record is in a node's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordFile {
    /// Version of this layout: 1.
    pub tirami_record: u8,
    /// What it says, in words.
    pub says: RecordFacts,
    /// The record in hexadecimal.
    pub record: String,
    /// Hash of the record before with all before that one; zeros before the first.
    pub before: Hash,
    /// The hashes from the record to the root, lowest first.
    pub path: Vec<Hash>,
    /// The signed head of the journal in hexadecimal.
    pub head: String,
}

/// What is in a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordFacts {
    /// The network.
    pub network: NetworkId,
    /// Whose journal.
    pub node: NodeId,
    /// Number of the record, from 1.
    pub seq: u64,
    /// When it happened, RFC 3339 in UTC.
    pub at: String,
    /// What happened, in one word.
    pub event: String,
    /// Hash of the record with all before it.
    pub hash: Hash,
    /// How many records the journal has.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// When the node signed that, RFC 3339 in UTC.
    pub as_of: String,
}

/// That a journal begins with what it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrowthFile {
    /// Version of this layout: 1.
    pub tirami_growth: u8,
    /// What it says, in words.
    pub says: GrowthFacts,
    /// How many records the earlier journal had.
    pub from: u64,
    /// Its root, which somebody kept.
    pub from_root: Hash,
    /// The hashes that lead from it to the later one, lowest first.
    pub path: Vec<Hash>,
    /// The signed head of the later journal in hexadecimal.
    pub head: String,
}

/// What a journal grew from, and to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrowthFacts {
    /// The network.
    pub network: NetworkId,
    /// Whose journal.
    pub node: NodeId,
    /// How many records the earlier journal had.
    pub from: u64,
    /// Its root: compare it with the one that you kept.
    pub from_root: Hash,
    /// How many records the later one has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// When the node signed that, RFC 3339 in UTC.
    pub as_of: String,
}

/// A head that the node it names has signed.
pub(crate) fn signed_head(text: &str) -> Result<TreeHead, ProofError> {
    let part = "head";
    let signed = Signed::<TreeHead>::from_bytes(&bytes(part, text)?).map_err(damaged(part))?;
    let node = signed.body.node;
    let head = signed.verify(&node).map_err(|error| wrong(part, error))?;
    Ok(*head)
}

impl RecordFile {
    /// That record `seq` is what it is: `before` the hash of the one before, `path` from an inclusion
    /// proof under the head. `None` when the record is none.
    pub fn new(
        (seq, record): (u64, &[u8]),
        before: Hash,
        path: Vec<Hash>,
        head: &Signed<TreeHead>,
    ) -> Option<Self> {
        Some(Self {
            tirami_record: 1,
            says: record_facts((seq, record), &before, &head.body)?,
            record: id::to_hex(record),
            before,
            path,
            head: id::to_hex(&head.to_bytes()),
        })
    }

    /// Checks everything that can be checked offline.
    ///
    /// # Errors
    ///
    /// [`ProofError`].
    pub fn verify(&self) -> Result<RecordFacts, ProofError> {
        let head = signed_head(&self.head)?;
        let (record, seq) = (bytes("record", &self.record)?, self.says.seq);
        let none = || wrong("record", "it is not a record of a kind that is known here");
        let truth = record_facts((seq, &record), &self.before, &head).ok_or_else(none)?;
        let index = seq.checked_sub(1);
        let proof = index.map(|index| Inclusion {
            index,
            size: head.size,
            path: self.path.clone(),
        });
        let root = proof.and_then(|proof| proof.root(&merkle::leaf(&truth.hash.0)));
        if root != Some(head.root) {
            return Err(wrong("path", "it does not lead to the root of the head"));
        }
        // The newest record's hash is in the head itself; before the first there is nothing.
        if seq == head.size && truth.hash != head.hash || seq == 1 && self.before != Hash([0; 32]) {
            return Err(wrong("record", "it has another hash than the head says"));
        }
        if self.tirami_record != 1 || self.says != truth {
            return Err(ProofError::Altered);
        }
        Ok(truth)
    }
}

fn record_facts(
    (seq, record): (u64, &[u8]),
    before: &Hash,
    head: &TreeHead,
) -> Option<RecordFacts> {
    let glance = Glance::at(record)?;
    Some(RecordFacts {
        network: head.network,
        node: head.node,
        seq,
        at: glance.at.to_rfc3339(),
        event: glance.event.to_owned(),
        hash: chained(before, record),
        size: head.size,
        root: head.root,
        as_of: head.at.to_rfc3339(),
    })
}

impl GrowthFile {
    /// That the journal of the head begins with that of `from` records whose root was `from_root`, by the
    /// path of a consistency proof.
    pub fn new((from, from_root): (u64, Hash), path: Vec<Hash>, head: &Signed<TreeHead>) -> Self {
        Self {
            tirami_growth: 1,
            says: growth_facts((from, from_root), &head.body),
            from,
            from_root,
            path,
            head: id::to_hex(&head.to_bytes()),
        }
    }

    /// Checks everything that can be checked offline.
    ///
    /// # Errors
    ///
    /// [`ProofError`].
    pub fn verify(&self) -> Result<GrowthFacts, ProofError> {
        let head = signed_head(&self.head)?;
        let proof = Consistency {
            from: self.from,
            to: head.size,
            path: self.path.clone(),
        };
        if !proof.holds(&self.from_root, &head.root) {
            return Err(wrong(
                "path",
                "it does not lead from the earlier root to that of the head",
            ));
        }
        let truth = growth_facts((self.from, self.from_root), &head);
        if self.tirami_growth != 1 || self.says != truth {
            return Err(ProofError::Altered);
        }
        Ok(truth)
    }
}

fn growth_facts((from, from_root): (u64, Hash), head: &TreeHead) -> GrowthFacts {
    GrowthFacts {
        network: head.network,
        node: head.node,
        from,
        from_root,
        size: head.size,
        root: head.root,
        as_of: head.at.to_rfc3339(),
    }
}
