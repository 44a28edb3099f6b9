//! The owner's orders, and tokens.

use tirami_manifest::mandate::{Limits, Terms};
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::signed::Signed;
use tirami_wallet::WalletError;
use tirami_wallet::token::{main_agent, token_hash};

use crate::world::key;
use crate::{founder, limits, limits_of, order, party, terms};

#[tokio::test]
async fn only_the_owner_is_obeyed_here_and_once() {
    let (wallet, _) = founder(10).await;
    let agent = main_agent();
    let loose = Decision::SetTerms {
        agent,
        terms: Box::new(terms(9_000, 90_000, 2_000_000)),
    };
    let signed = |node: u8, number, signer: u8| {
        let order = OwnerOrder {
            node: key(node).id(),
            number,
            decision: loose.clone(),
        };
        Signed::new(order, &key(signer))
    };
    let early = wallet.obey(signed(1, 0, 100)).await;
    assert!(matches!(early, Err(WalletError::NoOwner)));
    wallet.set_owner(key(100).owner_id()).await.unwrap();
    wallet.set_owner(key(100).owner_id()).await.unwrap();
    let second = wallet.set_owner(key(101).owner_id()).await;
    assert!(matches!(second, Err(WalletError::HasOwner(_))));
    for (what, order) in [
        ("another signer", signed(1, 0, 101)),
        ("the node itself", signed(1, 0, 1)),
        ("another node", signed(2, 0, 100)),
        ("too far ahead", signed(1, 1, 100)),
    ] {
        let refused = wallet.obey(order).await;
        assert!(
            matches!(refused, Err(WalletError::Order(_))),
            "{what}: {refused:?}"
        );
    }
    let mut altered = signed(1, 0, 100);
    altered.body.number = 0;
    altered.body.decision = Decision::Unfreeze;
    assert!(wallet.obey(altered).await.is_err());
    assert_eq!(limits_of(&wallet, &agent), Limits::DEFAULT);
    assert_eq!(wallet.owner().unwrap().unwrap().next_order, 0);

    wallet.obey(signed(1, 0, 100)).await.unwrap();
    assert_eq!(limits_of(&wallet, &agent), limits(9_000, 90_000, 2_000_000));
    wallet.tighten(agent, Terms::standard()).await.unwrap();
    // The last order again is an answer that was lost: it says that it is done, and does nothing.
    wallet.obey(signed(1, 0, 100)).await.unwrap();
    assert_eq!(limits_of(&wallet, &agent), Limits::DEFAULT);
    wallet.obey(signed(1, 1, 100)).await.unwrap();
    wallet.tighten(agent, Terms::standard()).await.unwrap();
    let replayed = wallet.obey(signed(1, 0, 100)).await;
    assert!(matches!(replayed, Err(WalletError::Order(_))));
    assert_eq!(limits_of(&wallet, &agent), Limits::DEFAULT);
}

#[tokio::test]
async fn tokens_open_one_agent_and_are_the_owners_to_make_and_revoke() {
    let (wallet, _) = party(1);
    wallet.ensure_main_agent(token_hash("first")).await.unwrap();
    // Asking again makes no second token.
    wallet
        .ensure_main_agent(token_hash("second"))
        .await
        .unwrap();
    assert_eq!(wallet.agent_of_token("first").unwrap(), main_agent());
    assert!(matches!(
        wallet.agent_of_token("second"),
        Err(WalletError::UnknownToken)
    ));
    wallet.set_owner(key(100).owner_id()).await.unwrap();
    let hash = token_hash("helper");
    let make = Decision::CreateToken {
        agent_name: "helper".into(),
        token_hash: hash,
    };
    order(&wallet, 0, make).await.unwrap();
    let helper = wallet.agent("helper").unwrap();
    assert_eq!(wallet.agent_of_token("helper").unwrap(), helper);
    assert_eq!(limits_of(&wallet, &helper), Limits::DEFAULT);
    assert_eq!(wallet.agents().unwrap().len(), 2);
    // What cannot be done takes no number.
    let unknown = Decision::RevokeToken {
        token_hash: [9; 32],
    };
    assert!(matches!(
        order(&wallet, 1, unknown).await,
        Err(WalletError::UnknownToken)
    ));
    order(&wallet, 1, Decision::RevokeToken { token_hash: hash })
        .await
        .unwrap();
    assert!(matches!(
        wallet.agent_of_token("helper"),
        Err(WalletError::UnknownToken)
    ));
}
