//! The journal as files: what leaves the wallet is in an archive that anyone can check, and comes back.

use serde_json::{Value, json};

use crate::cli::{EXE, Ended, Home, bare, finish};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up};

/// Runs `verify` on a file where there is neither node nor data directory.
async fn verify(file: &str) -> Ended {
    let mut verify = bare(&[EXE]);
    verify.env_clear().args(["--json", "verify", file]);
    finish(verify).await
}

async fn facts(file: &str, kind: &str) -> Value {
    let ended = verify(file).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&said["valid"], &said["kind"]),
        (&json!(true), &json!(kind))
    );
    said["facts"].clone()
}

/// A pair whose buyer bought something.
async fn traded() -> Pair {
    let pair = Pair::start().await;
    let mcp = Mcp::start(&pair.b).await;
    for prompt in ["one two three", "four five"] {
        mcp.ask("chat", json!({ "prompt": prompt, "max_tokens": 20 }))
            .await;
    }
    pair.agree().await;
    pair
}

async fn statement(home: &Home) -> Value {
    home.ask(&["wallet", "statement"]).await
}

async fn events(home: &Home) -> Value {
    home.ask(&["audit", "--events", "--limit", "500"]).await
}

fn replay(audit: &Value) -> String {
    assert_eq!(audit["holds"], true, "{audit:#}");
    let checks = audit["checks"].as_array().unwrap();
    let is = |check: &&Value| {
        check["rule"]
            .as_str()
            .unwrap()
            .starts_with("replaying the journal")
    };
    let check = checks.iter().find(is).unwrap();
    check["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn dropped_entries_are_in_an_archive_and_come_back_and_the_books_stay() {
    let pair = traded().await;
    let b = &pair.b;
    let (books, paper, log) = (b.books().await, statement(b).await, events(b).await);
    let size = log["size"].as_u64().unwrap();
    let file = b.text("journal.archive");
    // Without a terminal and without --yes nobody can be asked, and nothing is done.
    let asked = ["wallet", "archive", &file, "--drop"];
    let refused = b.refused_without_terminal(&asked).await;
    refused.is(2, "invalid_input", &["Nobody can be asked", "--yes"]);
    assert!(!b.path("journal.archive").exists());
    let made = b
        .ask(&["--yes", "wallet", "archive", &file, "--drop"])
        .await;
    assert_eq!(
        (&made["dropped"], &made["entries"]),
        (&json!(size), &json!(size))
    );
    let said = facts(&file, "archive").await;
    for field in ["node", "network", "first", "last", "since", "until", "root"] {
        assert_eq!(said[field], made[field], "{field}");
    }
    assert_eq!(said["root"], log["root"]);
    // What was dropped is not there any more, and everything else is as it was.
    let none = events(b).await;
    assert_eq!(
        (&none["entries"], &none["dropped"]),
        (&json!([]), &json!(size))
    );
    assert_eq!((&none["size"], &none["root"]), (&log["size"], &log["root"]));
    assert_eq!((b.books().await, statement(b).await), (books, paper));
    let says = format!("not done again: rows 1 to {size} are in an archive");
    assert!(replay(&b.ask(&["wallet", "audit"]).await).starts_with(&says));
    let audit = b.ask(&["wallet", "audit", "--archive", &file]).await;
    assert_eq!(replay(&audit), format!("{size} rows"));
    b.refused(&["prove", "log", "--seq", "1"]).await.is(
        5,
        "not_found",
        &["were archived", "wallet unarchive FILE"],
    );
    b.refused(&["wallet", "archive", &b.text("more")]).await.is(
        2,
        "invalid_input",
        &["are archived already"],
    );
    // What happens then has the next number, and is proved from the tree that is whole.
    b.ask(&["freeze"]).await;
    let proof = b.text("next.proof");
    let next = (size + 1).to_string();
    b.ask(&["prove", "log", "--seq", &next, "--out", &proof])
        .await;
    let said = facts(&proof, "record").await;
    assert_eq!(
        (&said["seq"], &said["event"]),
        (&json!(size + 1), &json!("freeze"))
    );
    let screen = b.screen(&["wallet", "audit", "--archive", &file]).await;
    assert!(screen.contains("replaying the journal"), "{screen}");
    let back = b.ask(&["wallet", "unarchive", &file]).await;
    assert_eq!(back["dropped"], json!(0));
    let all = events(b).await;
    let old: Vec<_> = all["entries"].as_array().unwrap().iter().skip(1).collect();
    assert!(log["entries"].as_array().unwrap().iter().eq(old));
    assert_eq!(
        replay(&b.ask(&["wallet", "audit"]).await),
        format!("{} rows", size + 1)
    );
    b.audit().await;
}

#[tokio::test]
async fn an_archive_that_was_altered_or_is_of_another_node_is_refused_and_changes_nothing() {
    let pair = traded().await;
    let (a, b) = (&pair.a, &pair.b);
    let (own, foreign) = (b.text("own"), b.text("foreign"));
    // Of a node that runs, and of one that does not.
    a.ask(&["wallet", "archive", &foreign, "--up-to", "6"])
        .await;
    b.ask(&["--yes", "wallet", "archive", &own, "--up-to", "6", "--drop"])
        .await;
    let before = events(b).await;
    assert_eq!(before["dropped"], json!(6));
    assert_eq!(facts(&own, "archive").await["last"], json!(6));
    let text = std::fs::read_to_string(&own).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 8);
    let mut forged = Vec::new();
    for n in 0..lines.len() {
        let kept = lines.iter().enumerate().filter(|(i, _)| *i != n);
        forged.push(kept.map(|(_, line)| *line).collect::<Vec<_>>().join("\n"));
    }
    let digit = lines[3].rfind('0').unwrap();
    let mut line = lines[3].to_owned();
    line.replace_range(digit..=digit, "1");
    forged.push(text.replacen(lines[3], &line, 1));
    for (n, text) in forged.iter().enumerate() {
        let file = b.write(&format!("forged-{n}"), text);
        let refused = verify(&file).await.refused();
        refused.is(6, "invalid_input", &["does not hold"]);
        let refused = b.refused(&["wallet", "unarchive", &file]).await;
        refused.is(2, "invalid_input", &["nothing was changed"]);
    }
    let refused = b.refused(&["wallet", "unarchive", &foreign]).await;
    refused.is(
        2,
        "invalid_input",
        &["not of this one", "nothing was changed"],
    );
    // A file that is there is left alone.
    let refused = b.refused(&["wallet", "archive", &own]).await;
    refused.is(8, "store", &["exists already"]);
    assert_eq!(std::fs::read_to_string(&own).unwrap(), text);
    assert_eq!(events(b).await, before);
    b.audit().await;
}

