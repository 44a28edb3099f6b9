//! Told to stop amid 64 answers, a node ends soon and well, and nobody is owed more or less than was promised.

use futures_util::future::join_all;
use serde_json::Value;
use tirami_manifest::Amount;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::freeze::{READERS, SLOTS, read_to_the_end};
use crate::nodes::{Pair, Up, WITHIN, trm, until};

/// How many pieces each got, and what it was told last.
type Readers = Vec<JoinHandle<(u64, Value)>>;

/// What 64 readers have of the running buyer, once many of them read.
async fn amid(pair: &Pair, up: &Up) -> Readers {
    let http = up.http(&pair.b);
    let (begun, mut so_far) = watch::channel(0);
    let readers = (0..READERS)
        .map(|who| tokio::spawn(read_to_the_end(http.clone(), who, begun.clone())))
        .collect();
    let enough = so_far.wait_for(|begun| *begun >= SLOTS / 2);
    timeout(WITHIN, enough).await.unwrap().unwrap();
    readers
}

/// The least and the most that so many pieces cost. The prompt of 401 words and a role costs 0.402 TRM, a word
/// of the answer 0.002; what came and was not paid is the window at most, 64, and at most eight that were paid
/// were not read.
fn cost(pieces: u64) -> (u64, u64) {
    match pieces {
        0 => (0, 418),
        _ => (
            402 + 2 * pieces.saturating_sub(64),
            402 + 2 * pieces.saturating_add(8),
        ),
    }
}

/// Asserts that both agree, and that the readers' pieces were paid for.
async fn paid(pair: &Pair, readers: Readers) {
    let (mut lowest, mut highest, mut broke_off) = (0, 0, 0);
    for reader in join_all(readers).await {
        let (pieces, last) = reader.unwrap();
        let (low, high) = cost(pieces);
        (lowest, highest) = (lowest + low, highest + high);
        broke_off += usize::from(!last["choices"][0]["finish_reason"].is_string());
    }
    assert!(broke_off >= SLOTS / 2, "{broke_off} were on their way");
    let earned = pair.agree().await;
    let of = |thousandths: u64| Amount::from_utrm(thousandths * 1_000).unwrap();
    assert!(
        (of(lowest)..=of(highest)).contains(&earned),
        "{earned} for {lowest} to {highest} thousandths"
    );
}

/// Waits until what was promised is claimed, but for what never arrived.
async fn claimed(pair: &Pair) {
    for home in [&pair.a, &pair.b] {
        until("nothing is on its way", async || {
            let status = home.ask(&["status"]).await;
            let parts = ["outbox", "open_holds", "open_jobs"];
            parts.iter().all(|part| status[part] == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_seller_told_to_stop_amid_64_answers_ends_well_and_claims_what_was_promised() {
    let mut pair = Pair::start().await;
    pair.b.without_breakers().await;
    let mut up = Up::start(&pair.b).await;
    let readers = amid(&pair, &up).await;
    pair.up.stop().await;
    pair.up = Up::start(&pair.a).await;
    claimed(&pair).await;
    paid(&pair, readers).await;
    up.stop().await;
    let books = pair.b.ask(&["balance"]).await;
    assert_eq!(trm(&books["trm_held"]), Amount::ZERO, "{books}");
}

#[tokio::test]
async fn a_buyer_told_to_stop_amid_64_answers_ends_well_and_owes_what_it_promised() {
    let pair = Pair::start().await;
    pair.b.without_breakers().await;
    let mut up = Up::start(&pair.b).await;
    let readers = amid(&pair, &up).await;
    up.stop().await;
    let up = Up::start(&pair.b).await;
    claimed(&pair).await;
    paid(&pair, readers).await;
    // It sells and buys as before.
    let http = up.http(&pair.b);
    let (begun, _so_far) = watch::channel(0);
    let (pieces, last) = read_to_the_end(http, READERS, begun).await;
    assert!(pieces > 0, "{last}");
}
