//! Exchanging books: joining, welcome loans, and receipts and repayments until they are acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tirami_manifest::commerce::{Receipt, VerifiedReceipt};
use tirami_manifest::genesis::{Invitation, LoanGrant};
use tirami_manifest::loan::Repayment;
use tirami_manifest::signed::Signed;
use tirami_manifest::ticket::Ticket;
use tirami_manifest::{Amount, NodeId, ReceiptId};
use tirami_mesh::net::transport::PeerAddr;
use tirami_mesh::proto::message::{
    Countersign, Drawn, Frame, Join, Joined, RefuseCode, Repay, Retry,
};
use tirami_wallet::WalletError;
use tirami_wallet::outbox::Outgoing;

use crate::asking::Asking;
use crate::failure::{Failure, FailureCode};
use crate::ops::JoinOutput;
use crate::refusing::refuse;
use crate::runtime::Runtime;
use crate::travelling;

/// How often unfinished business is tried again; chosen.
pub(crate) const TRY_EVERY: Duration = Duration::from_secs(2);

/// After how many rounds the witness is asked what it has although nothing is new: it may have been taken back to
/// an older copy of its wallet. Chosen: five minutes.
const LOOK_AGAIN: u64 = 150;

/// How long a peer may take to answer; chosen.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long a consumer waits, at most, for its payer to be told; chosen: within what it waits for the
/// booking itself.
const TELL_WITHIN: Duration = Duration::from_secs(1);

/// Enters the network of a ticket and asks for the welcome loan.
pub(crate) async fn join(runtime: &Runtime, text: &str) -> Result<JoinOutput, Failure> {
    let ticket: Ticket = text
        .parse()
        .map_err(|e: tirami_manifest::ticket::TicketError| {
            Failure::new(FailureCode::Ticket, e.to_string())
                .hint("ask a member who can invite for a new one: 'tirami-agent ticket'")
        })?;
    if ticket.invitation.body.issuer == runtime.node() {
        return Err(
            Failure::new(FailureCode::Ticket, "the ticket is this node's own")
                .hint("use it on another node, or with another --data-dir"),
        );
    }
    let before = runtime.genesis();
    let genesis = runtime.inner.wallet.enter(ticket).await?;
    runtime.set_genesis(genesis.clone());
    let (lent, note) = if runtime.inner.transport.is_none() {
        (
            None,
            "the welcome loan is fetched when the node runs".to_owned(),
        )
    } else {
        match redeem(runtime).await {
            Ok(Redeemed::Lent(amount)) => (Some(amount), "the welcome loan is booked".to_owned()),
            Ok(Redeemed::Nothing(note)) => (None, note),
            Err(failure) if failure.retryable => (None, format!("{failure}; trying again")),
            Err(failure) => {
                runtime.inner.wallet.leave(before.clone()).await?;
                runtime.set_genesis(before);
                return Err(failure);
            }
        }
    };
    Ok(JoinOutput {
        network: genesis.id(),
        name: genesis.name,
        trm_welcome_loan: lent,
        note,
    })
}

enum Redeemed {
    Lent(Amount),
    Nothing(String),
}

/// Redeems the pending invitation with its issuer.
async fn redeem(runtime: &Runtime) -> Result<Redeemed, Failure> {
    let Some(ticket) = runtime.inner.wallet.pending_ticket()? else {
        return Ok(Redeemed::Nothing("this node had joined already".into()));
    };
    let issuer = PeerAddr {
        id: ticket.invitation.body.issuer,
        addresses: ticket.addresses,
    };
    let join = Frame::Join(Join {
        invitation: ticket.invitation.to_bytes(),
    });
    match exchange(runtime, &issuer, join).await? {
        Frame::Joined(Joined {
            grant: Some(grant), ..
        }) => {
            let grant = Signed::<LoanGrant>::from_bytes(&grant)
                .map_err(|e| Failure::new(FailureCode::ProviderFailed, e.to_string()))?;
            Ok(Redeemed::Lent(
                runtime.inner.wallet.accept_loan(grant).await?,
            ))
        }
        Frame::Joined(Joined { grant: None, note }) => {
            Ok(Redeemed::Nothing(format!("the issuer said: \"{note}\"")))
        }
        Frame::Refuse(refused) => {
            let failure = Failure::new(
                FailureCode::Ticket,
                format!("the issuer refused: \"{refused}\""),
            );
            Err(if refused.retry == Retry::Later {
                failure.retryable()
            } else {
                failure
            })
        }
        other => Err(unexpected(&issuer, &other)),
    }
}

