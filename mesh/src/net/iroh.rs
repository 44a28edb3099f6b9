//! The real wire: one QUIC connection for each peer over iroh, one bidirectional stream for each
//! link. No discovery: a node is reached where its address says, or through the one relay that both
//! were told to use, or not at all.

mod hearing;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use iroh::endpoint::{
    Connection, ConnectionError, IdleTimeout, Incoming as Handshake, QuicTransportConfig,
    ReadError, RecvStream, SendStream, VarInt, WriteError, presets,
};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode, RelayUrl, TransportAddr, Watcher};
use tirami_manifest::NodeId;
use tirami_manifest::key::SecretKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};
use tracing::{debug, error};

use super::codec;
use super::transport::{
    ACCEPT_QUEUE, ADDRESSES_MAX, BoxFuture, DIAL_WITHIN, FrameSink, FrameSource, Incoming, Link,
    NetError, PeerAddr, PeerPath, PeerState, RELAY_WITHIN, Relay, RelayState, SEND_WITHIN,
    STALE_AFTER, Transport,
};
use hearing::Hearing;

/// Protocol name in the TLS handshake; carries the major version.
pub const ALPN: &[u8] = b"tirami/1";

/// How long a peer may be silent before its connection counts as lost; chosen: five keep-alives.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a quiet connection says that it lives; chosen.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Most connections that peers opened; further ones are refused. Chosen.
pub const CONNECTIONS_MAX: usize = 256;

/// Most connections with one peer; one more ends the oldest, so that a peer that restarted gets in.
/// Two nodes that dial each other at once make two.
pub const CONNECTIONS_PER_PEER: usize = 4;

/// Most streams one connection's peer may have open; further ones wait with their opener. Chosen.
pub const STREAMS_MAX: u32 = 32;

/// Most unread bytes of one connection; a peer that sends more waits. Chosen: two frames, so that
/// all connections peers may open together hold half a GiB at worst.
const UNREAD_MAX: u32 = 2 << 20;

/// How long closing may take; chosen, above the 3 s iroh needs when a peer is gone.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// How often is looked from whom something has come.
const LISTEN_EVERY: Duration = Duration::from_millis(500);

/// Most unread bytes of one stream. Chosen: [`STREAMS_MAX`] of them are [`UNREAD_MAX`], so that streams that
/// are not read never stop one that is.
const STREAM_UNREAD_MAX: u32 = UNREAD_MAX / STREAMS_MAX;

/// How many bytes are taken from a stream at a time.
const READ_PIECE: usize = 16 << 10;

/// Most long frames, above [`READ_PIECE`], that are read at once from one connection; further ones wait for
/// those. Chosen, so that a peer that never ends its frames costs two of them for each connection.
const LONG_FRAMES: usize = 2;

/// Code with which a stream is given up.
const GIVEN_UP: u32 = 1;

/// Figures that tests and special networks change.
#[derive(Clone, Debug)]
pub struct IrohOptions {
    /// A relay that carries what finds no other way; without one there is only the straight way.
    pub relay: Option<Relay>,
    /// See [`DIAL_WITHIN`].
    pub dial_within: Duration,
    /// See [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// See [`STALE_AFTER`].
    pub stale_after: Duration,
    /// See [`KEEP_ALIVE`].
    pub keep_alive: Duration,
    /// See [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// See [`STREAMS_MAX`].
    pub streams_max: u32,
}

impl Default for IrohOptions {
    fn default() -> Self {
        Self {
            relay: None,
            dial_within: DIAL_WITHIN,
            idle_timeout: IDLE_TIMEOUT,
            stale_after: STALE_AFTER,
            keep_alive: KEEP_ALIVE,
            connections_max: CONNECTIONS_MAX,
            streams_max: STREAMS_MAX,
        }
    }
}

/// A node's end of the real network. Close it before dropping it, or its peers only notice when the
/// idle timeout is over. The port is free again soon after the drop, once no link is left.
#[derive(Debug)]
pub struct IrohTransport {
    id: NodeId,
    endpoint: Endpoint,
    options: IrohOptions,
    relay: Option<RelayUrl>,
    shared: Arc<Shared>,
    // Lets several callers wait in `accept`; each holds it only while it waits.
    incoming: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    closed: watch::Sender<bool>,
}

