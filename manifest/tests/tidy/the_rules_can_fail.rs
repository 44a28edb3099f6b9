//! Each rule refuses what it is there to refuse.

use super::*;

#[track_caller]
fn count(complaints: &[String], expected: usize) {
    assert_eq!(complaints.len(), expected, "{complaints:#?}");
}

#[test]
fn on_an_edge_that_is_not_allowed() {
    let toml = "[dependencies]\ntirami-manifest.workspace = true\ntirami-mesh.workspace = true";
    count(&forbidden_edges("wallet", toml), 1);
    count(&forbidden_edges("agent-runtime", toml), 0);
    let renamed = "[dependencies]\nmoney = { package = \"tirami-wallet\", path = \"../wallet\" }";
    count(&forbidden_edges("mesh", renamed), 1);
    let hidden = "[target.'cfg(unix)'.dev-dependencies]\ntirami-wallet.workspace = true";
    count(&forbidden_edges("mesh", hidden), 1);
    count(&forbidden_edges("mcp-server", hidden), 1);
    count(
        &forbidden_edges("manifest", "[build-dependencies]\ntirami-mesh = \"1\""),
        1,
    );
}

#[test]
fn on_a_stranger_below_a_dependency() {
    let lock = "[[package]]\nname = \"tirami-wallet\"\ndependencies = [\"middle 1.0.0\"]\n\
                [[package]]\nname = \"middle\"\ndependencies = [\"iroh-base\"]\n\
                [[package]]\nname = \"iroh-base\"";
    let lock = lock.parse().expect("the sample is TOML");
    count(&strangers("wallet", &["iroh*"], &lock), 1);
    count(&strangers("wallet", &["iroh"], &lock), 0);
}

#[test]
fn on_an_impure_rule() {
    let banned = ["redb", "std::fs", "std::time", "f64", "HashMap"];
    let impure =
        |path: &str, text: &str| impurities("wallet/src/ledger", &banned, &[File::new(path, text)]);
    let ledger = |text: &str| impure("wallet/src/ledger/apply.rs", text);
    count(
        &ledger("use std::{collections::{BTreeMap, HashMap}, fs as disk};"),
        2,
    );
    count(
        &ledger("fn f(x: f64) -> std :: time :: Instant { redb::open() }"),
        3,
    );
    count(
        &ledger("// HashMap, redb\n/* f64 /* std::fs */ */ fn f() -> &'static str { r#\"redb\"# }"),
        0,
    );
    count(
        &ledger("fn f<'redb>(c: char) -> bool { c == '\"' } fn g() { redb() } // '\"'"),
        2,
    );
    count(
        &ledger("use crate::redb_tables; #[cfg(test)]\nmod tests { use std::fs; }"),
        0,
    );
    count(
        &ledger("#[cfg(test)]\nmod tests { fn f() {} } use std::fs;"),
        1,
    );
    count(&ledger("fn f<'a>() -> impl Sized + use<'a> { redb(); }"), 1);
    count(&impure("wallet/src/ledger.rs", "use redb::Table;"), 1);
    count(&impure("wallet/src/ledger_view.rs", "use redb::Table;"), 0);
    count(
        &impure(
            "wallet/src/ledger/apply/tests.rs",
            "use std::collections::HashMap;",
        ),
        0,
    );
}

#[test]
fn on_money_that_meets_network() {
    let both = "use tirami_wallet::Wallet;\nfn f(m: &tirami_mesh::Mesh) {}";
    let meets = |path: &str, text: &str| meetings(&[File::new(path, text)]);
    count(&meets("agent-runtime/src/turn.rs", both), 1);
    count(&meets("agent-runtime/src/buy/retry.rs", both), 1);
    count(&meets("agent-runtime/src/buy.rs", both), 0);
    count(&meets("agent-runtime/src/lib.rs", both), 1);
    let reexports = "pub use tirami_wallet::Hold;\npub use tirami_mesh::{engine, net};";
    count(&meets("agent-runtime/src/lib.rs", reexports), 0);
    count(&meets("agent-runtime/src/turn.rs", reexports), 1);
    count(
        &meets(
            "agent-runtime/src/turn.rs",
            "// tirami_wallet\nuse tirami_mesh::net;",
        ),
        0,
    );
}

