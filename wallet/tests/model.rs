//! The ledger against a model a reader can check in one sitting: see `model/naive.rs`.
//!
//! The ledger may refuse what the exact sliding window allows for less than one bucket (a second, a
//! minute, 15 minutes); it may never allow what the model refuses, and refuses nothing else.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::too_many_arguments,
    clippy::disallowed_methods,
    reason = "a test that cannot go on should stop, one list reads best in one piece, and the time \
              it took is of interest"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tirami_manifest::mandate::Terms;

#[path = "model/asked.rs"]
mod asked;
#[path = "model/naive.rs"]
mod naive;
#[path = "model/pair.rs"]
mod pair;

use asked::{AGENTS, Asker, Choices, Op};
use naive::Number;
use pair::Pair;

/// Most operations of one case: many short cases find more than a few long ones.
const OPS: usize = 32;

/// After so many accepted groups everything is compared, and at the end.
const EVERY: u32 = 4;

/// Numbers that follow from one: `SplitMix64`. Each operation is made from one number, which costs far
/// less than a tree of strategies: nearly all of the time goes into the ledger. A failure is still cut
/// down to the few operations that it takes.
struct Dice(u64);

impl Choices for Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// One case: everybody's terms, and what is done.
#[derive(Clone)]
struct Case {
    terms: Vec<Terms>,
    ops: Vec<Op>,
}

/// A line for each, so that a failure can be read.
impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (agent, terms) in AGENTS.iter().zip(&self.terms) {
            let terms = serde_json::to_string(terms).map_err(|_| std::fmt::Error)?;
            writeln!(f, "\n{agent:?}: {terms}")?;
        }
        self.ops.iter().try_for_each(|op| write!(f, "\n{op:?}"))
    }
}

/// Cases of at most so many operations.
fn cases_of(most: usize) -> impl Strategy<Value = Case> {
    let terms = any::<u64>().prop_map(|seed| {
        let mut asker = Asker(Dice(seed));
        AGENTS.map(|_| asker.terms()).to_vec()
    });
    let op = any::<u64>().prop_map(|seed| Asker(Dice(seed)).op());
    let ops = prop::collection::vec(op, 1..=most);
    (terms, ops).prop_map(|(terms, ops)| Case { terms, ops })
}

/// `cases` of them; how often each refusal was given.
fn run(cases: u32) -> BTreeMap<Number, u64> {
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let seen = RefCell::new(BTreeMap::<Number, u64>::new());
    let outcome = runner.run(&cases_of(OPS), |Case { terms, ops }| {
        let mut pair = Pair::begin(&terms, EVERY);
        for op in ops {
            pair.does(op);
        }
        pair.ends_sound();
        for (number, count) in pair.seen {
            *seen.borrow_mut().entry(number).or_default() += count;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    seen.into_inner()
}

#[test]
fn the_ledger_does_what_the_model_does() {
    let begun = Instant::now();
    // Nightly asks for more.
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => 10_000,
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let each = cases.div_ceil(u32::try_from(threads).unwrap());
    let mut seen = BTreeMap::<Number, u64>::new();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(|| run(each))).collect();
        for (number, count) in all.into_iter().flat_map(|one| one.join().unwrap()) {
            *seen.entry(number).or_default() += count;
        }
    });
    println!(
        "{cases} cases in {:.1} s; refusals by number: {seen:?}",
        begun.elapsed().as_secs_f64()
    );
    if cases >= 5_000 {
        let never = (0..=31).find(|number| !seen.contains_key(number));
        assert_eq!(never, None, "a refusal that was never given");
    }
}
