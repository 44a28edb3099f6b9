//! What only iroh can do: dialling, limits of connections, silence.

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
