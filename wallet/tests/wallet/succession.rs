//! A member changes its key, and the witness follows.

use std::path::Path;
use std::sync::Arc;

use tirami_manifest::chain::{Entry, Predecessor, Step};
use tirami_manifest::commerce::VerifiedReceipt;
use tirami_manifest::key::SecretKey;
use tirami_manifest::merkle::{self, Frontier};
use tirami_manifest::signed::Signed;
use tirami_manifest::time::ManualClock;
use tirami_wallet::intent::Intent;
use tirami_wallet::ledger::account::Account;
use tirami_wallet::store::{Storage, StoreError};
use tirami_wallet::succession::Successor;
use tirami_wallet::travelling::handing_out::HandOut;
use tirami_wallet::{Wallet, WalletError};

use crate::world::{self, START, Trade, genesis, job, key, sound, trm};
use crate::{
    DAY, attempt, available, body_of, bought, bought_as, founder, hold, intent, join, party, totals,
};

/// A member's wallet in a file, opened with one of its keys.
fn opened(folder: &Path, clock: &Arc<ManualClock>, key: SecretKey) -> Result<Wallet, WalletError> {
    let file = Storage::File(folder.join("wallet.redb"));
    world::open(file, clock, key)
}

/// Shows the witness what it has not certified, and keeps what it answers.
async fn certified(witness: &Wallet, member: &Wallet) -> u64 {
    let shown = member.uncertified(250).unwrap();
    let waiting = member.waiting().unwrap();
    let waiting: Vec<_> = waiting.into_iter().map(|(receipt, _)| receipt).collect();
    let attested = witness.certify(member.node(), shown, &waiting).await;
    let attested = attested.unwrap();
    let certificate = attested.certificate.unwrap();
    member.keep_certificate(certificate.clone()).await.unwrap();
    for (receipt, debit) in attested.credits {
        member.certified(receipt, debit).await.unwrap();
    }
    certificate.head.seq
}

/// The member buys from the witness, which books it.
async fn buys(witness: &Wallet, member: (&Wallet, u8), nonce: u8) -> VerifiedReceipt {
    let (wallet, n) = member;
    let trade = Trade::new(genesis().id(), &key(1), &key(n), (50, nonce));
    let receipt = bought_as(wallet, &trade, 40, &format!("purchase {nonce}")).await;
    witness.earn(receipt.clone()).await.unwrap();
    wallet.acknowledged(receipt.id()).await.unwrap();
    receipt
}

