use super::*;

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

#[test]
fn the_reference_vectors_have_their_roots() {
    let all: Vec<Hash> = LEAVES
        .iter()
        .map(|text| leaf(&crate::id::hex_bytes(text).unwrap()))
        .collect();
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
    // The path of the first of eight leaves, and the proof from six to eight, of the same vectors.
    let path = Inclusion::new(&Leaves(&all), 0, 8).unwrap().unwrap().path;
    let want = [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ];
    assert_eq!(path, want.map(hash));
    let proof = Consistency::new(&Leaves(&all), 6, 8).unwrap().unwrap();
    let want = [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(proof.path, want.map(hash));
}

#[test]
fn a_repeated_last_leaf_is_another_tree() {
    let [a, b, c] = ["a", "b", "c"].map(|text| leaf(text.as_bytes()));
    assert_ne!(mth(&[a, b, c]), mth(&[a, b, c, c]));
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