#[test]
fn on_a_second_clock() {
    let reads = |path: &str, text: &str| clock_readers(&[File::new(path, text)]);
    count(&reads("mesh/src/net/iroh.rs", "let t = Instant::now();"), 1);
    count(
        &reads(
            "mesh/src/net/iroh.rs",
            "let t = std::time::SystemTime::now();",
        ),
        1,
    );
    count(
        &reads(
            "mesh/src/net/iroh.rs",
            "let t = tokio::time::Instant::now();",
        ),
        0,
    );
    count(
        &reads("agent-runtime/src/clock.rs", "let t = Instant::now();"),
        0,
    );
    count(
        &reads("wallet/benches/transfer.rs", "let t = Instant::now();"),
        0,
    );
}

#[test]
fn on_a_test_that_sleeps_or_is_ignored() {
    let sleeps = |path: &str, text: &str| sleepers(&[File::new(path, text)]);
    count(
        &sleeps(
            "mesh/tests/a.rs",
            "std::thread::sleep(d); tokio::time::sleep(d).await;",
        ),
        2,
    );
    count(
        &sleeps("mesh/src/a.rs", "fn f() { tokio::time::sleep(d) }"),
        0,
    );
    count(
        &sleeps(
            "mesh/src/a.rs",
            "#[cfg(test)] mod tests { use std::thread::sleep; }",
        ),
        1,
    );
    let ignores = |text: &str| ignored_tests(&[File::new("mesh/tests/a.rs", text)]);
    count(&ignores("#[test]\n#[ignore = \"slow\"]\nfn f() {}"), 1);
    count(
        &ignores("#[cfg_attr(miri, ignore)]\nfn f() {} // #[ignore]"),
        1,
    );
    count(&ignores("// #[ignore]\nfn ignored() {}"), 0);
}

#[test]
fn on_odd_characters() {
    let odd = |path: &str, text: &str| odd_characters(&[File::new(path, text)]);
    count(
        &odd(
            "mesh/src/a.rs",
            "/// 5 \u{b5}TRM \u{2014} chosen\nfn f() {}",
        ),
        0,
    );
    count(
        &odd("mesh/src/a.rs", "fn f() -> &'static str { \"\u{201c}\" }"),
        1,
    );
    count(
        &odd(
            "mesh/tests/a.rs",
            "fn f() -> &'static str { \"\u{1f642}\" }",
        ),
        0,
    );
    count(
        &odd(
            "mesh/src/a.rs",
            "#[cfg(test)]\nmod tests {\n f(\"\u{e9}\");\n}",
        ),
        0,
    );
}

#[test]
fn on_a_claim_without_a_test() {
    let files = |path: &str| match path {
        "a/tests/b.rs" => Some(
            "#[test]\nfn real() {}\nfn helper() {}\n#[tokio::test]\nasync fn real_too() {}\n\
             // #[test] fn commented() {}\n#[test]\n#[ignore]\nfn skipped() {}"
                .to_owned(),
        ),
        "c.py" => Some("def streams_a_chat():\n    pass".to_owned()),
        _ => None,
    };
    let claims = |rows: &str| {
        unproven(
            &format!("| capability | state | test |\n|---|---|---|\n{rows}"),
            files,
        )
    };
    count(
        &claims("| x | works | `a/tests/b.rs: real`, `a/tests/b.rs: real_too` |"),
        0,
    );
    count(&claims("| x | partial | `c.py: streams_a_chat` |"), 0);
    count(&claims("| x | not yet | |"), 0);
    count(&claims("| x | works | |"), 1);
    count(&claims("| x | mostly | `a/tests/b.rs: real` |"), 1);
    for missing in ["rea", "helper", "commented", "skipped", "absent"] {
        count(
            &claims(&format!("| x | works | `a/tests/b.rs: {missing}` |")),
            1,
        );
    }
    count(&claims("| x | works | `nowhere.rs: real` |"), 1);
    count(&claims("| x | works | `c.py: streams` |"), 1);
    count(&claims("| x | works | `real` |"), 1);
    count(&claims("| x | works |"), 1);
    count(&unproven("# Status\n\nEverything works.", files), 1);
    let exploit = "| exploit | state | test |\n|---|---|---|\n| x | works | `a/tests/b.rs: rea` |";
    count(&unproven(exploit, files), 1);
}
