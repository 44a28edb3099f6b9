//! Showing the chain to the network's witness, and certifying what others show.

use tirami_manifest::NodeId;
use tirami_manifest::chain::{Certificate, Entry};
use tirami_manifest::signed::Signed;
use tirami_mesh::net::codec::ENTRIES_MAX;
use tirami_mesh::proto::message::{Certified, Certify, Credit, Frame, RefuseCode, Retry};
use tirami_wallet::{Retry as WalletRetry, WalletError};

use crate::failure::{Failure, FailureCode};
use crate::refusing::refuse;
use crate::runtime::Runtime;
use crate::sync::{address_of, exchange, unexpected};

/// Shows the witness what is new on this node's chain, and books the credits it has certified. Does
/// nothing where there is nothing new and nothing waits, or where this node is the witness.
pub(crate) async fn be_certified(runtime: &Runtime) -> Result<(), Failure> {
    let wallet = &runtime.inner.wallet;
    let Some(witness) = runtime.genesis().authority() else {
        return Ok(());
    };
    if witness == runtime.node() {
        return Ok(());
    }
    loop {
        let certified = wallet.certified_seq()?;
        let new = wallet.chain_after(certified, ENTRIES_MAX)?;
        if new.is_empty() && wallet.waiting()?.is_empty() {
            return Ok(());
        }
        let peer = address_of(&crate::offers::known_peers(runtime)?, witness);
        let shown = Frame::Certify(Certify {
            entries: new.iter().map(Signed::to_bytes).collect(),
        });
        let answer = match exchange(runtime, &peer, shown).await? {
            Frame::Certified(answer) => answer,
            Frame::Refuse(refused) => {
                tracing::debug!(peer = %witness.short(), %refused, "the witness does not certify");
                return Ok(());
            }
            other => return Err(unexpected(&peer, &other)),
        };
        let done = book(runtime, answer).await?;
        // Received credits are new entries, and there may be more than were shown.
        if !done || wallet.certified_seq()? == certified {
            return Ok(());
        }
    }
}

/// Books what the witness answered; whether there was anything new in it.
async fn book(runtime: &Runtime, answer: Certified) -> Result<bool, Failure> {
    let wallet = &runtime.inner.wallet;
    let mut new = false;
    if let Some(bytes) = answer.certificate {
        let certificate = Certificate::from_bytes(&bytes)
            .map_err(|error| Failure::new(FailureCode::ProviderFailed, error.to_string()))?;
        let before = wallet.certified_seq()?;
        wallet.keep_certificate(certificate).await?;
        new = wallet.certified_seq()? > before;
    }
    for Credit { receipt, debit } in answer.credits {
        new |= wallet.certified(receipt, debit).await?;
    }
    Ok(new)
}

/// Certifies what a member shows of its chain.
pub(crate) async fn certify(runtime: &Runtime, author: NodeId, shown: &Certify) -> Frame {
    let entries: Result<Vec<_>, _> = shown
        .entries
        .iter()
        .map(|bytes| Signed::<Entry>::from_bytes(bytes))
        .collect();
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => return refuse(RefuseCode::Chain, &error.to_string(), Retry::Never),
    };
    match runtime.inner.wallet.certify(author, entries).await {
        Ok(attested) => Frame::Certified(Certified {
            certificate: attested
                .certificate
                .map(|certificate| certificate.to_bytes()),
            credits: attested
                .credits
                .into_iter()
                .map(|(receipt, debit)| Credit { receipt, debit })
                .collect(),
        }),
        Err(error @ (WalletError::Store(_) | WalletError::Busy)) => {
            tracing::warn!(%error, "a chain could not be certified");
            refuse(RefuseCode::Internal, "ask again later", Retry::Later)
        }
        Err(error) => {
            tracing::info!(%error, author = %author.short(), "a chain was not certified");
            let retry = match error.retry() {
                WalletRetry::Later => Retry::Later,
                WalletRetry::Never => Retry::Never,
            };
            refuse(RefuseCode::Chain, &error.to_string(), retry)
        }
    }
}