/// The issuer's side of joining.
pub(crate) async fn welcome(runtime: &Runtime, newcomer: NodeId, join: &Join) -> Frame {
    let Ok(invitation) = Signed::<Invitation>::from_bytes(&join.invitation) else {
        return refuse(
            RefuseCode::Invitation,
            "the invitation cannot be read",
            Retry::Never,
        );
    };
    match runtime.inner.wallet.welcome(invitation, newcomer).await {
        Ok(welcome) => Frame::Joined(Joined {
            grant: welcome.grant.map(|grant| grant.to_bytes()),
            note: welcome.note.unwrap_or_default(),
        }),
        Err(error @ WalletError::Invitation(_)) => {
            refuse(RefuseCode::Invitation, &error.to_string(), Retry::Never)
        }
        Err(error) => {
            tracing::warn!(%error, "a newcomer could not be welcomed");
            refuse(
                RefuseCode::Internal,
                "the issuer cannot lend now",
                Retry::Later,
            )
        }
    }
}

/// Books a countersigned receipt at its provider, once, and says so.
pub(crate) async fn book_sale(runtime: &Runtime, consumer: NodeId, bytes: &[u8]) -> Frame {
    let bad = |text: &str| refuse(RefuseCode::BadRequest, text, Retry::Never);
    let receipt = match Receipt::from_bytes(bytes) {
        Ok(receipt) => receipt,
        Err(error) => return bad(&error.to_string()),
    };
    match receipt.verify() {
        Ok(receipt) => book(runtime, consumer, receipt).await,
        Err(error) => bad(&error.to_string()),
    }
}

/// The same, of a receipt that was checked.
pub(crate) async fn book(runtime: &Runtime, consumer: NodeId, receipt: VerifiedReceipt) -> Frame {
    let bad = |text: &str| refuse(RefuseCode::BadRequest, text, Retry::Never);
    if receipt.agreement.consumer != consumer {
        return bad("the receipt is another consumer's");
    }
    let (id, job) = (receipt.id(), receipt.agreement.lane_key());
    match runtime.inner.wallet.earn(receipt).await {
        Ok(_) => {
            runtime.inner.selling.debts.paid(&consumer, &job);
            tell_payer(runtime, id).await;
            Frame::Settled(id)
        }
        Err(error @ (WalletError::OtherReceipt(_) | WalletError::Units(_))) => {
            bad(&error.to_string())
        }
        Err(error) => {
            tracing::warn!(%error, receipt = %id.short(), "a sale could not be booked yet");
            refuse(
                RefuseCode::Internal,
                "the sale could not be booked; send it again",
                Retry::Later,
            )
        }
    }
}

/// Tells the root payer of a mandate that was asked before the job what came of it, so that the units
/// that were not used are free for the consumer's next request. If it does not hear it now, the outbox
/// tells it.
async fn tell_payer(runtime: &Runtime, receipt: ReceiptId) {
    let told = async {
        let outgoing = runtime.inner.wallet.outgoing(&receipt)?;
        let asked = |outgoing: &Outgoing| {
            let under = outgoing.under.as_ref();
            let first = under.and_then(|under| under.chain.links.first());
            first.is_some_and(|link| link.body.pinned.is_none())
        };
        let Some(outgoing) = outgoing.filter(asked) else {
            return Ok(());
        };
        let peers = crate::offers::known_peers(runtime)?;
        let peer = address_of(&peers, outgoing.to);
        deliver_one(runtime, &peer, outgoing).await.map(drop)
    };
    match tokio::time::timeout(TELL_WITHIN, told).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => tracing::debug!(%failure, "a payer is told later"),
        Err(_) => tracing::debug!("a payer takes long to hear what was bought"),
    }
}

