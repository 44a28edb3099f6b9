//! Operations on the way to other nodes: who is there, how far away, and whether this node can be
//! reached.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::NodeId;
use tirami_manifest::key::SecretKey;
use tirami_mesh::net::probe::{stranger, udp_loopback};
use tirami_mesh::net::transport::{NetError, PeerAddr, PeerState, Transport};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Caller, Operation, TextSink};
use crate::clock::random;
use crate::failure::{Failure, FailureCode};
use crate::offers::{self, known_peers};
use crate::pinging::{self, PINGS_MAX, Pinged, ms};
use crate::runtime::Runtime;

/// Pings sent when nobody says how many; chosen.
const PINGS: u32 = 4;

empty_input!(
    /// The nodes this one knows.
    Peers
);

/// The nodes this one knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeersOutput {
    /// This node.
    pub node: NodeId,
    /// The others.
    pub peers: Vec<PeerOutput>,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerOutput {
    /// Its id.
    pub node: NodeId,
    /// Whether it answered just now.
    pub connected: bool,
    /// `authority` or `member`.
    pub role: String,
    /// How it is reached: `direct` or `relayed`; absent without a live connection.
    #[serde(default)]
    pub path: Option<String>,
    /// Milliseconds of a packet there and back.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
    /// When something last came from it, RFC 3339 in UTC; absent when nothing has since this node
    /// started.
    #[serde(default)]
    pub last_heard: Option<String>,
    /// Where it can be reached.
    pub addresses: Vec<String>,
    /// Names of the models it sells.
    pub models: Vec<String>,
}

/// Measures the way to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PingPeer {
    /// A node id, the first digits of a known one's, its address, or `NODE_ID@ADDRESS:PORT`.
    pub peer: String,
    /// How often, 1 to 100; 4 when absent.
    #[serde(default)]
    pub count: Option<u32>,
}

/// How far away a peer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PingOutput {
    /// The peer.
    pub node: NodeId,
    /// `direct` or `relayed`; absent when the connection ended meanwhile.
    pub path: Option<String>,
    /// Where the packets went.
    pub to: Option<String>,
    /// Whether it was connected before.
    pub was_connected: bool,
    /// Milliseconds until a stream was open: a dial, unless it was connected before.
    pub open_ms: f64,
    /// Milliseconds there and back, in the order of the pings.
    pub rtt_ms: Vec<f64>,
    /// The least of them.
    pub rtt_min_ms: f64,
    /// Their mean.
    pub rtt_mean_ms: f64,
    /// The most of them.
    pub rtt_max_ms: f64,
}

empty_input!(
    /// Looks whether this node can be reached, and whom it reaches.
    NetCheck
);

/// Whether this node can be reached, and whom it reaches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetCheckOutput {
    /// This node.
    pub node: NodeId,
    /// Its process.
    pub pid: u32,
    /// Whether anybody can reach it: over one of its addresses, its relay, or a connection with a peer.
    pub reachable: bool,
    /// Whether datagrams pass within this machine.
    pub loopback: ReachOutput,
    /// Each address of its mesh port, dialled by a second node on this machine.
    pub addresses: Vec<ReachOutput>,
    /// Its relay; absent when it has none.
    pub relay: Option<ReachOutput>,
    /// Each peer it knows.
    pub peers: Vec<PeerReachOutput>,
}

/// Whether something was reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReachOutput {
    /// What.
    pub to: String,
    /// Whether it was.
    pub reached: bool,
    /// How long that took, or how long was waited.
    pub took_ms: f64,
    /// Why not.
    pub problem: Option<String>,
}

/// Whether a peer was reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerReachOutput {
    /// The peer.
    pub node: NodeId,
    /// Where it should be; empty when only its connections are known.
    pub addresses: Vec<String>,
    /// Whether it answered.
    pub reached: bool,
    /// `direct` or `relayed`.
    pub path: Option<String>,
    /// Milliseconds until it answered, or how long was waited.
    pub took_ms: f64,
    /// Why it did not.
    pub problem: Option<String>,
}

