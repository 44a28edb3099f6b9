//! Mandates that travel, between nodes: the provider checks one and asks its root payer where that is
//! needed; the root payer answers, and books what was bought under it; units go back.
//!
//! Wallets decide everything here; this file carries their questions and answers.

use tirami_manifest::commerce::{Quote, Receipt};
use tirami_manifest::mandate_chain::{MandateChain, RangeReturn, Spend};
use tirami_manifest::signed::{Signed, Verified};
use tirami_manifest::{AgentId, Amount, GrantId, NodeId};
use tirami_mesh::net::codec;
use tirami_mesh::proto::message::{
    Drawn, Frame, Refuse, RefuseCode, ReserveUnits, Retry, ReturnUnits, SignedBytes, Start,
    UnderMandate, UnitsReturned,
};
use tirami_wallet::WalletError;
use tirami_wallet::error;
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::sales::Standing;
use tirami_wallet::travelling::Under;
use tirami_wallet::travelling::reclaiming::{PARTS_MAX, rest};
use tirami_wallet::travelling::tracking::{CheckedUnder, RETURNS_MAX};

use crate::failure::{Failure, FailureCode};
use crate::refusing::{in_default, internal, refused};
use crate::runtime::Runtime;
use crate::sync::{address_of, exchange};

const _: () = assert!(
    RETURNS_MAX <= codec::RETURNS_MAX,
    "what a tracker gives back at once fits into a frame"
);

/// As it goes over the wire.
pub(crate) fn to_wire(under: &Under) -> UnderMandate {
    UnderMandate {
        chain: under.chain.to_bytes(),
        spend: under.spend.to_bytes(),
    }
}

fn from_wire(under: &UnderMandate) -> Result<Under, Refuse> {
    let unreadable = |what: &dyn std::fmt::Display| {
        let text = format!("the mandate cannot be read: {what}");
        refused(RefuseCode::BadRequest, &text, Retry::Never)
    };
    Ok(Under {
        chain: MandateChain::from_bytes(&under.chain).map_err(|e| unreadable(&e))?,
        spend: Signed::from_bytes(&under.spend).map_err(|e| unreadable(&e))?,
    })
}

/// Why a wallet does not let a mandate pay, as the one who asked is told.
fn no(error: &WalletError) -> Refuse {
    match error {
        WalletError::Store(_) => internal(error),
        WalletError::Refused(Refusal::NotEnough { .. }) => {
            let text = "the payer's account does not cover the price";
            refused(RefuseCode::NotFunded, text, Retry::Later)
        }
        WalletError::LoanDefault { owed } => in_default(*owed),
        WalletError::Units(_) => refused(RefuseCode::Units, &error.to_string(), Retry::Never),
        other => {
            let retry = match other.retry() {
                error::Retry::Never => Retry::Never,
                error::Retry::Later => Retry::Later,
            };
            refused(RefuseCode::Mandate, &other.to_string(), retry)
        }
    }
}

// --- the provider's side ----------------------------------------------------------------------------

/// Checks what pays for a job instead of the consumer's account, and asks the root payer where it is
/// not this node that remembers the units. `None` when the consumer pays itself.
pub(crate) async fn accept(
    runtime: &Runtime,
    quote: &Verified<Quote>,
    start: &Start,
) -> Result<Option<CheckedUnder>, Refuse> {
    let Some(under) = &start.under else {
        return Ok(None);
    };
    let wallet = &runtime.inner.wallet;
    let checked = wallet
        .check_under(quote, from_wire(under)?)
        .map_err(|error| no(&error))?;
    let payer = checked.payer();
    if payer != runtime.node() {
        match wallet.standing(&payer).map_err(|error| no(&error))? {
            Standing::Kept(_) | Standing::Authority => {}
            Standing::Defaulted(owed) => return Err(in_default(owed)),
            Standing::Unknown | Standing::Stranger(_) => {
                let text = "the payer is neither a member nor the authority of this network";
                return Err(refused(RefuseCode::NotMember, text, Retry::Never));
            }
        }
    }
    if checked.tracker() != runtime.node()
        && let Err(refused) = ask_root(runtime, &checked, quote.max_amount).await
    {
        // It may have set the units aside all the same.
        let_go(runtime, checked.tracker(), &checked.under().spend);
        return Err(refused);
    }
    Ok(Some(checked))
}

