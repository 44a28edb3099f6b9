//! Every rule of a mandate refuses through the door: with its code, its number and its name, and
//! nothing moves.

use serde_json::{Value, json};
use tirami_manifest::mandate::QuietHours;

use crate::full_disk::{PURCHASES_MAX, fill_the_disk, start_limited};
use crate::http::{CHAT, Http, chat};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, trm, words};

/// A buyer whose agent `writer` has a token, and a mandate out of the main agent's.
struct Stage {
    pair: Pair,
    token: String,
    http: Http,
    _up: Up,
}

impl Stage {
    async fn set() -> Self {
        let pair = Pair::start().await;
        pair.b.without_breakers().await;
        let up = Up::start(&pair.b).await;
        pair.b.ask(&["mandate", "grant", "writer"]).await;
        let made = pair.b.ask_as_owner(&["token", "create", "writer"]).await;
        let token = made["token"].as_str().unwrap().to_owned();
        let http = up.http(&pair.b).with_token(&token);
        Self {
            pair,
            token,
            http,
            _up: up,
        }
    }

    /// Gives the writer a new mandate with these terms beside the defaults.
    async fn grant(&self, terms: &[&str]) {
        let b = &self.pair.b;
        b.ask(&["mandate", "revoke", "writer", "--yes"]).await;
        b.ask(&[&["mandate", "grant", "writer"], terms].concat())
            .await;
    }

    async fn ask(&self, prompt: &str, key: &str) -> (u16, Value) {
        let mut body = chat(prompt, key);
        body["max_tokens"] = 5.into();
        self.http.post(CHAT, &body).await
    }

    /// Asserts that a chat is refused by a rule, and that nothing moves.
    async fn refuses(&self, (number, name): (u16, &str), status: u16, code: &str) {
        let before = self.pair.b.books().await;
        let (is, answer) = self.ask("one two three", &format!("key-{number}")).await;
        let error = &answer["error"];
        assert_eq!(
            (is, &error["code"]),
            (status, &json!(code)),
            "{name}: {answer}"
        );
        let said = error["message"].as_str().unwrap();
        assert!(said.contains(name), "'{name}' is not said: {said}");
        assert_eq!(self.pair.b.books().await, before, "{name}: something moved");
        // The dry run knows it beforehand, by number.
        let seller = self.pair.up.ready["node"].as_str().unwrap();
        let words = [
            "--token",
            &self.token,
            "budget",
            "dry-run",
            "0.01",
            "--payee",
            seller,
            "--model",
            "echo",
            "--price",
            "1",
        ];
        let ended = self.pair.b.run(&words).await;
        assert_eq!(ended.code, 3, "{ended:?}");
        let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(answer["refusal_number"], number, "{name}: {answer:#}");
        assert_eq!(answer["refusal"]["code"], code, "{name}: {answer:#}");
    }
}

/// Quiet hours around the present minute.
fn quiet_now() -> String {
    let minute = tirami_agent_runtime::clock::now().ms() / 60_000 % 1_440;
    let part = |minute: u64| u16::try_from(minute % 1_440).unwrap();
    let hours = QuietHours {
        from_minute: part(minute + 1_380),
        to_minute: part(minute + 60),
        utc_offset_minutes: 0,
    };
    hours.to_string().replace(" UTC", "")
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a case for each rule")]
async fn each_rule_refuses_by_its_number_and_nothing_moves() {
    let stage = Stage::set().await;
    let seller = stage.pair.up.ready["node"].as_str().unwrap().to_owned();
    let quiet = quiet_now();
    for (rule, status, code, terms) in [
        (
            (11, "expired"),
            402,
            "not_allowed",
            ["--expires", "2020-01-01T00:00:00Z"],
        ),
        ((12, "quiet hours"), 402, "not_allowed", ["--quiet", &quiet]),
        (
            (13, "actions"),
            402,
            "not_allowed",
            ["--deny-action", "chat"],
        ),
        (
            (13, "actions"),
            402,
            "not_allowed",
            ["--allow-action", "local_chat"],
        ),
        (
            (14, "payees"),
            402,
            "not_allowed",
            ["--deny-payee", &seller],
        ),
        ((15, "models"), 402, "not_allowed", ["--deny-model", "echo"]),
        (
            (16, "price ceiling"),
            402,
            "not_allowed",
            ["--price-ceiling", "0.999999"],
        ),
        ((20, "at once"), 429, "rate_limited", ["--in-flight", "0"]),
        (
            (21, "per-request"),
            402,
            "over_budget",
            ["--per-request", "0.000001"],
        ),
        ((22, "minute"), 402, "over_budget", ["--minute", "0.000001"]),
        ((23, "hourly"), 402, "over_budget", ["--hour", "0.000001"]),
        ((24, "daily"), 402, "over_budget", ["--day", "0.000001"]),
        (
            (25, "lifetime"),
            402,
            "over_budget",
            ["--lifetime", "0.000001"],
        ),
        (
            (26, "payee's daily"),
            402,
            "over_budget",
            ["--payee-day", "0.000001"],
        ),
        (
            (27, "reserve"),
            402,
            "over_budget",
            ["--reserve", "999.999999"],
        ),
        ((28, "pots"), 402, "over_budget", ["--pots", "earned"]),
        (
            (29, "approval"),
            402,
            "approval_required",
            ["--approval-above", "0"],
        ),
    ] {
        stage.grant(&terms).await;
        stage.refuses(rule, status, code).await;
    }
    stage
        .pair
        .b
        .ask(&["mandate", "revoke", "writer", "--yes"])
        .await;
    stage.refuses((10, "revoked"), 402, "not_allowed").await;
    // The other way round: what the terms allow goes through.
    let allowed = [
        "--allow-payee",
        &seller,
        "--allow-model",
        "echo",
        "--pots",
        "borrowed",
    ];
    stage
        .pair
        .b
        .ask(&[&["mandate", "grant", "writer"], &allowed[..]].concat())
        .await;
    let (status, answer) = stage.ask("one two three", "allowed").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        stage.pair.agree().await,
        trm(&answer["x_tirami"]["trm_cost"])
    );
}

