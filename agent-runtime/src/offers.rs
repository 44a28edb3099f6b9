//! Who sells what: this node's engine, and what connected peers say they offer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tirami_manifest::{Multiplier, NodeId};
use tirami_mesh::net::transport::PeerAddr;
use tirami_mesh::proto::message::{Frame, Offer, Refuse};
use tokio::time::timeout_at;

use crate::failure::Failure;
use crate::prices::OTHERS_WITHIN;
use crate::runtime::Runtime;

/// How long a peer may take to say what it offers; chosen: one that takes longer is not a good
/// choice now.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How many round trips of a packet it may take beside that, and for how long at most; chosen: over a line that is
/// far away the question or the answer may be lost twice in a row. A peer can seem farther away than it is.
const ROUND_TRIPS: u32 = 4;
const FAR_AWAY_AT_MOST: Duration = Duration::from_secs(3);

/// What one node offers.
#[derive(Clone, Debug)]
pub(crate) struct Seller {
    pub(crate) peer: PeerAddr,
    pub(crate) local: bool,
    pub(crate) connected: bool,
    pub(crate) offers: Vec<Offer>,
    /// Why it offers nothing, in its own words.
    pub(crate) refusal: Option<Refuse>,
    /// Whether it said so a moment ago and was not asked again.
    pub(crate) remembered: bool,
}

/// What this node sells, at this price.
pub(crate) fn own(runtime: &Runtime, multiplier: Multiplier) -> Vec<Offer> {
    let waiting = runtime.inner.selling.taken().all();
    runtime
        .inner
        .engine
        .iter()
        .map(|engine| Offer {
            name: engine.name().to_owned(),
            card: engine.card(),
            multiplier,
            waiting,
        })
        .collect()
}

/// This node and every peer it knows, each with what it offers now.
pub(crate) async fn sellers(runtime: &Runtime) -> Result<Vec<Seller>, Failure> {
    sellers_within(runtime, None, BTreeMap::new()).await
}

/// The same for a request that waits: whoever answers much later than the first who sells is left out.
pub(crate) async fn sellers_soon(runtime: &Runtime) -> Result<Vec<Seller>, Failure> {
    sellers_within(runtime, Some(OTHERS_WITHIN), BTreeMap::new()).await
}

/// The same, but who was asked a moment ago is not asked again.
pub(crate) async fn sellers_lately(runtime: &Runtime) -> Result<Vec<Seller>, Failure> {
    let (heard, now_ms) = (&runtime.inner.heard, runtime.inner.clock.elapsed_ms());
    let remembered = heard.lately(&runtime.transport()?.connected(), now_ms);
    sellers_within(runtime, Some(OTHERS_WITHIN), remembered).await
}

/// This node, and what it does for itself. Its own work costs a node nothing, and is done whether or not it
/// sells.
pub(crate) fn here(runtime: &Runtime) -> Seller {
    Seller {
        peer: PeerAddr {
            id: runtime.node(),
            addresses: runtime.addresses(),
        },
        local: true,
        connected: true,
        offers: own(runtime, Multiplier::from_ppm(0)),
        refusal: None,
        remembered: false,
    }
}

/// Asks every peer but those whose offers are `remembered`.
async fn sellers_within(
    runtime: &Runtime,
    others: Option<Duration>,
    mut remembered: BTreeMap<NodeId, Seller>,
) -> Result<Vec<Seller>, Failure> {
    let mut sellers = vec![here(runtime)];
    let mut asked = tokio::task::JoinSet::new();
    let mut until = None;
    for peer in known_peers(runtime)? {
        if let Some(seller) = remembered.remove(&peer.id) {
            sellers.push(Seller { peer, ..seller });
            continue;
        }
        let runtime = runtime.clone();
        asked.spawn(async move { ask(&runtime, peer).await });
    }
    let sold = |seller: &Seller| !seller.local && !seller.offers.is_empty();
    if let Some(others) = others.filter(|_| sellers.iter().any(sold)) {
        until = Some(tokio::time::Instant::now() + others);
    }
    loop {
        let next = asked.join_next();
        let next = match until {
            None => next.await,
            Some(until) => timeout_at(until, next).await.unwrap_or(None),
        };
        let Some(answer) = next else { break };
        let Ok(seller) = answer else { continue };
        if let Some(others) = others.filter(|_| !seller.offers.is_empty()) {
            until.get_or_insert(tokio::time::Instant::now() + others);
        }
        sellers.push(seller);
    }
    sellers.sort_by_key(|seller| (!seller.local, seller.peer.id));
    Ok(sellers)
}

