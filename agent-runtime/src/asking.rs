//! Peers that are asked in the background, each on its own: one that says nothing holds up nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use tirami_manifest::NodeId;
use tokio::task::{Id, JoinSet};

use crate::backoff::Backoff;
use crate::runtime::Runtime;

/// Peers asked at the same time; chosen: a stream each.
const ASKED_AT_ONCE: usize = 64;

/// How long one peer may be asked, whatever there is to ask; chosen, so that slow ones leave their places.
const ASKED_FOR: Duration = Duration::from_mins(1);

/// Who is being asked, and what failed before, by its id.
#[derive(Debug)]
pub(crate) struct Asking<K> {
    failed: Backoff<K>,
    /// Each answers what has to wait.
    asked: JoinSet<Vec<K>>,
    busy: BTreeMap<Id, NodeId>,
    /// Who was asked last: the next round goes on behind it, so that everybody has a turn.
    last: Option<NodeId>,
}

impl<K> Default for Asking<K> {
    fn default() -> Self {
        Self {
            failed: Backoff::default(),
            asked: JoinSet::new(),
            busy: BTreeMap::new(),
            last: None,
        }
    }
}

impl<K: Ord + Send + 'static> Asking<K> {
    /// Forgets everything that is over.
    pub(crate) fn retain(&mut self, open: impl Fn(&K) -> bool) {
        self.failed.retain(open);
    }

    /// Whether it is this round's turn, and its peer is not being asked; called once per round. `there`: whether
    /// the peer is connected.
    pub(crate) fn is_due(&mut self, peer: &NodeId, key: &K, there: bool) -> bool {
        !self.busy.values().any(|busy| busy == peer) && self.failed.is_due(key, there)
    }

    /// Those whose turn it is, beginning behind whoever was asked last.
    pub(crate) fn in_turn<T>(&self, due: BTreeMap<NodeId, T>) -> Vec<(NodeId, T)> {
        let (mut first, mut then): (Vec<_>, Vec<_>) = due
            .into_iter()
            .partition(|(peer, _)| self.last.is_none_or(|last| *peer > last));
        first.append(&mut then);
        first
    }

    /// Asks a peer about `keys`, of which it answers those that have to wait; all of them when it takes too long.
    /// False when so many are being asked that it has to wait for another round.
    pub(crate) fn ask(
        &mut self,
        (peer, keys): (NodeId, Vec<K>),
        ask: impl Future<Output = Vec<K>> + Send + 'static,
    ) -> bool {
        if self.busy.len() >= ASKED_AT_ONCE {
            return false;
        }
        let asked = async move {
            let asked = tokio::time::timeout(ASKED_FOR, ask).await;
            asked.unwrap_or(keys)
        };
        self.busy.insert(self.asked.spawn(asked).id(), peer);
        self.last = Some(peer);
        true
    }

    /// Waits until somebody was asked and notes what has to wait; for ever when nobody is.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn ended(&mut self, runtime: &Runtime) {
        self.next(|peer| {
            let transport = runtime.transport();
            transport.is_ok_and(|wire| wire.connected().contains(peer))
        })
        .await;
    }

    async fn next(&mut self, is_there: impl FnOnce(&NodeId) -> bool) {
        let (id, waits) = match self.asked.join_next_with_id().await {
            None => return std::future::pending().await,
            Some(Ok((id, waits))) => (id, waits),
            Some(Err(error)) => (error.id(), Vec::new()),
        };
        let Some(peer) = self.busy.remove(&id) else {
            return;
        };
        let there = is_there(&peer);
        for key in waits {
            self.failed.failed(key, there);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(count: u8) -> BTreeMap<NodeId, u8> {
        (0..count)
            .map(|n| (NodeId::from_bytes([n; 32]), n))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_slowly_leaves_its_place_and_who_found_none_has_the_next_turn() {
        let mut asking = Asking::default();
        let round = |asking: &mut Asking<NodeId>| {
            let due = asking.in_turn(peers(100)).into_iter();
            let asked =
                due.filter(|(peer, _)| asking.ask((*peer, vec![*peer]), std::future::pending()));
            asked.map(|(peer, _)| peer).collect::<Vec<_>>()
        };
        let all: Vec<NodeId> = peers(100).into_keys().collect();
        // Who failed once has to wait from the second time on.
        for peer in &all {
            asking.failed.failed(*peer, true);
        }
        assert_eq!(round(&mut asking), all[..64]);
        assert_eq!(round(&mut asking), [], "no place is free");
        assert!(!asking.is_due(&all[0], &all[0], true), "it is being asked");
        let begun = tokio::time::Instant::now();
        for _ in 0..64 {
            asking.next(|_| true).await;
        }
        assert!(begun.elapsed() < ASKED_FOR * 2, "{:?}", begun.elapsed());
        let due = all.iter().filter(|peer| asking.is_due(peer, peer, true));
        let due: Vec<NodeId> = due.copied().collect();
        assert_eq!(due, all[64..], "who was asked in vain has to wait");
        let next = round(&mut asking);
        assert_eq!(next[..36], all[64..], "those who had no place");
        assert_eq!(next[36..], all[..28]);
    }
}
