//! What a node signs of its journal: how long it is, and what it hashes to.
//!
//! The journal itself is the node's own affair. Whoever keeps a tree head can be shown that a record was in
//! the journal then, and that a later journal begins with that one.

use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{NetworkId, NodeId};
use crate::merkle::Hash;
use crate::signed::{Document, hash};
use crate::time::Timestamp;

/// Domain of the hash of a record and of the one before it.
const JOURNAL: &[u8] = b"trm/v1/journal\0";

/// The hash of a record after the one before it; zeros are before the first.
pub fn chained(before: &Hash, record: &[u8]) -> Hash {
    Hash(hash(JOURNAL, &[&before.0, record]))
}

/// What a node signs of its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// The network.
    pub network: NetworkId,
    /// Whose journal; the signer.
    pub node: NodeId,
    /// How many records it speaks of: the first so many.
    pub size: u64,
    /// Hash of the newest of them with all before it.
    pub hash: Hash,
    /// Root of the tree over those hashes.
    pub root: Hash,
    /// When it was signed.
    pub at: Timestamp,
}

impl Document for TreeHead {
    const DOMAIN: &'static [u8] = b"trm/v1/sth\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .raw(self.node.as_bytes())
            .u64(self.size)
            .raw(&self.hash.0)
            .raw(&self.root.0)
            .u64(self.at.ms());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        Ok(Self {
            network: NetworkId::from_bytes(from.raw("network")?),
            node: NodeId::from_bytes(from.raw("node")?),
            size: from.u64("size")?,
            hash: Hash(from.raw("hash")?),
            root: Hash(from.raw("root")?),
            at: Timestamp::from_ms(from.u64("at")?),
        })
    }
}