/// Beside a running node the command does the same, and a restart knows what is gone.
#[tokio::test]
async fn a_running_node_archives_drops_and_puts_back() {
    let pair = traded().await;
    let a = &pair.a;
    let size = events(a).await["size"].as_u64().unwrap();
    let file = a.text("journal.archive");
    a.ask(&["--yes", "wallet", "archive", &file, "--drop"])
        .await;
    let http = pair.up.http(a);
    let (status, log) = http.get("/v1/tirami/audit_log").await;
    assert_eq!((status, &log["dropped"]), (200, &json!(size)), "{log}");
    let (status, gone) = http.get("/v1/tirami/prove/log?seq=1").await;
    assert_eq!(status, 404, "{gone}");
    let (status, grown) = http.get("/v1/tirami/prove/log?from=2").await;
    assert_eq!(status, 200, "{grown}");
    let body = json!({ "proof": grown["growth"].to_string() });
    let (_, checked) = http.post("/v1/tirami/verify", &body).await;
    assert_eq!(
        (&checked["valid"], &checked["kind"]),
        (&json!(true), &json!("growth"))
    );
    pair.up.kill().await;
    let up = Up::start(a).await;
    assert_eq!(events(a).await["dropped"], json!(size));
    a.audit().await;
    a.ask(&["wallet", "unarchive", &file]).await;
    assert_eq!(events(a).await["dropped"], json!(0));
    a.audit().await;
    drop(up);
}

