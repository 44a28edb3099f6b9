//! One suite that every wire passes, and what only one of them can do.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "the suite is made of functions that the tests call"
)]

#[path = "transport/wire.rs"]
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tirami_manifest::NodeId;
use tirami_manifest::job::{Message, Role, Sampler};
use tirami_manifest::key::SecretKey;
use tirami_manifest::{QuoteId, TransferId};
use tirami_mesh::net::codec::{self, CodecError};
use tirami_mesh::net::{
    IrohOptions, IrohTransport, Link, MemoryNetwork, MemoryTransport, NetError, PeerAddr, Transport,
};
use tirami_mesh::proto::{Chunk, Frame, Pace, Quoted, Retry, Start};
use tokio::time::timeout;

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Two nodes that can reach each other.
struct Pair {
    a: Box<dyn Transport>,
    b: Box<dyn Transport>,
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32])
}

fn addr(transport: &dyn Transport) -> PeerAddr {
    PeerAddr {
        id: transport.id(),
        addresses: transport.addresses(),
    }
}

fn memory() -> Pair {
    let network = MemoryNetwork::new();
    Pair {
        a: Box::new(network.transport(key(1).id())),
        b: Box::new(network.transport(key(2).id())),
    }
}

async fn node(n: u8, options: IrohOptions) -> IrohTransport {
    IrohTransport::bind(&key(n), LOOPBACK, options)
        .await
        .unwrap()
}

async fn over_loopback() -> Pair {
    Pair {
        a: Box::new(node(1, IrohOptions::default()).await),
        b: Box::new(node(2, IrohOptions::default()).await),
    }
}

/// A deadline for what should happen at once.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future)
        .await
        .expect("it should have happened by now")
}

fn chunk(index: u32, text: &str) -> Frame {
    Frame::Chunk(Chunk {
        index,
        tokens: vec![index],
        text: text.into(),
    })
}

/// Opens a stream from a to b and passes one frame, so that both ends exist.
async fn linked(pair: &Pair) -> (Link, Link) {
    let mut here = pair.a.open(&addr(&*pair.b)).await.unwrap();
    here.send(&Frame::ListOffers).await.unwrap();
    let mut there = pair.b.accept().await.unwrap().link;
    assert_eq!(there.receive().await.unwrap(), Some(Frame::ListOffers));
    (here, there)
}

async fn frames_pass_both_ways_in_order(pair: Pair) {
    let (here, mut there) = linked(&pair).await;
    let long = Frame::Start(Start {
        quote: QuoteId::from_bytes([1; 32]),
        hold: TransferId::from_bytes([2; 16]),
        messages: vec![Message {
            role: Role::User,
            content: "x".repeat(codec::PROMPT_MAX),
        }],
        sampler: Sampler::GREEDY,
        stop: vec![],
        under: None,
    });
    let frames = [chunk(0, "a"), long, Frame::Cancel, chunk(1, "")];
    let echo = async {
        while let Some(frame) = there.receive().await.unwrap() {
            there.send(&frame).await.unwrap();
        }
        there.finish().unwrap();
    };
    let (mut sender, mut receiver) = here.split();
    let ask = async {
        for frame in &frames {
            sender.send(frame).await.unwrap();
        }
        sender.finish().unwrap();
    };
    let answer = async {
        for frame in &frames {
            assert_eq!(receiver.receive().await.unwrap().as_ref(), Some(frame));
        }
        assert_eq!(receiver.receive().await.unwrap(), None);
        assert_eq!(receiver.receive().await.unwrap(), None);
    };
    tokio::join!(echo, ask, answer);
}