#[tokio::test]
async fn a_member_changes_its_key_and_goes_on_with_all_that_it_had() {
    let (witness, _) = founder(10).await;
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let member = opened(folder.path(), &clock, key(3)).unwrap();
    assert_eq!(member.successor().unwrap(), Successor::Open);
    assert!(member.name_successor(key(5).id()).await.unwrap());
    // The first one named is the one.
    assert!(!member.name_successor(key(6).id()).await.unwrap());
    join(&witness, &member, [3; 16]).await;
    assert_eq!(member.successor().unwrap(), Successor::Named);
    let receipt = buys(&witness, (&member, 3), 1).await;
    certified(&witness, &member).await;
    // One more that the witness has not seen when the key changes.
    buys(&witness, (&member, 3), 2).await;
    let before = member.balance(&tirami_wallet::token::main_agent()).unwrap();

    // Whoever has the key alone cannot pass it on.
    let thief = member.succeed(key(6), key(7).id()).await;
    assert!(
        matches!(thief, Err(WalletError::Succession(_))),
        "{thief:?}"
    );
    member.succeed(key(5), key(7).id()).await.unwrap();
    member.close().await;
    let old = opened(folder.path(), &clock, key(3));
    assert!(
        matches!(old, Err(WalletError::Store(StoreError::OtherNode(_)))),
        "{old:?}"
    );
    let member = opened(folder.path(), &clock, key(5)).unwrap();
    sound(&member);
    assert_eq!(
        member.balance(&tirami_wallet::token::main_agent()).unwrap(),
        before
    );
    // An answer that was paid for is answered from what is stored, as before.
    let again = member
        .begin(intent("purchase 1"), body_of("purchase 1"))
        .await;
    assert!(matches!(again.unwrap(), Intent::Answered(_)));

    assert_eq!(certified(&witness, &member).await, 1);
    assert_eq!(totals(&witness, Account::Clearing(key(3).id())), 0);
    let [head] = witness.certified_heads().unwrap()[..] else {
        panic!("one member, by its present key");
    };
    assert_eq!((head.node, head.spendable), (key(5).id(), trm(99_920)));
    // It buys, repays and is repaid out of sales as the same member.
    buys(&witness, (&member, 5), 3).await;
    let paid = member.repay(Some(trm(100))).await.unwrap();
    assert_eq!(paid.loan.owed, trm(99_900));
    let statement = member.repayment().unwrap().unwrap();
    let id = witness.accept_repayment(statement).await.unwrap();
    member.repayment_acknowledged(id).await.unwrap();
    let sale = Trade::new(genesis().id(), &key(5), &key(1), (5, 4));
    let sold = bought(&witness, &sale, 5).await;
    member.earn(sold).await.unwrap();
    let loans = witness.loans().unwrap();
    let lent = loans.iter().find(|loan| loan.borrower == key(3).id());
    assert_eq!(lent.unwrap().owed, trm(99_895));
    certified(&witness, &member).await;
    for wallet in [&witness, &member] {
        sound(wallet);
    }
    // What was bought under the old key is still proved.
    let proof = member.prove_trade(&receipt.id()).unwrap().unwrap();
    assert_eq!(proof.head.body.author, key(3).id());
    assert!(matches!(proof.head.body.step, Step::Succession { .. }));

    // And once more, with a wallet that has had two keys before.
    member.succeed(key(7), key(8).id()).await.unwrap();
    member.close().await;
    let member = opened(folder.path(), &clock, key(7)).unwrap();
    sound(&member);
    assert_eq!(certified(&witness, &member).await, 1);
    assert_eq!(member.chains_before().unwrap().len(), 2);
    buys(&witness, (&member, 7), 5).await;
    certified(&witness, &member).await;
    sound(&witness);
}

#[tokio::test]
async fn the_old_key_is_worth_nothing_once_another_succeeded_it() {
    let (witness, _) = founder(10).await;
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let member = opened(folder.path(), &clock, key(3)).unwrap();
    member.name_successor(key(5).id()).await.unwrap();
    join(&witness, &member, [3; 16]).await;
    certified(&witness, &member).await;
    // A copy of the wallet with the old key, as a thief has it.
    let copy = tempfile::tempdir().unwrap();
    member.backup(&copy.path().join("wallet.redb")).unwrap();
    member.succeed(key(5), key(7).id()).await.unwrap();
    member.close().await;
    let member = opened(folder.path(), &clock, key(5)).unwrap();
    // The witness books it, and its answer is lost.
    let shown = member.uncertified(250).unwrap();
    witness.certify(member.node(), shown, &[]).await.unwrap();
    let thief = opened(copy.path(), &clock, key(3)).unwrap();
    let asked = witness.certify(key(3).id(), Vec::new(), &[]).await;
    assert!(
        matches!(asked, Err(WalletError::Succession(_))),
        "{asked:?}"
    );
    let sale = Trade::new(genesis().id(), &key(1), &key(3), (50, 1));
    assert!(
        witness
            .reserve(&sale.quote, job(&sale.quote), None)
            .await
            .is_err()
    );
    // What it goes on to write is another history than was certified: a proof against the old key, and
    // nothing to the member.
    let receipt = bought(&thief, &sale, 40).await;
    assert!(witness.earn(receipt).await.is_err());
    let shown = thief.chain_after(0, usize::MAX).unwrap();
    let refused = witness.certify(key(3).id(), shown, &[]).await;
    assert!(
        matches!(refused, Err(WalletError::Fraud { kind: "fork", .. })),
        "{refused:?}"
    );
    assert_eq!(available(&member), trm(100_000));
    buys(&witness, (&member, 5), 9).await;
    certified(&witness, &member).await;
    sound(&witness);
}