#[tokio::test]
async fn a_proof_about_the_journal_is_a_file_that_verifies_and_no_altered_one_does() {
    let pair = traded().await;
    let b = &pair.b;
    let early = events(b).await;
    let size = early["size"].as_u64().unwrap();
    b.ask(&["freeze"]).await;
    let (record, growth) = (b.text("record"), b.text("growth"));
    b.ask(&["prove", "log", "--seq", "3", "--out", &record])
        .await;
    b.ask(&[
        "prove",
        "log",
        "--from",
        &size.to_string(),
        "--out",
        &growth,
    ])
    .await;
    let said = facts(&record, "record").await;
    let third = &early["entries"].as_array().unwrap()[usize::try_from(size).unwrap() - 3];
    for field in ["seq", "at", "event"] {
        assert_eq!(said[field], third[field], "{field}");
    }
    let said = facts(&growth, "growth").await;
    assert_eq!(said["from_root"], early["root"]);
    assert_eq!(
        (&said["from"], &said["size"]),
        (&json!(size), &json!(size + 1))
    );
    // '-' is standard output, and the tool and the HTTP door say the same of it.
    let ended = b.run(&["prove", "log", "--seq", "3", "--out", "-"]).await;
    let mcp = Mcp::start(b).await;
    let checked = mcp.ask("verify", json!({ "proof": ended.stdout })).await;
    assert_eq!(
        (&checked["valid"], &checked["kind"]),
        (&json!(true), &json!("record"))
    );
    for file in [&record, &growth] {
        let text = std::fs::read_to_string(file).unwrap();
        for (at, c) in text
            .char_indices()
            .filter(|(_, c)| c.is_ascii_hexdigit())
            .step_by(97)
        {
            let mut altered = text.clone();
            altered.replace_range(at..=at, if c == '0' { "1" } else { "0" });
            let checked = mcp.ask("verify", json!({ "proof": altered })).await;
            assert_eq!(checked["valid"], false, "{file}: {at}");
        }
    }
}

