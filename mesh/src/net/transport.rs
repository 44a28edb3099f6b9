//! The seam between what is said and what carries it: streams of frames between named nodes.
//!
//! Everything that sends work to a peer names this file and not the wire behind it.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tirami_manifest::NodeId;
use tokio::time::timeout;

use super::codec::{self, CodecError};
use crate::proto::message::{Frame, Retry};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How long a dial may take before the peer counts as unreachable; chosen: a reachable peer on this
/// planet answers in well under a second.
pub const DIAL_WITHIN: Duration = Duration::from_secs(5);

/// How long the opener of a stream may take for its first frame, and a node for its first answer;
/// chosen. For [`Link::receive_within`].
pub const FIRST_FRAME_WITHIN: Duration = Duration::from_secs(10);

/// How long one frame may wait for a peer that does not read; chosen. Then the stream is broken.
pub const SEND_WITHIN: Duration = Duration::from_secs(30);

/// How long a relay may take to answer before it counts as unreachable; chosen, as for a peer.
pub const RELAY_WITHIN: Duration = Duration::from_secs(5);

/// How long a peer may be silent before its connection is no longer trusted with anything new;
/// chosen: two keep-alives and a second. What runs on it already goes on until it is lost, and the
/// next stream is opened over a new connection.
pub const STALE_AFTER: Duration = Duration::from_secs(5);

/// Streams that peers opened and nobody has accepted yet. When that many wait, further ones wait
/// with their opener.
pub const ACCEPT_QUEUE: usize = 64;

/// Most addresses of one peer that are dialled; the rest is ignored. As many as a ticket has.
pub const ADDRESSES_MAX: usize = 16;

/// A node and where it may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddr {
    /// Who answers there; a node with another key is not talked to.
    pub id: NodeId,
    /// Where, all tried at once. May be empty when the peer is connected already.
    pub addresses: Vec<SocketAddr>,
}

/// How a peer is reached just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPath {
    /// Whether frames go through a relay; straight otherwise.
    pub relayed: bool,
    /// Where they go: the peer's address, or the relay's.
    pub to: String,
    /// How long a packet takes there and back, as the wire sees it.
    pub round_trip: Duration,
}

/// What a wire knows of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerState {
    /// How it is reached; none without a live connection.
    pub path: Option<PeerPath>,
    /// How long ago something last came from it, to half a second; none when nothing has come since
    /// this node started, or so long ago that it was forgotten.
    pub silent_for: Option<Duration>,
}

/// Why a text is not a node and its address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no peer: a node id of 64 hexadecimal digits, '@', and an address such as 127.0.0.1:7001"
)]
pub struct PeerAddrError(String);

impl std::str::FromStr for PeerAddr {
    type Err = PeerAddrError;

    fn from_str(text: &str) -> Result<Self, PeerAddrError> {
        let wrong = || PeerAddrError(text.chars().take(120).collect());
        let (id, address) = text.split_once('@').ok_or_else(wrong)?;
        Ok(Self {
            id: id.parse().map_err(|_| wrong())?,
            addresses: vec![address.parse().map_err(|_| wrong())?],
        })
    }
}

/// Where a relay is: `http://` or `https://`, a name or an address, and maybe a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay(String);

impl Relay {
    /// As it was written.
    pub fn url(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a relay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no relay: write http:// or https://, its name or address, and its port if it has one"
)]
pub struct RelayError(String);

impl std::str::FromStr for Relay {
    type Err = RelayError;

    fn from_str(text: &str) -> Result<Self, RelayError> {
        let place = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"))
            .map(|place| place.strip_suffix('/').unwrap_or(place));
        let is_place = |place: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
            !place.is_empty() && place.chars().all(allowed)
        };
        match place {
            Some(place) if is_place(place) => Ok(Self(text.to_owned())),
            _ => Err(RelayError(text.chars().take(120).collect())),
        }
    }
}

/// How this node stands with its relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayState {
    /// Which one.
    pub relay: Relay,
    /// Why it cannot be reached; none when it can.
    pub problem: Option<String>,
}

/// Carries streams of frames between nodes that are known by their keys.
pub trait Transport: Send + Sync + fmt::Debug {
    /// This node.
    fn id(&self) -> NodeId;

    /// Where this node can be reached, at most [`ADDRESSES_MAX`].
    fn addresses(&self) -> Vec<SocketAddr>;

    /// Opens one new stream to the peer, over the connection there is or a new one.
    ///
    /// The peer may see nothing of it before the first frame is sent.
    ///
    /// # Errors
    ///
    /// [`NetError::Unreachable`], [`NetError::NoAddress`], [`NetError::Myself`], and
    /// [`NetError::Closed`] after [`Transport::close`].
    ///
    /// # Cancel safety
    ///
    /// Safe: a dial that is given up leaves nothing behind.
    fn open<'a>(&'a self, peer: &'a PeerAddr) -> BoxFuture<'a, Result<Link, NetError>>;