async fn ask_root(runtime: &Runtime, checked: &CheckedUnder, amount: Amount) -> Result<(), Refuse> {
    let root = checked.tracker();
    let question = Frame::ReserveUnits(ReserveUnits {
        under: to_wire(checked.under()),
        utrm: amount.utrm(),
    });
    let later = |text: &str| refused(RefuseCode::Mandate, text, Retry::Later);
    match ask(runtime, root, question).await {
        Ok(Frame::UnitsReserved) => Ok(()),
        Ok(Frame::Refuse(said)) => {
            let text = format!("the payer {} refused: \"{said}\"", root.short());
            let code = match said.code {
                RefuseCode::Units => RefuseCode::Units,
                _ => RefuseCode::Mandate,
            };
            Err(refused(code, &text, said.retry))
        }
        Ok(other) => Err(later(&format!("the payer answered with {}", other.name()))),
        Err(failure) => {
            tracing::debug!(%failure, payer = %root.short(), "a payer could not be asked");
            Err(later(&format!(
                "the payer {} cannot be reached, and the mandate is not pinned to this node",
                root.short()
            )))
        }
    }
}

/// Tells the one who remembers them that the units of a spend are free. One that does not hear it gives
/// them up when the spend is over.
pub(crate) fn let_go(runtime: &Runtime, tracker: NodeId, spend: &Signed<Spend>) {
    let of_tracker = runtime.clone();
    let frame = Frame::ReleaseUnits(SignedBytes(spend.to_bytes()));
    runtime.spawn(async move {
        if let Err(failure) = ask(&of_tracker, tracker, frame).await {
            tracing::debug!(%failure, "a payer did not hear that units are free");
        }
    });
}

async fn ask(runtime: &Runtime, node: NodeId, frame: Frame) -> Result<Frame, Failure> {
    let peers = crate::offers::known_peers(runtime)?;
    exchange(runtime, &address_of(&peers, node), frame).await
}

// --- the root payer's side --------------------------------------------------------------------------

/// A provider asks for units.
pub(crate) async fn reserve(runtime: &Runtime, provider: NodeId, asked: &ReserveUnits) -> Frame {
    let reserved = async {
        let amount = Amount::from_utrm(asked.utrm)
            .map_err(|error| refused(RefuseCode::BadRequest, &error.to_string(), Retry::Never))?;
        let under = from_wire(&asked.under)?;
        let wallet = &runtime.inner.wallet;
        let reserved = wallet.reserve_units(provider, under, amount).await;
        reserved.map_err(|error| no(&error))
    };
    reserved
        .await
        .map_or_else(Frame::Refuse, |()| Frame::UnitsReserved)
}

/// A provider will not be paid for a spend.
pub(crate) async fn release(runtime: &Runtime, provider: NodeId, spend: &SignedBytes) -> Frame {
    let released = async {
        let spend = Signed::<Spend>::from_bytes(&spend.0)
            .map_err(|error| refused(RefuseCode::BadRequest, &error.to_string(), Retry::Never))?;
        let released = runtime.inner.wallet.release_units(provider, spend).await;
        released.map_err(|error| no(&error))
    };
    released
        .await
        .map_or_else(Frame::Refuse, |()| Frame::UnitsReleased)
}

/// A provider tells what was bought.
pub(crate) async fn book_draw(runtime: &Runtime, provider: NodeId, drawn: &Drawn) -> Frame {
    let booked = async {
        let bad = |text: &str| refused(RefuseCode::BadRequest, text, Retry::Never);
        let receipt = Receipt::from_bytes(&drawn.receipt).map_err(|e| bad(&e.to_string()))?;
        let receipt = receipt.verify().map_err(|e| bad(&e.to_string()))?;
        if receipt.agreement.provider != provider {
            return Err(bad("the receipt is another provider's"));
        }
        let (id, under) = (receipt.id(), from_wire(&drawn.under)?);
        match runtime.inner.wallet.book_draw(receipt, under).await {
            Ok(_) => Ok(id),
            Err(error) => {
                tracing::warn!(%error, provider = %provider.short(), "a draw was not booked");
                Err(no(&error))
            }
        }
    };
    booked.await.map_or_else(Frame::Refuse, Frame::Settled)
}

// --- giving back ------------------------------------------------------------------------------------

