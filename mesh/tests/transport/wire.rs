//! A relay of UDP packets of the test's own: between a node on IPv4 and one on IPv6, which have no
//! other way to each other. It is late, loses packets by dice, or passes nothing.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

/// Longest packet; QUIC's are shorter.
const PACKET_MAX: usize = 2_048;

/// How often is looked which packets are due.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What becomes of packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How long each is under way.
    pub(crate) delay: Duration,
    /// Of a hundred, how many are lost.
    pub(crate) loss_percent: u64,
    /// The dice's seed.
    pub(crate) seed: u64,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    cut: bool,
    /// Whether the node on IPv4 is to have another address.
    moves: bool,
    /// The dice, after Steele, Lea and Flood.
    dice: u64,
    lost: u64,
    passed: u64,
}

/// The relay; it ends with this value.
#[derive(Debug)]
pub(crate) struct Wire {
    front: SocketAddr,
    // Guards what a test may change; never held across an await.
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A relay to a node on IPv6 loopback. Whoever sends to [`Wire::front`] reaches it.
    pub(crate) async fn to(target: SocketAddr, rules: Rules) -> Self {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let back = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))
            .await
            .expect("this test needs IPv6 on loopback");
        let address = front.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            target,
            cut: false,
            moves: false,
            dice: rules.seed,
            lost: 0,
            passed: 0,
        }));
        let task = tokio::spawn(carry(
            front,
            back,
            rules.delay,
            rules.loss_percent,
            state.clone(),
        ));
        Self {
            front: address,
            state,
            task,
        }
    }

    /// Where the node on IPv4 sends.
    pub(crate) fn front(&self) -> SocketAddr {
        self.front
    }

    /// From now on nothing passes, or everything that is not lost.
    pub(crate) fn cut(&self, cut: bool) {
        self.lock().cut = cut;
    }

    /// To the node on IPv6 the other one has another address from now on, and none at the old one.
    pub(crate) fn moves(&self) {
        self.lock().moves = true;
    }

    /// Another node has the place of the one on IPv6.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.lock().target = target;
    }

    /// Packets that passed and packets that were lost.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.passed, state.lost)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn passes(&mut self, loss_percent: u64) -> bool {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let passes = !self.cut && (z ^ (z >> 31)) % 100 >= loss_percent;
        if passes {
            self.passed += 1;
        } else {
            self.lost += 1;
        }
        passes
    }
}

async fn carry(
    front: UdpSocket,
    mut back: UdpSocket,
    delay: Duration,
    loss_percent: u64,
    state: Arc<Mutex<State>>,
) {
    let mut ticks = interval(LOOK_EVERY);
    let mut client = None;
    // All are under way for the same time, so the first is due first.
    let mut under_way: VecDeque<(Instant, bool, Vec<u8>)> = VecDeque::new();
    let (mut out, mut into) = ([0; PACKET_MAX], [0; PACKET_MAX]);
    loop {
        tokio::select! {
            Ok((count, from)) = front.recv_from(&mut out) => {
                client = Some(from);
                if state.lock().unwrap().passes(loss_percent) {
                    under_way.push_back((Instant::now() + delay, true, out[..count].to_vec()));
                }
            }
            Ok((count, from)) = back.recv_from(&mut into) => {
                let passes = {
                    let mut state = state.lock().unwrap();
                    from == state.target && state.passes(loss_percent)
                };
                if passes {
                    under_way.push_back((Instant::now() + delay, false, into[..count].to_vec()));
                }
            }
            _ = ticks.tick() => {}
        }
        if std::mem::take(&mut state.lock().unwrap().moves) {
            back = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        }
        while under_way
            .front()
            .is_some_and(|(due, ..)| *due <= Instant::now())
        {
            let (_, there, packet) = under_way.pop_front().unwrap();
            let target = state.lock().unwrap().target;
            // What does not get out is lost, as on any wire.
            match (there, client) {
                (true, _) => drop(back.send_to(&packet, target).await),
                (false, Some(client)) => drop(front.send_to(&packet, client).await),
                (false, None) => {}
            }
        }
    }
}
