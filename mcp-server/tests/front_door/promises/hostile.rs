//! A peer that floods the mesh port of a node: with packets, connections, streams and frames that are none. The
//! node lives, its memory does not grow, and an honest member buys meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use iroh::endpoint::{Connection, VarInt, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};
use tirami_manifest::NodeId;
use tokio::time::{Instant, timeout};

use crate::cli::{EXE, Home};
use crate::http::{CHAT, Http, chat};
use crate::nodes::{LOAN, Pair, Up, WITHIN, ticket, trm};

/// What two nodes say to each other in the handshake.
const ALPN: &[u8] = b"tirami/1";

/// By how much the memory of the node may grow, in bytes: 32 MiB.
const GROWS_MOST: u64 = 32 << 20;

/// Purchases that are timed, quiet and under each attack.
const TIMED: usize = 20;

/// Below this a purchase is taken to be as quick as it can be on a machine that is busy with other things.
const QUICK: Duration = Duration::from_millis(100);

/// A node under attack, and where its mesh port is.
struct Target {
    id: EndpointId,
    at: SocketAddr,
    pid: u64,
}

impl Target {
    fn of(up: &Up) -> Self {
        let id: NodeId = up.ready["node"].as_str().unwrap().parse().unwrap();
        let at = up.ready["addresses"][0].as_str().unwrap();
        Self {
            id: EndpointId::from_bytes(id.as_bytes()).unwrap(),
            at: at.parse().unwrap(),
            pid: up.pid(),
        }
    }

    /// What it takes of the machine's memory, in bytes.
    fn memory(&self) -> u64 {
        self.bytes("VmRSS:")
    }

    /// The most that it took since [`Target::forget_peak`].
    fn peak(&self) -> u64 {
        self.bytes("VmHWM:")
    }

    fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5").unwrap();
    }

    fn bytes(&self, row: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with(row));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() * 1_024
    }

    async fn dial(&self, from: &Endpoint, alpn: &[u8]) -> Option<Connection> {
        let to = EndpointAddr::new(self.id).with_ip_addr(self.at);
        let dialled = timeout(Duration::from_secs(5), from.connect(to, alpn)).await;
        dialled.ok()?.ok()
    }
}

/// Somebody with a key of its own that nobody knows.
async fn stranger() -> Endpoint {
    let builder = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap();
    builder.bind().await.unwrap()
}