/// Somebody wants units back that this node remembers.
pub(crate) async fn give_back(runtime: &Runtime, asked: &ReturnUnits) -> Frame {
    let given = async {
        let bad = |error: &dyn std::fmt::Display| {
            refused(RefuseCode::BadRequest, &error.to_string(), Retry::Never)
        };
        let chain = MandateChain::from_bytes(&asked.chain).map_err(|e| bad(&e))?;
        let back = Signed::<RangeReturn>::from_bytes(&asked.back).map_err(|e| bad(&e))?;
        let wallet = &runtime.inner.wallet;
        let root = back.body.root;
        let standing = wallet.standing(&root).map_err(|error| no(&error))?;
        let stranger = matches!(standing, Standing::Unknown | Standing::Stranger(_));
        if stranger && root != runtime.node() {
            let text = "the payer is neither a member nor the authority of this network";
            return Err(refused(RefuseCode::NotMember, text, Retry::Never));
        }
        let given = wallet.give_units_back(chain, back.body, back.signature);
        given.await.map_err(|error| no(&error))
    };
    match given.await {
        Ok(backs) => Frame::UnitsReturned(UnitsReturned {
            backs: backs.iter().map(Signed::to_bytes).collect(),
        }),
        Err(refused) => Frame::Refuse(refused),
    }
}

/// Takes back what is left of a mandate that was handed out here, part by part. Answers how much came
/// back now.
pub(crate) async fn reclaim(runtime: &Runtime, grant: GrantId) -> Result<Amount, Failure> {
    let wallet = &runtime.inner.wallet;
    if let Some(came) = wallet.reclaim_unpinned(grant).await? {
        return Ok(came);
    }
    let (mut came, mut part) = (Amount::ZERO, None);
    for _ in 0..PARTS_MAX {
        let (chain, request) = wallet.reclaim_request(&grant, part)?;
        if request.body.tracker == runtime.node() {
            return Ok(wallet.reclaim_here(grant).await?);
        }
        let backs = ask_back(runtime, &chain, &request).await?;
        part = rest(request.body.range, &backs);
        let now = wallet.took_back(grant, backs).await?;
        came = came.checked_add(now).unwrap_or(Amount::MAX);
        if part.is_none() {
            break;
        }
    }
    Ok(came)
}

/// Gives back what is left of a mandate that is held here, part by part: nothing is spent under it any
/// more. Answers how much the one who remembers its units let go.
pub(crate) async fn give_up(
    runtime: &Runtime,
    agent: AgentId,
    grant: GrantId,
) -> Result<Amount, Failure> {
    let wallet = &runtime.inner.wallet;
    let (mut gone, mut part) = (Amount::ZERO, None);
    for _ in 0..PARTS_MAX {
        let (chain, request) = wallet.give_back_request(agent, (grant, part)).await?;
        let backs = ask_back(runtime, &chain, &request).await?;
        part = rest(request.body.range, &backs);
        let proved = backs
            .iter()
            .filter(|back| back.body.is_by_tracker(&back.signature));
        for back in proved {
            let units = back.body.range.amount();
            gone = gone.checked_add(units).unwrap_or(Amount::MAX);
        }
        if part.is_none() {
            break;
        }
    }
    Ok(gone)
}

async fn ask_back(
    runtime: &Runtime,
    chain: &MandateChain,
    request: &Signed<RangeReturn>,
) -> Result<Vec<Signed<RangeReturn>>, Failure> {
    let tracker = request.body.tracker;
    let frame = Frame::ReturnUnits(ReturnUnits {
        chain: chain.to_bytes(),
        back: request.to_bytes(),
    });
    let failed = |text: String| Failure::new(FailureCode::ProviderFailed, text);
    match ask(runtime, tracker, frame).await {
        Ok(Frame::UnitsReturned(returned)) => returned
            .backs
            .iter()
            .map(|back| Signed::from_bytes(back).map_err(|error| failed(error.to_string())))
            .collect(),
        Ok(Frame::Refuse(said)) => Err(failed(format!(
            "node {} refused: \"{said}\"",
            tracker.short()
        ))),
        Ok(other) => Err(failed(format!(
            "node {} answered with {}",
            tracker.short(),
            other.name()
        ))),
        Err(failure) => Err(failure.hint(format!(
            "node {} remembers which units were used and must say which were not; what is left stays \
             set aside until it does: ask again later",
            tracker.short()
        ))),
    }
}