/// What the transport and its tasks both need.
#[derive(Debug)]
struct Shared {
    incoming: mpsc::Sender<Incoming>,
    // Guards the connections of each peer and when they were heard; never held across an await.
    hearing: Mutex<Hearing>,
    // Guards one lock for each peer being dialled, so that nobody is dialled twice at once.
    dialling: Mutex<BTreeMap<NodeId, Arc<tokio::sync::Mutex<()>>>>,
    // Guards the tasks that `close` ends; never held across an await.
    tasks: Mutex<JoinSet<()>>,
}

impl IrohTransport {
    /// Listens on `bind` and nowhere else. Port 0 takes a free port; any other port is taken or it
    /// is an error. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`NetError::Bind`], naming the address; [`NetError::Relay`], naming the relay.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is left listening.
    pub async fn bind(
        secret: &SecretKey,
        bind: SocketAddr,
        options: IrohOptions,
    ) -> Result<Self, NetError> {
        let failed = |error: &dyn std::error::Error| NetError::Bind {
            address: bind,
            reason: reason(error),
        };
        let relay = options.relay.as_ref().map(relay_url).transpose()?;
        let builder = Endpoint::builder(presets::Minimal)
            .relay_mode(match &relay {
                Some(url) => RelayMode::custom([url.clone()]),
                None => RelayMode::Disabled,
            })
            .secret_key(iroh::SecretKey::from_bytes(&secret.to_bytes()))
            .alpns(vec![ALPN.to_vec()])
            .transport_config(quic(&options).map_err(|error| failed(&error))?)
            .clear_ip_transports()
            .bind_addr(bind)
            .map_err(|error| failed(&error))?;
        let endpoint = builder.bind().await.map_err(|error| failed(&error))?;
        let (sender, incoming) = mpsc::channel(ACCEPT_QUEUE);
        let shared = Arc::new(Shared {
            incoming: sender,
            hearing: Mutex::new(Hearing::new(options.stale_after)),
            dialling: Mutex::default(),
            tasks: Mutex::default(),
        });
        shared.spawn(accept_connections(
            endpoint.clone(),
            Arc::clone(&shared),
            options.clone(),
        ));
        shared.spawn(listen(Arc::clone(&shared), options.stale_after));
        Ok(Self {
            id: secret.id(),
            endpoint,
            options,
            relay,
            shared,
            incoming: tokio::sync::Mutex::new(incoming),
            closed: watch::Sender::new(false),
        })
    }

    fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    async fn open_link(&self, peer: &PeerAddr) -> Result<Link, NetError> {
        if self.is_closed() {
            return Err(NetError::Closed);
        }
        if peer.id == self.id {
            return Err(NetError::Myself { peer: peer.id });
        }
        if let Some(connection) = self.shared.live(peer.id)
            && let Ok(link) = open_stream(peer.id, &connection).await
        {
            return Ok(link);
        }
        // There was none, or it broke or fell silent.
        let connection = self.connection(peer).await?;
        open_stream(peer.id, &connection)
            .await
            .map_err(|error| lost(peer.id, &error))
    }

    async fn connection(&self, peer: &PeerAddr) -> Result<Connection, NetError> {
        let turn = self.shared.turn(peer.id);
        let _turn = turn.lock().await;
        if let Some(connection) = self.shared.live(peer.id) {
            return Ok(connection);
        }
        if peer.addresses.is_empty() && self.relay.is_none() {
            return Err(NetError::NoAddress { peer: peer.id });
        }
        let id = EndpointId::from_bytes(peer.id.as_bytes())
            .map_err(|_| NetError::NotAKey { peer: peer.id })?;
        let by_relay =
            EndpointAddr::new(id).with_addrs(self.relay.clone().map(TransportAddr::Relay));
        let address = peer
            .addresses
            .iter()
            .take(ADDRESSES_MAX)
            .fold(by_relay, |addr, ip| addr.with_ip_addr(*ip));
        let connection = match self.endpoint.connect(address, ALPN).await {
            Ok(connection) => connection,
            // One that was silent may have come back meanwhile, or the peer has dialled.
            Err(error) => match self.shared.live(peer.id) {
                Some(connection) => return Ok(connection),
                None => return Err(self.unreachable(peer, &reason(&error))),
            },
        };
        self.shared.add(peer.id, &connection);
        self.shared.spawn(accept_streams(
            peer.id,
            connection.clone(),
            Arc::clone(&self.shared),
            None,
        ));
        Ok(connection)
    }

