//! Input that is not what it should be: a clear error, an exit code of its own, and nothing changed.

use std::net::{TcpListener, UdpSocket};

use serde_json::{Value, json};
use tirami_agent_runtime::data_dir;

use crate::cli::{EXE, Ended, Home, bare, contents, finish};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, question, ticket};

/// Amounts that are none, and what is said about them.
const NO_AMOUNTS: [(&str, &str); 8] = [
    ("-5", "negative"),
    ("NaN", "not an amount"),
    ("1e99", "not an amount"),
    ("", "not an amount"),
    ("0x10", "not an amount"),
    ("1,5", "not an amount"),
    ("0.0000001", "six decimals"),
    ("99999999999999999999", "supply cap"),
];

/// A pair that has traded once, and the receipt.
async fn traded() -> (Pair, String) {
    let pair = Pair::start().await;
    let mcp = Mcp::start(&pair.b).await;
    let answer = mcp.ask("chat", question(3, "k")).await;
    mcp.kill().await;
    pair.agree().await;
    (pair, answer["receipt"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_refusal_on_the_screen_can_be_acted_on_as_it_stands() {
    let (pair, _) = traded().await;
    let b = &pair.b;
    let before = b.books().await;
    b.refused(&["loans", "repay", "0"])
        .await
        .is(2, "invalid_input", &["trm is 0"]);
    // Nobody is asked to confirm what cannot be done.
    b.refused(&["mandate", "revoke", "nobody"])
        .await
        .is(5, "not_found", &["nobody"]);
    // The command in the hint is for the node that was asked, not for the default one.
    let words = ["deny", &"00".repeat(16)];
    let ended = finish(b.command(&words)).await;
    let named = format!("'tirami-agent --data-dir {} approvals'", b.data().display());
    assert!(ended.stderr.contains(&named), "{ended:?}");
    // What was not said reads so, and a price of nothing is not made up.
    b.ask(&["budget", "tighten", "--price-ceiling", "2"]).await;
    let explained = b.run(&["budget", "explain", "0.001"]).await;
    let explained: Value = serde_json::from_str(&explained.stdout).unwrap();
    let rules = explained["rules"].as_array().unwrap();
    let ceiling = rules.iter().find(|rule| rule["rule"] == "price_ceiling");
    assert_eq!(ceiling.unwrap()["observed"], "not given", "{explained:#}");
    b.ask(&["freeze", "--reason", "first"]).await;
    let again = finish(b.command(&["freeze", "--reason", "second"])).await;
    assert!(again.stderr.contains("the first reason stays"), "{again:?}");
    // Lifting what is not there says so.
    b.init_owner().await;
    for (was, says) in [(true, "lifted (first)"), (false, "nothing was frozen")] {
        let words = ["unfreeze", "--passphrase-file", &b.text("passphrase")];
        let ended = finish(b.command(&words)).await;
        assert!(ended.stdout.contains(says), "{was}: {ended:?}");
    }
    // What only sets money aside does not read like a payment.
    let shown = finish(b.command(&["history"])).await;
    let holds = shown.stdout.matches("budget, set aside").count();
    assert_eq!(
        (holds, shown.stdout.contains("budget  ")),
        (1, true),
        "{shown:?}"
    );
    let missing = b
        .refused(&["wallet", "restore", &b.text("none"), "--yes"])
        .await;
    missing.is(5, "not_found", &["none: No such file"]);
    b.audit().await;
    assert_eq!(
        b.books().await["balance"]["trm_balance"],
        before["balance"]["trm_balance"]
    );
}

#[tokio::test]
async fn a_refused_payment_names_what_was_asked_and_the_way_out() {
    let (pair, _) = traded().await;
    let b = &pair.b;
    b.init_owner().await;
    let before = b.books().await;
    let passphrase = b.text("passphrase");
    let me = b.ask(&["status"]).await["node"]
        .as_str()
        .unwrap()
        .to_owned();
    let fund = |amount: &'static str| {
        let pots = [
            "--from-pot",
            "seed",
            "--to",
            "main",
            "--to-pot",
            "restricted",
        ];
        let how = ["--passphrase-file", &passphrase, amount];
        [&["wallet", "fund", "--from", "main"], &pots[..], &how].concat()
    };
    let (short, bad) = ("insufficient_funds", "invalid_input");
    for (words, exit, code, says) in [
        (fund("0"), 2, bad, "TRM is 0"),
        (fund("5"), 3, short, "seed 0, earned 0, borrowed"),
        (vec!["loans", "repay", "100000"], 3, short, "agent main has"),
        (
            vec!["mandate", "hand-out", &me, "5"],
            2,
            bad,
            "this node itself",
        ),
    ] {
        b.refused(&words).await.is(exit, code, &[says]);
    }
    assert_eq!(b.books().await, before, "nothing moved");
}

#[tokio::test]
async fn a_refused_question_names_what_was_asked_and_the_way_out() {
    let (pair, _) = traded().await;
    let b = &pair.b;
    let (lost, missing) = (b.text("lost/copy.redb"), "lost: No such file");
    let models = format!("'tirami-agent --data-dir {} models'", b.data().display());
    let (late, early) = ("2026-12-01", "2026-11-01");
    let (bad, unknown) = ("invalid_input", "not_found");
    let explain = ["budget", "explain", "1", "--model", "none"];
    let history = ["wallet", "history", "--since", late, "--until", early];
    let statement = ["wallet", "statement", "--from", late, "--to", early];
    for (words, exit, code, says) in [
        (["wallet", "backup", &lost].as_slice(), 5, unknown, missing),
        (&history, 2, bad, "since is"),
        (&statement, 2, bad, "from is"),
        // In JSON as on the screen a command is for the node that was asked.
        (&explain, 5, unknown, &models),
    ] {
        b.refused(words).await.is(exit, code, &[says]);
    }
    // Every word that history shows can be asked for.
    for words in [["--reason", "delegation"], ["--to", "delegated"]] {
        b.ask(&[&["wallet", "history"], &words[..]].concat()).await;
    }
}

#[tokio::test]
async fn a_wallet_whose_key_is_gone_is_given_no_other() {
    let (pair, _) = traded().await;
    let b = &pair.b;
    let before = b.books().await;
    let (key, kept) = (b.data().join("node.key"), b.path("kept.key"));
    std::fs::rename(&key, &kept).unwrap();
    b.refused(&["balance"])
        .await
        .is(8, "store", &["no node.key", "put back the node.key"]);
    assert!(!key.exists());
    std::fs::rename(&kept, &key).unwrap();
    assert_eq!(b.books().await, before);
}

/// It would sign a second history of the same node.
#[tokio::test]
async fn a_key_whose_wallet_is_gone_is_given_no_new_one() {
    let (pair, _) = traded().await;
    let b = &pair.b;
    let before = b.books().await;
    let copy = b.text("copy.redb");
    b.ask(&["wallet", "backup", &copy]).await;
    let wallet = b.data().join("wallet.redb");
    std::fs::remove_file(&wallet).unwrap();
    let says = [
        "wallet.redb is gone",
        "wallet restore",
        "another --data-dir",
    ];
    for command in ["balance", "status"] {
        b.refused(&[command]).await.is(8, "store", &says);
    }
    let doctor = b.run(&["doctor"]).await;
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert!(doctor.stdout.contains(says[0]), "{doctor:?}");
    assert!(!wallet.exists());
    b.ask(&["wallet", "restore", &copy, "--yes"]).await;
    assert_eq!(b.books().await, before);
}

#[tokio::test]
async fn a_token_that_others_could_read_is_shut_and_said() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::buyer();
    home.ask(&["balance"]).await;
    let token = home.data().join("agent.token");
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o644)).unwrap();
    // The kill switch does not wait for it.
    let ended = home.run(&["freeze"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("others could read"), "{ended:?}");
    let mode = std::fs::metadata(&token).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Typed on a terminal it could never be the same.
#[tokio::test]
async fn a_passphrase_file_of_two_lines_makes_no_owner() {
    let home = Home::buyer();
    home.ask(&["balance"]).await;
    for bad in ["one passphrase\nand another\n", "one\rpassphrase\n"] {
        std::fs::write(home.path("lines"), bad).unwrap();
        let words = ["owner", "init", "--passphrase-file", &home.text("lines")];
        let refused = home.refused(&words).await;
        refused.is(2, "invalid_input", &["lines", "more than one line"]);
    }
    assert_eq!(home.ask(&["owner", "status"]).await["owner"], Value::Null);
    std::fs::write(home.path("lines"), "one passphrase\r\n\n").unwrap();
    home.ask(&["owner", "init", "--passphrase-file", &home.text("lines")])
        .await;
}

#[tokio::test]
async fn a_ticket_of_another_network_is_refused_by_a_node_that_traded_in_its_own() {
    let (pair, _) = traded().await;
    let stranger = Home::seller();
    let _up = Up::start(&stranger).await;
    let ticket = ticket(&stranger).await;
    for home in [&pair.a, &pair.b] {
        let before = home.books().await;
        let refused = home.refused(&["join", &ticket]).await;
        refused.is(6, "ticket", &["has traded there", "another --data-dir"]);
        assert_eq!(home.books().await, before);
    }
    assert_eq!(
        stranger.ask(&["balance"]).await["members"],
        json!([]),
        "nobody was let in"
    );
}

#[tokio::test]
async fn a_ticket_that_is_damaged_is_refused() {
    let founder = Home::seller();
    let _up = Up::start(&founder).await;
    let whole = ticket(&founder).await;
    let newcomer = Home::buyer();
    newcomer.ask(&["status"]).await;
    let before = newcomer.books().await;
    let middle = whole.len() / 2;
    let other = if &whole[middle..=middle] == "A" {
        "B"
    } else {
        "A"
    };
    let altered = format!("{}{other}{}", &whole[..middle], &whole[middle + 1..]);
    for (bad, says) in [
        ("", "not a ticket"),
        ("hello", "not a ticket"),
        (&whole[..whole.len() - 1], "damaged"),
        (&whole[..middle], "damaged"),
        (&whole[..9], "damaged"),
        (&altered, "damaged"),
        (&format!("{whole}A"), "damaged"),
    ] {
        newcomer
            .refused(&["join", bad])
            .await
            .is(6, "ticket", &[says]);
    }
    assert_eq!(newcomer.books().await, before);
    newcomer.ask(&["join", &whole]).await;
}

/// Runs `verify` on a text; it needs no node, so there is none.
async fn verify(dir: &Home, text: &str) -> Ended {
    let file = dir.write("receipt.json", text);
    let mut verify = bare(&[EXE]);
    verify.env_clear().args(["--json", "verify", &file]);
    finish(verify).await
}

#[tokio::test]
async fn a_receipt_that_is_cut_off_does_not_verify() {
    let (pair, id) = traded().await;
    let text = pair.b.run(&["receipt", &id]).await.stdout;
    assert_eq!(verify(&pair.b, &text).await.code, 0);
    // Whatever is cut off but white space at the end.
    let whole = text.trim_end().len();
    for length in [
        0,
        1,
        2,
        50,
        whole / 4,
        whole / 2,
        whole - 200,
        whole - 2,
        whole - 1,
    ] {
        let refused = verify(&pair.b, &text[..length]).await.refused();
        refused.is(6, "invalid_input", &["does not hold", "cut off"]);
    }
    let mut file: Value = serde_json::from_str(&text).unwrap();
    let signed = file["signed"].as_str().unwrap().to_owned();
    for length in [
        0,
        1,
        2,
        signed.len() / 2,
        signed.len() - 128,
        signed.len() - 2,
    ] {
        file["signed"] = signed[..length].into();
        let refused = verify(&pair.b, &file.to_string()).await.refused();
        refused.is(6, "invalid_input", &["does not hold", "damaged"]);
    }
}

#[tokio::test]
async fn a_receipt_that_was_altered_does_not_verify() {
    let (pair, id) = traded().await;
    let text = pair.b.run(&["receipt", &id]).await.stdout;
    let file: Value = serde_json::from_str(&text).unwrap();
    // Every fact in words, and one that nobody signed.
    for (field, value) in file.as_object().unwrap() {
        let mut altered = file.clone();
        altered[field] = match value {
            Value::Number(number) => (number.as_u64().unwrap() + 1).into(),
            Value::String(text) if field == "signed" => flipped(text, text.len() / 3).into(),
            Value::String(_) if field == "finish" => "length".into(),
            Value::String(_) if field == "ended_at" => "2020-01-01T00:00:00.000Z".into(),
            Value::String(text) => flipped(text, text.len() - 1).into(),
            other => panic!("{field} is {other}"),
        };
        let refused = verify(&pair.b, &altered.to_string()).await.refused();
        refused.is(6, "invalid_input", &["does not hold"]);
    }
    let mut more = file.clone();
    more["note"] = "paid in full".into();
    verify(&pair.b, &more.to_string())
        .await
        .refused()
        .is(6, "invalid_input", &["note"]);
    // A digit anywhere in what was signed, or in the signatures.
    let signed = file["signed"].as_str().unwrap();
    for at in (0..signed.len()).step_by(signed.len() / 40) {
        let mut altered = file.clone();
        altered["signed"] = flipped(signed, at).into();
        let refused = verify(&pair.b, &altered.to_string()).await.refused();
        refused.is(6, "invalid_input", &["does not hold"]);
    }
}

#[tokio::test]
async fn a_damaged_page_of_a_closed_wallet_is_found_by_its_audit() {
    let (pair, id) = traded().await;
    let sound = pair.b.run(&["wallet", "audit"]).await;
    assert_eq!(sound.code, 0, "{sound:?}");
    let receipt = pair.b.ask(&["receipt", &id]).await;
    let signed = receipt["signed"].as_str().unwrap();
    let signed: Vec<u8> = (0..signed.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&signed[at..at + 2], 16).unwrap())
        .collect();
    // One bit of what was bought, wherever the file has it: nothing but an audit reads it.
    let file = data_dir::wallet(&pair.b.data());
    let mut bytes = std::fs::read(&file).unwrap();
    let places: Vec<_> = (0..bytes.len() - signed.len())
        .filter(|at| bytes[*at..].starts_with(&signed))
        .collect();
    assert!(!places.is_empty(), "the receipt is not in the file");
    for at in places {
        bytes[at + signed.len() / 2] ^= 4;
    }
    std::fs::write(&file, &bytes).unwrap();
    let found = pair.b.run(&["wallet", "audit"]).await;
    let said: Value = serde_json::from_str(&found.stdout).unwrap();
    // The audit says so, unless the damage was met before it began.
    let says = match found.code {
        8 => &said["error"]["message"],
        1 => {
            let checks = said["checks"].as_array().unwrap();
            let failed = |check: &&Value| check["holds"] == false;
            let failed: Vec<_> = checks.iter().filter(failed).collect();
            assert_eq!(failed.len(), 1, "{said:#}");
            let rule = failed[0]["rule"].as_str().unwrap();
            assert!(rule.contains("every page"), "{rule}");
            &failed[0]["detail"]
        }
        code => panic!("{code}: {said:#}"),
    };
    let says = says.as_str().unwrap();
    assert!(says.contains("restore a backup"), "{says}");
}

