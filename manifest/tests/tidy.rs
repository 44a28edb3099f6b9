//! The walls of the workspace, as tests. They stand in the leaf crate, so that they run in a second.
//!
//! Each rule is a function from text to complaints. One test applies it to this workspace, and
//! another, in `the_rules_can_fail`, shows it something that breaks it.

#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/the_rules_can_fail.rs"]
mod the_rules_can_fail;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::{File, names, rust_files};

const MEMBERS: [&str; 6] = [
    "manifest",
    "wallet",
    "mesh",
    "agent-runtime",
    "mcp-server",
    "examples",
];

/// What each crate may know of the others. `examples` may know all.
const EDGES: [(&str, &[&str]); 5] = [
    ("manifest", &[]),
    ("wallet", &["manifest"]),
    ("mesh", &["manifest"]),
    ("agent-runtime", &["manifest", "wallet", "mesh"]),
    ("mcp-server", &["manifest", "agent-runtime"]),
];

/// What must not be linked into a crate, by name of package; a trailing `*` stands for any rest.
const STRANGERS: [(&str, &[&str]); 3] = [
    ("manifest", &["tokio*", "redb", "iroh*", "axum*", "rmcp*"]),
    (
        "wallet",
        &["iroh*", "axum*", "rmcp*", "hyper*", "reqwest", "quinn*"],
    ),
    ("mesh", &["redb", "axum*", "rmcp*", "tirami-wallet"]),
];

/// Folders of rules, and what their code must not name.
const PURE: [(&str, &[&str], &str); 2] = [
    (
        "wallet/src/ledger",
        &[
            "redb",
            "tokio",
            "tracing",
            "std::fs",
            "std::io",
            "std::net",
            "std::time",
            "std::thread",
            "SystemTime",
            "Instant",
            "rand",
            "getrandom",
            "f32",
            "f64",
            "HashMap",
            "HashSet",
        ],
        "the ledger is rules only: take the time and the tables as arguments, count in integers, \
         keep order with BTreeMap; storage belongs in wallet/src/store",
    ),
    (
        "mesh/src/proto",
        &["iroh", "tokio"],
        "the protocol has no sockets: what awaits or connects belongs in mesh/src/net",
    ),
];

/// The files in which money meets network, and the one that builds both.
const MEETING: [&str; 10] = [
    "agent-runtime/src/buy.rs",
    "agent-runtime/src/serve.rs",
    "agent-runtime/src/sync.rs",
    "agent-runtime/src/certifying.rs",
    "agent-runtime/src/claiming.rs",
    "agent-runtime/src/intake.rs",
    "agent-runtime/src/sale.rs",
    "agent-runtime/src/travelling.rs",
    "agent-runtime/src/recover.rs",
    "agent-runtime/src/runtime.rs",
];

const CLOCK: &str = "agent-runtime/src/clock.rs";

/// Units, signs and dashes that comments may use beside ASCII.
const SIGNS: &str = "µ·×÷±−≤≥≈≠→←↔…–—§°²³⁴⁵⁶⁷⁸⁹⁰¹⁻";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the workspace")
        .into()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn sources() -> Vec<File> {
    rust_files(&root(), &MEMBERS)
}

#[track_caller]
fn expect_none(complaints: &[String], remedy: &str) {
    assert!(
        complaints.is_empty(),
        "\n  {}\n\n{remedy}\n",
        complaints.join("\n  ")
    );
}

// --- crates ---------------------------------------------------------------------------------------

