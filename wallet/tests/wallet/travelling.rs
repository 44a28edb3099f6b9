//! What a root payer books of a mandate that it handed out, and what it refuses: the other sides may lie.

use tirami_manifest::chain::Chain;
use tirami_manifest::commerce::VerifiedReceipt;
use tirami_manifest::mandate::{Pot, PotRule, Terms};
use tirami_manifest::mandate_chain::{Action, Allowed, Grant, MandateChain, RangeReturn, Spend};
use tirami_manifest::owner::Decision;
use tirami_manifest::range::Range;
use tirami_manifest::signed::Signed;
use tirami_manifest::{GrantId, ModelId, NodeId, TransferId};
use tirami_wallet::ledger::apply::Applied;
use tirami_wallet::ledger::ranges;
use tirami_wallet::token::main_agent;
use tirami_wallet::travelling::Under;
use tirami_wallet::travelling::handing_out::HandOut;
use tirami_wallet::travelling::sweeping::RECEIPTS_WITHIN_MS;
use tirami_wallet::{Wallet, WalletError};

use crate::world::{START, Trade, genesis, key, sound, trm};
use crate::{DAY, attempt, available, decide, founder, join, number, party, set_terms, terms};

/// The founder and authority, and the provider; who holds the mandate; a stranger to the network.
const PROVIDER: u8 = 1;
const HOLDER: u8 = 4;
const STRANGER: u8 = 9;

fn id(n: u8) -> NodeId {
    key(n).id()
}

fn asked(holder: u8, pinned: Option<NodeId>) -> HandOut {
    HandOut {
        from: None,
        holder: id(holder),
        amount: trm(100),
        pinned,
        per_request: None,
        ceiling: None,
        models: Vec::new(),
        payees: Vec::new(),
        expires: START.after_ms(DAY),
        depth_left: 1,
    }
}

async fn hand_out(
    wallet: &Wallet,
    name: &str,
    asked: HandOut,
) -> Result<MandateChain, WalletError> {
    let attempt = attempt(wallet, name).await;
    wallet.hand_out(attempt, asked, |_| Vec::new()).await
}

/// A member with a mandate of 100 TRM out, the first units of it.
async fn payer(pinned: Option<NodeId>) -> (Wallet, MandateChain) {
    let (authority, _) = founder(1_000).await;
    let (wallet, _) = party(3);
    join(&authority, &wallet, [3; 16]).await;
    let chain = hand_out(&wallet, "out", asked(HOLDER, pinned))
        .await
        .unwrap();
    (wallet, chain)
}

fn trade(provider: u8, nonce: u8) -> Trade {
    Trade::new(genesis().id(), &key(provider), &key(HOLDER), (10, nonce))
}

/// A spend of the `n`th 10 TRM for a quote.
fn under(chain: &MandateChain, trade: &Trade, n: u64) -> Under {
    let grant = chain.last().unwrap();
    let spend = Spend {
        network: grant.network,
        chain: grant.id(),
        range: units(10 * n, 10 * n + 10),
        payee: trade.quote.provider,
        action: Action::Chat,
        model: trade.quote.card.id,
        request: *trade.quote.id().as_bytes(),
        nonce: [u8::try_from(n).unwrap(); 16],
        expires: START.after_ms(DAY),
    };
    Under {
        chain: chain.clone(),
        spend: Signed::new(spend, &key(HOLDER)),
    }
}

fn units(lo: u64, hi: u64) -> Range {
    Range::new(lo * 1_000_000, hi * 1_000_000).unwrap()
}

/// What both sign; another `n` makes another receipt under the same quote.
fn receipt(trade: &Trade, n: u8) -> VerifiedReceipt {
    trade.receipt(TransferId::from_bytes([n; 16]), 10)
}

fn back(chain: &MandateChain, range: Range, by: u8) -> Signed<RangeReturn> {
    Signed::new(RangeReturn::of(chain.last().unwrap(), range), &key(by))
}

fn grant_id(chain: &MandateChain) -> GrantId {
    chain.last().unwrap().id()
}

fn drawn(wallet: &Wallet) -> u64 {
    let all = wallet.handed_out().unwrap();
    all[0].row.drawn.utrm() / 1_000_000
}

