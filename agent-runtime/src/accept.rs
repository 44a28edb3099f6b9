//! Takes what peers send: each stream's first frame says who answers it.

use tirami_manifest::NodeId;
use tirami_mesh::net::transport::{FIRST_FRAME_WITHIN, Incoming, Link};
use tirami_mesh::proto::message::{Frame, Offers, RefuseCode, Retry};

use crate::failure::Failure;
use crate::refusing::{not_sold, refuse, say};
use crate::runtime::Runtime;
use crate::{certifying, claiming, offers, pinging, selling, serve, sync, travelling};

/// Requests of one peer served at once; chosen: one peer alone cannot keep out the others.
const SERVED_PER_PEER: usize = 64;

/// Accepts streams until the transport closes.
pub(crate) async fn accept(runtime: Runtime) {
    let Ok(transport) = runtime.transport().cloned() else {
        return;
    };
    while let Some(Incoming { peer, link }) = transport.accept().await {
        let Ok(permit) = runtime.inner.jobs.clone().try_acquire_owned() else {
            runtime.spawn(async move {
                say(
                    link,
                    refuse(RefuseCode::Busy, "too many requests at once", Retry::Later),
                )
                .await;
            });
            continue;
        };
        let Some(place) = Place::take(&runtime, peer) else {
            runtime.spawn(async move {
                let text = "too many requests of one node at once";
                say(link, refuse(RefuseCode::Busy, text, Retry::Later)).await;
            });
            continue;
        };
        let of_peer = runtime.clone();
        runtime.spawn(async move {
            let _place = place;
            if let Err(failure) = request(&of_peer, peer, link).await {
                tracing::debug!(peer = %peer.short(), %failure, "a peer's request broke off");
            }
            drop(permit);
        });
    }
}

/// One of the requests that one peer may have served at once.
struct Place {
    runtime: Runtime,
    peer: NodeId,
}

impl Place {
    fn take(runtime: &Runtime, peer: NodeId) -> Option<Self> {
        let mut served = runtime.served();
        let count = served.entry(peer).or_default();
        if *count >= SERVED_PER_PEER {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Self {
            runtime: runtime.clone(),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut served = self.runtime.served();
        if let Some(count) = served.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                served.remove(&self.peer);
            }
        }
    }
}

async fn request(runtime: &Runtime, peer: NodeId, mut link: Link) -> Result<(), Failure> {
    let Some(first) = link.receive_within(FIRST_FRAME_WITHIN).await? else {
        return Ok(());
    };
    match first {
        Frame::ListOffers => {
            let answer = match selling::offer(runtime, &peer) {
                Ok(price) => Frame::Offers(Offers {
                    offers: offers::own(runtime, price),
                }),
                Err(why) => Frame::Refuse(not_sold(&why, runtime.now())),
            };
            say(link, answer).await;
        }
        Frame::Ping(number) => pinging::answer(link, number).await?,
        Frame::Join(join) => say(link, sync::welcome(runtime, peer, &join).await).await,
        Frame::Repay(repay) => {
            say(
                link,
                sync::book_repayment(runtime, peer, &repay.repayment).await,
            )
            .await;
        }
        Frame::Countersign(receipt) => {
            say(link, sync::book_sale(runtime, peer, &receipt.receipt).await).await;
        }
        Frame::Claim(claim) => {
            say(link, claiming::book(runtime, peer, &claim.receipt).await).await;
        }
        Frame::ReserveUnits(asked) => {
            say(link, travelling::reserve(runtime, peer, &asked).await).await;
        }
        Frame::ReleaseUnits(spend) => {
            say(link, travelling::release(runtime, peer, &spend).await).await;
        }
        Frame::Drawn(drawn) => say(link, travelling::book_draw(runtime, peer, &drawn).await).await,
        Frame::ReturnUnits(asked) => say(link, travelling::give_back(runtime, &asked).await).await,
        Frame::Certify(shown) => say(link, certifying::certify(runtime, peer, &shown).await).await,
        Frame::AskQuote(ask) => serve::job(runtime, peer, link, ask).await?,
        other => {
            let text = format!("a stream does not start with {}", other.name());
            say(link, refuse(RefuseCode::BadRequest, &text, Retry::Never)).await;
        }
    }
    Ok(())
}
