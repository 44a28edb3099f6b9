//! An agent with a shell and every token, but without the passphrase.

use serde_json::{Value, json};
use tirami_agent_runtime::owner::{self, Passphrase};
use tirami_manifest::mandate::{Pot, Terms};
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::{Amount, ApprovalId};

use crate::cli::{Home, PASSPHRASE};
use crate::http::{CHAT, chat};
use crate::nodes::{Pair, Up};
use crate::socket::ask_socket;

/// Everything that only the owner decides, as orders.
fn decisions(approval: ApprovalId) -> Vec<Decision> {
    let main = owner::agent_id(owner::MAIN_AGENT);
    let amount = Amount::from_trm(1);
    vec![
        Decision::SetTerms {
            agent: main,
            terms: Box::new(Terms::standard()),
        },
        Decision::Unfreeze,
        Decision::CreateToken {
            agent_name: "mine".into(),
            token_hash: [7; 32],
        },
        Decision::Grant {
            agent_name: "mine".into(),
            parent: None,
            terms: Box::new(Terms::standard()),
        },
        Decision::Approve { approval, amount },
        Decision::Fund {
            from: main,
            from_pot: Pot::Borrowed,
            to: main,
            to_pot: Pot::Earned,
            amount,
        },
    ]
}

fn sign(home: &Home, order: OwnerOrder) -> String {
    owner::sign(&home.data(), &Passphrase::new(PASSPHRASE.to_owned()), order).unwrap()
}

async fn number(home: &Home) -> u64 {
    home.ask(&["status"]).await["next_order"].as_u64().unwrap()
}

#[track_caller]
fn owner_required(answer: &Result<Value, Value>, what: &str) {
    let failure = answer.as_ref().expect_err(what);
    assert_eq!(failure["code"], "owner_required", "{what}: {failure}");
}

/// Every command that only the owner's passphrase opens, without it.
async fn by_command(b: &Home, approval: &str) {
    let copy = b.text("copy.redb");
    b.ask(&["wallet", "backup", &copy]).await;
    for words in [
        ["budget", "loosen", "--hour", "6"].as_slice(),
        &["budget", "set", "--minute", "none", "--hour", "6"],
        &["unfreeze"],
        &["wallet", "restore", &copy, "--yes"],
        &["approve", approval],
        &["token", "create", "mine"],
        &["mandate", "grant", "mine", "--owner"],
        &["mandate", "grant", "mine", "--owner", "--parent", "main"],
        &[
            "wallet",
            "fund",
            "--from",
            "main",
            "--from-pot",
            "borrowed",
            "--to",
            "writer",
            "--to-pot",
            "seed",
            "1",
        ],
    ] {
        let alone = b.refused_without_terminal(words).await;
        alone.is(4, "owner_required", &["passphrase"]);
        let silent = [&["--no-input"], words].concat();
        b.refused(&silent)
            .await
            .is(4, "owner_required", &["--no-input"]);
    }
}

/// Terms that are called tighter and are looser.
async fn by_tightening(b: &Home, terms: &Value) {
    for (pointer, value) in [
        ("/limits/per_request_trm", json!("5001")),
        ("/limits/hour_trm", json!("6")),
        ("/limits/lifetime_trm", json!("1000001")),
        ("/limits/approval_above_trm", json!(null)),
        ("/breakers/errors_in_row", json!(0)),
        ("/breakers/spends_per_minute", json!(31)),
        ("/breakers/same_request", json!(11)),
    ] {
        let mut looser = terms.clone();
        *looser.pointer_mut(pointer).unwrap() = value;
        let answer = ask_socket(b, "tighten_budget", json!({ "terms": looser })).await;
        owner_required(&answer, pointer);
    }
}

#[tokio::test]
async fn an_agent_with_a_shell_and_every_token_makes_nothing_looser() {
    let (pair, other) = (Pair::start().await, Home::buyer());
    let b = &pair.b;
    b.init_owner().await;
    other.init_owner().await;
    let up = Up::start(b).await;
    b.ask(&["budget", "tighten", "--approval-above", "0", "--hour", "5"])
        .await;
    let (_, answer) = up.http(b).post(CHAT, &chat("hello", "k")).await;
    let approval = answer["error"]["x_tirami"]["approval"]
        .as_str()
        .unwrap()
        .to_owned();
    // An order the owner gave once, for the agent to try again.
    let node = b.ask(&["status"]).await["node"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let order = |number, decision| OwnerOrder {
        node,
        number,
        decision,
    };
    let old = sign(b, order(number(b).await, Decision::Unfreeze));
    ask_socket(b, "obey", json!({ "order": old }))
        .await
        .unwrap();
    b.ask_as_owner(&["token", "create", "writer"]).await;
    b.ask(&["freeze"]).await;
    let everything = async || {
        json!([
            b.books().await,
            b.ask(&["approvals", "--all"]).await,
            b.ask(&["mandate", "list"]).await
        ])
    };
    let before = everything().await;
    by_command(b, &approval).await;
    for decision in decisions(approval.parse().unwrap()) {
        let what = format!("{decision:?}");
        let forged = sign(&other, order(number(b).await, decision));
        owner_required(
            &ask_socket(b, "obey", json!({ "order": forged })).await,
            &what,
        );
    }
    owner_required(
        &ask_socket(b, "obey", json!({ "order": old })).await,
        "an old order",
    );
    by_tightening(b, &before[0]["budget"]["terms"]).await;
    assert_eq!(everything().await, before, "something became looser");
    assert!(pair.agree().await.is_zero());
}

#[tokio::test]
async fn an_agent_cannot_grant_itself_more_than_it_has() {
    let pair = Pair::start().await;
    let b = &pair.b;
    b.init_owner().await;
    let up = Up::start(b).await;
    b.ask(&["budget", "tighten", "--lifetime", "0.000001"])
        .await;
    b.ask(&["mandate", "grant", "big", "--lifetime", "1000000"])
        .await;
    let made = b.ask_as_owner(&["token", "create", "big"]).await;
    let http = up.http(b).with_token(made["token"].as_str().unwrap());
    let before = b.books().await;
    let mut body = chat("hello", "k");
    body["max_tokens"] = 5.into();
    let (status, answer) = http.post(CHAT, &body).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (402, &json!("over_budget")),
        "{answer}"
    );
    // Its own name is taken, and another's too.
    for name in ["main", "big"] {
        let refused = b.refused(&["mandate", "grant", name]).await;
        assert_eq!(
            (refused.exit, refused.code.as_str()),
            (2, "invalid_input"),
            "{refused:?}"
        );
    }
    let refused = ask_socket(
        b,
        "grant_mandate",
        json!({ "agent": "=1+1\n", "terms": before["budget"]["terms"] }),
    )
    .await;
    assert_eq!(refused.unwrap_err()["code"], "invalid_input");
    assert_eq!(b.books().await, before, "nothing moved");
}
