//! What was vouched for in a job that ended without a receipt: the provider claims it, the consumer books it.
//!
//! A job that ended before anything was proposed is claimed at once. Where the consumer may have signed a
//! receipt, because a proposal was on its way to it or this node forgot in a crash whether one was, it is
//! asked first; only one that does not answer for as long as receipts may take is not waited for any more.

use std::collections::{BTreeMap, BTreeSet};

use tirami_manifest::NodeId;
use tirami_manifest::commerce::{Receipt, VerifiedReceipt};
use tirami_mesh::net::transport::PeerAddr;
use tirami_mesh::proto::message::{Countersign, Frame, RefuseCode, Retry};
use tirami_wallet::WalletError;
use tirami_wallet::claims::Claimed;
use tirami_wallet::jobs::Lane;
use tokio::time::MissedTickBehavior;

use crate::asking::Asking;
use crate::failure::Failure;
use crate::refusing::refuse;
use crate::runtime::Runtime;
use crate::sale::earn_claim;
use crate::sync::{TRY_EVERY, address_of, book_sale, exchange, unexpected};

/// Books what a provider claims by a voucher of this node, once, and says so; or shows the receipt that was
/// signed instead.
pub(crate) async fn book(runtime: &Runtime, provider: NodeId, bytes: &[u8]) -> Frame {
    let bad = |text: &str| refuse(RefuseCode::BadRequest, text, Retry::Never);
    let receipt = match read(bytes) {
        Ok(receipt) => receipt,
        Err(why) => return bad(&why),
    };
    if receipt.agreement.provider != provider {
        return bad("the claim is another provider's");
    }
    let id = receipt.id();
    match runtime.inner.wallet.accept_claim(receipt).await {
        Ok(Claimed::Booked) => Frame::Settled(id),
        Ok(Claimed::Signed(receipt)) => Frame::Countersign(Countersign { receipt }),
        Err(error @ WalletError::StillOpen) => {
            refuse(RefuseCode::Busy, &error.to_string(), Retry::Later)
        }
        Err(error @ (WalletError::OtherReceipt(_) | WalletError::Refused(_))) => {
            bad(&error.to_string())
        }
        Err(error) => {
            tracing::warn!(%error, receipt = %id.short(), "a claim could not be booked yet");
            let text = "the claim could not be booked; send it again";
            refuse(RefuseCode::Internal, text, Retry::Later)
        }
    }
}

fn read(bytes: &[u8]) -> Result<VerifiedReceipt, String> {
    let receipt = Receipt::from_bytes(bytes).map_err(|error| error.to_string())?;
    receipt.verify().map_err(|error| error.to_string())
}

/// Sees to jobs that ended without a receipt, where it is not known whether one was signed, for as long as the
/// node runs.
pub(crate) async fn keep_claiming(runtime: Runtime) {
    let mut ticks = tokio::time::interval(TRY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asking = Asking::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if let Err(failure) = claim_open(&runtime, &mut asking).await {
                    tracing::debug!(%failure, "what was vouched for has to wait");
                }
            }
            () = asking.ended(&runtime) => {}
        }
    }
}

/// A job to be claimed, and whether its consumer had all the time that it has to show a receipt.
type Owed = (Lane, bool);

/// Asks everybody whose turn it is. A claim is signed when it is shown.
async fn claim_open(runtime: &Runtime, asking: &mut Asking<Lane>) -> Result<(), Failure> {
    let debts = &runtime.inner.selling.debts;
    let owed = debts.jobs();
    let (wallet, now) = (&runtime.inner.wallet, runtime.now());
    let open = wallet.open_jobs()?;
    let still: BTreeSet<Lane> = open.iter().map(|(job, _)| *job).collect();
    for (consumer, job) in owed {
        if !still.contains(&job) {
            debts.settled(&consumer, &job);
        }
    }
    asking.retain(|job| still.contains(job));
    let connected = runtime.transport()?.connected();
    let mut due: BTreeMap<NodeId, Vec<Owed>> = BTreeMap::new();
    for (job, row) in open {
        if runtime.running().contains(&job) {
            continue;
        }
        let vouched = row.vouched()?.filter(|_| !row.is_late(now));
        let Some(vouched) = vouched else {
            wallet.forget_job(job).await?;
            continue;
        };
        let consumer = row.consumer()?;
        debts.left(consumer, job, vouched);
        if asking.is_due(&consumer, &job, connected.contains(&consumer)) {
            due.entry(consumer)
                .or_default()
                .push((job, row.is_due(now)));
        }
    }
    for (consumer, jobs) in asking.in_turn(due) {
        let keys = jobs.iter().map(|(job, _)| *job).collect();
        let (shown, of_task) = (jobs.clone(), runtime.clone());
        let ask = async move { ask_all(&of_task, consumer, shown).await };
        if asking.ask((consumer, keys), ask) {
            continue;
        }
        // Its time is over, whether or not somebody has the time to ask.
        for (job, _) in jobs.into_iter().filter(|(_, is_due)| *is_due) {
            earn_claim(runtime, &job).await?;
        }
    }
    Ok(())
}

/// Shows one consumer what would be claimed of it. Answers the jobs that have to wait; when it does not answer,
/// all the rest.
async fn ask_all(runtime: &Runtime, consumer: NodeId, jobs: Vec<Owed>) -> Vec<Lane> {
    let (mut waits, mut answers) = (Vec::new(), true);
    for (job, is_due) in jobs {
        let asked = if answers {
            ask(runtime, consumer, &job).await
        } else {
            Ok(false)
        };
        if let Err(failure) = &asked {
            tracing::debug!(%failure, "a consumer was not asked what it signed");
            answers = false;
        }
        if matches!(asked, Ok(true)) {
            continue;
        }
        waits.push(job);
        if is_due && let Err(failure) = earn_claim(runtime, &job).await {
            tracing::warn!(%failure, "what was vouched for is claimed later");
        }
    }
    waits
}

/// Shows a consumer what would be claimed of it for one job. Answers whether that settled it.
async fn ask(runtime: &Runtime, consumer: NodeId, job: &Lane) -> Result<bool, Failure> {
    let Some(receipt) = runtime.inner.wallet.claim(job)? else {
        return Ok(true);
    };
    let peer: PeerAddr = address_of(&crate::offers::known_peers(runtime)?, consumer);
    let claim = Frame::Claim(Countersign {
        receipt: receipt.to_bytes(),
    });
    let id = receipt.id();
    let said = match exchange(runtime, &peer, claim).await? {
        Frame::Settled(said) if said == id => {
            earn_claim(runtime, job).await?;
            runtime.inner.selling.debts.paid(&consumer, job);
            runtime.inner.wallet.acknowledged(id).await?;
            return Ok(true);
        }
        Frame::Countersign(signed) => match book_sale(runtime, consumer, &signed.receipt).await {
            Frame::Settled(_) => return Ok(true),
            other => other,
        },
        Frame::Refuse(refused) if refused.retry == Retry::Never => {
            tracing::warn!(peer = %consumer.short(), %refused, "a consumer disowns its voucher");
            // It is its signature all the same.
            earn_claim(runtime, job).await?;
            return Ok(true);
        }
        other => other,
    };
    let failure = unexpected(&peer, &said);
    tracing::debug!(%failure, "what was vouched for is not settled yet");
    Ok(false)
}