/// The packages that a `Cargo.toml` depends on, in whatever section and under whatever name.
fn dependencies(cargo_toml: &str) -> BTreeSet<String> {
    fn collect(table: &toml::Table, found: &mut BTreeSet<String>) {
        for (key, value) in table {
            let Some(inner) = value.as_table() else {
                continue;
            };
            if key.ends_with("dependencies") {
                for (name, details) in inner {
                    let package = details.get("package").and_then(toml::Value::as_str);
                    found.insert(package.unwrap_or(name).to_owned());
                }
            } else {
                collect(inner, found);
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(&cargo_toml.parse().expect("Cargo.toml is TOML"), &mut found);
    found
}

fn forbidden_edges(member: &str, cargo_toml: &str) -> Vec<String> {
    let allowed = EDGES
        .iter()
        .find(|(name, _)| *name == member)
        .map_or(&[][..], |(_, to)| *to);
    dependencies(cargo_toml)
        .iter()
        .filter_map(|package| package.strip_prefix("tirami-"))
        .filter(|other| !allowed.contains(other))
        .map(|other| format!("{member}/Cargo.toml: {member} must not depend on {other}"))
        .collect()
}

#[test]
fn crates_know_only_those_below_them() {
    let complaints: Vec<String> = EDGES
        .iter()
        .flat_map(|(member, _)| forbidden_edges(member, &read(&format!("{member}/Cargo.toml"))))
        .collect();
    expect_none(
        &complaints,
        "A line down means \"may depend on the one above\", tests included:\n\
         manifest <- wallet, mesh <- agent-runtime <- mcp-server. What two siblings both need is a \
         word of manifest; what needs both is agent-runtime. See docs/adr/0001.",
    );
}

#[test]
fn the_workspace_is_the_crates_this_file_knows() {
    let cargo_toml: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    let members: Vec<&str> = cargo_toml
        .get("workspace")
        .and_then(|w| w.get("members"))
        .and_then(toml::Value::as_array)
        .expect("the workspace has members")
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();
    assert_eq!(
        members, MEMBERS,
        "a new crate needs its rules here, and an ADR"
    );
}

/// What `package` reaches in a lock file, with the package that brought it.
fn reach(lock: &toml::Table, package: &str) -> BTreeMap<String, String> {
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for entry in lock
        .get("package")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
    {
        let name = entry
            .get("name")
            .and_then(toml::Value::as_str)
            .unwrap_or_default();
        let list = entry.get("dependencies").and_then(toml::Value::as_array);
        edges.entry(name).or_default().extend(
            list.into_iter()
                .flatten()
                .filter_map(toml::Value::as_str)
                .filter_map(|text| text.split(' ').next()),
        );
    }
    let mut found = BTreeMap::new();
    let mut open = vec![package];
    while let Some(from) = open.pop() {
        for to in edges.get(from).into_iter().flatten() {
            if found.insert((*to).to_owned(), from.to_owned()).is_none() {
                open.push(to);
            }
        }
    }
    found
}

fn strangers(member: &str, banned: &[&str], lock: &toml::Table) -> Vec<String> {
    let is_banned = |name: &str| {
        banned.iter().any(|b| match b.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *b,
        })
    };
    reach(lock, &format!("tirami-{member}"))
        .into_iter()
        .filter(|(name, _)| is_banned(name))
        .map(|(name, by)| format!("{member} links {name}, which {by} brings"))
        .collect()
}

#[test]
fn crates_link_no_strangers_however_far_down() {
    let lock: toml::Table = read("Cargo.lock").parse().expect("Cargo.lock is TOML");
    let complaints: Vec<String> = STRANGERS
        .iter()
        .flat_map(|(member, banned)| strangers(member, banned, &lock))
        .collect();
    expect_none(
        &complaints,
        "wallet reaches no network, mesh reaches no ledger, manifest reaches neither and has no \
         runtime. Turn off the feature that brings it, or move the code to the crate that may.",
    );
}

// --- code -----------------------------------------------------------------------------------------

fn in_module(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

fn impurities(module: &str, banned: &[&str], files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|f| in_module(&f.path, module)) {
        for name in names(&file.production()) {
            if let Some(word) = banned.iter().find(|word| name.has(word)) {
                complaints.push(format!(
                    "{}: names {word} ({})",
                    file.at(name.line),
                    name.text()
                ));
            }
        }
    }
    complaints
}

#[test]
fn rules_stay_pure() {
    let files = sources();
    for (module, banned, remedy) in PURE {
        expect_none(&impurities(module, banned, &files), remedy);
    }
}

fn meetings(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|f| !f.path.starts_with("examples/")) {
        let reexports_only = file.path == "agent-runtime/src/lib.rs";
        let names = names(&file.production());
        let line_of = |krate: &str| {
            names
                .iter()
                .find(|n| n.has(krate) && !(reexports_only && n.reexport))
                .map(|n| n.line)
        };
        if let (Some(wallet), Some(mesh)) = (line_of("tirami_wallet"), line_of("tirami_mesh"))
            && !MEETING.contains(&file.path.as_str())
        {
            complaints.push(format!(
                "{}: names tirami_wallet, and line {mesh} names tirami_mesh",
                file.at(wallet)
            ));
        }
    }
    complaints
}

#[test]
fn money_meets_network_in_few_files() {
    expect_none(
        &meetings(&sources()),
        "Only agent-runtime/src/{buy,serve,sync,recover}.rs may name both, and runtime.rs, which \
         builds both (lib.rs may re-export). Pass what you need as a type of manifest.",
    );
}

fn clock_readers(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files
        .iter()
        .filter(|f| f.path != CLOCK && !f.path.starts_with("examples/"))
    {
        for name in names(&file.production()) {
            let reads = name.has("SystemTime::now") || name.has("Instant::now");
            // Virtual in tests that pause it, and no use for anything but waiting.
            if reads && !name.has("tokio::time::Instant::now") {
                complaints.push(format!("{}: {}", file.at(name.line), name.text()));
            }
        }
    }
    complaints
}

#[test]
fn one_file_reads_the_clock() {
    expect_none(
        &clock_readers(&sources()),
        "Only agent-runtime/src/clock.rs reads the time. Take a tirami_manifest::Clock or a \
         Timestamp; to wait, use tokio::time (tokio::time::Instant::now, written in full, is fine).",
    );
}

// --- tests ----------------------------------------------------------------------------------------

fn sleepers(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        for name in names(&file.tests()) {
            let last = name.segments.last().map_or("", String::as_str);
            let before = name.segments.iter().rev().nth(1).map_or("", String::as_str);
            if matches!(last, "sleep" | "sleep_until" | "sleep_ms")
                && matches!(before, "thread" | "time")
            {
                complaints.push(format!("{}: {}", file.at(name.line), name.text()));
            }
        }
    }
    complaints
}

