//! What a mandate that travels lets its holders spend, and what it does not.

use std::time::Duration;

use tirami_agent_runtime::FailureCode;
use tirami_agent_runtime::ops::{
    AcceptMandate, Balance, Freeze, GiveBackMandate, HandOutMandate, Quote, ReclaimAllMandates,
    ReclaimMandate, TightenBudget,
};
use tirami_manifest::mandate::Terms;
use tirami_manifest::{Amount, Clock, GrantId, trm};

use crate::net::{
    Net, accept, agree, balance, chat, hand_out, handed, heard, held, join, out, run, sum,
};

/// How a request to hand out is changed.
type Ask = fn(&mut HandOutMandate);

#[tokio::test]
async fn a_pinned_mandate_is_spent_while_its_payer_is_away_and_what_is_left_comes_back() {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    let mandate = handed(
        &parent,
        &child,
        hand_out(&child, trm!("50"), Some(founder.node())),
    )
    .await;
    assert_eq!(balance(&parent).await, (trm!("950"), trm!("50"), trm!("0")));
    parent.shutdown().await;
    let answer = run(&child, chat("one two three", mandate)).await.unwrap();
    assert_eq!(answer.text.trim(), "one two three");
    assert!(answer.trm_cost > Amount::ZERO);
    assert_eq!(answer.payer, Some(parent.node()));
    // It cost the child nothing; the founder has it, out of what it keeps for the parent.
    assert_eq!(balance(&child).await, (trm!("1000"), trm!("0"), trm!("0")));
    let sold = run(&founder, Balance {}).await.unwrap();
    assert_eq!(sold.trm_earned, answer.trm_cost);
    let left = held(&child, mandate).await;
    let rest = trm!("50").checked_sub(answer.trm_cost).unwrap();
    assert_eq!(left.trm_free, rest);
    // The parent hears of it when it is back, once.
    let parent = net.node(1).await;
    heard(&parent, &answer).await;
    let after = out(&parent, mandate).await;
    assert_eq!((after.trm_drawn, after.trm_out), (answer.trm_cost, rest));
    assert_eq!(
        balance(&parent).await,
        (trm!("950"), rest, answer.trm_cost),
        "spent, and the rest set aside"
    );
    agree(&founder, &[&parent, &child]).await;
    let back = run(&parent, ReclaimMandate { mandate }).await.unwrap();
    assert_eq!(
        (back.trm_came_back, back.mandate.state.as_str()),
        (rest, "closed")
    );
    let all_but = trm!("1000").checked_sub(answer.trm_cost).unwrap();
    assert_eq!(
        balance(&parent).await,
        (all_but, trm!("0"), answer.trm_cost)
    );
    let again = run(&parent, ReclaimMandate { mandate }).await.unwrap();
    assert_eq!(again.trm_came_back, Amount::ZERO);
    let refused = run(&child, chat("more", mandate)).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::NotAllowed, "{refused}");
    assert!(refused.message.contains("went back"), "{refused}");
    agree(&founder, &[&parent, &child]).await;
}

