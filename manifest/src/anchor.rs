//! What is anchored: one hash over the newest entries of many chains, short enough for 80 bytes of a
//! transaction somewhere, or for a line of a file that others keep.
//!
//! It proves that the chains stood so before a time. It does not prove that they hold.

use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{EntryId, NetworkId, NodeId};
use crate::merkle::{self, Frontier, Hash};

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

/// The data of a head's leaf: 32 author, u64 seq, 32 entry id.
fn leaf(author: &NodeId, seq: u64, entry: &EntryId) -> Hash {
    let mut out = Writer::default();
    out.raw(author.as_bytes()).u64(seq).raw(entry.as_bytes());
    merkle::leaf(&out.finish())
}

impl Anchor {
    /// Anchors these heads, which are sorted by author first.
    pub fn new(network: &NetworkId, hlc: u64, mut heads: Vec<(NodeId, u64, EntryId)>) -> Self {
        heads.sort_unstable();
        let mut tree = Frontier::default();
        for (author, seq, entry) in &heads {
            tree.push(leaf(author, *seq, entry), |_, _, _| ());
        }
        Self {
            network: network
                .as_bytes()
                .first_chunk()
                .copied()
                .unwrap_or_default(),
            size: tree.size(),
            hlc,
            root: tree.root(),
        }
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
        let anchor = Anchor::new(&network, 0x0102_0304, heads.clone());
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
        assert_eq!(Anchor::from_bytes(&bytes), Ok(anchor));
        assert!(Anchor::from_bytes(&bytes[..60]).is_err());
        assert!(Anchor::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
        assert!(Anchor::from_bytes(&[0; ANCHOR_LEN]).is_err());
    }
}
