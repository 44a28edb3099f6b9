//! What the wallet's durable writes cost, as ratios to other things measured in the same run.
//!
//! `make bench-ledger` builds and starts this; docs/bench.md says what each figure means. Nothing is
//! judged by exit code: a target that is missed is printed as missed.

mod meter;
mod postgresql;
mod purse;
mod raw;
mod report;
mod sections;
mod sqlite;
#[path = "../../../wallet/benches/subject/mod.rs"]
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use report::Report;

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Args {
    json: Option<PathBuf>,
    rounds: u32,
    only: Vec<String>,
    /// Rows of history, rising.
    history: Vec<u64>,
}

const SECTIONS: [&str; 5] = ["single", "batch", "mandates", "others", "history"];

impl Args {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut args = Self {
            json: None,
            rounds: 5,
            only: SECTIONS.map(str::to_owned).to_vec(),
            history: vec![1_000, 100_000, 1_000_000],
        };
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} needs a value"))
            };
            match word.as_str() {
                "--json" => args.json = Some(value()?.into()),
                "--rounds" => args.rounds = value()?.parse()?,
                "--only" => args.only = value()?.split(',').map(str::to_owned).collect(),
                "--history" => {
                    let rows: Result<_, _> = value()?.split(',').map(str::parse).collect();
                    args.history = rows?;
                }
                _ => bail!(
                    "ledger-bench [--json FILE] [--rounds N] [--only {}] [--history ROWS,..]",
                    SECTIONS.join(",")
                ),
            }
        }
        for section in &args.only {
            if !SECTIONS.contains(&section.as_str()) {
                bail!(
                    "there is no section {section}; there are {}",
                    SECTIONS.join(", ")
                );
            }
        }
        Ok(args)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ledger-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args = Args::read(std::env::args().skip(1))?;
    let folder =
        std::env::var_os("TIRAMI_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::Builder::new()
        .prefix("tirami-bench")
        .tempdir_in(&folder)
        .with_context(|| format!("nothing can be written in {}", folder.display()))?;
    let mut report = Report::new(folder.path());
    for section in &args.only {
        match section.as_str() {
            "single" => sections::single(&mut report, folder.path(), &args),
            "batch" => sections::batch(&mut report, folder.path(), &args),
            "mandates" => sections::mandates(&mut report, folder.path(), &args),
            "others" => sections::others(&mut report, folder.path(), &args)?,
            _ => sections::history(&mut report, folder.path(), &args),
        }
    }
    report.finish(folder.path());
    print!("{}", report.text());
    if let Some(path) = &args.json {
        std::fs::write(path, report.json()?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