#[test]
fn tests_do_not_sleep() {
    expect_none(
        &sleepers(&sources()),
        "A test that sleeps is slow when it passes and wrong when the machine is busy. Wait for the \
         event itself under a timeout, or move a ManualClock.",
    );
}

fn ignored_tests(files: &[File]) -> Vec<String> {
    files
        .iter()
        .flat_map(|file| {
            let code = source::code(&file.text);
            let lines: Vec<usize> = code
                .lines()
                .enumerate()
                .filter(|(_, line)| {
                    let line: String = line.split_whitespace().collect();
                    line.contains("#[ignore")
                        || (line.contains("cfg_attr(") && line.contains("ignore"))
                })
                .map(|(number, _)| number + 1)
                .collect();
            lines
                .into_iter()
                .map(|line| format!("{}: ignores a test", file.at(line)))
        })
        .collect()
}

#[test]
fn no_test_is_ignored() {
    expect_none(
        &ignored_tests(&sources()),
        "A test that nobody runs proves nothing. Make it fast, give it fewer rounds by default and \
         more in `make nightly`, or delete it.",
    );
}

fn odd_characters(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        let tests = file.tests();
        let mut test_lines = tests.lines();
        for (number, line) in file.text.lines().enumerate() {
            let in_test = file.is_test() || test_lines.next().is_some_and(|l| !l.trim().is_empty());
            let is_odd = |c: &char| !c.is_ascii() && !in_test && !SIGNS.contains(*c);
            if let Some(c) = line.chars().find(is_odd) {
                complaints.push(format!(
                    "{}: {c:?}, U+{:04X}",
                    file.at(number + 1),
                    u32::from(c)
                ));
            }
        }
    }
    complaints
}

