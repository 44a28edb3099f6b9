//! The welcome loan from both sides: a founder that lends and a member that owes, each with books of
//! its own, and only messages between them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

use std::sync::Arc;

use tirami_manifest::Clock;
use tirami_manifest::genesis::{Genesis, LoanGrant};
use tirami_manifest::loan::{LOAN_GRACE_MS, Repayment};
use tirami_manifest::mandate::{Pot, Terms};
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::signed::Signed;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{Amount, InvitationId, NetworkId, TransferId};
use tirami_wallet::WalletError;
use tirami_wallet::economy::loan::LoanState;
use tirami_wallet::ledger::account::Account;
use tirami_wallet::ledger::apply::Applied;
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::ledger::transfer::TransferCode;
use tirami_wallet::sales::Standing;
use tirami_wallet::store::Storage;
use tirami_wallet::token::{agent_id, main_agent};

#[expect(dead_code, reason = "each suite uses its own part of the world")]
mod world;

#[path = "loans/any_order.rs"]
mod any_order;
#[path = "loans/books.rs"]
mod books;

use books::{LENT, TERM, books, books_in, has, lending, loan, memory, totals};
use world::{START, TIMEOUT_MS, Trade, job, key, sound, trm};

// ---- out of earnings ----

#[tokio::test]
async fn a_sale_to_the_lender_repays_before_anything_reaches_the_agent() {
    let books = books().await;
    let receipt = books.founder_buys(1, 300).await;
    // The lender's books are ahead by this receipt, and nothing else.
    assert_eq!(books.lent().owed, trm(700));
    assert_eq!(books.owed().owed, trm(LENT));
    books.supply();
    let earned = books.member.earn(receipt.clone()).await.unwrap();
    assert_eq!(earned, Applied::Now);
    // The same receipt again pays nothing again, at either end.
    let again = books.member.earn(receipt.clone()).await.unwrap();
    assert_eq!(again, Applied::Already);
    books.founder.acknowledged(receipt.id()).await.unwrap();
    assert_eq!(books.owed().owed, trm(700));
    assert_eq!(
        has(&books.member),
        trm(LENT),
        "nothing of it was the agent's"
    );
    assert_eq!(
        books.member.balance(&main_agent()).unwrap().earned,
        300_000_000
    );
    books.agree();

    // What is left of a sale when the loan is repaid is the agent's.
    let receipt = books.founder_buys(2, 900).await;
    books.member.earn(receipt).await.unwrap();
    assert_eq!(has(&books.member), trm(LENT + 200));
    assert_eq!(books.states(), (LoanState::Repaid, LoanState::Repaid));
    assert_eq!(books.owed().repaid_at, Some(START));
    books.agree();
    // And all of the next one.
    let receipt = books.founder_buys(3, 50).await;
    books.member.earn(receipt).await.unwrap();
    assert_eq!(has(&books.member), trm(LENT + 250));
    books.agree();
}

#[tokio::test]
async fn the_grant_again_lends_nothing_again_and_forgets_no_repayment() {
    let books = books().await;
    let receipt = books.founder_buys(1, 300).await;
    books.member.earn(receipt).await.unwrap();
    books.member.repay(Some(trm(100))).await.unwrap();
    books.exchange_repayment().await;
    // The newcomer's question comes again, with this invitation or with another.
    for n in [3, 4] {
        let invitation = InvitationId::from_bytes([n; 16]);
        let invitation = books.founder.invite(invitation).await.unwrap();
        let again = books.founder.welcome(invitation, key(3).id()).await;
        let grant = again.unwrap().grant.unwrap();
        books.member.accept_loan(grant).await.unwrap();
        assert_eq!((books.lent().owed, books.owed().owed), (trm(600), trm(600)));
    }
    books.agree();
}

// ---- by hand ----