    /// Waits for the next stream a peer opens; `None` once this transport is closed.
    ///
    /// # Cancel safety
    ///
    /// Safe: no stream is lost.
    fn accept(&self) -> BoxFuture<'_, Option<Incoming>>;

    /// Peers with a live connection, in the order of their ids. One that was silent for
    /// [`STALE_AFTER`] is none.
    fn connected(&self) -> Vec<NodeId>;

    /// What is known of a peer.
    fn peer(&self, peer: NodeId) -> PeerState;

    /// The relay this node uses, if any. Waits for the connection with it, for at most
    /// [`RELAY_WITHIN`].
    fn relay(&self) -> BoxFuture<'_, Option<RelayState>>;

    /// Ends every connection and tells the peers; bounded in time. Can be called again.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A stream that a peer opened.
#[derive(Debug)]
pub struct Incoming {
    /// Who opened it, proved by its key.
    pub peer: NodeId,
    /// The stream.
    pub link: Link,
}

/// The wire's half of a sender: whole frames as bytes.
pub trait FrameSink: Send + fmt::Debug {
    /// Sends the bytes of one frame; waits while the peer does not read, but not for ever.
    fn send(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, Result<(), NetError>>;

    /// Sends the bytes of some frames, in their order, as few writes as the wire can make of them.
    fn send_all(&mut self, frames: Vec<Vec<u8>>) -> BoxFuture<'_, Result<(), NetError>>;

    /// Says that no more frames follow. Dropping without it means that something went wrong, and
    /// the peer sees that.
    ///
    /// # Errors
    ///
    /// When the stream is broken already.
    fn finish(&mut self) -> Result<(), NetError>;
}

/// The wire's half of a receiver: whole frames as bytes.
pub trait FrameSource: Send + fmt::Debug {
    /// The bytes of the next frame, length included; `None` when the peer finished. Cancel safe.
    fn receive(&mut self) -> BoxFuture<'_, Result<Option<Vec<u8>>, NetError>>;
}

/// One stream, both ways.
#[derive(Debug)]
pub struct Link {
    sender: LinkSender,
    receiver: LinkReceiver,
}

impl Link {
    /// Joins the two halves that a wire made.
    pub fn new(peer: NodeId, sink: Box<dyn FrameSink>, source: Box<dyn FrameSource>) -> Self {
        Self {
            sender: LinkSender {
                peer,
                sink,
                half_sent: false,
            },
            receiver: LinkReceiver { peer, source },
        }
    }

    /// The node at the other end.
    pub const fn peer(&self) -> NodeId {
        self.sender.peer
    }

    /// As [`LinkSender::send`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), NetError> {
        self.sender.send(frame).await
    }

    /// As [`LinkReceiver::receive`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn receive(&mut self) -> Result<Option<Frame>, NetError> {
        self.receiver.receive().await
    }

    /// As [`LinkReceiver::receive_within`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn receive_within(&mut self, limit: Duration) -> Result<Option<Frame>, NetError> {
        self.receiver.receive_within(limit).await
    }

    /// As [`LinkSender::finish`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn finish(&mut self) -> Result<(), NetError> {
        self.sender.finish()
    }

    /// The two halves, so that one task can listen for a cancellation while another streams.
    pub fn split(self) -> (LinkSender, LinkReceiver) {
        (self.sender, self.receiver)
    }
}

/// The sending half of a [`Link`].
///
/// Dropped without [`LinkSender::finish`] it tells the peer that the stream broke, and frames the
/// peer has not read yet may be lost.
#[derive(Debug)]
pub struct LinkSender {
    peer: NodeId,
    sink: Box<dyn FrameSink>,
    half_sent: bool,
}

impl LinkSender {
    /// Sends one frame. That it returns does not mean that the peer has read it.
    ///
    /// # Errors
    ///
    /// [`NetError::Frame`] when the frame is above a limit, and nothing was sent; otherwise the
    /// stream is broken and every further call fails.
    ///
    /// # Cancel safety
    ///
    /// Not safe: half a frame may be sent, after which the stream is broken.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), NetError> {
        let bytes = codec::encode(frame).map_err(|source| NetError::Frame {
            peer: self.peer,
            source,
        })?;
        self.send_raw(bytes).await
    }

    /// Sends some frames in their order, which costs less than one after the other.
    ///
    /// # Errors
    ///
    /// As [`LinkSender::send`]; nothing was sent when one of the frames is above a limit.
    ///
    /// # Cancel safety
    ///
    /// As [`LinkSender::send`].
    pub async fn send_all(&mut self, frames: &[Frame]) -> Result<(), NetError> {
        let bytes: Result<Vec<_>, _> = frames.iter().map(codec::encode).collect();
        let bytes = bytes.map_err(|source| NetError::Frame {
            peer: self.peer,
            source,
        })?;
        self.begin_sending()?;
        self.sink.send_all(bytes).await?;
        self.half_sent = false;
        Ok(())
    }

    /// Sends bytes as they are, well-formed or not, so that tests can be a hostile peer.
    ///
    /// # Errors
    ///
    /// As [`LinkSender::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`LinkSender::send`].
    pub async fn send_raw(&mut self, bytes: Vec<u8>) -> Result<(), NetError> {
        self.begin_sending()?;
        self.sink.send(bytes).await?;
        self.half_sent = false;
        Ok(())
    }

    fn begin_sending(&mut self) -> Result<(), NetError> {
        if self.half_sent {
            return Err(NetError::Lost {
                peer: self.peer,
                reason: "an earlier send was given up half way".into(),
            });
        }
        self.half_sent = true;
        Ok(())
    }

    /// Says that no more frames follow; what was sent still arrives. The other direction stays open.
    ///
    /// # Errors
    ///
    /// When the stream is broken already.
    pub fn finish(&mut self) -> Result<(), NetError> {
        self.sink.finish()
    }
}

