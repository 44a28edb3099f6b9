//! Who may see a prompt is the request's and the owner's to say, whatever door it comes through.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::cli::Home;
use crate::http::{CHAT, Http, chat};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, WITHIN, question, words};

/// Words of an answer that takes long enough to be broken off.
const LONG: usize = 1_500;

#[tokio::test]
async fn a_prompt_stays_where_privacy_keeps_it_through_every_door() {
    let pair = Pair::start().await;
    let (seller, buyer) = (&pair.a, &pair.b);
    let mcp = Mcp::start(buyer).await;
    let private = |key: &str, privacy: &str| {
        let mut question = question(3, key);
        question["privacy"] = json!(privacy);
        question
    };
    let kept = ["privacy is 'local'", "may see the prompt"];
    let refused = mcp.refused("chat", private("one", "local")).await;
    refused.is("no_provider", &kept);
    let refused = mcp.refused("chat", private("two", "everybody")).await;
    refused.is("invalid_input", &["privacy", "'everybody'"]);
    let cli = buyer
        .refused(&["chat", "--privacy", "local", &words(3)])
        .await;
    cli.is(7, "no_provider", &kept);
    let up = Up::start(buyer).await;
    let mut body = chat(&words(3), "three");
    body["x_tirami"]["privacy"] = json!("local");
    let (status, answer) = up.http(buyer).post(CHAT, &body).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (503, &json!("no_provider"))
    );
    let spent = buyer.ask(&["balance"]).await;
    assert_eq!(spent["trm_spent"], "0");
    // Whom it names may, and the answer says so.
    let id = seller.ask(&["status"]).await["node"].clone();
    let answer = mcp.ask("chat", private("four", id.as_str().unwrap())).await;
    assert_eq!(answer["seen_by"], json!([id]));
    body["x_tirami"] = json!({ "privacy": "any", "idempotency_key": "five" });
    let (status, answer) = up.http(buyer).post(CHAT, &body).await;
    assert_eq!(
        (status, &answer["x_tirami"]["seen_by"]),
        (200, &json!([id]))
    );
}

#[tokio::test]
async fn the_owner_of_a_node_keeps_prompts_at_nodes_of_its_own() {
    let pair = Pair::of(
        Home::seller(),
        Home::new("no_local = true\nprivacy = \"own\"\n"),
    )
    .await;
    let (seller, buyer) = (&pair.a, &pair.b);
    let refused = buyer
        .refused(&["chat", "--privacy", "any", &words(3)])
        .await;
    refused.is(7, "no_provider", &["privacy is 'own' in the config file"]);
    let id = seller.ask(&["status"]).await["node"].clone();
    let id = id.as_str().unwrap();
    let config = format!("no_local = true\nprivacy = \"own\"\nown_nodes = [\"{id}\"]\n");
    buyer.write("config.toml", config);
    let answer = buyer.ask(&["chat", &words(3)]).await;
    assert_eq!(answer["seen_by"], json!([id]));
}

/// Reads a streamed answer until it is told that it has begun, and then to its end; that is what it answers.
async fn broken_off(http: &Http, has_begun: impl Future<Output = ()>) -> Value {
    let mut stream = http.stream(&chat(&words(LONG), "http")).await.unwrap();
    stream.piece().await.expect("it has begun");
    has_begun.await;
    let mut last = Value::Null;
    while let Some(event) = stream.next().await {
        last = event;
    }
    last
}

#[tokio::test]
async fn a_request_that_failed_says_who_was_sent_its_prompt_through_every_door() {
    let Pair { a, b, up: mut up_a } = Pair::start().await;
    let id = a.ask(&["status"]).await["node"].clone();
    let up = Up::start(&b).await;
    let (mcp, http) = (Mcp::start(&b).await, up.http(&b));
    // Nobody was sent one that stays here.
    let mut private = question(3, "private");
    private["privacy"] = json!("local");
    let refused = mcp.refused("chat", private).await;
    assert!(refused.0["seen_by"].is_null(), "{:#}", refused.0);
    // Three break off in the middle, because the only seller dies.
    let mut shell = b.command(&["chat", "--max-tokens", &LONG.to_string(), &words(LONG)]);
    shell.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let mut said = [0; 20];
    let out = shell.stdout.as_mut().unwrap();
    let dies = async {
        timeout(WITHIN, out.read_exact(&mut said))
            .await
            .unwrap()
            .unwrap();
        mcp.progress().await;
        up_a.kill_now().await;
    };
    let by_mcp = mcp.call("chat", question(LONG, "mcp"));
    let (by_http, by_mcp) = tokio::join!(broken_off(&http, dies), by_mcp);
    let by_mcp = by_mcp.unwrap_err();
    assert_eq!(by_mcp.0["seen_by"], json!([id]), "{:#}", by_mcp.0);
    let seen = &by_http["error"]["x_tirami"]["seen_by"];
    assert_eq!(seen, &json!([id]), "{by_http:#}");
    let ended = timeout(WITHIN, shell.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    let says = format!("the prompt was sent to {}\n", &id.as_str().unwrap()[..10]);
    assert!(told.contains(&says), "{told}");
    assert_eq!(ended.status.code(), Some(7), "{told}");
}