#[tokio::test]
async fn a_burst_and_a_loop_are_stopped_and_say_until_when() {
    let stage = Stage::set().await;
    stage.grant(&["--spends-per-minute", "1"]).await;
    assert_eq!(stage.ask("first", "a").await.0, 200);
    stage.refuses((18, "60 seconds"), 429, "rate_limited").await;
    let (_, answer) = stage.ask("second", "b").await;
    let error = &answer["error"]["x_tirami"];
    assert_eq!(error["retryable"], true, "{answer}");
    assert!(error["retry_at"].is_string(), "{answer}");
    stage
        .grant(&["--spends-per-minute", "none", "--same-request", "2"])
        .await;
    assert_eq!(stage.ask("again", "c").await.0, 200);
    assert_eq!(stage.ask("again", "d").await.0, 200);
    let before = stage.pair.b.books().await;
    let (status, answer) = stage.ask("again", "e").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (429, &json!("rate_limited")),
        "{answer}"
    );
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("same request"),
        "{answer}"
    );
    assert_eq!(stage.pair.b.books().await, before, "nothing moved");
    assert_eq!(stage.ask("something else", "f").await.0, 200);
    stage.pair.agree().await;
}

#[tokio::test]
async fn an_alert_comes_at_each_share_of_a_limit_once() {
    let stage = Stage::set().await;
    stage.grant(&["--spends-per-minute", "5"]).await;
    let b = &stage.pair.b;
    let told = async |words: &[&str]| -> Vec<u64> {
        let told = b.ask(&[&["budget", "alerts"], words].concat()).await;
        let told = told["alerts"].as_array().unwrap().iter();
        told.filter(|one| one["limit"] == "spends_per_minute")
            .map(|one| {
                assert_eq!(one["agent"], "writer", "{one}");
                one["percent"].as_u64().unwrap()
            })
            .collect()
    };
    for (key, shares) in [
        ("a", [].as_slice()),
        ("b", &[]),
        ("c", &[50]),
        ("d", &[80, 50]),
        ("e", &[95, 80, 50]),
    ] {
        assert_eq!(stage.ask(key, key).await.0, 200);
        assert_eq!(told(&[]).await, shares, "after {key}");
    }
    stage.refuses((18, "60 seconds"), 429, "rate_limited").await;
    assert_eq!(told(&[]).await.len(), 3, "what was refused used nothing");
    assert_eq!(told(&["--token", &stage.token]).await, [95, 80, 50]);
    // What another is told of later takes no place of it.
    b.ask(&["budget", "tighten", "--spends-per-minute", "8"])
        .await;
    b.ask(&["chat", "its own", "--max-tokens", "5"]).await;
    let newest = b.ask(&["budget", "alerts", "--limit", "1"]).await;
    assert_eq!(newest["alerts"][0]["agent"], "main", "{newest}");
    let own = ["--token", &stage.token, "--limit", "1"];
    assert_eq!(told(&own).await, [95]);
    stage.pair.agree().await;
}

