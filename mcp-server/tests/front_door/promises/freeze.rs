//! The kill switch: anyone turns it on, it stays on, and only the owner turns it off.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tirami_manifest::Amount;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cli::Home;
use crate::http::{CHAT, Http, chat, text};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, WITHIN, question, until, words};

/// Asserts that every door refuses to spend, and that it changes nothing.
async fn stopped(home: &Home, mcp: &Mcp, up: &Up, reason: &str) {
    let before = home.books().await;
    let refused = mcp.refused("chat", question(3, "after")).await;
    refused.is("frozen", &[reason, "tirami-agent unfreeze"]);
    let (status, answer) = up.http(home).post(CHAT, &chat("hello", "http")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (403, &json!("frozen")),
        "{answer}"
    );
    home.refused(&["chat", "hello"])
        .await
        .is(3, "frozen", &[reason]);
    let quote = mcp
        .ask("quote", json!({ "prompt": "hello", "max_tokens": 3 }))
        .await;
    assert_eq!(quote["within_budget"], false, "{quote}");
    assert_eq!(home.books().await, before, "nothing moved");
}

#[tokio::test]
async fn a_freeze_over_mcp_stops_every_door_and_survives_a_crash() {
    let pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let mcp = Mcp::start(&pair.b).await;
    mcp.ask("chat", question(3, "before")).await;
    let frozen = mcp.ask("freeze", json!({ "reason": "drill 7" })).await;
    assert_eq!(
        (&frozen["frozen"], &frozen["reason"]),
        (&json!(true), &json!("drill 7"))
    );
    stopped(&pair.b, &mcp, &up, "drill 7").await;
    up.kill().await;
    mcp.kill().await;
    let up = Up::start(&pair.b).await;
    let mcp = Mcp::start(&pair.b).await;
    stopped(&pair.b, &mcp, &up, "drill 7").await;
    assert_eq!(mcp.ask("balance", json!({})).await["frozen"], "drill 7");
    pair.agree().await;
}

#[tokio::test]
async fn a_freeze_ends_a_chat_that_is_running_and_nothing_more_is_promised() {
    let pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let http = up.http(&pair.b);
    let mut stream = http.stream(&chat(&words(900), "long")).await.unwrap();
    stream.piece().await.expect("it has begun");
    let (status, _) = http
        .post("/v1/tirami/freeze", &json!({ "reason": "enough" }))
        .await;
    assert_eq!(status, 200);
    let (mut last, mut pieces) = (json!(null), 1_u64);
    while let Some(event) = stream.next().await {
        last = event;
        pieces += 1;
    }
    assert_eq!(last["error"]["code"], "frozen", "{last}");
    // The prompt of 900 words and a role costs 0.901 TRM, and was paid for before it was read; a word of the
    // answer costs 0.002, of those that were there by then.
    until("it is claimed", async || {
        let books = pair.b.ask(&["balance"]).await;
        (books["trm_unclaimed"] == "0").then_some(())
    })
    .await;
    let promised = pair.agree().await;
    let of = |thousandths: u64| Amount::from_utrm(thousandths * 1_000).unwrap();
    assert!(promised >= of(901), "{promised}");
    assert!(
        promised <= of(901 + 2 * (pieces + 8)),
        "{promised} for {pieces} pieces"
    );
}