/// Those this node was told of, with their addresses: the node that invited it, and those of the
/// configuration.
pub(crate) fn told_peers(runtime: &Runtime) -> Result<Vec<PeerAddr>, Failure> {
    let inviter = runtime.inner.wallet.inviter()?.map(|ticket| PeerAddr {
        id: ticket.invitation.body.issuer,
        addresses: ticket.addresses,
    });
    let configured = runtime.inner.config.peers.iter().cloned();
    let mut peers: Vec<PeerAddr> = Vec::new();
    for peer in inviter.into_iter().chain(configured) {
        if peer.id != runtime.node() && !peers.iter().any(|known| known.id == peer.id) {
            peers.push(peer);
        }
    }
    Ok(peers)
}

/// Those this node was told of, members of this node's books, and whoever is connected.
pub(crate) fn known_peers(runtime: &Runtime) -> Result<Vec<PeerAddr>, Failure> {
    let mut peers = told_peers(runtime)?;
    let connected = runtime.transport()?.connected();
    let members = runtime.inner.wallet.members()?;
    let others = connected
        .into_iter()
        .chain(members.into_iter().map(|(id, _)| id));
    let mut known: BTreeSet<NodeId> = peers.iter().map(|peer| peer.id).collect();
    known.insert(runtime.node());
    for id in others {
        if known.insert(id) {
            let addresses = Vec::new();
            peers.push(PeerAddr { id, addresses });
        }
    }
    Ok(peers)
}

/// How long a peer may take to say what it offers, which is so far away.
fn answer_within(round_trip: Option<Duration>) -> Duration {
    let far = round_trip.map_or(Duration::ZERO, |trip| trip.saturating_mul(ROUND_TRIPS));
    ANSWER_WITHIN.saturating_add(far.min(FAR_AWAY_AT_MOST))
}

async fn ask(runtime: &Runtime, peer: PeerAddr) -> Seller {
    let path = runtime
        .transport()
        .ok()
        .and_then(|wire| wire.peer(peer.id).path);
    let within = answer_within(path.map(|path| path.round_trip));
    let answer = async {
        let mut link = runtime.transport()?.open(&peer).await?;
        link.send(&Frame::ListOffers).await?;
        link.finish()?;
        Ok::<_, Failure>(link.receive_within(within).await?)
    };
    let mut refusal = None;
    let offers = match tokio::time::timeout(within, answer).await {
        Ok(Ok(Some(Frame::Offers(mut offers)))) => {
            // Work that costs nothing cannot be held, quoted or receipted.
            offers.offers.retain(|offer| offer.multiplier.ppm() > 0);
            Some(offers.offers)
        }
        Ok(Ok(Some(Frame::Refuse(refused)))) => {
            refusal = Some(refused);
            Some(Vec::new())
        }
        Ok(Err(failure)) => {
            tracing::debug!(peer = %peer.id.short(), %failure, "a peer did not say what it offers");
            None
        }
        Ok(Ok(_)) | Err(_) => None,
    };
    let seller = Seller {
        peer,
        local: false,
        connected: offers.is_some(),
        offers: offers.unwrap_or_default(),
        refusal,
        remembered: false,
    };
    let now_ms = runtime.inner.clock.elapsed_ms();
    runtime.inner.heard.hear(seller.clone(), now_ms);
    seller
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_far_away_has_longer_to_say_what_it_offers_and_not_without_end() {
        let within = |ms| answer_within(Some(Duration::from_millis(ms)));
        assert_eq!(answer_within(None), Duration::from_secs(2));
        assert_eq!(within(1), Duration::from_millis(2_004));
        assert_eq!(within(400), Duration::from_millis(3_600));
        assert_eq!(within(60_000), Duration::from_secs(5));
    }
}
