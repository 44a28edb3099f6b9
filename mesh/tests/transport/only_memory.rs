//! What only the wire in memory can do: being cut at a certain frame.

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