#[tokio::test]
async fn without_a_pin_the_payer_is_asked_before_each_job_and_its_freeze_holds() {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    let mandate = handed(&parent, &child, hand_out(&child, trm!("50"), None)).await;
    let answer = run(&child, chat("hello there", mandate)).await.unwrap();
    heard(&parent, &answer).await;
    assert_eq!(out(&parent, mandate).await.trm_drawn, answer.trm_cost);
    agree(&founder, &[&parent, &child]).await;
    // While it cannot be asked, nothing is bought, and the reason is said.
    parent.shutdown().await;
    let earned = run(&founder, Balance {}).await.unwrap().trm_earned;
    let mut key = chat("and again", mandate);
    key.idempotency_key = Some("later".into());
    let refused = run(&child, key.clone()).await.unwrap_err();
    assert!(refused.message.contains("cannot be reached"), "{refused}");
    assert!(refused.retryable, "{refused:?}");
    let left = trm!("50").checked_sub(answer.trm_cost).unwrap();
    assert_eq!(
        held(&child, mandate).await.trm_free,
        left,
        "it costs no units"
    );
    let now = run(&founder, Balance {}).await.unwrap();
    assert_eq!(now.trm_earned, earned);
    let parent = net.node(1).await;
    let later = run(&child, key).await.unwrap();
    heard(&parent, &later).await;
    let freeze = Freeze {
        reason: Some("drill".into()),
    };
    run(&parent, freeze).await.unwrap();
    let refused = run(&child, chat("frozen", mandate)).await.unwrap_err();
    assert!(refused.message.contains("frozen"), "{refused}");
    let spent = sum(&[answer.trm_cost, later.trm_cost]);
    assert_eq!(out(&parent, mandate).await.trm_drawn, spent);
    assert_eq!(balance(&child).await, (trm!("1000"), trm!("0"), trm!("0")));
    agree(&founder, &[&parent, &child]).await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table is one list")]
async fn what_is_handed_out_counts_against_the_agent_and_only_what_it_may_itself() {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    let mut terms = Terms::standard();
    terms.limits.hour_trm = trm!("60");
    terms.limits.per_request_trm = trm!("60");
    terms.limits.approval_above_trm = Some(trm!("40"));
    terms.limits.price_ceiling_trm = Some(trm!("2"));
    terms.scope.payees.allow = Some([founder.node()].into());
    let tighten = TightenBudget {
        agent: None,
        terms: terms.clone(),
    };
    run(&parent, tighten).await.unwrap();
    let pin = Some(founder.node());
    // (what is asked, the code, a word of the reason)
    let refused: [(Ask, FailureCode, &str); 6] = [
        (
            |o| o.trm_amount = trm!("61"),
            FailureCode::OverBudget,
            "per-request",
        ),
        (
            |o| o.trm_amount = trm!("41"),
            FailureCode::ApprovalRequired,
            "approval",
        ),
        (
            |o| o.per_request_trm = Some(trm!("60.000001")),
            FailureCode::InvalidInput,
            "per_request_trm",
        ),
        (
            |o| o.price_ceiling_trm = Some(trm!("2.1")),
            FailureCode::InvalidInput,
            "price_ceiling",
        ),
        (
            |o| o.payees = vec![o.to],
            FailureCode::InvalidInput,
            "payee",
        ),
        (
            |o| o.valid_s = Some(0),
            FailureCode::InvalidInput,
            "valid_s",
        ),
    ];
    for (how, code, word) in refused {
        let mut op = hand_out(&child, trm!("30"), pin);
        how(&mut op);
        let failure = run(&parent, op).await.unwrap_err();
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message.contains(word), "{failure}");
        assert_eq!(balance(&parent).await.1, Amount::ZERO);
    }
    // The same key hands out once; the same key for something else is refused.
    let mut op = hand_out(&child, trm!("30"), pin);
    op.idempotency_key = Some("once".into());
    let first = run(&parent, op.clone()).await.unwrap();
    assert_eq!(run(&parent, op.clone()).await.unwrap(), first);
    op.trm_amount = trm!("31");
    let other = run(&parent, op).await.unwrap_err();
    assert_eq!(other.code, FailureCode::IdempotencyKeyReused);
    assert_eq!(balance(&parent).await.1, trm!("30"));
    // The hour is counted for what was handed out, and given back with it.
    let more = hand_out(&child, trm!("31"), pin);
    let refused = run(&parent, more.clone()).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::OverBudget, "{refused}");
    let mandate = first.mandate;
    run(&parent, ReclaimMandate { mandate }).await.unwrap();
    run(&parent, more).await.unwrap();
    // Quiet hours need the payer's word, so they do not travel with a pin.
    terms.quiet_hours = Some(tirami_manifest::mandate::QuietHours {
        from_minute: 0,
        to_minute: 1,
        utc_offset_minutes: 0,
    });
    run(&parent, TightenBudget { agent: None, terms })
        .await
        .unwrap();
    let quiet = run(&parent, hand_out(&child, trm!("1"), pin)).await;
    assert!(quiet.unwrap_err().message.contains("quiet hours"));
    run(&parent, hand_out(&child, trm!("1"), None))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_mandate_for_no_stated_time_ends_with_what_it_comes_from() {
    const DAY_MS: u64 = 86_400_000;
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    let grandchild = net.node(3).await;
    join(&founder, &grandchild).await;
    let start = net.clock.now();
    let unsaid = |to| {
        let mut op = hand_out(to, trm!("10"), None);
        op.valid_s = None;
        op
    };
    let ends = async |by: &_, mandate| out(by, mandate).await.expires_at;
    let at = |ms| start.after_ms(ms).to_rfc3339();
    let week = handed(&parent, &child, unsaid(&child)).await;
    assert_eq!(ends(&parent, week).await, at(7 * DAY_MS));
    let terms = Terms {
        expires: Some(start.after_ms(3 * DAY_MS)),
        ..Terms::standard()
    };
    let tighten = TightenBudget { agent: None, terms };
    run(&parent, tighten).await.unwrap();
    let three_days = handed(&parent, &child, unsaid(&child)).await;
    assert_eq!(ends(&parent, three_days).await, at(3 * DAY_MS));
    let mut on = unsaid(&grandchild);
    on.from = Some(three_days);
    on.depth_left = 0;
    let below = handed(&child, &grandchild, on).await;
    assert_eq!(ends(&child, below).await, at(3 * DAY_MS));
    // What is said and too long is still refused.
    let mut long = unsaid(&child);
    long.valid_s = Some(4 * DAY_MS / 1_000);
    let refused = run(&parent, long).await.unwrap_err();
    assert!(refused.message.contains("expires"), "{refused}");
}