#[tokio::test]
async fn a_repayment_by_hand_is_sent_until_it_is_acknowledged_and_counts_once() {
    let books = books().await;
    let member = &books.member;
    assert_eq!(member.repayment().unwrap(), None);
    let paid = member.repay(Some(trm(250))).await.unwrap();
    assert_eq!((paid.amount, paid.loan.owed), (trm(250), trm(750)));
    assert_eq!(has(member), trm(750));
    let clearing = Account::Clearing(books.founder.node());
    assert_eq!(totals(member, clearing).posted(), trm(250));
    let first = member.repayment().unwrap().unwrap();
    assert_eq!(
        member.repayment().unwrap(),
        Some(first.clone()),
        "the same again"
    );
    // A second one before the first arrived: its statement speaks of both.
    member.repay(Some(trm(50))).await.unwrap();
    let second = member.repayment().unwrap().unwrap();
    assert_eq!(second.body.total, trm(300));
    for _ in 0..2 {
        let id = books
            .founder
            .accept_repayment(second.clone())
            .await
            .unwrap();
        assert_eq!(id, second.body.id());
        assert_eq!(books.lent().owed, trm(700));
    }
    // The first one comes late, and its answer later still.
    let late = books.founder.accept_repayment(first.clone()).await.unwrap();
    assert_eq!(books.lent().owed, trm(700));
    member.repayment_acknowledged(late).await.unwrap();
    assert_eq!(member.repayment().unwrap(), Some(second.clone()));
    for _ in 0..2 {
        member
            .repayment_acknowledged(second.body.id())
            .await
            .unwrap();
        assert_eq!(member.repayment().unwrap(), None);
    }
    books.agree();
    // Everything that is owed, capped by what there is; then nothing more, and no error.
    let rest = member.repay(None).await.unwrap();
    assert_eq!((rest.amount, has(member)), (trm(700), Amount::ZERO));
    let nothing = member.repay(Some(trm(5))).await.unwrap();
    assert_eq!(nothing.amount, Amount::ZERO);
    books.exchange_repayment().await;
    assert_eq!(books.states(), (LoanState::Repaid, LoanState::Repaid));
    books.agree();
}

#[tokio::test]
async fn a_repayment_asked_for_again_under_its_key_is_the_same_payment() {
    let books = books().await;
    let ask = async |amount, key: &str| {
        let key = Some(key.to_owned());
        books.member.repay_once(Some(trm(amount)), key).await
    };
    for (amount, key, paid, left) in [
        (100, "a", 100, 900),
        (100, "a", 100, 900),
        (100, "b", 100, 800),
    ] {
        let repaid = ask(amount, key).await.unwrap();
        assert_eq!((repaid.amount, repaid.loan.owed), (trm(paid), trm(left)));
        assert_eq!(has(&books.member), trm(left));
    }
    for other in [99, 101, 999] {
        let reused = ask(other, "a").await.unwrap_err();
        assert!(
            matches!(&reused, WalletError::KeyReused { key } if key == "a"),
            "{reused:?}"
        );
    }
    assert_eq!(has(&books.member), trm(800));
    // Capped by what was owed, it was asked for in full all the same.
    assert_eq!(ask(999, "c").await.unwrap().amount, trm(800));
    assert_eq!(ask(999, "c").await.unwrap().amount, trm(800));
    books.exchange_repayment().await;
    books.agree();
}

#[tokio::test]
async fn a_repayment_is_capped_by_what_is_owed_and_refused_above_what_there_is() {
    let books = books().await;
    let member = &books.member;
    let bought = books.member_buys(1, 400).await.unwrap();
    let refused = member.repay(Some(trm(601))).await;
    assert!(
        matches!(refused, Err(WalletError::Refused(Refusal::NotEnough { available, .. }))
            if available == trm(600)),
        "{refused:?}"
    );
    let refused = member.repay(Some(Amount::ZERO)).await;
    assert!(matches!(refused, Err(WalletError::Refused(Refusal::Zero))));
    assert_eq!(member.repayment().unwrap(), None, "nothing was written");
    assert_eq!(member.repay(None).await.unwrap().amount, trm(600));
    let refused = member.repay(None).await;
    assert!(matches!(
        refused,
        Err(WalletError::Refused(Refusal::NotEnough { .. }))
    ));
    books.exchange_receipts(&[bought]).await;
    books.exchange_repayment().await;
    books.agree();
    // More than is owed is not taken.
    let sold = books.founder_buys(2, 300).await;
    member.earn(sold).await.unwrap();
    let sold = books.founder_buys(3, 150).await;
    member.earn(sold).await.unwrap();
    assert_eq!(books.states(), (LoanState::Repaid, LoanState::Repaid));
    assert_eq!(
        member.repay(Some(trm(40))).await.unwrap().amount,
        Amount::ZERO
    );
    assert_eq!(has(member), trm(50));
    books.agree();
    // A node that was lent nothing has nothing to repay.
    let refused = books.founder.repay(None).await;
    assert!(matches!(refused, Err(WalletError::NoLoan)), "{refused:?}");
}

