//! The node's key: under a passphrase, changed, and on its way to another machine.

use serde_json::{Value, json};
use std::path::PathBuf;

use tirami_manifest::Amount;

use crate::cli::{EXE, Home, bare, contents, finish};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, trm, until};

/// One purchase of B at A.
async fn buys(pair: &Pair, key: &str) -> String {
    let mcp = Mcp::start(&pair.b).await;
    let ask = json!({ "prompt": "one two three", "max_tokens": 20, "idempotency_key": key });
    let answer = mcp.ask("chat", ask).await;
    pair.agree().await;
    answer["receipt"].as_str().unwrap().to_owned()
}

fn file(home: &Home, name: &str) -> PathBuf {
    home.data().join(name)
}

/// Changes the key, once every receipt has reached its provider.
async fn rotate(home: &Home, more: &[&str]) -> Value {
    let words = [&["key", "rotate", "--yes"], more].concat();
    until("nothing is on its way", async || {
        let ended = home.run(&words).await;
        if ended.code == 0 {
            return Some(serde_json::from_str(&ended.stdout).unwrap());
        }
        let refused = ended.refused();
        assert!(refused.text.contains("has not reached"), "{refused:?}");
        let _up = Up::start(home).await;
        until("the books agree", async || {
            let status = home.ask(&["balance"]).await;
            status["trm_held"].is_string().then_some(())
        })
        .await;
        None
    })
    .await
}

/// What `verify` says of the proof that `what` makes.
async fn facts(home: &Home, name: &str, what: &[&str]) -> Value {
    let file = home.text(name);
    home.ask(&[&["prove"], what, &["--out", &file]].concat())
        .await;
    let mut verify = bare(&[EXE]);
    verify.env_clear().args(["--json", "verify", &file]);
    let ended = finish(verify).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    said["facts"].clone()
}

#[tokio::test]
async fn a_member_changes_its_key_and_the_witness_follows() {
    let pair = Pair::start().await;
    let b = &pair.b;
    let receipt = buys(&pair, "one").await;
    let before = b.ask(&["identity"]).await;
    assert_eq!(
        (&before["successor"], &before["keys_before"]),
        (&json!("named"), &json!([]))
    );
    // The successor's key is where its owner put it.
    let kept = b.text("kept-elsewhere.key");
    std::fs::rename(file(b, "successor.key"), &kept).unwrap();
    let money = b.ask(&["balance"]).await;
    let rotated = rotate(b, &["--successor", &kept]).await;
    assert_eq!(rotated["before"], before["node"]);
    let after = b.ask(&["identity"]).await;
    assert_eq!(after["node"], rotated["node"]);
    assert_eq!(after["keys_before"], json!([before["node"]]));
    assert_eq!(
        b.ask(&["balance"]).await["trm_balance"],
        money["trm_balance"]
    );
    b.audit().await;

    // The witness keeps one member, under the new key, with the same money.
    buys(&pair, "two").await;
    let has = b.ask(&["balance"]).await["trm_balance"].clone();
    until("the new chain is certified", async || {
        let _up = Up::start(b).await;
        let proved = b.ask(&["prove", "balance"]).await["says"].clone();
        (proved["assurance"] == "certified" && proved["trm_spendable"] == has).then_some(())
    })
    .await;
    let heads = pair.a.ask(&["network"]).await["certified"].clone();
    assert_eq!(heads[0]["node"], after["node"], "{heads}");
    assert_eq!(heads.as_array().unwrap().len(), 1, "{heads}");
    let members = pair.a.ask(&["balance"]).await["members"].clone();
    assert_eq!(members.as_array().unwrap().len(), 1, "{members}");
    // The file of its whole history has both chains, and what was bought before is still proved.
    let chain = facts(b, "chain", &["chain"]).await;
    assert_eq!(
        (&chain["node"], &chain["assurance"]),
        (&after["node"], &json!("certified"))
    );
    let trade = facts(b, "trade", &["receipt", &receipt]).await;
    assert_eq!(trade["node"], before["node"]);
    let loans = b.ask(&["loans"]).await;
    assert_eq!(loans["trm_owed"], "1000", "{loans}");
    b.ask(&["loans", "repay", "100"]).await;
    until("the lender has booked it", async || {
        let _up = Up::start(b).await;
        let lent = pair.a.ask(&["loans"]).await;
        (lent["lent"][0]["trm_owed"] == "900").then_some(())
    })
    .await;
    let entries = b.ask(&["history", "--limit", "20"]).await["entries"].clone();
    let entries = entries.as_array().unwrap().iter();
    let repaid: Vec<_> = entries
        .filter(|entry| entry["trm_amount"] == "100")
        .collect();
    assert_eq!(repaid.len(), 2, "{repaid:?}");
    let of_a_receipt = |entry: &&&Value| !entry["receipt"].is_null();
    assert_eq!(repaid.iter().find(of_a_receipt), None);
    pair.a.audit().await;
    b.audit().await;
}

