//! That a chain was anchored, as a file: its newest entry then, and the way from it to a payload that somebody
//! published.
//!
//! It proves that the entry existed before the payload was published, whenever and wherever that was, and
//! nothing else: neither that the chain holds, nor the time that the payload names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::anchor::{Anchor, Heads, leaf};
use crate::chain::Entry;
use crate::genesis::Genesis;
use crate::id::{self, EntryId, NetworkId, NodeId};
use crate::merkle::{Hash, Inclusion};
use crate::proof_file::{ProofError, bytes, damaged, entry_alone, genesis, wrong};
use crate::signed::{Document, Signed};
use crate::time::Timestamp;

/// The word for what it proves.
const PROVES: &str = "existed_before_the_payload_was_published";

/// That an entry is under the root of a payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnchoredFile {
    /// Version of this layout: 1.
    pub tirami_anchored: u8,
    /// What it says, in words.
    pub says: AnchoredFacts,
    /// The network's genesis document in hexadecimal.
    pub genesis: String,
    /// The signed entry in hexadecimal.
    pub entry: String,
    /// Its place among the chains, from 0.
    pub index: u64,
    /// The hashes from the entry to the payload's root, lowest first.
    pub path: Vec<Hash>,
    /// The payload in hexadecimal: what was published.
    pub payload: String,
}

/// What was anchored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnchoredFacts {
    /// The network.
    pub network: NetworkId,
    /// Whose chain.
    pub node: NodeId,
    /// Number of the entry.
    pub seq: u64,
    /// Its id.
    pub head: EntryId,
    /// When its author says that it was appended, RFC 3339 in UTC.
    pub as_of: String,
    /// How many chains are under the payload's root.
    pub chains: u64,
    /// The payload's root.
    pub root: Hash,
    /// The payload: compare it with what was published.
    pub payload: String,
    /// When the payload says that it was made, RFC 3339 in UTC.
    pub at: String,
    /// `existed_before_the_payload_was_published`, and no more than that.
    pub proves: String,
}

impl AnchoredFile {
    /// That an entry, the newest of its author among the heads, is under the root of their anchor; `None` when
    /// it is not.
    pub fn new(
        genesis: &Genesis,
        entry: &Signed<Entry>,
        heads: &Heads,
        anchor: &Anchor,
    ) -> Option<Self> {
        let Inclusion { index, path, .. } = heads.proof(&entry.body.author)?;
        Some(Self {
            tirami_anchored: 1,
            says: facts(&entry.body, anchor),
            genesis: id::to_hex(&genesis.to_bytes()),
            entry: id::to_hex(&entry.to_bytes()),
            index,
            path,
            payload: id::to_hex(&anchor.to_bytes()),
        })
    }

    /// Checks everything that can be checked offline.
    ///
    /// # Errors
    ///
    /// [`ProofError`].
    pub fn verify(&self) -> Result<AnchoredFacts, ProofError> {
        let (part, genesis) = ("payload", genesis(&self.genesis)?);
        let entry = entry_alone("entry", &self.entry, &genesis)?.body;
        let anchor = Anchor::from_bytes(&bytes(part, &self.payload)?).map_err(damaged(part))?;
        if !anchor.is_of(&genesis.id()) {
            return Err(wrong(part, "it is that of another network"));
        }
        let proof = Inclusion {
            index: self.index,
            size: anchor.size,
            path: self.path.clone(),
        };
        if proof.root(&leaf(&entry.author, entry.seq, &entry.id())) != Some(anchor.root) {
            let why = "it does not lead to the root of the payload";
            return Err(wrong("path", why));
        }
        let truth = facts(&entry, &anchor);
        if self.tirami_anchored != 1 || self.says != truth {
            return Err(ProofError::Altered);
        }
        Ok(truth)
    }
}

fn facts(entry: &Entry, anchor: &Anchor) -> AnchoredFacts {
    AnchoredFacts {
        network: entry.network,
        node: entry.author,
        seq: entry.seq,
        head: entry.id(),
        as_of: entry.at().to_rfc3339(),
        chains: anchor.size,
        root: anchor.root,
        payload: id::to_hex(&anchor.to_bytes()),
        at: Timestamp::from_ms(anchor.hlc >> 16).to_rfc3339(),
        proves: PROVES.to_owned(),
    }
}