fn refused(outcome: Result<impl std::fmt::Debug, WalletError>) -> ranges::Refusal {
    match outcome {
        Err(WalletError::Units(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Holder and provider choose the hold: two receipts of one job would be two trades of it on the payer's chain,
/// which proves a fraud that is none of its own.
#[tokio::test]
async fn a_job_is_drawn_once_whatever_holder_and_provider_sign() {
    for pinned in [None, Some(id(PROVIDER))] {
        let (wallet, chain) = payer(pinned).await;
        let mut booked = Vec::new();
        for n in [1, 2] {
            let trade = trade(PROVIDER, n);
            let under = under(&chain, &trade, u64::from(n));
            if pinned.is_none() {
                let reserved = wallet.reserve_units(id(PROVIDER), under.clone(), trm(10));
                reserved.await.unwrap();
            }
            // Another quote, another spend, other units, and the same hold.
            booked.push(wallet.book_draw(receipt(&trade, 7), under).await);
        }
        let [first, second] = booked.try_into().unwrap();
        assert_eq!(first.unwrap(), Applied::Now);
        let second = second.unwrap_err().to_string();
        assert!(second.contains("drawn before"), "{second}");
        assert_eq!(drawn(&wallet), 10);
        let mut chain = Chain::new(genesis(), wallet.node());
        for entry in wallet.chain_after(0, 100).unwrap() {
            chain.append(&entry).unwrap();
        }
        sound(&wallet);
    }
}

#[tokio::test]
async fn a_spend_pays_for_one_receipt() {
    for pinned in [None, Some(id(PROVIDER))] {
        let (wallet, chain) = payer(pinned).await;
        let trade = trade(PROVIDER, 1);
        let under = under(&chain, &trade, 0);
        if pinned.is_none() {
            let reserved = wallet.reserve_units(id(PROVIDER), under.clone(), trm(10));
            reserved.await.unwrap();
        }
        let book = |n| wallet.book_draw(receipt(&trade, n), under.clone());
        assert_eq!(book(1).await.unwrap(), Applied::Now);
        assert_eq!(book(1).await.unwrap(), Applied::Already);
        // Provider and holder sign as often as they like.
        for n in 2..5 {
            assert!(book(n).await.is_err(), "{n}");
        }
        assert_eq!(drawn(&wallet), 10);
        assert_eq!(available(&wallet), trm(99_900));
        sound(&wallet);
    }
}

#[tokio::test]
async fn what_was_drawn_does_not_come_back_and_what_came_back_is_not_drawn() {
    let (wallet, chain) = payer(Some(id(PROVIDER))).await;
    let (first, second) = (trade(PROVIDER, 1), trade(PROVIDER, 2));
    let id = grant_id(&chain);
    let paid = wallet.book_draw(receipt(&first, 1), under(&chain, &first, 0));
    paid.await.unwrap();
    let lie = wallet.took_back(id, vec![back(&chain, units(0, 20), PROVIDER)]);
    let used = ranges::Refusal::Used {
        units: units(0, 10),
    };
    assert_eq!(refused(lie.await), used);
    // By somebody who remembers nothing it proves nothing.
    let other = wallet.took_back(id, vec![back(&chain, units(10, 50), HOLDER)]);
    assert!(matches!(refused(other.await), ranges::Refusal::Return(_)));
    let came = wallet.took_back(id, vec![back(&chain, units(10, 50), PROVIDER)]);
    assert_eq!(came.await.unwrap(), trm(40));
    let late = wallet.book_draw(receipt(&second, 2), under(&chain, &second, 1));
    assert!(matches!(
        refused(late.await),
        ranges::Refusal::Returned { .. }
    ));
    assert_eq!((drawn(&wallet), available(&wallet)), (10, trm(99_900)));
    // The last of it gives the money back.
    let rest = wallet.took_back(id, vec![back(&chain, units(50, 100), PROVIDER)]);
    assert_eq!(rest.await.unwrap(), trm(50));
    assert_eq!(available(&wallet), trm(99_990));
    sound(&wallet);
}

#[tokio::test]
async fn only_whom_the_network_can_pay_draws_and_only_for_what_was_spent() {
    let (wallet, chain) = payer(None).await;
    let stranger = trade(STRANGER, 1);
    let its = under(&chain, &stranger, 0);
    let reserved = wallet.reserve_units(id(STRANGER), its.clone(), trm(10));
    assert!(
        matches!(reserved.await, Err(WalletError::Mandate(text)) if text.contains("cannot be paid"))
    );
    let booked = wallet.book_draw(receipt(&stranger, 1), its);
    assert!(
        matches!(booked.await, Err(WalletError::Mandate(text)) if text.contains("cannot be paid"))
    );
    // A spend for another quote, and one that the tracker was never asked for.
    let (one, other) = (trade(PROVIDER, 1), trade(PROVIDER, 2));
    let crossed = wallet.book_draw(receipt(&one, 1), under(&chain, &other, 0));
    assert!(matches!(
        crossed.await,
        Err(WalletError::OtherReceipt("quote"))
    ));
    let unasked = wallet.book_draw(receipt(&one, 1), under(&chain, &one, 0));
    assert!(matches!(
        refused(unasked.await),
        ranges::Refusal::Unknown { .. }
    ));
    assert_eq!(drawn(&wallet), 0);
    sound(&wallet);
}

#[tokio::test]
async fn what_is_handed_on_is_no_wider_than_the_mandate_of_the_agent_that_does() {
    let (_, chain) = payer(Some(id(PROVIDER))).await;
    let (authority, _) = founder(1_000).await;
    let (holder, _) = party(HOLDER);
    join(&authority, &holder, [4; 16]).await;
    let from = holder
        .accept_mandate(main_agent(), chain.clone())
        .await
        .unwrap();
    let on = |name: &'static str, life| {
        let part = HandOut {
            from: Some(from),
            amount: trm(10),
            expires: START.after_ms(life),
            depth_left: 0,
            ..asked(5, None)
        };
        hand_out(&holder, name, part)
    };
    let leaf = |chain: &MandateChain| chain.last().unwrap().clone();
    let wide: Grant = leaf(&on("wide", DAY).await.unwrap());
    assert_eq!(wide.models, Allowed::ANY);
    // What the agent may not buy, nobody gets to buy from it.
    let model = ModelId::from_bytes([8; 32]);
    let mut own = terms(5_000, 10_000, 1_000_000);
    own.limits.approval_above_trm = Some(trm(1_000));
    own.scope.models.allow = Some([model].into());
    own.limits.per_request_trm = trm(4);
    holder.tighten(main_agent(), own.clone()).await.unwrap();
    let narrow = leaf(&on("narrow", DAY).await.unwrap());
    assert_eq!(narrow.models, Allowed::only([model]).unwrap());
    assert_eq!(narrow.per_request, trm(4));
    own.expires = Some(START.after_ms(DAY - 1));
    holder.tighten(main_agent(), own).await.unwrap();
    assert!(matches!(
        on("long", DAY).await,
        Err(WalletError::Mandate(_))
    ));
    on("shorter", DAY - 1).await.unwrap();
    holder.revoke(main_agent()).await.unwrap();
    assert_eq!(number(on("revoked", DAY - 1).await), 10);
}

#[tokio::test]
async fn a_mandate_that_is_over_is_forgotten_a_month_later_once_its_money_is_back() {
    let (authority, _) = founder(1_000).await;
    let (wallet, clock) = party(3);
    join(&authority, &wallet, [3; 16]).await;
    let closed = hand_out(&wallet, "closed", asked(HOLDER, None)).await;
    let closed = grant_id(&closed.unwrap());
    // Its tracker says nothing, so its money may still be spent.
    let open = hand_out(&wallet, "open", asked(HOLDER, Some(id(PROVIDER)))).await;
    let open = grant_id(&open.unwrap());
    assert_eq!(wallet.reclaim_here(closed).await.unwrap(), trm(100));
    let ids = || -> Vec<_> {
        let all = wallet.handed_out().unwrap();
        all.iter().map(|out| out.grant.id()).collect()
    };
    clock.advance_ms(DAY + RECEIPTS_WITHIN_MS);
    assert_eq!(wallet.forget_over().await.unwrap(), 0, "not before");
    assert_eq!(ids(), [closed, open]);
    clock.advance_ms(1);
    assert_eq!(wallet.forget_over().await.unwrap(), 1);
    assert_eq!(ids(), [open], "what is still set aside is not forgotten");
    assert_eq!(wallet.forget_over().await.unwrap(), 0);
    assert_eq!(available(&wallet), trm(99_900));
    sound(&wallet);
}

#[tokio::test]
async fn a_mandate_granted_anew_does_not_bring_back_what_the_one_before_handed_out() {
    let (authority, _) = founder(1_000).await;
    let (wallet, clock) = party(3);
    join(&authority, &wallet, [3; 16]).await;
    let chain = hand_out(&wallet, "out", asked(HOLDER, None)).await.unwrap();
    clock.advance_ms(1);
    let reserve = |n| {
        let trade = trade(PROVIDER, u8::try_from(n).unwrap());
        wallet.reserve_units(id(PROVIDER), under(&chain, &trade, n), trm(10))
    };
    reserve(0).await.unwrap();
    wallet.revoke(main_agent()).await.unwrap();
    assert_eq!(number(reserve(1).await), 10);
    let anew = Decision::Grant {
        agent_name: "main".into(),
        parent: None,
        terms: Box::new(Terms::standard()),
    };
    decide(&wallet, anew).await.unwrap();
    assert_eq!(number(reserve(2).await), 10, "handed out before");
    let chain = hand_out(&wallet, "anew", asked(HOLDER, None))
        .await
        .unwrap();
    let trade = trade(PROVIDER, 3);
    let reserved = wallet.reserve_units(id(PROVIDER), under(&chain, &trade, 10), trm(10));
    reserved.await.unwrap();
}

#[tokio::test]
async fn rules_that_tell_payees_or_models_apart_hold_for_what_is_handed_out() {
    let (authority, _) = founder(1_000).await;
    let (wallet, _) = party(3);
    join(&authority, &wallet, [3; 16]).await;
    let says = |outcome: Result<MandateChain, WalletError>, with: &str| match outcome {
        Err(WalletError::Mandate(text)) => assert!(text.contains(with), "{text}"),
        other => panic!("{other:?}"),
    };
    let to = |payees: &[u8], pinned: Option<u8>| HandOut {
        payees: payees.iter().map(|n| id(*n)).collect(),
        ..asked(HOLDER, pinned.map(id))
    };
    let wrong = hand_out(&wallet, "pin", to(&[STRANGER], Some(PROVIDER))).await;
    says(wrong, "not among the payees");
    let unpaid = hand_out(&wallet, "unpaid", to(&[], Some(STRANGER))).await;
    says(unpaid, "cannot be paid by this node");
    // A limit per payee counts for the one who is pinned, whatever the list says first.
    let mut terms = Terms::standard();
    terms.limits.payee_day_trm = Some(trm(150));
    set_terms(&wallet, main_agent(), terms.clone()).await;
    let both = [PROVIDER, STRANGER];
    says(
        hand_out(&wallet, "two", to(&both, None)).await,
        "limit per payee",
    );
    let pinned = to(&both, Some(PROVIDER));
    hand_out(&wallet, "one", pinned.clone()).await.unwrap();
    assert_eq!(number(hand_out(&wallet, "more", pinned).await), 26);
    // So do pots.
    terms.limits.payee_day_trm = None;
    let mut rule = PotRule::only(vec![Pot::Borrowed]);
    rule.payee = Some(id(PROVIDER));
    terms.pots = vec![rule.clone()];
    set_terms(&wallet, main_agent(), terms.clone()).await;
    says(
        hand_out(&wallet, "pot", to(&both, None)).await,
        "pot for one payee",
    );
    (rule.payee, rule.model) = (None, Some(ModelId::from_bytes([1; 32])));
    terms.pots = vec![rule];
    set_terms(&wallet, main_agent(), terms).await;
    says(
        hand_out(&wallet, "model", to(&[], None)).await,
        "pot for one model",
    );
    sound(&wallet);
}
