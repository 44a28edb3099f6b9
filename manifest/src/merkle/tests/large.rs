//! Proofs between trees of up to 4,096 leaves.

use std::convert::Infallible;

use super::*;

const MOST: u64 = 4_096;

/// Up to here every pair is looked at, whatever the profile.
const ALL: u64 = 256;

/// Beyond, one size in so many, and the powers of two with their neighbours.
const STRIDE: u64 = 1_021;

/// The hashes of all full subtrees at hand, so that a proof costs its length.
struct Levels(Vec<Vec<Hash>>);

impl Levels {
    fn over(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some([_, _, ..]) = levels.last().map(Vec::as_slice) {
            let below = levels.last().unwrap();
            let above = below.chunks_exact(2).map(|two| node(&two[0], &two[1]));
            levels.push(above.collect());
        }
        Self(levels)
    }
}

impl Nodes for Levels {
    type Error = Infallible;

    fn full(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        Ok(self.0[usize::from(level)][usize::try_from(index).unwrap()])
    }
}

/// The tree, and its root at each size, which appending gives and proofs do not need.
struct Grown {
    levels: Levels,
    roots: Vec<Hash>,
}

impl Grown {
    fn new() -> Self {
        let all = leaves(u32::try_from(MOST).unwrap());
        let mut frontier = Frontier::default();
        let mut roots = vec![frontier.root()];
        for leaf in &all {
            frontier.push(*leaf, |_, _, _| ());
            roots.push(frontier.root());
        }
        let levels = Levels::over(all);
        Self { levels, roots }
    }

    fn root(&self, size: u64) -> Hash {
        self.roots[usize::try_from(size).unwrap()]
    }

    fn leaf(&self, index: u64) -> Hash {
        self.levels.full(0, index).unwrap()
    }

    /// Every leaf of the tree of `size` is proved to be in it, at its place and no other's.
    fn includes(&self, size: u64) {
        let (root, most) = (self.root(size), size.next_power_of_two().ilog2());
        for index in 0..size {
            let proof = Inclusion::new(&self.levels, index, size).unwrap().unwrap();
            assert!(proof.path.len() <= usize::try_from(most).unwrap());
            assert_eq!(proof.root(&self.leaf(index)), Some(root), "{index} {size}");
            let other = self.leaf((index + 1) % MOST);
            assert_ne!(proof.root(&other), Some(root), "{index} {size}");
        }
    }

    /// Every earlier tree is proved to begin the tree of `size`, and no other.
    fn goes_on(&self, size: u64) {
        let root = self.root(size);
        let most = size.next_power_of_two().ilog2() + 1;
        for from in 1..=size {
            let proof = Consistency::new(&self.levels, from, size).unwrap().unwrap();
            assert!(proof.path.len() <= usize::try_from(most).unwrap());
            assert!(proof.holds(&self.root(from), &root), "{from} {size}");
            let other = if from % 2 == 0 {
                proof.holds(&self.root(from - 1), &root)
            } else {
                proof.holds(&self.root(from), &self.root(size - 1))
            };
            assert!(!other, "{from} {size}");
        }
    }

    /// Both, of these sizes, on all processors.
    fn holds(&self, sizes: &[u64]) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for first in 0..threads {
                scope.spawn(move || {
                    // Neighbours cost about the same.
                    for size in sizes.iter().skip(first).step_by(threads) {
                        self.includes(*size);
                        self.goes_on(*size);
                    }
                });
            }
        });
    }
}

/// Sizes of which every pair is looked at.
fn sizes() -> Vec<u64> {
    let cases = std::env::var("PROPTEST_CASES").map_or(0, |n| n.parse().unwrap());
    // Without optimisation it would take an hour.
    if cases >= 3_000 && !cfg!(debug_assertions) {
        return (1..=MOST).collect();
    }
    let powers = (9..=12).flat_map(|level| [(1 << level) - 1, 1 << level, (1 << level) + 1]);
    let strides = (ALL..=MOST).step_by(usize::try_from(STRIDE).unwrap());
    let large = powers.chain(strides).filter(|size| *size <= MOST);
    let mut sizes: Vec<u64> = (1..=ALL + 1).chain(large).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// For a size j, the inclusion proof of every leaf i < j and the consistency proof from every i <= j: of all
/// j up to 257; of the powers of two up to 4,096 with their neighbours; and of every 1,021st from 256 on:
/// 59,000 pairs. `make nightly` asks for every j up to 4,096, 8.4 million pairs, by `PROPTEST_CASES` of 3,000
/// or more in an optimised build.
#[test]
fn proofs_up_to_4096_leaves_hold_and_for_no_other_tree() {
    Grown::new().holds(&sizes());
}