/// The text with one digit changed.
fn flipped(text: &str, at: usize) -> String {
    let other = if &text[at..=at] == "1" { "2" } else { "1" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

#[cfg(feature = "llama")]
#[tokio::test]
async fn a_file_that_is_no_model_is_refused() {
    let home = Home::buyer();
    home.ask(&["status"]).await;
    home.write("config.toml", "");
    let before = contents(&home.data());
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap();
    let sprout = std::fs::read(root.join("mesh/models/sprout/sprout.gguf")).unwrap();
    for (name, bytes) in [
        ("empty.gguf", &[][..]),
        ("text.gguf", b"Once upon a time there was a file."),
        ("magic.gguf", &sprout[..4]),
        ("header.gguf", &sprout[..1_000]),
        ("half.gguf", &sprout[..sprout.len() / 2]),
        ("short.gguf", &sprout[..sprout.len() - 1]),
    ] {
        let model = home.write(name, bytes);
        let words = ["up", "--listen", "127.0.0.1:0", "--model", &model];
        home.refused(&words)
            .await
            .is(1, "model", &[name, "--model"]);
    }
    let words = [
        "up",
        "--listen",
        "127.0.0.1:0",
        "--model",
        "/no/such/model.gguf",
    ];
    home.refused(&words)
        .await
        .is(1, "model", &["/no/such/model.gguf"]);
    assert_eq!(contents(&home.data()), before);
}

#[tokio::test]
async fn an_http_port_in_use_is_said_before_anything_is_touched() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::seller();
    let refused = home.refused(&["up", "--listen", &address]).await;
    refused.is(1, "busy", &[&address, "in use", "--listen"]);
    assert!(!home.data().exists());
}

#[tokio::test]
async fn a_mesh_port_in_use_is_said() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::seller();
    home.ask(&["status"]).await;
    let before = home.books().await;
    let words = ["up", "--listen", "127.0.0.1:0", "--mesh-listen", &address];
    home.refused(&words)
        .await
        .is(1, "busy", &[&address, "in use", "--mesh-listen"]);
    assert_eq!(home.books().await, before);
}

