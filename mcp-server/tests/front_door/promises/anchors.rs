//! What is known of all chains under one root, and what ties a chain to it.

use serde_json::{Value, json};
use tirami_manifest::anchor::Heads;
use tirami_manifest::{EntryId, NodeId};

use super::chain::{bought, verify};
use crate::cli::{EXE, Home, finish};
use crate::nodes::{Pair, Up, until};

/// A member whose newest entry its founder certified, both nodes running.
async fn certified() -> (Pair, Up) {
    let pair = Pair::start().await;
    bought(&pair, "one two three").await;
    let up = Up::start(&pair.b).await;
    until("the member's chain is certified", async || {
        let head = pair.b.ask(&["network"]).await["head"].clone();
        let network = pair.a.ask(&["network"]).await;
        (network["certified"][0]["head"] == head).then_some(())
    })
    .await;
    (pair, up)
}

/// A node's newest entry, as it says itself.
async fn head(home: &Home) -> (NodeId, u64, EntryId) {
    let said = home.ask(&["prove", "balance"]).await["says"].clone();
    let of = |field: &str| said[field].clone();
    (
        serde_json::from_value(of("node")).unwrap(),
        said["seq"].as_u64().unwrap(),
        serde_json::from_value(of("head")).unwrap(),
    )
}

/// A founder knows its own chain and those it certified, a member its own: who knows the same entries comes to
/// the same root, and so does whoever asks everybody.
#[tokio::test]
async fn the_root_in_network_is_over_the_chains_that_are_known_there() {
    let (pair, _up) = certified().await;
    let (a, b) = (head(&pair.a).await, head(&pair.b).await);
    for (home, heads) in [(&pair.a, vec![b, a]), (&pair.b, vec![b])] {
        let (chains, heads) = (heads.len(), Heads::new(heads));
        let network = home.ask(&["network"]).await;
        assert_eq!(network["chains"], json!(chains));
        assert_eq!(network["root"], json!(heads.root()));
        let anchor = home.ask(&["prove", "anchor"]).await;
        for field in ["chains", "root", "network"] {
            assert_eq!(anchor[field], network[field], "{field}");
        }
        let screen = home.screen(&["network"]).await;
        assert!(screen.contains(&format!("{:?}", heads.root())), "{screen}");
    }
    let http = pair.up.http(&pair.a);
    let (_, network) = http.get("/v1/tirami/network").await;
    assert_eq!(network["chains"], json!(2), "{network}");
    // What changes a chain changes the root.
    let before = pair.b.ask(&["network"]).await["root"].clone();
    bought(&pair, "four five six").await;
    assert_ne!(pair.b.ask(&["network"]).await["root"], before);
}

/// The payload and the proof that ties the node's chain to it come from one call; whoever finds the payload
/// published somewhere checks the proof without a node.
#[tokio::test]
async fn a_chain_is_tied_to_an_anchor_and_to_no_other() {
    let (pair, _up) = certified().await;
    let log = pair.a.text("anchors");
    let mut proofs = Vec::new();
    for (n, home) in [&pair.a, &pair.b, &pair.a].into_iter().enumerate() {
        if n == 2 {
            bought(&pair, "four five six").await;
        }
        let file = pair.a.text(&format!("anchored-{n}"));
        let made = home
            .ask(&["prove", "anchor", "--append", &log, "--proof", &file])
            .await;
        let ended = verify(&file).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        let said: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(said["kind"], "anchored");
        let (facts, own) = (&said["facts"], head(home).await);
        assert_eq!(
            (&facts["node"], &facts["head"]),
            (&json!(own.0), &json!(own.2))
        );
        for field in ["payload", "root", "chains", "at", "network"] {
            assert_eq!(facts[field], made[field], "{field}");
        }
        assert_eq!(facts["proves"], "existed_before_the_payload_was_published");
        let text = std::fs::read_to_string(&file).unwrap();
        proofs.push(serde_json::from_str::<Value>(&text).unwrap());
        // What is published is short; the proof stays with the node.
        let kept = std::fs::read_to_string(&log).unwrap();
        let line: Value = serde_json::from_str(kept.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&line["payload"], &line["proof"]),
            (&made["payload"], &Value::Null)
        );
    }
    let mut altered = Vec::new();
    for (n, field) in [
        (0, "payload"),
        (0, "entry"),
        (0, "path"),
        (1, "path"),
        (2, "payload"),
    ] {
        let mut proof = proofs[n].clone();
        proof[field] = proofs[(n + 1) % 3][field].clone();
        altered.push(proof.clone());
        proof["says"] = proofs[(n + 1) % 3]["says"].clone();
        altered.push(proof);
    }
    let mut words = proofs[0].clone();
    words["says"]["proves"] = json!("everything");
    altered.push(words);
    for (n, proof) in altered.iter().enumerate() {
        let file = pair.a.write(&format!("altered-{n}"), proof.to_string());
        let refused = verify(&file).await.refused();
        refused.is(6, "invalid_input", &["does not hold"]);
    }
    let screen = pair.a.screen(&["verify", &pair.a.text("anchored-0")]).await;
    assert!(
        screen.contains("existed before the payload was published"),
        "{screen}"
    );
}

