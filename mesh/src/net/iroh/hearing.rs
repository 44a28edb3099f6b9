//! The connections of each peer, and when something last came over them. Decides which are still
//! trusted with a new stream; speaks to nobody.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use iroh::endpoint::Connection;
use tirami_manifest::NodeId;
use tokio::time::Instant;

use super::CONNECTIONS_PER_PEER;

/// Most peers without a connection whose last sign of life is remembered; one more ends the oldest
/// memory. Chosen.
const REMEMBERED_MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct Hearing {
    stale_after: Duration,
    /// Oldest first.
    connections: BTreeMap<NodeId, VecDeque<Heard>>,
    /// When something last came from peers that are or were connected.
    last: BTreeMap<NodeId, Instant>,
}

/// One connection.
#[derive(Debug)]
struct Heard {
    connection: Connection,
    /// Datagrams that had come when it was last looked at.
    datagrams: u64,
    /// When one had come that was not there the time before.
    at: Instant,
    /// Whether its silence was said.
    said: bool,
}

impl Heard {
    /// What has come since the last look counts too: on a busy machine that may be long ago.
    fn is_live(&self, stale_after: Duration) -> bool {
        let heard = || self.at.elapsed() < stale_after || self.has_come() != self.datagrams;
        self.connection.close_reason().is_none() && heard()
    }

    fn has_come(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }
}

impl Hearing {
    pub(super) fn new(stale_after: Duration) -> Self {
        Self {
            stale_after,
            connections: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    /// The youngest connection that is open and not silent.
    pub(super) fn live(&self, peer: NodeId) -> Option<Connection> {
        let all = self.connections.get(&peer)?;
        let live = all.iter().rev().find(|one| one.is_live(self.stale_after));
        live.map(|one| one.connection.clone())
    }

    /// Peers with such a connection.
    pub(super) fn connected(&self) -> Vec<NodeId> {
        let live = |all: &VecDeque<Heard>| all.iter().any(|one| one.is_live(self.stale_after));
        let peers = self.connections.iter().filter(|(_, all)| live(all));
        peers.map(|(peer, _)| *peer).collect()
    }

    /// How long ago something last came from a peer.
    pub(super) fn silent_for(&self, peer: NodeId) -> Option<Duration> {
        self.last.get(&peer).map(Instant::elapsed)
    }

    /// Adds a connection whose handshake was done just now. Answers one to be closed for it.
    pub(super) fn add(&mut self, peer: NodeId, connection: &Connection) -> Option<Connection> {
        self.heard(peer, tokio::time::Instant::now());
        let all = self.connections.entry(peer).or_default();
        all.retain(|one| one.connection.close_reason().is_none());
        all.push_back(Heard {
            connection: connection.clone(),
            datagrams: 0,
            at: tokio::time::Instant::now(),
            said: false,
        });
        if all.len() <= CONNECTIONS_PER_PEER {
            return None;
        }
        all.pop_front().map(|oldest| oldest.connection)
    }

    pub(super) fn remove(&mut self, peer: NodeId, connection: &Connection) {
        if let Some(all) = self.connections.get_mut(&peer) {
            all.retain(|one| one.connection.stable_id() != connection.stable_id());
            if all.is_empty() {
                self.connections.remove(&peer);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.connections.clear();
    }

    /// Looks at what has come over each connection. Answers who fell silent since the last look.
    pub(super) fn listen(&mut self) -> Vec<NodeId> {
        let (now, stale_after) = (tokio::time::Instant::now(), self.stale_after);
        let (mut heard, mut silent) = (Vec::new(), Vec::new());
        for (peer, all) in &mut self.connections {
            for one in all {
                let datagrams = one.has_come();
                if datagrams != one.datagrams {
                    (one.datagrams, one.at, one.said) = (datagrams, now, false);
                    heard.push(*peer);
                } else if !one.said && !one.is_live(stale_after) {
                    one.said = true;
                    silent.push(*peer);
                }
            }
        }
        for peer in heard {
            self.heard(peer, now);
        }
        silent
    }

    fn heard(&mut self, peer: NodeId, now: Instant) {
        self.last.insert(peer, now);
        if self.last.len() <= REMEMBERED_MAX {
            return;
        }
        let gone = self
            .last
            .iter()
            .filter(|(peer, _)| !self.connections.contains_key(peer));
        let oldest = gone.min_by_key(|(_, at)| **at).map(|(peer, _)| *peer);
        if let Some(oldest) = oldest {
            self.last.remove(&oldest);
        }
    }
}