#[tokio::test]
async fn a_data_directory_of_another_user_is_refused() {
    use std::os::unix::fs::MetadataExt;
    let home = Home::seller();
    std::fs::create_dir(home.data()).unwrap();
    // Root can give a directory away; anybody else has root's at hand.
    let me = std::fs::metadata(home.data()).unwrap().uid();
    let given = std::os::unix::fs::chown(home.data(), Some(me + 1), None).is_ok();
    let dir = if given { home.data() } else { "/usr".into() };
    let uid = std::fs::metadata(&dir).unwrap().uid();
    let before = std::fs::read_dir(&dir).unwrap().count();
    for words in [
        &["status"][..],
        &["up", "--listen", "127.0.0.1:0"],
        &["chat", "hello"],
    ] {
        let mut command = bare(&[EXE]);
        command
            .arg("--data-dir")
            .arg(&dir)
            .arg("--json")
            .args(words);
        let refused = finish(command).await.refused();
        refused.is(
            8,
            "store",
            &[&format!("belongs to user {uid}"), "--data-dir"],
        );
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), before);
}

#[tokio::test]
async fn a_budget_that_is_no_amount_is_refused() {
    let home = Home::buyer();
    home.init_owner().await;
    let before = home.books().await;
    let file = home.text("passphrase");
    for (bad, says) in NO_AMOUNTS {
        for flag in ["--per-request", "--hour", "--lifetime"] {
            let words = ["budget", "set", flag, bad, "--passphrase-file", &file];
            home.refused(&words)
                .await
                .is(2, "invalid_input", &[flag, says]);
            let joined = format!("{flag}={bad}");
            let words = ["budget", "set", &joined, "--passphrase-file", &file];
            home.refused(&words)
                .await
                .is(2, "invalid_input", &[flag, says]);
        }
    }
    assert_eq!(home.books().await, before);
}

