//! The owner: only the right key loosens, lifts and makes tokens; an order works once, on one node.

use serde_json::{Value, json};
use tirami_agent_runtime::owner::{self, Passphrase};
use tirami_manifest::NodeId;
use tirami_manifest::owner::{Decision, OwnerOrder};

use crate::cli::{Home, PASSPHRASE};
use crate::http::{CHAT, chat};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, question, trm};
use crate::socket::ask_socket;

async fn obey(home: &Home, order: &str) -> Result<Value, Value> {
    ask_socket(home, "obey", json!({ "order": order })).await
}

fn refused(answer: &Result<Value, Value>, says: &str) {
    let failure = answer
        .as_ref()
        .expect_err("an order that is not to be obeyed");
    assert_eq!(failure["code"], "owner_required", "{failure}");
    assert!(
        failure["message"].as_str().unwrap().contains(says),
        "{failure}"
    );
}

fn sign(home: &Home, order: OwnerOrder) -> String {
    owner::sign(&home.data(), &Passphrase::new(PASSPHRASE.to_owned()), order).unwrap()
}

async fn node_of(home: &Home) -> NodeId {
    home.ask(&["status"]).await["node"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn an_order_is_obeyed_when_it_is_the_owners_for_this_node_and_new() {
    let (home, other) = (Home::buyer(), Home::buyer());
    let _up = Up::start(&home).await;
    home.init_owner().await;
    other.init_owner().await;
    home.ask(&["freeze"]).await;
    let (node, elsewhere) = (node_of(&home).await, node_of(&other).await);
    let unfreeze = |node, number| OwnerOrder {
        node,
        number,
        decision: Decision::Unfreeze,
    };
    let before = home.books().await;
    refused(
        &obey(&home, &sign(&other, unfreeze(node, 0))).await,
        "not the owner's",
    );
    refused(
        &obey(&home, &sign(&home, unfreeze(elsewhere, 0))).await,
        "another node",
    );
    refused(
        &obey(&home, &sign(&home, unfreeze(node, 1))).await,
        "obeyed before",
    );
    assert_eq!(home.books().await, before, "still frozen");
    let order = sign(&home, unfreeze(node, 0));
    assert_eq!(obey(&home, &order).await.unwrap()["frozen"], json!(null));
    // The same order again is answered, in case the answer was lost, and does nothing; once another
    // came between, it is refused.
    home.ask(&["freeze"]).await;
    let before = home.books().await;
    obey(&home, &order).await.unwrap();
    assert_eq!(home.books().await, before, "still frozen");
    let file = home.text("passphrase");
    home.ask(&["token", "create", "writer", "--passphrase-file", &file])
        .await;
    refused(&obey(&home, &order).await, "obeyed before");
    assert!(home.ask(&["balance"]).await["frozen"].is_string());
}

#[tokio::test]
async fn the_agents_token_alone_loosens_nothing_and_makes_nobody_owner() {
    let (home, other) = (Home::buyer(), Home::buyer());
    let _up = Up::start(&home).await;
    home.init_owner().await;
    other.init_owner().await;
    let before = home.books().await;
    let terms = &before["budget"]["terms"];
    for limit in ["per_request_trm", "hour_trm", "lifetime_trm"] {
        let mut looser = terms.clone();
        looser["limits"][limit] = "2000000".into();
        let answer = ask_socket(&home, "tighten_budget", json!({ "terms": looser })).await;
        refused(&answer, "only the owner can loosen");
    }
    let owner = other.ask(&["status"]).await["owner"].clone();
    let answer = ask_socket(&home, "set_owner", json!({ "owner": owner })).await;
    refused(&answer, "already has an owner");
    assert_eq!(home.books().await, before);
}

#[tokio::test]
async fn another_owners_key_file_opens_nothing() {
    let (home, other) = (Home::buyer(), Home::buyer());
    home.init_owner().await;
    other.init_owner().await;
    home.ask(&["freeze"]).await;
    let before = home.books().await;
    std::fs::copy(
        other.data().join("owner.key"),
        home.data().join("owner.key"),
    )
    .unwrap();
    let file = home.text("passphrase");
    for words in [
        vec!["unfreeze"],
        vec!["budget", "set", "--hour", "1000000"],
        vec!["token", "create", "writer"],
    ] {
        let words = [words, vec!["--passphrase-file", &file]].concat();
        home.refused(&words)
            .await
            .is(4, "owner_required", &["not the owner's"]);
    }
    assert_eq!(home.books().await, before);
}

#[tokio::test]
async fn a_node_has_one_owner_for_good() {
    let home = Home::buyer();
    home.init_owner().await;
    let before = home.books().await;
    let file = home.text("wrong");
    let words = ["owner", "init", "--passphrase-file", &file];
    home.refused(&words)
        .await
        .is(4, "owner_required", &["has an owner already"]);
    std::fs::rename(home.data().join("owner.key"), home.path("kept.key")).unwrap();
    home.refused(&words)
        .await
        .is(4, "owner_required", &["has an owner already"]);
    assert!(!home.data().join("owner.key").exists());
    assert_eq!(home.books().await, before);
}

#[tokio::test]
async fn loosening_needs_the_owner_and_tightening_does_not() {
    let pair = Pair::start().await;
    let mcp = Mcp::start(&pair.b).await;
    let (right, wrong) = (pair.b.text("passphrase"), pair.b.text("wrong"));
    pair.b.init_owner().await;
    let budget = pair
        .b
        .ask(&["budget", "set", "--per-request", "0.000001"])
        .await;
    assert_eq!(budget["terms"]["limits"]["per_request_trm"], "0.000001");
    mcp.refused("chat", question(3, "k"))
        .await
        .is("over_budget", &["per-request"]);
    let before = pair.b.books().await;
    for flag in ["--per-request", "--hour", "--lifetime"] {
        let words = ["budget", "set", flag, "2000000"];
        pair.b
            .refused_without_terminal(&words)
            .await
            .is(4, "owner_required", &["passphrase"]);
        let words = [&words[..], &["--passphrase-file", &wrong]].concat();
        pair.b
            .refused(&words)
            .await
            .is(4, "owner_required", &["passphrase"]);
    }
    // Tightening one limit does not smuggle in another that is looser.
    let words = ["budget", "set", "--hour", "1", "--lifetime", "2000000"];
    pair.b
        .refused_without_terminal(&words)
        .await
        .is(4, "owner_required", &["passphrase"]);
    assert_eq!(pair.b.books().await, before);
    let words = [
        "budget",
        "set",
        "--per-request",
        "10",
        "--passphrase-file",
        &right,
    ];
    let budget = pair.b.ask(&words).await;
    assert_eq!(budget["terms"]["limits"]["per_request_trm"], "10");
    mcp.ask("chat", question(3, "k")).await;
    pair.agree().await;
}

#[tokio::test]
async fn a_token_is_the_owners_to_give_and_to_take_back() {
    let pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let (right, wrong) = (pair.b.text("passphrase"), pair.b.text("wrong"));
    let create = |file| ["token", "create", "writer", "--passphrase-file", file].map(str::to_owned);
    pair.b
        .refused(&create(right.as_str()))
        .await
        .is(4, "owner_required", &["owner init"]);
    pair.b.init_owner().await;
    pair.b
        .refused(&create(wrong.as_str()))
        .await
        .is(4, "owner_required", &["passphrase"]);
    let words = ["token", "create", "writer"];
    pair.b
        .refused_without_terminal(&words)
        .await
        .is(4, "owner_required", &["passphrase"]);
    let made = pair.b.ask(&create(right.as_str())).await;
    let token = made["token"].as_str().unwrap().to_owned();
    let http = up.http(&pair.b).with_token(&token);
    // The new agent has an account of its own, and nothing in it.
    let (status, balance) = http.get("/v1/tirami/balance").await;
    assert_eq!(
        (status, trm(&balance["trm_balance"]).is_zero()),
        (200, true),
        "{balance}"
    );
    let (status, answer) = http.post(CHAT, &chat("hello", "k")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (402, &json!("insufficient_funds")),
        "{answer}"
    );
    let hint = answer["error"]["x_tirami"]["hint"].as_str().unwrap();
    assert!(hint.contains("wallet fund"), "{answer}");
    let revoke = ["token", "revoke", &token, "--passphrase-file", &wrong];
    pair.b
        .refused(&revoke)
        .await
        .is(4, "owner_required", &["passphrase"]);
    assert_eq!(http.get("/v1/tirami/balance").await.0, 200);
    pair.b
        .ask(&["token", "revoke", &token, "--passphrase-file", &right])
        .await;
    for path in ["/v1/tirami/balance", "/v1/models"] {
        assert_eq!(http.get(path).await.0, 401, "{path}");
    }
    assert_eq!(http.post(CHAT, &chat("hello", "k")).await.0, 401);
    assert_eq!(http.post("/v1/tirami/freeze", &json!({})).await.0, 401);
    assert!(pair.agree().await.is_zero());
}

/// A token is shown once; who has lost it can take it back all the same.
#[tokio::test]
async fn a_token_that_is_lost_is_found_in_the_list_and_taken_back_by_its_hash() {
    let pair = Pair::start().await;
    let (home, right) = (&pair.b, pair.b.text("passphrase"));
    home.init_owner().await;
    let up = Up::start(home).await;
    let made = home.ask_as_owner(&["token", "create", "writer"]).await;
    assert_eq!(made["is_new"], true, "a slip in the name makes an agent");
    let writer = up.http(home).with_token(made["token"].as_str().unwrap());
    let list = async || home.ask(&["token", "list"]).await["tokens"].clone();
    let listed = list().await;
    let agents: Vec<&Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["agent"])
        .collect();
    assert_eq!(agents, ["main", "writer"]);
    assert_eq!(
        [&listed[0]["is_own"], &listed[1]["is_own"]],
        [&json!(true), &json!(false)]
    );
    assert!(!listed.to_string().contains(made["token"].as_str().unwrap()));
    let token = ["--token", made["token"].as_str().unwrap()];
    home.refused(&[&token[..], &["token", "list"]].concat())
        .await
        .is(4, "unauthorized", &["main agent"]);
    let start = &listed[1]["token_hash"].as_str().unwrap()[..8];
    let words = ["token", "revoke", "--hash", start, "--passphrase-file"];
    home.refused(&[&words[..], &[&home.text("wrong")]].concat())
        .await
        .is(4, "owner_required", &["passphrase"]);
    for (hash, exit, code) in [("00000000", 5, "not_found"), ("0000", 2, "invalid_input")] {
        let words = [
            "token",
            "revoke",
            "--hash",
            hash,
            "--passphrase-file",
            &right,
        ];
        home.refused(&words).await.is(exit, code, &["hash", hash]);
    }
    assert_eq!(writer.get("/v1/tirami/balance").await.0, 200);
    home.refused(&["token", "revoke", start, "--passphrase-file", &right])
        .await
        .is(2, "invalid_input", &[start, "--hash"]);
    let gone = home.ask(&[&words[..], &[&right]].concat()).await;
    assert_eq!(gone["agent"], "writer", "{gone}");
    assert_eq!(writer.get("/v1/tirami/balance").await.0, 401);
    assert_eq!(list().await.as_array().unwrap().len(), 1);
    // Without it no command would be understood any more.
    let own = listed[0]["token_hash"].as_str().unwrap();
    let words = ["token", "revoke", "--hash", own, "--passphrase-file"];
    home.refused(&[&words[..], &[&right]].concat()).await.is(
        2,
        "invalid_input",
        &["own", "token create main", "agent.token"],
    );
    assert_eq!(list().await.as_array().unwrap().len(), 1);
}

/// Who has lost the token can get another: the passphrase is enough.
#[tokio::test]
async fn an_owner_whose_token_is_lost_makes_another() {
    let home = Home::buyer();
    home.init_owner().await;
    let file = home.data().join("agent.token");
    std::fs::remove_file(&file).unwrap();
    home.refused(&["balance"])
        .await
        .is(4, "unauthorized", &["token create main"]);
    let made = home.ask_as_owner(&["token", "create", "main"]).await;
    assert_eq!(made["is_new"], false, "{made}");
    std::fs::write(&file, made["token"].as_str().unwrap()).unwrap();
    home.ask(&["balance"]).await;
}
