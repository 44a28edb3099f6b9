//! The way to other nodes: who is there, how far away, and what is said when one is not.

use std::time::Duration;

use iroh_relay::server::{RelayConfig, Server, ServerConfig};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::Home;
use crate::http::{CHAT, chat};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, ticket, until};

/// A node that others reach only through the relay: the other here is on IPv6.
const ON_IPV4: &str = "mesh_listen = \"127.0.0.1:0\"\nmodel = \"echo\"\n";
const ON_IPV6: &str = "mesh_listen = \"[::1]:0\"\nno_local = true\n";

/// A node id that nobody has: the base point of the curve.
const NOBODY: &str = "5866666666666666666666666666666666666666666666666666666666666666";

/// Everything that says a peer is there, as it says it.
#[track_caller]
fn is_there(answer: &Value, node: &Value) {
    let peer = &answer["peers"][0];
    assert_eq!(&peer["node"], node, "{answer:#}");
    assert_eq!(peer["connected"], true, "{answer:#}");
    assert_eq!(peer["path"], "direct", "{answer:#}");
    let rtt = peer["rtt_ms"].as_f64().unwrap();
    assert!(rtt > 0.0 && rtt < 5_000.0, "{answer:#}");
    assert_eq!(peer["models"], json!(["echo"]), "{answer:#}");
    let heard: jiff::Timestamp = peer["last_heard"].as_str().unwrap().parse().unwrap();
    let now = tirami_agent_runtime::clock::now().ms();
    let ago = now.saturating_sub(heard.as_millisecond().cast_unsigned());
    assert!(ago < 30_000, "{ago} ms ago: {answer:#}");
}

#[tokio::test]
async fn peers_say_path_round_trip_what_they_sell_and_when_they_were_heard() {
    let pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let seller = pair.a.ask(&["status"]).await["node"].clone();
    is_there(&pair.b.ask(&["peers"]).await, &seller);
    let (status, answer) = up.http(&pair.b).get("/v1/tirami/peers").await;
    assert_eq!(status, 200, "{answer}");
    is_there(&answer, &seller);
    let mcp = Mcp::start(&pair.b).await;
    is_there(&mcp.call("peers", json!({})).await.unwrap(), &seller);
    let screen = pair.b.screen(&["peers"]).await;
    let short = &seller.as_str().unwrap()[..10];
    for word in [short, "authority", "direct", "echo", "last heard"] {
        assert!(screen.contains(word), "'{word}' is not said: {screen}");
    }
    // The seller sees the buyer too, though it was never told where that is.
    let seen = pair.a.ask(&["peers"]).await;
    assert_eq!(seen["peers"][0]["path"], "direct", "{seen:#}");
    pair.up.kill().await;
    until("a killed peer has no path", async || {
        let seen = pair.b.ask(&["peers"]).await["peers"][0].clone();
        let gone = seen["path"].is_null() && seen["connected"] == false;
        gone.then(|| assert!(seen["last_heard"].is_string(), "{seen:#}"))
    })
    .await;
}

#[tokio::test]
async fn a_ping_measures_the_way_however_the_peer_is_named() {
    let pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let status = pair.a.ask(&["status"]).await;
    let (node, address) = (&status["node"], &status["addresses"][0]);
    let (id, at) = (node.as_str().unwrap(), address.as_str().unwrap());
    for name in [id, &id[..8], at, &format!("{id}@{at}")] {
        let pinged = pair.b.ask(&["peer", "ping", name, "--count", "7"]).await;
        assert_eq!(&pinged["node"], node, "{name}: {pinged:#}");
        assert_eq!(
            (&pinged["path"], &pinged["to"]),
            (&json!("direct"), address),
            "{pinged:#}"
        );
        let trips: Vec<f64> = serde_json::from_value(pinged["rtt_ms"].clone()).unwrap();
        assert_eq!(trips.len(), 7, "{pinged:#}");
        let (least, most) = (&pinged["rtt_min_ms"], &pinged["rtt_max_ms"]);
        let within = |ms: f64| ms >= least.as_f64().unwrap() && ms <= most.as_f64().unwrap();
        assert!(
            trips.iter().all(|ms| *ms > 0.0 && within(*ms)),
            "{pinged:#}"
        );
    }
    let ping = json!({ "peer": id, "count": 1 });
    let (code, pinged) = up.http(&pair.b).post("/v1/tirami/peers/ping", &ping).await;
    assert_eq!(
        (code, &pinged["node"], &pinged["was_connected"]),
        (200, node, &json!(true))
    );
    // One that never met the other and was told where it is.
    let stranger = Home::buyer();
    let pinged = stranger.ask(&["peer", "ping", &format!("{id}@{at}")]).await;
    assert_eq!(
        (&pinged["node"], &pinged["was_connected"]),
        (node, &json!(false)),
        "{pinged:#}"
    );
    assert!(
        stranger
            .screen(&["peer", "ping", &format!("{id}@{at}")])
            .await
            .contains("dialled in")
    );
}

