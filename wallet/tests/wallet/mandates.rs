//! Mandates out of mandates: what an agent hands out is part of its own.

use tirami_manifest::mandate::{Limits, Pot, Terms};
use tirami_manifest::owner::Decision;
use tirami_manifest::{AgentId, Amount};
use tirami_wallet::hold::VoidReason;
use tirami_wallet::intent::{Intent, IntentKey};
use tirami_wallet::ledger::mandate::DEPTH_MAX;
use tirami_wallet::ledger::rule::Rule;
use tirami_wallet::token::{agent_id, main_agent};
use tirami_wallet::{Hold, Wallet, WalletError};

use crate::world::{START, WORK, sound, trm};
use crate::{SOME_QUOTE, available, body_of, decide, founder, limits_of, number, request, terms};

async fn hold_as(wallet: &Wallet, agent: AgentId, name: &str, n: u64) -> Result<Hold, WalletError> {
    let intent = IntentKey::new(agent, name);
    match wallet.begin(intent, body_of(name)).await? {
        Intent::Attempt(attempt) => wallet.hold(request(attempt, n, SOME_QUOTE)).await,
        Intent::Answered(_) => panic!("{name} is answered"),
    }
}

async fn grant(wallet: &Wallet, parent: AgentId, name: &str) -> Result<AgentId, WalletError> {
    wallet
        .grant(parent, name.into(), terms(100, 200, 300))
        .await
}

