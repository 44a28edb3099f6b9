//! A disk that is full while money is committed.
//!
//! The node runs under a limit on the size of its files, set to what its wallet has: every write
//! that would make it grow fails, for root as well. It is a real process and a real commit.

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tirami_manifest::Amount;

use crate::cli::{EXE, Home};
use crate::http::{CHAT, Http, chat};
use crate::nodes::{LOAN, Pair, Up, sum, trm, words};

/// Purchases until the wallet has to grow; far more than it takes.
pub(crate) const PURCHASES_MAX: usize = 300;

/// Starts the node of a home so that a write beyond the limit on its files' size fails; the signal
/// that comes with it would kill.
pub(crate) async fn start_limited(home: &Home) -> Up {
    Up::start_by(home, &["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh", EXE]).await
}

/// Leaves the node no room: the last eighth of its wallet's file counts as beyond the end of the
/// disk, and so does all that would make it grow.
pub(crate) fn fill_the_disk(home: &Home, up: &Up) {
    let file = home.data().join("wallet.redb");
    let length = std::fs::metadata(file).unwrap().len();
    let pid = Pid::from_raw(i32::try_from(up.pid()).unwrap()).unwrap();
    let most = Some(length / 8 * 7);
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    prlimit(Some(pid), Resource::Fsize, limit).unwrap();
}

/// Buys until something fails. Answers what was paid for, and how the last one failed.
async fn buy_until_it_fails(http: &Http) -> (Vec<Value>, String, u16, Value) {
    let mut bought = Vec::new();
    for n in 0..PURCHASES_MAX {
        let key = format!("k{n}");
        let (status, answer) = http.post(CHAT, &chat(&words(200), &key)).await;
        if status != 200 {
            return (bought, key, status, answer);
        }
        bought.push(answer["x_tirami"].clone());
    }
    panic!("the wallet did not have to grow");
}

fn paid(bought: &[Value]) -> Amount {
    sum(bought.iter().map(|answer| trm(&answer["trm_cost"])))
}

#[tokio::test]
async fn a_full_disk_under_the_buyer_loses_nothing_and_pays_nothing_twice() {
    let pair = Pair::start().await;
    pair.b.without_breakers().await;
    Up::start(&pair.b).await.kill().await;
    let up = start_limited(&pair.b).await;
    let http = up.http(&pair.b);
    let (status, first) = http.post(CHAT, &chat(&words(200), "first")).await;
    assert_eq!(status, 200, "{first}");
    fill_the_disk(&pair.b, &up);
    let (mut bought, key, status, answer) = buy_until_it_fails(&http).await;
    bought.push(first["x_tirami"].clone());
    assert_eq!(
        (status, &answer["error"]["code"]),
        (500, &json!("store")),
        "{answer}"
    );
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("wallet"),
        "it says what could not be written: {message}"
    );
    // From now on it writes nothing, and says so, at every door.
    pair.b
        .refused(&["chat", "hello"])
        .await
        .is(8, "store", &["wallet", "disk is full"]);
    pair.b
        .refused(&["freeze"])
        .await
        .is(8, "store", &["wallet", "disk is full"]);
    up.kill().await;
    // With room again, it stands where it stood, and the purchase that failed can be made.
    assert_eq!(
        trm(&pair.b.ask(&["balance"]).await["trm_spent"]),
        paid(&bought)
    );
    pair.b.audit().await;
    let up = Up::start(&pair.b).await;
    let (status, answer) = up.http(&pair.b).post(CHAT, &chat(&words(200), &key)).await;
    assert_eq!(status, 200, "{answer}");
    bought.push(answer["x_tirami"].clone());
    assert_eq!(pair.agree().await, paid(&bought));
}

#[tokio::test]
async fn a_full_disk_under_the_seller_loses_nothing_and_is_paid_in_the_end() {
    let pair = Pair::start().await;
    pair.b.without_breakers().await;
    let Pair { a, b, up } = pair;
    up.kill().await;
    let up_a = start_limited(&a).await;
    let up_b = Up::start(&b).await;
    let http = up_b.http(&b);
    // A sale that cannot be booked is paid all the same, so what counts is the seller's word.
    let mut bought = Vec::new();
    for n in 0..PURCHASES_MAX {
        if n == 3 {
            fill_the_disk(&a, &up_a);
        }
        let (status, answer) = http.post(CHAT, &chat(&words(200), &format!("k{n}"))).await;
        if status != 200 {
            assert_eq!(status, 502, "{answer}");
            break;
        }
        bought.push(answer["x_tirami"].clone());
    }
    assert!(
        (3..PURCHASES_MAX).contains(&bought.len()),
        "it failed after {} purchases",
        bought.len()
    );
    a.refused(&["freeze"])
        .await
        .is(8, "store", &["wallet", "disk is full"]);
    assert!(paid(&bought) < Amount::from_trm(LOAN));
    up_a.kill().await;
    a.audit().await;
    let up = Up::start(&a).await;
    assert_eq!(Pair { a, b, up }.agree().await, paid(&bought));
}
