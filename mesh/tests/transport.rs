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

mod only_iroh {
    use super::*;

    fn impatient() -> IrohOptions {
        IrohOptions {
            dial_within: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(1),
            keep_alive: Duration::from_millis(200),
            ..IrohOptions::default()
        }
    }

    /// Binds once the closed transport before has let go of its socket.
    async fn bound_at_last(n: u8, address: SocketAddr) -> IrohTransport {
        loop {
            match IrohTransport::bind(&key(n), address, impatient()).await {
                Ok(transport) => return transport,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    #[tokio::test]
    async fn a_node_on_every_interface_names_their_addresses() {
        let every = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let a = IrohTransport::bind(&key(1), every, impatient())
            .await
            .unwrap();
        let addresses = a.addresses();
        assert!(!addresses.is_empty());
        for address in addresses {
            assert!(
                !address.ip().is_unspecified() && address.port() != 0,
                "{address}"
            );
        }
        a.close().await;
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_names_it() {
        let first = node(1, impatient()).await;
        let taken = first.addresses()[0];
        let error = IrohTransport::bind(&key(2), taken, impatient())
            .await
            .unwrap_err();
        assert!(matches!(error, NetError::Bind { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&taken.to_string()), "{text}");
        assert!(text.to_lowercase().contains("in use"), "{text}");
        first.close().await;
        drop(first);
        let second = Box::pin(soon(bound_at_last(2, taken))).await;
        assert_eq!(second.addresses(), [taken]);
        second.close().await;
    }

    #[tokio::test]
    async fn another_node_at_the_address_is_not_talked_to() {
        let (a, b) = (node(1, impatient()).await, node(2, impatient()).await);
        let impostor = PeerAddr {
            id: key(3).id(),
            addresses: b.addresses(),
        };
        let error = soon(a.open(&impostor)).await.unwrap_err();
        assert!(matches!(error, NetError::Unreachable { .. }), "{error}");
        assert!(a.connected().is_empty());
        a.close().await;
        b.close().await;
    }

    #[tokio::test]
    async fn nobody_at_the_address_is_an_error_in_time_that_names_it() {
        let a = node(1, impatient()).await;
        // Bound, so that nobody else takes it, and never answering.
        let silent = std::net::UdpSocket::bind(LOOPBACK).unwrap();
        let nobody = PeerAddr {
            id: key(2).id(),
            addresses: vec![silent.local_addr().unwrap()],
        };
        let text = soon(a.open(&nobody)).await.unwrap_err().to_string();
        assert!(text.contains(&nobody.addresses[0].to_string()), "{text}");
        assert!(text.contains("0.5 s"), "{text}");
        assert!(text.contains(&nobody.id.short()), "{text}");
        let error = soon(a.open(&PeerAddr {
            id: key(3).id(),
            addresses: vec![],
        }))
        .await
        .unwrap_err();
        assert!(matches!(error, NetError::NoAddress { .. }), "{error}");
        a.close().await;
    }

    #[tokio::test]
    async fn a_peer_that_restarted_is_dialled_again() {
        let a = node(1, impatient()).await;
        let b = node(2, impatient()).await;
        let to = addr(&b);
        let mut link = soon(a.open(&to)).await.unwrap();
        link.send(&Frame::ListOffers).await.unwrap();
        assert!(soon(b.accept()).await.is_some());
        b.close().await;
        drop(b);
        let b = Box::pin(soon(bound_at_last(2, to.addresses[0]))).await;
        assert!(soon(link.receive()).await.is_err());
        let mut link = soon(a.open(&to)).await.unwrap();
        link.send(&Frame::Cancel).await.unwrap();
        let mut incoming = soon(b.accept()).await.unwrap();
        assert_eq!(
            soon(incoming.link.receive()).await.unwrap(),
            Some(Frame::Cancel)
        );
        a.close().await;
        b.close().await;
    }

    #[test]
    fn a_killed_peer_is_noticed() {
        let here = tokio::runtime::Runtime::new().unwrap();
        let there = tokio::runtime::Runtime::new().unwrap();
        let a = here.block_on(node(1, impatient()));
        let b = there.block_on(node(2, impatient()));
        let mut link = here.block_on(async {
            let mut link = soon(a.open(&addr(&b))).await.unwrap();
            link.send(&Frame::ListOffers).await.unwrap();
            link
        });
        let incoming = there.block_on(soon(b.accept())).unwrap();
        // Nothing of b runs any more, and nobody says goodbye.
        there.shutdown_background();
        let error = here.block_on(soon(link.receive())).unwrap_err();
        assert!(error.to_string().contains("silent"), "{error}");
        assert!(a.connected().is_empty());
        here.block_on(a.close());
        drop((incoming, b));
    }

    #[tokio::test]
    async fn more_streams_than_allowed_wait_with_their_opener() {
        let few = IrohOptions {
            streams_max: 2,
            ..impatient()
        };
        let (a, b) = (node(1, impatient()).await, node(2, few).await);
        let to = addr(&b);
        let mut open = Vec::new();
        for _ in 0..2 {
            let mut link = soon(a.open(&to)).await.unwrap();
            link.send(&Frame::ListOffers).await.unwrap();
            open.push((link, soon(b.accept()).await.unwrap()));
        }
        assert!(soon(a.open(&to)).await.is_err());
        drop(open.pop());
        let mut link = soon(a.open(&to)).await.unwrap();
        link.send(&Frame::ListOffers).await.unwrap();
        a.close().await;
        b.close().await;
    }

    #[tokio::test]
    async fn more_connections_than_allowed_are_refused() {
        let one = IrohOptions {
            connections_max: 1,
            ..impatient()
        };
        let b = node(2, one).await;
        let (a, c) = (node(1, impatient()).await, node(3, impatient()).await);
        let _link = soon(a.open(&addr(&b))).await.unwrap();
        assert!(soon(c.open(&addr(&b))).await.is_err());
        soon(a.close()).await;
        let deadline = Duration::from_secs(10);
        let in_at_last = async { while c.open(&addr(&b)).await.is_err() {} };
        timeout(deadline, in_at_last).await.unwrap();
        c.close().await;
        b.close().await;
    }

    #[tokio::test]
    async fn a_frame_in_pieces_survives_a_reader_that_looks_away() {
        let pair = over_loopback().await;
        let (here, mut there) = soon(linked(&pair)).await;
        let (mut sender, _receiver) = here.split();
        let bytes = codec::encode(&chunk(7, "in pieces")).unwrap();
        for piece in bytes.chunks(3) {
            sender.send_raw(piece.to_vec()).await.unwrap();
            tokio::select! {
                biased;
                frame = there.receive() => assert_eq!(frame.unwrap(), Some(chunk(7, "in pieces"))),
                () = tokio::task::yield_now() => continue,
            }
            return;
        }
        assert_eq!(
            soon(there.receive()).await.unwrap(),
            Some(chunk(7, "in pieces"))
        );
    }

    #[tokio::test]
    async fn long_frames_that_never_end_hold_up_neither_short_ones_nor_other_peers() {
        let (a, b) = (node(1, impatient()).await, node(2, impatient()).await);
        let (c, to) = (node(3, impatient()).await, addr(&b));
        // Three frames of almost a MiB, none of which ends.
        let mut open = Vec::new();
        for _ in 0..3 {
            let (mut sender, receiver) = soon(a.open(&to)).await.unwrap().split();
            let long = codec::encode(&long_prompt()).unwrap();
            let (head, _) = long.split_at(100);
            sender.send_raw(head.to_vec()).await.unwrap();
            let mut incoming = soon(b.accept()).await.unwrap();
            let began = timeout(Duration::from_millis(20), incoming.link.receive()).await;
            assert!(began.is_err(), "half a frame was read");
            open.push((sender, receiver, incoming));
        }
        for from in [&a, &c] {
            let mut link = soon(from.open(&to)).await.unwrap();
            link.send(&Frame::Cancel).await.unwrap();
            let mut short = soon(b.accept()).await.unwrap();
            assert_eq!(
                soon(short.link.receive()).await.unwrap(),
                Some(Frame::Cancel)
            );
        }
        // The third is read once one of the first two is given up; another peer's is not held up.
        let mut link = soon(c.open(&to)).await.unwrap();
        let (mut other, frame) = (soon_accepted(&mut link, &b).await, long_prompt());
        let (sent, read) = tokio::join!(link.send(&frame), soon(other.receive()));
        sent.unwrap();
        assert_eq!(read.unwrap(), Some(long_prompt()));
        let (mut sender, _receiver, mut third) = open.pop().unwrap();
        let rest = codec::encode(&long_prompt()).unwrap().split_off(100);
        let waits = async { tokio::join!(sender.send_raw(rest), third.link.receive()).1 };
        let mut waits = Box::pin(waits);
        assert!(
            timeout(Duration::from_millis(100), &mut waits)
                .await
                .is_err()
        );
        drop(open.pop());
        assert_eq!(soon(waits).await.unwrap(), Some(long_prompt()));
        tokio::join!(a.close(), b.close(), c.close());
    }

    fn long_prompt() -> Frame {
        Frame::Start(Start {
            quote: QuoteId::from_bytes([1; 32]),
            hold: TransferId::from_bytes([2; 16]),
            messages: vec![Message {
                role: Role::User,
                content: "x".repeat(codec::PROMPT_MAX),
            }],
            sampler: Sampler::GREEDY,
            stop: vec![],
            under: None,
        })
    }

    /// The other end of a link that was just opened.
    async fn soon_accepted(link: &mut Link, there: &IrohTransport) -> Link {
        link.send(&Frame::ListOffers).await.unwrap();
        let mut other = soon(there.accept()).await.unwrap().link;
        assert_eq!(
            soon(other.receive()).await.unwrap(),
            Some(Frame::ListOffers)
        );
        other
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_a_frame_is_refused() {
        let pair = over_loopback().await;
        let (here, mut there) = soon(linked(&pair)).await;
        let (mut sender, _receiver) = here.split();
        sender.send_raw(vec![9, 0, 0, 0, 1]).await.unwrap();
        sender.finish().unwrap();
        let error = soon(there.receive()).await.unwrap_err();
        assert!(
            matches!(
                error,
                NetError::Frame {
                    source: CodecError::Truncated,
                    ..
                }
            ),
            "{error}"
        );
    }
}

/// Over a wire that is slow, loses packets or is cut.
mod bad_wire {
    use tokio::time::Instant;

    use super::wire::{Rules, Wire};
    use super::*;

    /// Frames that are to arrive.
    const FRAMES: u32 = 120;

    /// Far above what the frames take, on a machine that is busy with other things.
    const WITHIN: Duration = Duration::from_mins(1);

    const SMOOTH: Rules = Rules {
        delay: Duration::ZERO,
        loss_percent: 0,
        seed: 0,
    };

    fn watchful() -> IrohOptions {
        IrohOptions {
            dial_within: Duration::from_secs(2),
            stale_after: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(6),
            keep_alive: Duration::from_millis(200),
            ..IrohOptions::default()
        }
    }

    /// A node that only the relay reaches: the others here are on IPv4.
    async fn on_ipv6(n: u8, options: IrohOptions) -> IrohTransport {
        let loopback = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let bound = IrohTransport::bind(&key(n), loopback, options).await;
        bound.expect("this test needs IPv6 on loopback")
    }

    fn through(wire: &Wire, n: u8) -> PeerAddr {
        PeerAddr {
            id: key(n).id(),
            addresses: vec![wire.front()],
        }
    }

    /// A link from a to b, with one frame passed.
    async fn linked_through(a: &IrohTransport, b: &IrohTransport, wire: &Wire) -> (Link, Link) {
        let mut here = a.open(&through(wire, 2)).await.unwrap();
        here.send(&Frame::ListOffers).await.unwrap();
        let mut there = b.accept().await.unwrap().link;
        assert_eq!(there.receive().await.unwrap(), Some(Frame::ListOffers));
        (here, there)
    }

    /// Looks until it is so. Answers how long that took.
    async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let seen = async {
            while !is_so() {
                ticks.tick().await;
            }
        };
        timeout(WITHIN, seen)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"));
        println!("{what}: after {} ms", began.elapsed().as_millis());
        began.elapsed()
    }

    async fn over_a_slow_and_lossy_wire(seed: u64) {
        let rules = Rules {
            delay: Duration::from_millis(200),
            loss_percent: 5,
            seed,
        };
        let (a, b) = (
            node(1, IrohOptions::default()).await,
            on_ipv6(2, IrohOptions::default()).await,
        );
        let wire = Wire::to(b.addresses()[0], rules).await;
        // A dial whose packets are all lost is an error, and the next one may fare better.
        let dial = async {
            loop {
                match a.open(&through(&wire, 2)).await {
                    Ok(link) => return link,
                    Err(error) => {
                        assert_eq!(error.retry(), Retry::Later, "{error}");
                        println!("seed {seed}: {error}");
                    }
                }
            }
        };
        let (mut sender, mut receiver) = timeout(WITHIN, dial).await.unwrap().split();
        let write = async {
            for index in 0..FRAMES {
                sender.send(&chunk(index, &"x".repeat(1_000))).await?;
            }
            sender.finish()
        };
        let echo = async {
            let mut link = b.accept().await.expect("it is open").link;
            while let Some(frame) = link.receive().await? {
                link.send(&frame).await?;
            }
            link.finish()
        };
        let hear = async {
            let mut next = 0;
            while let Some(frame) = receiver.receive().await? {
                assert_eq!(frame, chunk(next, &"x".repeat(1_000)), "seed {seed}");
                next += 1;
            }
            Ok::<_, NetError>(next)
        };
        let began = Instant::now();
        let all = async {
            let hear_and_leave = async {
                let heard = hear.await;
                a.close().await;
                heard
            };
            tokio::join!(write, echo, hear_and_leave)
        };
        let (sent, echoed, heard) = timeout(WITHIN, all).await.unwrap();
        let (passed, lost) = wire.counts();
        let took = began.elapsed().as_millis();
        println!(
            "seed {seed}: {heard:?} of {FRAMES} in {took} ms, {lost} of {} packets lost",
            passed + lost
        );
        assert!(lost > 0, "seed {seed}: the wire lost nothing");
        // All of them in order, which was looked at above, or an error that says that it broke.
        match heard {
            Ok(count) => assert_eq!(
                count, FRAMES,
                "seed {seed}: sent {sent:?}, echoed {echoed:?}"
            ),
            Err(error) => assert_eq!(error.retry(), Retry::Later, "seed {seed}: {error}"),
        }
        b.close().await;
    }

    #[tokio::test]
    async fn frames_arrive_in_order_or_fail_cleanly_over_a_slow_and_lossy_wire() {
        let seed = std::env::var("TIRAMI_WIRE_SEED").map_or(7, |text| text.parse().unwrap());
        let rounds = std::env::var("TIRAMI_WIRE_ROUNDS").map_or(1, |text| text.parse().unwrap());
        for round in 0..rounds {
            println!("repeat with TIRAMI_WIRE_SEED={}", seed + round);
            over_a_slow_and_lossy_wire(seed + round).await;
        }
    }

    #[tokio::test]
    async fn a_silent_peer_is_noticed_in_time_and_a_short_silence_breaks_nothing() {
        let (a, b) = (node(1, watchful()).await, on_ipv6(2, watchful()).await);
        let wire = Wire::to(b.addresses()[0], SMOOTH).await;
        let (mut here, mut there) = soon(linked_through(&a, &b, &wire)).await;
        assert_eq!(a.peer(b.id()).path.unwrap().to, wire.front().to_string());
        wire.cut(true);
        let noticed = until("silence is noticed", || a.connected().is_empty()).await;
        assert!(noticed < Duration::from_secs(3), "{noticed:?}");
        assert_eq!(a.peer(b.id()).path, None);
        assert!(a.peer(b.id()).silent_for.unwrap() >= Duration::from_secs(1));
        let error = soon(a.open(&through(&wire, 2))).await.unwrap_err();
        assert!(
            error.to_string().contains("no answer within 2 s"),
            "{error}"
        );
        wire.cut(false);
        let back = until("the peer is back", || a.connected() == [b.id()]).await;
        assert!(back < Duration::from_secs(5), "{back:?}");
        // What was open before goes on.
        here.send(&Frame::Cancel).await.unwrap();
        assert_eq!(soon(there.receive()).await.unwrap(), Some(Frame::Cancel));
        there.send(&Frame::ListOffers).await.unwrap();
        assert_eq!(soon(here.receive()).await.unwrap(), Some(Frame::ListOffers));
        a.close().await;
        b.close().await;
    }

    #[tokio::test]
    async fn a_peer_that_died_and_started_anew_at_its_address_is_reached_without_its_goodbye() {
        let (a, b) = (node(1, watchful()).await, on_ipv6(2, watchful()).await);
        let wire = Wire::to(b.addresses()[0], SMOOTH).await;
        let (mut here, _there) = soon(linked_through(&a, &b, &wire)).await;
        // To a it is as if the process behind that address were another one from now on.
        let anew = on_ipv6(2, watchful()).await;
        wire.lead_to(anew.addresses()[0]);
        let began = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let answered = async {
            loop {
                ticks.tick().await;
                let Ok(mut link) = a.open(&through(&wire, 2)).await else {
                    continue;
                };
                link.send(&Frame::Ping(1)).await.unwrap();
                let answer = link.receive_within(Duration::from_millis(200)).await;
                if let Ok(Some(Frame::Pong(1))) = answer {
                    return;
                }
            }
        };
        let serve = async {
            while let Some(mut incoming) = anew.accept().await {
                while let Ok(Some(Frame::Ping(number))) = incoming.link.receive().await {
                    incoming.link.send(&Frame::Pong(number)).await.unwrap();
                }
            }
        };
        tokio::select! {
            () = soon(answered) => {}
            () = serve => panic!("the peer closed"),
        }
        let took = began.elapsed();
        println!(
            "the peer that started anew answers after {} ms",
            took.as_millis()
        );
        assert!(took < Duration::from_secs(5), "{took:?}");
        // What ran on the dead connection breaks when that is over, and not never.
        assert!(soon(here.receive()).await.is_err());
        a.close().await;
        b.close().await;
        anew.close().await;
    }
}

/// Through a relay that both were told to use: one of them is on IPv4 and the other on IPv6, so that
/// there is no straight way.
mod by_relay {
    use iroh_relay::server::{RelayConfig, Server, ServerConfig};
    use tirami_mesh::net::Relay;

    use super::*;

    async fn relay() -> (Server, Relay) {
        let mut config = ServerConfig::default();
        config.relay = Some(RelayConfig::new((Ipv4Addr::LOCALHOST, 0)));
        let server = Server::spawn(config).await.unwrap();
        let url = format!("http://{}", server.http_addr().unwrap());
        (server, url.parse().unwrap())
    }

    async fn on(ip: IpAddr, n: u8, relay: &Relay) -> IrohTransport {
        let options = IrohOptions {
            relay: Some(relay.clone()),
            dial_within: Duration::from_secs(2),
            stale_after: Duration::from_secs(1),
            keep_alive: Duration::from_millis(200),
            ..IrohOptions::default()
        };
        let bound = IrohTransport::bind(&key(n), SocketAddr::new(ip, 0), options).await;
        bound.expect("this test needs IPv6 on loopback")
    }

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[tokio::test]
    async fn nodes_without_a_straight_way_meet_at_their_relay_and_it_shows() {
        let (server, relay) = relay().await;
        let (a, b) = (on(V4, 1, &relay).await, on(V6, 2, &relay).await);
        for node in [&a, &b] {
            let state = soon(node.relay()).await.unwrap();
            assert_eq!((state.relay, state.problem), (relay.clone(), None));
        }
        let nowhere = PeerAddr {
            id: b.id(),
            addresses: vec![],
        };
        let mut here = soon(a.open(&nowhere)).await.unwrap();
        for index in 0..50 {
            here.send(&chunk(index, "by relay")).await.unwrap();
        }
        here.finish().unwrap();
        let mut there = soon(b.accept()).await.unwrap().link;
        for index in 0..50 {
            assert_eq!(
                soon(there.receive()).await.unwrap(),
                Some(chunk(index, "by relay"))
            );
        }
        assert_eq!(soon(there.receive()).await.unwrap(), None);
        let path = a.peer(b.id()).path.unwrap();
        assert!(path.relayed && path.to.starts_with(relay.url()), "{path:?}");
        assert!(path.round_trip > Duration::ZERO, "{path:?}");
        // One that was not told of it has no way, and says so.
        let without = node(3, IrohOptions::default()).await;
        let error = without.open(&nowhere).await.unwrap_err();
        assert!(matches!(error, NetError::NoAddress { .. }), "{error}");
        // Without the relay there is no way any more, and that is noticed too.
        server.shutdown().await.unwrap();
        soon(async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while !a.connected().is_empty() {
                ticks.tick().await;
            }
        })
        .await;
        let problem = soon(a.relay()).await.unwrap().problem;
        assert!(problem.is_some(), "the relay is gone");
        let error = soon(a.open(&nowhere)).await.unwrap_err().to_string();
        assert!(error.contains(relay.url()), "{error}");
        tokio::join!(a.close(), b.close(), without.close());
    }

    #[tokio::test]
    async fn a_straight_way_is_taken_where_there_is_one() {
        let (server, relay) = relay().await;
        let (a, b) = (on(V4, 1, &relay).await, on(V4, 2, &relay).await);
        for node in [&a, &b] {
            assert_eq!(soon(node.relay()).await.unwrap().problem, None);
        }
        let nowhere = PeerAddr {
            id: b.id(),
            addresses: vec![],
        };
        let mut link = soon(a.open(&nowhere)).await.unwrap();
        link.send(&Frame::ListOffers).await.unwrap();
        soon(async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while a.peer(b.id()).path.is_none_or(|path| path.relayed) {
                ticks.tick().await;
            }
        })
        .await;
        tokio::join!(a.close(), b.close());
        server.shutdown().await.unwrap();
    }
}

mod only_memory {
    use super::*;

    fn two() -> (MemoryNetwork, MemoryTransport, MemoryTransport) {
        let network = MemoryNetwork::new();
        let (a, b) = (
            network.transport(key(1).id()),
            network.transport(key(2).id()),
        );
        (network, a, b)
    }

    /// Three questions and their answers; says how many of each arrived.
    async fn talk(a: &dyn Transport, b: &dyn Transport) -> (u32, u32) {
        let answering = async {
            let mut link = b.accept().await.unwrap().link;
            let mut heard = 0;
            while let Ok(Some(frame)) = link.receive().await {
                heard += 1;
                if link.send(&frame).await.is_err() {
                    break;
                }
            }
            heard
        };
        let asking = async {
            let mut link = a.open(&addr(b)).await.unwrap();
            let mut answers = 0;
            for n in 0..3 {
                if link.send(&chunk(n, "?")).await.is_err() {
                    break;
                }
                match link.receive().await {
                    Ok(Some(_)) => answers += 1,
                    _ => break,
                }
            }
            answers
        };
        tokio::join!(answering, asking)
    }

    #[tokio::test]
    async fn a_wire_can_be_cut_at_every_frame() {
        for n in 0..=3 {
            let (network, a, b) = two();
            let whole = u32::try_from(n).unwrap();
            network.cut_after(a.id(), b.id(), n);
            assert_eq!(soon(talk(&a, &b)).await, (whole, whole));
            let (network, a, b) = two();
            network.cut_after(b.id(), a.id(), n);
            assert_eq!(soon(talk(&a, &b)).await, ((whole + 1).min(3), whole));
        }
    }

    #[tokio::test]
    async fn a_cut_breaks_both_ends_until_it_is_healed() {
        let (network, a, b) = two();
        let pair = Pair {
            a: Box::new(a),
            b: Box::new(b),
        };
        let (mut here, mut there) = soon(linked(&pair)).await;
        here.send(&Frame::Cancel).await.unwrap();
        network.cut(pair.b.id(), pair.a.id());
        assert!(matches!(
            soon(here.receive()).await,
            Err(NetError::Lost { .. })
        ));
        assert!(here.send(&Frame::Cancel).await.is_err());
        // What was on its way before the cut arrived.
        assert_eq!(soon(there.receive()).await.unwrap(), Some(Frame::Cancel));
        assert!(there.receive().await.is_err());
        assert!(there.finish().is_err());
        assert!(pair.a.connected().is_empty() && pair.b.connected().is_empty());
        let error = pair.a.open(&addr(&*pair.b)).await.unwrap_err();
        assert!(matches!(error, NetError::Unreachable { .. }), "{error}");
        network.heal(pair.a.id(), pair.b.id());
        soon(linked(&pair)).await;
        network.drop_streams(pair.a.id(), pair.b.id());
        soon(linked(&pair)).await;
    }

    #[tokio::test]
    async fn a_waiting_reader_wakes_when_the_wire_is_cut() {
        let (network, a, b) = two();
        let mut here = a.open(&addr(&b)).await.unwrap();
        let cut = async {
            tokio::task::yield_now().await;
            network.cut(a.id(), b.id());
        };
        let (read, ()) = soon(async { tokio::join!(here.receive(), cut) }).await;
        assert!(read.is_err());
    }

    #[tokio::test]
    async fn a_full_stream_makes_its_sender_wait() {
        let (_network, a, b) = two();
        let mut here = a.open(&addr(&b)).await.unwrap();
        let mut there = b.accept().await.unwrap().link;
        let write = async {
            for n in 0..200 {
                here.send(&chunk(n, "")).await.unwrap();
            }
            here.finish().unwrap();
        };
        let read = async {
            let mut next = 0;
            while let Some(frame) = there.receive().await.unwrap() {
                assert_eq!(frame, chunk(next, ""));
                next += 1;
            }
            next
        };
        assert_eq!(soon(async { tokio::join!(write, read) }).await.1, 200);
    }

    #[tokio::test]
    async fn a_restarted_node_takes_the_place_of_the_old_one() {
        let (network, a, old) = two();
        let mut link = a.open(&addr(&old)).await.unwrap();
        let new = network.transport(old.id());
        assert!(soon(old.accept()).await.is_none());
        assert!(soon(link.receive()).await.is_err());
        old.close().await;
        drop(old);
        let pair = Pair {
            a: Box::new(a),
            b: Box::new(new),
        };
        soon(linked(&pair)).await;
    }

    #[tokio::test]
    async fn nobody_and_too_many_are_errors() {
        let (_network, a, b) = two();
        let nobody = PeerAddr {
            id: NodeId::from_bytes([9; 32]),
            addresses: vec![],
        };
        assert!(a.open(&nobody).await.is_err());
        let mut open = Vec::new();
        while let Ok(link) = a.open(&addr(&b)).await {
            open.push(link);
        }
        assert_eq!(open.len(), tirami_mesh::net::transport::ACCEPT_QUEUE);
        assert!(b.accept().await.is_some());
        assert!(a.open(&addr(&b)).await.is_ok());
    }
}
