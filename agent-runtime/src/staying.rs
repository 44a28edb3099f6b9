//! Staying connected with those this node was told of: its inviter and the peers of its configuration.
//!
//! They may not know where this node is; whoever draws on a mandate of it asks it first, and whoever it owes
//! by voucher claims that of it. So a connection that was lost, or over which nothing comes any more, is made
//! again: soon, and without end.

use std::collections::BTreeMap;
use std::time::Duration;

use tirami_manifest::NodeId;
use tirami_mesh::net::transport::{NetError, PeerAddr};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::failure::Failure;
use crate::offers::told_peers;
use crate::runtime::Runtime;

/// How often is looked who is away, and how long after a first failure a peer is dialled again.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Most time from one dial to the next; chosen: with the second that a dial takes once the peer is
/// there, a connection is back within five.
pub(crate) const AWAY_AT_MOST: Duration = Duration::from_secs(2);

/// Most peers dialled at once; chosen.
const DIALS_MAX: usize = 16;

/// Makes connections again, for as long as the node runs.
pub(crate) async fn stay_connected(runtime: Runtime) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut dials, mut away) = (JoinSet::new(), Away::default());
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if let Err(failure) = look(&runtime, &mut dials, &mut away) {
                    tracing::debug!(%failure, "it cannot be seen who is away");
                }
            }
            Some(dialled) = dials.join_next() => {
                if let Ok((peer, reached)) = dialled {
                    away.dialled(peer, reached, tokio::time::Instant::now());
                }
            }
        }
    }
}

/// Dials everybody who is away and whose turn it is, all at once: one that is not there does not keep
/// the others waiting.
fn look(
    runtime: &Runtime,
    dials: &mut JoinSet<(NodeId, bool)>,
    away: &mut Away,
) -> Result<(), Failure> {
    let (transport, now) = (runtime.transport()?, tokio::time::Instant::now());
    let connected = transport.connected();
    let mut told = told_peers(runtime)?;
    told.retain(|peer| !connected.contains(&peer.id));
    away.retain(&told);
    for peer in told {
        if dials.len() >= DIALS_MAX || !away.is_due(peer.id, now) {
            continue;
        }
        let transport = transport.clone();
        dials.spawn(async move {
            let reached = async {
                let mut link = transport.open(&peer).await?;
                link.finish()?;
                Ok::<_, NetError>(())
            };
            let reached = reached.await;
            let id = peer.id.short();
            match &reached {
                Ok(()) => tracing::info!(peer = %id, "connected"),
                Err(error) => tracing::debug!(peer = %id, %error, "a known node is away"),
            }
            (peer.id, reached.is_ok())
        });
    }
    Ok(())
}

/// Who is away, and when each is dialled next.
#[derive(Debug, Default)]
struct Away(BTreeMap<NodeId, Next>);

#[derive(Clone, Copy, Debug)]
enum Next {
    /// A dial is under way; the pause after it, should it fail.
    Dialling(Duration),
    /// Not before then; the pause before it was as long as said.
    NotBefore(Instant, Duration),
}

impl Away {
    /// Forgets everybody who is connected or no longer known, but for those being dialled.
    fn retain(&mut self, away: &[PeerAddr]) {
        self.0.retain(|id, next| {
            matches!(next, Next::Dialling(_)) || away.iter().any(|peer| peer.id == *id)
        });
    }

    /// Whether it is to be dialled now; if so, its dial is under way.
    fn is_due(&mut self, peer: NodeId, now: Instant) -> bool {
        let pause = match self.0.get(&peer) {
            None => LOOK_EVERY,
            Some(Next::NotBefore(at, before)) if *at <= now => {
                before.saturating_mul(2).min(AWAY_AT_MOST)
            }
            Some(_) => return false,
        };
        self.0.insert(peer, Next::Dialling(pause));
        true
    }

    fn dialled(&mut self, peer: NodeId, reached: bool, now: Instant) {
        if let Some(Next::Dialling(pause)) = self.0.remove(&peer)
            && !reached
        {
            self.0.insert(peer, Next::NotBefore(now + pause, pause));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tirami_manifest::key::SecretKey;
    use tirami_mesh::net::memory::MemoryNetwork;
    use tirami_mesh::net::transport::Transport;
    use tirami_wallet::keystore::node_key;

    use super::*;
    use crate::config::NodeConfig;
    use crate::runtime::Builder;

    #[test]
    fn a_pause_doubles_up_to_the_most_and_nobody_is_dialled_twice_at_once() {
        let peer = SecretKey::from_bytes(&[1; 32]).id();
        let (mut away, began) = (Away::default(), Instant::now());
        let mut dials = Vec::new();
        // A dial takes no time here and is looked at every tenth of a second.
        for tenth in 0..100_u32 {
            let now = began + Duration::from_millis(100) * tenth;
            if away.is_due(peer, now) {
                assert!(
                    !away.is_due(peer, now + AWAY_AT_MOST),
                    "it is being dialled"
                );
                away.dialled(peer, false, now);
                dials.push(tenth);
            }
        }
        assert_eq!(dials, [0, 5, 15, 35, 55, 75, 95]);
        assert!(away.is_due(peer, began + AWAY_AT_MOST * 10));
        away.retain(&[]);
        away.dialled(peer, true, began);
        assert!(away.is_due(peer, began), "one that was reached starts anew");
    }

    #[tokio::test]
    async fn a_node_connects_to_those_it_was_told_of_and_again_after_a_cut() {
        let network = MemoryNetwork::new();
        let of = |secret: u8| network.transport(SecretKey::from_bytes(&[secret; 32]).id());
        let (gone, there) = (of(1), of(2));
        let folder = tempfile::tempdir().unwrap();
        let key = node_key(&folder.path().join("node.key"), None).unwrap();
        let mut config = NodeConfig::new(folder.path());
        config.model = None;
        config.peers = [&gone, &there]
            .map(|wire| PeerAddr {
                id: wire.id(),
                addresses: wire.addresses(),
            })
            .into();
        gone.close().await;
        let wire = Arc::new(network.transport(key.id()));
        let node = Builder::new(config)
            .transport(wire.clone())
            .start()
            .await
            .unwrap();
        let connected = async || {
            let mut ticks = interval(Duration::from_millis(5));
            while wire.connected() != [there.id()] {
                ticks.tick().await;
            }
        };
        let within = AWAY_AT_MOST + LOOK_EVERY * 2;
        tokio::time::timeout(within, connected()).await.unwrap();
        network.cut(node.node(), there.id());
        assert_eq!(wire.connected(), []);
        network.heal(node.node(), there.id());
        tokio::time::timeout(within, connected()).await.unwrap();
        node.shutdown().await;
    }
}
