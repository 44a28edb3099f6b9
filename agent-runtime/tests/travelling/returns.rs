//! How units come back: on the word of the one who remembers them, to whoever may ask for them.

use tirami_agent_runtime::ops::{GiveBackMandate, ReclaimMandate};
use tirami_manifest::key::SecretKey;
use tirami_manifest::mandate_chain::{Grant, MandateChain, RangeReturn};
use tirami_manifest::signed::Signed;
use tirami_manifest::trm;
use tirami_mesh::proto::message::{Frame, RefuseCode, ReturnUnits};

use crate::net::{Net, accept, address, agree, chat, exchange, hand_out, handed, join, out, run};

#[tokio::test]
async fn units_do_not_come_back_because_a_stranger_says_so() {
    for pinned in [true, false] {
        let net = Net::new();
        let [founder, parent, child] = net.three().await;
        let stranger = net.node(3).await;
        join(&founder, &stranger).await;
        let tracker = address(if pinned { &founder } else { &parent }).await;
        let op = hand_out(&child, trm!("50"), pinned.then(|| founder.node()));
        let handed = run(&parent, op).await.unwrap();
        accept(&child, &handed).await;
        let before = out(&parent, handed.mandate).await;
        // It has the line, and everything that the holder would send but its signature.
        let chain: MandateChain = handed.text.parse().unwrap();
        let grant = chain.last().unwrap().clone();
        let back = RangeReturn::of(&grant, grant.range);
        stranger.shutdown().await;
        let wire = net.network.transport(stranger.node());
        let ask = async |by: usize| {
            let frame = Frame::ReturnUnits(ReturnUnits {
                chain: chain.to_bytes(),
                back: Signed::new(back.clone(), &net.key(by)).to_bytes(),
            });
            exchange(&wire, &tracker, frame).await
        };
        // Neither in its own name nor in the provider's.
        for by in [3, 0] {
            let answer = ask(by).await;
            let Frame::Refuse(refused) = answer else {
                panic!("{answer:?}");
            };
            assert_eq!(refused.code, RefuseCode::Units, "{refused}");
            assert!(
                refused
                    .message
                    .contains("neither the holder nor the root payer"),
                "{refused}"
            );
        }
        assert_eq!(out(&parent, handed.mandate).await, before);
        let mandate = handed.mandate;
        let answer = run(&child, chat("still mine", mandate)).await.unwrap();
        crate::net::heard(&parent, &answer).await;
        let back = run(&parent, ReclaimMandate { mandate }).await.unwrap();
        let rest = trm!("50").checked_sub(answer.trm_cost).unwrap();
        assert_eq!(back.trm_came_back, rest);
        agree(&founder, &[&parent, &child]).await;
    }
}

#[tokio::test]
async fn a_mandate_is_given_back_although_its_payer_is_away() {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    let mandate = handed(&parent, &child, hand_out(&child, trm!("50"), None)).await;
    parent.shutdown().await;
    let given = run(&child, GiveBackMandate { mandate }).await.unwrap();
    assert_eq!(
        (given.trm_given_back, given.mandate.state.as_str()),
        (trm!("50"), "given_back")
    );
    let why = given.unconfirmed.unwrap();
    assert!(why.contains(&parent.node().short()), "{why}");
    // Once more it gives nothing.
    let again = run(&child, GiveBackMandate { mandate }).await.unwrap();
    assert_eq!(again.trm_given_back, trm!("0"));
    let refused = run(&child, chat("not any more", mandate))
        .await
        .unwrap_err();
    assert!(refused.message.contains("given back"), "{refused}");
    // The payer knows what was drawn, which is nothing, without being told.
    let parent = net.node(1).await;
    net.clock.advance_ms(86_400_000 + 3_600_000);
    let back = run(&parent, ReclaimMandate { mandate }).await.unwrap();
    assert_eq!(back.trm_came_back, trm!("50"));
    // The units of a pinned one are with its provider, so that it has to hear of it.
    let pinned = hand_out(&child, trm!("50"), Some(founder.node()));
    let mandate = handed(&parent, &child, pinned).await;
    founder.shutdown().await;
    let failed = run(&child, GiveBackMandate { mandate }).await.unwrap_err();
    assert!(failed.retryable, "{failed}");
    let founder = net.node(0).await;
    let given = run(&child, GiveBackMandate { mandate }).await.unwrap();
    assert_eq!(
        (given.trm_given_back, given.unconfirmed),
        (trm!("50"), None)
    );
    agree(&founder, &[&parent, &child]).await;
}

#[tokio::test]
async fn what_was_handed_on_goes_back_to_its_giver_only_when_the_payer_hears_of_it() {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    let last = net.node(3).await;
    join(&founder, &last).await;
    let first = handed(&parent, &child, hand_out(&child, trm!("50"), None)).await;
    let mut on = hand_out(&last, trm!("20"), None);
    (on.from, on.depth_left) = (Some(first), 0);
    let mandate = handed(&child, &last, on).await;
    parent.shutdown().await;
    // The giver learns from the payer what came back, and the payer has not heard.
    let failed = run(&last, GiveBackMandate { mandate }).await.unwrap_err();
    assert!(failed.retryable, "{failed}");
    let parent = net.node(1).await;
    let given = run(&last, GiveBackMandate { mandate }).await.unwrap();
    assert_eq!(
        (given.trm_given_back, given.unconfirmed),
        (trm!("20"), None)
    );
    let back = run(&child, ReclaimMandate { mandate }).await.unwrap();
    assert_eq!(back.trm_came_back, trm!("20"));
    agree(&founder, &[&parent, &child, &last]).await;
}

#[tokio::test]
async fn units_of_a_payer_that_nobody_knows_are_not_remembered() {
    let net = Net::new();
    let [founder, parent, child] = net.three().await;
    let op = hand_out(&child, trm!("50"), Some(founder.node()));
    let handed = run(&parent, op).await.unwrap();
    let chain: MandateChain = handed.text.parse().unwrap();
    // It pays itself, in units that it made up, and asks the founder to give them back.
    let stranger = SecretKey::from_bytes(&[0x5e; 32]);
    let own = Grant {
        root: stranger.id(),
        holder: stranger.id(),
        ..chain.last().unwrap().clone()
    };
    let back = RangeReturn::of(&own, own.range);
    let frame = Frame::ReturnUnits(ReturnUnits {
        chain: MandateChain::start(own, &stranger).to_bytes(),
        back: Signed::new(back, &stranger).to_bytes(),
    });
    let wire = net.network.transport(stranger.id());
    let answer = exchange(&wire, &address(&founder).await, frame).await;
    let Frame::Refuse(refused) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(refused.code, RefuseCode::NotMember, "{refused}");
}
