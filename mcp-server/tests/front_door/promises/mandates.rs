//! Mandates in a tree: a child's spending counts against everybody above it, and who loses a mandate
//! takes those below along.

use serde_json::{Value, json};

use crate::cli::Home;
use crate::http::{CHAT, Http, chat};
use crate::nodes::{Pair, Up, trm};

/// A door with the token of an agent that has a mandate already.
async fn door(home: &Home, up: &Up, agent: &str) -> (Http, String) {
    let made = home.ask_as_owner(&["token", "create", agent]).await;
    let token = made["token"].as_str().unwrap().to_owned();
    (up.http(home).with_token(&token), token)
}

async fn buy(http: &Http, key: &str) -> (u16, Value) {
    let mut body = chat("one two three", key);
    body["max_tokens"] = 5.into();
    http.post(CHAT, &body).await
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (
        answer.0,
        answer.1["error"]["code"].as_str().unwrap_or_default(),
    )
}

#[tokio::test]
async fn a_child_spends_its_parents_money_within_both_mandates() {
    let pair = Pair::start().await;
    pair.b.init_owner().await;
    let up = Up::start(&pair.b).await;
    let b = &pair.b;
    let granted = b.ask(&["mandate", "grant", "writer", "--hour", "5"]).await;
    assert_eq!(
        (&granted["parent"], &granted["payer"], &granted["valid"]),
        (&json!("main"), &json!("main"), &json!(true))
    );
    let (writer, token) = door(b, &up, "writer").await;
    let (status, answer) = buy(&writer, "a").await;
    assert_eq!(status, 200, "{answer}");
    let cost = trm(&answer["x_tirami"]["trm_cost"]);
    for agent in ["main", "writer"] {
        let budget = b.ask(&["budget", "show", "--agent", agent]).await;
        assert_eq!(
            trm(&budget["used"]["trm_lifetime"]),
            cost,
            "{agent}: {budget:#}"
        );
    }
    // The writer sees what it spent, and what it can, although another's account paid.
    let balance = b.ask(&["--token", &token, "balance"]).await;
    let above = b.ask(&["balance"]).await;
    assert_eq!(trm(&balance["trm_spent"]), cost, "{balance}");
    assert_eq!(balance["trm_balance"], above["trm_balance"], "{balance}");
    let seen = b.ask(&["--token", &token, "wallet", "history"]).await;
    let entries = seen["entries"].as_array().unwrap();
    assert!(
        entries.iter().any(|entry| entry["agent"] == "writer"),
        "{seen:#}"
    );
    assert!(
        entries
            .iter()
            .all(|entry| entry["reason"] != "welcome_loan"),
        "{seen:#}"
    );
    // It has no say over the one above, and hears nothing of it.
    for words in [
        ["budget", "show", "--agent", "main"].as_slice(),
        &["mandate", "revoke", "main", "--yes"],
        &["budget", "tighten", "--agent", "main", "--hour", "1"],
        &["wallet", "statement", "--agent", "main"],
    ] {
        let words = [&["--token", token.as_str()], words].concat();
        b.refused(&words)
            .await
            .is(4, "unauthorized", &["somebody else"]);
    }
    // The parent's limit stops the child.
    b.ask(&["budget", "tighten", "--lifetime", &cost.to_string()])
        .await;
    let before = b.books().await;
    let answer = buy(&writer, "b").await;
    assert_eq!(code(&answer), (402, "over_budget"), "{}", answer.1);
    assert_eq!(b.books().await, before, "nothing moved");
    assert_eq!(pair.agree().await, cost);
}

#[tokio::test]
async fn revoking_cascades_and_only_the_owner_or_the_parent_grants_anew() {
    let pair = Pair::start().await;
    pair.b.init_owner().await;
    let up = Up::start(&pair.b).await;
    let b = &pair.b;
    b.ask(&["mandate", "grant", "writer"]).await;
    let (writer, token) = door(b, &up, "writer").await;
    b.ask(&["--token", &token, "mandate", "grant", "helper"])
        .await;
    let (helper, _) = door(b, &up, "helper").await;
    assert_eq!(buy(&helper, "a").await.0, 200);
    // Nobody can be asked here, and a revocation is for good.
    b.refused(&["mandate", "revoke", "writer"]).await.is(
        2,
        "invalid_input",
        &["writer, helper", "--yes"],
    );
    b.refused(&["--no-input", "mandate", "revoke", "writer"])
        .await
        .is(2, "invalid_input", &["--yes"]);
    assert_eq!(buy(&helper, "b").await.0, 200);
    let gone = b.ask(&["mandate", "revoke", "writer", "--yes"]).await;
    assert_eq!(gone["agents"], json!(["writer", "helper"]));
    let before = b.books().await;
    for http in [&writer, &helper] {
        let answer = buy(http, "c").await;
        assert_eq!(code(&answer), (402, "not_allowed"), "{}", answer.1);
        let hint = answer.1["error"]["x_tirami"]["hint"]
            .as_str()
            .unwrap_or_default();
        assert!(hint.contains("mandate grant NAME --owner"), "{}", answer.1);
    }
    b.refused(&["--token", &token, "mandate", "grant", "other"])
        .await
        .is(2, "invalid_input", &["revoked"]);
    assert_eq!(b.books().await, before, "nothing moved");
    // A new mandate for the writer is none for the helper.
    b.ask_as_owner(&["mandate", "grant", "writer", "--owner", "--parent", "main"])
        .await;
    assert_eq!(buy(&writer, "d").await.0, 200);
    assert_eq!(code(&buy(&helper, "d").await), (402, "not_allowed"));
    let mandates = b.ask(&["mandate", "list"]).await;
    let valid: Vec<_> = mandates["mandates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["agent"].as_str().unwrap(),
                one["valid"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(valid, [("main", true), ("writer", true), ("helper", false)]);
    let shown = b.ask(&["mandate", "show", "writer"]).await;
    assert!(shown["epoch"].as_u64().unwrap() > 1, "{shown:#}");
    pair.agree().await;
}
