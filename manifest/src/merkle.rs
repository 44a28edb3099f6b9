//! Merkle trees as RFC 9162 defines them, over SHA-256: roots, inclusion and consistency proofs.
//!
//! A leaf is hashed after a byte 0, a node after a byte 1 and its left half, and a tree that is not full
//! leans left, so no two lists of leaves have the same root. Proofs are made from a [`Nodes`], which
//! knows the hashes of full subtrees, and are checked with nothing but themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{from_hex, to_hex};

/// Most hashes in a proof: a tree has less than 2^64 leaves, and a consistency proof one hash more
/// than the tree has levels.
const PATH_MAX: usize = 65;

/// One SHA-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_hex(&String::deserialize(deserializer)?)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a hash is 64 hexadecimal digits"))
    }
}

impl JsonSchema for Hash {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hash".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "SHA-256, lower-case hexadecimal",
            "pattern": "^[0-9a-f]{64}$"
        })
    }
}

/// The hash of a leaf.
pub fn leaf(data: &[u8]) -> Hash {
    Hash(
        Sha256::new_with_prefix([0])
            .chain_update(data)
            .finalize()
            .into(),
    )
}

/// The hash of a node over two others.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let sha = Sha256::new_with_prefix([1]);
    Hash(
        sha.chain_update(left.0)
            .chain_update(right.0)
            .finalize()
            .into(),
    )
}

/// The root of a tree without leaves.
pub fn empty_root() -> Hash {
    Hash(Sha256::digest(b"").into())
}

/// What must be remembered of a tree to append to it: its size and the roots of its full subtrees,
/// largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontier {
    size: u64,
    peaks: Vec<[u8; 32]>,
}

impl Frontier {
    /// Of a tree without leaves.
    pub const EMPTY: Self = Self {
        size: 0,
        peaks: Vec::new(),
    };

    /// Of a tree with so many leaves; `None` when it does not have so many full subtrees.
    pub fn of(size: u64, peaks: &[Hash]) -> Option<Self> {
        let many = usize::try_from(size.count_ones()).ok()?;
        let peaks: Vec<_> = peaks.iter().map(|peak| peak.0).collect();
        (peaks.len() == many).then_some(Self { size, peaks })
    }

    /// The roots of its full subtrees, largest first.
    pub fn peaks(&self) -> Vec<Hash> {
        self.peaks.iter().map(|peak| Hash(*peak)).collect()
    }

    /// How many leaves there are.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree so far.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev().map(|peak| Hash(*peak));
        let Some(last) = peaks.next() else {
            return empty_root();
        };
        peaks.fold(last, |right, left| node(&left, &right))
    }

    /// Appends a leaf, and tells of each subtree that is full now: its level, its place among those of
    /// its level, and its hash. Level 0 is the leaf itself.
    pub fn push(&mut self, leaf: Hash, mut full: impl FnMut(u8, u64, &Hash)) {
        let (mut hash, mut index) = (leaf, self.size);
        full(0, index, &hash);
        for level in 1_u8..=63 {
            if index & 1 == 0 {
                break;
            }
            let Some(left) = self.peaks.pop() else {
                break;
            };
            hash = node(&Hash(left), &hash);
            index >>= 1;
            full(level, index, &hash);
        }
        self.peaks.push(hash.0);
        self.size = self.size.saturating_add(1);
    }
}

/// Knows the hash of each full subtree.
pub trait Nodes {
    /// Why one could not be had.
    type Error;

    /// The hash of the subtree over the leaves `index · 2^level` up to the next one's first.
    ///
    /// # Errors
    ///
    /// When it could not be read.
    fn full(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// The hash over the leaves from `from` to before `to`, where that is a subtree of some tree.
fn range<N: Nodes>(nodes: &N, from: u64, to: u64) -> Result<Hash, N::Error> {
    let size = to.saturating_sub(from);
    if size.is_power_of_two() {
        let level = size.trailing_zeros();
        return nodes.full(u8::try_from(level).unwrap_or(u8::MAX), from >> level);
    }
    let middle = from.saturating_add(split(size));
    Ok(node(
        &range(nodes, from, middle)?,
        &range(nodes, middle, to)?,
    ))
}

/// The largest power of two below `size`, which is at least 2.
const fn split(size: u64) -> u64 {
    match size.saturating_sub(1).checked_ilog2() {
        Some(level) => 1 << level,
        None => 0,
    }
}

/// The root of the first `size` leaves.
///
/// # Errors
///
/// When a node could not be read.
pub fn root_of<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 {
        return Ok(empty_root());
    }
    range(nodes, 0, size)
}

/// That a leaf is in a tree: the hashes beside the way from it to the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    /// The leaf's place, from 0.
    pub index: u64,
    /// How many leaves the tree has.
    pub size: u64,
    /// The hashes, the leaf's neighbour first.
    pub path: Vec<Hash>,
}