#[tokio::test]
async fn a_request_that_loops_is_explained_before_it_is_refused() {
    let stage = Stage::set().await;
    stage
        .grant(&["--spends-per-minute", "none", "--same-request", "2"])
        .await;
    let b = &stage.pair.b;
    let write = |name: &str, prompt: &str| {
        let mut body = chat(prompt, "whatever");
        body["max_tokens"] = 5.into();
        b.write(name, body.to_string())
    };
    let (same, other) = (write("same", "again"), write("other", "something else"));
    let seller = stage.pair.up.ready["node"].as_str().unwrap();
    let of = ["--payee", seller, "--model", "echo", "--price", "1"];
    let ask = async |command: &str, request: &[&str]| {
        let begin = ["--token", &stage.token, "budget", command, "0.01"];
        let ended = b.run(&[&begin, &of[..], request].concat()).await;
        let said: Value = serde_json::from_str(&ended.stdout).unwrap();
        (ended.code, said)
    };
    let first = ask("dry-run", &["--request", &same]).await;
    assert_eq!(first.0, 0, "{first:?}");
    for key in ["a", "b"] {
        assert_eq!(stage.ask("again", key).await.0, 200);
    }
    let before = b.books().await;
    let (code, said) = ask("dry-run", &["--request", &same]).await;
    assert_eq!(
        (code, &said["refusal_number"], &said["refusal"]["code"]),
        (3, &json!(19), &json!("rate_limited")),
        "{said}"
    );
    let passes_at = &said["passes_at"];
    assert!(passes_at.is_string(), "{said}");
    let (code, said) = ask("explain", &["--request", &same]).await;
    let rules = said["rules"].as_array().unwrap();
    let rule = rules
        .iter()
        .find(|rule| rule["number"] == 19 && rule["mandate"] == "writer")
        .unwrap();
    assert_eq!(
        (code, &rule["observed"], &rule["limit"], &rule["passes"]),
        (3, &json!("2"), &json!("2"), &json!(false)),
        "{rule}"
    );
    assert_eq!(&rule["passes_at"], passes_at, "{rule}");
    // Another request is none of the same, and without one nobody can say.
    for request in [&["--request", &other][..], &[]] {
        let (code, said) = ask("dry-run", request).await;
        assert_eq!(code, 0, "{said}");
    }
    assert_eq!(b.books().await, before, "nothing moved");
    // The gate says what was foretold.
    let (status, answer) = stage.ask("again", "c").await;
    assert_eq!(status, 429, "{answer}");
    assert_eq!(
        &answer["error"]["x_tirami"]["retry_at"], passes_at,
        "{answer}"
    );
}

#[tokio::test]
async fn a_provider_that_fails_stops_spending_for_a_while() {
    let Pair { a, b, up } = Pair::start().await;
    up.kill().await;
    let seller = start_limited(&a).await;
    b.without_breakers().await;
    b.ask(&["budget", "tighten", "--errors-in-row", "1"]).await;
    let up = Up::start(&b).await;
    let http = up.http(&b);
    // A provider whose disk is full takes the work and cannot book it.
    for n in 0.. {
        if n == 3 {
            fill_the_disk(&a, &seller);
        }
        let (status, answer) = http.post(CHAT, &chat(&words(200), &format!("k{n}"))).await;
        if status != 200 {
            assert_eq!(
                (status, &answer["error"]["code"]),
                (502, &json!("provider_failed")),
                "{answer}"
            );
            break;
        }
        assert!(n < PURCHASES_MAX, "its wallet did not have to grow");
    }
    let before = b.books().await;
    // Nobody else sells here, so the rule itself is asked.
    let ended = b.run(&["budget", "dry-run", "0.01"]).await;
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (
            ended.code,
            &said["refusal_number"],
            &said["refusal"]["code"]
        ),
        (3, &json!(17), &json!("rate_limited")),
        "{said}"
    );
    assert!(said["passes_at"].is_string(), "{said}");
    assert_eq!(b.books().await, before, "nothing moved");
}

#[tokio::test]
async fn every_door_refuses_what_a_mandate_does_not_allow() {
    let stage = Stage::set().await;
    stage.grant(&["--deny-model", "echo"]).await;
    let before = stage.pair.b.books().await;
    let mcp = Mcp::start_with(&stage.pair.b, &["--token", &stage.token]).await;
    let refused = mcp
        .refused("chat", json!({ "prompt": "hello", "max_tokens": 5 }))
        .await;
    refused.is("not_allowed", &["models"]);
    assert_eq!(refused.0["next_tool"], "budget");
    let quote = mcp
        .ask("quote", json!({ "prompt": "hello", "max_tokens": 5 }))
        .await;
    assert_eq!(quote["within_budget"], false, "{quote}");
    let words = [
        "--token",
        &stage.token,
        "chat",
        "hello",
        "--max-tokens",
        "5",
    ];
    stage
        .pair
        .b
        .refused(&words)
        .await
        .is(3, "not_allowed", &["models"]);
    assert_eq!(stage.pair.b.books().await, before, "nothing moved");
    let budget = mcp.ask("budget", json!({})).await;
    assert_eq!(
        (&budget["agent"], &budget["parent"]),
        (&json!("writer"), &json!("main"))
    );
}