#[tokio::test]
async fn a_holder_cannot_spend_more_than_it_was_handed_and_not_as_another() {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    let stranger = net.node(3).await;
    join(&founder, &stranger).await;
    let mut op = hand_out(&child, trm!("0.2"), Some(founder.node()));
    op.per_request_trm = Some(trm!("0.1"));
    let handed_out = run(&parent, op).await.unwrap();
    let stolen = AcceptMandate {
        text: handed_out.text.clone(),
        agent: None,
    };
    let refused = run(&stranger, stolen).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::InvalidInput, "{refused}");
    let damaged = AcceptMandate {
        text: handed_out.text.replace('A', "B"),
        agent: None,
    };
    assert!(run(&child, damaged).await.is_err());
    accept(&child, &handed_out).await;
    let mandate = handed_out.mandate;
    let elsewhere = run(&stranger, chat("mine?", mandate)).await.unwrap_err();
    assert_eq!(elsewhere.code, FailureCode::NotFound, "{elsewhere}");
    let mut spent = Vec::new();
    let mut dear = chat(&"word ".repeat(300), mandate);
    dear.max_tokens = Some(2_000);
    let refused = run(&child, dear).await.unwrap_err();
    assert!(
        refused.message.contains("one request may take"),
        "{refused}"
    );
    let failure = loop {
        match run(&child, chat("a b c d e f g h", mandate)).await {
            Ok(answer) => spent.push(answer.trm_cost),
            Err(failure) => break failure,
        }
        assert!(spent.len() < 1_000);
    };
    assert_eq!(failure.code, FailureCode::OverBudget, "{failure}");
    assert!(spent.len() > 1 && sum(&spent) <= trm!("0.2"));
    let sold = run(&founder, Balance {}).await.unwrap();
    assert_eq!(sold.trm_earned, sum(&spent));
    assert_eq!(balance(&child).await.2, Amount::ZERO);
}

#[tokio::test]
async fn a_copied_wallet_spends_no_unit_twice() {
    for pinned in [true, false] {
        let net = Net::new();
        let [founder, parent, child] = net.three().await;
        let pinned = pinned.then(|| founder.node());
        let mandate = handed(&parent, &child, hand_out(&child, trm!("5"), pinned)).await;
        // A dishonest holder keeps a copy of its books from before it spends.
        let folder = net.copy(2, &child).await;
        for _ in 0..2 {
            run(&child, chat("a b c d e f", mandate)).await.unwrap();
        }
        let earned = run(&founder, Balance {}).await.unwrap().trm_earned;
        // Both have one address; the last to come answers there.
        let copy = net.node_at(folder.path(), false).await;
        assert!(held(&copy, mandate).await.trm_left > Amount::ZERO);
        let refused = run(&copy, chat("a b c d e f", mandate)).await.unwrap_err();
        assert!(refused.message.contains("are used"), "{refused}");
        let after = run(&founder, Balance {}).await.unwrap().trm_earned;
        assert_eq!(after, earned, "nothing more was sold");
    }
}

