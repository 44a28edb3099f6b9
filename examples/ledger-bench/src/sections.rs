//! What is compared with what. In every round the contestants take turns.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tokio::runtime::Builder;

use crate::Args;
use crate::meter::{Traffic, Watch, count, counted, timed};
use crate::postgresql::{Postgres, Rows};
use crate::purse::Purse;
use crate::raw::{self, Commit, Keys, Raw};
use crate::report::{Report, Target};
use crate::sqlite::Sqlite;
use crate::subject::{self, Books, COMMITS_PER_PAYMENT, Move, Node};

/// Requests at once in the batched figures.
const IN_FLIGHT: u64 = 128;

/// One client: payments over what redb's commits allow.
pub(crate) fn single(report: &mut Report, folder: &Path, args: &Args) {
    let bytes = subject::bytes_of_a_hold();
    let new = |name, commit| Raw::new(&folder.join(name), Keys::Rising, commit, bytes);
    let mut plain = new("single-plain", Commit::Plain);
    let mut quick = new("single-quick", Commit::QuickRepair);
    let mut spread = new("single-spread", Commit::Plain);
    let mut purse = Purse::new(&folder.join("single-wallet"));
    // A disk that others use too changes from one moment to the next: short laps, many of them.
    for _ in 0..args.rounds * 5 {
        report.lap("redb, one row a commit", plain.single(120));
        report.lap("redb, one row a commit, quick repair", quick.single(120));
        report.lap(
            "redb, a row in each of seven tables a commit",
            spread.spread(120),
        );
        report.lap("wallet, payments, one client", purse.payments(40));
        report.lap(
            "wallet, commands that write nothing, one client",
            purse.nothing(1_000),
        );
    }
    purse.close();
    let (wallet, commits) = (
        "wallet, payments, one client",
        f64::from(COMMITS_PER_PAYMENT),
    );
    report.rates(
        "one client: payments, of what redb's commits allow",
        (wallet, commits, "redb, one row a commit, quick repair"),
        Target::AtLeast(0.9),
    );
    report.rates(
        "one client: of commits to seven tables",
        (
            wallet,
            commits,
            "redb, a row in each of seven tables a commit",
        ),
        Target::None,
    );
    report.rates(
        "one client: of commits with one flush, without quick repair",
        (wallet, commits, "redb, one row a commit"),
        Target::None,
    );
}

/// Many clients: holds over redb's own batches.
pub(crate) fn batch(report: &mut Report, folder: &Path, args: &Args) {
    let bytes = subject::bytes_of_a_hold();
    let new = |name, keys, commit| Raw::new(&folder.join(name), keys, commit, bytes);
    let mut raws = [
        (
            "redb, 128 pairs a commit",
            new("batch-1", Keys::Rising, Commit::Plain),
        ),
        (
            "redb, 128 pairs a commit, scattered",
            new("batch-2", Keys::Scattered, Commit::Plain),
        ),
        (
            "redb, 128 pairs a commit, quick repair",
            new("batch-3", Keys::Rising, Commit::QuickRepair),
        ),
    ];
    let mut purse = Purse::new(&folder.join("batch-wallet"));
    for _ in 0..args.rounds {
        for (name, raw) in &mut raws {
            report.lap(name, raw.batched(100, IN_FLIGHT));
        }
        let [begins, holds, voids] = purse.steps(6_400, IN_FLIGHT);
        report.lap("wallet, begins, 128 in flight", begins);
        report.lap("wallet, holds, 128 in flight", holds);
        report.lap("wallet, voids, 128 in flight", voids);
    }
    purse.close();
    for (what, below, target) in [
        (
            "128 in flight: holds, of redb's pairs",
            "redb, 128 pairs a commit",
            Target::AtLeast(0.25),
        ),
        (
            "128 in flight: of scattered pairs",
            "redb, 128 pairs a commit, scattered",
            Target::None,
        ),
        (
            "128 in flight: of pairs with quick repair",
            "redb, 128 pairs a commit, quick repair",
            Target::None,
        ),
    ] {
        report.rates(what, ("wallet, holds, 128 in flight", 1.0, below), target);
    }
}