#[tokio::test]
async fn a_peer_that_cannot_be_reached_is_named_with_the_wait_and_the_way_out() {
    let home = Home::buyer();
    let up = Up::start(&home).await;
    // Bound, so that nobody else takes it, and never answering.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let peer = format!("{NOBODY}@{address}");
    let (ping, http) = (json!({ "peer": peer }), up.http(&home));
    let words = ["peer", "ping", &peer];
    // At the same time, since each waits for as long as a dial may take.
    let (refused, (code, answer)) = tokio::join!(
        home.refused(&words),
        http.post("/v1/tirami/peers/ping", &ping),
    );
    let says = [
        &address,
        "5866666666",
        "waited 5.",
        "it runs there",
        "UDP",
        "net check'",
    ];
    refused.is(7, "provider_failed", &says);
    assert_eq!(
        (code, &answer["error"]["code"]),
        (502, &json!("provider_failed")),
        "{answer}"
    );
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains(&address) && message.contains("waited 5."),
        "{answer}"
    );
    home.refused(&["peer", "ping", NOBODY]).await.is(
        7,
        "provider_failed",
        &["no address is known", "NODE_ID@ADDRESS:PORT"],
    );
    for (name, exit, code, says) in [
        (
            "127.0.0.1:9",
            5,
            "not_found",
            "no node is known at 127.0.0.1:9",
        ),
        ("abcdef", 5, "not_found", "begins with 'abcdef'"),
        ("me@home", 2, "invalid_input", "'me@home'"),
        ("?", 2, "invalid_input", "'?'"),
    ] {
        home.refused(&["peer", "ping", name])
            .await
            .is(exit, code, &[says, "NODE_ID@ADDRESS"]);
    }
    let ping = json!({ "peer": peer, "count": 101 });
    let (code, answer) = up.http(&home).post("/v1/tirami/peers/ping", &ping).await;
    assert!(
        code == 400 && answer.to_string().contains("1 to 100"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_agent_of_its_own_makes_the_node_dial_no_address_of_its_choice() {
    let home = Home::buyer();
    home.init_owner().await;
    let up = Up::start(&home).await;
    let made = home.ask_as_owner(&["token", "create", "scout"]).await;
    let scout = up.http(&home).with_token(made["token"].as_str().unwrap());
    let ping = json!({ "peer": format!("{NOBODY}@127.0.0.1:9") });
    let (code, answer) = scout.post("/v1/tirami/peers/ping", &ping).await;
    assert_eq!(
        (code, &answer["error"]["code"]),
        (401, &json!("unauthorized")),
        "{answer}"
    );
}

#[tokio::test]
async fn net_check_says_what_is_reached_and_fails_only_when_nobody_reaches_the_node() {
    let pair = Pair::start().await;
    // Without a node that runs, one is started for it.
    let alone = pair.b.ask(&["net", "check"]).await;
    assert_eq!(
        (&alone["running"], &alone["reachable"]),
        (&json!(false), &json!(true)),
        "{alone:#}"
    );
    let up = Up::start(&pair.b).await;
    let seen = pair.b.ask(&["net", "check"]).await;
    assert_eq!(
        (&seen["running"], &seen["pid"]),
        (&json!(true), &up.ready["pid"]),
        "{seen:#}"
    );
    assert_eq!(
        seen["addresses"][0]["to"], up.ready["addresses"][0],
        "{seen:#}"
    );
    for reached in [&seen["addresses"][0], &seen["loopback"], &seen["peers"][0]] {
        assert_eq!(reached["reached"], true, "{seen:#}");
        assert!(reached["took_ms"].as_f64().unwrap() > 0.0, "{seen:#}");
    }
    assert_eq!(seen["peers"][0]["path"], "direct", "{seen:#}");
    assert!(seen["relay"].is_null(), "{seen:#}");
    let (code, answer) = up.http(&pair.b).get("/v1/tirami/net").await;
    assert_eq!(
        (code, &answer["reachable"]),
        (200, &json!(true)),
        "{answer}"
    );
    let screen = pair.b.screen(&["net", "check"]).await;
    for line in ["ok   node", "ok   loopback", "ok   mesh port", "ok   peer"] {
        assert!(screen.contains(line), "'{line}' is not said: {screen}");
    }
    // A peer that is away is said, and is no failure of this node.
    pair.up.kill().await;
    let seen = until("it is said that the peer is away", async || {
        let seen = pair.b.ask(&["net", "check"]).await;
        (seen["peers"][0]["reached"] == false).then_some(seen)
    })
    .await;
    assert_eq!(seen["reachable"], true, "{seen:#}");
    assert!(seen["peers"][0]["problem"].is_string(), "{seen:#}");
}

#[tokio::test]
async fn a_peer_that_was_killed_and_started_again_at_its_address_sells_again() {
    let mut pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let http = up.http(&pair.b);
    let first = http.post(CHAT, &chat("one two", "before")).await;
    assert_eq!(first.0, 200, "{}", first.1);
    pair.up.kill_now().await;
    pair.up = Up::start(&pair.a).await;
    let began = Instant::now();
    until("a purchase goes through again", async || {
        let (status, answer) = http.post(CHAT, &chat("one two", "after")).await;
        if status != 200 {
            assert_eq!(answer["error"]["x_tirami"]["retryable"], true, "{answer}");
        }
        (status == 200).then_some(())
    })
    .await;
    let took = began.elapsed();
    println!(
        "sold again {} ms after it had started again",
        took.as_millis()
    );
    // Silence is noticed in 5 s, and a dial takes a moment.
    assert!(took < Duration::from_secs(12), "{took:?}");
    pair.agree().await;
}

#[tokio::test]
async fn nodes_that_name_the_same_relay_trade_through_it_and_peers_say_so() {
    let mut config = ServerConfig::default();
    config.relay = Some(RelayConfig::new(([127, 0, 0, 1], 0)));
    let relay = Server::spawn(config).await.unwrap();
    let url = format!("http://{}", relay.http_addr().unwrap());
    let with_relay = |config: &str| Home::new(&format!("relay = \"{url}\"\n{config}"));
    let (a, b) = (with_relay(ON_IPV4), with_relay(ON_IPV6));
    let (up, up_b) = (Up::start(&a).await, Up::start(&b).await);
    // Once both are there; a ticket names addresses only, and this one's leads nowhere from here.
    for home in [&a, &b] {
        let seen = home.ask(&["net", "check"]).await;
        assert_eq!(seen["relay"]["reached"], true, "{seen:#}");
        assert!(
            seen["relay"]["to"].as_str().unwrap().starts_with(&url),
            "{seen:#}"
        );
    }
    b.ask(&["join", &ticket(&a).await]).await;
    let (status, answer) = up_b.http(&b).post(CHAT, &chat("one two three", "k")).await;
    assert_eq!(status, 200, "{answer}");
    let peers = b.ask(&["peers"]).await;
    assert_eq!(peers["peers"][0]["path"], "relayed", "{peers:#}");
    assert!(
        peers["peers"][0]["rtt_ms"].as_f64().unwrap() > 0.0,
        "{peers:#}"
    );
    let pair = Pair { a, b, up };
    assert!(!pair.agree().await.is_zero());
    // One that is told of no relay does not use it.
    let alone = Home::buyer().ask(&["net", "check"]).await;
    assert!(alone["relay"].is_null(), "{alone:#}");
    relay.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_relay_that_is_none_is_refused_with_what_to_write() {
    let ended = Home::buyer()
        .run(&["up", "--relay", "relay.example:3340"])
        .await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        ended.stdout.contains("'relay.example:3340' is no relay"),
        "{ended:?}"
    );
    let home = Home::new("relay = \"ftp://relay.example\"\n");
    home.refused(&["status"]).await.is(
        2,
        "invalid_input",
        &["config.toml", "is no relay", "http://"],
    );
}
