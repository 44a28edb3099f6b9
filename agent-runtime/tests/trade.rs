//! Two whole nodes over a wire in memory, with the echo engine: the paths of money and work.
#![expect(
    clippy::unwrap_used,
    reason = "a test's fixtures stop it when they fail"
)]

use std::sync::Arc;

use tirami_agent_runtime::ops::{
    Approvals, Audit, Balance, BalanceOutput, Caller, Chat, Deny, Freeze, GetReceipt, History,
    Join, MakeTicket, Obey, Operation, SetOwner, TightenBudget,
};
use tirami_agent_runtime::{Builder, Failure, FailureCode, NodeConfig, Runtime};
use tirami_manifest::id::to_hex;
use tirami_manifest::job::{Message, Role};
use tirami_manifest::key::SecretKey;
use tirami_manifest::mandate::{Limits, Terms};
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::signed::Signed;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{Amount, Timestamp, trm};
use tirami_mesh::engine::echo::Echo;
use tirami_mesh::net::memory::MemoryNetwork;
use tirami_wallet::claims::CLAIMED_WITHIN_MS;
use tirami_wallet::keystore::node_key;

#[path = "trade/buying.rs"]
mod buying;
#[path = "trade/dishonest.rs"]
mod dishonest;
#[path = "trade/selling.rs"]
mod selling;

struct Pair {
    founder: Runtime,
    member: Runtime,
    network: MemoryNetwork,
    clock: Arc<ManualClock>,
    folders: (tempfile::TempDir, tempfile::TempDir),
}

fn config(folder: &tempfile::TempDir, sells: bool) -> NodeConfig {
    let mut config = NodeConfig::new(folder.path());
    config.model = sells.then_some(tirami_mesh::models::Source::Echo);
    config
}

async fn node(
    network: &MemoryNetwork,
    clock: &Arc<ManualClock>,
    folder: &tempfile::TempDir,
    sells: bool,
) -> Runtime {
    let key = node_key(&folder.path().join("node.key"), None).unwrap();
    let transport = Arc::new(network.transport(key.id()));
    let builder = Builder::new(config(folder, sells))
        .clock(clock.clone())
        .transport(transport);
    let builder = if sells {
        builder.engine(Arc::new(Echo))
    } else {
        builder
    };
    builder.start().await.unwrap()
}

async fn pair() -> Pair {
    let folders = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clock = Arc::new(ManualClock::at(Timestamp::from_ms(1_800_000_000_000)));
    let network = MemoryNetwork::new();
    let founder = node(&network, &clock, &folders.0, true).await;
    let member = node(&network, &clock, &folders.1, false).await;
    let ticket = run(&founder, MakeTicket {}).await.unwrap().ticket;
    let joined = run(&member, Join { ticket }).await.unwrap();
    assert_eq!(joined.trm_welcome_loan, Some(trm!("1000")));
    Pair {
        founder,
        member,
        network,
        clock,
        folders,
    }
}

fn me(runtime: &Runtime) -> Caller {
    runtime.caller(runtime.token()).unwrap()
}

async fn run<O: Operation>(runtime: &Runtime, mut op: O) -> Result<O::Output, Failure> {
    op.prepare();
    op.run(runtime, me(runtime), None).await
}

fn chat(text: &str) -> Chat {
    Chat::new(vec![Message {
        role: Role::User,
        content: text.into(),
    }])
}

async fn holds(runtime: &Runtime) -> bool {
    run(runtime, Audit::default()).await.unwrap().holds
}

#[tokio::test]
async fn a_paid_chat_moves_what_the_receipt_says_on_both_sides() {
    let pair = pair().await;
    let answer = run(&pair.member, chat("one two three")).await.unwrap();
    assert_eq!(answer.text.trim(), "one two three");
    assert!(answer.trm_cost > Amount::ZERO);
    let id = answer.receipt.unwrap();
    let there = run(&pair.founder, GetReceipt { receipt: id })
        .await
        .unwrap();
    let here = run(&pair.member, GetReceipt { receipt: id }).await.unwrap();
    assert_eq!(there, here);
    assert_eq!(here.trm_amount, answer.trm_cost);
    let seller = run(&pair.founder, Balance {}).await.unwrap();
    let buyer = run(&pair.member, Balance {}).await.unwrap();
    assert_eq!(seller.trm_earned, answer.trm_cost);
    assert_eq!(seller.trm_balance, answer.trm_cost);
    assert_eq!(buyer.trm_spent, answer.trm_cost);
    assert_eq!(
        buyer.trm_balance,
        trm!("1000").checked_sub(answer.trm_cost).unwrap()
    );
    let kept = seller.members.first().map(|member| member.trm_balance);
    assert_eq!(kept, Some(buyer.trm_balance));
    assert_eq!(buyer.trm_owed, trm!("1000"));
    assert!(holds(&pair.founder).await && holds(&pair.member).await);
}

