//! Requests that wait for the owner: bound to exactly what was asked for.

use tirami_manifest::mandate::{Action, Limits, Terms};
use tirami_manifest::owner::Decision;
use tirami_manifest::{AgentId, Amount, ApprovalId, ModelId};
use tirami_wallet::hold::VoidReason;
use tirami_wallet::intent::{Intent, IntentKey};
use tirami_wallet::ledger::approval::{APPROVAL_MS, Verdict};
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::token::main_agent;
use tirami_wallet::{Hold, HoldRequest, Retry, Wallet, WalletError, Work};

use crate::world::{WORK, key, sound, trm};
use crate::{
    SOME_QUOTE, attempt, decide, founder, hold, hold_for, intent, only, purchase, set_terms, spent,
};

/// Which approval it waits for.
fn waits<T: std::fmt::Debug>(outcome: Result<T, WalletError>) -> ApprovalId {
    match outcome {
        Err(error @ WalletError::Refused(Refusal::NeedsApproval { approval, .. })) => {
            assert_eq!(error.retry(), Retry::Later);
            approval.unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// Asks as `main` for `n` TRM under a key, with a body and work of one's own.
async fn ask(
    wallet: &Wallet,
    (name, body): (&str, [u8; 32]),
    work: Work,
    n: u64,
) -> Result<Hold, WalletError> {
    let Intent::Attempt(attempt) = wallet.begin(intent(name), body).await? else {
        panic!("{name} is answered");
    };
    let request = HoldRequest {
        attempt,
        amount: trm(n),
        quote: SOME_QUOTE,
        work,
        under: None,
    };
    wallet.hold(request).await
}

async fn approve(wallet: &Wallet, approval: ApprovalId, n: u64) -> Result<(), WalletError> {
    let amount = trm(n);
    decide(wallet, Decision::Approve { approval, amount }).await
}

fn verdicts(wallet: &Wallet) -> Vec<Verdict> {
    let all = wallet.approvals().unwrap();
    all.into_iter()
        .map(|(_, approval)| approval.verdict)
        .collect()
}

#[tokio::test]
async fn what_needs_approval_waits_and_goes_on_under_its_key_once_it_is_given() {
    let (wallet, clock) = founder(5_000).await;
    let trade = purchase(1_500);
    assert!(hold(&wallet, "small", 1_000).await.is_ok());
    let asked = hold(&wallet, "a", 1_500).await;
    assert!(matches!(
        asked,
        Err(WalletError::Refused(Refusal::NeedsApproval { above, asked, .. }))
            if above == trm(1_000) && asked == trm(1_500)
    ));
    // Asked again, and for less: the same request.
    let id = waits(hold(&wallet, "a", 1_500).await);
    assert_eq!(waits(hold(&wallet, "a", 1_400).await), id);
    let (listed, approval) = wallet.approvals().unwrap().pop().unwrap();
    assert_eq!(
        (listed, approval.amount, approval.verdict),
        (id, trm(1_500), Verdict::Waiting)
    );
    assert_eq!((approval.agent, approval.key.as_str()), (main_agent(), "a"));
    assert_eq!((approval.payee, approval.model), (WORK.payee, WORK.model));
    // Only for what it asks, and only what is there.
    for wrong in [1_499, 1_501] {
        let refused = approve(&wallet, id, wrong).await;
        assert!(matches!(refused, Err(WalletError::Approval(of, _)) if of == id));
    }
    let unknown = approve(&wallet, ApprovalId::from_bytes([9; 16]), 1_500).await;
    assert!(matches!(unknown, Err(WalletError::UnknownApproval(_))));
    approve(&wallet, id, 1_500).await.unwrap();
    assert!(matches!(verdicts(&wallet)[..], [Verdict::Approved { .. }]));
    let open = hold_for(&wallet, &trade, "a").await;
    let receipt = trade.receipt(open.id(), 1_200);
    open.settle(receipt, b"x".to_vec()).await.unwrap();
    assert_eq!(spent(&wallet), 1_200);
    // What went through is decided.
    for late in [
        approve(&wallet, id, 1_500).await,
        wallet.deny(id).await.map(drop),
    ] {
        assert!(
            matches!(&late, Err(WalletError::Approval(of, _)) if *of == id),
            "{late:?}"
        );
    }
    let again = wallet
        .begin(intent("a"), crate::body_of("a"))
        .await
        .unwrap();
    assert_eq!(again, Intent::Answered(b"x".to_vec()));
    clock.advance_ms(APPROVAL_MS);
    assert!(wallet.approvals().unwrap().is_empty());
    sound(&wallet);
}

#[tokio::test]
async fn an_approval_is_for_exactly_that_request_and_no_other() {
    let (wallet, _) = founder(9_000).await;
    let body = [1; 32];
    let id = waits(ask(&wallet, ("a", body), WORK, 1_500).await);
    approve(&wallet, id, 1_500).await.unwrap();
    let with = |change: fn(&mut Work)| {
        let mut work = WORK;
        change(&mut work);
        work
    };
    let others = [
        ("another key", "b", WORK, 1_500),
        (
            "another payee",
            "a",
            with(|w| w.payee = Some(key(3).id())),
            1_500,
        ),
        (
            "another model",
            "a",
            with(|w| w.model = Some(ModelId::from_bytes([9; 32]))),
            1_500,
        ),
        ("no model", "a", with(|w| w.model = None), 1_500),
        (
            "another action",
            "a",
            with(|w| w.action = Action::LocalChat),
            1_500,
        ),
    ];
    for (what, name, work, n) in others {
        let other = waits(ask(&wallet, (name, body), work, n).await);
        assert_ne!(other, id, "{what}");
    }
    // Another body has another id, though its key is taken: asked by another agent's same key.
    let theirs = IntentKey::new(AgentId::from_bytes([9; 16]), "a");
    assert_ne!(theirs.row_key(), intent("a").row_key());
    let changed = ask(&wallet, ("a", [2; 32]), WORK, 1_500).await;
    assert!(matches!(changed, Err(WalletError::KeyReused { .. })));
    // As it was asked for, and for less.
    let open = ask(&wallet, ("a", body), WORK, 1_500).await.unwrap();
    open.void(VoidReason::CalledOff).await.unwrap();
    let open = ask(&wallet, ("a", body), WORK, 1_100).await.unwrap();
    open.void(VoidReason::CalledOff).await.unwrap();
    // For more it is another request, and the yes is gone with it.
    assert_eq!(waits(ask(&wallet, ("a", body), WORK, 1_501).await), id);
    assert_eq!(waits(ask(&wallet, ("a", body), WORK, 1_500).await), id);
    approve(&wallet, id, 1_500).await.unwrap_err();
    approve(&wallet, id, 1_501).await.unwrap();
    ask(&wallet, ("a", body), WORK, 1_500)
        .await
        .unwrap()
        .leave_to_expire();
    sound(&wallet);
}

#[tokio::test]
async fn an_approval_is_void_after_a_day_and_after_a_new_grant() {
    let (wallet, clock) = founder(9_000).await;
    let id = waits(hold(&wallet, "a", 1_500).await);
    clock.advance_ms(APPROVAL_MS - 1);
    approve(&wallet, id, 1_500).await.unwrap();
    // A day from the approval.
    clock.advance_ms(APPROVAL_MS - 1);
    let open = hold(&wallet, "a", 1_500).await.unwrap();
    open.void(VoidReason::CalledOff).await.unwrap();
    clock.advance_ms(1);
    assert_eq!(number_of_waiting(&wallet, "a").await, 1);
    // One that nobody answered is over after a day, and cannot be approved then.
    clock.advance_ms(APPROVAL_MS);
    let late = approve(&wallet, id, 1_500).await;
    assert!(matches!(late, Err(WalletError::UnknownApproval(_))));
    let late = wallet.deny(id).await;
    assert!(matches!(late, Err(WalletError::UnknownApproval(_))));
    let id = waits(hold(&wallet, "a", 1_500).await);
    approve(&wallet, id, 1_500).await.unwrap();
    let again = Decision::Grant {
        agent_name: "main".into(),
        parent: None,
        terms: Box::new(Terms::standard()),
    };
    decide(&wallet, again).await.unwrap();
    assert_eq!(number_of_waiting(&wallet, "a").await, 1);
    approve(&wallet, id, 1_500).await.unwrap();
    hold(&wallet, "a", 1_500).await.unwrap().leave_to_expire();
    sound(&wallet);
}

/// Asks under `name`; how many wait after it.
async fn number_of_waiting(wallet: &Wallet, name: &str) -> usize {
    waits(hold(wallet, name, 1_500).await);
    let waiting = |verdict: &&Verdict| **verdict == Verdict::Waiting;
    verdicts(wallet).iter().filter(waiting).count()
}

#[tokio::test]
async fn what_was_denied_stays_denied_and_anyone_may_deny() {
    let (wallet, _) = founder(9_000).await;
    let id = waits(hold(&wallet, "a", 1_500).await);
    let denied = wallet.deny(id).await.unwrap();
    assert!(matches!(denied.verdict, Verdict::Denied { .. }));
    for n in [1_500, 1_001, 2_500] {
        let refused = hold(&wallet, "a", n).await;
        assert!(
            matches!(refused, Err(WalletError::Denied(of)) if of == id),
            "{refused:?}"
        );
    }
    assert_eq!(
        hold(&wallet, "a", 1_500).await.unwrap_err().retry(),
        Retry::Never
    );
    // Neither a second no nor a yes changes it.
    assert!(matches!(wallet.deny(id).await, Err(WalletError::Denied(_))));
    assert!(matches!(
        approve(&wallet, id, 1_500).await,
        Err(WalletError::Denied(_))
    ));
    // What needs no approval was not asked about.
    hold(&wallet, "a", 1_000).await.unwrap().leave_to_expire();
    // A yes may be taken back as long as it was not used.
    let id = waits(hold(&wallet, "b", 1_500).await);
    approve(&wallet, id, 1_500).await.unwrap();
    wallet.deny(id).await.unwrap();
    assert!(matches!(
        hold(&wallet, "b", 1_500).await,
        Err(WalletError::Denied(_))
    ));
    let unknown = wallet.deny(ApprovalId::from_bytes([9; 16])).await;
    assert!(matches!(unknown, Err(WalletError::UnknownApproval(_))));
    sound(&wallet);
}

/// Asks as another agent for more than passes without approval.
async fn ask_as(wallet: &Wallet, agent: AgentId, name: &str) -> Result<ApprovalId, WalletError> {
    let intent = IntentKey::new(agent, name);
    let Intent::Attempt(attempt) = wallet.begin(intent, [1; 32]).await? else {
        panic!("{name} is answered");
    };
    let request = HoldRequest {
        attempt,
        amount: trm(1_500),
        quote: SOME_QUOTE,
        work: WORK,
        under: None,
    };
    match wallet.hold(request).await {
        Err(error @ WalletError::ApprovalsFull(_)) => Err(error),
        outcome => Ok(waits(outcome)),
    }
}

fn listed(wallet: &Wallet) -> Vec<ApprovalId> {
    let all = wallet.approvals().unwrap();
    all.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn nobodys_request_is_pushed_out_by_those_who_ask_more_often() {
    let (wallet, _) = founder(9_000).await;
    let waiting = waits(hold(&wallet, "waits", 1_500).await);
    let approved = waits(hold(&wallet, "approved", 1_500).await);
    approve(&wallet, approved, 1_500).await.unwrap();
    let grant = async |parent, name: &str| {
        let granted = wallet.grant(parent, name.to_owned(), Terms::standard());
        granted.await.unwrap()
    };
    let quiet = grant(main_agent(), "quiet").await;
    let mut asked = Vec::new();
    for name in ["a", "b", "c"] {
        asked.push(ask_as(&wallet, quiet, name).await.unwrap());
    }
    // One that asks often, through agents of its own making that ask seldom, and answers with no.
    let busy = grant(main_agent(), "busy").await;
    for n in 0..150 {
        let helper = grant(busy, &format!("busy-{n}")).await;
        for name in ["a", "b"] {
            let id = ask_as(&wallet, helper, name).await.unwrap();
            if n % 3 > 0 {
                wallet.deny(id).await.unwrap();
            }
        }
    }
    asked.push(ask_as(&wallet, quiet, "d").await.unwrap());
    asked.extend([waiting, approved]);
    let all = listed(&wallet);
    assert_eq!(all.len(), 256);
    for id in &asked {
        assert!(all.contains(id), "{id} of {all:?}");
    }
    // Asking anew for more takes nobody's place.
    assert_eq!(waits(hold(&wallet, "waits", 1_600).await), waiting);
    assert_eq!(listed(&wallet).len(), 256);
    sound(&wallet);
}

#[tokio::test]
async fn what_the_owner_approved_makes_room_for_nothing() {
    let (wallet, clock) = founder(9_000).await;
    for n in 0..256 {
        let id = ask_as(&wallet, main_agent(), &n.to_string()).await;
        approve(&wallet, id.unwrap(), 1_500).await.unwrap();
    }
    let before = listed(&wallet);
    let full = ask_as(&wallet, main_agent(), "more").await.unwrap_err();
    assert_eq!(full.retry(), Retry::Later, "{full}");
    assert_eq!(listed(&wallet), before);
    clock.advance_ms(APPROVAL_MS);
    ask_as(&wallet, main_agent(), "more").await.unwrap();
    assert_eq!(listed(&wallet).len(), 1);
    sound(&wallet);
}

#[tokio::test]
async fn a_refusal_of_another_rule_asks_the_owner_nothing() {
    let (wallet, _) = founder(1_200).await;
    set_terms(&wallet, main_agent(), Terms::standard()).await;
    // The approval comes before the balance: the owner is asked although it is too much by now.
    waits(hold(&wallet, "a", 1_300).await);
    assert_eq!(wallet.approvals().unwrap().len(), 1);
    assert_eq!(crate::number(hold(&wallet, "b", 5_001).await), 21);
    assert_eq!(wallet.approvals().unwrap().len(), 1);
    let asked = wallet
        .explain(&main_agent(), WORK, trm(1_100), None)
        .unwrap();
    assert_eq!(asked.refusal.map(|r| r.number()), Some(29));
    assert_eq!(
        wallet.approvals().unwrap().len(),
        1,
        "explaining asks nobody"
    );
    let mut limits = Limits::DEFAULT;
    limits.approval_above_trm = Some(Amount::ZERO);
    set_terms(&wallet, main_agent(), Terms::of(limits)).await;
    waits(hold(&wallet, "c", 1).await);
}

#[tokio::test]
async fn no_more_than_256_requests_are_remembered_and_the_oldest_that_waits_goes_first() {
    let (wallet, clock) = founder(9_000).await;
    let mut terms = only(Limits::DEFAULT);
    terms.limits.approval_above_trm = Some(trm(1_000));
    set_terms(&wallet, main_agent(), terms).await;
    let no = waits(hold(&wallet, "no", 1_500).await);
    wallet.deny(no).await.unwrap();
    let first = waits(hold(&wallet, "first", 1_500).await);
    for n in 0..256 {
        clock.advance_ms(1);
        waits(hold(&wallet, &format!("{n}"), 1_500).await);
    }
    let all = wallet.approvals().unwrap();
    assert_eq!(all.len(), 256);
    assert!(all.iter().all(|(id, _)| *id != first));
    assert!(
        all.iter().any(|(id, _)| *id == no),
        "an answer is not pushed out by asking often"
    );
    assert!(
        all.windows(2).all(|two| two[0].1.asked >= two[1].1.asked),
        "newest first"
    );
    // What is over makes room first.
    clock.advance_ms(APPROVAL_MS - 100);
    waits(hold(&wallet, "later", 1_500).await);
    assert!(wallet.approvals().unwrap().len() <= 256);
    drop(attempt(&wallet, "first").await);
}
