//! Every rule of a chain, broken one at a time by an author that signs whatever it likes.

use tirami_manifest::chain::{Chain, Entry, Rejected, Step, Vote, quorum, successor_hash, vote};
use tirami_manifest::merkle::Hash;
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::{Amount, EntryId, ReceiptId};

use crate::files::{issuer, member, part, read, seller};
use crate::world::{Pen, at, grant, id, key, of, private, receipt, shared, trade, trm};

/// What becomes of an entry that was changed and signed anew.
fn refused(pen: &Pen, step: Step, change: impl Fn(&mut Entry)) -> Rejected {
    let mut entry = pen.next(step);
    change(&mut entry);
    let mut chain = read(pen);
    let before = chain.clone();
    let error = chain.append(&Signed::new(entry, &pen.key)).unwrap_err();
    assert_eq!(chain.state(), before.state());
    assert_eq!((chain.seq(), chain.head()), (before.seq(), before.head()));
    error
}

#[test]
fn an_entry_stands_where_it_says() {
    let pen = member();
    let step = || trade(&private(), (2, 1), 10, 9);
    assert!(
        read(&pen)
            .append(&Signed::new(pen.next(step()), &pen.key))
            .is_ok()
    );
    for (change, want) in [
        (
            (|e| e.network = shared().id()) as fn(&mut Entry),
            Rejected::Network,
        ),
        (|e| e.author = id(3), Rejected::Author),
        (|e| e.seq = 6, Rejected::Seq { has: 6, wants: 7 }),
        (|e| e.seq = 8, Rejected::Seq { has: 8, wants: 7 }),
        (|e| e.prev = [0; 32], Rejected::Prev),
        (|e| e.hlc = at(5_000).ms() << 16, Rejected::Time),
        (|e| e.log_root = Hash([0; 32]), Rejected::LogRoot),
    ] {
        assert_eq!(refused(&pen, step(), change), want);
    }
    let spendable = pen.last().body.spendable;
    for (what, change) in [
        ("spendable", (|e| e.spendable = trm(1)) as fn(&mut Entry)),
        ("held", |e| e.held = trm(1)),
        ("staked", |e| e.staked = trm(1)),
    ] {
        let Rejected::Balance {
            what: said,
            follows,
            ..
        } = refused(&pen, step(), change)
        else {
            panic!("{what}");
        };
        assert_eq!(said, what);
        let gained = spendable.checked_add(trm(10)).unwrap();
        assert!(follows == gained || follows == Amount::ZERO);
    }
    let elsewhere = Signed::new(pen.next(step()), &key(3));
    assert_eq!(read(&pen).append(&elsewhere), Err(Rejected::Signature));
}

#[test]
fn a_chain_begins_once_and_ends_once() {
    let pen = member();
    let again = || Step::Genesis {
        successor: [0; 32],
        predecessor: None,
    };
    assert!(matches!(refused(&pen, again(), |_| ()), Rejected::Order(_)));
    let mut empty = pen.clone();
    empty.entries.clear();
    let first = Signed::new(
        Entry {
            seq: 1,
            ..pen.entries[1].body.clone()
        },
        &key(2),
    );
    assert!(Chain::new(private(), id(2)).append(&first).is_err());
    // A successor that was not named at first, and one that was.
    assert!(matches!(
        refused(&pen, Step::Succession { successor: id(9) }, |_| ()),
        Rejected::Order(_)
    ));
    let mut heir = Pen::begun(&private(), 2, successor_hash(&id(9)));
    let ends = heir.next(Step::Succession { successor: id(9) });
    // The lost key need not sign: the successor may.
    for signer in [key(2), key(9)] {
        let mut chain = read_first(&heir);
        chain.append(&Signed::new(ends.clone(), &signer)).unwrap();
        assert_eq!(chain.successor(), Some(id(9)));
    }
    assert_eq!(
        read_first(&heir).append(&Signed::new(ends.clone(), &key(3))),
        Err(Rejected::Signature)
    );
    heir.put(ends);
    assert!(matches!(
        refused_after(&heir, trade(&private(), (1, 2), 1, 1)),
        Rejected::Order(_)
    ));
}

fn read_first(pen: &Pen) -> Chain {
    let mut chain = Chain::new(pen.genesis.clone(), pen.key.id());
    chain.append(&pen.entries[0]).unwrap();
    chain
}

fn refused_after(pen: &Pen, step: Step) -> Rejected {
    let mut chain = read(pen);
    chain
        .append(&Signed::new(pen.next(step), &pen.key))
        .unwrap_err()
}