/// What moved on an account, signed by its node: anyone checks it without a node, and nothing of it can be
/// altered. It says the same as the books, and names the journal that it follows from.
#[tokio::test]
async fn a_statement_is_a_file_that_verifies_and_no_altered_one_does() {
    let pair = traded().await;
    let (b, mcp) = (&pair.b, Mcp::start(&pair.b).await);
    let file = b.text("statement");
    b.ask(&["prove", "statement", "--out", &file]).await;
    let (said, paper, log) = (
        facts(&file, "statement").await,
        statement(b).await,
        events(b).await,
    );
    for field in ["agent", "trm_opening", "trm_closing"] {
        assert_eq!(said[field], paper[field], "{field}");
    }
    assert_eq!((&said["size"], &said["root"]), (&log["size"], &log["root"]));
    assert_eq!(said["assurance"], "signed");
    let text = std::fs::read_to_string(&file).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    let (lines, books) = (&whole["lines"], &paper["lines"]);
    // A loan and two purchases.
    assert_eq!(lines.as_array().unwrap().len(), 3, "{lines}");
    assert_eq!(said["lines"], 3);
    for (line, book) in lines
        .as_array()
        .unwrap()
        .iter()
        .zip(books.as_array().unwrap())
    {
        for (field, value) in book.as_object().unwrap() {
            assert_eq!(&line[field], value, "{field}");
        }
    }
    let mut altered = Vec::new();
    for n in 0..3 {
        let with = |change: &dyn Fn(&mut Vec<Value>)| {
            let mut whole = whole.clone();
            change(whole["lines"].as_array_mut().unwrap());
            whole
        };
        altered.push(with(&|lines| drop(lines.remove(n))));
        altered.push(with(&|lines| lines.swap(n, (n + 1) % 3)));
        altered.push(with(&|lines| lines.insert(n, lines[n].clone())));
        altered.push(with(&|lines| lines[n]["other"] = json!("agent main")));
        altered.push(with(&|lines| lines[n]["trm_balance"] = json!("1")));
    }
    for (field, value) in [("agent", "other"), ("trm_closing", "9"), ("to", "2026")] {
        let mut whole = whole.clone();
        whole["says"][field] = json!(value);
        altered.push(whole);
    }
    let home = Home::new("");
    for (n, value) in altered.iter().enumerate() {
        let checked = mcp
            .ask("verify", json!({ "proof": value.to_string() }))
            .await;
        assert_eq!(checked["valid"], false, "{value}");
        // As a file, where there is neither node nor data directory.
        if n % 4 == 0 {
            let file = home.write(&format!("altered-{n}"), value.to_string());
            let refused = verify(&file).await.refused();
            refused.is(6, "invalid_input", &["does not hold"]);
        }
    }
    let checked = mcp.ask("verify", json!({ "proof": text })).await;
    assert_eq!(
        (&checked["valid"], &checked["kind"]),
        (&json!(true), &json!("statement"))
    );
    let screen = b.screen(&["verify", &file]).await;
    assert!(
        screen.contains("its own word about its own books"),
        "{screen}"
    );
}

/// Over HTTP, of a part of the time: what one part closes with the next opens with.
#[tokio::test]
async fn statements_of_two_parts_close_and_open_with_the_same_balance() {
    let pair = traded().await;
    let (a, http) = (&pair.a, pair.up.http(&pair.a));
    let path = |query: &str| format!("/v1/tirami/prove/statement{query}");
    let (status, whole) = http.get(&path("")).await;
    assert_eq!(status, 200, "{whole}");
    let entries = http.get("/v1/tirami/balance").await.1;
    assert_eq!(whole["says"]["trm_closing"], entries["trm_balance"]);
    let moment = statement(a).await["lines"][1]["at"].clone();
    let moment = moment.as_str().unwrap();
    // What the command line takes as RFC 3339, HTTP takes in milliseconds.
    let later = a.ask(&["prove", "statement", "--from", moment]).await;
    let earlier = a.ask(&["prove", "statement", "--to", moment]).await;
    assert_eq!(earlier["says"]["trm_closing"], later["says"]["trm_opening"]);
    assert_eq!(later["says"]["trm_closing"], whole["says"]["trm_closing"]);
    assert_eq!(later["says"]["from"], json!(moment));
    let count = |of: &Value| of["lines"].as_array().unwrap().len();
    assert_eq!((count(&earlier), count(&later)), (1, 1), "{whole:#}");
    for part in [&whole, &later, &earlier] {
        let body = json!({ "proof": part.to_string() });
        let (status, checked) = http.post("/v1/tirami/verify", &body).await;
        assert_eq!((status, &checked["valid"]), (200, &json!(true)), "{part}");
    }
    for (query, says) in [
        ("?from=2&to=1", "after to"),
        ("?from=99999999999999", "not come yet"),
        ("?agent=nobody", "nobody"),
        ("?page=1", "page"),
    ] {
        let (status, refused) = http.get(&path(query)).await;
        assert!((400..500).contains(&status), "{query}: {refused}");
        assert!(refused.to_string().contains(says), "{query}: {refused}");
    }
    assert_eq!(http.with_token("x").get(&path("")).await.0, 401);
    a.refused(&["prove", "statement", "--agent", "nobody"])
        .await
        .is(5, "not_found", &["nobody"]);
}