    fn unreachable(&self, peer: &PeerAddr, reason: &str) -> NetError {
        let through = match &self.options.relay {
            Some(relay) => format!(", nor through the relay {}", relay.url()),
            None => String::new(),
        };
        NetError::Unreachable {
            peer: peer.id,
            addresses: peer.addresses.clone(),
            reason: format!("{reason}{through}"),
        }
    }
}

impl Transport for IrohTransport {
    fn id(&self) -> NodeId {
        self.id
    }

    /// The bound address; when that is "every interface", the addresses of the interfaces.
    fn addresses(&self) -> Vec<SocketAddr> {
        let bound = self.endpoint.bound_sockets();
        if bound.iter().all(|address| !address.ip().is_unspecified()) {
            return bound;
        }
        let addr = self.endpoint.addr();
        addr.ip_addrs().copied().take(ADDRESSES_MAX).collect()
    }

    fn open<'a>(&'a self, peer: &'a PeerAddr) -> BoxFuture<'a, Result<Link, NetError>> {
        Box::pin(async move {
            let within = self.options.dial_within;
            timeout(within, self.open_link(peer))
                .await
                .unwrap_or_else(|_| {
                    let reason = format!("no answer within {} s", within.as_secs_f32());
                    Err(self.unreachable(peer, &reason))
                })
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Incoming>> {
        Box::pin(async {
            let mut closed = self.closed.subscribe();
            tokio::select! {
                biased;
                _ = closed.wait_for(|closed| *closed) => None,
                next = async { self.incoming.lock().await.recv().await } => next,
            }
        })
    }

    fn connected(&self) -> Vec<NodeId> {
        self.shared.hearing().connected()
    }

    fn peer(&self, peer: NodeId) -> PeerState {
        let hearing = self.shared.hearing();
        let path = hearing
            .live(peer)
            .and_then(|connection| path_of(&connection));
        let silent_for = hearing.silent_for(peer);
        PeerState { path, silent_for }
    }

    fn relay(&self) -> BoxFuture<'_, Option<RelayState>> {
        Box::pin(async {
            let relay = self.options.relay.clone()?;
            let online = timeout(RELAY_WITHIN, self.endpoint.online()).await;
            let problem = online.is_err().then(|| {
                let status = self.endpoint.home_relay_status().get();
                let said = status.first().and_then(|relay| relay.last_error());
                said.map_or_else(
                    || format!("no answer within {} s", RELAY_WITHIN.as_secs()),
                    ToString::to_string,
                )
            });
            Some(RelayState { relay, problem })
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.closed.send_replace(true);
            if timeout(CLOSE_WITHIN, self.endpoint.close()).await.is_err() {
                debug!("closing the endpoint took too long; peers will notice by themselves");
            }
            let mut tasks = std::mem::take(&mut *self.shared.tasks());
            tasks.shutdown().await;
            self.shared.hearing().clear();
        })
    }
}

impl Drop for IrohTransport {
    fn drop(&mut self) {
        // The tasks hold what they share with each other, so that they end only when told to.
        self.shared.tasks().abort_all();
    }
}

impl Shared {
    fn hearing(&self) -> MutexGuard<'_, Hearing> {
        self.hearing.lock().expect("nobody panics while holding it")
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().expect("nobody panics while holding it")
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                error!(%error, "a task of the network failed");
            }
        }
        tasks.spawn(task);
    }

    /// The lock to hold while dialling a peer.
    fn turn(&self, peer: NodeId) -> Arc<tokio::sync::Mutex<()>> {
        let mut dialling = self
            .dialling
            .lock()
            .expect("nobody panics while holding it");
        dialling.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(dialling.entry(peer).or_default())
    }

    /// The youngest live connection with a peer.
    fn live(&self, peer: NodeId) -> Option<Connection> {
        self.hearing().live(peer)
    }

    fn add(&self, peer: NodeId, connection: &Connection) {
        if let Some(oldest) = self.hearing().add(peer, connection) {
            oldest.close(VarInt::from_u32(GIVEN_UP), b"too many connections");
        }
    }

    fn remove(&self, peer: NodeId, connection: &Connection) {
        self.hearing().remove(peer, connection);
    }
}

/// Looks, again and again, from whom something has come.
async fn listen(shared: Arc<Shared>, stale_after: Duration) {
    let mut ticks = tokio::time::interval(LISTEN_EVERY.min(stale_after / 4));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for peer in shared.hearing().listen() {
            debug!(
                peer = peer.short(),
                "silent; the next stream takes another way"
            );
        }
    }
}