/// Books a repayment at the lender, once, and says so.
pub(crate) async fn book_repayment(runtime: &Runtime, peer: NodeId, bytes: &[u8]) -> Frame {
    let bad = |text: &str| refuse(RefuseCode::BadRequest, text, Retry::Never);
    let repayment = match Signed::<Repayment>::from_bytes(bytes) {
        Ok(repayment) => repayment,
        Err(error) => return bad(&error.to_string()),
    };
    match runtime.inner.wallet.accept_repayment(repayment).await {
        Ok(id) => Frame::Repaid(id),
        Err(error @ WalletError::Repayment(_)) => bad(&error.to_string()),
        Err(error) => {
            tracing::warn!(%error, peer = %peer.short(), "a repayment has to wait");
            refuse(
                RefuseCode::Internal,
                "the repayment could not be booked; send it again",
                Retry::Later,
            )
        }
    }
}

/// Sends what was paid back and the lender has not acknowledged.
pub(crate) async fn deliver_repayment(runtime: &Runtime) -> Result<(), Failure> {
    let Some(repayment) = runtime.inner.wallet.repayment()? else {
        return Ok(());
    };
    let (lender, id) = (repayment.body.lender, repayment.body.id());
    let peer = address_of(&crate::offers::known_peers(runtime)?, lender);
    let repay = Frame::Repay(Repay {
        repayment: repayment.to_bytes(),
    });
    match exchange(runtime, &peer, repay).await? {
        Frame::Repaid(said) if said == id => {
            runtime.inner.wallet.repayment_acknowledged(id).await?;
        }
        Frame::Refuse(refused) => {
            tracing::warn!(peer = %lender.short(), %refused, "the lender does not book a repayment");
        }
        other => return Err(unexpected(&peer, &other)),
    }
    Ok(())
}

/// Where a peer is, as far as it is known.
pub(crate) fn address_of(peers: &[PeerAddr], id: NodeId) -> PeerAddr {
    let known = peers.iter().find(|peer| peer.id == id).cloned();
    known.unwrap_or(PeerAddr {
        id,
        addresses: Vec::new(),
    })
}

/// Finishes, in the background, what could not be finished at once: the welcome loan, repayments that their
/// lender has not acknowledged, and what is not certified yet.
pub(crate) async fn keep_in_step(runtime: Runtime) {
    let mut ticks = tokio::time::interval(TRY_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for round in 0_u64.. {
        ticks.tick().await;
        if matches!(runtime.inner.wallet.pending_ticket(), Ok(Some(_)))
            && let Err(failure) = redeem(&runtime).await
        {
            tracing::debug!(%failure, "the welcome loan has to wait");
            if !failure.retryable
                && let Err(error) = runtime.inner.wallet.drop_ticket().await
            {
                tracing::warn!(%error, "a ticket that is no good could not be dropped");
            }
        }
        if let Err(failure) = deliver_repayment(&runtime).await {
            tracing::debug!(%failure, "a repayment has to wait");
        }
        let always = round.is_multiple_of(LOOK_AGAIN);
        if let Err(failure) = crate::certifying::be_certified(&runtime, always).await {
            tracing::debug!(%failure, "the chain is not certified yet");
        }
    }
}

/// Sends receipts until they are acknowledged, for as long as the node runs.
pub(crate) async fn keep_delivering(runtime: Runtime) {
    let mut ticks = tokio::time::interval(TRY_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asking = Asking::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if let Err(failure) = deliver(&runtime, &mut asking) {
                    tracing::debug!(%failure, "receipts have to wait");
                }
            }
            () = asking.ended(&runtime) => {}
        }
    }
}

