//! Above the threshold the owner decides, about exactly what was asked.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::http::{CHAT, Http, chat};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, trm};

async fn buy(http: &Http, prompt: &str, key: &str) -> (u16, Value) {
    let mut body = chat(prompt, key);
    body["max_tokens"] = 5.into();
    http.post(CHAT, &body).await
}

/// Asserts that a request waits, and answers the id of what is waited for.
#[track_caller]
fn waits((status, answer): &(u16, Value)) -> String {
    let error = &answer["error"];
    assert_eq!(
        (*status, &error["code"]),
        (402, &json!("approval_required")),
        "{answer}"
    );
    let id = error["x_tirami"]["approval"].as_str().unwrap();
    assert!(error["message"].as_str().unwrap().contains(id), "{answer}");
    id.to_owned()
}

#[tokio::test]
async fn what_the_owner_approves_goes_through_once_and_nothing_else() {
    let pair = Pair::start().await;
    pair.b.init_owner().await;
    let up = Up::start(&pair.b).await;
    let (b, http) = (&pair.b, up.http(&pair.b));
    b.ask(&["budget", "tighten", "--approval-above", "0"]).await;
    let before = b.books().await;
    let id = waits(&buy(&http, "one two", "k").await);
    assert_eq!(waits(&buy(&http, "one two", "k").await), id, "asked once");
    let listed = b.ask(&["approvals"]).await;
    let [one] = listed["approvals"].as_array().unwrap().as_slice() else {
        panic!("{listed:#}");
    };
    assert_eq!(
        (
            &one["approval"],
            &one["agent"],
            &one["idempotency_key"],
            &one["payee"]
        ),
        (
            &json!(id),
            &json!("main"),
            &json!("k"),
            &pair.up.ready["node"]
        )
    );
    // Nobody but the owner says yes.
    b.refused_without_terminal(&["approve", &id])
        .await
        .is(4, "owner_required", &["passphrase"]);
    let wrong = b.text("wrong");
    b.refused(&["approve", &id, "--passphrase-file", &wrong])
        .await
        .is(4, "owner_required", &["passphrase"]);
    waits(&buy(&http, "one two", "k").await);
    assert_eq!(b.books().await, before, "nothing moved");
    let approved = b.ask_as_owner(&["approve", &id]).await;
    assert_eq!(approved["state"], "approved", "{approved}");
    // Another request under the key, and the same under another key, are not what was approved.
    let (status, answer) = buy(&http, "one three", "k").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("idempotency_key_reused"))
    );
    assert_ne!(waits(&buy(&http, "one two", "other").await), id);
    let (status, answer) = buy(&http, "one two", "k").await;
    assert_eq!(status, 200, "{answer}");
    let (_, again) = buy(&http, "one two", "k").await;
    assert_eq!(again["x_tirami"]["replayed"], true, "{again}");
    let cost = trm(&answer["x_tirami"]["trm_cost"]);
    assert_eq!(pair.agree().await, cost, "paid once");
}

#[tokio::test]
async fn what_was_denied_stays_denied() {
    let pair = Pair::start().await;
    pair.b.init_owner().await;
    let up = Up::start(&pair.b).await;
    let (b, http) = (&pair.b, up.http(&pair.b));
    b.ask(&["budget", "tighten", "--approval-above", "0"]).await;
    let id = waits(&buy(&http, "one two", "k").await);
    // No terminal and no passphrase: saying no takes neither.
    assert_eq!(b.ask(&["deny", &id]).await["state"], "denied");
    let before = b.books().await;
    let denied = async || {
        let (status, answer) = buy(&http, "one two", "k").await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (403, &json!("denied")),
            "{answer}"
        );
    };
    denied().await;
    let file = b.text("passphrase");
    b.refused(&["approve", &id, "--passphrase-file", &file])
        .await
        .is(3, "denied", &[&id]);
    denied().await;
    assert_eq!(
        b.books().await["balance"],
        before["balance"],
        "nothing moved"
    );
    let mcp = Mcp::start(b).await;
    let input = json!({ "prompt": "three", "max_tokens": 5, "idempotency_key": "m" });
    let refused = mcp.refused("chat", input.clone()).await;
    refused.is("approval_required", &["tirami-agent approve"]);
    let hint = refused.0["hint"].as_str().unwrap();
    assert_eq!(hint.matches("idempotency_key").count(), 1, "{hint}");
    let id = refused.0["approval"].as_str().unwrap().to_owned();
    b.ask_as_owner(&["approve", &id]).await;
    // A second thought counts until it is used.
    b.ask(&["deny", &id]).await;
    mcp.refused("chat", input).await.is("denied", &[&id]);
    let states = b.ask(&["approvals", "--all"]).await;
    let states = states["approvals"].as_array().unwrap();
    assert!(
        states.iter().all(|one| one["state"] == "denied"),
        "{states:?}"
    );
    assert!(pair.agree().await.is_zero());
    // Whoever named no key is told the one that was given, since asking again takes it.
    let unnamed = b.run(&["chat", "two", "--max-tokens", "5"]).await;
    let listed = b.ask(&["approvals"]).await;
    let given = listed["approvals"].as_array().unwrap().iter();
    let given: Vec<&str> = given
        .filter_map(|one| one["idempotency_key"].as_str())
        .filter(|key| key.starts_with("auto-"))
        .collect();
    assert!(
        given.len() == 1 && unnamed.stdout.contains(given[0]),
        "{unnamed:?}"
    );
}

#[tokio::test]
async fn an_approval_is_asked_for_a_whole_answer_and_not_for_what_passes_without_one() {
    let pair = Pair::start().await;
    pair.b.init_owner().await;
    let up = Up::start(&pair.b).await;
    let (b, http) = (&pair.b, up.http(&pair.b));
    b.ask(&["budget", "tighten", "--approval-above", "0"]).await;
    let mut body = chat("one two three four five", "whole");
    body.as_object_mut().unwrap().remove("max_tokens");
    let id = waits(&http.post(CHAT, &body).await);
    b.ask_as_owner(&["approve", &id]).await;
    let (status, answer) = http.post(CHAT, &body).await;
    assert_eq!(status, 200, "{answer}");
    let said = &answer["choices"][0];
    assert_eq!(
        (&said["message"]["content"], &said["finish_reason"]),
        (&json!("one two three four five"), &json!("stop")),
        "{answer}"
    );
}

#[tokio::test]
async fn an_agent_that_asks_without_end_pushes_out_nobody_elses_request() {
    let pair = Pair::start().await;
    let b = &pair.b;
    b.init_owner().await;
    let up = Up::start(b).await;
    b.ask(&["budget", "tighten", "--approval-above", "0"]).await;
    b.ask(&["mandate", "grant", "busy"]).await;
    let made = b.ask_as_owner(&["token", "create", "busy"]).await;
    let busy = up.http(b).with_token(made["token"].as_str().unwrap());
    let id = waits(&buy(&up.http(b), "one two", "k").await);
    let keys: Vec<String> = (0..260).map(|n| n.to_string()).collect();
    for some in keys.chunks(20) {
        let asked = some.iter().map(|key| buy(&busy, "three four", key));
        for answer in join_all(asked).await {
            waits(&answer);
        }
    }
    let listed = b.ask(&["approvals"]).await;
    let all = listed["approvals"].as_array().unwrap();
    assert_eq!(all.len(), 256);
    assert!(all.iter().any(|one| one["approval"] == id.as_str()));
    b.ask_as_owner(&["approve", &id]).await;
    let (status, answer) = buy(&up.http(b), "one two", "k").await;
    assert_eq!(status, 200, "{answer}");
    pair.agree().await;
}