/// The path that frames take on a connection; none between two paths.
fn path_of(connection: &Connection) -> Option<PeerPath> {
    let paths = connection.paths();
    let in_use = paths.iter().find(iroh::endpoint::Path::is_selected);
    let path = in_use.or_else(|| paths.iter().next())?;
    Some(PeerPath {
        relayed: path.is_relay(),
        to: match path.remote_addr() {
            TransportAddr::Ip(address) => address.to_string(),
            TransportAddr::Relay(url) => url.to_string(),
            other => format!("{other:?}"),
        },
        round_trip: path.rtt(),
    })
}

/// Lets peers in, until the endpoint is closed.
async fn accept_connections(endpoint: Endpoint, shared: Arc<Shared>, options: IrohOptions) {
    let places = Arc::new(Semaphore::new(options.connections_max));
    while let Some(handshake) = endpoint.accept().await {
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let within = options.dial_within;
            shared.spawn(let_in(handshake, Arc::clone(&shared), within, place));
        } else {
            debug!("a connection is refused: there are too many");
            handshake.refuse();
        }
    }
}

/// One peer that dialled us.
async fn let_in(
    handshake: Handshake,
    shared: Arc<Shared>,
    within: Duration,
    place: OwnedSemaphorePermit,
) {
    match timeout(within, handshake).await {
        Ok(Ok(connection)) => {
            let peer = NodeId::from_bytes(*connection.remote_id().as_bytes());
            shared.add(peer, &connection);
            accept_streams(peer, connection, shared, Some(place)).await;
        }
        Ok(Err(error)) => debug!(reason = reason(&error), "a handshake failed"),
        Err(_) => debug!("a handshake took too long"),
    }
}

/// Hands on the streams a peer opens, until its connection ends.
async fn accept_streams(
    peer: NodeId,
    connection: Connection,
    shared: Arc<Shared>,
    _place: Option<OwnedSemaphorePermit>,
) {
    debug!(peer = peer.short(), "connected");
    let long_frames = Arc::new(Semaphore::new(LONG_FRAMES));
    let error = loop {
        match connection.accept_bi().await {
            Ok((sink, source)) => {
                let link = link(peer, sink, source, Arc::clone(&long_frames));
                if shared.incoming.send(Incoming { peer, link }).await.is_err() {
                    return;
                }
            }
            Err(error) => break error,
        }
    };
    shared.remove(peer, &connection);
    debug!(peer = peer.short(), %error, "disconnected");
}

async fn open_stream(peer: NodeId, connection: &Connection) -> Result<Link, ConnectionError> {
    let (sink, source) = connection.open_bi().await?;
    // What this node asked for is not counted with what the peer began.
    let long_frames = Arc::new(Semaphore::new(1));
    Ok(link(peer, sink, source, long_frames))
}

fn link(peer: NodeId, sink: SendStream, source: RecvStream, long_frames: Arc<Semaphore>) -> Link {
    Link::new(
        peer,
        Box::new(IrohSink {
            peer,
            stream: sink,
            finished: false,
        }),
        Box::new(IrohSource {
            peer,
            stream: source,
            buffer: Vec::new(),
            long_frames,
            long: None,
        }),
    )
}

fn quic(
    options: &IrohOptions,
) -> Result<QuicTransportConfig, iroh::endpoint::VarIntBoundsExceeded> {
    Ok(QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(options.streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .receive_window(VarInt::from_u32(UNREAD_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_UNREAD_MAX))
        .max_idle_timeout(Some(IdleTimeout::try_from(options.idle_timeout)?))
        .keep_alive_interval(options.keep_alive)
        .default_path_max_idle_timeout(options.idle_timeout)
        .default_path_keep_alive_interval(options.keep_alive)
        .build())
}

#[derive(Debug)]
struct IrohSink {
    peer: NodeId,
    stream: SendStream,
    finished: bool,
}

impl FrameSink for IrohSink {
    fn send(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, Result<(), NetError>> {
        Box::pin(async move {
            match timeout(SEND_WITHIN, self.stream.write_all(&bytes)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(WriteError::ConnectionLost(error))) => Err(lost(self.peer, &error)),
                Ok(Err(WriteError::Stopped(_))) => {
                    Err(broken(self.peer, "the peer no longer reads"))
                }
                Ok(Err(error)) => Err(broken(self.peer, &error.to_string())),
                Err(_) => Err(NetError::Silent {
                    peer: self.peer,
                    limit: SEND_WITHIN,
                }),
            }
        })
    }

    fn send_all(&mut self, frames: Vec<Vec<u8>>) -> BoxFuture<'_, Result<(), NetError>> {
        self.send(frames.concat())
    }

    fn finish(&mut self) -> Result<(), NetError> {
        if self.finished {
            return Ok(());
        }
        self.finished = true;
        self.stream
            .finish()
            .map_err(|_| broken(self.peer, "the stream had ended before"))
    }
}