#[tokio::test]
async fn a_max_trm_that_is_no_amount_is_refused() {
    let pair = Pair::start().await;
    let mcp = Mcp::start(&pair.b).await;
    let before = pair.b.books().await;
    for (bad, says) in NO_AMOUNTS {
        let words = ["chat", "hello", "--max-trm", bad];
        pair.b
            .refused(&words)
            .await
            .is(2, "invalid_input", &["--max-trm", says]);
        let mut input = question(3, "k");
        input["max_trm"] = bad.into();
        mcp.refused("chat", input)
            .await
            .is("invalid_input", &["max_trm", says]);
    }
    for bad in [json!(-5), json!(1e99), json!(true), json!([]), json!({})] {
        let mut input = question(3, "k");
        input["max_trm"] = bad;
        mcp.refused("chat", input)
            .await
            .is("invalid_input", &["max_trm"]);
    }
    let zero = ["chat", "hello", "--max-trm", "0"];
    pair.b
        .refused(&zero)
        .await
        .is(2, "invalid_input", &["max_trm is 0"]);
    assert_eq!(pair.b.books().await, before);
}

#[tokio::test]
async fn a_config_file_with_an_unknown_key_is_refused() {
    let home = Home::seller();
    home.ask(&["status"]).await;
    let before = contents(&home.data());
    for (config, says) in [
        ("price_pmm = 5\n", "price_pmm"),
        ("[limits]\nhour_trm = \"5\"\n", "limits"),
        ("price_ppm = -1\n", "price_ppm"),
        ("hold_timeout_seconds = 0\n", "hold_timeout_seconds"),
        ("listen = \"nowhere\"\n", "listen"),
        ("model = \"echo\n", "config.toml"),
    ] {
        let path = home.write("config.toml", config);
        for words in [
            &["up", "--listen", "127.0.0.1:0"][..],
            &["status"],
            &["mcp"],
        ] {
            let refused = home.run(words).await;
            assert_eq!(refused.code, 2, "{words:?}: {refused:?}");
            let said = refused.stdout + &refused.stderr;
            assert!(
                said.contains(says) && said.contains(&path),
                "{config}: {said}"
            );
        }
    }
    assert_eq!(contents(&home.data()), before);
    // The one in the data directory as well.
    std::fs::write(home.data().join("config.toml"), "price_pmm = 5\n").unwrap();
    let mut command = bare(&[EXE]);
    command
        .arg("--data-dir")
        .arg(home.data())
        .args(["--json", "status"]);
    finish(command)
        .await
        .refused()
        .is(2, "invalid_input", &["price_pmm"]);
}

#[tokio::test]
async fn a_wallet_that_is_none_is_left_byte_for_byte() {
    let (pair, _) = traded().await;
    let real = std::fs::read(pair.b.data().join("wallet.redb")).unwrap();
    let mut damaged = real.clone();
    // Every page behind the header, so that one that opening needs is among them.
    for byte in damaged.iter_mut().skip(4_096).step_by(97) {
        *byte ^= 0x55;
    }
    let noise = vec![0xa7; real.len()];
    let home = Home::buyer();
    home.ask(&["status"]).await;
    let wallet = home.data().join("wallet.redb");
    for (what, bytes) in [
        ("nothing", &[][..]),
        ("text", b"My dear diary, today I spent 5 TRM."),
        ("noise", &noise),
        ("the beginning of one", &real[..real.len() / 3]),
        ("a damaged one", &damaged),
    ] {
        std::fs::write(&wallet, bytes).unwrap();
        let before = contents(&home.data());
        for words in [
            &["balance"][..],
            &["up", "--listen", "127.0.0.1:0"],
            &["freeze"],
        ] {
            home.refused(words).await.is(8, "store", &["wallet.redb"]);
        }
        assert!(contents(&home.data()) == before, "{what} was changed");
    }
}
