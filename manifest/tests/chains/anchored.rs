//! That a chain was anchored: proofs that hold, those that somebody forged, and every byte of them changed.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tirami_manifest::anchor::{Anchor, Heads};
use tirami_manifest::anchored_file::AnchoredFile;
use tirami_manifest::id::to_hex;
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::verify::verify;
use tirami_manifest::{EntryId, NodeId};

use crate::files::{issuer, member};
use crate::no_byte_can_be_changed;
use crate::world::{Pen, at, id, key, private, shared};

fn head(pen: &Pen) -> (NodeId, u64, EntryId) {
    let last = &pen.last().body;
    (last.author, last.seq, last.id())
}

/// The newest entries of chains of the private network: the issuer's, the member's, and of others.
pub(crate) fn heads(more: u8) -> Heads {
    let mut heads = vec![head(&issuer()), head(&member())];
    heads.extend((0..more).map(|n| (id(20 + n), 7, EntryId::from_bytes([n; 32]))));
    Heads::new(heads)
}

fn anchor(heads: &Heads) -> Anchor {
    Anchor::new(&private().id(), at(90_000).ms() << 16 | 3, heads)
}

/// That the newest entry of a chain is under the root.
fn file(pen: &Pen, more: u8) -> AnchoredFile {
    let heads = heads(more);
    AnchoredFile::new(&private(), pen.last(), &heads, &anchor(&heads)).unwrap()
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

pub(crate) fn valid() -> BTreeMap<&'static str, String> {
    let alone = Heads::new(vec![head(&member())]);
    let alone = AnchoredFile::new(&private(), member().last(), &alone, &anchor(&alone));
    BTreeMap::from([
        ("anchored.json", pretty(&file(&member(), 3))),
        ("anchored-alone.json", pretty(&alone.unwrap())),
    ])
}

/// The same file with something else in it.
fn altered(change: impl FnOnce(&mut AnchoredFile)) -> String {
    let mut file = file(&member(), 3);
    change(&mut file);
    pretty(&file)
}

/// Every forgery with what is said of it.
pub(crate) fn forged() -> BTreeMap<&'static str, (String, &'static str)> {
    let older = altered(|file| {
        let entry = &member().entries[3];
        file.entry = to_hex(&entry.to_bytes());
        (file.says.seq, file.says.head) = (entry.body.seq, entry.body.id());
        file.says.as_of = entry.body.at().to_rfc3339();
    });
    let elsewhere = altered(|file| {
        let heads = heads(3);
        let anchor = Anchor::new(&shared().id(), at(90_000).ms() << 16 | 3, &heads);
        file.payload = to_hex(&anchor.to_bytes());
        file.says.payload.clone_from(&file.payload);
    });
    let stranger = altered(|file| {
        let body = member().last().body.clone();
        file.entry = to_hex(&Signed::new(body, &key(9)).to_bytes());
    });
    let foreign = altered(|file| file.genesis = to_hex(&shared().to_bytes()));
    let place = altered(|file| file.index = (file.index + 1) % 5);
    let larger = altered(|file| {
        let heads = heads(4);
        file.payload = to_hex(&anchor(&heads).to_bytes());
        file.says.payload.clone_from(&file.payload);
        (file.says.chains, file.says.root) = (heads.size(), heads.root());
    });
    let proves = altered(|file| "the_chain_holds".clone_into(&mut file.says.proves));
    BTreeMap::from([
        ("anchored-older-entry.json", (older, "root of the payload")),
        ("anchored-elsewhere.json", (elsewhere, "another network")),
        ("anchored-stranger.json", (stranger, "entry does not hold")),
        ("anchored-foreign.json", (foreign, "entry does not hold")),
        ("anchored-place.json", (place, "root of the payload")),
        (
            "anchored-other-payload.json",
            (larger, "root of the payload"),
        ),
        ("anchored-words.json", (proves, "the file was altered")),
    ])
}

/// Wherever a chain stands among how many others, its proof leads to the root, and no other one does.
#[test]
fn every_chain_is_proved_to_be_anchored() {
    for more in 0..12 {
        for pen in [issuer(), member()] {
            let file = file(&pen, more);
            let said = file.verify().unwrap();
            assert_eq!(said.chains, u64::from(more) + 2);
            assert_eq!((said.node, said.root), (pen.key.id(), heads(more).root()));
            for index in (0..said.chains + 2).filter(|index| *index != file.index) {
                let mut other = file.clone();
                other.index = index;
                assert!(other.verify().is_err(), "{index} of {}", said.chains);
            }
            let mut short = file.clone();
            short.path.pop();
            assert!(short.verify().is_err());
            let mut long = file;
            long.path.push(long.says.root);
            assert!(long.verify().is_err());
        }
    }
    let heads = heads(2);
    let nobody = Pen::new(&private(), 5);
    assert!(AnchoredFile::new(&private(), nobody.last(), &heads, &anchor(&heads)).is_none());
}

#[test]
fn no_byte_and_no_word_of_an_anchored_entry_can_be_changed() {
    let refused = no_byte_can_be_changed(&valid());
    for (name, text) in valid() {
        let whole: Value = serde_json::from_str(&text).unwrap();
        for field in whole["says"].as_object().unwrap().keys() {
            for value in [json!(77), json!("x"), Value::Null] {
                let mut other = whole.clone();
                other["says"][field] = value;
                assert!(verify(&other.to_string()).is_err(), "{name}: {field}");
            }
        }
    }
    assert!(refused > 5_000, "{refused}");
}
