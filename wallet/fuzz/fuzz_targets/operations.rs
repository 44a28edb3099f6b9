//! Lists of ledger operations, on the ledger and on the model of its tests side by side.
//!
//! After each operation both gave the same answer, a refusal wrote nothing, and accounts, pots, holds
//! and mandates say the same. In the end the audit holds, and the same list gives the same tables.
#![no_main]

#[path = "../../tests/model/asked.rs"]
mod asked;
#[path = "../../tests/model/naive.rs"]
mod naive;
#[path = "../../tests/model/pair.rs"]
mod pair;

use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

/// Most operations of one list: many short ones find more than a few long ones.
const OPS: usize = 48;

/// Every choice takes as few bytes as it may, so that a changed byte changes one choice. What there are
/// no bytes for is the first of what may be.
struct Bytes<'a>(Unstructured<'a>);

impl asked::Choices for Bytes<'_> {
    fn below(&mut self, end: u64) -> u64 {
        self.0.int_in_range(0..=end - 1).unwrap_or(0)
    }
}

/// Writes lists to begin with into the folder that `TIRAMI_FUZZ_SEEDS` names, if it does.
fn write_seeds() {
    let Some(folder) = std::env::var_os("TIRAMI_FUZZ_SEEDS") else {
        return;
    };
    let folder = std::path::PathBuf::from(folder);
    let mut state = 0x9e37_79b9_u64;
    for number in 0..32 {
        let seed: Vec<u8> = (0..600)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56).to_le_bytes()[0]
            })
            .collect();
        std::fs::write(folder.join(format!("seed-{number}")), seed).expect("a folder to write to");
    }
}

fuzz_target!(init: write_seeds(), |data: &[u8]| {
    let mut asker = asked::Asker(Bytes(Unstructured::new(data)));
    let terms = asked::AGENTS.map(|_| asker.terms());
    let mut pair = pair::Pair::begin(&terms, 1);
    for _ in 0..OPS {
        if asker.0.0.is_empty() {
            break;
        }
        pair.does(asker.op());
    }
    pair.ends_sound();
});