#[tokio::test]
async fn the_same_key_pays_once_and_answers_the_same() {
    let pair = pair().await;
    let mut request = chat("say it once");
    request.idempotency_key = Some("order-1".into());
    let first = run(&pair.member, request.clone()).await.unwrap();
    let second = run(&pair.member, request.clone()).await.unwrap();
    assert!(second.replayed && !first.replayed);
    assert_eq!(first.text, second.text);
    assert_eq!(first.receipt, second.receipt);
    assert_eq!(
        run(&pair.member, Balance {}).await.unwrap().trm_spent,
        first.trm_cost
    );
    request.messages = chat("something else").messages;
    let refused = run(&pair.member, request).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::IdempotencyKeyReused);
}

/// Waits until the seller, which keeps the buyer's account, has booked all that the buyer owes it.
async fn both_agree(pair: &Pair, what: &str) -> (BalanceOutput, BalanceOutput) {
    let agree = async {
        loop {
            let buyer = run(&pair.member, Balance {}).await.unwrap();
            let seller = run(&pair.founder, Balance {}).await.unwrap();
            let kept = seller.members.first().map(|member| member.trm_balance);
            let has = [buyer.trm_balance, buyer.trm_held, buyer.trm_unclaimed];
            let has = has
                .into_iter()
                .fold(Amount::ZERO, |sum, part| sum.checked_add(part).unwrap());
            if kept == Some(has) {
                return (buyer, seller);
            }
            tokio::task::yield_now().await;
        }
    };
    let agreed = tokio::time::timeout(std::time::Duration::from_secs(30), agree).await;
    agreed.unwrap_or_else(|_| panic!("{what}: the books never agree"))
}

