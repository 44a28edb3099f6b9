//! What is anchored: one hash over the newest entries of many chains, short enough for 80 bytes of a
//! transaction somewhere, or for a line of a file that others keep.
//!
//! It proves that the chains stood so before a time. It does not prove that they hold.

use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{EntryId, NetworkId, NodeId};
use crate::merkle::{self, Frontier, Hash, Inclusion, Leaves};

/// How every payload starts.
const MAGIC: &[u8; 4] = b"TRM1";

/// Bytes of a payload.
pub const ANCHOR_LEN: usize = 61;

/// A payload: `TRM1`, u8 version, the first 8 bytes of the network's id, u64 size of the tree, u64 hybrid
/// time, 32 bytes of root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The first 8 bytes of the network's id.
    pub network: [u8; 8],
    /// How many chains.
    pub size: u64,
    /// When, in hybrid time.
    pub hlc: u64,
    /// Root of the tree over their heads.
    pub root: Hash,
}

/// What a payload has of a network's id.
fn prefix(network: &NetworkId) -> [u8; 8] {
    let first = network.as_bytes().first_chunk();
    first.copied().unwrap_or_default()
}

/// The hash of a head's leaf, whose data is: 32 author, u64 seq, 32 entry id.
pub(crate) fn leaf(author: &NodeId, seq: u64, entry: &EntryId) -> Hash {
    let mut out = Writer::default();
    out.raw(author.as_bytes()).u64(seq).raw(entry.as_bytes());
    merkle::leaf(&out.finish())
}

/// The newest entries of chains under one root, by ascending author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads(Vec<(NodeId, u64, EntryId)>);

impl Heads {
    /// Author, number and id of each.
    pub fn new(mut heads: Vec<(NodeId, u64, EntryId)>) -> Self {
        heads.sort_unstable();
        Self(heads)
    }

    /// How many chains.
    pub fn size(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    /// Root of the tree over them.
    pub fn root(&self) -> Hash {
        let mut tree = Frontier::default();
        for hash in self.leaves() {
            tree.push(hash, |_, _, _| ());
        }
        tree.root()
    }

    /// That an author's newest entry is under the root; `None` when it is not.
    pub fn proof(&self, author: &NodeId) -> Option<Inclusion> {
        let at = self.0.iter().position(|(other, _, _)| other == author)?;
        let (index, leaves) = (u64::try_from(at).ok()?, self.leaves());
        let Ok(proof) = Inclusion::new(&Leaves(&leaves), index, self.size());
        proof
    }

    fn leaves(&self) -> Vec<Hash> {
        let hash = |(author, seq, entry): &(NodeId, u64, EntryId)| leaf(author, *seq, entry);
        self.0.iter().map(hash).collect()
    }
}

impl Anchor {
    /// Anchors these heads.
    pub fn new(network: &NetworkId, hlc: u64, heads: &Heads) -> Self {
        Self {
            network: prefix(network),
            size: heads.size(),
            hlc,
            root: heads.root(),
        }
    }

    /// Whether it names this network, as far as it names one.
    pub fn is_of(&self, network: &NetworkId) -> bool {
        self.network == prefix(network)
    }

    /// The payload.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.raw(MAGIC)
            .u8(1)
            .raw(&self.network)
            .u64(self.size)
            .u64(self.hlc)
            .raw(&self.root.0);
        out.finish()
    }

    /// Reads what [`Anchor::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        if from.raw::<4>("magic")? != *MAGIC {
            return Err(DecodeError::Value("magic"));
        }
        from.version_1()?;
        let anchor = Self {
            network: from.raw("network")?,
            size: from.u64("size")?,
            hlc: from.u64("time")?,
            root: Hash(from.raw("root")?),
        };
        from.finish()?;
        Ok(anchor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::to_hex;

    #[test]
    fn a_payload_has_its_golden_bytes() {
        let heads = vec![
            (NodeId::from_bytes([2; 32]), 7, EntryId::from_bytes([4; 32])),
            (NodeId::from_bytes([1; 32]), 5, EntryId::from_bytes([3; 32])),
        ];
        let network = NetworkId::from_bytes([9; 32]);
        let anchor = Anchor::new(&network, 0x0102_0304, &Heads::new(heads.clone()));
        let bytes = anchor.to_bytes();
        assert_eq!(bytes.len(), ANCHOR_LEN);
        let fields = [
            "54524d31",         // TRM1
            "01",               // version
            "0909090909090909", // network
            "0200000000000000", // chains
            "0403020100000000", // hybrid time
        ];
        assert!(to_hex(&bytes).starts_with(&fields.concat()));
        let (a, b) = (
            leaf(&heads[1].0, 5, &heads[1].2),
            leaf(&heads[0].0, 7, &heads[0].2),
        );
        assert_eq!(anchor.root, merkle::node(&a, &b));
        let proof = Heads::new(heads.clone()).proof(&heads[0].0).unwrap();
        assert_eq!((proof.index, proof.path), (1, vec![a]));
        assert!(anchor.is_of(&network) && !anchor.is_of(&NetworkId::from_bytes([8; 32])));
        assert_eq!(Anchor::from_bytes(&bytes), Ok(anchor));
        assert!(Anchor::from_bytes(&bytes[..60]).is_err());
        assert!(Anchor::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
        assert!(Anchor::from_bytes(&[0; ANCHOR_LEN]).is_err());
    }
}