/// What a chain of mandates costs: a hold under five of them, every limit set, over a bare transfer.
pub(crate) fn mandates(report: &mut Report, folder: &Path, args: &Args) {
    let traffic = Traffic::default();
    let mut books = Books::new(counted(&folder.join("mandates"), &traffic));
    let mut lap = |what, commits, at_once| {
        let mut watch = Watch::new(&traffic);
        watch.start();
        books.commits(what, commits, at_once);
        watch.stop(commits * at_once);
        watch.lap()
    };
    let (bare, deep) = ("bare transfers", "holds five mandates deep");
    for _ in 0..args.rounds {
        for (name, what) in [(bare, Move::Bare), (deep, Move::HoldDeepest)] {
            report.lap(&format!("{name}, one a commit"), lap(what, 200, 1));
            let laps = lap(what, 40, IN_FLIGHT);
            report.lap(&format!("{name}, 128 a commit"), laps);
        }
    }
    for each in ["one a commit", "128 a commit"] {
        let (bare, deep) = (format!("{bare}, {each}"), format!("{deep}, {each}"));
        let text = format!("five mandates deep over bare, {each}");
        report.rates(
            &format!("{text}, time"),
            (&bare, 1.0, &deep),
            Target::AtMost(2.0),
        );
        let text = format!("{text}, processor");
        report.processor(&text, &deep, &bare, Target::AtMost(4.0));
    }
}

/// The same hold, one transaction each, on what people use instead.
pub(crate) fn others(report: &mut Report, folder: &Path, args: &Args) -> Result<()> {
    const FLIGHTS: [(u64, u64); 4] = [(1, 400), (16, 1_600), (64, 3_200), (128, 3_840)];
    let mut purse = Purse::new(&folder.join("others-wallet"));
    let mut sqlite = Sqlite::new(&folder.join("others-sqlite"))?;
    let mut postgres = Postgres::start(folder)?;
    for _ in 0..args.rounds {
        for (flight, holds) in FLIGHTS {
            let [_, lap, _] = purse.steps(holds, flight);
            report.lap(&format!("wallet, holds, {flight:>3} at once"), lap);
            let lap = sqlite.holds(holds, flight);
            report.lap(&format!("SQLite, holds, {flight:>3} at once"), lap);
            let lap = postgres.holds(holds, flight, Rows::Own)?;
            report.lap(
                &format!("PostgreSQL, rows of one's own, {flight:>3} at once"),
                lap,
            );
            let lap = postgres.holds(holds, flight, Rows::OwnInServer)?;
            report.lap(
                &format!("PostgreSQL, in one call, {flight:>3} at once"),
                lap,
            );
            let lap = postgres.holds(holds, flight, Rows::Shared)?;
            report.lap(
                &format!("PostgreSQL, one shared account, {flight:>3} at once"),
                lap,
            );
        }
    }
    purse.close();
    for (flight, _) in FLIGHTS {
        let target = if flight < 16 {
            Target::None
        } else {
            Target::AtLeast(1.0)
        };
        let wallet = format!("wallet, holds, {flight:>3} at once");
        for other in [
            "SQLite, holds",
            "PostgreSQL, rows of one's own",
            "PostgreSQL, in one call",
            "PostgreSQL, one shared account",
        ] {
            let below = format!("{other}, {flight:>3} at once");
            let what = format!("{flight:>3} at once: wallet over {other}");
            report.rates(&what, (&wallet, 1.0, &below), target);
        }
    }
    Ok(())
}

