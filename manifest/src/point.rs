//! A place in a node's journal: how many records are before it, and what they hash to.

use serde::{Deserialize, Serialize};

use crate::id::{NetworkId, NodeId};
use crate::merkle::{self, Frontier, Hash};
use crate::time::Timestamp;
use crate::tree_head::{TreeHead, chained};

/// A place in a journal: after so many records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// How many.
    pub seq: u64,
    /// Hash of the newest with all before it; zeros before the first.
    pub hash: [u8; 32],
    /// The tree over the hashes.
    pub log: Frontier,
}

impl Default for Point {
    fn default() -> Self {
        Self::START
    }
}

impl Point {
    /// Before the first record.
    pub const START: Self = Self {
        seq: 0,
        hash: [0; 32],
        log: Frontier::EMPTY,
    };

    /// Goes on by one record; the leaf it adds to the tree.
    pub fn pass(&mut self, record: &[u8]) -> Hash {
        let hash = chained(&Hash(self.hash), record);
        let leaf = merkle::leaf(&hash.0);
        self.log.push(leaf, |_, _, _| ());
        self.hash = hash.0;
        self.seq = self.seq.saturating_add(1);
        leaf
    }

    /// What the node of this journal signs of it.
    pub fn head(&self, (network, node): (NetworkId, NodeId), at: Timestamp) -> TreeHead {
        TreeHead {
            network,
            node,
            size: self.seq,
            hash: Hash(self.hash),
            root: self.log.root(),
            at,
        }
    }
}