/// A key is its first request's, also when whoever asked is gone at once.
#[tokio::test]
async fn a_request_that_is_dropped_at_once_keeps_its_key_and_is_paid_once_when_it_is_asked_again() {
    let pair = pair().await;
    let mut request = chat("a b c");
    request.idempotency_key = Some("dropped".into());
    let mut first = Box::pin(run(&pair.member, request.clone()));
    std::future::poll_fn(|context| {
        let polled = first.as_mut().poll(context);
        assert!(polled.is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    drop(first);
    let mut other = chat("something else");
    other.idempotency_key = request.idempotency_key.clone();
    let refused = run(&pair.member, other).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::IdempotencyKeyReused);
    let answer = run(&pair.member, request.clone()).await.unwrap();
    let again = run(&pair.member, request).await.unwrap();
    assert_eq!((answer.receipt, again.replayed), (again.receipt, true));
    let left = trm!("1000").checked_sub(answer.trm_cost).unwrap();
    let buyer = run(&pair.member, Balance {}).await.unwrap();
    assert_eq!((buyer.trm_balance, buyer.trm_held), (left, Amount::ZERO));
}

/// What a break costs the buyer: nothing but what was vouched for, of what it got or had to prepay.
async fn a_break_is_bounded(pair: &Pair, what: &str) {
    let mut request = chat("a b c d e f g h i j k l m n o p q r s t");
    request.idempotency_key = Some("cut".into());
    let first = run(&pair.member, request.clone()).await;
    pair.network.heal(pair.founder.node(), pair.member.node());
    let again = run(&pair.member, request).await.unwrap();
    if let Ok(first) = &first {
        assert_eq!(first.receipt, again.receipt, "{what}");
    }
    // What the provider can prove it claims; a promise that never arrived nobody claims.
    let claimed = async {
        while !run(&pair.member, Balance {})
            .await
            .unwrap()
            .trm_unclaimed
            .is_zero()
        {
            tokio::task::yield_now().await;
        }
    };
    let claimed = tokio::time::timeout(std::time::Duration::from_secs(8), claimed).await;
    let (buyer, _) = both_agree(pair, what).await;
    if claimed.is_err() {
        // The first promise is for the prompt, before anything was sent.
        assert_eq!(buyer.trm_unclaimed, trm!("0.021"), "{what}");
    }
    // The prompt has 21 tokens at 0.001 TRM, the answer 20 at 0.002: no more than that is vouched for, and of
    // that what the provider cannot prove comes back.
    let whole = trm!("0.061");
    let lost = buyer.trm_spent.saturating_sub(again.trm_cost);
    assert!(lost <= whole, "{what}: {lost}");
    let kept = trm!("1000")
        .saturating_sub(again.trm_cost)
        .saturating_sub(buyer.trm_balance);
    assert!(kept <= lost, "{what}: {kept}");
    if let Err(failure) = &first {
        let owed = format!("{lost} TRM are owed");
        let said = lost.is_zero() || failure.message.contains(&owed);
        assert!(said, "{what}: {lost} of {failure}");
    }
    // A reservation of an attempt that broke off ends with its time, and so does a promise.
    pair.clock.advance_ms(121_000);
    let unclaimed = buyer.trm_unclaimed;
    let buyer = run(&pair.member, Balance {}).await.unwrap();
    assert_eq!(buyer.trm_held, Amount::ZERO, "{what}");
    if !unclaimed.is_zero() {
        pair.clock.advance_ms(CLAIMED_WITHIN_MS);
        let back = async {
            while run(&pair.member, Balance {}).await.unwrap().trm_unclaimed == unclaimed {
                tokio::task::yield_now().await;
            }
        };
        let back = tokio::time::timeout(std::time::Duration::from_secs(30), back).await;
        back.unwrap_or_else(|_| panic!("{what}: what nobody claims stays away"));
        let after = run(&pair.member, Balance {}).await.unwrap();
        // The loan was due meanwhile.
        let had = buyer.trm_balance.checked_add(unclaimed).unwrap();
        let has = after.trm_balance.checked_add(buyer.trm_owed).unwrap();
        assert_eq!(Some(has), had.checked_add(after.trm_owed), "{what}");
    }
    for node in [&pair.founder, &pair.member] {
        let audit = run(node, Audit::default()).await.unwrap();
        assert!(audit.holds, "{what}: {audit:?}");
    }
}

#[tokio::test]
async fn a_wire_cut_at_any_frame_of_the_provider_loses_no_more_than_is_stated() {
    for frame in 0..30 {
        let pair = pair().await;
        pair.network
            .cut_after(pair.founder.node(), pair.member.node(), frame);
        a_break_is_bounded(&pair, &format!("frame {frame} of the provider")).await;
    }
}

#[tokio::test]
async fn a_wire_cut_at_any_frame_of_the_consumer_loses_no_more_than_is_stated() {
    for frame in 0..10 {
        let pair = pair().await;
        pair.network
            .cut_after(pair.member.node(), pair.founder.node(), frame);
        a_break_is_bounded(&pair, &format!("frame {frame} of the consumer")).await;
    }
}

#[tokio::test]
async fn freeze_stops_the_next_chat_and_only_the_owner_lifts_it() {
    let pair = pair().await;
    let freeze = Freeze {
        reason: Some("drill".into()),
    };
    run(&pair.member, freeze).await.unwrap();
    let refused = run(&pair.member, chat("hello")).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::Frozen);
    let owner = SecretKey::from_bytes(&[42; 32]);
    run(
        &pair.member,
        SetOwner {
            owner: owner.owner_id(),
        },
    )
    .await
    .unwrap();
    let order = |number, key: &SecretKey| {
        let order = OwnerOrder {
            node: pair.member.node(),
            number,
            decision: Decision::Unfreeze,
        };
        Obey {
            order: to_hex(&Signed::new(order, key).to_bytes()),
        }
    };
    let forged = run(&pair.member, order(0, &SecretKey::from_bytes(&[43; 32])))
        .await
        .unwrap_err();
    assert_eq!(forged.code, FailureCode::OwnerRequired);
    run(&pair.member, order(0, &owner)).await.unwrap();
    run(&pair.member, chat("hello")).await.unwrap();
    // The order again says that it is done, and does nothing; it lifts no later freeze.
    run(&pair.member, Freeze { reason: None }).await.unwrap();
    let replayed = run(&pair.member, order(0, &owner)).await.unwrap();
    assert!(replayed.frozen.is_some());
    run(&pair.member, order(1, &owner)).await.unwrap();
    let replayed = run(&pair.member, order(0, &owner)).await.unwrap_err();
    assert_eq!(replayed.code, FailureCode::OwnerRequired);
}

#[tokio::test]
async fn other_agents_see_their_own_and_invite_nobody() {
    let pair = pair().await;
    run(&pair.member, chat("of the main agent")).await.unwrap();
    let owner = SecretKey::from_bytes(&[42; 32]);
    let decision = Decision::CreateToken {
        agent_name: "writer".into(),
        token_hash: tirami_agent_runtime::owner::token_hash("writers-token"),
    };
    let order = OwnerOrder {
        node: pair.member.node(),
        number: 0,
        decision,
    };
    run(
        &pair.member,
        SetOwner {
            owner: owner.owner_id(),
        },
    )
    .await
    .unwrap();
    let order = to_hex(&Signed::new(order, &owner).to_bytes());
    run(&pair.member, Obey { order }).await.unwrap();
    let writer = pair.member.caller("writers-token").unwrap();
    let history = History::default();
    let seen = history
        .clone()
        .run(&pair.member, writer, None)
        .await
        .unwrap();
    assert_eq!(seen.entries, Vec::new());
    assert!(!run(&pair.member, history).await.unwrap().entries.is_empty());
    let broke = chat("without funds").run(&pair.member, writer, None).await;
    assert!(broke.is_err());
    let refused = Audit::default()
        .run(&pair.member, writer, None)
        .await
        .unwrap_err();
    assert_eq!(refused.code, FailureCode::Unauthorized);
    let refused = MakeTicket {}
        .run(&pair.member, writer, None)
        .await
        .unwrap_err();
    assert_eq!(refused.code, FailureCode::Unauthorized);
}

#[tokio::test]
async fn each_limit_refuses_what_is_above_it() {
    for (limits, name) in [
        (
            Limits {
                per_request_trm: trm!("0.000001"),
                ..Limits::DEFAULT
            },
            "per-request",
        ),
        (
            Limits {
                hour_trm: trm!("0.000001"),
                ..Limits::DEFAULT
            },
            "hourly",
        ),
        (
            Limits {
                lifetime_trm: trm!("0.000001"),
                ..Limits::DEFAULT
            },
            "lifetime",
        ),
    ] {
        let pair = pair().await;
        let tighten = TightenBudget {
            agent: None,
            terms: Terms::of(limits),
        };
        run(&pair.member, tighten).await.unwrap();
        let refused = run(&pair.member, chat("too dear")).await.unwrap_err();
        assert_eq!(refused.code, FailureCode::OverBudget, "{refused}");
        assert!(refused.message.contains(name), "{refused}");
        assert_eq!(
            run(&pair.member, Balance {}).await.unwrap().trm_spent,
            Amount::ZERO
        );
    }
}

/// Has the member obey its owner, who signs with this key.
async fn obey(pair: &Pair, owner: &SecretKey, number: u64, decision: Decision) {
    let order = OwnerOrder {
        node: pair.member.node(),
        number,
        decision,
    };
    let order = to_hex(&Signed::new(order, owner).to_bytes());
    run(&pair.member, Obey { order }).await.unwrap();
}

#[tokio::test]
async fn an_approval_is_void_after_a_day_and_the_request_waits_anew() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let pair = pair().await;
    let owner = SecretKey::from_bytes(&[42; 32]);
    let set_owner = SetOwner {
        owner: owner.owner_id(),
    };
    run(&pair.member, set_owner).await.unwrap();
    let mut terms = Terms::standard();
    terms.limits.approval_above_trm = Some(Amount::ZERO);
    let tighten = TightenBudget { agent: None, terms };
    run(&pair.member, tighten).await.unwrap();
    let mut request = chat("one two");
    request.idempotency_key = Some("k".into());
    request.max_tokens = Some(5);
    let waits = async || {
        let refused = run(&pair.member, request.clone()).await.unwrap_err();
        assert_eq!(refused.code, FailureCode::ApprovalRequired, "{refused}");
        refused.approval.unwrap()
    };
    let listed = async || run(&pair.member, Approvals {}).await.unwrap().approvals;
    let approval = waits().await;
    let amount = listed().await.first().unwrap().trm_amount;
    let approve = || Decision::Approve { approval, amount };
    obey(&pair, &owner, 0, approve()).await;
    pair.clock.advance_ms(DAY_MS);
    assert_eq!(listed().await, Vec::new(), "approved, not used, over");
    assert_eq!(waits().await, approval);
    assert_eq!(listed().await.first().unwrap().state, "waiting");
    // What waits is over after a day as well, and cannot be approved any more.
    pair.clock.advance_ms(DAY_MS);
    assert_eq!(listed().await, Vec::new());
    let deny = Deny { approval };
    let refused = run(&pair.member, deny).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::NotFound, "{refused}");
    assert_eq!(waits().await, approval);
    obey(&pair, &owner, 1, approve()).await;
    let answer = run(&pair.member, request.clone()).await.unwrap();
    assert_eq!(
        run(&pair.member, Balance {}).await.unwrap().trm_spent,
        answer.trm_cost
    );
    assert!(holds(&pair.member).await);
}

