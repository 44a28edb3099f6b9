//! The welcome loan: invitations, quotas, and membership.

use tirami_manifest::genesis::{Genesis, Invitation, LoanGrant};
use tirami_manifest::key::SecretKey;
use tirami_manifest::signed::Signed;
use tirami_manifest::ticket::Ticket;
use tirami_manifest::{Amount, InvitationId, NetworkId};
use tirami_wallet::WalletError;
use tirami_wallet::ledger::account::Account;
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::token::main_agent;

use crate::world::{START, genesis, key, sound, trm};
use crate::{DAY, HOUR, available, founder, join, party, totals};

#[tokio::test]
async fn an_invitation_is_one_loan_for_one_node_and_the_same_answer_again() {
    let (wallet, _) = founder(10).await;
    let id = InvitationId::from_bytes([3; 16]);
    let invitation = wallet.invite(id).await.unwrap();
    let welcome = async |node: &SecretKey| wallet.welcome(invitation.clone(), node.id()).await;
    let grant = welcome(&key(3)).await.unwrap().grant.unwrap();
    assert_eq!(welcome(&key(3)).await.unwrap().grant, Some(grant.clone()));
    let other = welcome(&key(4)).await;
    assert!(
        matches!(other, Err(WalletError::Invitation(_))),
        "{other:?}"
    );
    // Making the same invitation again does not make it unused.
    assert_eq!(wallet.invite(id).await.unwrap(), invitation);
    assert!(matches!(
        welcome(&key(4)).await,
        Err(WalletError::Invitation(_))
    ));
    // A second invitation is no second loan.
    let second = wallet
        .invite(InvitationId::from_bytes([4; 16]))
        .await
        .unwrap();
    let same = wallet.welcome(second, key(3).id()).await.unwrap();
    assert_eq!(same.grant, Some(grant));
    assert_eq!(totals(&wallet, Account::Clearing(key(3).id())), 100_000);
    // Nobody's invitations but our own.
    let body = Invitation {
        network: genesis().id(),
        issuer: key(1).id(),
        id: InvitationId::from_bytes([5; 16]),
    };
    let unknown = wallet
        .welcome(Signed::new(body.clone(), &key(1)), key(5).id())
        .await;
    assert!(matches!(
        unknown,
        Err(WalletError::Invitation("is not known here"))
    ));
    let forged = wallet
        .welcome(Signed::new(body, &key(5)), key(5).id())
        .await;
    assert!(matches!(
        forged,
        Err(WalletError::Invitation("is not by this node"))
    ));
    sound(&wallet);
}

#[tokio::test]
async fn lending_stops_at_the_daily_cap_and_goes_on_tomorrow() {
    // The cap is three loans, of which funding the founder took one.
    let (wallet, clock) = founder(10).await;
    let welcome = async |n: u8| {
        let invitation = wallet
            .invite(InvitationId::from_bytes([n; 16]))
            .await
            .unwrap();
        wallet.welcome(invitation, key(n).id()).await.unwrap()
    };
    assert!(welcome(3).await.grant.is_some());
    clock.advance_ms(HOUR);
    assert!(welcome(4).await.grant.is_some());
    let refused = welcome(5).await;
    assert!(refused.grant.is_none() && refused.note.is_some());
    clock.advance_ms(DAY - HOUR - 1);
    assert!(welcome(5).await.grant.is_none());
    clock.advance_ms(1);
    assert!(
        welcome(5).await.grant.is_some(),
        "two of the three are a day old"
    );
    assert_eq!(wallet.balance(&main_agent()).unwrap().lent.len(), 4);
    sound(&wallet);
}

#[tokio::test]
async fn an_issuer_never_lends_above_its_quota() {
    let (wallet, clock) = party(1);
    let small = Genesis {
        issuers: vec![
            (key(1).id(), trm(150_000)),
            (key(9).id(), Amount::MAX.saturating_sub(trm(150_000))),
        ],
        ..genesis()
    };
    // Quotas that do not sum to the cap make no network, and nothing is written.
    let wrong = Genesis {
        issuers: vec![(key(1).id(), trm(150_000))],
        ..small.clone()
    };
    assert!(wallet.found(wrong).await.is_err());
    assert_eq!(wallet.network().unwrap(), None);
    wallet.found(small).await.unwrap();
    let mut outcomes = Vec::new();
    for n in [2, 3] {
        let invitation = wallet
            .invite(InvitationId::from_bytes([n; 16]))
            .await
            .unwrap();
        outcomes.push(wallet.welcome(invitation, key(n).id()).await);
        clock.advance_ms(24 * 3_600_000);
    }
    assert!(outcomes[0].as_ref().unwrap().grant.is_some());
    assert!(matches!(
        outcomes[1],
        Err(WalletError::Refused(Refusal::OverCap { left, .. })) if left == trm(50_000)
    ));
    sound(&wallet);
}

