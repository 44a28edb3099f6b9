//! What was vouched for in a job that ended without a receipt: the provider claims it, the consumer books it.
//!
//! A job that ended before anything was proposed is claimed at once. Where the consumer may have signed a
//! receipt, because a proposal was on its way to it or this node forgot in a crash whether one was, it is
//! asked first; only one that does not answer for as long as receipts may take is not waited for any more.

use std::collections::BTreeSet;

use tirami_manifest::commerce::{Receipt, VerifiedReceipt};
use tirami_manifest::{NodeId, ReceiptId};
use tirami_mesh::net::transport::PeerAddr;
use tirami_mesh::proto::message::{Countersign, Frame, RefuseCode, Retry};
use tirami_wallet::WalletError;
use tirami_wallet::claims::Claimed;
use tirami_wallet::jobs::Lane;

use crate::backoff::Backoff;
use crate::failure::Failure;
use crate::refusing::refuse;
use crate::runtime::Runtime;
use crate::sale::earn_claim;
use crate::sync::{address_of, book_sale, exchange, unexpected};

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

/// Sees to every job that ended without a receipt, where it is not known whether one was signed.
pub(crate) async fn claim_open(
    runtime: &Runtime,
    waiting: &mut Backoff<ReceiptId>,
) -> Result<(), Failure> {
    let debts = &runtime.inner.selling.debts;
    let owed = debts.jobs();
    let open = runtime.inner.wallet.open_jobs()?;
    let still: BTreeSet<Lane> = open.iter().map(|(job, _)| *job).collect();
    for (consumer, job) in owed {
        if !still.contains(&job) {
            debts.settled(&consumer, &job);
        }
    }
    let mut left = BTreeSet::new();
    for (job, row) in open {
        if runtime.running().contains(&job) {
            continue;
        }
        let late = row.is_late(runtime.now());
        let Some(receipt) = runtime.inner.wallet.claim(&job)?.filter(|_| !late) else {
            runtime.inner.wallet.forget_job(job).await?;
            continue;
        };
        let id = receipt.id();
        left.insert(id);
        let consumer = row.consumer()?;
        debts.left(consumer, job, receipt.agreement.amount);
        let connected = runtime.transport()?.connected().contains(&consumer);
        if !waiting.is_due(&id, connected) {
            continue;
        }
        if let Err(failure) = ask(runtime, consumer, (&job, &receipt)).await {
            tracing::debug!(%failure, "a consumer was not asked what it signed");
            waiting.failed(id, connected);
            if row.is_due(runtime.now()) {
                earn_claim(runtime, &job).await?;
            }
        }
    }
    waiting.retain(|receipt: &ReceiptId| left.contains(receipt));
    Ok(())
}

/// Shows a consumer what would be claimed of it.
async fn ask(
    runtime: &Runtime,
    consumer: NodeId,
    (job, receipt): (&Lane, &Receipt),
) -> Result<(), Failure> {
    let peer: PeerAddr = address_of(&crate::offers::known_peers(runtime)?, consumer);
    let claim = Frame::Claim(Countersign {
        receipt: receipt.to_bytes(),
    });
    let id = receipt.id();
    match exchange(runtime, &peer, claim).await? {
        Frame::Settled(said) if said == id => {
            earn_claim(runtime, job).await?;
            runtime.inner.selling.debts.paid(&consumer, job);
            Ok(runtime.inner.wallet.acknowledged(id).await?)
        }
        Frame::Countersign(signed) => match book_sale(runtime, consumer, &signed.receipt).await {
            Frame::Settled(_) => Ok(()),
            other => Err(unexpected(&peer, &other)),
        },
        Frame::Refuse(refused) if refused.retry == Retry::Never => {
            tracing::warn!(peer = %consumer.short(), %refused, "a consumer disowns its voucher");
            // It is its signature all the same.
            earn_claim(runtime, job).await
        }
        other => Err(unexpected(&peer, &other)),
    }
}
