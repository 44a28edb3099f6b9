//! The kill switch: anyone turns it on, it stays on, and only the owner turns it off.

use serde_json::json;

use crate::cli::Home;
use crate::http::{CHAT, chat};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, question, words};

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
async fn a_freeze_ends_a_chat_that_is_running_and_it_is_not_paid() {
    let pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let http = up.http(&pair.b);
    let mut stream = http.stream(&chat(&words(900), "long")).await.unwrap();
    stream.piece().await.expect("it has begun");
    let (status, _) = http
        .post("/v1/tirami/freeze", &json!({ "reason": "enough" }))
        .await;
    assert_eq!(status, 200);
    let mut last = json!(null);
    while let Some(event) = stream.next().await {
        last = event;
    }
    assert_eq!(last["error"]["code"], "frozen", "{last}");
    assert!(pair.agree().await.is_zero());
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
