//! The books as people and programs read them: they add up, they filter, they fit the screen.

use serde_json::{Value, json};
use tirami_manifest::Amount;

use crate::cli::Home;
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, question, sum, trm};

/// A pair whose buyer bought three answers.
async fn traded() -> Pair {
    let pair = Pair::start().await;
    let mcp = Mcp::start(&pair.b).await;
    for n in 0..3 {
        mcp.ask("chat", question(3 + n, &format!("k{n}"))).await;
    }
    pair.agree().await;
    pair
}

async fn statement(home: &Home, words: &[&str]) -> Value {
    home.ask(&[&["wallet", "statement"], words].concat()).await
}

#[track_caller]
fn adds_up(statement: &Value) {
    let mut balance = trm(&statement["trm_opening"]);
    for line in statement["lines"].as_array().unwrap() {
        balance = sum([balance, trm(&line["trm_in"])])
            .checked_sub(trm(&line["trm_out"]))
            .unwrap();
        assert_eq!(trm(&line["trm_balance"]), balance, "{line}");
    }
    assert_eq!(trm(&statement["trm_closing"]), balance);
}

#[tokio::test]
async fn a_statement_adds_up_to_the_balance_and_two_parts_to_the_whole() {
    let pair = traded().await;
    for home in [&pair.a, &pair.b] {
        let whole = statement(home, &[]).await;
        adds_up(&whole);
        let balance = home.ask(&["balance"]).await;
        let has = sum([trm(&balance["trm_balance"]), trm(&balance["trm_held"])]);
        assert_eq!(trm(&whole["trm_closing"]), has, "{whole:#}");
        assert_eq!(whole["trm_opening"], "0");
        let lines = whole["lines"].as_array().unwrap();
        assert!(lines.len() >= 3, "{whole:#}");
        let middle = lines[lines.len() / 2]["at"].as_str().unwrap();
        let first = statement(home, &["--to", middle]).await;
        let second = statement(home, &["--from", middle]).await;
        adds_up(&first);
        adds_up(&second);
        assert_eq!(first["trm_closing"], second["trm_opening"]);
        assert_eq!(second["trm_closing"], whole["trm_closing"]);
        // The same as CSV.
        let csv = home.screen(&["wallet", "statement"]).await;
        let mut rows = csv::Reader::from_reader(csv.as_bytes());
        let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), lines.len() + 2);
        let total = |column: usize| {
            sum(rows.iter().map(|row| match &row[column] {
                "" => Amount::ZERO,
                amount => amount.parse().unwrap(),
            }))
        };
        let closing: Amount = rows.last().unwrap()[7].parse().unwrap();
        assert_eq!(total(5).checked_sub(total(6)), Some(closing));
        assert_eq!(closing, has);
    }
}

#[tokio::test]
async fn history_filters_and_pages() {
    let pair = traded().await;
    let b = &pair.b;
    let history = async |words: &[&str]| {
        let page = b.ask(&[&["wallet", "history"], words].concat()).await;
        page["entries"].as_array().unwrap().clone()
    };
    let purchases = history(&["--reason", "purchase"]).await;
    assert_eq!(purchases.len(), 3);
    let newest = &purchases[0];
    let receipt = newest["receipt"].as_str().unwrap();
    let of_one = history(&["--receipt", receipt]).await;
    assert_eq!(history(&["--receipt", &receipt[..10]]).await, of_one);
    assert!(of_one.len() < 6 && of_one.iter().all(|entry| entry["receipt"] == receipt));
    let holds = history(&["--from", "agent", "--to", "outgoing", "--agent", "main"]).await;
    assert!(holds.len() >= 3 && holds.iter().all(|entry| entry["from"] == "agent main"));
    assert_eq!(history(&["--min", "1000"]).await.len(), 1, "the loan");
    let at = newest["at"].as_str().unwrap();
    let (before, after) = (
        history(&["--until", at]).await,
        history(&["--since", at]).await,
    );
    assert_eq!(
        before.len() + after.len(),
        history(&["--limit", "100"]).await.len()
    );
    let first = b
        .ask(&["wallet", "history", "--reason", "purchase", "--limit", "2"])
        .await;
    let next = first["next_before"].as_u64().unwrap().to_string();
    let rest = history(&["--reason", "purchase", "--before", &next]).await;
    assert_eq!(rest.as_slice(), &purchases[2..]);
    for bad in [["--reason", "why"], ["--from", "purse"]] {
        let words = [&["wallet", "history"], &bad[..]].concat();
        b.refused(&words)
            .await
            .is(2, "invalid_input", &[bad[1], "must be one of"]);
    }
}