#[tokio::test]
async fn only_the_owners_passphrase_lifts_a_freeze() {
    let pair = Pair::start().await;
    let mcp = Mcp::start(&pair.b).await;
    let up = Up::start(&pair.b).await;
    let (right, wrong) = (pair.b.text("passphrase"), pair.b.text("wrong"));
    pair.b.ask(&["freeze", "--reason", "by hand"]).await;
    // Without an owner nobody can.
    let words = ["unfreeze", "--passphrase-file", &right];
    pair.b
        .refused(&words)
        .await
        .is(4, "owner_required", &["owner init"]);
    pair.b.init_owner().await;
    // The agent has no tool and no passphrase; a guess does not help.
    let tools = mcp.tools().await;
    assert!(
        !tools
            .iter()
            .any(|tool| tool.contains("unfreeze") || tool.contains("owner"))
    );
    mcp.refused("unfreeze", json!({}))
        .await
        .is("not_found", &["there is no tool"]);
    let alone = pair.b.refused_without_terminal(&["unfreeze"]).await;
    alone.is(4, "owner_required", &["passphrase", "--passphrase-file"]);
    let words = ["unfreeze", "--passphrase-file", &wrong];
    pair.b
        .refused(&words)
        .await
        .is(4, "owner_required", &["passphrase"]);
    stopped(&pair.b, &mcp, &up, "by hand").await;
    pair.b.ask(&["unfreeze", "--passphrase-file", &right]).await;
    mcp.ask("chat", question(3, "after")).await;
    assert!(!pair.agree().await.is_zero());
}

/// As many as the HTTP door works for at once.
pub(super) const READERS: usize = 64;
const SPENDERS: usize = READERS;

/// Buys one answer after the other until spending is frozen: the receipts.
async fn spend(http: Http, who: usize, bought: watch::Sender<usize>) -> Vec<String> {
    let mut receipts = Vec::new();
    loop {
        let body = chat("a b c", &format!("{who}/{}", receipts.len()));
        let (status, answer) = http.post(CHAT, &body).await;
        if status == 200 {
            receipts.push(answer["x_tirami"]["receipt"].as_str().unwrap().to_owned());
            bought.send_modify(|bought| *bought += 1);
        } else if answer["error"]["code"] == "frozen" {
            return receipts;
        } else {
            // A provider that is busy may take too long to make an offer.
            assert_eq!(answer["error"]["x_tirami"]["retryable"], true, "{answer}");
        }
    }
}

/// Every entry in the books after that number, the newest first.
async fn after(home: &Home, last: u64) -> Vec<Value> {
    let mut found = Vec::new();
    let mut words: Vec<String> = ["history", "--limit", "100"].map(str::to_owned).into();
    loop {
        let page = home.ask(&words).await;
        let entries = page["entries"].as_array().unwrap();
        let new = |entry: &&Value| entry["seq"].as_u64().unwrap() > last;
        found.extend(entries.iter().filter(new).cloned());
        match page["next_before"].as_u64() {
            Some(before) if entries.iter().all(|entry| new(&entry)) => {
                words.truncate(3);
                words.extend(["--before".to_owned(), before.to_string()]);
            }
            _ => return found,
        }
    }
}

/// Asserts that since the freeze holds were given back and receipts acknowledged, and nothing else.
async fn nothing_moved_after(home: &Home, last: u64) {
    for entry in after(home, last).await {
        let given_back = entry["kind"] == "void" || entry["kind"] == "expire";
        assert!(
            given_back || entry["reason"] == "acknowledged",
            "after entry {last}: {entry}"
        );
    }
}

#[tokio::test]
async fn nothing_is_held_or_paid_after_a_freeze_is_acknowledged_amid_64_spenders() {
    let pair = Pair::start().await;
    pair.b.without_breakers().await;
    let up = Up::start(&pair.b).await;
    let http = up.http(&pair.b);
    let (bought, mut so_far) = watch::channel(0);
    let spenders: Vec<_> = (0..SPENDERS)
        .map(|who| tokio::spawn(spend(http.clone(), who, bought.clone())))
        .collect();
    let enough = so_far.wait_for(|bought| *bought >= 2 * SPENDERS);
    timeout(WITHIN, enough).await.unwrap().unwrap();
    // The door has room for it although every place is taken.
    let body = json!({ "reason": "amid" });
    let (status, frozen) = http.post("/v1/tirami/freeze", &body).await;
    assert_eq!(status, 200, "{frozen}");
    let last = frozen["last_entry"].as_u64().unwrap();
    let mut answered = Vec::new();
    for spender in join_all(spenders).await {
        answered.extend(spender.unwrap());
    }
    nothing_moved_after(&pair.b, last).await;
    // What was answered is what was paid.
    let mut booked = pair.b.receipts("purchase").await;
    booked.sort();
    answered.sort();
    assert_eq!(booked, answered);
    up.kill().await;
    let up = Up::start(&pair.b).await;
    let (status, refusal) = up.http(&pair.b).post(CHAT, &chat("a b c", "late")).await;
    assert_eq!(
        (status, &refusal["error"]["code"]),
        (403, &json!("frozen")),
        "{refusal}"
    );
    nothing_moved_after(&pair.b, last).await;
    assert!(!pair.agree().await.is_zero());
}