/// The same work over more and more history, and how long opening takes.
pub(crate) fn history(report: &mut Report, folder: &Path, args: &Args) {
    // Rows alone first: how much of the difference is the store's, by the order of keys.
    let bytes = subject::bytes_of_a_hold();
    let name = |what: &str, rows: u64| format!("{what}, over {rows:>7} rows");
    let mut raws = Vec::new();
    let mut purses: Vec<(u64, PathBuf, Purse)> = Vec::new();
    for rows in &args.history {
        for (what, keys) in [
            ("redb, 128 rising pairs", Keys::Rising),
            ("redb, 128 scattered pairs", Keys::Scattered),
        ] {
            let path = folder.join(format!("history-{keys:?}-{rows}"));
            let mut raw = Raw::new(&path, keys, Commit::Plain, bytes);
            raw.fill(*rows);
            raws.push((name(what, *rows), raw));
        }
        let path = folder.join(format!("history-{rows}"));
        let mut purse = Purse::new(&path);
        purse.payments(1);
        purse.close();
        let ((), took) = timed(|| subject::fill(&path, 0, *rows));
        eprintln!(
            "{rows} transfers were recorded in {:.1} s",
            took.as_secs_f64()
        );
        purses.push((*rows, path.clone(), Purse::new(&path)));
    }
    for _ in 0..args.rounds {
        for (name, raw) in &mut raws {
            report.lap(name, raw.batched(50, IN_FLIGHT));
        }
        for (rows, _, purse) in &mut purses {
            let [begins, holds, voids] = purse.steps(3_200, IN_FLIGHT);
            report.lap(&name("wallet, begins, 128 in flight", *rows), begins);
            report.lap(&name("wallet, holds, 128 in flight", *rows), holds);
            report.lap(&name("wallet, voids, 128 in flight", *rows), voids);
            let [_, holds, _] = purse.steps(100, 1);
            report.lap(&name("wallet, holds, one client", *rows), holds);
        }
    }
    let (Some(least), Some(most)) = (args.history.first(), args.history.last()) else {
        return;
    };
    for what in ["redb, 128 rising pairs", "redb, 128 scattered pairs"] {
        let (above, below) = (name(what, *least), name(what, *most));
        report.rates(
            &format!("{what}: {most} rows, cost over {least}"),
            (&above, 1.0, &below),
            Target::None,
        );
    }
    for rows in args.history.iter().skip(1) {
        for what in ["holds, 128 in flight", "holds, one client"] {
            let wallet = format!("wallet, {what}");
            let (above, below) = (name(&wallet, *least), name(&wallet, *rows));
            let text = format!("{what}: {rows} rows, cost over {least}");
            report.rates(&text, (&above, 1.0, &below), Target::AtMost(1.3));
            report.processor(
                &format!("{text}, processor"),
                &below,
                &above,
                Target::AtMost(1.3),
            );
        }
    }
    for (rows, path, purse) in purses {
        // What a killed process leaves: the file as it is while nobody writes.
        let killed = folder.join("killed");
        fs::copy(&path, &killed).expect("the folder takes files");
        // What the copying left to be written is not the opening's to wait for.
        let copy = fs::File::open(&killed).and_then(|copy| copy.sync_all());
        copy.expect("the folder takes files");
        purse.close();
        let size = fs::metadata(&path).map_or(0, |file| file.len());
        let mib = |bytes| count(bytes) / 1024.0 / 1024.0;
        eprintln!("{rows} transfers: a file of {:.1} MiB", mib(size));
        for (name, rows, stored, pages) in raw::tables(&path) {
            let (stored, pages) = (mib(stored), mib(pages));
            if pages >= 1.0 {
                eprintln!("  {name}: {rows} rows, {stored:.1} MiB in pages of {pages:.1} MiB");
            }
        }
        let at_most = (rows == *most).then_some(1.0);
        for (what, path) in [("closed", &path), ("killed", &killed)] {
            let runtime = Builder::new_current_thread().build().expect("it starts");
            let (node, took) = timed(|| runtime.block_on(Node::open_file(path)));
            runtime.block_on(node.close());
            report.time(
                &format!("opening {rows} transfers, {what}"),
                took.as_secs_f64(),
                at_most,
            );
        }
        fs::remove_file(&killed).expect("it was there");
    }
}
