//! The network's only witness, and members that lie to it.

use proptest::prelude::*;
use tirami_manifest::chain::{Chain, Entry, FraudKind, FraudProof, Step};
use tirami_manifest::commerce::VerifiedReceipt;
use tirami_manifest::key::SecretKey;
use tirami_manifest::signed::Signed;
use tirami_manifest::{Timestamp, TransferId};
use tirami_wallet::{Wallet, WalletError};

use crate::world::{START, Trade, fund, genesis, job, key, sound, trm};
use crate::{available, bought, founder, join, party, party_at};

/// A member's chain as it stands.
pub(super) fn shown(member: &Wallet) -> Vec<Signed<Entry>> {
    member.chain_after(0, usize::MAX).unwrap()
}

/// The entry changed and signed anew by its author.
fn forged(entry: &Signed<Entry>, by: &SecretKey, change: impl Fn(&mut Entry)) -> Signed<Entry> {
    let mut body = entry.body.clone();
    change(&mut body);
    Signed::new(body, by)
}

pub(super) async fn certified(witness: &Wallet, member: &Wallet) -> u64 {
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
    let served = witness.reserve(&sale.quote, job(&sale.quote), None).await;
    assert!(matches!(served, Err(WalletError::Fraud { .. })));
    let (bystander, _) = party(4);
    join(&witness, &bystander, [4; 16]).await;
    bystander.keep_fraud(proof.clone()).await.unwrap();
    let sale = Trade::new(genesis().id(), &key(4), &key(3), (5, 9));
    assert!(
        bystander
            .reserve(&sale.quote, job(&sale.quote), None)
            .await
            .is_err()
    );
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
            matches!(
                refused,
                Err(WalletError::ChainRejected { .. } | WalletError::Succession(_))
            ),
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
    seller
        .reserve(&trade.quote, job(&trade.quote), None)
        .await
        .unwrap();
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
    seller
        .reserve(&quote(1), job(&quote(1)), None)
        .await
        .unwrap();
    seller
        .reserve(&quote(2), job(&quote(2)), None)
        .await
        .unwrap();
    for n in 3..20 {
        let refused = seller.reserve(&quote(n), job(&quote(n)), None).await;
        assert!(matches!(refused, Err(WalletError::StrangerBudget { .. })));
    }
    // A job that came to nothing gives its part back, and so does a day.
    seller
        .release_reservation(quote(1).id(), false)
        .await
        .unwrap();
    seller
        .reserve(&quote(20), job(&quote(20)), None)
        .await
        .unwrap();
    assert!(
        seller
            .reserve(&quote(21), job(&quote(21)), None)
            .await
            .is_err()
    );
    clock.advance_ms(24 * 3_600_000);
    seller
        .reserve(&quote(22), job(&quote(22)), None)
        .await
        .unwrap();
    sound(&seller);
}

