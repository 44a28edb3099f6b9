//! Who may see a prompt is the request's and the owner's to say, whatever door it comes through.

use serde_json::json;

use crate::cli::Home;
use crate::http::{CHAT, chat};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, question, words};

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