#[tokio::test]
async fn a_freeze_stops_repaying_by_hand_and_when_due_but_not_out_of_earnings() {
    let books = books().await;
    let member = &books.member;
    member.set_owner(key(100).owner_id()).await.unwrap();
    member.freeze("drill".into()).await.unwrap();
    let frozen = member.repay(None).await;
    assert!(
        matches!(frozen, Err(WalletError::Refused(Refusal::Frozen { .. }))),
        "{frozen:?}"
    );
    books.clock.advance_ms(TERM);
    assert_eq!(member.repay_due().await.unwrap(), Amount::ZERO);
    assert_eq!(has(member), trm(LENT));
    let sold = books.founder_buys(1, 10).await;
    member.earn(sold).await.unwrap();
    assert_eq!(books.owed().owed, trm(990));
    let order = OwnerOrder {
        node: member.node(),
        number: 0,
        decision: Decision::Unfreeze,
    };
    member.obey(Signed::new(order, &key(100))).await.unwrap();
    assert_eq!(member.repay_due().await.unwrap(), trm(990));
    books.exchange_repayment().await;
    books.agree();
}

#[tokio::test]
async fn only_the_borrowers_own_word_for_its_own_loan_is_booked() {
    let books = books().await;
    books.member.repay(Some(trm(100))).await.unwrap();
    let honest = books.member.repayment().unwrap().unwrap().body;
    let send = async |body: Repayment, signer: u8| {
        books
            .founder
            .accept_repayment(Signed::new(body, &key(signer)))
            .await
    };
    for (body, signer) in [
        (honest.clone(), 4),
        (
            Repayment {
                network: NetworkId::from_bytes([9; 32]),
                ..honest.clone()
            },
            3,
        ),
        (
            Repayment {
                lender: key(4).id(),
                ..honest.clone()
            },
            3,
        ),
        (
            Repayment {
                borrower: key(4).id(),
                ..honest.clone()
            },
            4,
        ),
        (
            Repayment {
                invitation: InvitationId::from_bytes([4; 16]),
                ..honest.clone()
            },
            3,
        ),
        (
            Repayment {
                total: trm(LENT + 1),
                ..honest.clone()
            },
            3,
        ),
    ] {
        let refused = send(body, signer).await;
        assert!(
            matches!(refused, Err(WalletError::Repayment(_))),
            "{refused:?}"
        );
        assert_eq!(books.lent().owed, trm(LENT));
    }
    // A borrower books no repayment as if it had lent, whoever is named.
    for lender in [honest.lender, books.member.node()] {
        let body = Repayment {
            lender,
            ..honest.clone()
        };
        let own = books
            .member
            .accept_repayment(Signed::new(body, &key(3)))
            .await;
        assert!(matches!(own, Err(WalletError::Repayment(_))), "{own:?}");
    }
    books.exchange_repayment().await;
    books.agree();
}

#[tokio::test]
async fn a_repayment_waits_for_a_reservation_that_the_member_has_given_up() {
    let books = books().await;
    let trade = Trade::new(lending().id(), &key(1), &key(3), (800, 1));
    books
        .founder
        .reserve(&trade.quote, job(&trade.quote), None)
        .await
        .unwrap();
    // The purchase broke off: the member has all of it again, the founder does not know.
    books.member.repay(None).await.unwrap();
    let repayment = books.member.repayment().unwrap().unwrap();
    let refused = books.founder.accept_repayment(repayment).await;
    assert!(matches!(
        refused,
        Err(WalletError::Refused(Refusal::NotEnough { .. }))
    ));
    assert_eq!(books.lent().owed, trm(LENT), "nothing was written");
    books.clock.advance_ms(TIMEOUT_MS);
    books.exchange_repayment().await;
    books.agree();
}

#[tokio::test]
async fn a_crash_between_paying_and_sending_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.redb");
    let mut books = books_in(Storage::File(path.clone()), Some(folder)).await;
    books.member.repay(Some(trm(400))).await.unwrap();
    let unsent = books.member.repayment().unwrap().unwrap();
    for _ in 0..2 {
        books.member.close().await;
        books.member = world::open(Storage::File(path.clone()), &books.clock, key(3)).unwrap();
        assert_eq!(books.member.repayment().unwrap(), Some(unsent.clone()));
    }
    // Once more between the lender's booking and its answer.
    books.founder.accept_repayment(unsent).await.unwrap();
    books.member.close().await;
    books.member = world::open(Storage::File(path), &books.clock, key(3)).unwrap();
    books.exchange_repayment().await;
    assert_eq!((books.lent().owed, books.owed().owed), (trm(600), trm(600)));
    books.agree();
    drop(books.file.take());
}