fn by_owner(name: &str, parent: Option<AgentId>, terms: Terms) -> Decision {
    Decision::Grant {
        agent_name: name.into(),
        parent,
        terms: Box::new(terms),
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, WalletError>, with: &str) {
    match outcome {
        Err(WalletError::Mandate(text)) => assert!(text.contains(with), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_child_spends_its_parents_money_and_both_count_it() {
    let (wallet, _) = founder(1_000).await;
    let child = grant(&wallet, main_agent(), "child").await.unwrap();
    assert_eq!(child, agent_id("child"));
    assert_eq!(wallet.agent("child").unwrap(), child);
    let open = hold_as(&wallet, child, "a", 100).await.unwrap();
    assert_eq!(available(&wallet), trm(900));
    let budget = wallet.budget(&child).unwrap();
    let used: Vec<_> = budget
        .chain
        .iter()
        .map(|l| (l.agent, l.usage.used_in_all()))
        .collect();
    assert_eq!(used, [(child, trm(100)), (main_agent(), trm(100))]);
    assert_eq!((budget.left, budget.by), (trm(100), Rule::PerRequest));
    assert_eq!(budget.pots[1], (Pot::Earned, trm(900)));
    open.void(VoidReason::CalledOff).await.unwrap();
    assert_eq!(available(&wallet), trm(1_000));
    // Its own terms hold too, and the nearest is named.
    assert_eq!(number(hold_as(&wallet, child, "b", 101).await), 21);
    // Above one another, not beside.
    let leaf = grant(&wallet, child, "leaf").await.unwrap();
    let beside = grant(&wallet, main_agent(), "beside").await.unwrap();
    for (above, agent, is) in [
        (main_agent(), leaf, true),
        (child, leaf, true),
        (leaf, leaf, true),
        (leaf, child, false),
        (beside, leaf, false),
    ] {
        assert_eq!(wallet.is_above(&above, &agent).unwrap(), is);
    }
    assert_eq!(wallet.mandates().unwrap().len(), 4);
    sound(&wallet);
}

#[tokio::test]
async fn a_revocation_takes_everybody_below_and_a_new_grant_brings_back_only_whom_it_names() {
    let (wallet, _) = founder(1_000).await;
    let child = grant(&wallet, main_agent(), "child").await.unwrap();
    let leaf = grant(&wallet, child, "leaf").await.unwrap();
    let beside = grant(&wallet, main_agent(), "beside").await.unwrap();
    let open = hold_as(&wallet, leaf, "open", 50).await.unwrap();
    assert_eq!(wallet.revoke(child).await.unwrap(), [child, leaf]);
    refused(wallet.revoke(child).await, "revoked already");
    assert!(matches!(
        wallet.revoke(AgentId::from_bytes([9; 16])).await,
        Err(WalletError::UnknownAgent(_))
    ));
    for agent in [child, leaf] {
        assert_eq!(number(hold_as(&wallet, agent, "a", 1).await), 10);
        assert_eq!(wallet.budget(&agent).unwrap().left, Amount::ZERO);
        assert_eq!(wallet.budget(&agent).unwrap().by, Rule::Revoked);
        assert!(wallet.admits(&agent, WORK, Amount::ZERO).is_err());
    }
    hold_as(&wallet, beside, "a", 1)
        .await
        .unwrap()
        .leave_to_expire();
    // What was set aside before goes back where it was charged.
    open.void(VoidReason::CalledOff).await.unwrap();
    // One that is over grants nothing.
    refused(grant(&wallet, child, "late").await, "grants nothing");
    refused(grant(&wallet, leaf, "late").await, "grants nothing");
    // Whoever granted it may grant it anew; those below stay cut off until they are, too.
    grant(&wallet, main_agent(), "child").await.unwrap();
    hold_as(&wallet, child, "b", 1)
        .await
        .unwrap()
        .leave_to_expire();
    assert_eq!(number(hold_as(&wallet, leaf, "b", 1).await), 10);
    grant(&wallet, child, "leaf").await.unwrap();
    hold_as(&wallet, leaf, "c", 1)
        .await
        .unwrap()
        .leave_to_expire();
    // A mandate that holds is not replaced by another, but the owner may.
    refused(
        grant(&wallet, main_agent(), "child").await,
        "has a mandate already",
    );
    decide(
        &wallet,
        by_owner("child", Some(main_agent()), terms(7, 8, 9)),
    )
    .await
    .unwrap();
    assert_eq!(limits_of(&wallet, &child), terms(7, 8, 9).limits);
    assert_eq!(number(hold_as(&wallet, leaf, "d", 1).await), 10);
    let cut_off = wallet.budget(&leaf).unwrap().chain;
    assert_eq!(
        cut_off.iter().map(|link| link.cut_off).collect::<Vec<_>>(),
        [true, false, false]
    );
    refused(grant(&wallet, leaf, "late").await, "grants nothing");
    // The main agent itself may be revoked, and then nobody spends.
    assert_eq!(wallet.revoke(main_agent()).await.unwrap().len(), 4);
    for agent in [main_agent(), child, leaf, beside] {
        assert_eq!(number(hold_as(&wallet, agent, "e", 1).await), 10);
    }
    decide(&wallet, by_owner("main", None, Terms::standard()))
        .await
        .unwrap();
    hold_as(&wallet, main_agent(), "f", 1)
        .await
        .unwrap()
        .leave_to_expire();
    assert_eq!(number(hold_as(&wallet, beside, "f", 1).await), 10);
    sound(&wallet);
}

#[tokio::test]
async fn a_name_is_one_agents_and_a_tree_has_an_end() {
    let (wallet, _) = founder(1_000).await;
    let child = grant(&wallet, main_agent(), "child").await.unwrap();
    let beside = grant(&wallet, main_agent(), "beside").await.unwrap();
    refused(grant(&wallet, beside, "child").await, "taken by another");
    refused(grant(&wallet, child, "main").await, "taken by another");
    refused(grant(&wallet, child, "").await, "1 to 32 bytes");
    refused(
        grant(&wallet, child, &"x".repeat(33)).await,
        "1 to 32 bytes",
    );
    grant(&wallet, child, &"x".repeat(32)).await.unwrap();
    let nobody = grant(&wallet, AgentId::from_bytes([9; 16]), "late").await;
    assert_eq!(number(nobody), 9);
    refused(
        decide(&wallet, by_owner("child", None, Terms::standard())).await,
        "from somebody else",
    );
    let mut parent = main_agent();
    for depth in 1..=DEPTH_MAX {
        parent = grant(&wallet, parent, &format!("depth {depth}"))
            .await
            .unwrap();
    }
    hold_as(&wallet, parent, "deep", 1)
        .await
        .unwrap()
        .leave_to_expire();
    refused(grant(&wallet, parent, "too deep").await, "the most");
    // Nothing of what was refused is there.
    assert!(wallet.agent("late").is_err() && wallet.agent("too deep").is_err());
    assert_eq!(
        wallet.mandates().unwrap().len(),
        wallet.agents().unwrap().len()
    );
    sound(&wallet);
}

#[tokio::test]
async fn an_agent_of_the_owners_has_an_account_of_its_own_and_what_the_owner_moves_there() {
    let (wallet, _) = founder(1_000).await;
    decide(&wallet, by_owner("helper", None, terms(100, 200, 300)))
        .await
        .unwrap();
    let helper = wallet.agent("helper").unwrap();
    assert_eq!(number(hold_as(&wallet, helper, "a", 1).await), 31);
    let fund = |n, from_pot, to_pot| Decision::Fund {
        from: main_agent(),
        from_pot,
        to: helper,
        to_pot,
        amount: trm(n),
    };
    assert_eq!(
        number(decide(&wallet, fund(1, Pot::Seed, Pot::Seed)).await),
        31
    );
    assert_eq!(
        number(decide(&wallet, fund(0, Pot::Earned, Pot::Seed)).await),
        2
    );
    decide(&wallet, fund(150, Pot::Earned, Pot::Restricted))
        .await
        .unwrap();
    // Set apart: it pays only for what a rule names.
    assert_eq!(number(hold_as(&wallet, helper, "a", 1).await), 28);
    assert_eq!(wallet.budget(&helper).unwrap().left, Amount::ZERO);
    decide(&wallet, fund(60, Pot::Earned, Pot::Borrowed))
        .await
        .unwrap();
    hold_as(&wallet, helper, "a", 60)
        .await
        .unwrap()
        .leave_to_expire();
    assert_eq!(number(hold_as(&wallet, helper, "b", 1).await), 28);
    assert_eq!(available(&wallet), trm(790));
    assert_eq!(wallet.balance(&helper).unwrap().available, trm(150));
    let nobody = Decision::Fund {
        from: main_agent(),
        from_pot: Pot::Earned,
        to: AgentId::from_bytes([9; 16]),
        to_pot: Pot::Seed,
        amount: trm(1),
    };
    let lost = decide(&wallet, nobody).await;
    assert!(
        matches!(lost, Err(WalletError::UnknownAgent(_))),
        "{lost:?}"
    );
    sound(&wallet);
}

#[tokio::test]
async fn explaining_and_the_spend_itself_agree_and_explaining_changes_nothing() {
    let (wallet, clock) = founder(1_000).await;
    let child = grant(&wallet, main_agent(), "child").await.unwrap();
    hold_as(&wallet, child, "a", 100)
        .await
        .unwrap()
        .leave_to_expire();
    let rows = |wallet: &Wallet| {
        (
            wallet.accounts().unwrap(),
            wallet.history(None, 99).unwrap().len(),
        )
    };
    let before = rows(&wallet);
    for n in [1, 100, 101, 150, 250, 1_001] {
        let explained = wallet.explain(&child, WORK, trm(n), None).unwrap();
        let first = explained.findings.iter().find(|finding| !finding.passes);
        let refusal = explained.refusal.map(|refusal| refusal.number());
        assert_eq!(first.map(|finding| finding.rule.number()), refusal, "{n}");
        assert_eq!(rows(&wallet), before);
        let admitted = wallet.admits(&child, WORK, trm(n));
        assert_eq!(admitted.is_ok(), refusal.is_none(), "{n}");
    }
    let ordered = wallet.explain(&child, WORK, trm(1), None).unwrap().findings;
    assert!(ordered.windows(2).all(|two| two[0].rule <= two[1].rule));
    assert_eq!(
        number(wallet.explain(&AgentId::from_bytes([9; 16]), WORK, trm(1), None)),
        9
    );
    // Half of the hour's 200 was told of, and nothing since.
    let told: Vec<_> = wallet
        .alerts(9)
        .unwrap()
        .iter()
        .map(|a| (a.agent, a.rule, a.percent))
        .collect();
    assert_eq!(told, [(child, Rule::Hour, 50)]);
    clock.set(START.after_ms(1));
    hold_as(&wallet, child, "b", 90)
        .await
        .unwrap()
        .leave_to_expire();
    let told = wallet.alerts(9).unwrap();
    assert_eq!(
        (told[0].rule, told[0].percent, told.len()),
        (Rule::Lifetime, 50, 3)
    );
    assert_eq!((told[1].rule, told[1].percent), (Rule::Hour, 95));
    assert_eq!(wallet.alerts(1).unwrap().len(), 1);
    assert_eq!(limits_of(&wallet, &main_agent()), Limits::DEFAULT);
}
