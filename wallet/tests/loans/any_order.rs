//! Both books agree in the end, whatever order they were written in and whatever was lost on the way.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tirami_manifest::commerce::VerifiedReceipt;
use tirami_manifest::loan::Repayment;
use tirami_manifest::signed::Signed;
use tirami_wallet::WalletError;
use tirami_wallet::ledger::refusal::Refusal;

use crate::books::{Books, HOUR, LENT, books, buy, lending};
use crate::world::{Trade, key, sound, trm};

/// Every order of `n` things.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(n - 1).into_iter();
    shorter
        .flat_map(|order| {
            (0..n).map(move |at| {
                let mut longer = order.clone();
                longer.insert(at, n - 1);
                longer
            })
        })
        .collect()
}

#[tokio::test]
async fn two_receipts_and_a_repayment_agree_in_every_order_of_both_books() {
    // Below what is owed together, just it, and above it, by each of the three.
    let amounts = [
        (100, 200, 300),
        (300, 300, 400),
        (700, 600, 500),
        (1_000, 1_000, 1_000),
        (50, 990, 1_000),
    ];
    for (first, second, by_hand) in amounts {
        // What happens: 0 and 1 the founder buys, 2 and 3 the member books that, 4 the member pays
        // by hand, 5 the founder hears of it. Those orders in which nothing is booked or heard
        // before it happened.
        let mut seen = BTreeSet::new();
        for order in orders(6) {
            let place = |event| order.iter().position(|e| *e == event).unwrap();
            if place(2) < place(0) || place(3) < place(1) || place(5) < place(4) {
                continue;
            }
            // The founder's own order matters, and the member's; how they interleave does not.
            let of = |events: [usize; 3]| -> Vec<usize> {
                let those = order.iter().filter(|event| events.contains(event));
                those.copied().collect()
            };
            if !seen.insert((of([0, 1, 5]), of([2, 3, 4]))) {
                continue;
            }
            let books = books().await;
            let mut receipts = [None, None];
            for event in &order {
                match event {
                    0 => receipts[0] = Some(books.founder_buys(1, first).await),
                    1 => receipts[1] = Some(books.founder_buys(2, second).await),
                    2 | 3 => {
                        let receipt = receipts[event - 2].clone().unwrap();
                        books.member.earn(receipt).await.unwrap();
                    }
                    4 => {
                        books.member.repay(Some(trm(by_hand))).await.unwrap();
                    }
                    _ => books.exchange_repayment().await,
                }
                sound(&books.founder);
                sound(&books.member);
                books.supply();
            }
            books.agree();
            let sum = u64::from(first + second) + by_hand;
            let repaid = trm(sum.min(LENT));
            // What is paid by hand is at most what the member then owes.
            if place(4) < place(2) && place(4) < place(3) {
                assert_eq!(books.owed().repaid(), repaid, "{order:?}");
            }
        }
    }
}

/// One thing that happens between the two.
#[derive(Clone, Debug)]
enum Event {
    /// The founder buys from the member.
    Sells(u32),
    /// The member buys from the founder.
    Buys(u32),
    /// The member pays back by hand.
    Repays(Option<u64>),
    /// One of the receipts signed so far arrives, maybe again.
    Receipt(prop::sample::Index),
    /// One of the statements made so far arrives, maybe again; its answer is lost or not.
    Statement(prop::sample::Index, bool),
    /// Time passes.
    Passes(u64),
    /// The member's sweep runs.
    Sweeps,
}

fn event() -> impl Strategy<Value = Event> {
    let index = || any::<prop::sample::Index>();
    prop_oneof![
        3 => (1..400_u32).prop_map(Event::Sells),
        2 => (1..300_u32).prop_map(Event::Buys),
        3 => prop::option::weighted(0.9, 1..500_u64).prop_map(Event::Repays),
        4 => index().prop_map(Event::Receipt),
        3 => (index(), any::<bool>()).prop_map(|(i, lost)| Event::Statement(i, lost)),
        1 => (1..40_u64).prop_map(|hours| Event::Passes(hours * HOUR)),
        1 => Just(Event::Sweeps),
    ]
}

/// What was signed so far and may arrive, in any order and any number of times.
#[derive(Default)]
struct Wire {
    sold: Vec<VerifiedReceipt>,
    bought: Vec<VerifiedReceipt>,
    statements: Vec<Signed<Repayment>>,
}

/// What may be said no to: somebody does not have it.
fn may_lack<T>(outcome: Result<T, WalletError>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(WalletError::Refused(Refusal::NotEnough { .. } | Refusal::OverBudget { .. })) => None,
        Err(error) => panic!("{error}"),
    }
}

impl Wire {
    async fn meets(&mut self, books: &Books, nonce: u8, event: &Event) {
        let (founder, member) = (&books.founder, &books.member);
        match event {
            Event::Sells(amount) => {
                let trade = Trade::new(lending().id(), &key(3), &key(1), (*amount, nonce));
                let sold = buy(founder, &trade, nonce, *amount).await;
                self.sold.extend(may_lack(sold));
            }
            Event::Buys(amount) => {
                self.bought
                    .extend(may_lack(books.member_buys(nonce, *amount).await));
            }
            Event::Repays(amount) => {
                may_lack(member.repay(amount.map(trm)).await);
            }
            Event::Receipt(which) => {
                let all = self.sold.len() + self.bought.len();
                if all > 0 {
                    let at = which.index(all);
                    if let Some(receipt) = self.sold.get(at) {
                        member.earn(receipt.clone()).await.unwrap();
                    } else {
                        let receipt = &self.bought[at - self.sold.len()];
                        founder.earn(receipt.clone()).await.unwrap();
                    }
                }
            }
            Event::Statement(which, lost) if !self.statements.is_empty() => {
                let statement = &self.statements[which.index(self.statements.len())];
                let id = may_lack(founder.accept_repayment(statement.clone()).await);
                if let (Some(id), false) = (id, lost) {
                    member.repayment_acknowledged(id).await.unwrap();
                }
            }
            Event::Statement(..) => {}
            Event::Passes(ms) => books.clock.advance_ms(*ms),
            Event::Sweeps => {
                member.repay_due().await.unwrap();
            }
        }
        self.statements.extend(member.repayment().unwrap());
    }

    /// Everything arrives in the end.
    async fn deliver(&self, books: &Books) {
        for receipt in &self.sold {
            books.member.earn(receipt.clone()).await.unwrap();
            books.founder.acknowledged(receipt.id()).await.unwrap();
        }
        books.exchange_receipts(&self.bought).await;
        books.exchange_repayment().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_is_lost_late_or_doubled_both_books_agree_in_the_end(
        events in prop::collection::vec(event(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let books = books().await;
            let mut wire = Wire::default();
            for (nonce, event) in (30_u8..).zip(&events) {
                wire.meets(&books, nonce, event).await;
                sound(&books.founder);
                sound(&books.member);
                books.supply();
            }
            wire.deliver(&books).await;
            books.agree();
            // And nothing that comes once more changes anything.
            let before = (books.founder.accounts().unwrap(), books.member.accounts().unwrap());
            for statement in &wire.statements {
                books.founder.accept_repayment(statement.clone()).await.unwrap();
            }
            wire.deliver(&books).await;
            let after = (books.founder.accounts().unwrap(), books.member.accounts().unwrap());
            assert_eq!(before, after);
        });
    }
}