/// The same over HTTP; and where the proof cannot be kept, nothing is appended.
#[tokio::test]
async fn what_belongs_to_an_anchor_is_kept_or_nothing_is() {
    let pair = Pair::start().await;
    let (http, log) = (pair.up.http(&pair.a), pair.a.text("anchors"));
    let (_, made) = http.get("/v1/tirami/anchor").await;
    let body = json!({ "proof": made["proof"].to_string() });
    let (_, checked) = http.post("/v1/tirami/verify", &body).await;
    assert_eq!(
        (&checked["valid"], &checked["kind"]),
        (&json!(true), &json!("anchored"))
    );
    let file = pair.a.text("anchored");
    let command = ["prove", "anchor", "--append", &log, "--proof", &file];
    pair.a.ask(&command).await;
    let kept = std::fs::read_to_string(&log).unwrap();
    let refused = pair.a.refused(&command).await;
    refused.is(2, "invalid_input", &["exists already", "another file"]);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), kept);
}

/// Whatever was cut off before stays a line of its own, and a line that finds no room leaves nothing behind.
#[tokio::test]
async fn a_transparency_file_has_whole_lines() {
    let pair = Pair::start().await;
    let log = pair.a.write("anchors", "{\"payload\":\"54524d");
    let append = ["prove", "anchor", "--append", &log];
    let made = pair.a.ask(&append).await;
    let kept = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = kept.lines().collect();
    assert_eq!(lines.len(), 2, "{kept}");
    let line: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(line["payload"], made["payload"]);
    assert!(kept.ends_with('\n'), "{kept}");
    // Room for a part of the line: 8 blocks of 512 bytes, of which 40 are left.
    let full = format!("{}\n", "x".repeat(8 * 512 - 41));
    std::fs::write(&log, &full).unwrap();
    let limited = [
        "sh",
        "-c",
        "trap '' XFSZ; ulimit -f 8; exec \"$@\"",
        "sh",
        EXE,
    ];
    let mut command = pair.a.command_by(&limited, &append);
    command.arg("--json");
    let refused = finish(command).await.refused();
    refused.is(8, "store", &["anchors", "taken back"]);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), full);
}

/// Before its first entry a node has nothing that could be anchored.
#[tokio::test]
async fn no_proof_is_made_where_there_is_no_chain() {
    let home = Home::new("");
    drop(Up::start(&home).await);
    let (log, proof) = (home.text("anchors"), home.text("anchored"));
    let refused = home
        .refused(&["prove", "anchor", "--append", &log, "--proof", &proof])
        .await;
    refused.is(5, "not_found", &["nothing has happened"]);
    assert!(!home.path("anchors").exists() && !home.path("anchored").exists());
}
