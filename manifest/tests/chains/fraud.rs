//! Proofs of fraud, and what is none.

use tirami_manifest::TransferId;
use tirami_manifest::amount::Amount;
use tirami_manifest::chain::{FraudError, FraudKind, FraudProof, Step};
use tirami_manifest::commerce::Voucher;
use tirami_manifest::mandate_chain::{Actions, Allowed, Grant, MandateChain};
use tirami_manifest::range::Range;
use tirami_manifest::signed::{Document, Signed};

use crate::files::{member, part};
use crate::world::{Pen, at, id, key, of, private, receipt, trade, trm};

pub(crate) fn proofs() -> Vec<(&'static str, FraudProof)> {
    vec![
        ("fork.json", fork()),
        ("arithmetic.json", arithmetic()),
        ("voucher.json", voucher((1, 20, 3), (2, 19, 3))),
        ("double-agreement.json", double()),
    ]
}

/// The chain of node 2, and its author's entry in the place of the last.
fn fork() -> FraudProof {
    let pen = member();
    let mut before = pen.clone();
    let last = before.entries.pop().unwrap();
    let mut other = before.next(trade(&private(), (1, 2), 10, 9));
    other.log_root = last.body.log_root;
    FraudProof::between(&last, &Signed::new(other, &key(2))).unwrap()
}

fn arithmetic() -> FraudProof {
    let pen = member();
    let mut entry = pen.next(trade(&private(), (2, 1), 10, 9));
    entry.spendable = trm(9_999);
    FraudProof::between(pen.last(), &Signed::new(entry, &key(2))).unwrap()
}

fn double() -> FraudProof {
    let genesis = private();
    let mut pen = Pen::new(&genesis, 1);
    let sale = receipt(&genesis, (1, 2), 300, 1);
    pen.write(of(&sale))
        .write(Step::Retire(part(2, 1, None)))
        .write(of(&sale));
    FraudProof::between(&pen.entries[1], &pen.entries[3]).unwrap()
}

/// Two vouchers of node 2 for one hold, each with number, total and tokens.
fn voucher(first: (u32, u64, u32), second: (u32, u64, u32)) -> FraudProof {
    let sign = |(seq, total, tokens_out): (u32, u64, u32)| {
        let voucher = Voucher {
            network: private().id(),
            hold: TransferId::from_bytes([0x33; 16]),
            lane: 0,
            payee: id(1),
            seq,
            total: Amount::from_utrm(total).unwrap(),
            tokens_out,
            transcript: [0x88; 32],
        };
        Signed::new(voucher, &key(2)).to_bytes()
    };
    FraudProof {
        network: private().id(),
        kind: FraudKind::Voucher,
        accused: id(2),
        first: sign(first),
        second: sign(second),
    }
}

/// A mandate of two grants.
pub(crate) fn mandate() -> String {
    let genesis = private();
    let grant = Grant {
        network: genesis.id(),
        root: id(1),
        parent: Grant::NO_PARENT,
        serial: 1,
        range: Range::new(0, 5_000_000).unwrap(),
        holder: id(2),
        pinned: Some(id(3)),
        per_request: Amount::from_utrm(1_000_000).unwrap(),
        ceiling: None,
        actions: Actions::CHAT,
        models: Allowed::ANY,
        payees: Allowed::ANY,
        expires: at(60_000),
        epoch: 1,
        depth_left: 1,
    };
    let first = MandateChain::start(grant.clone(), &key(1));
    let next = Grant {
        parent: grant.id(),
        serial: 2,
        range: Range::new(0, 1_000_000).unwrap(),
        holder: id(4),
        depth_left: 0,
        ..grant
    };
    first.extend(next, &key(2)).to_string()
}

#[test]
fn each_kind_of_fraud_is_proved() {
    for (name, proof) in proofs() {
        assert_eq!(proof.verify(), Ok(()), "{name}");
        let bytes = proof.to_bytes();
        assert_eq!(FraudProof::from_bytes(&bytes).as_ref(), Ok(&proof));
        // Nobody else is accused by it, in no other network, of nothing else.
        for other in [
            FraudProof {
                accused: id(3),
                ..proof.clone()
            },
            FraudProof {
                network: crate::world::shared().id(),
                ..proof.clone()
            },
            FraudProof {
                first: proof.second.clone(),
                second: proof.first.clone(),
                ..proof.clone()
            },
            FraudProof {
                second: proof.first.clone(),
                ..proof.clone()
            },
        ] {
            assert!(other.verify().is_err(), "{name}: {other:?}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let holds = FraudProof::from_bytes(&changed).is_ok_and(|proof| proof.verify().is_ok());
            assert!(!holds, "{name}: byte {at} was changed");
        }
    }
}

#[test]
fn an_honest_chain_proves_nothing_of_anybody() {
    let pen = member();
    for a in &pen.entries {
        for b in &pen.entries {
            assert_eq!(FraudProof::between(a, b), None);
        }
    }
}

#[test]
fn vouchers_that_grow_prove_nothing_and_those_that_shrink_do() {
    for (first, second, want) in [
        ((1, 20, 3), (2, 20, 3), Err(FraudError::NoFault)),
        ((1, 20, 3), (2, 21, 4), Err(FraudError::NoFault)),
        ((1, 20, 3), (2, 19, 3), Ok(())),
        ((1, 20, 3), (2, 20, 2), Ok(())),
        ((2, 20, 3), (1, 20, 3), Err(FraudError::Unrelated)),
        ((1, 20, 3), (1, 20, 3), Err(FraudError::Unrelated)),
    ] {
        assert_eq!(
            voucher(first, second).verify(),
            want,
            "{first:?} {second:?}"
        );
    }
}
