//! SIGKILL at random moments of paid chats, on either side: whatever happens, the books agree, no
//! hold stays, nothing is paid twice, and nothing above its quote.
//!
//! `TIRAMI_KILL_ROUNDS` asks for more rounds, `TIRAMI_KILL_SEED` for the same moments again.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tirami_manifest::Amount;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::cli::Home;
use crate::http::{CHAT, Http, chat, text};
use crate::nodes::{Pair, Up, WITHIN, sum, trm, until, words};

/// Rounds for each side, unless the environment asks for more.
const ROUNDS: u64 = 6;

/// Pairs of nodes among which the rounds are divided.
const WORLDS: u64 = 3;

/// Words of the prompts.
const LENGTHS: [usize; 3] = [2, 60, 600];

/// Cheap, so that the welcome loan lasts for many rounds, and quick to expire.
const SELLER: &str = "model = \"echo\"\nprice_ppm = 100000\nhold_timeout_seconds = 2\n";
const BUYER: &str = "no_local = true\nhold_timeout_seconds = 2\n";

/// Random numbers after Steele, Lea and Flood: fast, and the same for the same seed.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// When the process dies.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// When this many pieces of text have come.
    Piece(usize),
    /// After this part of the time a whole chat takes, in thousandths.
    Part(u64),
}