#[tokio::test]
async fn what_the_owner_approved_passes_although_more_has_become_free() {
    const HOUR_MS: u64 = 3_600_000;
    let pair = pair().await;
    let owner = SecretKey::from_bytes(&[42; 32]);
    let set_owner = SetOwner {
        owner: owner.owner_id(),
    };
    run(&pair.member, set_owner).await.unwrap();
    let spent = run(&pair.member, chat("one two three")).await.unwrap();
    let mut terms = Terms::standard();
    terms.limits.approval_above_trm = Some(Amount::ZERO);
    terms.limits.hour_trm = spent.trm_cost.checked_add(trm!("0.05")).unwrap();
    let tighten = TightenBudget { agent: None, terms };
    run(&pair.member, tighten).await.unwrap();
    // As long as the hour's limit allows: it says nothing of its length.
    let mut request = chat("four five");
    (request.max_tokens, request.idempotency_key) = (None, Some("k".into()));
    let refused = run(&pair.member, request.clone()).await.unwrap_err();
    let approval = refused.approval.unwrap();
    let asked = run(&pair.member, Approvals {}).await.unwrap().approvals;
    let amount = asked.first().unwrap().trm_amount;
    assert!(amount <= trm!("0.05"), "{amount}");
    obey(&pair, &owner, 0, Decision::Approve { approval, amount }).await;
    pair.clock.advance_ms(HOUR_MS + 60_000);
    let answer = run(&pair.member, request).await.unwrap();
    assert!(answer.trm_cost <= amount, "{answer:?}");
    let asked = run(&pair.member, Approvals {}).await.unwrap().approvals;
    let states: Vec<&str> = asked.iter().map(|one| one.state.as_str()).collect();
    assert_eq!(states, ["used"]);
    assert!(holds(&pair.member).await);
}

