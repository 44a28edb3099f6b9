//! Limits: each refuses what is above it, says what is left and what would fit, and nothing moves.

use futures_util::future::join_all;
use serde_json::json;
use tirami_manifest::Amount;

use super::trade::fitting;
use crate::http::{CHAT, chat};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, question, trm, until, words};

/// Buys once, sets a limit to a millionth less than a second purchase of the same size would have to
/// set aside, and is refused that one at every door.
async fn refuses(limit: &str, name: &str) {
    let pair = Pair::start().await;
    let mcp = Mcp::start(&pair.b).await;
    let ask = json!({ "prompt": words(20), "max_tokens": 20 });
    let most = trm(&mcp.ask("quote", ask).await["trm_max"]);
    let first = mcp.ask("chat", question(20, "first")).await;
    let left = most.checked_sub(Amount::from_utrm(1).unwrap()).unwrap();
    // The limit for one request begins anew with each; the others remember the first.
    let used = if limit == "--per-request" {
        Amount::ZERO
    } else {
        trm(&first["trm_cost"])
    };
    let allowed = left.checked_add(used).unwrap();
    pair.b
        .ask(&["budget", "set", limit, &allowed.to_string()])
        .await;
    let spent = pair.agree().await;
    let before = pair.b.books().await;
    let refused = mcp.refused("chat", question(20, "second")).await;
    let (allowed, left) = (allowed.to_string(), left.to_string());
    let says = [
        name,
        &format!("{allowed} TRM"),
        &format!("{left} TRM"),
        "max_tokens",
        "would fit",
    ];
    let said = refused.is("over_budget", &says);
    assert_eq!(refused.0["next_tool"], "budget");
    let up = Up::start(&pair.b).await;
    let mut body = chat(&words(20), "http");
    body["max_tokens"] = 20.into();
    let (status, answer) = up.http(&pair.b).post(CHAT, &body).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (402, &json!("over_budget")),
        "{answer}"
    );
    let cli = pair
        .b
        .refused(&["chat", &words(20), "--max-tokens", "20"])
        .await;
    cli.is(3, "over_budget", &[name, &left]);
    assert_eq!(pair.b.books().await, before, "nothing moved");
    assert_eq!(pair.agree().await, spent);
    // What it says would fit, fits.
    let mut smaller = question(20, "smaller");
    smaller["max_tokens"] = fitting(&said).into();
    assert!(fitting(&said) < 20);
    mcp.ask("chat", smaller).await;
    pair.agree().await;
}

#[tokio::test]
async fn the_limit_per_request_holds() {
    refuses("--per-request", "per-request").await;
}

#[tokio::test]
async fn the_hourly_limit_holds() {
    refuses("--hour", "hourly").await;
}

#[tokio::test]
async fn the_lifetime_limit_holds() {
    refuses("--lifetime", "lifetime").await;
}

#[tokio::test]
async fn many_spenders_at_once_stay_within_one_limit() {
    let pair = Pair::start().await;
    pair.b.without_breakers().await;
    let up = Up::start(&pair.b).await;
    let http = up.http(&pair.b);
    pair.b.ask(&["budget", "set", "--lifetime", "0.2"]).await;
    let spend = async |n| {
        let mut body = chat(&words(10), &format!("k{n}"));
        body["max_tokens"] = 10.into();
        // Too many at once are told to come back, by this node or by the seller.
        until("a chat's turn", async || {
            let (status, answer) = http.post(CHAT, &body).await;
            assert!([200, 402, 429, 503].contains(&status), "{answer}");
            (![429, 503].contains(&status)).then_some(status)
        })
        .await
    };
    let answers = join_all((0..24).map(spend)).await;
    let count = |status| answers.iter().filter(|is| **is == status).count();
    assert_eq!(count(200) + count(402), answers.len(), "{answers:?}");
    assert!(count(200) > 0 && count(402) > 0, "{answers:?}");
    assert!(pair.agree().await <= "0.2".parse().unwrap());
}