#[tokio::test]
async fn a_member_that_is_no_issuer_invites_nobody() {
    let (member, _) = party(3);
    let id = InvitationId::from_bytes([1; 16]);
    assert!(matches!(
        member.invite(id).await,
        Err(WalletError::NoNetwork)
    ));
    join(&founder(10).await.0, &member, [3; 16]).await;
    assert!(matches!(
        member.invite(id).await,
        Err(WalletError::Invitation(_))
    ));
}

#[tokio::test]
async fn a_loan_is_booked_once_and_only_from_an_issuer_to_this_node() {
    let (member, _) = party(3);
    join(&founder(10).await.0, &member, [3; 16]).await;
    let grant = LoanGrant {
        network: genesis().id(),
        issuer: key(1).id(),
        borrower: key(3).id(),
        invitation: InvitationId::from_bytes([3; 16]),
        principal: trm(100_000),
        granted: START,
        due: START.after_ms(72 * HOUR),
    };
    let accept = async |grant: LoanGrant, signer: u8| {
        member.accept_loan(Signed::new(grant, &key(signer))).await
    };
    // The same again changes nothing.
    assert_eq!(accept(grant.clone(), 1).await.unwrap(), trm(100_000));
    let less = LoanGrant {
        principal: trm(99_999),
        ..grant.clone()
    };
    assert!(matches!(
        accept(less, 1).await,
        Err(WalletError::Refused(Refusal::IdTaken { .. }))
    ));
    // More than the network lends, or due when its lender likes.
    let more = LoanGrant {
        principal: trm(100_001),
        ..grant.clone()
    };
    let soon = LoanGrant {
        due: START.after_ms(1),
        ..grant.clone()
    };
    for wrong in [more, soon] {
        assert!(matches!(
            accept(wrong, 1).await,
            Err(WalletError::Invitation(_))
        ));
    }
    let second = LoanGrant {
        invitation: InvitationId::from_bytes([4; 16]),
        ..grant.clone()
    };
    for (grant, signer) in [
        (second, 1),
        (
            LoanGrant {
                borrower: key(4).id(),
                ..grant.clone()
            },
            1,
        ),
        (
            LoanGrant {
                network: NetworkId::from_bytes([9; 32]),
                ..grant.clone()
            },
            1,
        ),
        (
            LoanGrant {
                issuer: key(4).id(),
                ..grant.clone()
            },
            4,
        ),
        (grant, 4),
    ] {
        let refused = accept(grant, signer).await;
        assert!(
            matches!(refused, Err(WalletError::Invitation(_))),
            "{refused:?}"
        );
    }
    assert_eq!(available(&member), trm(100_000));
    assert_eq!(member.balance(&main_agent()).unwrap().loans.len(), 1);
    sound(&member);
}

#[tokio::test]
async fn a_node_stays_in_the_network_where_it_traded() {
    let (member, _) = party(3);
    let (founder, _) = founder(10).await;
    let ticket = |genesis: Genesis, founder: &SecretKey| {
        let invitation = Invitation {
            network: genesis.id(),
            issuer: founder.id(),
            id: InvitationId::from_bytes([8; 16]),
        };
        Ticket {
            genesis,
            invitation: Signed::new(invitation, founder),
            addresses: Vec::new(),
        }
    };
    let other = Genesis::private("other", key(8).id(), START, [8; 16]);
    // Before anything happened, another network may be entered.
    member.enter(ticket(other.clone(), &key(8))).await.unwrap();
    join(&founder, &member, [3; 16]).await;
    let refused = member.enter(ticket(other.clone(), &key(8))).await;
    assert!(matches!(refused, Err(WalletError::OtherNetwork { .. })));
    assert_eq!(member.found(other).await.unwrap(), genesis());
    // The same network's ticket again: no second loan is asked for.
    member.enter(ticket(genesis(), &key(1))).await.unwrap();
    assert!(member.pending_ticket().unwrap().is_none());
    assert!(member.inviter().unwrap().is_some());
}