// ---- due, and in default ----

#[tokio::test]
async fn what_is_left_is_paid_back_when_the_loan_is_due_and_not_before() {
    let books = books().await;
    let bought = books.member_buys(1, 30).await.unwrap();
    books.exchange_receipts(&[bought]).await;
    books.clock.advance_ms(TERM - 1);
    assert_eq!(books.member.repay_due().await.unwrap(), Amount::ZERO);
    assert_eq!(books.states(), (LoanState::Open, LoanState::Open));
    books.clock.advance_ms(1);
    assert_eq!(books.states(), (LoanState::Overdue, LoanState::Overdue));
    assert_eq!(books.member.repay_due().await.unwrap(), trm(970));
    assert_eq!(books.member.repay_due().await.unwrap(), Amount::ZERO);
    books.exchange_repayment().await;
    assert_eq!(books.owed().owed, trm(30));
    books.agree();
    // Earnings go on to repay.
    let sold = books.founder_buys(2, 40).await;
    books.member.earn(sold).await.unwrap();
    assert_eq!(has(&books.member), trm(10));
    books.agree();
}

#[tokio::test]
async fn a_purchase_after_the_due_date_spends_nothing_of_what_was_lent() {
    let books = books().await;
    // Nothing swept in between: the rule is in the purchase's own transaction.
    books.clock.advance_ms(TERM);
    let refused = books.member_buys(1, 1).await;
    assert!(
        matches!(
            refused,
            Err(WalletError::Refused(Refusal::NotEnough { .. }))
        ),
        "{refused:?}"
    );
    // A hold that was open when the loan came due goes back, and on.
    books.member.repay_due().await.unwrap();
    assert_eq!(has(&books.member), Amount::ZERO);
    books.exchange_repayment().await;
    books.agree();
}

#[tokio::test]
async fn what_was_lent_on_to_other_agents_comes_back_and_what_is_theirs_does_not() {
    let books = books().await;
    let member = &books.member;
    member.set_owner(key(100).owner_id()).await.unwrap();
    let writer = agent_id("writer");
    let fund = |to_pot, amount| Decision::Fund {
        from: main_agent(),
        from_pot: Pot::Borrowed,
        to: writer,
        to_pot,
        amount: trm(amount),
    };
    let grant = Decision::Grant {
        agent_name: "writer".into(),
        parent: None,
        terms: Box::new(Terms::standard()),
    };
    let decisions = [grant, fund(Pot::Borrowed, 300), fund(Pot::Seed, 200)];
    for (number, decision) in (0..).zip(decisions) {
        let node = member.node();
        let order = OwnerOrder {
            node,
            number,
            decision,
        };
        member.obey(Signed::new(order, &key(100))).await.unwrap();
    }
    books.clock.advance_ms(TERM);
    assert_eq!(member.repay_due().await.unwrap(), trm(800));
    assert_eq!(has(member), Amount::ZERO);
    assert_eq!(member.balance(&writer).unwrap().available, trm(200));
    books.exchange_repayment().await;
    books.agree();
}

#[tokio::test]
async fn a_default_is_one_day_late_on_both_sides_and_a_repayment_lifts_it() {
    let books = books().await;
    let (founder, member) = (&books.founder, &books.member);
    let parties = Trade::new(lending().id(), &key(1), &key(3), (5, 1));
    let bought = books.member_buys(9, 30).await.unwrap();
    books.exchange_receipts(&[bought]).await;
    // Earned money, so that there is something to repay with later.
    books.clock.advance_ms(TERM + LOAN_GRACE_MS - 1);
    assert_eq!(books.states(), (LoanState::Overdue, LoanState::Overdue));
    assert_eq!(
        founder.standing(&member.node()).unwrap(),
        Standing::Kept(trm(970))
    );
    books.clock.advance_ms(1);
    assert_eq!(books.states(), (LoanState::Defaulted, LoanState::Defaulted));
    assert_eq!(
        founder.standing(&member.node()).unwrap(),
        Standing::Defaulted(trm(LENT))
    );
    let refused = founder
        .reserve(&parties.quote, job(&parties.quote), None)
        .await;
    assert!(
        matches!(refused, Err(WalletError::LoanDefault { owed }) if owed == trm(LENT)),
        "{refused:?}"
    );
    // No second loan either.
    let invitation = founder.invite(InvitationId::from_bytes([8; 16])).await;
    let again = founder.welcome(invitation.unwrap(), member.node()).await;
    let grant = again.unwrap().grant.unwrap().body;
    assert_eq!(grant.invitation, InvitationId::from_bytes([3; 16]));
    // A clock that is set back does not lift it, once the books have seen the later time.
    let late = books.clock.now();
    books.clock.set(START);
    assert_eq!(
        founder.standing(&member.node()).unwrap(),
        Standing::Defaulted(trm(LENT))
    );
    books.clock.set(late);
    // Part of it does not lift the default, all of it does, at once.
    member.repay(None).await.unwrap();
    books.exchange_repayment().await;
    assert_eq!(
        founder.standing(&member.node()).unwrap(),
        Standing::Defaulted(trm(30))
    );
    let sold = books.founder_buys(2, 35).await;
    assert_eq!(
        founder.standing(&member.node()).unwrap(),
        Standing::Kept(trm(5))
    );
    founder
        .reserve(&parties.quote, job(&parties.quote), None)
        .await
        .unwrap();
    member.earn(sold).await.unwrap();
    assert_eq!(books.states(), (LoanState::Repaid, LoanState::Repaid));
    founder
        .release_reservation(parties.quote.id(), false)
        .await
        .unwrap();
    books.member_buys(3, 5).await.unwrap();
    sound(member);
    sound(founder);
}