/// What looks like chance and is the same each time.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// Packets that belong to nothing.
async fn packets(target: &Target) {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for n in 0..4_000 {
        let length = 1 + usize::try_from(n * 37 % 1_400).unwrap();
        // One that does not fit into the queue is lost, as it would be elsewhere.
        drop(socket.send_to(&noise(n, length), target.at).await);
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Another protocol in the handshake.
async fn wrong_protocol(target: &Target) {
    let stranger = stranger().await;
    for alpn in [&b"h3"[..], b"tirami/2", b"", &[0xff; 200]] {
        assert!(target.dial(&stranger, alpn).await.is_none(), "{alpn:?}");
    }
    stranger.close().await;
}

/// Streams of bytes that are no frames.
async fn garbage(target: &Target) {
    let stranger = stranger().await;
    let connection = target.dial(&stranger, ALPN).await.unwrap();
    for n in 0..200 {
        let (mut sink, mut source) = connection.open_bi().await.unwrap();
        // The node may have had enough before all of it is there.
        drop(sink.write_all(&noise(n, 3_000)).await);
        drop(sink.finish());
        drop(
            timeout(Duration::from_secs(20), source.read_to_end(9_999))
                .await
                .unwrap(),
        );
    }
    stranger.close().await;
}

/// Frames that say that they are as long as they may be, and never end: as many as somebody can have open.
async fn endless(target: &Target) {
    let stranger = stranger().await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let one = target.dial(&stranger, ALPN).await.unwrap();
        for _ in 0..31 {
            let Ok((mut sink, source)) = one.open_bi().await else {
                break;
            };
            let most: u32 = (1 << 20) - 4;
            let mut frame = most.to_le_bytes().to_vec();
            frame.extend([1, 80, 0]);
            frame.resize((1 << 20) - 1, 7);
            let all = async move {
                drop(timeout(Duration::from_secs(8), sink.write_all(&frame)).await);
                (sink, source)
            };
            open.push(tokio::spawn(all));
        }
    }
    let open = join_all(open).await;
    drop(open);
    stranger.close().await;
}

/// Thousands of streams, each given up after a byte.
async fn streams(target: &Target) {
    let stranger = stranger().await;
    let connection = target.dial(&stranger, ALPN).await.unwrap();
    let mut opened = 0;
    let open = async {
        while opened < 10_000 {
            let Ok((mut sink, mut source)) = connection.open_bi().await else {
                break;
            };
            drop(sink.write_all(&[9]).await);
            drop(sink.reset(VarInt::from_u32(1)));
            drop(source.stop(VarInt::from_u32(1)));
            opened += 1;
        }
    };
    drop(timeout(Duration::from_secs(15), open).await);
    assert!(opened >= 1_000, "{opened} streams");
    stranger.close().await;
}

/// Many of them at once, and each says nothing.
async fn crowd(target: &Target) {
    let strangers = join_all((0..40).map(|_| stranger())).await;
    let dialled = strangers.iter().map(|one| target.dial(one, ALPN));
    let connections = join_all(dialled).await;
    for connection in connections.iter().flatten() {
        let (mut sink, _source) = connection.open_bi().await.unwrap();
        drop(sink.write_all(&[3, 0, 0]).await);
    }
    join_all(strangers.iter().map(Endpoint::close)).await;
}

/// How long each of some purchases took, the longest last.
async fn purchases(http: &Http, what: &str) -> Vec<Duration> {
    let mut took = Vec::new();
    for n in 0..TIMED {
        let began = Instant::now();
        let (status, answer) = http
            .post(CHAT, &chat("a b c", &format!("{what}-{n}")))
            .await;
        assert_eq!(status, 200, "{what}: {answer}");
        took.push(began.elapsed());
    }
    took.sort();
    took
}

/// What nine in ten of them took at most: a machine that is busy with other things delays one or two.
fn nine_in_ten(took: &[Duration]) -> Duration {
    *took.get(took.len() * 9 / 10 - 1).unwrap()
}

/// A pair whose seller writes its log with details to a file.
async fn pair_with_a_log() -> Pair {
    let (a, b) = (Home::seller(), Home::buyer());
    let script = format!("exec \"$0\" --log debug \"$@\" 2>'{}'", a.text("log"));
    let up = Up::start_by(&a, &["sh", "-c", &script, EXE]).await;
    let joined = b.ask(&["join", &ticket(&a).await]).await;
    assert_eq!(
        trm(&joined["trm_welcome_loan"]),
        tirami_manifest::Amount::from_trm(LOAN)
    );
    Pair { a, b, up }
}

#[tokio::test]
async fn a_flood_of_the_mesh_port_costs_no_memory_and_an_honest_member_buys_meanwhile() {
    let pair = pair_with_a_log().await;
    pair.b.without_breakers().await;
    let buyer = Up::start(&pair.b).await;
    let (http, target) = (buyer.http(&pair.b), Target::of(&pair.up));
    purchases(&http, "before").await;
    let quiet = nine_in_ten(&purchases(&http, "quiet").await);
    let memory = target.memory();
    let bound = 3 * quiet.max(QUICK);
    for (what, says) in [
        ("packets", ""),
        ("wrong-protocol", "a handshake failed"),
        ("garbage", "a peer's request broke off"),
        ("endless", "too many requests of one node at once"),
        ("streams", "broke off"),
        ("crowd", "a peer's request broke off"),
    ] {
        target.forget_peak();
        let attack = async {
            match what {
                "packets" => packets(&target).await,
                "wrong-protocol" => wrong_protocol(&target).await,
                "garbage" => garbage(&target).await,
                "endless" => endless(&target).await,
                "streams" => streams(&target).await,
                _ => crowd(&target).await,
            }
            target.peak()
        };
        let (most, took) = tokio::join!(Box::pin(timeout(WITHIN, attack)), purchases(&http, what));
        let grown = most.unwrap().saturating_sub(memory);
        let (usual, slowest) = (nine_in_ten(&took), took.last().unwrap());
        println!(
            "{what}: {} KiB more; {usual:?}, slowest {slowest:?}, quiet {quiet:?}",
            grown >> 10
        );
        assert!(grown <= GROWS_MOST, "{what}: {} KiB more", grown >> 10);
        assert!(usual <= bound, "{what}: {usual:?}, quiet {quiet:?}");
        let log = std::fs::read_to_string(pair.a.path("log")).unwrap();
        assert!(log.contains(says), "{what}: '{says}' is not in its log");
        assert!(!log.contains("panicked"), "{what}: {log}");
    }
    let grown = target.memory().saturating_sub(memory);
    println!("afterwards: {} KiB more", grown >> 10);
    assert!(grown <= GROWS_MOST, "afterwards: {} KiB more", grown >> 10);
    assert!(!pair.agree().await.is_zero());
}
