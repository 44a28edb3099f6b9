//! Peers that are asked in the background, each on its own: one that says nothing holds up nobody.

use std::collections::BTreeSet;

use tirami_manifest::NodeId;
use tokio::task::JoinSet;

use crate::backoff::Backoff;
use crate::runtime::Runtime;

/// Peers asked at the same time; chosen: a stream and ten seconds each, at most.
const ASKED_AT_ONCE: usize = 64;

/// Who is being asked, and what failed before, by its id.
#[derive(Debug)]
pub(crate) struct Asking<K> {
    failed: Backoff<K>,
    /// Each answers what has to wait.
    asked: JoinSet<(NodeId, Vec<K>)>,
    busy: BTreeSet<NodeId>,
}

impl<K> Default for Asking<K> {
    fn default() -> Self {
        Self {
            failed: Backoff::default(),
            asked: JoinSet::new(),
            busy: BTreeSet::new(),
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
        !self.busy.contains(peer) && self.failed.is_due(key, there)
    }

    /// Asks a peer, unless so many are being asked that it has to wait for another round.
    pub(crate) fn ask(&mut self, peer: NodeId, ask: impl Future<Output = Vec<K>> + Send + 'static) {
        if self.busy.len() < ASKED_AT_ONCE && self.busy.insert(peer) {
            self.asked.spawn(async move { (peer, ask.await) });
        }
    }

    /// Waits until somebody was asked and notes what has to wait; for ever when nobody is.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn ended(&mut self, runtime: &Runtime) {
        let Some(asked) = self.asked.join_next().await else {
            return std::future::pending().await;
        };
        let Ok((peer, waits)) = asked else {
            return;
        };
        self.busy.remove(&peer);
        let transport = runtime.transport();
        let there = transport.is_ok_and(|wire| wire.connected().contains(&peer));
        for key in waits {
            self.failed.failed(key, there);
        }
    }
}