impl Moment {
    /// One in three falls between the last piece and the end, where the money moves.
    fn throw(dice: &mut Dice, length: usize) -> Self {
        let pieces = u64::try_from(length).unwrap();
        match dice.throw(3) {
            0 => Self::Piece(usize::try_from(1 + dice.throw(pieces)).unwrap()),
            1 => Self::Piece(length),
            _ => Self::Part(dice.throw(1_300)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Buyer,
    Seller,
}

/// Both nodes, and what was bought so far.
struct World {
    pair: Pair,
    buyer: Up,
    dice: Dice,
    /// The receipt of each key.
    bought: BTreeMap<String, String>,
    /// How many of them had been paid when the process died.
    paid_before: usize,
    /// How long an undisturbed chat takes, by length.
    takes: BTreeMap<usize, Duration>,
}

/// Asks for a chat as a stream, tells how many pieces have come, and in the end how it failed.
fn ask(http: &Http, body: &Value) -> (JoinHandle<Option<Value>>, watch::Receiver<usize>) {
    let (http, body) = (http.clone(), body.clone());
    let (count, pieces) = watch::channel(0);
    let task = tokio::spawn(async move {
        let mut stream = http.stream(&body).await.ok()?;
        let mut error = None;
        while let Some(event) = stream.next().await {
            if text(&event).is_some() {
                count.send_modify(|count| *count += 1);
            }
            error = event.get("error").cloned().or(error);
        }
        error
    });
    (task, pieces)
}

/// Asserts that a purchase which failed can be asked for again.
fn retryable(error: &Value) {
    println!("  again, after: {}", error["message"]);
    assert_eq!(error["x_tirami"]["retryable"], true, "{error}");
}

impl World {
    async fn new(dice: Dice) -> Self {
        let pair = Pair::of(Home::new(SELLER), Home::new(BUYER)).await;
        pair.b.without_breakers().await;
        let buyer = Up::start(&pair.b).await;
        let (bought, takes) = (BTreeMap::new(), BTreeMap::new());
        let mut world = Self {
            pair,
            buyer,
            dice,
            bought,
            paid_before: 0,
            takes,
        };
        for length in LENGTHS {
            let key = format!("whole-{length}");
            let began = Instant::now();
            let body = chat(&words(length), &key);
            let (task, pieces) = ask(&world.buyer.http(&world.pair.b), &body);
            assert_eq!(timeout(WITHIN, task).await.unwrap().unwrap(), None);
            assert_eq!(*pieces.borrow(), length, "a piece for each word");
            world.takes.insert(length, began.elapsed());
            assert!(world.carry_on(key, body).await, "it was paid and answered");
        }
        world
    }

    /// One chat, one death, and the same chat again.
    async fn round(&mut self, side: Side, round: u64) {
        let length = LENGTHS[usize::try_from(self.dice.throw(3)).unwrap()];
        let moment = Moment::throw(&mut self.dice, length);
        println!("round {round}: {side:?} dies, {length} words, {moment:?}");
        let key = format!("round-{round}");
        let body = chat(&words(length), &key);
        let (task, mut pieces) = ask(&self.buyer.http(&self.pair.b), &body);
        match moment {
            // A chat that ended before has as many pieces as it will ever have.
            Moment::Piece(count) => {
                drop(
                    timeout(WITHIN, pieces.wait_for(|seen| *seen >= count))
                        .await
                        .unwrap(),
                );
            }
            Moment::Part(part) => {
                let takes = self.takes[&length].as_micros();
                let takes = u64::try_from(takes).unwrap().saturating_mul(part) / 1_000;
                let mut pieces = pieces.clone();
                let never = pieces.wait_for(|_| false);
                // Either the time is over or the chat is.
                drop(timeout(Duration::from_micros(takes), never).await);
            }
        }
        self.kill(side).await;
        if self.carry_on(key, body).await {
            self.paid_before += 1;
        }
        let interrupted = timeout(WITHIN, task).await.unwrap().unwrap();
        interrupted.iter().for_each(retryable);
        self.settled().await;
    }

    async fn kill(&mut self, side: Side) {
        match side {
            Side::Buyer => {
                kill_and_start(&mut self.buyer, &self.pair.b).await;
            }
            Side::Seller => {
                kill_and_start(&mut self.pair.up, &self.pair.a).await;
            }
        }
    }

    /// Asks under the same key until there is an answer. Says whether it was paid before.
    async fn carry_on(&mut self, key: String, body: Value) -> bool {
        let http = self.buyer.http(&self.pair.b);
        let answer = until("the purchase comes to its end", async || {
            let (status, answer) = http.post(CHAT, &body).await;
            if status == 200 {
                return Some(answer);
            }
            retryable(&answer["error"]);
            None
        })
        .await;
        let receipt = answer["x_tirami"]["receipt"].as_str().unwrap().to_owned();
        assert_eq!(self.bought.insert(key, receipt), None);
        answer["x_tirami"]["replayed"].as_bool().unwrap()
    }

    /// Waits until everything is delivered and every hold has ended; then the books agree.
    async fn settled(&self) {
        for home in [&self.pair.a, &self.pair.b] {
            until("nothing is on its way", async || {
                let status = home.ask(&["status"]).await;
                (status["outbox"] == 0 && status["open_holds"] == 0).then_some(())
            })
            .await;
        }
        self.pair.agree().await;
    }

    /// Every key has one receipt, the same on both sides. Jobs that broke off have claims by voucher beside
    /// them, the same on both sides too. Together they are what was paid.
    async fn check(&self) {
        // A seller whose buyer was killed learns so some seconds later, and claims what it was promised.
        until("every job is settled", async || {
            let status = self.pair.a.ask(&["status"]).await;
            (status["open_jobs"] == 0).then_some(())
        })
        .await;
        self.settled().await;
        let mut bought = self.pair.b.receipts("purchase").await;
        let mut sold = self.pair.a.receipts("earnings").await;
        bought.sort();
        sold.sort();
        assert_eq!(bought, sold, "each is booked once, on both sides");
        for id in self.bought.values() {
            assert!(bought.contains(id), "one for each key");
        }
        let mut amounts = Vec::new();
        for id in &bought {
            let receipt = self.pair.b.ask(&["receipt", id]).await;
            assert_eq!(receipt, self.pair.a.ask(&["receipt", id]).await);
            let amount = trm(&receipt["trm_amount"]);
            assert!(
                amount > Amount::ZERO && amount <= trm(&receipt["trm_quoted_max"]),
                "{receipt}"
            );
            let is_claim = !self.bought.values().any(|answered| answered == id);
            assert_eq!(receipt["finish"] == "cancelled", is_claim, "{receipt}");
            amounts.push(amount);
        }
        assert_eq!(self.pair.agree().await, sum(amounts));
        let held = &self.pair.a.ask(&["balance"]).await["members"][0]["trm_held"];
        assert_eq!(held, &json!("0"));
    }
}

async fn kill_and_start(up: &mut Up, home: &Home) {
    up.kill_now().await;
    *up = Up::start(home).await;
}

async fn dies(side: Side) {
    let seed = from_environment("TIRAMI_KILL_SEED")
        .unwrap_or_else(|| RandomState::new().hash_one("a seed"));
    let rounds = from_environment("TIRAMI_KILL_ROUNDS").unwrap_or(ROUNDS);
    println!("SEED={seed}: repeat with TIRAMI_KILL_SEED={seed} TIRAMI_KILL_ROUNDS={rounds}");
    // Worlds of their own, side by side: most of the time is spent noticing that a peer is gone.
    let worlds = (0..WORLDS.min(rounds)).map(|world| async move {
        let mut here = World::new(Dice(seed ^ world.rotate_right(8))).await;
        for round in (world..rounds).step_by(usize::try_from(WORLDS).unwrap()) {
            here.round(side, round).await;
        }
        here.check().await;
        here.paid_before
    });
    let paid_before: usize = join_all(worlds).await.into_iter().sum();
    println!("{paid_before} of {rounds} were paid when the process died, the others after");
}

#[tokio::test]
async fn killing_the_buyer_at_random_moments_loses_and_doubles_nothing() {
    dies(Side::Buyer).await;
}

#[tokio::test]
async fn killing_the_seller_at_random_moments_loses_and_doubles_nothing() {
    dies(Side::Seller).await;
}