#[tokio::test]
async fn a_key_is_changed_for_the_one_that_was_named_and_while_no_node_runs() {
    let pair = Pair::start().await;
    let b = &pair.b;
    buys(&pair, "one").await;
    let kept = b.text("kept-elsewhere.key");
    std::fs::rename(file(b, "successor.key"), &kept).unwrap();
    let missing = b.refused(&["key", "rotate", "--yes"]).await;
    missing.is(5, "not_found", &["successor.key", "--successor"]);
    let stranger = Home::buyer();
    stranger.ask(&["balance"]).await;
    let wrong = stranger.data().join("successor.key");
    let state = contents(&b.data());
    let rotate = ["key", "rotate", "--yes", "--successor"];
    let refused = b
        .refused(&[&rotate[..], &[wrong.to_str().unwrap()]].concat())
        .await;
    assert!(
        refused.text.contains("not the key that the chain named"),
        "{refused:?}"
    );
    assert_eq!(
        contents(&b.data()).len(),
        state.len(),
        "nothing is left behind"
    );
    let up = Up::start(b).await;
    let running = b.refused(&[&rotate[..], &[&kept]].concat()).await;
    assert!(running.text.contains("a node runs"), "{running:?}");
    up.kill().await;

    b.audit().await;
}

#[tokio::test]
async fn a_change_of_keys_that_was_interrupted_comes_to_its_end() {
    let pair = Pair::start().await;
    let b = &pair.b;
    buys(&pair, "one").await;
    let old = std::fs::read(file(b, "node.key")).unwrap();
    let rotated = rotate(b, &[]).await;
    // As it was after the wallet knew of it and before any key was put in its place.
    std::fs::rename(file(b, "successor.key"), file(b, "next.key")).unwrap();
    std::fs::rename(file(b, "node.key"), file(b, "successor.key")).unwrap();
    crate::cli::private(&file(b, "node.key"), &old);
    // Two processes at once find it so, and one of them ends it.
    let words = ["identity"];
    let (one, two) = tokio::join!(b.ask(&words), b.ask(&words));
    for said in [one, two] {
        assert_eq!(said["node"], rotated["node"]);
    }
    assert!(file(b, "successor.key").exists() && !file(b, "next.key").exists());
    // And between the two.
    std::fs::rename(file(b, "successor.key"), file(b, "next.key")).unwrap();
    assert_eq!(b.ask(&["identity"]).await["node"], rotated["node"]);
    assert!(file(b, "successor.key").exists() && !file(b, "next.key").exists());
    rotate(b, &[]).await;
    b.audit().await;
}

#[tokio::test]
async fn the_founders_key_is_in_the_genesis_for_good() {
    let pair = Pair::start().await;
    buys(&pair, "one").await;
    let Pair { a, up, .. } = pair;
    up.kill().await;
    let before = contents(&a.data()).len();
    let refused = a.refused(&["key", "rotate", "--yes"]).await;
    assert!(refused.text.contains("genesis"), "{refused:?}");
    assert_eq!(contents(&a.data()).len(), before);
    a.audit().await;
}

#[tokio::test]
async fn a_key_under_a_passphrase_opens_nothing_without_it() {
    let home = Home::buyer();
    let node = home.ask(&["identity"]).await["node"].clone();
    let plain = std::fs::read(file(&home, "node.key")).unwrap();
    let secret = home.write("secret", "correct horse battery\n");
    let short = home.write("short", "1234567\n");
    let protect = ["key", "protect", "--new-passphrase-file"];
    let refused = home.refused(&[&protect[..], &[&short]].concat()).await;
    refused.is(2, "invalid_input", &["8"]);
    home.ask(&[&protect[..], &[&secret]].concat()).await;
    for name in ["node.key", "successor.key"] {
        let bytes = std::fs::read(file(&home, name)).unwrap();
        assert!(bytes.starts_with(b"tirami-node-01"), "{name}");
        assert!(!bytes.windows(32).any(|part| part == plain), "{name}");
    }
    let locked = home.refused(&["balance"]).await;
    assert!(locked.text.contains("passphrase"), "{locked:?}");
    let wrong = home.write("wrong", "correct horse batter\n");
    let refused = home
        .refused(&["--key-passphrase-file", &wrong, "balance"])
        .await;
    assert!(refused.text.contains("wrong"), "{refused:?}");
    let opened = ["--key-passphrase-file", &secret, "identity"];
    assert_eq!(home.ask(&opened).await["node"], node);
    // The config file can name it, and whoever is attached to a node that runs needs none.
    let config = home.path("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("key_passphrase_file = \"secret\"\n{text}")).unwrap();
    let up = Up::start(&home).await;
    std::fs::write(&config, &text).unwrap();
    assert_eq!(home.ask(&["identity"]).await["node"], node);
    up.kill().await;
    home.refused(&["balance"]).await;
    let doctor = home
        .run(&["--key-passphrase-file", &secret, "doctor"])
        .await;
    assert!(
        doctor.stdout.contains("the node's key is under one"),
        "{doctor:?}"
    );
    assert!(
        doctor.stdout.contains("none are written of this program"),
        "{doctor:?}"
    );
    home.ask(&[
        "--key-passphrase-file",
        &secret,
        "key",
        "unprotect",
        "--yes",
    ])
    .await;
    assert_eq!(std::fs::read(file(&home, "node.key")).unwrap(), plain);
    assert_eq!(home.ask(&["identity"]).await["node"], node);
}