impl Inclusion {
    /// Proves that leaf `index` is in the tree of the first `size` leaves; `None` when it is not.
    ///
    /// # Errors
    ///
    /// When a node could not be read.
    pub fn new<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Option<Self>, N::Error> {
        if index >= size {
            return Ok(None);
        }
        let (mut from, mut to, mut path) = (0_u64, size, Vec::new());
        while to.saturating_sub(from) > 1 {
            let middle = from.saturating_add(split(to.saturating_sub(from)));
            if index < middle {
                path.push(range(nodes, middle, to)?);
                to = middle;
            } else {
                path.push(range(nodes, from, middle)?);
                from = middle;
            }
        }
        path.reverse();
        Ok(Some(Self { index, size, path }))
    }

    /// The root that follows from `leaf` by this proof; `None` when the proof is none.
    pub fn root(&self, leaf: &Hash) -> Option<Hash> {
        if self.index >= self.size || self.path.len() > PATH_MAX {
            return None;
        }
        let (mut index, mut last) = (self.index, self.size.checked_sub(1)?);
        let mut hash = *leaf;
        for beside in &self.path {
            if last == 0 {
                return None;
            }
            if index & 1 == 1 || index == last {
                hash = node(beside, &hash);
                while index & 1 == 0 && index != 0 {
                    (index, last) = (index >> 1, last >> 1);
                }
            } else {
                hash = node(&hash, beside);
            }
            (index, last) = (index >> 1, last >> 1);
        }
        (last == 0).then_some(hash)
    }
}

/// That one tree is the beginning of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consistency {
    /// How many leaves the earlier tree has.
    pub from: u64,
    /// How many the later one has.
    pub to: u64,
    /// The hashes, lowest first.
    pub path: Vec<Hash>,
}

impl Consistency {
    /// Proves that the first `from` leaves begin the tree of the first `to`; `None` when `from` is 0
    /// or above `to`.
    ///
    /// # Errors
    ///
    /// When a node could not be read.
    pub fn new<N: Nodes>(nodes: &N, from: u64, to: u64) -> Result<Option<Self>, N::Error> {
        if from == 0 || from > to {
            return Ok(None);
        }
        let (mut low, mut high, mut path, mut whole) = (0_u64, to, Vec::new(), true);
        while from < high {
            let middle = low.saturating_add(split(high.saturating_sub(low)));
            if from <= middle {
                path.push(range(nodes, middle, high)?);
                high = middle;
            } else {
                path.push(range(nodes, low, middle)?);
                low = middle;
                whole = false;
            }
        }
        if !whole {
            path.push(range(nodes, low, high)?);
        }
        path.reverse();
        Ok(Some(Self { from, to, path }))
    }

    /// Whether the tree with root `later` begins with the one with root `earlier`.
    pub fn holds(&self, earlier: &Hash, later: &Hash) -> bool {
        self.roots(earlier)
            .is_some_and(|roots| roots == (*earlier, *later))
    }

    /// Both roots that follow from the proof.
    fn roots(&self, earlier: &Hash) -> Option<(Hash, Hash)> {
        if self.from == 0 || self.from > self.to || self.path.len() > PATH_MAX {
            return None;
        }
        if self.from == self.to {
            return self.path.is_empty().then_some((*earlier, *earlier));
        }
        let (mut index, mut last) = (self.from.checked_sub(1)?, self.to.checked_sub(1)?);
        while index & 1 == 1 {
            (index, last) = (index >> 1, last >> 1);
        }
        let mut path = self.path.iter();
        // A full earlier tree is itself the first hash.
        let first = if self.from.is_power_of_two() {
            *earlier
        } else {
            *path.next()?
        };
        let (mut small, mut large) = (first, first);
        for beside in path {
            if last == 0 {
                return None;
            }
            if index & 1 == 1 || index == last {
                small = node(beside, &small);
                large = node(beside, &large);
                while index & 1 == 0 && index != 0 {
                    (index, last) = (index >> 1, last >> 1);
                }
            } else {
                large = node(&large, beside);
            }
            (index, last) = (index >> 1, last >> 1);
        }
        (last == 0).then_some((small, large))
    }
}

/// Leaves that are all at hand.
#[derive(Debug)]
pub struct Leaves<'a>(pub &'a [Hash]);

impl Nodes for Leaves<'_> {
    type Error = std::convert::Infallible;

    fn full(&self, level: u8, index: u64) -> Result<Hash, Self::Error> {
        if level == 0 {
            let leaf = usize::try_from(index).ok().and_then(|at| self.0.get(at));
            return Ok(leaf.copied().unwrap_or_else(empty_root));
        }
        let below = level.saturating_sub(1);
        let left = index.saturating_mul(2);
        Ok(node(
            &self.full(below, left)?,
            &self.full(below, left.saturating_add(1))?,
        ))
    }
}

#[cfg(test)]
mod tests;
