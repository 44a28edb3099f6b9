//! Over a wire that is slow, loses packets or is cut.

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
async fn a_session_goes_on_when_the_address_of_its_peer_changes() {
    let (a, b) = (node(1, watchful()).await, on_ipv6(2, watchful()).await);
    let wire = Wire::to(b.addresses()[0], SMOOTH).await;
    let (mut here, mut there) = soon(linked_through(&a, &b, &wire)).await;
    for round in 0..3 {
        wire.moves();
        for index in 0..FRAMES {
            here.send(&chunk(index, "there")).await.unwrap();
            let heard = soon(there.receive()).await.unwrap();
            assert_eq!(heard, Some(chunk(index, "there")), "round {round}");
            there.send(&chunk(index, "back")).await.unwrap();
            let heard = soon(here.receive()).await.unwrap();
            assert_eq!(heard, Some(chunk(index, "back")), "round {round}");
        }
        assert_eq!(b.connected(), [a.id()]);
    }
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
