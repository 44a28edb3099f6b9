//! Measuring the way to a peer: a number there and back, over the real protocol.

use std::time::Duration;

use tirami_manifest::NodeId;
use tirami_mesh::net::transport::{FIRST_FRAME_WITHIN, Link, NetError, PeerAddr, Transport};
use tirami_mesh::proto::message::Frame;
use tokio::time::timeout;

use crate::failure::{Failure, FailureCode};
use crate::offers::known_peers;
use crate::runtime::Runtime;

/// Most pings on one stream; chosen.
pub(crate) const PINGS_MAX: u32 = 100;

/// How long one stream of pings is answered; chosen, so that nobody keeps a place for long.
const PINGS_WITHIN: Duration = Duration::from_secs(30);

/// How long an answer to a ping may take; chosen: far above any way on this planet.
pub(crate) const PONG_WITHIN: Duration = Duration::from_secs(5);

/// Fewest digits of an id that name a peer; chosen.
const DIGITS_MIN: usize = 4;

/// How far away a peer is.
#[derive(Clone, Debug)]
pub(crate) struct Pinged {
    /// From the question to an open stream: a dial, where there was no connection.
    pub(crate) opened: Duration,
    /// Each way there and back.
    pub(crate) round_trips: Vec<Duration>,
}

/// Opens a stream to a peer and measures `count` round trips, one after the other.
pub(crate) async fn ping(
    transport: &dyn Transport,
    peer: &PeerAddr,
    count: u32,
) -> Result<Pinged, NetError> {
    let began = tokio::time::Instant::now();
    let mut link = transport.open(peer).await?;
    let opened = began.elapsed();
    let mut round_trips = Vec::new();
    for number in 0..u64::from(count) {
        let sent = tokio::time::Instant::now();
        link.send(&Frame::Ping(number)).await?;
        match link.receive_within(PONG_WITHIN).await? {
            Some(Frame::Pong(same)) if same == number => round_trips.push(sent.elapsed()),
            Some(other) => {
                let reason = format!("it answered a ping with {}", other.name());
                return Err(lost(peer.id, reason));
            }
            None => return Err(lost(peer.id, "it hung up without an answer".to_owned())),
        }
    }
    link.finish()?;
    Ok(Pinged {
        opened,
        round_trips,
    })
}

fn lost(peer: NodeId, reason: String) -> NetError {
    NetError::Lost { peer, reason }
}

/// Answers pings until the peer has no more, or has had its time.
pub(crate) async fn answer(mut link: Link, first: u64) -> Result<(), Failure> {
    let answers = async {
        link.send(&Frame::Pong(first)).await?;
        for _ in 1..PINGS_MAX {
            match link.receive_within(FIRST_FRAME_WITHIN).await? {
                Some(Frame::Ping(number)) => link.send(&Frame::Pong(number)).await?,
                _ => break,
            }
        }
        Ok(link.finish()?)
    };
    timeout(PINGS_WITHIN, answers).await.unwrap_or(Ok(()))
}

/// The peer that a text names: a node id, its first digits, an address of a known node, or both as
/// `NODE_ID@ADDRESS`.
pub(crate) fn find(runtime: &Runtime, text: &str) -> Result<PeerAddr, Failure> {
    let shown: String = text.chars().take(120).collect();
    if text.contains('@') {
        return text.parse().map_err(|_| {
            let text = format!("peer is '{shown}'; it must be NODE_ID@ADDRESS:PORT");
            Failure::new(FailureCode::InvalidInput, text)
                .hint("its id and addresses stand in its own status")
        });
    }
    let mut peers = known_peers(runtime)?;
    if let Ok(id) = text.parse::<NodeId>() {
        let addresses = Vec::new();
        let known = peers.into_iter().find(|peer| peer.id == id);
        return Ok(known.unwrap_or(PeerAddr { id, addresses }));
    }
    if let Ok(address) = text.parse() {
        peers.retain(|peer| {
            let path = runtime.transport().map(|t| t.peer(peer.id).path);
            let connected_there = || matches!(path, Ok(Some(path)) if path.to == text);
            peer.addresses.contains(&address) || connected_there()
        });
        return one_of(peers, || {
            format!("no node is known at {address}, and a node is reached by its id and address")
        });
    }
    let digits = text.to_lowercase();
    if digits.len() < DIGITS_MIN || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let text = format!(
            "peer is '{shown}'; it must be a node id, at least {DIGITS_MIN} of its first digits, or an \
             address"
        );
        return Err(Failure::new(FailureCode::InvalidInput, text).hint(KNOWN));
    }
    peers.retain(|peer| peer.id.to_string().starts_with(&digits));
    one_of(peers, || {
        format!("no known node's id begins with '{shown}'")
    })
}

const KNOWN: &str =
    "'tirami-agent peers' lists the known nodes; any other is named NODE_ID@ADDRESS:PORT";

fn one_of(mut peers: Vec<PeerAddr>, none: impl Fn() -> String) -> Result<PeerAddr, Failure> {
    match (peers.pop(), peers.len()) {
        (Some(peer), 0) => Ok(peer),
        (Some(_), more) => {
            let text = format!("{} nodes are named by that", more.saturating_add(1));
            Err(Failure::new(FailureCode::InvalidInput, text).hint("write more of the id"))
        }
        (None, _) => Err(Failure::new(FailureCode::NotFound, none()).hint(KNOWN)),
    }
}

/// Why a peer was not reached, how long that took, and the way out.
pub(crate) fn not_reached(error: &NetError, waited: Duration) -> Failure {
    let text = format!("{error}; waited {:.1} s", waited.as_secs_f64());
    let hint = match error {
        NetError::NoAddress { .. } => {
            "name it NODE_ID@ADDRESS:PORT, or put that into peers of the config file; its addresses \
             stand in its own status"
        }
        NetError::Unreachable { .. } => {
            "see that it runs there, that id, address and port are those of its own status, and that \
             nothing between the two keeps UDP out; 'tirami-agent net check' looks at this side"
        }
        NetError::Myself { .. } => "'tirami-agent net check' looks at this node",
        _ => "try again; 'tirami-agent net check' looks at this side",
    };
    Failure::new(FailureCode::ProviderFailed, text)
        .retryable()
        .hint(hint)
}

/// Milliseconds, to a thousandth.
pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_milliseconds_to_a_thousandth() {
        let told = ms(Duration::from_nanos(1_234_567));
        assert_eq!(told.to_string(), "1.235");
        assert_eq!(ms(Duration::from_secs(2)).to_string(), "2000");
    }
}