#[test]
fn a_trade_is_signed_by_both_and_priced_by_its_work() {
    let genesis = private();
    let pen = member();
    let good = receipt(&genesis, (2, 1), 10, 9);
    let changed = |change: fn(&mut tirami_manifest::commerce::Receipt)| {
        let mut receipt = good.clone();
        change(&mut receipt);
        // The provider signs whatever it likes; its consumer did not.
        receipt.provider_signature = receipt.agreement.sign(&key(2));
        refused(&pen, of(&receipt), |_| ())
    };
    let unsigned = Rejected::Trade("it is not signed by both");
    assert_eq!(changed(|r| r.agreement.seed = 8), unsigned);
    assert!(matches!(
        changed(|r| r.agreement.amount = trm(11)),
        Rejected::Trade(_)
    ));
    assert_eq!(
        changed(|r| r.agreement.network = shared().id()),
        Rejected::Network
    );
    // Of other parties, with itself, again, or with more than there is.
    assert!(matches!(
        refused(&pen, trade(&genesis, (1, 3), 10, 9), |_| ()),
        Rejected::Party(_)
    ));
    assert!(matches!(
        refused(&pen, trade(&genesis, (2, 2), 10, 9), |_| ()),
        Rejected::Party(_)
    ));
    assert_eq!(
        refused(&pen, trade(&genesis, (1, 2), 300, 1), |_| ()),
        Rejected::Twice("the job's agreement")
    );
    assert!(matches!(
        refused(&pen, trade(&genesis, (1, 2), 5_000, 9), |_| ()),
        Rejected::Overdrawn { .. }
    ));
    assert!(matches!(
        refused(&pen, trade(&genesis, (1, 2), 10, 9), |e| e.waits = true),
        Rejected::Order(_)
    ));
}

#[test]
fn what_is_not_certified_waits() {
    let genesis = shared();
    let pen = seller();
    // Neither side is the only witness, so what is sold cannot be spent at once.
    assert!(matches!(
        refused(&pen, trade(&genesis, (3, 2), 10, 9), |_| ()),
        Rejected::Order(_)
    ));
    let mut waiting = pen.clone();
    let sale = receipt(&genesis, (3, 2), 10, 9);
    waiting.write_waiting(of(&sale));
    let before = read(&waiting);
    assert_eq!(before.state().waiting.len(), 1);
    assert_eq!(before.state().spendable, trm(200));
    let receive = |payer, receipt, amount| Step::Receive {
        payer: id(payer),
        receipt,
        amount: trm(amount),
        debit: EntryId::from_bytes([1; 32]),
    };
    for wrong in [
        receive(1, sale.id(), 10),
        receive(2, sale.id(), 11),
        receive(2, ReceiptId::from_bytes([9; 32]), 10),
    ] {
        assert!(matches!(
            refused(&waiting, wrong, |_| ()),
            Rejected::Order(_)
        ));
    }
    waiting.write(receive(2, sale.id(), 10));
    assert_eq!(read(&waiting).state().spendable, trm(210));
    // Once.
    assert!(matches!(
        refused(&waiting, receive(2, sale.id(), 10), |_| ()),
        Rejected::Order(_)
    ));
}

#[test]
fn loans_are_made_by_issuers_and_paid_back_once() {
    let genesis = private();
    let pen = member();
    for (step, why) in [
        (
            Step::Borrow(grant(&genesis, (1, 3), 1)),
            "not for this node",
        ),
        (Step::Borrow(grant(&genesis, (3, 2), 1)), "no issuer"),
        (Step::Borrow(grant(&genesis, (2, 2), 1)), "to itself"),
        (Step::Mint(grant(&genesis, (1, 2), 1)), "another node"),
        (Step::Repay(part(3, 1, None)), "no such loan"),
        (Step::Repay(part(1, 900, None)), "not so much"),
        (Step::Repay(part(1, 0, None)), "not so much"),
    ] {
        let said = refused(&pen, step, |_| ()).to_string();
        assert!(said.contains(why), "{said}");
    }
    let again = Step::Borrow(grant(&genesis, (1, 2), 0xaa));
    assert_eq!(
        refused(&pen, again, |_| ()),
        Rejected::Twice("the invitation")
    );
    let mut larger = grant(&genesis, (1, 2), 1);
    larger.body.principal = trm(1_001);
    let larger = Box::new(Signed::new(larger.body, &key(1)));
    assert!(matches!(
        refused(&pen, Step::Borrow(larger), |_| ()),
        Rejected::Loan(_)
    ));
    let mut soon = grant(&genesis, (1, 2), 1);
    soon.body.due = soon.body.granted.after_ms(1);
    let soon = Box::new(Signed::new(soon.body, &key(1)));
    let said = refused(&pen, Step::Borrow(soon), |_| ()).to_string();
    assert!(said.contains("not due when the network says"), "{said}");
    assert!(matches!(
        refused(&issuer(), Step::Retire(part(2, 900, None)), |_| ()),
        Rejected::Loan(_)
    ));
}

