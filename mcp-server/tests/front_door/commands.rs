//! Commands that are promises of their own: the demo, the manifest, the doctor, the schedule.

use serde_json::{Value, json};

#[cfg(feature = "llama")]
use crate::cli;
use crate::cli::Home;
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, trm};

// The demo sells sprout.
#[cfg(feature = "llama")]
#[tokio::test]
async fn the_demo_keeps_every_promise() {
    let mut command = cli::bare(&[cli::EXE]);
    command.args(["demo", "--json"]);
    let ended = cli::finish(command).await;
    assert_eq!(ended.code, 0, "{} {}", ended.stdout, ended.stderr);
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(said["passed"], true, "{said:#}");
    let steps = said["steps"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["passed"] == true), "{said:#}");
    assert_eq!(steps.len(), 6, "{said:#}");
}

#[tokio::test]
async fn schedule_says_who_and_why() {
    let pair = Pair::start().await;
    let mcp = Mcp::start(&pair.b).await;
    let seller = pair.a.ask(&["status"]).await["node"].clone();
    let plan = mcp
        .call("schedule", json!({"prompt": "who?"}))
        .await
        .unwrap();
    assert_eq!(plan["chosen"], seller, "{plan:#}");
    let first = &plan["candidates"][0];
    assert_eq!(first["reason"], "cheapest expected total", "{plan:#}");
    assert!(!trm(&first["trm_estimate"]).is_zero());
    let plan = mcp
        .call("schedule", json!({"model": "no-such-model"}))
        .await
        .unwrap();
    assert_eq!(plan["chosen"], Value::Null, "{plan:#}");
    let first = &plan["candidates"][0];
    assert_eq!(first["reason"], "another model was asked for", "{plan:#}");
    let spent = pair.b.ask(&["balance"]).await["trm_spent"].clone();
    assert_eq!(spent, "0", "planning costs nothing");
}

#[tokio::test]
async fn a_manifest_verifies_over_http_and_an_altered_one_does_not() {
    let home = Home::seller();
    let up = Up::start(&home).await;
    let base = up.ready["http"].as_str().unwrap().to_owned();
    let seen = home.ask(&["manifest", "--verify", &base]).await;
    let status = home.ask(&["status"]).await;
    assert!(
        seen.to_string().contains(status["node"].as_str().unwrap()),
        "{seen:#}"
    );
    let (code, served) = up.http(&home).get("/.well-known/tirami-agent.json").await;
    assert_eq!(code, 200);
    let whole = home.write("manifest.json", served.to_string());
    home.ask(&["manifest", "--verify", &whole]).await;
    let cheaper = served
        .to_string()
        .replace("\"multiplier_ppm\":1000000", "\"multiplier_ppm\":1");
    assert_ne!(cheaper, served.to_string());
    let altered = home.write("altered.json", cheaper);
    let refused = home.refused(&["manifest", "--verify", &altered]).await;
    assert!(refused.text.contains("signature"), "{}", refused.text);
    assert_eq!(refused.exit, 6, "{}", refused.text);
}

#[tokio::test]
async fn doctor_finds_what_is_wrong() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::seller();
    home.ask(&["status"]).await;
    let well = home.ask(&["doctor"]).await;
    let owner = check(&well, "owner");
    assert_eq!(owner["state"], "warn", "{well:#}");
    assert!(
        owner["way_out"].as_str().unwrap().contains("owner init"),
        "{well:#}"
    );
    let key = home.data().join("node.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = home.run(&["doctor"]).await;
    assert_ne!(ended.code, 0, "{}", ended.stdout);
    let ill: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(check(&ill, "node key")["state"], "fail", "{ill:#}");
    assert!(
        check(&ill, "node key")["way_out"]
            .to_string()
            .contains("chmod 600"),
        "{ill:#}"
    );
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap()
}

/// Whoever mistypes a directory sees that it is not theirs.
#[tokio::test]
async fn a_command_that_makes_a_node_says_so_once() {
    let home = Home::buyer();
    let said = "there was no node in";
    let ended = home.run(&["balance"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let data = home.data().display().to_string();
    assert!(
        ended.stderr.contains(&format!("{said} {data}")),
        "{ended:?}"
    );
    let ended = home.run(&["balance"]).await;
    assert!(!ended.stderr.contains(said), "{ended:?}");
}