/// Begins a long answer and reads it to its end: how many pieces came, and what came last.
pub(super) async fn read_to_the_end(
    http: Http,
    who: usize,
    begun: watch::Sender<usize>,
) -> (u64, Value) {
    // Each has words of its own, so that no two requests are the same.
    let prompt = format!("{who} {}", words(400));
    let (mut pieces, mut last) = (0, Value::Null);
    // A node that ends closes the door on who waits before it.
    let Ok(mut stream) = http.stream(&chat(&prompt, &who.to_string())).await else {
        return (pieces, last);
    };
    while let Some(event) = stream.next().await {
        if text(&event).is_some() {
            pieces += 1;
            if pieces == 1 {
                begun.send_modify(|begun| *begun += 1);
            }
        }
        last = event;
    }
    (pieces, last)
}

/// Places for jobs of a seller that nobody told otherwise: so many stream at once, and others wait in line.
pub(super) const SLOTS: usize = 16;

#[tokio::test]
async fn nothing_is_vouched_for_or_signed_after_a_freeze_amid_64_answers_on_their_way() {
    let pair = Pair::start().await;
    pair.b.without_breakers().await;
    let up = Up::start(&pair.b).await;
    let http = up.http(&pair.b);
    let (begun, mut so_far) = watch::channel(0);
    let answers: Vec<_> = (0..SPENDERS)
        .map(|who| tokio::spawn(read_to_the_end(http.clone(), who, begun.clone())))
        .collect();
    let enough = so_far.wait_for(|begun| *begun >= SLOTS / 2);
    timeout(WITHIN, enough).await.unwrap().unwrap();
    let body = json!({ "reason": "in the middle" });
    let (status, frozen) = http.post("/v1/tirami/freeze", &body).await;
    assert_eq!(status, 200, "{frozen}");
    let last = frozen["last_entry"].as_u64().unwrap();
    let (mut ended, mut most) = (0, 0);
    for answer in join_all(answers).await {
        let (pieces, event) = answer.unwrap();
        if event["error"]["code"] == "frozen" {
            ended += 1;
        }
        // The prompt of 401 words and a role costs 0.402 TRM, a word of the answer 0.002; at most eight came
        // that were not read.
        most += if pieces > 0 {
            402 + 2 * (pieces + 8)
        } else {
            402
        };
    }
    assert!(ended >= SLOTS / 2, "{ended} were on their way");
    // What was vouched for before is claimed; nothing else moves.
    until("it is claimed", async || {
        let books = pair.b.ask(&["balance"]).await;
        (books["trm_unclaimed"] == "0").then_some(())
    })
    .await;
    let of_after = after(&pair.b, last).await;
    assert!(!of_after.is_empty());
    for entry in of_after {
        let made = ["hold", "vouch", "post"]
            .iter()
            .any(|made| entry["kind"] == *made);
        assert!(!made, "after entry {last}: {entry}");
    }
    let claimed = pair.agree().await;
    assert!(!claimed.is_zero());
    assert!(
        claimed <= Amount::from_utrm(most * 1_000).unwrap(),
        "{claimed}"
    );
}
