//! A wire inside one process, for tests and simulation: same trait, no sockets, no timers, and it
//! breaks exactly where a test says.
//!
//! Frames pass through the real codec, so what does not fit a real wire does not fit this one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tirami_manifest::NodeId;
use tokio::sync::{Notify, mpsc, watch};

use super::codec;
use super::transport::{
    ACCEPT_QUEUE, BoxFuture, FrameSink, FrameSource, Incoming, Link, NetError, PeerAddr, PeerPath,
    PeerState, RelayState, Transport,
};

/// Frames on their way in one direction of a stream; a sender waits while there are that many.
const PIPE_FRAMES: usize = 64;

/// A network of nodes in one process. Cloning makes another handle to the same network.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    // Guards the map of nodes and cuts; never held across an await.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<NodeId, Node>,
    /// Ordered pairs with a connection.
    connections: BTreeSet<(NodeId, NodeId)>,
    /// Ordered pairs between which nothing passes.
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Frames that still pass from the first to the second before the wire is cut.
    fuses: BTreeMap<(NodeId, NodeId), u64>,
    pipes: Vec<Weak<Pipe>>,
    /// Streams that the first opened to the second.
    opened: BTreeMap<(NodeId, NodeId), u64>,
    /// Counts transports, to tell one from its successor and to make up addresses.
    made: u16,
}

#[derive(Debug)]
struct Node {
    number: u16,
    incoming: mpsc::Sender<Incoming>,
    closed: watch::Sender<bool>,
}

fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    if a < b { (a, b) } else { (b, a) }
}

impl MemoryNetwork {
    /// A network without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node. An earlier transport of the same node is closed first, as by a restart.
    pub fn transport(&self, id: NodeId) -> MemoryTransport {
        let (sender, incoming) = mpsc::channel(ACCEPT_QUEUE);
        let (closed, is_closed) = watch::channel(false);
        let mut state = self.lock();
        state.remove(id);
        state.made = state.made.wrapping_add(1);
        let number = state.made;
        state.nodes.insert(
            id,
            Node {
                number,
                incoming: sender,
                closed,
            },
        );
        drop(state);
        MemoryTransport {
            id,
            number,
            network: self.clone(),
            incoming: tokio::sync::Mutex::new(incoming),
            is_closed,
        }
    }

    /// Cuts the wire between two nodes: their streams break after what was sent before, and no new
    /// ones open until [`MemoryNetwork::heal`].
    pub fn cut(&self, a: NodeId, b: NodeId) {
        self.lock().cut(a, b);
    }

    /// Lets `frames` more frames pass from one node to another, counted over all their streams, and
    /// cuts the wire in the place of the next one. That one is lost, and its sender is not told
    /// before it sends or receives again, as on a real wire.
    pub fn cut_after(&self, from: NodeId, to: NodeId, frames: u64) {
        self.lock().fuses.insert((from, to), frames);
    }

    /// Breaks the streams between two nodes; new ones can be opened at once.
    pub fn drop_streams(&self, a: NodeId, b: NodeId) {
        let mut state = self.lock();
        state.cut(a, b);
        state.cuts.remove(&pair(a, b));
    }

    /// Joins two nodes again and forgets what [`MemoryNetwork::cut_after`] was told.
    pub fn heal(&self, a: NodeId, b: NodeId) {
        let mut state = self.lock();
        state.cuts.remove(&pair(a, b));
        state.fuses.remove(&(a, b));
        state.fuses.remove(&(b, a));
    }

