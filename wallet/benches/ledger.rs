//! How many decisions a second the rules take, over tables in memory: no disk, no threads.
//!
//! `cargo bench -p tirami-wallet --bench ledger`. Figures of two machines, or of two days, do not
//! compare; `instructions` counts what does.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

mod subject;

use subject::{Case, DEEPEST, Decisions};

/// Decisions taken over one copy of the tables.
const AT_ONCE: u64 = 16;

/// Transfers in a group.
const LINKED: u64 = 4;

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decisions");
    group.throughput(Throughput::Elements(AT_ONCE));
    let holds = (1..=DEEPEST).map(|depth| (format!("hold, {depth} deep"), Case::Hold { depth }));
    let cases = [
        ("bare transfer".to_owned(), Case::Bare),
        (format!("group of {LINKED}"), Case::Group(LINKED)),
        ("post".to_owned(), Case::Post),
        ("void".to_owned(), Case::Void),
    ];
    for (name, case) in cases.into_iter().chain(holds) {
        let ready = Decisions::new(case, AT_ONCE);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(|| ready.clone(), Decisions::take, BatchSize::SmallInput);
        });
    }
    for depth in 1..=DEEPEST {
        let ready = Decisions::new(Case::Hold { depth }, AT_ONCE);
        group.bench_function(format!("judge, {depth} deep"), |bencher| {
            bencher.iter(|| ready.judge());
        });
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
