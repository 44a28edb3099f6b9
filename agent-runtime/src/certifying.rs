//! Showing the chain to the network's witness, and certifying what others show.

use tirami_manifest::NodeId;
use tirami_manifest::chain::{Certificate, Entry};
use tirami_manifest::signed::Signed;
use tirami_mesh::net::codec::{CREDITS_MAX, ENTRIES_MAX};
use tirami_mesh::proto::message::{Certified, Certify, Credit, Frame, RefuseCode, Retry};
use tirami_wallet::{Retry as WalletRetry, WalletError};

use crate::failure::{Failure, FailureCode};
use crate::refusing::refuse;
use crate::runtime::Runtime;
use crate::sync::{address_of, exchange, unexpected};

/// Shows the witness how this node's key succeeded another, before anything is asked of it under the new
/// one. Does nothing once that is certified.
pub(crate) async fn introduce(runtime: &Runtime) -> Result<(), Failure> {
    let wallet = &runtime.inner.wallet;
    if wallet.certified_seq()? > 0 || wallet.chains_before()?.is_empty() {
        return Ok(());
    }
    be_certified(runtime, false).await
}

/// Shows the witness what is new on this node's chain, and books the credits it has certified. Does
/// nothing where this node is the witness, and unless `always` where nothing is new and nothing waits.
pub(crate) async fn be_certified(runtime: &Runtime, always: bool) -> Result<(), Failure> {
    let wallet = &runtime.inner.wallet;
    let Some(witness) = runtime.genesis().authority() else {
        return Ok(());
    };
    if witness == runtime.node() {
        return Ok(());
    }
    // A witness may have forgotten; what it says in one conversation it does not take back.
    let (mut always, mut said, mut knew_more) = (always, 0, false);
    loop {
        let certified = wallet.certified_seq()?;
        let new = wallet.uncertified(ENTRIES_MAX)?;
        let waiting: Vec<_> = wallet.waiting()?.into_iter().map(|(id, _)| id).collect();
        if new.is_empty() && waiting.is_empty() && !(always && certified > 0) {
            return Ok(());
        }
        always = false;
        // A key that succeeded another is nobody to the witness before it was shown how.
        let unknown = certified == 0 && !wallet.chains_before()?.is_empty();
        // First what it has: another history than that must not be shown. And all that waits, so that
        // what is never certified hides nothing that is.
        let (parts, mut theirs) = (waiting.chunks(CREDITS_MAX), certified);
        for part in parts.chain(waiting.is_empty().then_some(&[] as &[_])) {
            let asked = Certify {
                entries: Vec::new(),
                waiting: part.to_vec(),
            };
            match ask(runtime, witness, asked).await? {
                Some(answer) => theirs = book(runtime, answer).await?,
                None if unknown => break,
                None => return Ok(()),
            }
        }
        if wallet.certified_seq()? > certified {
            // What it certified before, it can say at once.
            if knew_more {
                return Ok(());
            }
            knew_more = true;
            continue;
        }
        if theirs < said {
            let text = "the witness certified less than it had said";
            return Err(Failure::new(FailureCode::ProviderFailed, text));
        }
        // A witness whose wallet is from before it certified them has forgotten some, and is shown them again.
        let new = if theirs < certified {
            wallet.chain_after(theirs, ENTRIES_MAX)?
        } else {
            new
        };
        let shown = Certify {
            entries: new.iter().map(Signed::to_bytes).collect(),
            waiting: Vec::new(),
        };
        let Some(last) = new.last().map(|entry| entry.body.seq) else {
            return Ok(());
        };
        let Some(answer) = ask(runtime, witness, shown).await? else {
            return Ok(());
        };
        said = book(runtime, answer).await?;
        // It certifies all of what it is shown or nothing: a few at a time there would be no end.
        if said < last {
            return Ok(());
        }
        // There may be more of what it forgot.
        always = said < certified;
    }
}

/// Asks the witness; `None` when it refuses.
async fn ask(
    runtime: &Runtime,
    witness: NodeId,
    asked: Certify,
) -> Result<Option<Certified>, Failure> {
    let peer = address_of(&crate::offers::known_peers(runtime)?, witness);
    match exchange(runtime, &peer, Frame::Certify(asked)).await? {
        Frame::Certified(answer) => Ok(Some(answer)),
        Frame::Refuse(refused) => {
            let is_new = runtime.set_uncertified(Some(refused.to_string()));
            if refused.retry == Retry::Never && is_new {
                tracing::warn!(peer = %witness.short(), %refused, "the witness does not certify this chain");
            } else {
                tracing::debug!(peer = %witness.short(), %refused, "the witness does not certify yet");
            }
            Ok(None)
        }
        other => Err(unexpected(&peer, &other)),
    }
}

/// Books what the witness answered. Says up to which entry of this node's chain it has certified.
async fn book(runtime: &Runtime, answer: Certified) -> Result<u64, Failure> {
    let wallet = &runtime.inner.wallet;
    let mut theirs = 0;
    if let Some(bytes) = answer.certificate {
        let certificate = Certificate::from_bytes(&bytes)
            .map_err(|error| Failure::new(FailureCode::ProviderFailed, error.to_string()))?;
        if certificate.head.author == runtime.node() {
            theirs = certificate.head.seq;
        }
        let kept = wallet.keep_certificate(certificate).await;
        if let Err(error @ WalletError::Certificate(_)) = &kept {
            let is_new = runtime.set_uncertified(Some(format!(
                "the witness certified entries that this wallet does not have ({error}): it was restored \
                 from a copy, or another one uses its key; a restore keeps the wallet that was there \
                 before as wallet.redb.before-restore-N"
            )));
            if is_new {
                tracing::error!(
                    %error,
                    "the witness certified entries that this wallet does not have: it was restored from \
                     a copy, or another one uses its key; its chain is shown no more"
                );
            }
        }
        kept?;
    }
    runtime.set_uncertified(None);
    for Credit { receipt, debit } in answer.credits {
        wallet.certified(receipt, debit).await?;
    }
    Ok(theirs)
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
    match runtime
        .inner
        .wallet
        .certify(author, entries, &shown.waiting)
        .await
    {
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
