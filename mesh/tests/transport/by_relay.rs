//! Through a relay that both were told to use: one of them is on IPv4 and the other on IPv6, so that
//! there is no straight way.

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
