//! The network's only witness, and members that lie to it.

use tirami_manifest::TransferId;
use tirami_manifest::chain::{Chain, Entry, FraudKind, FraudProof};
use tirami_manifest::key::SecretKey;
use tirami_manifest::signed::Signed;
use tirami_wallet::{Wallet, WalletError};

use crate::world::{Trade, genesis, key, sound, trm};
use crate::{available, bought, founder, join, party};

/// A member's chain as it stands.
fn shown(member: &Wallet) -> Vec<Signed<Entry>> {
    member.chain_after(0, usize::MAX).unwrap()
}

/// The entry changed and signed anew by its author.
fn forged(entry: &Signed<Entry>, by: &SecretKey, change: impl Fn(&mut Entry)) -> Signed<Entry> {
    let mut body = entry.body.clone();
    change(&mut body);
    Signed::new(body, by)
}

async fn certified(witness: &Wallet, member: &Wallet) -> u64 {
    let waiting: Vec<_> = member.waiting().unwrap();
    let waiting: Vec<_> = waiting.into_iter().map(|(receipt, _)| receipt).collect();
    let attested = witness
        .certify(member.node(), shown(member), &waiting)
        .await
        .unwrap();
    let certificate = attested.certificate.unwrap();
    member.keep_certificate(certificate.clone()).await.unwrap();
    for (receipt, debit) in attested.credits {
        member.certified(receipt, debit).await.unwrap();
    }
    certificate.head.seq
}

#[tokio::test]
async fn a_purchase_that_is_hidden_keeps_a_chain_from_being_certified() {
    let (witness, _) = founder(10).await;
    let (member, _) = party(3);
    join(&witness, &member, [3; 16]).await;
    let before = shown(&member);
    let receipt = bought(
        &member,
        &Trade::new(genesis().id(), &key(1), &key(3), (50, 1)),
        40,
    )
    .await;
    witness.earn(receipt).await.unwrap();
    let refused = witness.certify(member.node(), before, &[]).await;
    assert!(
        matches!(refused, Err(WalletError::NotYet(_))),
        "{refused:?}"
    );
    assert!(witness.certified_heads().unwrap().is_empty());
    assert_eq!(certified(&witness, &member).await, 3);
    let [head] = witness.certified_heads().unwrap()[..] else {
        panic!("one member");
    };
    assert_eq!(head.spendable, trm(99_960));
    // Asking again, with or without entries, answers the same.
    for entries in [Vec::new(), shown(&member)] {
        let attested = witness.certify(member.node(), entries, &[]).await.unwrap();
        assert_eq!(attested.certificate.unwrap().head.seq, 3);
    }
}

#[tokio::test]
async fn a_node_with_two_histories_is_proved_a_fraud_and_certified_no_more() {
    let (witness, _) = founder(10).await;
    let (member, _) = party(3);
    join(&witness, &member, [3; 16]).await;
    certified(&witness, &member).await;
    let entries = shown(&member);
    let other = forged(&entries[1], &key(3), |entry| entry.hlc += 1);
    let refused = witness.certify(member.node(), vec![other], &[]).await;
    assert!(matches!(
        refused,
        Err(WalletError::Fraud { kind: "fork", .. })
    ));
    let [proof] = &witness.frauds().unwrap()[..] else {
        panic!("one proof");
    };
    assert_eq!((proof.kind, proof.accused), (FraudKind::Fork, key(3).id()));
    assert_eq!(proof.verify(), Ok(()));
    // Neither certified nor served from now on, by whoever has the proof.
    let after = witness.certify(member.node(), entries, &[]).await;
    assert!(matches!(after, Err(WalletError::Fraud { .. })));
    let sale = Trade::new(genesis().id(), &key(1), &key(3), (5, 9));
    let served = witness.reserve(&sale.quote, None).await;
    assert!(matches!(served, Err(WalletError::Fraud { .. })));
    let (bystander, _) = party(4);
    join(&witness, &bystander, [4; 16]).await;
    bystander.keep_fraud(proof.clone()).await.unwrap();
    let sale = Trade::new(genesis().id(), &key(4), &key(3), (5, 9));
    assert!(bystander.reserve(&sale.quote, None).await.is_err());
    // What proves nothing is not kept.
    let nothing = FraudProof {
        accused: key(1).id(),
        ..proof.clone()
    };
    assert!(bystander.keep_fraud(nothing).await.is_err());
    sound(&witness);
}