#[tokio::test]
async fn a_node_moves_to_another_directory_and_runs_in_one_place() {
    let pair = Pair::start().await;
    let b = &pair.b;
    buys(&pair, "one").await;
    b.init_owner().await;
    let books = b.books().await;
    let secret = b.write("secret", "correct horse battery\n");
    let to = b.text("bundle");
    let with = ["--bundle-passphrase-file", secret.as_str()];
    let export = [&["wallet", "export", to.as_str(), "--yes"], &with[..]].concat();
    let made = b.ask(&export).await;
    assert!(made["wallet_bytes"].as_u64().unwrap() > 0, "{made}");
    // Nothing in it can be read.
    let bytes = std::fs::read(&to).unwrap();
    for name in ["node.key", "agent.token", "owner.key"] {
        let secret = std::fs::read(file(b, name)).unwrap();
        let secret = secret.trim_ascii_end();
        assert!(
            !bytes.windows(secret.len()).any(|part| part == secret),
            "{name}"
        );
    }
    // Where it was, it starts no more.
    let gone = b.refused(&["balance"]).await;
    gone.is(8, "store", &["left", "wallet import"]);
    b.refused(&export).await.is(8, "store", &["left"]);

    let other = Home::buyer();
    let import = [&["wallet", "import", to.as_str()], &with[..]].concat();
    other.ask(&import).await;
    // A crash before its last step leaves its folder, empty; the next start removes it.
    std::fs::create_dir(file(&other, "importing")).unwrap();
    assert_eq!(other.books().await, books);
    assert_eq!(
        contents(&other.data())
            .iter()
            .filter(|(_, mode, ..)| mode & 0o077 != 0)
            .count(),
        0
    );
    // It has its owner, and goes on as the same member.
    other.ask(&["owner", "status"]).await;
    let moved = Pair {
        a: pair.a,
        b: other,
        up: pair.up,
    };
    buys(&moved, "two").await;
    let there = moved.b.refused(&import).await;
    there.is(2, "invalid_input", &["already"]);
    // Where it came from takes back only this bundle, which is a mistake that nothing here can see; the
    // witness can.
    pair.b.ask(&import).await;
    assert_eq!(pair.b.books().await, books);
    assert_ne!(
        trm(&moved.b.ask(&["balance"]).await["trm_spent"]),
        Amount::ZERO
    );
}

#[tokio::test]
async fn a_bundle_that_was_changed_or_has_another_passphrase_brings_nothing() {
    let home = Home::buyer();
    home.ask(&["balance"]).await;
    let secret = home.write("secret", "correct horse battery\n");
    let with = ["--bundle-passphrase-file", secret.as_str()];
    let before = contents(&home.data());
    let taken = home.write("taken", "a file that is there");
    let export = |to: &str| -> Vec<String> {
        let words = ["wallet", "export", to, "--yes"].into_iter().chain(with);
        words.map(str::to_owned).collect()
    };
    let refused = home.refused(&export(&taken)).await;
    refused.is(2, "invalid_input", &["left alone"]);
    assert_eq!(contents(&home.data()), before);
    let to = home.text("bundle");
    home.ask(&export(&to)).await;
    let whole = std::fs::read(&to).unwrap();

    let other = Home::buyer();
    let import = |with: &str| {
        let flag = "--bundle-passphrase-file";
        ["wallet", "import", to.as_str(), flag, with].map(str::to_owned)
    };
    let wrong = home.write("wrong", "correct horse batter\n");
    let refused = other.refused(&import(&wrong)).await;
    refused.is(4, "owner_required", &["passphrase"]);
    let cut = whole[..whole.len() - 1].to_vec();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    let longer = [whole.clone(), vec![0]].concat();
    for (what, bytes) in [("cut", cut), ("changed", changed), ("longer", longer)] {
        std::fs::write(&to, bytes).unwrap();
        other.refused(&import(&secret)).await;
        assert_eq!(contents(&other.data()), [], "{what}");
    }
    std::fs::write(&to, whole).unwrap();
    other.ask(&import(&secret)).await;
    other.audit().await;
}