impl Drop for IrohSink {
    fn drop(&mut self) {
        // Without this the stream would look finished, and half an answer like a whole one.
        if !self.finished && self.stream.reset(VarInt::from_u32(GIVEN_UP)).is_err() {
            debug!(
                peer = self.peer.short(),
                "a stream had ended before it was given up"
            );
        }
    }
}

#[derive(Debug)]
struct IrohSource {
    peer: NodeId,
    stream: RecvStream,
    /// What came of frames that were not handed on; at most one frame and one piece.
    buffer: Vec<u8>,
    /// Places for long frames of this connection, and the one that this stream has.
    long_frames: Arc<Semaphore>,
    long: Option<OwnedSemaphorePermit>,
}

impl IrohSource {
    /// A whole frame out of the buffer.
    fn next_frame(&mut self) -> Result<Option<Vec<u8>>, NetError> {
        let whole = codec::frame_len(&self.buffer).map_err(|source| self.refused(source))?;
        let Some(whole) = whole.filter(|whole| *whole <= self.buffer.len()) else {
            return Ok(None);
        };
        let rest = self.buffer.split_off(whole);
        self.long = None;
        Ok(Some(std::mem::replace(&mut self.buffer, rest)))
    }

    /// Waits for a place where the frame that comes is long.
    async fn make_room(&mut self) -> Result<(), NetError> {
        let whole = codec::frame_len(&self.buffer).map_err(|source| self.refused(source))?;
        let is_long = whole.is_some_and(|whole| whole > READ_PIECE);
        if is_long && self.long.is_none() {
            let place = Arc::clone(&self.long_frames).acquire_owned().await;
            self.long = place.ok();
        }
        Ok(())
    }

    const fn refused(&self, source: codec::CodecError) -> NetError {
        NetError::Frame {
            peer: self.peer,
            source,
        }
    }
}

impl FrameSource for IrohSource {
    fn receive(&mut self) -> BoxFuture<'_, Result<Option<Vec<u8>>, NetError>> {
        Box::pin(async move {
            loop {
                if let Some(frame) = self.next_frame()? {
                    return Ok(Some(frame));
                }
                self.make_room().await?;
                match self.stream.read_chunk(READ_PIECE).await {
                    Ok(Some(piece)) => self.buffer.extend_from_slice(&piece),
                    Ok(None) if self.buffer.is_empty() => return Ok(None),
                    Ok(None) => return Err(self.refused(codec::CodecError::Truncated)),
                    Err(ReadError::ConnectionLost(error)) => return Err(lost(self.peer, &error)),
                    Err(ReadError::Reset(_)) => {
                        return Err(broken(self.peer, "the peer gave the stream up"));
                    }
                    Err(error) => return Err(broken(self.peer, &error.to_string())),
                }
            }
        })
    }
}

fn relay_url(relay: &Relay) -> Result<RelayUrl, NetError> {
    relay.url().parse().map_err(|error| NetError::Relay {
        relay: relay.clone(),
        reason: reason(&error),
    })
}

fn broken(peer: NodeId, reason: &str) -> NetError {
    NetError::Lost {
        peer,
        reason: reason.into(),
    }
}

fn lost(peer: NodeId, error: &ConnectionError) -> NetError {
    match error {
        ConnectionError::LocallyClosed => NetError::Closed,
        ConnectionError::TimedOut => broken(peer, "it was silent for too long"),
        ConnectionError::ApplicationClosed(_) => broken(peer, "the peer shut down"),
        ConnectionError::Reset => broken(peer, "the peer restarted"),
        other => broken(peer, &other.to_string()),
    }
}

/// The innermost cause, which is the one a person can do something about.
fn reason(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