#[test]
fn an_issuer_makes_no_more_in_a_day_than_it_may() {
    let genesis = private();
    let mut pen = Pen::new(&genesis, 1);
    // Twenty loans of 1,000 TRM are a day's most.
    for n in 0..20 {
        pen.write(Step::Mint(grant(&genesis, (1, 100 + n), n)));
    }
    let next = || Step::Mint(grant(&genesis, (1, 99), 99));
    assert!(matches!(
        refused(&pen, next(), |_| ()),
        Rejected::OverDay { .. }
    ));
    // The first was 24 hours ago.
    let mut entry = pen.next(next());
    entry.hlc = at(1_000 + 24 * 3_600_000).ms() << 16;
    pen.put(entry);
    assert_eq!(read(&pen).state().made, trm(21_000));
}

#[test]
fn a_checkpoint_says_what_came_before() {
    let pen = issuer();
    let state = read(&pen).state().digest();
    let wrong = Step::Checkpoint { state: [0; 32] };
    assert_eq!(refused(&pen, wrong, |_| ()), Rejected::Checkpoint);
    let mut pen = pen;
    pen.write(Step::Checkpoint { state });
    read(&pen);
}

#[test]
fn a_certificate_needs_more_than_two_thirds_of_the_witnesses() {
    assert_eq!(
        [1, 2, 3, 4, 5, 6, 7, 10].map(quorum),
        [1, 2, 3, 3, 4, 5, 5, 7]
    );
    let pen = seller();
    for (witnesses, holds) in [
        (vec![1, 5, 6], true),
        (vec![1, 5, 6, 7], true),
        (vec![1, 5], false),
        (vec![1, 5, 5], false),
        (vec![1, 5, 2], false),
        (vec![], false),
    ] {
        let certificate = pen.certificate(&witnesses);
        assert_eq!(
            certificate.verify(&shared()).is_ok(),
            holds,
            "{witnesses:?}"
        );
        assert!(certificate.verify(&private()).is_err());
    }
    let mut other = pen.certificate(&[1, 5, 6]);
    other.head.seq += 1;
    assert!(other.verify(&shared()).is_err());
    let mut disordered = pen.certificate(&[1, 5, 6]);
    disordered.votes.swap(0, 1);
    assert!(disordered.verify(&shared()).is_err());
}

/// Four witnesses of which one lies to everybody, and an author that shows two histories to different
/// ones in every order: never are both certified.
#[test]
fn two_histories_are_never_both_certified() {
    let entry = |n: u8| EntryId::from_bytes([n; 32]);
    let first = entry(1);
    let heads = [(2, entry(2)), (2, entry(3))];
    // For each of the three honest witnesses: which of the two it is shown first, or only, or none.
    let shows: [&[usize]; 5] = [&[], &[0], &[1], &[0, 1], &[1, 0]];
    for a in shows {
        for b in shows {
            for c in shows {
                let mut votes = [1, 1];
                for shown in [a, b, c] {
                    let mut signed = Some((1, first));
                    for which in shown {
                        let head = heads[*which];
                        match vote(signed, &[head.1], head) {
                            Vote::Sign => {
                                signed = Some(head);
                                votes[*which] += 1;
                            }
                            other => assert_eq!(other, Vote::Never),
                        }
                    }
                }
                let certified = votes.iter().filter(|votes| **votes >= quorum(4)).count();
                assert!(certified <= 1, "{a:?} {b:?} {c:?}");
            }
        }
    }
    assert_eq!(vote(Some((2, entry(2))), &[], (2, entry(2))), Vote::Again);
    assert_eq!(vote(Some((2, entry(2))), &[], (1, first)), Vote::Never);
    assert_eq!(
        vote(Some((2, entry(2))), &[entry(4)], (4, entry(4))),
        Vote::Gap
    );
    assert_eq!(vote(None, &[first, entry(2)], (2, entry(2))), Vote::Sign);
}
