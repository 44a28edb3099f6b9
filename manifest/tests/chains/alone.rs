//! Entries that are shown without their chain, signed by whoever's chain it would be, and what still shows.

use std::collections::BTreeMap;

use tirami_manifest::chain::{Entry, Step};
use tirami_manifest::commerce::Consent;
use tirami_manifest::key::Signature;
use tirami_manifest::merkle::{Inclusion, Leaves, leaf};
use tirami_manifest::proof_file::{BalanceFile, InclusionFile};
use tirami_manifest::signed::Signed;

use crate::files::member;
use crate::world::{Pen, grant, private, trade, trm};

/// Every forgery with what is said of it.
pub(crate) fn proofs() -> BTreeMap<&'static str, (String, &'static str)> {
    BTreeMap::from([
        (
            "balance-from-nothing.json",
            (
                balance(0, |entry| entry.spendable = trm(21_000)),
                "spendable",
            ),
        ),
        (
            "balance-held.json",
            (balance(1, |entry| entry.held = trm(5)), "held"),
        ),
        (
            "balance-before-the-first.json",
            (balance(1, |entry| entry.seq = 0), "is the next"),
        ),
        (
            "inclusion-of-an-unsigned-trade.json",
            (unsigned_trade(), "not signed by both"),
        ),
    ])
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

/// What a node has by one of its entries, changed in some way and signed again.
fn balance(at: usize, change: fn(&mut Entry)) -> String {
    let pen = member();
    let mut entry = pen.entries[at].body.clone();
    change(&mut entry);
    let signed = Signed::new(entry, &pen.key);
    pretty(&BalanceFile::new(&pen.genesis, &signed, None))
}

/// A trade that only the chain's author knows of, proved to stand on its chain.
fn unsigned_trade() -> String {
    let genesis = private();
    let mut pen = Pen::new(&genesis, 2);
    let Step::Trade(mut sold) = trade(&genesis, (2, 1), 1_000, 2) else {
        unreachable!("it is a trade");
    };
    let none = Signature::from_bytes([0; 64]);
    (sold.provider_signature, sold.consent) = (none, Consent::Signature(none));
    pen.write(Step::Borrow(grant(&genesis, (1, 2), 0xaa)))
        .write(Step::Trade(sold))
        .write(trade(&genesis, (1, 2), 300, 1));
    let ids = pen.entries.iter().map(|entry| entry.body.id());
    let leaves: Vec<_> = ids.map(|id| leaf(id.as_bytes())).collect();
    let size = leaves.len() as u64 - 1;
    let proof = Inclusion::new(&Leaves(&leaves), 2, size).unwrap().unwrap();
    let (entry, head) = (&pen.entries[2], pen.last());
    pretty(&InclusionFile::new(
        &genesis,
        (entry, head),
        None,
        proof.path,
    ))
}
