//! Whatever text somebody shows: nothing holds but what the golden keys signed, in the golden networks.
#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use tirami_manifest::verify::verify;
use tirami_manifest_fuzz::{FILES, bytes_in, golden, write_seeds};

/// What the golden files say of networks and of nodes.
static KNOWN: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let mut known = BTreeSet::new();
    for (_, text) in FILES {
        if let Ok(verified) = verify(text) {
            let facts = verified.facts().expect("an object");
            known.extend(who(&facts));
        }
    }
    assert!(known.len() >= 4, "{known:?}");
    known
});

/// Names of what is signed.
const SIGNED: [&str; 5] = ["entry", "certificate", "receipt", "proof", "statement"];

/// What is signed in the golden files.
static BYTES: LazyLock<BTreeSet<Vec<u8>>> = LazyLock::new(|| {
    let in_file = |(_, text): (_, &str)| SIGNED.map(|name| bytes_in(text, name)).concat();
    FILES.into_iter().flat_map(in_file).collect()
});

/// Every network and signer that is named.
fn who(facts: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
    [
        "network",
        "node",
        "accused",
        "provider",
        "consumer",
        "root",
        "receipt_id",
    ]
    .iter()
    .filter_map(|name| facts.get(*name)?.as_str().map(str::to_owned))
    .collect()
}

fn holds(text: &str) {
    let Ok(verified) = verify(text) else {
        return;
    };
    let facts = verified.facts().expect("an object");
    let who = who(&facts);
    assert!(!who.is_empty(), "{} about nobody", verified.kind());
    for one in who {
        assert!(KNOWN.contains(&one), "{} forged: {one}", verified.kind());
    }
    for name in SIGNED {
        for bytes in bytes_in(text, name) {
            assert!(BYTES.contains(&bytes), "{} forged: {name}", verified.kind());
        }
    }
    // White space around it changes nothing.
    let again = verify(&format!("{}\n", text.trim_end())).expect("it held");
    assert_eq!(again, verified);
}

/// Every file, and the shortest chain of each author: what is cut off in the middle teaches little.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = FILES
        .iter()
        .map(|(_, text)| text.as_bytes().to_vec())
        .collect();
    for (name, text) in FILES {
        let lines: Vec<_> = text.lines().collect();
        if name.ends_with(".chain") && lines.len() > 3 {
            seeds.push([lines[0], lines[1]].join("\n").into_bytes());
        }
    }
    let (_, texts) = golden();
    seeds.push(vec![0; 64]);
    seeds.extend(texts.into_values().map(String::into_bytes));
    seeds
}

/// A golden file with a few characters changed: closer to one that holds than chance comes.
fn altered(data: &[u8]) -> Result<String> {
    let mut u = Unstructured::new(data);
    let (_, text) = FILES[u.choose_index(FILES.len())?];
    let mut text = text.to_owned();
    for _ in 0..u.int_in_range(1..=3)? {
        let at = u.choose_index(text.len())?;
        let new = *u.choose(&["0", "1", "7", "9", "a", "f", " ", "\n", "\"", ",", "}"])?;
        if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
            text.replace_range(at..=at, new);
        }
    }
    Ok(text)
}

// No text begins with a 0.
fuzz_target!(init: write_seeds(seeds()), |data: &[u8]| match data {
    [0, data @ ..] => {
        if let Ok(text) = altered(data) {
            holds(&text);
        }
    }
    _ => {
        if let Ok(text) = std::str::from_utf8(data) {
            holds(text);
        }
    }
});