fn texts(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// The word for how a peer is reached.
fn path_word(state: &PeerState) -> Option<String> {
    let path = state.path.as_ref()?;
    let word = if path.relayed { "relayed" } else { "direct" };
    Some(word.to_owned())
}

impl Operation for Peers {
    const NAME: &'static str = "peers";
    type Output = PeersOutput;

    async fn run(
        self,
        runtime: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<PeersOutput, Failure> {
        let authority = runtime.genesis().authority();
        let sellers = offers::sellers(runtime).await?;
        let transport = runtime.transport()?;
        let mut peers = Vec::new();
        for seller in sellers.into_iter().filter(|seller| !seller.local) {
            let node = seller.peer.id;
            let state = transport.peer(node);
            let is_authority = authority == Some(node);
            peers.push(PeerOutput {
                node,
                connected: seller.connected,
                role: if is_authority { "authority" } else { "member" }.to_owned(),
                path: path_word(&state),
                rtt_ms: state.path.map(|path| ms(path.round_trip)),
                last_heard: state.silent_for.map(|silent| last_heard(runtime, silent)),
                addresses: texts(&seller.peer.addresses),
                models: seller.offers.into_iter().map(|offer| offer.name).collect(),
            });
        }
        Ok(PeersOutput {
            node: runtime.node(),
            peers,
        })
    }
}

fn last_heard(runtime: &Runtime, silent_for: Duration) -> String {
    let silent_ms = u64::try_from(silent_for.as_millis()).unwrap_or(u64::MAX);
    let at = runtime.now().ms().saturating_sub(silent_ms);
    tirami_manifest::Timestamp::from_ms(at).to_rfc3339()
}

impl Operation for PingPeer {
    const NAME: &'static str = "peer_ping";
    type Output = PingOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<PingOutput, Failure> {
        let count = self.count.unwrap_or(PINGS);
        if !(1..=PINGS_MAX).contains(&count) {
            let text = format!("count is {count}; it must be 1 to {PINGS_MAX}");
            return Err(Failure::new(FailureCode::InvalidInput, text));
        }
        let peer = pinging::find(runtime, self.peer.trim())?;
        // Others do not make this node send where they like.
        if self.peer.contains('@') {
            caller.must_be_main()?;
        }
        let transport = runtime.transport()?;
        let was_connected = transport.peer(peer.id).path.is_some();
        let began = tokio::time::Instant::now();
        let pinged = pinging::ping(&**transport, &peer, count)
            .await
            .map_err(|error| pinging::not_reached(&error, began.elapsed()))?;
        let state = transport.peer(peer.id);
        Ok(PingOutput {
            path: path_word(&state),
            to: state.path.map(|path| path.to),
            ..measured(peer.id, was_connected, &pinged)
        })
    }
}

fn measured(node: NodeId, was_connected: bool, pinged: &Pinged) -> PingOutput {
    let rtt_ms: Vec<f64> = pinged.round_trips.iter().copied().map(ms).collect();
    let count = u32::try_from(rtt_ms.len()).unwrap_or(u32::MAX).max(1);
    let whole: Duration = pinged.round_trips.iter().sum();
    PingOutput {
        node,
        path: None,
        to: None,
        was_connected,
        open_ms: ms(pinged.opened),
        rtt_min_ms: rtt_ms.iter().copied().reduce(f64::min).unwrap_or_default(),
        rtt_mean_ms: ms(whole / count),
        rtt_max_ms: rtt_ms.iter().copied().reduce(f64::max).unwrap_or_default(),
        rtt_ms,
    }
}

impl Operation for NetCheck {
    const NAME: &'static str = "net_check";
    type Output = NetCheckOutput;

    async fn run(
        self,
        runtime: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<NetCheckOutput, Failure> {
        let transport = runtime.transport()?;
        let (loopback, addresses, relay, peers) = tokio::join!(
            loopback(),
            own_addresses(runtime),
            relay(&**transport),
            peers(runtime),
        );
        let peers = peers?;
        let by_relay = relay.as_ref().is_some_and(|relay| relay.reached);
        Ok(NetCheckOutput {
            node: runtime.node(),
            pid: std::process::id(),
            reachable: addresses.iter().any(|address| address.reached)
                || peers.iter().any(|peer| peer.reached)
                || by_relay,
            loopback,
            addresses,
            relay,
            peers,
        })
    }
}

fn reach(to: String, began: Instant, problem: Option<String>) -> ReachOutput {
    ReachOutput {
        to,
        reached: problem.is_none(),
        took_ms: ms(began.elapsed()),
        problem,
    }
}

async fn loopback() -> ReachOutput {
    let began = tokio::time::Instant::now();
    let sent = udp_loopback().await;
    let problem = sent.err().map(|error| error.to_string());
    reach("UDP on 127.0.0.1".to_owned(), began, problem)
}

async fn relay(transport: &dyn Transport) -> Option<ReachOutput> {
    let began = tokio::time::Instant::now();
    let state = transport.relay().await?;
    Some(reach(state.relay.url().to_owned(), began, state.problem))
}

/// Dials each address of this node from a second one, which is made for it.
async fn own_addresses(runtime: &Runtime) -> Vec<ReachOutput> {
    let mut dials = JoinSet::new();
    for (place, address) in runtime.addresses().into_iter().enumerate() {
        let peer = PeerAddr {
            id: runtime.node(),
            addresses: vec![address],
        };
        dials.spawn(async move {
            let began = tokio::time::Instant::now();
            let problem = from_outside(&peer, address).await.err();
            let problem = problem.map(|error| error.to_string());
            (place, reach(address.to_string(), began, problem))
        });
    }
    let mut reached = dials.join_all().await;
    reached.sort_by_key(|(place, _)| *place);
    reached.into_iter().map(|(_, reached)| reached).collect()
}

async fn from_outside(peer: &PeerAddr, address: SocketAddr) -> Result<(), NetError> {
    let second = stranger(&SecretKey::from_bytes(&random()), address).await?;
    let pinged = pinging::ping(&second, peer, 1).await;
    second.close().await;
    pinged.map(drop)
}

async fn peers(runtime: &Runtime) -> Result<Vec<PeerReachOutput>, Failure> {
    let mut pings = JoinSet::new();
    for peer in known_peers(runtime)? {
        let transport = runtime.transport()?.clone();
        pings.spawn(async move {
            let began = tokio::time::Instant::now();
            let pinged = pinging::ping(&*transport, &peer, 1).await;
            PeerReachOutput {
                node: peer.id,
                addresses: texts(&peer.addresses),
                reached: pinged.is_ok(),
                path: path_word(&transport.peer(peer.id)),
                took_ms: ms(began.elapsed()),
                problem: pinged.err().map(|error| error.to_string()),
            }
        });
    }
    let mut peers = pings.join_all().await;
    peers.sort_by_key(|peer| peer.node);
    Ok(peers)
}