    /// How many streams one node has opened to another so far.
    pub fn opened(&self, from: NodeId, to: NodeId) -> u64 {
        self.lock().opened.get(&(from, to)).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

impl State {
    fn cut(&mut self, a: NodeId, b: NodeId) {
        let wire = pair(a, b);
        self.cuts.insert(wire);
        self.connections.remove(&wire);
        self.end_pipes(|pipe| pair(pipe.from, pipe.to) == wire, "the wire was cut");
    }

    /// Takes a node out: its streams break, and its `accept` ends.
    fn remove(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.remove(&id) {
            node.closed.send_replace(true);
        }
        self.connections.retain(|(a, b)| *a != id && *b != id);
        self.end_pipes(
            |pipe| pipe.from == id || pipe.to == id,
            "the node at one end closed",
        );
    }

    fn end_pipes(&mut self, which: impl Fn(&Pipe) -> bool, why: &'static str) {
        self.pipes.retain(|pipe| {
            let Some(pipe) = pipe.upgrade() else {
                return false;
            };
            if which(&pipe) {
                pipe.end(End::Lost(why));
                return false;
            }
            true
        });
    }

    /// One more frame from here to there: true when it arrives.
    fn passes(&mut self, from: NodeId, to: NodeId) -> bool {
        match self.fuses.get_mut(&(from, to)) {
            None => true,
            Some(0) => {
                self.fuses.remove(&(from, to));
                self.cut(from, to);
                false
            }
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// One node's end of a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryTransport {
    id: NodeId,
    number: u16,
    network: MemoryNetwork,
    // Lets several callers wait in `accept`; each holds it only while it waits.
    incoming: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    is_closed: watch::Receiver<bool>,
}

impl MemoryTransport {
    /// Leaves the network, unless a successor with the same id is there in its place.
    fn leave(&self) {
        let mut state = self.network.lock();
        let number = state.nodes.get(&self.id).map(|node| node.number);
        if number == Some(self.number) {
            state.remove(self.id);
        }
    }

    fn open_now(&self, peer: NodeId) -> Result<Link, NetError> {
        if peer == self.id {
            return Err(NetError::Myself { peer });
        }
        let mut state = self.network.lock();
        if *self.is_closed.borrow() {
            return Err(NetError::Closed);
        }
        let unreachable = |reason: &str| NetError::Unreachable {
            peer,
            addresses: Vec::new(),
            reason: reason.into(),
        };
        if state.cuts.contains(&pair(self.id, peer)) {
            return Err(unreachable("the wire is cut"));
        }
        let node = state
            .nodes
            .get(&peer)
            .ok_or_else(|| unreachable("there is no such node"))?;
        let there = Arc::new(Pipe::new(self.id, peer));
        let back = Arc::new(Pipe::new(peer, self.id));
        let link = |peer, out: &Arc<Pipe>, into: &Arc<Pipe>| {
            Link::new(
                peer,
                Box::new(MemorySink {
                    network: self.network.clone(),
                    pipe: Arc::clone(out),
                }),
                Box::new(MemorySource {
                    pipe: Arc::clone(into),
                }),
            )
        };
        let incoming = Incoming {
            peer: self.id,
            link: link(self.id, &back, &there),
        };
        let sender = node.incoming.clone();
        let permit = sender
            .try_reserve()
            .map_err(|_| unreachable("too many streams wait there to be accepted"));
        let mine = link(peer, &there, &back);
        if permit.is_ok() {
            state.connections.insert(pair(self.id, peer));
            let opened = state.opened.entry((self.id, peer)).or_default();
            *opened = opened.saturating_add(1);
            state.pipes.retain(|pipe| pipe.strong_count() > 0);
            state.pipes.push(Arc::downgrade(&there));
            state.pipes.push(Arc::downgrade(&back));
        }
        drop(state);
        permit?.send(incoming);
        Ok(mine)
    }
}

impl Transport for MemoryTransport {
    fn id(&self) -> NodeId {
        self.id
    }

    /// One made-up address, different for each transport; nobody listens there, and nobody needs it.
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![(Ipv4Addr::LOCALHOST, self.number).into()]
    }

    fn open<'a>(&'a self, peer: &'a PeerAddr) -> BoxFuture<'a, Result<Link, NetError>> {
        Box::pin(std::future::ready(self.open_now(peer.id)))
    }

    fn accept(&self) -> BoxFuture<'_, Option<Incoming>> {
        Box::pin(async {
            let mut is_closed = self.is_closed.clone();
            let mut incoming = self.incoming.lock().await;
            tokio::select! {
                biased;
                _ = is_closed.wait_for(|closed| *closed) => None,
                next = incoming.recv() => next,
            }
        })
    }

    fn connected(&self) -> Vec<NodeId> {
        let state = self.network.lock();
        let others = state.connections.iter().filter_map(|(a, b)| {
            if *a == self.id {
                Some(*b)
            } else {
                (*b == self.id).then_some(*a)
            }
        });
        others.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Without timers nobody is silent: a connected peer was heard just now, and everything takes no
    /// time.
    fn peer(&self, peer: NodeId) -> PeerState {
        let state = self.network.lock();
        if !state.connections.contains(&pair(self.id, peer)) {
            return PeerState::default();
        }
        let number = state.nodes.get(&peer).map_or(0, |node| node.number);
        PeerState {
            path: Some(PeerPath {
                relayed: false,
                to: SocketAddr::from((Ipv4Addr::LOCALHOST, number)).to_string(),
                round_trip: Duration::ZERO,
            }),
            silent_for: Some(Duration::ZERO),
        }
    }

    fn relay(&self) -> BoxFuture<'_, Option<RelayState>> {
        Box::pin(std::future::ready(None))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.leave();
        Box::pin(std::future::ready(()))
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        self.leave();
    }
}

/// One direction of a stream.
#[derive(Debug)]
struct Pipe {
    from: NodeId,
    to: NodeId,
    // Guards the queue; never held across an await.
    inner: Mutex<PipeState>,
    readable: Notify,
    writable: Notify,
}

#[derive(Debug, Default)]
struct PipeState {
    frames: VecDeque<Vec<u8>>,
    end: Option<End>,
}

/// How a direction ended; the first end stays.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The sender said so.
    Finished,
    /// It broke.
    Lost(&'static str),
}

impl Pipe {
    fn new(from: NodeId, to: NodeId) -> Self {
        Self {
            from,
            to,
            inner: Mutex::default(),
            readable: Notify::new(),
            writable: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.inner.lock().expect("nobody panics while holding it")
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        drop(state);
        self.readable.notify_one();
        self.writable.notify_one();
    }
}

fn lost(peer: NodeId, reason: &str) -> NetError {
    NetError::Lost {
        peer,
        reason: reason.into(),
    }
}

#[derive(Debug)]
struct MemorySink {
    network: MemoryNetwork,
    pipe: Arc<Pipe>,
}

impl MemorySink {
    /// `None` when the pipe is full.
    fn try_send(&self, bytes: &[u8]) -> Option<Result<(), NetError>> {
        let pipe = &self.pipe;
        // Network before pipe, the order in which a cut takes the two locks.
        let mut network = self.network.lock();
        let state = pipe.lock();
        match state.end {
            Some(End::Finished) => {
                return Some(Err(lost(pipe.to, "this side said that it was finished")));
            }
            Some(End::Lost(why)) => return Some(Err(lost(pipe.to, why))),
            None if state.frames.len() >= PIPE_FRAMES => return None,
            None => drop(state),
        }
        if network.passes(pipe.from, pipe.to) {
            pipe.lock().frames.push_back(bytes.to_vec());
            pipe.readable.notify_one();
        }
        Some(Ok(()))
    }
}

impl FrameSink for MemorySink {
    fn send(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, Result<(), NetError>> {
        Box::pin(async move {
            loop {
                if let Some(result) = self.try_send(&bytes) {
                    return result;
                }
                self.pipe.writable.notified().await;
            }
        })
    }

    fn send_all(&mut self, frames: Vec<Vec<u8>>) -> BoxFuture<'_, Result<(), NetError>> {
        Box::pin(async move {
            for bytes in frames {
                self.send(bytes).await?;
            }
            Ok(())
        })
    }

    fn finish(&mut self) -> Result<(), NetError> {
        self.pipe.end(End::Finished);
        match self.pipe.lock().end {
            Some(End::Lost(why)) => Err(lost(self.pipe.to, why)),
            _ => Ok(()),
        }
    }
}

impl Drop for MemorySink {
    fn drop(&mut self) {
        self.pipe.end(End::Lost("the peer gave the stream up"));
    }
}

#[derive(Debug)]
struct MemorySource {
    pipe: Arc<Pipe>,
}

impl MemorySource {
    /// `None` when there is nothing yet.
    fn try_receive(&self) -> Option<Result<Option<Vec<u8>>, NetError>> {
        let pipe = &self.pipe;
        let mut state = pipe.lock();
        if let Some(bytes) = state.frames.pop_front() {
            drop(state);
            pipe.writable.notify_one();
            // A real wire looks at the length before it makes room; so does this one.
            return Some(match codec::frame_len(&bytes) {
                Ok(_) => Ok(Some(bytes)),
                Err(source) => Err(NetError::Frame {
                    peer: pipe.from,
                    source,
                }),
            });
        }
        match state.end? {
            End::Finished => Some(Ok(None)),
            End::Lost(why) => Some(Err(lost(pipe.from, why))),
        }
    }
}

impl FrameSource for MemorySource {
    fn receive(&mut self) -> BoxFuture<'_, Result<Option<Vec<u8>>, NetError>> {
        Box::pin(async move {
            loop {
                if let Some(result) = self.try_receive() {
                    return result;
                }
                self.pipe.readable.notified().await;
            }
        })
    }
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        // Frames nobody will read are gone, and the sender is told at its next send.
        self.pipe.lock().frames.clear();
        self.pipe.end(End::Lost("the peer no longer reads"));
    }
}