/// Sends every receipt that is not acknowledged and whose turn it is, to everybody at once.
fn deliver(runtime: &Runtime, asking: &mut Asking<ReceiptId>) -> Result<(), Failure> {
    let all = runtime.inner.wallet.outbox()?;
    let open: BTreeSet<ReceiptId> = all.iter().map(|outgoing| outgoing.id).collect();
    asking.retain(|receipt| open.contains(receipt));
    if all.is_empty() {
        return Ok(());
    }
    let connected = runtime.transport()?.connected();
    let mut outbox: BTreeMap<NodeId, Vec<Outgoing>> = BTreeMap::new();
    for receipt in all {
        if asking.is_due(&receipt.to, &receipt.id, connected.contains(&receipt.to)) {
            outbox.entry(receipt.to).or_default().push(receipt);
        }
    }
    let peers = crate::offers::known_peers(runtime)?;
    for (node, receipts) in asking.in_turn(outbox) {
        let (peer, runtime) = (address_of(&peers, node), runtime.clone());
        let ids = receipts.iter().map(|receipt| receipt.id).collect();
        let ask = async move { deliver_all(&runtime, &peer, receipts).await };
        asking.ask((node, ids), ask);
    }
    Ok(())
}

/// Sends receipts to one peer. Answers those that have to wait; when it cannot be reached, all the rest.
async fn deliver_all(
    runtime: &Runtime,
    peer: &PeerAddr,
    receipts: Vec<Outgoing>,
) -> Vec<ReceiptId> {
    let (mut waits, mut reached) = (Vec::new(), true);
    for receipt in receipts {
        let id = receipt.id;
        let ended = if reached {
            deliver_one(runtime, peer, receipt).await
        } else {
            Ok(false)
        };
        if let Err(failure) = &ended {
            tracing::debug!(%failure, "a receipt could not be delivered yet");
            reached = false;
        }
        if !matches!(ended, Ok(true)) {
            waits.push(id);
        }
    }
    waits
}

/// Sends one receipt. Answers whether it need not be sent again: it was booked, or refused for good.
async fn deliver_one(
    runtime: &Runtime,
    peer: &PeerAddr,
    Outgoing {
        id,
        receipt,
        under,
        claims,
        ..
    }: Outgoing,
) -> Result<bool, Failure> {
    let frame = match under {
        Some(under) => Frame::Drawn(Drawn {
            receipt,
            under: travelling::to_wire(&under),
        }),
        None if claims => Frame::Claim(Countersign { receipt }),
        None => Frame::Countersign(Countersign { receipt }),
    };
    let wallet = &runtime.inner.wallet;
    match exchange(runtime, peer, frame).await? {
        Frame::Settled(said) if said == id => wallet.acknowledged(id).await?,
        Frame::Refuse(refused) => {
            let (peer, receipt) = (peer.id.short(), id.short());
            tracing::warn!(%peer, %receipt, %refused, "a node does not book a receipt");
            if refused.retry == Retry::Later {
                return Ok(false);
            }
            wallet.refused_for_good(id, &refused.message).await?;
        }
        other => return Err(unexpected(peer, &other)),
    }
    Ok(true)
}

/// One question, one answer, on a stream of its own.
pub(crate) async fn exchange(
    runtime: &Runtime,
    peer: &PeerAddr,
    frame: Frame,
) -> Result<Frame, Failure> {
    let mut link = runtime.transport()?.open(peer).await?;
    link.send(&frame).await?;
    link.finish()?;
    link.receive_within(ANSWER_WITHIN).await?.ok_or_else(|| {
        let text = format!("node {} hung up without an answer", peer.id.short());
        Failure::new(FailureCode::ProviderFailed, text).retryable()
    })
}

pub(crate) fn unexpected(peer: &PeerAddr, frame: &Frame) -> Failure {
    let text = format!("node {} answered with {}", peer.id.short(), frame.name());
    Failure::new(FailureCode::ProviderFailed, text)
}