#[tokio::test]
async fn the_owner_moves_money_between_pots_and_agents() {
    let pair = Pair::start().await;
    let b = &pair.b;
    b.init_owner().await;
    b.ask_as_owner(&["mandate", "grant", "writer", "--owner"])
        .await;
    let moved = b
        .ask_as_owner(&[
            "wallet",
            "fund",
            "--from",
            "main",
            "--from-pot",
            "borrowed",
            "--to",
            "writer",
            "--to-pot",
            "restricted",
            "12.5",
        ])
        .await;
    assert_eq!(
        (&moved["trm_amount"], &moved["to_pot"]),
        (&json!("12.5"), &json!("restricted"))
    );
    let accounts = b.ask(&["wallet", "accounts"]).await;
    let writer = accounts["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["account"] == "agent writer")
        .unwrap()
        .clone();
    assert_eq!(writer["trm_balance"], "12.5", "{writer}");
    b.audit().await;
    let words = [
        "wallet",
        "fund",
        "--from",
        "main",
        "--from-pot",
        "earned",
        "--to",
        "writer",
        "--to-pot",
        "seed",
        "1",
        "--passphrase-file",
        &b.text("passphrase"),
    ];
    let refused = b.refused(&words).await;
    assert!(refused.exit > 0 && !refused.code.is_empty(), "{refused:?}");
    assert_eq!(
        b.ask(&["wallet", "accounts"]).await,
        accounts,
        "nothing moved"
    );
}

#[tokio::test]
async fn a_backup_restores_the_books_and_overwrites_nothing() {
    let pair = traded().await;
    let b = &pair.b;
    let up = Up::start(b).await;
    let file = b.text("copy.redb");
    let made = b.ask(&["wallet", "backup", &file]).await;
    assert!(made["transfers"].as_u64().unwrap() > 3, "{made}");
    let again = b.refused(&["wallet", "backup", &file]).await;
    assert_eq!((again.exit, again.code.as_str()), (8, "store"), "{again:?}");
    let before = b.books().await;
    let restore = ["wallet", "restore", &file];
    b.refused(&restore).await.is(2, "invalid_input", &["--yes"]);
    let restore = [&restore[..], &["--yes"]].concat();
    let running = b.refused(&restore).await;
    assert_eq!(
        (running.exit, running.code.as_str()),
        (8, "in_use"),
        "{running:?}"
    );
    up.kill().await;
    std::fs::write(b.path("damaged"), b"nothing of the kind").unwrap();
    let damaged = b.text("damaged");
    let refused = b.refused(&["wallet", "restore", &damaged, "--yes"]).await;
    let says = [damaged.as_str(), "nothing was changed", "wallet backup"];
    refused.is(8, "store", &says);
    assert!(!refused.text.contains("wallet.redb"), "{refused:?}");
    assert_eq!(b.books().await, before);
    b.ask(&["freeze"]).await;
    let restored = b.ask(&restore).await;
    assert!(restored["moved_to"].is_string(), "{restored}");
    assert_eq!(b.books().await, before, "as it was when it was copied");
    pair.agree().await;
}

#[tokio::test]
async fn a_wallet_is_only_kept_by_the_node_it_belongs_to() {
    let pair = traded().await;
    let b = &pair.b;
    let copy = b.text("copy.redb");
    b.ask(&["wallet", "backup", &copy]).await;
    let other = Home::buyer();
    let restore = ["wallet", "restore", copy.as_str(), "--yes"];
    let refused = async |what: &str| {
        let refused = other.refused(&restore).await;
        refused.is(8, "store", &["belongs to node", "node.key"]);
        assert!(!other.data().join("wallet.redb").exists(), "{what}");
    };
    refused("no key at all").await;
    let key = |home: &Home| home.data().join("node.key");
    std::fs::copy(key(&pair.a), key(&other)).unwrap();
    refused("another node's key").await;
    // Whoever puts the file there by hand is refused when it is opened.
    std::fs::copy(&copy, other.data().join("wallet.redb")).unwrap();
    other
        .refused(&["balance"])
        .await
        .is(8, "store", &["belongs to node", "node.key"]);
    std::fs::remove_file(other.data().join("wallet.redb")).unwrap();
    std::fs::copy(key(b), key(&other)).unwrap();
    other.ask(&restore).await;
    std::fs::copy(
        b.data().join("agent.token"),
        other.data().join("agent.token"),
    )
    .unwrap();
    assert_eq!(other.books().await, b.books().await);
}

#[tokio::test]
async fn tables_fit_80_columns_without_colour_and_times_are_local() {
    let pair = traded().await;
    let b = &pair.b;
    let at = b.ask(&["history", "--limit", "1"]).await["entries"][0]["at"]
        .as_str()
        .unwrap()
        .to_owned();
    let hour: u32 = at[11..13].parse().unwrap();
    // Some hours from now, so that whatever the time is they stop nothing.
    let quiet = format!("{:02}:00-{:02}:00", (hour + 8) % 24, (hour + 9) % 24);
    b.ask(&[
        "budget",
        "tighten",
        "--day",
        "20000",
        "--quiet",
        &quiet,
        "--lifetime",
        "0.05",
    ])
    .await;
    b.ask(&["mandate", "grant", "a-writer-with-a-rather-long-name"])
        .await;
    for words in [
        ["balance"].as_slice(),
        &["loans"],
        &["budget", "show"],
        &["budget", "alerts"],
        &["mandate", "list"],
        &["mandate", "show", "main"],
        &["approvals", "--all"],
        &["wallet", "accounts"],
        &["wallet", "audit"],
        &["wallet", "history"],
        &["history"],
    ] {
        let screen = b.screen(words).await;
        assert!(!screen.contains('\u{1b}'), "{words:?} is coloured");
        assert!(!screen.trim().is_empty(), "{words:?} says nothing");
        for line in screen.lines() {
            assert!(line.chars().count() <= 80, "{words:?}: {line}");
        }
    }
    // On the screen it is nine hours later than in the JSON.
    let local = format!("{:02}:{}", (hour + 9) % 24, &at[14..16]);
    let screen = b.screen(&["history", "--limit", "1"]).await;
    assert!(screen.contains(&local), "{at} is not {local} in: {screen}");
    let explained = b.run(&["budget", "explain", "1"]).await;
    assert_eq!(explained.code, 3, "{explained:?}");
    let explained: Value = serde_json::from_str(&explained.stdout).unwrap();
    let rules = explained["rules"].as_array().unwrap();
    let numbers: Vec<u64> = rules
        .iter()
        .map(|rule| rule["number"].as_u64().unwrap())
        .collect();
    assert!(numbers.len() > 15 && rules.iter().any(|rule| rule["passes"] == false));
    assert_eq!(explained["refusal_number"], 25, "{explained:#}");
    b.ask(&["budget", "explain", "0.001"]).await;
}
