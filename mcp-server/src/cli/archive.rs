//! Entries of the journal as files, and the way back.

use std::path::PathBuf;

use clap::Args;
use tirami_agent_runtime::ops::{Archive, ArchiveOutput, Unarchive};

use super::backup::absolute;
use super::confirm::confirm;
use super::context::Context;
use super::exit::{Exit, Problem};
use super::local_time;
use crate::access::Need;

#[derive(Debug, Args)]
pub(super) struct ArchiveArgs {
    /// The file to make; nothing may be there
    file: PathBuf,
    /// Only entries up to this number [default: all]
    #[arg(long, value_name = "SEQ", conflicts_with = "older_than")]
    up_to: Option<u64>,
    /// Only entries that are older than so many days
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,
    /// Remove them from the wallet, once the file was read again and holds; asks first
    #[arg(long)]
    drop: bool,
}

#[derive(Debug, Args)]
pub(super) struct UnarchiveArgs {
    /// The archive that has the newest entries which are not in the wallet
    file: PathBuf,
}

pub(super) async fn archive(context: &Context, args: ArchiveArgs) -> Result<Exit, Problem> {
    let to = absolute(&args.file)?;
    if let Some(folder) = to.parent() {
        std::fs::read_dir(folder).map_err(|error| Problem::file(folder, &error))?;
    }
    if args.drop {
        let question = format!(
            "This removes the archived entries from the wallet: {} is then the only file that has them.",
            to.display()
        );
        confirm(context, &question)?;
    }
    let asked = Archive {
        to,
        up_to: args.up_to,
        older_than_days: args.older_than,
        drop: args.drop,
    };
    let made = context.ask(Need::Books, asked).await?;
    say(context, &made);
    if !context.out.is_json() {
        context.out.note("checked; anyone can check it again with");
        let command = format!("  tirami-agent verify {}", made.file);
        context.out.note(&command);
    }
    Ok(Exit::Ok)
}

pub(super) async fn unarchive(context: &Context, args: UnarchiveArgs) -> Result<Exit, Problem> {
    let from = absolute(&args.file)?;
    std::fs::File::open(&from).map_err(|error| Problem::file(&from, &error))?;
    let made = context.ask(Need::Books, Unarchive { from }).await?;
    say(context, &made);
    Ok(Exit::Ok)
}

fn say(context: &Context, made: &ArchiveOutput) {
    let out = &context.out;
    if out.is_json() {
        out.json(made);
        return;
    }
    let not_here = match made.dropped {
        0 => "none: the wallet has every entry".to_owned(),
        last => format!("entries 1 to {last}"),
    };
    out.facts(&[
        ("file", made.file.clone()),
        (
            "entries",
            format!("{}, number {} to {}", made.entries, made.first, made.last),
        ),
        ("since", local_time::exact(&made.since)),
        ("until", local_time::exact(&made.until)),
        ("root", format!("{:?}", made.root)),
        ("in archives only", not_here),
    ]);
}