#[test]
fn sources_are_plain_text() {
    expect_none(
        &odd_characters(&sources()),
        "Outside tests, sources are ASCII and a few signs and units. Write \\u{..} in literals, and \
         plain words in comments.",
    );
}

// --- claims ---------------------------------------------------------------------------------------

/// True when `text` has a test function `name` that is not ignored.
fn has_test(text: &str, name: &str) -> bool {
    let code = source::code(text);
    let is_call = |rest: &str| rest.trim_start().starts_with(['(', '<']);
    code.match_indices(&format!("fn {name}"))
        .any(|(at, found)| {
            let (before, rest) = code.split_at(at);
            let attributes = before.rsplit(['{', '}', ';']).next().unwrap_or_default();
            is_call(rest.strip_prefix(found).unwrap_or_default())
                && attributes.contains("#[")
                && attributes.contains("test")
                && !attributes.contains("ignore")
        })
}

/// True when a file that is not Rust mentions `name` as a word.
fn has_word(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == name)
}

/// Rows of `| capability | state | test |` tables, and of those of exploits, that claim what no test shows.
fn unproven(status: &str, file: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut rows = 0;
    let mut in_table = false;
    for (number, line) in status.lines().enumerate() {
        let at = format!("docs/status.md:{}", number + 1);
        let cells: Vec<&str> = line
            .trim()
            .trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        if !line.trim_start().starts_with('|') {
            in_table = false;
        } else if matches!(cells[..], ["capability" | "exploit", "state", "test"]) {
            in_table = true;
        } else if in_table && !line.contains("---") {
            rows += 1;
            let [capability, state, tests] = cells.as_slice() else {
                complaints.push(format!("{at}: a row has three cells"));
                continue;
            };
            complaints.extend(
                row_complaints(state, tests, &file)
                    .into_iter()
                    .map(|complaint| format!("{at}: \"{capability}\" {complaint}")),
            );
        }
    }
    if rows == 0 {
        complaints.push("docs/status.md: no table | capability | state | test | with rows".into());
    }
    complaints
}

fn row_complaints(state: &str, tests: &str, file: impl Fn(&str) -> Option<String>) -> Vec<String> {
    if !matches!(state, "works" | "partial" | "not yet") {
        return vec![format!(
            "is \"{state}\", which is none of works, partial, not yet"
        )];
    }
    let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
    let mut complaints = Vec::new();
    if named.is_empty() && state != "not yet" {
        complaints.push(format!("is said to be \"{state}\" and names no test"));
    }
    for entry in named {
        let Some((path, name)) = entry.split_once(": ") else {
            complaints.push(format!(
                "names `{entry}`, which is not `path/to/file: function`"
            ));
            continue;
        };
        let is_rust = Path::new(path).extension().is_some_and(|e| e == "rs");
        match file(path) {
            None => complaints.push(format!("names {path}, which does not exist")),
            Some(text) if is_rust && !has_test(&text, name) => {
                complaints.push(format!("names a test {name}, which {path} does not have"));
            }
            Some(text) if !has_word(&text, name) => {
                complaints.push(format!("names {name}, which {path} does not mention"));
            }
            Some(_) => {}
        }
    }
    complaints
}

#[test]
fn every_claimed_capability_has_a_test() {
    expect_none(
        &unproven(&read("docs/status.md"), |path| {
            fs::read_to_string(root().join(path)).ok()
        }),
        "What docs/status.md says works, or works in part, names the test that goes in through a \
         real entry point: | capability | works | `path/to/file.rs: test_function` |",
    );
}
