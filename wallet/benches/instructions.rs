//! How many instructions one decision takes: the same on a busy machine as on an idle one.
//!
//! `make instructions` runs this under valgrind and compares with `.ci/instructions.txt`.

#![expect(missing_docs, clippy::exit, reason = "so the macros have it")]

use std::hint::black_box;

use gungraun::prelude::*;

mod subject;

use subject::{Case, Decisions};

#[library_benchmark]
#[bench::bare(Decisions::new(Case::Bare, 1))]
#[bench::spend_5_deep(Decisions::new(Case::Spend { depth: 5 }, 1))]
#[bench::bare_hold(Decisions::new(Case::BareHold, 1))]
#[bench::hold_1_deep(Decisions::new(Case::Hold { depth: 1 }, 1))]
#[bench::hold_5_deep(Decisions::new(Case::Hold { depth: 5 }, 1))]
#[bench::group_of_4(Decisions::new(Case::Group(4), 1))]
#[bench::post(Decisions::new(Case::Post, 1))]
#[bench::void(Decisions::new(Case::Void, 1))]
fn decision(ready: Decisions) -> impl Sized {
    black_box(ready.take())
}

library_benchmark_group!(name = decisions, benchmarks = decision);
main!(library_benchmark_groups = decisions);