#[tokio::test]
async fn a_mandate_is_handed_on_narrower_and_both_draw_on_the_same_units() {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    let grandchild = net.node(3).await;
    join(&founder, &grandchild).await;
    let pin = Some(founder.node());
    let mandate = handed(&parent, &child, hand_out(&child, trm!("10"), pin)).await;
    let on = |amount| HandOutMandate {
        from: Some(mandate),
        pinned: None,
        depth_left: 0,
        valid_s: Some(3_600),
        ..hand_out(&grandchild, amount, None)
    };
    let refused: [(Ask, &str); 5] = [
        (|o| o.trm_amount = trm!("10.1"), "in a row"),
        (|o| o.per_request_trm = Some(trm!("10.1")), "per_request"),
        (|o| o.valid_s = Some(100_000), "expires"),
        (|o| o.depth_left = 1, "depth_left"),
        (|o| o.payees = vec![o.to], "payees"),
    ];
    for (how, word) in refused {
        let mut op = on(trm!("4"));
        how(&mut op);
        let failure = run(&child, op).await.unwrap_err();
        assert!(failure.message.contains(word), "{failure}");
    }
    // Handing on moves nobody's money and asks nobody.
    founder.shutdown().await;
    parent.shutdown().await;
    let below = handed(&child, &grandchild, on(trm!("4"))).await;
    assert_eq!(held(&child, mandate).await.trm_free, trm!("6"));
    let founder = net.node(0).await;
    let by_child = run(&child, chat("for me", mandate)).await.unwrap();
    let by_grandchild = run(&grandchild, chat("for me too", below)).await.unwrap();
    let parent = net.node(1).await;
    for answer in [&by_child, &by_grandchild] {
        heard(&parent, answer).await;
    }
    let both = sum(&[by_child.trm_cost, by_grandchild.trm_cost]);
    assert_eq!(out(&parent, mandate).await.trm_drawn, both);
    // The grandchild gives back, and its parent may hand that out anew.
    let given = run(&grandchild, GiveBackMandate { mandate: below })
        .await
        .unwrap();
    let left = trm!("4").checked_sub(by_grandchild.trm_cost).unwrap();
    assert_eq!(
        (given.trm_given_back, given.mandate.state.as_str()),
        (left, "given_back")
    );
    assert!(run(&grandchild, chat("more", below)).await.is_err());
    net.clock.advance_ms(3_600_000 + 61_000);
    let back = run(&child, ReclaimMandate { mandate: below })
        .await
        .unwrap();
    assert_eq!(back.trm_came_back, left);
    // The parent takes all of it back over everybody's head.
    let came = run(&parent, ReclaimMandate { mandate }).await.unwrap();
    assert_eq!(came.trm_came_back, trm!("10").checked_sub(both).unwrap());
    assert!(run(&child, chat("still?", mandate)).await.is_err());
    agree(&founder, &[&parent, &child, &grandchild]).await;
}

#[tokio::test]
async fn a_seller_pays_for_what_it_handed_out_itself() {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    // So that the founder has something.
    let mut bought = chat("some words to pay for", GrantId::from_bytes([0; 32]));
    bought.mandate = None;
    for _ in 0..3 {
        run(&parent, bought.clone()).await.unwrap();
    }
    let (had, _, _) = balance(&founder).await;
    let mandate = handed(&founder, &child, hand_out(&child, had, None)).await;
    assert_eq!(balance(&founder).await.0, Amount::ZERO);
    let answer = run(&child, chat("x", mandate)).await.unwrap();
    let after = out(&founder, mandate).await;
    assert_eq!(after.trm_drawn, answer.trm_cost);
    assert_eq!(
        balance(&founder).await.0,
        answer.trm_cost,
        "it earned what it paid"
    );
    let back = run(&founder, ReclaimMandate { mandate }).await.unwrap();
    assert_eq!(back.mandate.state, "closed");
    assert_eq!(balance(&founder).await.0, had);
    assert_eq!(balance(&child).await.0, trm!("1000"));
    agree(&founder, &[&parent, &child]).await;
}

#[tokio::test]
async fn a_wire_cut_at_any_frame_spends_no_unit_twice_and_loses_none() {
    // Each has a network of its own, and waits for its outboxes at the same time.
    let mut cuts = tokio::task::JoinSet::new();
    for frame in 0..16 {
        cuts.spawn(a_cut(true, frame));
        cuts.spawn(a_cut(false, frame));
    }
    while let Some(cut) = cuts.join_next().await {
        cut.unwrap();
    }
}

async fn a_cut(pinned: bool, frame: u64) {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    let pin = pinned.then(|| founder.node());
    let mandate = handed(&parent, &child, hand_out(&child, trm!("5"), pin)).await;
    let mut request = chat("a b c d", mandate);
    request.idempotency_key = Some("cut".into());
    // Between child and provider, and where the payer is asked also there.
    let pairs = [(&founder, &child), (&founder, &parent)];
    for (a, b) in pairs {
        net.network.cut_after(a.node(), b.node(), frame);
    }
    let first = run(&child, request.clone()).await;
    for (a, b) in pairs {
        net.network.heal(a.node(), b.node());
    }
    let answer = run(&child, request).await.unwrap();
    if let Ok(first) = &first {
        assert_eq!(first.receipt, answer.receipt, "frame {frame}");
    }
    heard(&founder, &answer).await;
    heard(&parent, &answer).await;
    let after = out(&parent, mandate).await;
    assert_eq!(after.trm_drawn, answer.trm_cost, "frame {frame}: paid once");
    let sold = run(&founder, Balance {}).await.unwrap();
    assert_eq!(
        sold.trm_earned, answer.trm_cost,
        "frame {frame}: earned once"
    );
    // What nobody answered for comes free when the spend is over.
    net.clock.advance_ms(3_600_000 + 61_000);
    let back = run(&parent, ReclaimMandate { mandate }).await.unwrap();
    let rest = trm!("5").checked_sub(answer.trm_cost).unwrap();
    assert_eq!(back.trm_came_back, rest, "frame {frame}");
    assert_eq!(back.mandate.state, "closed", "frame {frame}");
    agree(&founder, &[&parent, &child]).await;
}

