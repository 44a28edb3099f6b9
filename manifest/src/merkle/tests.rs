use super::*;

mod large;

/// The eight leaves of the reference implementation of RFC 6962, in hexadecimal, and the roots of the
/// first 1 to 8 of them.
const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn leaves(n: u32) -> Vec<Hash> {
    (0..n).map(|i| leaf(&i.to_le_bytes())).collect()
}

/// The definition in RFC 9162, 2.1.1, word for word.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [only] => *only,
        more => {
            let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
            node(&mth(left), &mth(right))
        }
    }
}

fn hash(text: &str) -> Hash {
    Hash(from_hex(text).unwrap())
}

fn reference() -> Vec<Hash> {
    let bytes = LEAVES.map(|text| crate::id::hex_bytes(text).unwrap());
    bytes.iter().map(|data| leaf(data)).collect()
}

#[test]
fn the_reference_vectors_have_their_roots() {
    let all = reference();
    let mut frontier = Frontier::default();
    assert_eq!(
        frontier.root(),
        hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    );
    for (i, root) in ROOTS.iter().enumerate() {
        frontier.push(all[i], |_, _, _| ());
        assert_eq!(frontier.root(), hash(root), "{} leaves", i + 1);
        assert_eq!(mth(&all[..=i]), hash(root));
    }
}

/// Leaves of the vectors and nodes over them, as they stand in the published paths.
const LEAF_0: &str = ROOTS[0];
const LEAF_1: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const LEAF_4: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const OVER_2_3: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const OVER_4_5: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
const OVER_6_7: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const OVER_4_TO_7: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";

/// The paths that were published with the vectors: leaf from 0, size, path.
const INCLUDED: [(u64, u64, &[&str]); 5] = [
    (0, 1, &[]),
    (0, 8, &[LEAF_1, OVER_2_3, OVER_4_TO_7]),
    (5, 8, &[LEAF_4, OVER_6_7, ROOTS[3]]),
    (2, 3, &[ROOTS[1]]),
    (1, 5, &[LEAF_0, OVER_2_3, LEAF_4]),
];

/// And the proofs between sizes.
const CONSISTENT: [(u64, u64, &[&str]); 4] = [
    (1, 1, &[]),
    (1, 8, &[LEAF_1, OVER_2_3, OVER_4_TO_7]),
    (6, 8, &[OVER_4_5, OVER_6_7, ROOTS[3]]),
    (2, 5, &[OVER_2_3, LEAF_4]),
];

#[test]
fn the_reference_vectors_have_their_paths() {
    let all = reference();
    let path = |path: &[&str]| path.iter().map(|text| hash(text)).collect::<Vec<_>>();
    let root = |size: u64| hash(ROOTS[usize::try_from(size).unwrap() - 1]);
    for (index, size, want) in INCLUDED {
        let proof = Inclusion::new(&Leaves(&all), index, size).unwrap().unwrap();
        assert_eq!(proof.path, path(want), "leaf {index} of {size}");
        let leaf = &all[usize::try_from(index).unwrap()];
        assert_eq!(proof.root(leaf), Some(root(size)));
    }
    for (from, to, want) in CONSISTENT {
        let proof = Consistency::new(&Leaves(&all), from, to).unwrap().unwrap();
        assert_eq!(proof.path, path(want), "{from} to {to}");
        assert!(proof.holds(&root(from), &root(to)));
    }
}

/// A tree that hashed its last leaf twice to make their number even would have one root for both.
#[test]
fn a_repeated_last_leaf_is_another_tree() {
    let [a, b, c] = ["a", "b", "c"].map(|text| leaf(text.as_bytes()));
    let roots = |leaves: &[Hash]| {
        let mut frontier = Frontier::default();
        for leaf in leaves {
            frontier.push(*leaf, |_, _, _| ());
        }
        let size = frontier.size();
        assert_eq!(root_of(&Leaves(leaves), size).unwrap(), frontier.root());
        frontier.root()
    };
    assert_ne!(roots(&[a, b, c]), roots(&[a, b, c, c]));
    // Neither does a proof in the one show the other.
    let proof = Inclusion::new(&Leaves(&[a, b, c]), 2, 3).unwrap().unwrap();
    let fourth = Inclusion {
        index: 3,
        size: 4,
        ..proof
    };
    assert_ne!(fourth.root(&c), Some(roots(&[a, b, c])));
}

#[test]
fn every_proof_up_to_eighty_leaves_holds_and_only_for_its_leaf_and_root() {
    let all = leaves(80);
    for size in 1..=80_u64 {
        let first = &all[..usize::try_from(size).unwrap()];
        let root = mth(first);
        assert_eq!(root_of(&Leaves(&all), size).unwrap(), root);
        for (index, leaf) in (0_u64..).zip(first) {
            let proof = Inclusion::new(&Leaves(&all), index, size).unwrap().unwrap();
            assert!(proof.path.len() <= usize::try_from(size.next_power_of_two().ilog2()).unwrap());
            assert_eq!(proof.root(leaf), Some(root));
            assert_ne!(proof.root(&hash(ROOTS[0])), Some(root));
            let elsewhere = Inclusion {
                index: (index + 1) % size,
                ..proof.clone()
            };
            assert!(size == 1 || elsewhere.root(leaf) != Some(root));
            let mut longer = proof;
            longer.path.push(root);
            assert_eq!(longer.root(leaf), None);
        }
        for from in 1..=size {
            let earlier = mth(&all[..usize::try_from(from).unwrap()]);
            let proof = Consistency::new(&Leaves(&all), from, size)
                .unwrap()
                .unwrap();
            assert!(proof.holds(&earlier, &root), "{from} of {size}");
            assert!(!proof.holds(&hash(ROOTS[0]), &root) || earlier == hash(ROOTS[0]));
            assert!(!proof.holds(&earlier, &hash(ROOTS[0])));
        }
        assert!(Consistency::new(&Leaves(&all), 0, size).unwrap().is_none());
        assert!(Inclusion::new(&Leaves(&all), size, size).unwrap().is_none());
    }
}

#[test]
fn what_is_full_is_told_once_and_is_what_the_leaves_say() {
    let all = leaves(70);
    let mut frontier = Frontier::default();
    let mut told = std::collections::BTreeMap::new();
    for leaf in &all {
        frontier.push(*leaf, |level, index, hash| {
            assert_eq!(told.insert((level, index), *hash), None);
        });
    }
    assert_eq!(frontier.size(), 70);
    assert_eq!(told.len(), 70 + 35 + 17 + 8 + 4 + 2 + 1);
    for ((level, index), hash) in told {
        assert_eq!(Leaves(&all).full(level, index).unwrap(), hash);
    }
}
