//! A copy of the wallet, and the way back.

use std::path::{Path, PathBuf};

use clap::Args;
use tirami_agent_runtime::ops::{self, Backup, BackupOutput};
use tirami_agent_runtime::{data_dir, owner};

use super::confirm::confirm;
use super::context::Context;
use super::exit::{Exit, Problem};
use super::passphrase::PassphraseArgs;
use crate::access::Need;
use crate::config::Overrides;

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The file to make; nothing may be there
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf, Problem> {
    std::path::absolute(path).map_err(|error| Problem::file(path, &error))
}

pub(super) async fn backup(context: &Context, args: &BackupArgs) -> Result<Exit, Problem> {
    let to = absolute(&args.file)?;
    if let Some(folder) = to.parent() {
        std::fs::read_dir(folder).map_err(|error| Problem::file(folder, &error))?;
    }
    let made = context.ask(Need::Books, Backup { to }).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&made);
    } else {
        out.facts(&facts(&made));
        out.note("checked; keep node.key and owner.key as well, which are not in it");
    }
    Ok(Exit::Ok)
}

fn facts(made: &BackupOutput) -> [(&'static str, String); 3] {
    [
        ("file", made.file.clone()),
        ("transfers", made.transfers.to_string()),
        ("bytes", made.size_bytes.to_string()),
    ]
}

pub(super) fn restore(context: &Context, args: &RestoreArgs) -> Result<Exit, Problem> {
    let (from, dir) = (absolute(&args.file)?, context.data_dir()?);
    std::fs::File::open(&from).map_err(|error| Problem::file(&from, &error))?;
    let question = format!(
        "This takes the wallet in {} back to what the backup holds: whatever was paid, earned or \
         tightened since is forgotten here, and not by other nodes: what their witness certified since is \
         certified no more. A founder forgets what it earned, paid and lent since, and members that sold to it, joined or \
         changed their key since then do not go on.",
        dir.display()
    );
    confirm(context, &question)?;
    // An earlier wallet may allow more than the present one.
    if data_dir::owner_key(&dir).exists() {
        owner::id(&dir, &args.passphrase.read(context)?)?;
    }
    let config = context.unlocked(&context.settings(Overrides::default())?.node)?;
    let restored = ops::restore(&from, &dir, config.key_passphrase.as_deref())?;
    let out = &context.out;
    if out.is_json() {
        out.json(&restored);
        return Ok(Exit::Ok);
    }
    out.facts(&facts(&restored.wallet));
    if let Some(moved) = &restored.moved_to {
        out.line(&format!("what was there before is now {moved}"));
    }
    Ok(Exit::Ok)
}