#[tokio::test]
async fn a_key_changes_only_while_nothing_is_open_and_where_the_network_allows() {
    // The genesis document names the founder's.
    let (witness, _) = founder(10).await;
    let refused = witness.succeed(key(5), key(7).id()).await;
    assert!(refused.unwrap_err().to_string().contains("genesis"));
    // A chain that began without naming one.
    let (member, _) = party(3);
    join(&witness, &member, [3; 16]).await;
    assert_eq!(member.successor().unwrap(), Successor::Never);
    assert!(!member.name_successor(key(5).id()).await.unwrap());
    let refused = member.succeed(key(5), key(7).id()).await;
    assert!(refused.unwrap_err().to_string().contains("named no key"));
    // Money that is set aside names the present key.
    let (member, _) = party(4);
    member.name_successor(key(5).id()).await.unwrap();
    let refused = member.succeed(key(5), key(7).id()).await;
    assert!(refused.is_err(), "nothing stands on the chain yet");
    join(&witness, &member, [4; 16]).await;
    let held = hold(&member, "one", 5).await.unwrap();
    let refused = member.succeed(key(5), key(7).id()).await;
    assert!(refused.unwrap_err().to_string().contains("set aside"));
    drop(held);
    assert_eq!(member.node(), key(4).id());
    sound(&member);
    // A receipt that has not reached its provider names the present key.
    let (witness, _) = founder(10).await;
    let (member, _) = party(6);
    member.name_successor(key(5).id()).await.unwrap();
    join(&witness, &member, [6; 16]).await;
    let trade = Trade::new(genesis().id(), &key(1), &key(6), (50, 1));
    let receipt = bought(&member, &trade, 40).await;
    let refused = member.succeed(key(5), key(7).id()).await;
    assert!(refused.unwrap_err().to_string().contains("has not reached"));
    witness.earn(receipt.clone()).await.unwrap();
    member.acknowledged(receipt.id()).await.unwrap();
    // And so would that of a job which runs for a stranger.
    let sale = Trade::new(genesis().id(), &key(6), &key(8), (5, 2));
    member
        .reserve(&sale.quote, job(&sale.quote), None)
        .await
        .unwrap();
    let refused = member.succeed(key(5), key(7).id()).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("was not paid yet")
    );
    for same in [key(6), key(5)] {
        assert!(member.succeed(key(5), same.id()).await.is_err());
    }
    let quote = sale.quote.id();
    member.release_reservation(quote, false).await.unwrap();
    member.succeed(key(5), key(7).id()).await.unwrap();
}

#[tokio::test]
async fn a_key_succeeds_only_when_it_agrees_and_is_nobody_elses() {
    let (witness, _) = founder(10).await;
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let one = opened(folder.path(), &clock, key(3)).unwrap();
    one.name_successor(key(4).id()).await.unwrap();
    join(&witness, &one, [3; 16]).await;
    certified(&witness, &one).await;
    // Nor in the other's name.
    let forged = another_key(&one, &key(3), (&key(4), &key(3)));
    let refused = witness.certify(key(3).id(), forged, &[]).await;
    assert!(refused.is_err(), "{refused:?}");
    one.succeed(key(4), key(7).id()).await.unwrap();
    let end = one.chains_before().unwrap().pop().unwrap();
    let ended = one.ended_after(&end, 0, usize::MAX).unwrap();
    one.close().await;
    // Whoever signs its end alone makes nobody its successor.
    for author in [key(3), key(4)] {
        let refused = witness.certify(author.id(), ended.clone(), &[]).await;
        assert!(
            matches!(
                refused,
                Err(WalletError::NotYet(_) | WalletError::Succession(_))
            ),
            "{refused:?}"
        );
    }
    let heads = witness.certified_heads().unwrap();
    assert_eq!((heads.len(), heads[0].node), (1, key(3).id()));
    let (other, _) = party(4);
    join(&witness, &other, [4; 16]).await;
    // By now that key is a member of its own.
    let one = opened(folder.path(), &clock, key(4)).unwrap();
    let shown = one.uncertified(250).unwrap();
    assert!(shown.len() >= 2);
    let refused = witness.certify(key(4).id(), shown, &[]).await;
    assert!(
        matches!(refused, Err(WalletError::Succession(_))),
        "{refused:?}"
    );
    assert_eq!(totals(&witness, Account::Clearing(key(3).id())), 100_000);
    sound(&witness);
}