async fn frames_that_are_sent_together_arrive_in_their_order_or_not_at_all(pair: Pair) {
    let (here, mut there) = linked(&pair).await;
    let (mut sender, _receiver) = here.split();
    let too_long = chunk(1, &"x".repeat(codec::CHUNK_TEXT_MAX + 1));
    let lost = [chunk(0, "lost"), too_long, Frame::Cancel];
    assert!(matches!(
        sender.send_all(&lost).await,
        Err(NetError::Frame { .. })
    ));
    let long = chunk(1, &"x".repeat(codec::CHUNK_TEXT_MAX));
    let frames = [chunk(0, "a"), long, Frame::Cancel, chunk(2, "")];
    let send = async {
        sender.send_all(&frames).await.unwrap();
        sender.send_all(&[]).await.unwrap();
        sender.finish().unwrap();
    };
    let receive = async {
        for frame in &frames {
            assert_eq!(there.receive().await.unwrap().as_ref(), Some(frame));
        }
        assert_eq!(there.receive().await.unwrap(), None);
    };
    tokio::join!(send, receive);
}

async fn a_finished_direction_leaves_the_other_open(pair: Pair) {
    let (mut here, mut there) = linked(&pair).await;
    here.finish().unwrap();
    here.finish().unwrap();
    assert!(here.send(&Frame::Cancel).await.is_err());
    assert_eq!(there.receive().await.unwrap(), None);
    there.send(&chunk(0, "still")).await.unwrap();
    assert_eq!(here.receive().await.unwrap(), Some(chunk(0, "still")));
}

async fn both_ends_know_who_the_other_is(pair: Pair) {
    let here = pair.a.open(&addr(&*pair.b)).await.unwrap();
    assert_eq!(here.peer(), pair.b.id());
    let (mut sender, _receiver) = here.split();
    sender.send(&Frame::ListOffers).await.unwrap();
    let incoming = pair.b.accept().await.unwrap();
    assert_eq!(incoming.peer, pair.a.id());
    assert_eq!(incoming.link.peer(), pair.a.id());
    assert_eq!(pair.a.connected(), [pair.b.id()]);
    assert_eq!(pair.b.connected(), [pair.a.id()]);
}

async fn a_connected_peer_is_reached_without_an_address(pair: Pair) {
    let (_here, _there) = linked(&pair).await;
    let back = PeerAddr {
        id: pair.a.id(),
        addresses: vec![],
    };
    let mut link = pair.b.open(&back).await.unwrap();
    link.send(&Frame::ListOffers).await.unwrap();
    let mut incoming = pair.a.accept().await.unwrap();
    assert_eq!(incoming.peer, pair.b.id());
    assert_eq!(
        incoming.link.receive().await.unwrap(),
        Some(Frame::ListOffers)
    );
}

async fn what_is_above_a_limit_is_refused_on_both_sides(pair: Pair) {
    let (here, mut there) = linked(&pair).await;
    let (mut sender, _receiver) = here.split();
    let above = Frame::Quoted(Quoted {
        quote: vec![0; codec::DOCUMENT_MAX + 1],
        pace: Pace::default(),
    });
    let error = sender.send(&above).await.unwrap_err();
    assert!(matches!(error, NetError::Frame { .. }), "{error}");
    // Nothing of it was sent, and the stream goes on.
    sender.send(&Frame::Cancel).await.unwrap();
    assert_eq!(there.receive().await.unwrap(), Some(Frame::Cancel));
    sender.send_raw(vec![0xff, 0xff, 0xff, 0x7f]).await.unwrap();
    let Err(NetError::Frame { peer, source }) = there.receive().await else {
        panic!("an oversize frame was read");
    };
    assert_eq!(peer, pair.a.id());
    assert_eq!(source, CodecError::Oversize { len: 0x8000_0003 });
}

async fn an_unknown_kind_is_named_and_the_next_frame_is_read(pair: Pair) {
    let (here, mut there) = linked(&pair).await;
    let (mut sender, _receiver) = here.split();
    let unknown = vec![3, 0, 0, 0, 1, 0xff, 0xff];
    sender.send_raw(unknown).await.unwrap();
    sender.send(&Frame::Cancel).await.unwrap();
    let error = there.receive().await.unwrap_err();
    assert!(error.to_string().contains("65535"), "{error}");
    assert_eq!(there.receive().await.unwrap(), Some(Frame::Cancel));
}

