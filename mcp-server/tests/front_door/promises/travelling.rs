//! Mandates that travel, between processes: handed out and taken as text, spent through every door while
//! the payer's machine is off, and taken back.

use serde_json::{Value, json};
use tirami_manifest::Amount;

use crate::cli::Home;
use crate::http::{CHAT, chat};
use crate::mcp::Mcp;
use crate::nodes::{LOAN, Pair, Up, question, sum, ticket, trm, until};

/// A seller that founded the network, a parent that hands out, and a child that is handed something;
/// both were lent the welcome loan. Only the seller runs.
async fn family() -> (Pair, Home) {
    let pair = Pair::start().await;
    let child = Home::buyer();
    child.ask(&["join", &ticket(&pair.a).await]).await;
    (pair, child)
}

async fn node(home: &Home) -> String {
    home.ask(&["status"]).await["node"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn field(value: &Value, name: &str) -> String {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("{value}"))
        .to_owned()
}

/// The books of parent and child hold, and the seller keeps for each what it has itself.
async fn agree(pair: &Pair, child: &Home) {
    let kept = pair.a.ask(&["balance"]).await;
    pair.a.audit().await;
    for home in [&pair.b, child] {
        home.audit().await;
        let own = home.ask(&["balance"]).await;
        let id = node(home).await;
        let members = kept["members"].as_array().unwrap();
        let there = members
            .iter()
            .find(|member| member["node"] == id.as_str())
            .unwrap();
        let has = sum([trm(&own["trm_balance"]), trm(&own["trm_held"])]);
        assert_eq!(trm(&there["trm_balance"]), has, "{kept:#} {own:#}");
    }
}

#[tokio::test]
async fn a_pinned_mandate_pays_through_every_door_while_its_payer_is_off() {
    let (pair, child) = family().await;
    let seller = node(&pair.a).await;
    let to = node(&child).await;
    let words = ["mandate", "hand-out", &to, "5", "--pin", &seller];
    let handed = pair.b.ask(&words).await;
    let (id, text) = (field(&handed, "mandate"), field(&handed, "text"));
    let before = pair.b.ask(&["balance"]).await;
    assert_eq!(trm(&before["trm_held"]), Amount::from_trm(5));
    // Nobody else can take it, and a changed letter makes it nothing.
    let stranger = pair.a.refused(&["mandate", "accept", &text]).await;
    stranger.is(2, "invalid_input", &["the mandate is for node"]);
    let cut = &text[..text.len() - 3];
    let damaged = child.refused(&["mandate", "accept", cut]).await;
    damaged.is(2, "invalid_input", &["damaged"]);
    child.ask(&["mandate", "accept", &text]).await;
    // The parent's machine is off. Command line, HTTP and MCP spend what it handed out.
    let mut costs = Vec::new();
    let words = [
        "chat",
        "one two three",
        "--max-tokens",
        "8",
        "--mandate",
        // As a table shows it.
        &id[..10],
    ];
    let answer = child.ask(&words).await;
    assert_eq!(answer["payer"], node(&pair.b).await.as_str(), "{answer}");
    costs.push(trm(&answer["trm_cost"]));
    let up = Up::start(&child).await;
    let mut body = chat("four five six", "h");
    body["max_tokens"] = 8.into();
    body["x_tirami"]["mandate"] = json!(id);
    let (status, answer) = up.http(&child).post(CHAT, &body).await;
    assert_eq!(status, 200, "{answer}");
    costs.push(trm(&answer["x_tirami"]["trm_cost"]));
    let mcp = Mcp::start(&child).await;
    let mut input = question(4, "m");
    input["mandate"] = json!(id);
    let answer = mcp.call("chat", input.clone()).await.unwrap();
    let again = mcp.call("chat", input).await.unwrap();
    assert_eq!(answer["receipt"], again["receipt"]);
    costs.push(trm(&answer["trm_cost"]));
    let drawn = sum(costs.clone());
    assert!(costs.iter().all(|cost| !cost.is_zero()));
    // A crash forgets neither the mandate nor what was named of it.
    up.kill().await;
    let held = child.ask(&["mandate", "show", &id[..12]]).await;
    let free = Amount::from_trm(5).checked_sub(drawn).unwrap();
    assert_eq!(trm(&held["trm_free"]), free, "{held}");
    let own = child.ask(&["balance"]).await;
    assert_eq!(trm(&own["trm_balance"]), Amount::from_trm(LOAN), "{own}");
    assert_eq!(trm(&own["trm_spent"]), Amount::ZERO, "{own}");
    let sold = pair.a.ask(&["balance"]).await;
    assert_eq!(trm(&sold["trm_earned"]), drawn, "{sold}");
    // Back on, the parent hears what was bought, and takes the rest back.
    let parent = Up::start(&pair.b).await;
    until("the payer hears of every purchase", async || {
        let shown = pair.b.ask(&["mandate", "show", &id]).await;
        (trm(&shown["trm_drawn"]) == drawn).then_some(())
    })
    .await;
    agree(&pair, &child).await;
    let back = &["mandate", "reclaim", &id[..10], "--yes"];
    let back = pair.b.ask(back).await;
    assert_eq!(trm(&back["trm_came_back"]), free, "{back}");
    assert_eq!(back["mandate"]["state"], "closed", "{back}");
    let after = pair.b.ask(&["balance"]).await;
    assert_eq!(trm(&after["trm_held"]), Amount::ZERO, "{after}");
    assert_eq!(trm(&after["trm_spent"]), drawn, "{after}");
    let words = ["chat", "more", "--max-tokens", "8", "--mandate", &id];
    let late = child.refused(&words).await;
    late.is(3, "not_allowed", &["went back"]);
    agree(&pair, &child).await;
    drop(parent);
}

#[tokio::test]
async fn without_a_pin_nothing_is_bought_while_the_payer_cannot_be_asked() {
    let (pair, child) = family().await;
    let to = node(&child).await;
    let handed = pair.b.ask(&["mandate", "hand-out", &to, "5"]).await;
    let id = field(&handed, "mandate");
    let file = child.write("mandate", field(&handed, "text"));
    child.ask(&["mandate", "accept", "--file", &file]).await;
    let words = ["chat", "one two", "--max-tokens", "8", "--mandate", &id];
    let off = child.refused(&words).await;
    off.is(3, "not_allowed", &["cannot be reached"]);
    let parent = Up::start(&pair.b).await;
    let answer = until("the payer can be asked", async || {
        let ended = child.run(&words).await;
        (ended.code == 0).then(|| serde_json::from_str::<Value>(&ended.stdout).unwrap())
    })
    .await;
    let shown = pair.b.ask(&["mandate", "show", &id]).await;
    assert_eq!(
        shown["trm_drawn"], answer["trm_cost"],
        "told before the answer came"
    );
    // What the payer may not do now, nobody may for it.
    pair.b.ask(&["freeze", "--reason", "drill"]).await;
    let frozen = child.refused(&words).await;
    frozen.is(3, "not_allowed", &["spending is frozen", "drill"]);
    // A job that was refused took nothing, however much it asked for.
    let all = ["chat", "one two", "--mandate", &id];
    let frozen = child.refused(&all).await;
    frozen.is(3, "not_allowed", &["spending is frozen"]);
    let held = child.ask(&["mandate", "show", &id]).await;
    let left = trm(&held["trm_free"]).checked_add(trm(&answer["trm_cost"]));
    assert_eq!(left, Some(Amount::from_trm(5)), "{held}");
    agree(&pair, &child).await;
    drop(parent);
}

#[tokio::test]
async fn handing_out_counts_against_the_mandate_and_loosens_nothing() {
    let (pair, child) = family().await;
    let to = node(&child).await;
    let b = &pair.b;
    b.ask(&["budget", "tighten", "--hour", "10", "--per-request", "10"])
        .await;
    let before = b.books().await;
    let over = b.refused(&["mandate", "hand-out", &to, "10.000001"]).await;
    over.is(3, "over_budget", &["per-request"]);
    for (flag, value, word) in [
        ("--per-request", "11", "per_request"),
        ("--valid", "2x", "duration"),
        ("--pin", "abc", "64 hexadecimal digits"),
    ] {
        let words = ["mandate", "hand-out", &to, "10", flag, value];
        b.refused(&words).await.is(2, "invalid_input", &[word]);
    }
    assert_eq!(b.books().await, before, "nothing moved");
    let words = ["mandate", "hand-out", &to, "6", "--idempotency-key", "k"];
    let first = b.ask(&words).await;
    assert_eq!(b.ask(&words).await, first);
    let none = b.refused(&["mandate", "reclaim", "0123456789"]).await;
    none.is(5, "not_found", &["0123456789"]);
    let more = b.refused(&["mandate", "hand-out", &to, "6"]).await;
    more.is(3, "over_budget", &["hour"]);
    b.ask(&["freeze"]).await;
    let frozen = b.refused(&["mandate", "hand-out", &to, "1"]).await;
    frozen.is(3, "frozen", &[]);
    let list = b.ask(&["mandate", "list"]).await;
    assert_eq!(
        list["handed_out"].as_array().map(Vec::len),
        Some(1),
        "{list:#}"
    );
}

#[tokio::test]
async fn what_was_handed_on_comes_back_to_its_giver_once_its_holder_gave_it_back() {
    let (pair, child) = family().await;
    let last = Home::buyer();
    last.ask(&["join", &ticket(&pair.a).await]).await;
    let seller = node(&pair.a).await;
    let to = node(&child).await;
    let words = ["mandate", "hand-out", &to, "5", "--pin", &seller];
    let handed = pair.b.ask(&[&words[..], &["--depth", "1"]].concat()).await;
    let first = field(&handed, "mandate");
    child
        .ask(&["mandate", "accept", &field(&handed, "text")])
        .await;
    let to = node(&last).await;
    let words = ["mandate", "hand-out", &to, "2", "--from", &first[..10]];
    let handed = child.ask(&[&words[..], &["--pin", &seller]].concat()).await;
    let on = field(&handed, "mandate");
    last.ask(&["mandate", "accept", &field(&handed, "text")])
        .await;
    // As long as its holder may spend it, the giver is told so.
    let reclaim = ["mandate", "reclaim", &on, "--yes"];
    let held = child.refused(&reclaim).await;
    assert!(held.text.contains("the holder may spend"), "{held:?}");
    let given = last.ask(&["mandate", "give-back", &on, "--yes"]).await;
    assert_eq!(trm(&given["trm_given_back"]), Amount::from_trm(2));
    let back = child.ask(&reclaim).await;
    assert_eq!(trm(&back["trm_came_back"]), Amount::from_trm(2), "{back}");
    let shown = child.ask(&["mandate", "show", &first]).await;
    assert_eq!(trm(&shown["trm_free"]), Amount::from_trm(5), "{shown}");
    agree(&pair, &child).await;
}
