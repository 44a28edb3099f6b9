//! How a node sells is its owner's to say: with the data directory or the main agent's token, and not
//! through an agent's tools.

use serde_json::{Value, json};
use tirami_manifest::Amount;

use crate::cli::Home;
use crate::http::{CHAT, chat};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, question, trm, until, words};

/// Where selling is seen and changed over HTTP.
const SERVE: &str = "/v1/tirami/serve";

/// A chat is refused, and says why.
async fn refused(mcp: &Mcp, key: &str, says: &[&str]) {
    let refused = mcp.refused("chat", question(3, key)).await;
    let says = [&["nobody sells inference to this node now"], says].concat();
    refused.is("no_provider", &says);
}

#[tokio::test]
async fn a_paused_seller_says_so_through_every_door_and_after_a_restart() {
    let pair = Pair::start().await;
    let (a, b) = (&pair.a, &pair.b);
    assert_eq!(a.ask(&["serve"]).await["selling"], true);
    assert_eq!(a.ask(&["status"]).await["selling_closed"], Value::Null);
    let too_long = a.refused(&["serve", "pause", "--for", "367d"]).await;
    too_long.is(2, "invalid_input", &["until", "year", "serve pause"]);
    assert_eq!(a.ask(&["serve"]).await["selling"], true);
    a.ask(&["serve", "pause", "--for", "365d"]).await;
    let paused = a.ask(&["serve", "pause", "--for", "2h"]).await;
    assert_eq!(paused["selling"], false, "{paused}");
    let status = a.ask(&["status"]).await;
    let why = status["selling_closed"].as_str().unwrap();
    assert!(why.contains("selling is paused"), "{status}");
    let screen = a.screen(&["status"]).await;
    let says = "echo, but not now: selling is paused";
    assert!(screen.contains(says), "{screen}");
    let again = paused["opens_at"].as_str().unwrap();
    pair.up.kill().await;
    let restarted = Up::start(a).await;
    let seller = restarted.http(a);
    let mcp = Mcp::start(b).await;
    refused(&mcp, "one", &["selling is paused", again]).await;
    let up = Up::start(b).await;
    let (status, answer) = up.http(b).post(CHAT, &chat(&words(3), "two")).await;
    assert_eq!(status, 503, "{answer}");
    let said = answer["error"]["message"].as_str().unwrap();
    assert!(said.contains("selling is paused"), "{said}");
    let cli = b.refused(&["chat", &words(3)]).await;
    cli.is(7, "no_provider", &["selling is paused"]);
    // Its own work costs it nothing and goes on.
    let own = a.ask(&["chat", "one two"]).await;
    assert_eq!(own["local"], true, "{own}");
    let (status, seen) = seller.get(SERVE).await;
    assert_eq!((status, &seen["selling"]), (200, &json!(false)), "{seen}");
    assert_eq!(seen["opens_at"], paused["opens_at"]);
    let (status, resumed) = seller.post(SERVE, &json!({ "set": "resume" })).await;
    assert_eq!((status, &resumed["selling"]), (200, &json!(true)));
    mcp.ask("chat", question(3, "three")).await;
}

/// An hour of the day, in the machine's local time, that is over since an hour.
fn hours_that_are_over() -> String {
    let now = i64::try_from(tirami_agent_runtime::clock::now().ms()).unwrap();
    let now = jiff::Timestamp::from_millisecond(now).unwrap();
    let now = now.to_zoned(jiff::tz::TimeZone::system());
    let hour = |back: i8| (now.hour() + 24 - back) % 24;
    format!("{:02}:00-{:02}:00", hour(3), hour(1))
}

#[tokio::test]
async fn a_seller_outside_of_its_hours_says_when_it_sells_again() {
    let pair = Pair::start().await;
    let mcp = Mcp::start(&pair.b).await;
    let hours = hours_that_are_over();
    let set = pair.a.ask(&["serve", "schedule", &hours]).await;
    assert_eq!(set["schedule"], json!([hours]), "{set}");
    let again = set["opens_at"].as_str().unwrap();
    refused(&mcp, "one", &["sells again from", again]).await;
    let shown = pair.a.screen(&["serve"]).await;
    assert!(
        shown.contains("not selling:") && shown.contains(&hours),
        "{shown}"
    );
    let words = ["serve", "schedule", "mon-sun", "00:00-24:00"];
    let set = pair.a.ask(&words).await;
    assert_eq!(set["selling"], true, "{set}");
    mcp.ask("chat", question(3, "two")).await;
    let bad = pair.a.refused(&["serve", "schedule", "mon"]).await;
    bad.is(2, "invalid_input", &["'mon' names no hours", "22:00-07:00"]);
    pair.agree().await;
}

