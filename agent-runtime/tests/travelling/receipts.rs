//! How the payer of a mandate hears what was bought, whatever happened to it meanwhile.

use tirami_agent_runtime::ops::{Models, ReclaimMandate, Status, TravellingMandates};
use tirami_manifest::trm;

use crate::net::{Net, agree, balance, chat, hand_out, handed, heard, out, run, until};

#[tokio::test]
async fn a_receipt_that_its_payer_refuses_for_good_is_kept_with_the_reason_and_not_sent_again() {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    // A payer that lost its books, and put back some from before it handed out.
    let before = net.copy(1, &parent).await;
    let pin = Some(founder.node());
    let mandate = handed(&parent, &child, hand_out(&child, trm!("50"), pin)).await;
    parent.shutdown().await;
    let answer = run(&child, chat("one two three", mandate)).await.unwrap();
    let status = run(&founder, Status {}).await.unwrap();
    assert_eq!(status.outbox, 1, "{status:?}");
    let parent = net.node_at(before.path(), false).await;
    // It is heard once somebody can reach it.
    run(&parent, Models {}).await.unwrap();
    until(async || run(&founder, Status {}).await.unwrap().outbox == 0).await;
    let refused = run(&founder, TravellingMandates {}).await.unwrap().refused;
    let [one] = refused.as_slice() else {
        panic!("{refused:?}");
    };
    assert_eq!(Some(one.receipt), answer.receipt);
    assert_eq!((one.by, one.trm_amount), (parent.node(), answer.trm_cost));
    assert!(one.reason.contains("another mandate"), "{one:?}");
    let status = run(&founder, Status {}).await.unwrap();
    assert!(
        status
            .warnings
            .iter()
            .any(|text| text.contains("refused for good")),
        "{status:?}"
    );
    // Who only holds or pays has none.
    for other in [&parent, &child] {
        let all = run(other, TravellingMandates {}).await.unwrap();
        assert!(all.refused.is_empty(), "{all:?}");
    }
}

#[tokio::test]
async fn work_that_began_before_the_mandate_expired_is_paid_afterwards() {
    for pinned in [true, false] {
        let net = Net::new();
        let [founder, parent, child] = net.three().await;
        let mut op = hand_out(&child, trm!("50"), pinned.then(|| founder.node()));
        op.valid_s = Some(60);
        let mandate = handed(&parent, &child, op).await;
        net.clock.advance_ms(59_000);
        // The payer is asked, where it has to be, and does not hear what was bought.
        if pinned {
            parent.shutdown().await;
        } else {
            net.network.cut_after(founder.node(), parent.node(), 1);
        }
        let answer = run(&child, chat("in the last second", mandate))
            .await
            .unwrap();
        net.clock.advance_ms(3_600_000);
        let late = run(&child, chat("too late", mandate)).await.unwrap_err();
        assert!(!late.message.is_empty());
        let parent = if pinned {
            net.node(1).await
        } else {
            assert_eq!(out(&parent, mandate).await.trm_drawn, trm!("0"));
            net.network.heal(founder.node(), parent.node());
            run(&parent, Models {}).await.unwrap();
            parent
        };
        heard(&parent, &answer).await;
        let rest = trm!("50").checked_sub(answer.trm_cost).unwrap();
        let after = out(&parent, mandate).await;
        assert_eq!(
            (after.trm_drawn, after.trm_out, after.state.as_str()),
            (answer.trm_cost, rest, "expired")
        );
        let back = run(&parent, ReclaimMandate { mandate }).await.unwrap();
        assert_eq!(back.trm_came_back, rest);
        let left = trm!("1000").checked_sub(answer.trm_cost).unwrap();
        assert_eq!(balance(&parent).await, (left, trm!("0"), answer.trm_cost));
        agree(&founder, &[&parent, &child]).await;
    }
}