#[tokio::test]
async fn what_is_pinned_to_a_key_that_was_changed_comes_back_to_its_payer() {
    let (payer, _) = founder(1_000).await;
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let provider = opened(folder.path(), &clock, key(3)).unwrap();
    provider.name_successor(key(5).id()).await.unwrap();
    join(&payer, &provider, [3; 16]).await;
    certified(&payer, &provider).await;
    let before = available(&payer);
    let asked = HandOut {
        from: None,
        holder: key(4).id(),
        amount: trm(100),
        pinned: Some(key(3).id()),
        per_request: None,
        ceiling: None,
        models: Vec::new(),
        payees: Vec::new(),
        expires: START.after_ms(DAY),
        depth_left: 1,
    };
    let attempt = attempt(&payer, "out").await;
    let chain = payer.hand_out(attempt, asked, |_| Vec::new()).await;
    let grant = chain.unwrap().last().unwrap().id();
    assert_eq!(payer.reclaim_unpinned(grant).await.unwrap(), None);
    provider.succeed(key(5), key(7).id()).await.unwrap();
    provider.close().await;
    let provider = opened(folder.path(), &clock, key(5)).unwrap();
    certified(&payer, &provider).await;
    assert_eq!(payer.reclaim_unpinned(grant).await.unwrap(), Some(trm(100)));
    assert_eq!(available(&payer), before);
    assert_eq!(payer.reclaim_unpinned(grant).await.unwrap(), Some(trm(0)));
    sound(&payer);
}

#[tokio::test]
async fn a_node_has_so_many_keys_and_the_last_one_works() {
    let (witness, _) = founder(10).await;
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let mut member = opened(folder.path(), &clock, key(3)).unwrap();
    member.name_successor(key(4).id()).await.unwrap();
    join(&witness, &member, [3; 16]).await;
    let mut n = 3;
    loop {
        certified(&witness, &member).await;
        match member.succeed(key(n + 1), key(n + 2).id()).await {
            Ok(()) => n += 1,
            Err(refused) => {
                assert!(refused.to_string().contains("as many keys"), "{refused}");
                break;
            }
        }
        member.close().await;
        member = opened(folder.path(), &clock, key(n)).unwrap();
    }
    assert_eq!(member.chains_before().unwrap().len(), 199);
    buys(&witness, (&member, n), 1).await;
    certified(&witness, &member).await;
    // One that does not keep to it is stopped by the witness.
    let ends = another_key(&member, &key(n), (&key(n + 1), &key(n + 1)));
    let refused = witness.certify(key(n + 1).id(), ends, &[]).await;
    assert!(refused.unwrap_err().to_string().contains("as many keys"));
    sound(&witness);
    sound(&member);
}

/// What a member that does not count its keys shows: its chain ends with another one, which goes on.
/// `signer` signs the first entry of the new one.
fn another_key(
    member: &Wallet,
    old: &SecretKey,
    (new, signer): (&SecretKey, &SecretKey),
) -> Vec<Signed<Entry>> {
    let (network, head) = member.chain_head().unwrap();
    let before = head.unwrap().body;
    let mut log = Frontier::default();
    for entry in member.chain_after(0, usize::MAX).unwrap() {
        log.push(merkle::leaf(entry.body.id().as_bytes()), |_, _, _| ());
    }
    let end = Entry {
        seq: before.seq + 1,
        prev: *before.id().as_bytes(),
        hlc: before.hlc + 1,
        log_root: log.root(),
        waits: false,
        step: Step::Succession {
            successor: new.id(),
        },
        ..before.clone()
    };
    let first = Entry {
        author: new.id(),
        seq: 1,
        prev: *network.id().as_bytes(),
        hlc: end.hlc + 1,
        log_root: Frontier::default().root(),
        step: Step::Genesis {
            successor: [0; 32],
            predecessor: Some(Predecessor {
                author: old.id(),
                seq: end.seq,
                entry: end.id(),
            }),
        },
        ..end.clone()
    };
    vec![Signed::new(end, old), Signed::new(first, signer)]
}
