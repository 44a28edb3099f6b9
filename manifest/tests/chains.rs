//! Chains of whole networks: what holds, what does not, and the files that say so.
//!
//! `files/valid` and `files/forged` are what a second implementation, `examples/verifier`, is held
//! against too. Changing one is changing the protocol.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on should stop"
)]

use std::collections::BTreeMap;

use tirami_manifest::verify::verify;

#[path = "chains/alone.rs"]
mod alone;
#[path = "chains/anchored.rs"]
mod anchored;
#[path = "chains/any.rs"]
mod any;
#[path = "chains/files.rs"]
mod files;
#[path = "chains/forged.rs"]
mod forged;
#[path = "chains/fraud.rs"]
mod fraud;
#[path = "chains/issuers.rs"]
mod issuers;
#[path = "chains/journal.rs"]
mod journal;
#[path = "chains/layouts.rs"]
mod layouts;
#[path = "chains/market.rs"]
mod market;
#[path = "chains/rules.rs"]
mod rules;
#[path = "chains/signatures.rs"]
mod signatures;
#[path = "chains/statements.rs"]
mod statements;
#[path = "chains/world.rs"]
mod world;

/// Asserts that no byte of files that hold can be changed and none be cut off; says how many changes were refused.
fn no_byte_can_be_changed(files: &BTreeMap<&'static str, String>) -> u64 {
    let mut refused = 0;
    for (name, text) in files {
        for at in 0..text.len() {
            for flip in [0x01, 0x02, 0x20, 0x80] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= flip;
                let Ok(changed) = String::from_utf8(bytes) else {
                    continue;
                };
                // Hexadecimal may have either case, and a line end of another kind is white space still.
                if changed.eq_ignore_ascii_case(text) {
                    continue;
                }
                assert!(verify(&changed).is_err(), "{name}: byte {at}, flip {flip}");
                refused += 1;
            }
        }
        for cut in 0..text.trim_end().len() {
            assert!(verify(&text[..cut]).is_err(), "{name}: cut at {cut}");
        }
        let more = text.clone() + "{}";
        assert!(verify(&more).is_err(), "{name}: more behind");
    }
    refused
}