#[tokio::test]
async fn a_restart_finds_the_same_node_with_the_same_money() {
    let pair = pair().await;
    let answer = run(&pair.member, chat("before the restart")).await.unwrap();
    let before = run(&pair.member, Balance {}).await.unwrap();
    let id = pair.member.node();
    pair.member.shutdown().await;
    drop(pair.member);
    let member = node(&pair.network, &pair.clock, &pair.folders.1, false).await;
    assert_eq!(member.node(), id);
    assert_eq!(run(&member, Balance {}).await.unwrap(), before);
    let receipt = GetReceipt {
        receipt: answer.receipt.unwrap(),
    };
    assert_eq!(
        run(&member, receipt).await.unwrap().trm_amount,
        answer.trm_cost
    );
}

#[tokio::test]
async fn a_prompt_of_more_bytes_than_the_context_has_tokens_is_counted_not_guessed() {
    let pair = pair().await;
    let long = "incomprehensibilities ".repeat(300);
    let mut request = chat(&long);
    request.max_tokens = Some(2);
    let answer = run(&pair.member, request).await.unwrap();
    assert_eq!(
        answer.text.trim(),
        "incomprehensibilities incomprehensibilities"
    );
    let too_long = chat(&"x ".repeat(5_000));
    let refused = run(&pair.member, too_long).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::InvalidInput, "{refused}");
    assert_eq!(
        run(&pair.member, Balance {}).await.unwrap().trm_spent,
        answer.trm_cost
    );
    assert!(holds(&pair.founder).await && holds(&pair.member).await);
}