async fn a_dropped_stream_does_not_look_finished(pair: Pair) {
    let (here, mut there) = linked(&pair).await;
    drop(here);
    let error = there.receive().await.unwrap_err();
    assert!(matches!(error, NetError::Lost { .. }), "{error}");
    assert_eq!(error.retry(), Retry::Later);
}

async fn a_sender_notices_that_nobody_reads(pair: Pair) {
    let (mut here, there) = linked(&pair).await;
    drop(there);
    assert!(here.receive().await.is_err());
    let mut sent = 0;
    while here.send(&chunk(sent, "?")).await.is_ok() {
        sent += 1;
        tokio::task::yield_now().await;
    }
    assert!(here.send(&Frame::Cancel).await.is_err());
}

async fn streams_do_not_mix(pair: Pair) {
    let to = addr(&*pair.b);
    let asking = (0..16_u32).map(|n| {
        let (a, to) = (&pair.a, &to);
        async move {
            let mut link = a.open(to).await.unwrap();
            link.send(&chunk(n, "ask")).await.unwrap();
            link.finish().unwrap();
            assert_eq!(link.receive().await.unwrap(), Some(chunk(n, "answer")));
            assert_eq!(link.receive().await.unwrap(), None);
        }
    });
    let answering = async {
        let mut links = Vec::new();
        for _ in 0..16 {
            links.push(pair.b.accept().await.unwrap().link);
        }
        // Answered last first.
        for mut link in links.into_iter().rev() {
            let Some(Frame::Chunk(asked)) = link.receive().await.unwrap() else {
                panic!("no chunk");
            };
            link.send(&chunk(asked.index, "answer")).await.unwrap();
            link.finish().unwrap();
            assert_eq!(link.receive().await.unwrap(), None);
        }
    };
    let asking = async {
        let mut asking: Vec<_> = asking.map(Box::pin).collect();
        // Polls all of them until each is done.
        std::future::poll_fn(|cx| {
            asking.retain_mut(|one| one.as_mut().poll(cx).is_pending());
            if asking.is_empty() {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    };
    tokio::join!(asking, answering);
    assert_eq!(pair.a.connected(), [pair.b.id()]);
}

async fn a_cancellation_is_heard_while_an_answer_streams(pair: Pair) {
    let (mut here, there) = linked(&pair).await;
    let (mut sender, mut receiver) = there.split();
    let provider = async {
        let mut sent = 0;
        loop {
            tokio::select! {
                biased;
                heard = receiver.receive() => {
                    assert_eq!(heard.unwrap(), Some(Frame::Cancel));
                    break;
                }
                () = tokio::task::yield_now() => {}
            }
            sender.send(&chunk(sent, "token")).await.unwrap();
            sent += 1;
        }
        sender.finish().unwrap();
        sent
    };
    let consumer = async {
        let mut seen = 0;
        while let Some(frame) = here.receive().await.unwrap() {
            assert_eq!(frame, chunk(seen, "token"));
            if seen == 3 {
                here.send(&Frame::Cancel).await.unwrap();
            }
            seen += 1;
        }
        seen
    };
    let (sent, seen) = tokio::join!(provider, consumer);
    assert_eq!(sent, seen);
}

async fn a_silent_peer_is_given_up_and_the_stream_can_still_be_used(pair: Pair) {
    let (mut here, mut there) = linked(&pair).await;
    let error = here
        .receive_within(Duration::from_millis(20))
        .await
        .unwrap_err();
    assert!(matches!(error, NetError::Silent { .. }), "{error}");
    there.send(&Frame::Cancel).await.unwrap();
    assert_eq!(here.receive().await.unwrap(), Some(Frame::Cancel));
}

async fn a_closed_node_accepts_nothing_and_its_peers_notice(pair: Pair) {
    let (mut here, mut there) = linked(&pair).await;
    let (incoming, ()) = tokio::join!(pair.b.accept(), pair.b.close());
    assert!(incoming.is_none());
    assert!(pair.b.accept().await.is_none());
    assert!(pair.b.connected().is_empty());
    let closed = pair.b.open(&addr(&*pair.a)).await;
    assert!(matches!(closed, Err(NetError::Closed)), "{closed:?}");
    assert!(here.receive().await.is_err());
    assert!(here.send(&Frame::Cancel).await.is_err());
    assert!(there.receive().await.is_err());
    assert!(there.send(&Frame::Cancel).await.is_err());
    assert!(pair.a.connected().is_empty());
    pair.b.close().await;
}

async fn a_node_does_not_dial_itself(pair: Pair) {
    let error = pair.a.open(&addr(&*pair.a)).await.unwrap_err();
    assert!(matches!(error, NetError::Myself { .. }), "{error}");
}

async fn what_is_known_of_a_peer_follows_its_connection(pair: Pair) {
    let of_b = || pair.a.peer(pair.b.id());
    assert_eq!((of_b().path, of_b().silent_for), (None, None));
    let (_here, _there) = linked(&pair).await;
    let path = of_b().path.expect("there is a connection");
    assert!(!path.relayed, "{path:?}");
    assert_eq!(path.to, pair.b.addresses()[0].to_string());
    assert!(path.round_trip < Duration::from_secs(1), "{path:?}");
    assert!(of_b().silent_for.unwrap() < Duration::from_secs(5));
    assert_eq!(pair.a.relay().await, None);
    pair.b.close().await;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    while of_b().path.is_some() {
        ticks.tick().await;
    }
    assert!(pair.a.connected().is_empty());
}

async fn a_ping_is_answered_with_its_number(pair: Pair) {
    let (mut here, mut there) = linked(&pair).await;
    for number in [0, u64::MAX] {
        here.send(&Frame::Ping(number)).await.unwrap();
        assert_eq!(there.receive().await.unwrap(), Some(Frame::Ping(number)));
        there.send(&Frame::Pong(number)).await.unwrap();
        assert_eq!(here.receive().await.unwrap(), Some(Frame::Pong(number)));
    }
}

macro_rules! on_every_wire {
    ($($name:ident),* $(,)?) => {
        mod memory_wire {
            $(#[tokio::test]
            async fn $name() {
                super::soon(super::$name(super::memory())).await;
            })*
        }
        mod iroh_wire {
            $(#[tokio::test]
            async fn $name() {
                super::soon(super::$name(super::over_loopback().await)).await;
            })*
        }
    };
}

on_every_wire! {
    frames_pass_both_ways_in_order,
    frames_that_are_sent_together_arrive_in_their_order_or_not_at_all,
    a_finished_direction_leaves_the_other_open,
    both_ends_know_who_the_other_is,
    a_connected_peer_is_reached_without_an_address,
    what_is_above_a_limit_is_refused_on_both_sides,
    an_unknown_kind_is_named_and_the_next_frame_is_read,
    a_dropped_stream_does_not_look_finished,
    a_sender_notices_that_nobody_reads,
    streams_do_not_mix,
    a_cancellation_is_heard_while_an_answer_streams,
    a_silent_peer_is_given_up_and_the_stream_can_still_be_used,
    a_closed_node_accepts_nothing_and_its_peers_notice,
    a_node_does_not_dial_itself,
    what_is_known_of_a_peer_follows_its_connection,
    a_ping_is_answered_with_its_number,
}

#[path = "transport/only_iroh.rs"]
mod only_iroh;

#[path = "transport/bad_wire.rs"]
mod bad_wire;

#[path = "transport/by_relay.rs"]
mod by_relay;

#[path = "transport/only_memory.rs"]
mod only_memory;
