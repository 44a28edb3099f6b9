//! What a node has and did can be checked by someone who trusts nobody.

use serde_json::{Value, json};
use tirami_manifest::Amount;
use tirami_manifest::merkle::{Consistency, Hash};

use crate::cli::{EXE, Ended, Home, bare, finish};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, at, ticket, trm, until};

/// Runs `verify` on a file where there is neither node nor data directory.
pub(super) async fn verify(file: &str) -> Ended {
    let mut verify = bare(&[EXE]);
    verify.env_clear().args(["--json", "verify", file]);
    finish(verify).await
}

/// What a proof says, which holds.
async fn facts(home: &Home, what: &[&str]) -> Value {
    let file = home.text(&format!("{}.proof", what.join("-")));
    home.ask(&[&["prove"], what, &["--out", &file]].concat())
        .await;
    let ended = verify(&file).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(said["valid"], json!(true));
    said["facts"].clone()
}

/// One purchase of B at A; answers the receipt.
pub(super) async fn bought(pair: &Pair, prompt: &str) -> String {
    let mcp = Mcp::start(&pair.b).await;
    let answer = mcp
        .ask("chat", json!({ "prompt": prompt, "max_tokens": 20 }))
        .await;
    pair.agree().await;
    answer["receipt"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn both_chains_prove_a_trade_and_what_each_side_has() {
    let pair = Pair::start().await;
    let receipt = bought(&pair, "one two three").await;
    let mut chains = Vec::new();
    for (home, authority) in [(&pair.a, true), (&pair.b, false)] {
        let balance = facts(home, &["balance"]).await;
        let chain = facts(home, &["chain"]).await;
        let trade = facts(home, &["receipt", &receipt]).await;
        for field in ["node", "network", "head", "trm_spendable"] {
            assert_eq!(balance[field], chain[field], "{field}");
        }
        assert_eq!(trade["receipt"], json!(receipt));
        let short = home.ask(&["prove", "receipt", &receipt[..10]]).await;
        assert_eq!(short["says"], trade, "as tables show an id");
        assert_eq!(trade["under"], balance["seq"]);
        assert_eq!(
            balance["assurance"],
            if authority { "certified" } else { "signed" }
        );
        // The public position is what the node's own books say that it has.
        let books = home.books().await;
        assert_eq!(chain["trm_spendable"], books["balance"]["trm_balance"]);
        home.audit().await;
        chains.push(chain);
    }
    assert_eq!(chains[0]["trm_made"], "1000");
    assert_eq!(chains[1]["trm_loans"], "1000");
}

#[tokio::test]
async fn the_http_door_proves_and_checks_the_same() {
    let pair = Pair::start().await;
    let receipt = bought(&pair, "one two three").await;
    let http = pair.up.http(&pair.a);
    let (status, network) = http.get("/v1/tirami/network").await;
    assert_eq!((status, network["quorum"].as_u64()), (200, Some(1)));
    let (_, balance) = http.get("/v1/tirami/prove/balance").await;
    assert_eq!(balance["says"]["head"], network["head"]);
    let (_, proof) = http
        .get(&format!("/v1/tirami/prove/receipt/{receipt}"))
        .await;
    for file in [&balance, &proof] {
        let body = json!({ "proof": file.to_string() });
        let (status, checked) = http.post("/v1/tirami/verify", &body).await;
        assert_eq!(
            (status, &checked["valid"]),
            (200, &json!(true)),
            "{checked}"
        );
    }
    let (_, page) = http.get("/v1/tirami/chain?limit=2").await;
    assert_eq!(page["entries"].as_array().unwrap().len(), 2);
    assert_eq!(page["end"], Value::Null);
    // Whatever is altered in the words or in the bytes does not hold.
    let mut altered = balance.clone();
    altered["says"]["trm_spendable"] = json!("1000000");
    let mut other = balance.clone();
    let turned = |text: &str| text.replacen('0', "1", 1);
    other["certificate"] = json!(turned(balance["certificate"].as_str().unwrap()));
    for file in [altered, other] {
        let body = json!({ "proof": file.to_string() });
        let (status, checked) = http.post("/v1/tirami/verify", &body).await;
        assert_eq!((status, &checked["valid"]), (200, &json!(false)), "{file}");
        assert!(checked["reason"].is_string());
    }
    for (path, says) in [
        ("/v1/tirami/prove/receipt/abc", "64 hexadecimal"),
        ("/v1/tirami/chain?limit=0", "limit is 0"),
        ("/v1/tirami/chain?lim=3", "lim"),
    ] {
        let (status, refused) = http.get(path).await;
        assert_eq!(status, 400, "{path}: {refused}");
        assert!(refused.to_string().contains(says), "{path}: {refused}");
    }
    for path in [
        "identity",
        "anchor",
        "audit",
        "audit_log?limit=3",
        "prove/log?seq=1",
    ] {
        let (status, said) = http.get(&format!("/v1/tirami/{path}")).await;
        assert_eq!(status, 200, "{path}: {said}");
    }
    let (_, audit) = http.get("/v1/tirami/audit").await;
    assert_eq!(audit["holds"], true, "{audit}");
    let (status, statement) = http.post("/v1/tirami/statement", &json!({})).await;
    assert_eq!((status, &statement["trm_opening"]), (200, &json!("0")));
    let nobody = format!("/v1/tirami/prove/receipt/{}", "ab".repeat(32));
    assert_eq!(http.get(&nobody).await.0, 404);
    assert_eq!(http.with_token("x").get("/v1/tirami/chain").await.0, 401);
}

#[tokio::test]
async fn a_chain_that_was_cut_or_altered_does_not_verify() {
    let pair = Pair::start().await;
    bought(&pair, "one two three").await;
    bought(&pair, "four five six").await;
    let file = pair.b.text("chain.proof");
    pair.b.ask(&["prove", "chain", "--out", &file]).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // First line, genesis, loan, two trades, last line.
    assert_eq!(lines.len(), 6, "{text}");
    let without = |skip: usize| {
        let kept = lines.iter().enumerate().filter(|(i, _)| *i != skip);
        kept.map(|(_, line)| *line).collect::<Vec<_>>().join("\n")
    };
    let swapped = {
        let mut lines = lines.clone();
        lines.swap(3, 4);
        lines.join("\n")
    };
    let twice = [&lines[..5], &lines[4..]].concat().join("\n");
    let richer = text.replace("\"trm_spendable\":\"1000\"", "\"trm_spendable\":\"9000\"");
    assert_ne!(richer, text);
    let mut forged: Vec<String> = (0..lines.len()).map(without).collect();
    forged.extend([swapped, twice, richer]);
    for (n, text) in forged.iter().enumerate() {
        let file = pair.b.write(&format!("forged-{n}"), text);
        let refused = verify(&file).await.refused();
        refused.is(6, "invalid_input", &["does not hold"]);
    }
    assert_eq!(verify(&file).await.code, 0);
}

/// A buyer, a seller and the founder of their network, which is neither.
struct Three {
    founder: Home,
    buyer: Home,
    seller: Home,
    founder_up: Up,
    seller_up: Up,
}

impl Three {
    /// `config` is the seller's, beside what it sells.
    async fn start(config: &str) -> Self {
        let founder = Home::buyer();
        let founder_up = Up::start(&founder).await;
        let seller = Home::new(&format!(
            "model = \"echo\"\n{config}\npeers = [\"{}\"]\n",
            at(&founder_up)
        ));
        seller.ask(&["join", &ticket(&founder).await]).await;
        let seller_up = Up::start(&seller).await;
        let buyer = Home::new(&format!(
            "no_local = true\npeers = [\"{}\"]\n",
            at(&seller_up)
        ));
        buyer.ask(&["join", &ticket(&founder).await]).await;
        Self {
            founder,
            buyer,
            seller,
            founder_up,
            seller_up,
        }
    }
}

#[tokio::test]
async fn what_a_stranger_pays_waits_until_the_witness_certifies_it() {
    let net = Three::start("").await;
    let mcp = Mcp::start(&net.buyer).await;
    let answer = mcp
        .ask(
            "chat",
            json!({ "prompt": "one two three", "max_tokens": 20 }),
        )
        .await;
    assert_eq!(answer["provider"], net.seller_up.ready["node"]);
    let cost = trm(&answer["trm_cost"]);
    // It is earned at once and spendable once the payer's debit is certified.
    let balance = until("the credit is certified", async || {
        let books = net.seller.ask(&["balance"]).await;
        (trm(&books["trm_earned"]) == cost).then_some(books)
    })
    .await;
    let loan = Amount::from_trm(1_000);
    assert_eq!(
        trm(&balance["trm_balance"]),
        loan.checked_add(cost).unwrap()
    );
    let certified = until("both chains are certified", async || {
        let network = net.founder.ask(&["network"]).await;
        let seqs: Vec<u64> = network["certified"]
            .as_array()?
            .iter()
            .filter_map(|head| head["seq"].as_u64())
            .collect();
        // Genesis, loan, trade; and at the seller the credit.
        (seqs.iter().sum::<u64>() == 3 + 4).then_some(network)
    })
    .await;
    assert_eq!(certified["trm_members"], "2000", "{certified}");
    for home in [&net.buyer, &net.seller] {
        let chain = facts(home, &["chain"]).await;
        assert_eq!(chain["assurance"], "certified", "{chain}");
        home.audit().await;
    }
    net.founder.audit().await;
}

#[tokio::test]
async fn members_trade_while_the_witness_is_away_and_what_is_earned_waits() {
    let Three {
        founder,
        buyer,
        seller,
        founder_up,
        seller_up,
    } = Three::start("").await;
    founder_up.kill().await;
    let mcp = Mcp::start(&buyer).await;
    let ask = json!({ "prompt": "one two three", "max_tokens": 20 });
    let answer = mcp.ask("chat", ask).await;
    assert_eq!(answer["provider"], seller_up.ready["node"]);
    let waits = until("the sale is booked", async || {
        let books = seller.ask(&["balance"]).await;
        (books["trm_waiting"] != "0").then_some(books)
    })
    .await;
    assert_eq!(waits["trm_waiting"], answer["trm_cost"]);
    assert_eq!(
        (&waits["trm_balance"], &waits["trm_earned"]),
        (&json!("1000"), &json!("0"))
    );
    assert_eq!(
        seller.ask(&["network"]).await["trm_waiting"],
        answer["trm_cost"]
    );
    let _founder_up = Up::start(&founder).await;
    let balance = until("the credit is certified", async || {
        let books = seller.ask(&["balance"]).await;
        (books["trm_waiting"] == "0").then_some(books)
    })
    .await;
    assert_eq!(balance["trm_earned"], answer["trm_cost"]);
    for home in [&founder, &buyer, &seller] {
        home.audit().await;
    }
}

#[tokio::test]
async fn a_wallet_that_was_taken_back_is_certified_no_more_and_says_so() {
    let pair = Pair::start().await;
    let b = &pair.b;
    let certified = async |entries: u64| {
        until("the chain is certified", async || {
            let _up = Up::start(b).await;
            let proved = b.ask(&["prove", "balance"]).await["says"].clone();
            (proved["assurance"] == "certified" && proved["seq"] == entries).then_some(())
        })
        .await;
    };
    bought(&pair, "one two three").await;
    certified(3).await;
    let copy = b.text("copy.redb");
    b.ask(&["wallet", "backup", &copy]).await;
    bought(&pair, "four five six").await;
    certified(4).await;
    b.ask(&["wallet", "restore", &copy, "--yes"]).await;
    let mcp = Mcp::start(b).await;
    let ask = json!({ "prompt": "another history", "max_tokens": 20 });
    mcp.ask("chat", ask).await;
    let why = until("the witness was asked", async || {
        let network = b.ask(&["network"]).await;
        network["uncertified"].as_str().map(str::to_owned)
    })
    .await;
    assert!(why.contains("does not have"), "{why}");
    let status = b.ask(&["status"]).await;
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("before-restore"), "{status}");
    let doctor = b.run(&["doctor"]).await.stdout;
    assert!(
        doctor.contains("did not certify this node's chain"),
        "{doctor}"
    );
    // It proves no fraud of itself.
    assert_eq!(pair.a.ask(&["network"]).await["frauds"], json!([]));
}

#[tokio::test]
async fn a_founder_whose_wallet_was_taken_back_certifies_again_what_it_forgot() {
    let mut pair = Pair::start().await;
    let certified = async |b: &Home, entries: u64| {
        until("the chain is certified", async || {
            let _up = Up::start(b).await;
            let proved = b.ask(&["prove", "balance"]).await["says"].clone();
            (proved["assurance"] == "certified" && proved["seq"] == entries).then_some(proved)
        })
        .await
    };
    bought(&pair, "one two three").await;
    certified(&pair.b, 3).await;
    let copy = pair.a.text("copy.redb");
    pair.a.ask(&["wallet", "backup", &copy]).await;
    bought(&pair, "four five six").await;
    certified(&pair.b, 4).await;
    pair.up.kill_now().await;
    pair.a.ask(&["wallet", "restore", &copy, "--yes"]).await;
    let heads = async |pair: &Pair| pair.a.ask(&["network"]).await["certified"].clone();
    assert_eq!(heads(&pair).await[0]["seq"], 3, "the last one is forgotten");
    pair.up = Up::start(&pair.a).await;
    let mcp = Mcp::start(&pair.b).await;
    let ask = json!({ "prompt": "seven eight", "max_tokens": 20 });
    let answer = mcp.ask("chat", ask).await;
    drop(mcp);
    let proved = certified(&pair.b, 5).await;
    assert_eq!(proved["trm_spendable"], answer["trm_balance"]);
    assert_eq!(
        heads(&pair).await[0]["seq"],
        5,
        "what was forgotten included"
    );
    let network = pair.b.ask(&["network"]).await;
    assert_eq!(network["uncertified"], json!(null), "{network}");
    assert_eq!(network["frauds"], json!([]));
}

#[tokio::test]
async fn no_more_is_accepted_of_strangers_than_their_budget() {
    let net = Three::start("stranger_budget_trm = \"0.05\"").await;
    let mcp = Mcp::start(&net.buyer).await;
    let ask = json!({ "prompt": "one two three", "max_tokens": 20 });
    let refused = mcp.refused("chat", ask).await.0;
    assert!(
        refused.to_string().contains("is certified afterwards"),
        "{refused}"
    );
    let books = net.seller.ask(&["balance"]).await;
    assert_eq!(books["trm_earned"], "0");
    assert_eq!(net.buyer.ask(&["balance"]).await["trm_held"], "0");
}

#[tokio::test]
async fn tokens_and_the_owner_are_in_the_log() {
    let home = Home::new("");
    let _up = Up::start(&home).await;
    home.init_owner().await;
    let log = home.ask(&["audit", "--events", "--limit", "500"]).await;
    for event in ["token", "owner"] {
        let entries = log["entries"].as_array().unwrap();
        assert!(
            entries.iter().any(|entry| entry["event"] == event),
            "{event}: {log}"
        );
    }
}

#[tokio::test]
async fn everything_that_happens_is_in_the_log_and_the_log_only_grows() {
    let pair = Pair::start().await;
    bought(&pair, "one two three").await;
    let early = pair.b.ask(&["audit", "--events"]).await;
    let size = early["size"].as_u64().unwrap();
    let mcp = Mcp::start(&pair.b).await;
    let refused = mcp
        .refused("chat", json!({ "prompt": "x", "max_trm": "0.000001" }))
        .await;
    drop(refused);
    pair.b
        .ask(&["budget", "tighten", "--per-request", "0.001"])
        .await;
    mcp.refused("chat", json!({ "prompt": "one two three" }))
        .await;
    mcp.ask("freeze", json!({ "reason": "to see it in the log" }))
        .await;
    let log = mcp.ask("audit_log", json!({ "limit": 10 })).await;
    let events: Vec<&str> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["event"].as_str().unwrap())
        .collect();
    for event in ["freeze", "refused", "mandate"] {
        assert!(events.contains(&event), "{event}: {log}");
    }
    // The later journal begins with the earlier one, and its newest entry is in it.
    let late = log["size"].as_u64().unwrap();
    let grown = pair
        .b
        .ask(&["prove", "log", "--from", &size.to_string()])
        .await;
    let path = serde_json::from_value(grown["path"].clone()).unwrap();
    let (from, to) = (grown["from"].as_u64(), grown["says"]["size"].as_u64());
    assert_eq!((from, to), (Some(size), Some(late)));
    let (from, to) = (size, late);
    let proof = Consistency { from, to, path };
    let root = |of: &Value| serde_json::from_value::<Hash>(of["root"].clone()).unwrap();
    assert!(proof.holds(&root(&early), &root(&log)));
    assert!(!proof.holds(&root(&log), &root(&early)));
    let entry = pair
        .b
        .ask(&["prove", "log", "--seq", &late.to_string()])
        .await;
    assert_eq!(entry["says"]["seq"].as_u64(), Some(late));
    pair.b.audit().await;
    // What a tool says of itself is what the command line says.
    let identity = mcp.ask("identity", json!({})).await;
    let said = pair.b.ask(&["identity"]).await;
    for field in ["node", "did", "network", "agent"] {
        assert_eq!(identity[field], said[field], "{field}");
    }
    assert!(
        identity["did"]
            .as_str()
            .unwrap()
            .starts_with("did:key:z6Mk")
    );
    let network = mcp.ask("network", json!({})).await;
    assert_eq!(network["quorum"], 1);
    let balance = pair.b.run(&["prove", "balance"]).await.stdout;
    let checked = mcp.ask("verify", json!({ "proof": balance })).await;
    assert_eq!(checked["valid"], true, "{checked}");
    let statement = mcp.ask("statement", json!({})).await;
    assert_eq!(statement["trm_opening"], "0");
    let file = pair.b.text("anchors");
    for lines in 1..=2 {
        let anchor = pair.b.ask(&["prove", "anchor", "--append", &file]).await;
        assert_eq!(anchor["payload"].as_str().unwrap().len(), 2 * 61);
        let kept = std::fs::read_to_string(&file).unwrap();
        assert_eq!(kept.lines().count(), lines);
    }
}

/// What a second implementation is held against, through the command line: receipts, chains, balances, statements,
/// proofs of inclusion, of fraud and about a journal, archives, a mandate; and what was forged of them.
#[tokio::test]
async fn every_golden_file_is_judged_as_its_folder_says() {
    let files = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifest/tests/files");
    for (folder, kinds) in [("valid", 11), ("forged", 0)] {
        let (mut judged, mut seen) = (0, std::collections::BTreeSet::new());
        for file in std::fs::read_dir(files.join(folder)).unwrap() {
            let path = file.unwrap().path();
            let ended = verify(path.to_str().unwrap()).await;
            if folder == "valid" {
                assert_eq!(ended.code, 0, "{path:?}: {ended:?}");
                let said: Value = serde_json::from_str(&ended.stdout).unwrap();
                seen.insert(said["kind"].as_str().unwrap().to_owned());
            } else {
                ended.refused().is(6, "invalid_input", &["does not hold"]);
            }
            judged += 1;
        }
        assert!(
            judged >= 10 && seen.len() == kinds,
            "{folder}: {judged} {seen:?}"
        );
    }
}