#[tokio::test]
async fn checkpoints_say_what_is_open_whatever_comes_next() {
    let (witness, clock) = founder(10).await;
    let (member, _) = party(3);
    join(&witness, &member, [3; 16]).await;
    let sell = async |from: u32, to: u32| {
        for n in from..to {
            let hold = TransferId::from_bytes(u128::from(n).to_le_bytes());
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

/// A checkpoint says nothing new and costs nothing, and the witness keeps every entry for ever.
#[tokio::test]
async fn a_member_that_writes_checkpoints_without_end_is_not_certified() {
    let (witness, _) = founder(10).await;
    let (member, _) = party(3);
    join(&witness, &member, [3; 16]).await;
    let mut entries = member.chain_after(0, 100).unwrap();
    let mut chain = Chain::new(genesis(), member.node());
    for entry in &entries {
        chain.append(entry).unwrap();
    }
    for _ in 0..2 {
        let checkpoint = Entry {
            network: genesis().id(),
            author: member.node(),
            seq: chain.seq() + 1,
            prev: *chain.head().as_bytes(),
            hlc: chain.hlc() + 1,
            spendable: chain.state().spendable,
            held: chain.state().held,
            staked: chain.state().staked,
            log_root: chain.log().root(),
            waits: false,
            step: Step::Checkpoint {
                state: chain.state().digest(),
            },
        };
        let checkpoint = Signed::new(checkpoint, &key(3));
        chain.append(&checkpoint).unwrap();
        entries.push(checkpoint);
    }
    let refused = witness.certify(member.node(), entries.clone(), &[]).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("one in 1024 entries"), "{refused}");
    entries.pop();
    witness
        .certify(member.node(), entries, &[])
        .await
        .unwrap()
        .certificate
        .unwrap();
    sound(&witness);
}

/// Two members who buy from each other and from the witness, tell of it late or twice, and have
/// themselves certified now and then.
pub(super) struct Market {
    pub(super) witness: Wallet,
    pub(super) members: Vec<Wallet>,
    /// What the witness sold and heard of.
    pub(super) sold: Vec<VerifiedReceipt>,
    /// Receipts with buyer and seller that the seller has not heard of.
    told_late: Vec<(VerifiedReceipt, usize)>,
    trades: u32,
}

/// What somebody does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    /// Buys at another one, or at the witness.
    Buy(usize, usize, u32),
    /// Hears of a purchase, the oldest first, twice.
    Hear,
    /// Shows its chain.
    Certify(usize),
}

impl Market {
    /// Everybody's clock says `now`.
    pub(super) async fn open(now: Timestamp) -> Self {
        let (witness, _) = party_at(1, now);
        fund(&witness, 50_000, || ()).await.unwrap();
        let mut members = Vec::new();
        for n in [3, 4] {
            let (member, _) = party_at(n, now);
            join(&witness, &member, [n; 16]).await;
            members.push(member);
        }
        Self {
            witness,
            members,
            sold: Vec::new(),
            told_late: Vec::new(),
            trades: 0,
        }
    }

    /// The wallet with this number; the last is the witness's.
    fn at(&self, n: usize) -> (&Wallet, SecretKey) {
        match self.members.get(n) {
            Some(member) => (member, key(u8::try_from(n).unwrap() + 3)),
            None => (&self.witness, key(1)),
        }
    }

    pub(super) async fn does(&mut self, what: Move) {
        match what {
            Move::Buy(buyer, seller, amount) => {
                if buyer == seller {
                    return;
                }
                self.trades += 1;
                let ((_, seller_key), (wallet, buyer_key)) = (self.at(seller), self.at(buyer));
                let nonce = u8::try_from(self.trades).unwrap();
                let trade = Trade::new(genesis().id(), &seller_key, &buyer_key, (amount, nonce));
                let reserved = self
                    .at(seller)
                    .0
                    .reserve(&trade.quote, job(&trade.quote), None)
                    .await;
                if reserved.is_err() {
                    // Beyond the stranger budget.
                    return;
                }
                let name = format!("trade {}", self.trades);
                let receipt = crate::bought_as(wallet, &trade, amount, &name).await;
                self.told_late.push((receipt, seller));
            }
            Move::Hear => {
                if self.told_late.is_empty() {
                    return;
                }
                let (receipt, seller) = self.told_late.remove(0);
                for _ in 0..2 {
                    self.at(seller).0.earn(receipt.clone()).await.unwrap();
                }
                if seller >= self.members.len() {
                    self.sold.push(receipt);
                }
            }
            Move::Certify(n) => {
                let (member, _) = self.at(n);
                if member.node() == self.witness.node() {
                    return;
                }
                let waiting: Vec<_> = member.waiting().unwrap();
                let waiting: Vec<_> = waiting.into_iter().map(|(receipt, _)| receipt).collect();
                let after = member.certified_seq().unwrap();
                let new = member.chain_after(after, usize::MAX).unwrap();
                match self.witness.certify(member.node(), new, &waiting).await {
                    Ok(attested) => {
                        let certificate = attested.certificate.unwrap();
                        member.keep_certificate(certificate).await.unwrap();
                        for (receipt, debit) in attested.credits {
                            for _ in 0..2 {
                                member.certified(receipt, debit).await.unwrap();
                            }
                        }
                    }
                    // The witness has not heard of a sale to it.
                    Err(WalletError::NotYet(_) | WalletError::Refused(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        // At every step the books of each agree with its chain, and nothing is made or lost.
        for wallet in self.members.iter().chain([&self.witness]) {
            sound(wallet);
        }
    }

    /// Everybody hears of everything and is certified to the end.
    pub(super) async fn settles(&mut self) {
        while !self.told_late.is_empty() {
            self.does(Move::Hear).await;
        }
        for _ in 0..3 {
            for n in 0..2 {
                self.does(Move::Certify(n)).await;
            }
        }
    }
}

pub(super) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0..3_usize, 0..3_usize, 1..120_u32).prop_map(|(a, b, n)| Move::Buy(a, b, n)),
        3 => Just(Move::Hear),
        3 => (0..2_usize).prop_map(Move::Certify),
    ];
    prop::collection::vec(one, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn whatever_members_do_in_whatever_order_all_comes_out_even(all in moves()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut market = Market::open(START).await;
            for one in all {
                market.does(one).await;
            }
            market.settles().await;
            // Everybody is certified to the end, and together they have what was issued.
            let mut sum = market.witness.chain_position().unwrap().spendable.utrm();
            for member in &market.members {
                let position = member.chain_position().unwrap();
                prop_assert_eq!(member.certified_seq().unwrap(), position.seq);
                prop_assert!(member.waiting().unwrap().is_empty());
                sum += position.spendable.utrm();
            }
            let position = market.witness.chain_position().unwrap();
            let issued = position.made.saturating_sub(position.retired).utrm();
            // Party 2 was lent what the founder then earned of it, and never joined with a wallet.
            prop_assert_eq!(sum + trm(100_000 - 50_000).utrm(), issued);
            Ok(())
        })?;
    }
}
