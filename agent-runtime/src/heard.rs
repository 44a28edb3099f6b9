//! What peers offered a moment ago, so that a purchase need not ask again what nothing depends on: the quote binds,
//! not the offer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tirami_manifest::NodeId;

use crate::offers::Seller;
use crate::selling::HONOURED_MS;

/// How long an offer is taken to stand, in milliseconds; chosen: well within what its provider honours it for,
/// and not so long that all go where few waited a moment ago.
const STANDS_MS: u64 = 2_000;
const _: () = assert!(STANDS_MS * 2 < HONOURED_MS);

/// Most peers that are remembered; chosen.
const REMEMBERED_MAX: usize = 1_024;

/// What peers said, or that they said nothing.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Each with when it was asked; held for a step only.
    of: Mutex<BTreeMap<NodeId, (u64, Seller)>>,
}

impl Heard {
    fn of(&self) -> MutexGuard<'_, BTreeMap<NodeId, (u64, Seller)>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever was asked lately and is connected, or not, as it was then.
    pub(crate) fn lately(&self, connected: &[NodeId], now_ms: u64) -> BTreeMap<NodeId, Seller> {
        let connected: BTreeSet<&NodeId> = connected.iter().collect();
        let of = self.of();
        let stands = |at_ms: u64| now_ms.saturating_sub(at_ms) < STANDS_MS;
        of.iter()
            .filter(|(id, (at_ms, seller))| {
                stands(*at_ms) && seller.connected == connected.contains(id)
            })
            .map(|(id, (_, seller))| {
                let remembered = true;
                let seller = seller.clone();
                (
                    *id,
                    Seller {
                        remembered,
                        ..seller
                    },
                )
            })
            .collect()
    }

    pub(crate) fn hear(&self, seller: Seller, now_ms: u64) {
        let mut of = self.of();
        if of.len() >= REMEMBERED_MAX {
            of.retain(|_, (at_ms, _)| now_ms.saturating_sub(*at_ms) < STANDS_MS);
        }
        if of.len() < REMEMBERED_MAX {
            of.insert(seller.peer.id, (now_ms, seller));
        }
    }

    /// A peer did not do what it had offered: it is asked anew.
    pub(crate) fn forget(&self, peer: &NodeId) {
        self.of().remove(peer);
    }
}