/// The receiving half of a [`Link`].
#[derive(Debug)]
pub struct LinkReceiver {
    peer: NodeId,
    source: Box<dyn FrameSource>,
}

impl LinkReceiver {
    /// The next frame; `None` when the peer finished cleanly. Waits for as long as the connection
    /// lives.
    ///
    /// # Errors
    ///
    /// [`NetError::Lost`] when stream or connection broke, [`NetError::Frame`] when the peer sent
    /// what is not a frame; drop the link then.
    ///
    /// # Cancel safety
    ///
    /// Safe: no frame is lost.
    pub async fn receive(&mut self) -> Result<Option<Frame>, NetError> {
        let Some(bytes) = self.source.receive().await? else {
            return Ok(None);
        };
        codec::decode(&bytes)
            .map(Some)
            .map_err(|source| NetError::Frame {
                peer: self.peer,
                source,
            })
    }

    /// The next frame, if it comes within `limit`.
    ///
    /// # Errors
    ///
    /// As [`LinkReceiver::receive`], and [`NetError::Silent`] when the time is over; the link can
    /// still be used then.
    ///
    /// # Cancel safety
    ///
    /// Safe: no frame is lost.
    pub async fn receive_within(&mut self, limit: Duration) -> Result<Option<Frame>, NetError> {
        let peer = self.peer;
        timeout(limit, self.receive())
            .await
            .unwrap_or(Err(NetError::Silent { peer, limit }))
    }
}

/// Why the network did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The wanted address cannot be listened on.
    #[error("cannot listen on {address}: {reason}; stop what uses it, or choose another address")]
    Bind {
        /// Which one.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The node cannot be reached where it should be.
    #[error(
        "cannot reach node {} at {}: {reason}; check that it runs and that UDP gets through",
        peer.short(),
        list(addresses)
    )]
    Unreachable {
        /// Who.
        peer: NodeId,
        /// Where it was tried.
        addresses: Vec<SocketAddr>,
        /// What happened.
        reason: String,
    },
    /// The relay's address cannot be used.
    #[error("the relay {} cannot be used: {reason}", relay.url())]
    Relay {
        /// Which one.
        relay: Relay,
        /// Why.
        reason: String,
    },
    /// Nobody is connected under that id, and no address is known.
    #[error("no address is known for node {}, and it is not connected", peer.short())]
    NoAddress {
        /// Who.
        peer: NodeId,
    },
    /// A node does not dial itself.
    #[error("node {} is this node; it does not dial itself", peer.short())]
    Myself {
        /// This node.
        peer: NodeId,
    },
    /// The id is not a public key that anybody can have.
    #[error("{peer} is not a node id: it is not a point on the curve")]
    NotAKey {
        /// What was given.
        peer: NodeId,
    },
    /// Stream or connection broke; what was under way has an unknown outcome.
    #[error("the connection to node {} broke: {reason}", peer.short())]
    Lost {
        /// With whom.
        peer: NodeId,
        /// How.
        reason: String,
    },
    /// The peer said nothing in time.
    #[error("node {} said nothing for {} s", peer.short(), limit.as_secs_f32())]
    Silent {
        /// Who.
        peer: NodeId,
        /// How long was waited.
        limit: Duration,
    },
    /// What was sent or received is not a frame.
    #[error("a frame to or from node {} is refused: {source}", peer.short())]
    Frame {
        /// With whom.
        peer: NodeId,
        /// Why.
        source: CodecError,
    },
    /// This transport was closed.
    #[error("the network side of this node is shut down")]
    Closed,
}

impl NetError {
    /// Whether the same call can succeed another time.
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Silent { .. } => Retry::Later,
            Self::Bind { .. }
            | Self::Relay { .. }
            | Self::NoAddress { .. }
            | Self::Myself { .. }
            | Self::NotAKey { .. }
            | Self::Frame { .. }
            | Self::Closed => Retry::Never,
        }
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    if addresses.is_empty() {
        return "its known address".into();
    }
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