#[tokio::test]
async fn a_days_cap_a_price_and_a_list_of_buyers_hold_at_the_door() {
    let pair = Pair::start().await;
    let (a, mcp) = (&pair.a, Mcp::start(&pair.b).await);
    let set = a.ask(&["serve", "price", "2"]).await;
    assert_eq!(set["price_ppm"], 2_000_000, "{set}");
    let answer = mcp.ask("chat", question(3, "dear")).await;
    // Three words and a role in, three words out, at twice par.
    let cost = trm(&answer["trm_cost"]);
    assert_eq!(cost, "0.018".parse().unwrap(), "{answer}");
    a.ask(&["serve", "price", "default"]).await;
    let set = until("the sale is booked", async || {
        let set = a.ask(&["serve", "daily-cap", "0.018"]).await;
        (set["selling"] == false).then_some(set)
    })
    .await;
    assert_eq!(trm(&set["trm_earned_24h"]), cost, "{set}");
    refused(&mcp, "capped", &["has sold what it sells in a day"]).await;
    a.ask(&["serve", "daily-cap", "off"]).await;
    let nobody = "ab".repeat(32);
    a.ask(&["serve", "buyers", "list", &nobody]).await;
    refused(&mcp, "stranger", &["buyers that its owner chose"]).await;
    let buyer = pair.b.ask(&["status"]).await["node"].clone();
    let words = ["serve", "buyers", "list", buyer.as_str().unwrap()];
    a.ask(&words).await;
    mcp.ask("chat", question(3, "chosen")).await;
    a.ask(&["serve", "buyers", "any"]).await;
    for (words, says) in [
        (["serve", "price", "0"], "0 is not traded"),
        (["serve", "slots", "0"], "slots: 0"),
        (["serve", "daily-cap", "-1"], "negative"),
        (["serve", "busy", "full"], "or write 'off'"),
    ] {
        a.refused(&words).await.is(2, "invalid_input", &[says]);
    }
    pair.agree().await;
}

#[tokio::test]
async fn an_agent_sees_how_its_node_sells_and_changes_nothing() {
    let home = Home::seller();
    let up = Up::start(&home).await;
    home.init_owner().await;
    let made = home.ask_as_owner(&["token", "create", "writer"]).await;
    let writer = made["token"].as_str().unwrap();
    // No tool sells, and the route takes no change from another agent.
    let tools = Mcp::start(&home).await.tools().await;
    assert!(
        !tools.iter().any(|tool| tool.contains("serve")),
        "{tools:?}"
    );
    let http = up.http(&home).with_token(writer);
    let (status, before) = http.get(SERVE).await;
    assert_eq!(
        (status, &before["selling"]),
        (200, &json!(true)),
        "{before}"
    );
    for change in [
        json!({ "set": "pause" }),
        json!({ "set": "price", "min_ppm": 1, "max_ppm": 1 }),
        json!({ "set": "buyers", "who": "any" }),
    ] {
        let (status, answer) = http.post(SERVE, &change).await;
        assert_eq!(status, 401, "{answer}");
    }
    let words = ["serve", "pause", "--token", writer];
    home.refused(&words).await.is(4, "unauthorized", &["main"]);
    let (status, _) = http.get("/v1/tirami/earnings").await;
    assert_eq!(status, 401);
    for bad in [
        json!({ "set": "pause", "for": 5 }),
        json!({ "set": "slots" }),
        json!({ "set": "everything" }),
        json!({}),
    ] {
        let (status, answer) = up.http(&home).post(SERVE, &bad).await;
        assert_eq!(status, 400, "{bad}: {answer}");
    }
    // But for the machine's load, which is its own.
    let (_, mut after) = http.get(SERVE).await;
    after["load_percent"] = before["load_percent"].clone();
    assert_eq!(after, before);
}

#[tokio::test]
async fn earnings_are_the_same_through_every_door_and_what_the_books_say() {
    let pair = Pair::start().await;
    let mcp = Mcp::start(&pair.b).await;
    for key in ["one", "two"] {
        mcp.ask("chat", question(3, key)).await;
    }
    let earned = pair.agree().await;
    assert!(earned > Amount::ZERO);
    let cli = pair.a.ask(&["earnings"]).await;
    for sum in ["last_24h", "last_7d", "in_all"] {
        assert_eq!(trm(&cli[sum]["trm_earned"]), earned, "{cli:#}");
        assert_eq!(cli[sum]["jobs"], 2, "{cli:#}");
        assert_eq!(cli[sum]["tokens_out"], 6, "{cli:#}");
    }
    let (status, http) = pair.up.http(&pair.a).get("/v1/tirami/earnings").await;
    assert_eq!((status, &http["in_all"]), (200, &cli["in_all"]));
    let buyer = &cli["by_buyer"][0];
    assert_eq!(buyer["buyer"], pair.b.ask(&["status"]).await["node"]);
    assert_eq!(cli["by_model"][0]["model"], Value::from("echo"), "{cli:#}");
    let shown = pair.a.screen(&["earnings"]).await;
    assert!(shown.contains("in 24 hours"), "{shown}");
}