#[tokio::test]
async fn an_entry_that_does_not_add_up_proves_the_lie() {
    let (witness, _) = founder(10).await;
    let (member, _) = party(3);
    join(&witness, &member, [3; 16]).await;
    let entries = shown(&member);
    let lie = forged(&entries[1], &key(3), |entry| entry.spendable = trm(200_000));
    let refused = witness
        .certify(member.node(), vec![entries[0].clone(), lie], &[])
        .await;
    assert!(
        matches!(
            refused,
            Err(WalletError::Fraud {
                kind: "arithmetic",
                ..
            })
        ),
        "{refused:?}"
    );
    // A gap, or somebody else's chain, proves nothing and is refused.
    let (honest, _) = party(4);
    join(&witness, &honest, [4; 16]).await;
    for wrong in [shown(&honest)[1..].to_vec(), shown(&member)] {
        let refused = witness.certify(honest.node(), wrong, &[]).await;
        assert!(
            matches!(refused, Err(WalletError::ChainRejected { .. })),
            "{refused:?}"
        );
    }
    certified(&witness, &honest).await;
    assert!(matches!(
        honest.certify(key(1).id(), Vec::new(), &[]).await,
        Err(WalletError::NotWitness)
    ));
    assert_eq!(witness.frauds().unwrap().len(), 1);
}

#[tokio::test]
async fn members_pay_each_other_once_and_nothing_is_made_or_lost() {
    let (witness, _) = founder(10).await;
    let (buyer, _) = party(3);
    let (seller, _) = party(4);
    join(&witness, &buyer, [3; 16]).await;
    join(&witness, &seller, [4; 16]).await;
    let trade = Trade::new(genesis().id(), &key(4), &key(3), (60, 1));
    seller.reserve(&trade.quote, None).await.unwrap();
    let receipt = bought(&buyer, &trade, 40).await;
    seller.earn(receipt.clone()).await.unwrap();
    seller.earn(receipt).await.unwrap();
    // It waits: no witness has the debit, so the seller cannot spend it, and is itself certified without.
    assert_eq!(available(&seller), trm(100_000));
    assert_eq!(seller.waiting().unwrap().len(), 1);
    assert_eq!(certified(&witness, &seller).await, 3);
    assert_eq!(available(&seller), trm(100_000));
    certified(&witness, &buyer).await;
    for _ in 0..2 {
        certified(&witness, &seller).await;
    }
    assert_eq!(available(&seller), trm(100_040));
    assert!(seller.waiting().unwrap().is_empty());
    assert_eq!(seller.stranger_room().unwrap(), trm(500));
    let sum: u64 = witness
        .certified_heads()
        .unwrap()
        .iter()
        .map(|head| head.spendable.utrm())
        .sum();
    assert_eq!(sum, trm(200_000).utrm());
    for wallet in [&witness, &buyer, &seller] {
        sound(wallet);
        let mut chain = Chain::new(genesis(), wallet.node());
        for entry in shown(wallet) {
            chain.append(&entry).unwrap();
        }
    }
}

#[tokio::test]
async fn strangers_together_cost_no_more_than_the_budget() {
    let (witness, _) = founder(10).await;
    let (seller, clock) = party(4);
    join(&witness, &seller, [4; 16]).await;
    let quote = |n: u8| Trade::new(genesis().id(), &key(4), &key(100 + n), (200, n)).quote;
    // Any number of identities share one budget of 500 TRM.
    seller.reserve(&quote(1), None).await.unwrap();
    seller.reserve(&quote(2), None).await.unwrap();
    for n in 3..20 {
        let refused = seller.reserve(&quote(n), None).await;
        assert!(matches!(refused, Err(WalletError::StrangerBudget { .. })));
    }
    // A job that came to nothing gives its part back, and so does a day.
    seller
        .release_reservation(quote(1).id(), false)
        .await
        .unwrap();
    seller.reserve(&quote(20), None).await.unwrap();
    assert!(seller.reserve(&quote(21), None).await.is_err());
    clock.advance_ms(24 * 3_600_000);
    seller.reserve(&quote(22), None).await.unwrap();
    sound(&seller);
}

#[tokio::test]
async fn checkpoints_say_what_is_open_whatever_comes_next() {
    let (witness, clock) = founder(10).await;
    let (member, _) = party(3);
    join(&witness, &member, [3; 16]).await;
    let hold = TransferId::from_bytes([9; 16]);
    let sell = async |from: u32, to: u32| {
        for n in from..to {
            let (max, nonce) = (5 + n / 200, u8::try_from(n % 200).unwrap());
            let trade = Trade::new(genesis().id(), &key(1), &key(3), (max, nonce));
            witness.earn(trade.receipt(hold, 1)).await.unwrap();
        }
    };
    // Genesis, two loans and a sale so far; the 1,025th entry is a loan, the next of its kind a repayment.
    sell(0, 1_020).await;
    assert_eq!(witness.chain_position().unwrap().seq, 1_024);
    clock.advance_ms(24 * 3_600_000);
    let (late, _) = party(5);
    join(&witness, &late, [5; 16]).await;
    assert_eq!(witness.chain_position().unwrap().seq, 1_026);
    sound(&witness);
}