#[tokio::test]
async fn many_spenders_at_once_never_take_more_than_was_handed_out() {
    for pinned in [true, false] {
        let net = Net::new();
        let [founder, parent, child] = net.three().await;
        let pin = pinned.then(|| founder.node());
        let whole = trm!("1");
        let mandate = handed(&parent, &child, hand_out(&child, whole, pin)).await;
        let mut spenders = tokio::task::JoinSet::new();
        for n in 0..24 {
            let child = child.clone();
            let chat = chat(&format!("{n} a b c d e f g"), mandate);
            spenders.spawn(async move { run(&child, chat).await });
        }
        let (mut costs, mut refused) = (Vec::new(), 0);
        while let Some(ended) = spenders.join_next().await {
            match ended.unwrap() {
                Ok(answer) => costs.push(answer.trm_cost),
                Err(failure) => {
                    // Never because two of them were given the same units.
                    assert_eq!(failure.code, FailureCode::OverBudget, "{failure}");
                    refused += 1;
                }
            }
        }
        assert!(
            !costs.is_empty() && refused > 0,
            "{} {refused}",
            costs.len()
        );
        let drawn = sum(&costs);
        assert!(drawn <= whole);
        let told = async {
            while out(&parent, mandate).await.trm_drawn != drawn {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told)
            .await
            .unwrap();
        let sold = run(&founder, Balance {}).await.unwrap();
        assert_eq!(sold.trm_earned, drawn);
        agree(&founder, &[&parent, &child]).await;
    }
}

#[tokio::test]
async fn voiding_ends_every_mandate_and_new_ones_hold() {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    let pin = Some(founder.node());
    let asked = handed(&parent, &child, hand_out(&child, trm!("5"), None)).await;
    let pinned = handed(&parent, &child, hand_out(&child, trm!("7"), pin)).await;
    let answer = run(&child, chat("before", asked)).await.unwrap();
    let all = run(&parent, ReclaimAllMandates {}).await.unwrap();
    assert!(all.failures.is_empty(), "{all:?}");
    assert!(
        all.mandates.iter().all(|one| one.state == "closed"),
        "{all:?}"
    );
    assert_eq!(
        all.trm_came_back,
        trm!("12").checked_sub(answer.trm_cost).unwrap()
    );
    for mandate in [asked, pinned] {
        let refused = run(&child, chat("after", mandate)).await.unwrap_err();
        assert_eq!(refused.code, FailureCode::NotAllowed, "{refused}");
    }
    for pin in [None, pin] {
        let mandate = handed(&parent, &child, hand_out(&child, trm!("5"), pin)).await;
        run(&child, chat("again", mandate)).await.unwrap();
    }
    agree(&founder, &[&child]).await;
}

#[tokio::test]
async fn what_cannot_be_taken_back_stays_set_aside_and_survives_a_restart() {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    let pin = Some(founder.node());
    let mandate = handed(&parent, &child, hand_out(&child, trm!("20"), pin)).await;
    founder.shutdown().await;
    let unreachable = run(&parent, ReclaimMandate { mandate }).await.unwrap_err();
    assert!(
        unreachable
            .hint
            .is_some_and(|hint| hint.contains("set aside"))
    );
    parent.shutdown().await;
    let parent = net.node(1).await;
    net.clock.advance_ms(200_000);
    assert_eq!(balance(&parent).await, (trm!("980"), trm!("20"), trm!("0")));
    assert_eq!(out(&parent, mandate).await.trm_out, trm!("20"));
    let founder = net.node(0).await;
    let answer = run(&child, chat("still good", mandate)).await.unwrap();
    heard(&parent, &answer).await;
    agree(&founder, &[&parent, &child]).await;
    // A price under it binds like any other.
    let quote = Quote {
        prompt: "hello".into(),
        model: None,
        max_tokens: Some(10),
    };
    assert!(run(&child, quote).await.unwrap().within_budget);
}