#[tokio::test]
async fn other_borrowers_defaults_are_their_own() {
    let books = books().await;
    // Party 20 spent its loan and never paid back; the member pays in time.
    books.clock.advance_ms(TERM);
    books.member.repay_due().await.unwrap();
    books.exchange_repayment().await;
    books.clock.advance_ms(LOAN_GRACE_MS);
    let standing = |n: u8| books.founder.standing(&key(n).id()).unwrap();
    assert_eq!(standing(20), Standing::Defaulted(trm(LENT)));
    assert_eq!(standing(3), Standing::Kept(Amount::ZERO));
    assert_eq!(standing(99), Standing::Unknown);
}

#[tokio::test]
async fn only_a_loan_of_the_authority_is_repaid_out_of_what_is_sold_to_it() {
    // Party 9 issues too, but keeps nobody's account.
    let both = Genesis {
        issuers: vec![
            (key(1).id(), Amount::MAX.saturating_sub(trm(50_000))),
            (key(9).id(), trm(50_000)),
        ],
        ..lending()
    };
    let clock = Arc::new(ManualClock::at(START));
    // Party 9 lends to a member, and to the authority itself.
    for (borrower, customer) in [(3, 1), (1, 9)] {
        let wallet = world::open(memory(), &clock, key(borrower)).unwrap();
        wallet.found(both.clone()).await.unwrap();
        wallet.ensure_main_agent([0; 32]).await.unwrap();
        let grant = LoanGrant {
            network: both.id(),
            issuer: key(9).id(),
            borrower: wallet.node(),
            invitation: InvitationId::from_bytes([9; 16]),
            principal: trm(LENT),
            granted: START,
            due: START.after_ms(TERM),
        };
        let grant = Signed::new(grant, &key(9));
        wallet.accept_loan(grant).await.unwrap();
        if customer == 9 {
            let invitation = wallet.invite(InvitationId::from_bytes([8; 16])).await;
            let welcome = wallet.welcome(invitation.unwrap(), key(9).id()).await;
            assert!(welcome.unwrap().grant.is_some());
        }
        let trade = Trade::new(both.id(), &key(borrower), &key(customer), (70, 1));
        let receipt = trade.receipt(TransferId::from_bytes([1; 16]), 70);
        wallet.earn(receipt).await.unwrap();
        assert_eq!(loan(&wallet, wallet.node()).owed, trm(LENT));
        assert_eq!(has(&wallet), trm(LENT + 70));
        sound(&wallet);
    }
}

#[tokio::test]
async fn history_names_repayments_on_both_sides() {
    let books = books().await;
    let sold = books.founder_buys(1, 10).await;
    books.member.earn(sold).await.unwrap();
    books.member.repay(Some(trm(20))).await.unwrap();
    books.exchange_repayment().await;
    for wallet in [&books.founder, &books.member] {
        let lines = wallet.history(None, 100).unwrap();
        let of_loan = lines
            .iter()
            .filter(|line| line.entry.transfer.code == TransferCode::Repayment);
        let amounts: Vec<_> = of_loan.map(|line| line.amount).collect();
        assert_eq!(amounts, [trm(20), trm(10)]);
    }
}
