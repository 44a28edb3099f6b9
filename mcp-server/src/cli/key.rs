//! The node's key: putting it under a passphrase, and changing it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use tirami_agent_runtime::{NodeConfig, data_dir, keys};

use super::confirm::confirm;
use super::context::Context;
use super::exit::{Exit, Problem};
use super::passphrase;
use crate::access::Access;
use crate::config::Overrides;

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Put the node's key under a passphrase, which each start then needs; or under another
    Protect(ProtectArgs),
    /// Take the node's key out from under its passphrase
    Unprotect,
    /// Change the node's key to the one that its chain named at its beginning; no node may run
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
pub(super) struct ProtectArgs {
    /// Read the new passphrase from this file instead of asking on the terminal
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The successor's key, where it is kept elsewhere [default: successor.key in the data directory]
    #[arg(long, value_name = "FILE")]
    successor: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, command: KeyCommand) -> Result<Exit, Problem> {
    match command {
        KeyCommand::Protect(args) => protect(context, &args).await,
        KeyCommand::Unprotect => unprotect(context).await,
        KeyCommand::Rotate(args) => rotate(context, &args).await,
    }
}

async fn protect(context: &Context, args: &ProtectArgs) -> Result<Exit, Problem> {
    let config = stopped(context).await?;
    let after = match &args.new_passphrase_file {
        Some(file) => passphrase::from_file(file, &context.out)?,
        None => passphrase::ask_twice(context, ("the node key's", "--new-passphrase-file"))?,
    };
    let node = keys::protect(&config, Some(&after)).await?;
    said(context, &node.to_string(), true);
    Ok(Exit::Ok)
}

async fn unprotect(context: &Context) -> Result<Exit, Problem> {
    let config = stopped(context).await?;
    confirm(
        context,
        "Whoever reads node.key can then spend as this node.",
    )?;
    let node = keys::protect(&config, None).await?;
    said(context, &node.to_string(), false);
    Ok(Exit::Ok)
}

fn said(context: &Context, node: &str, protected: bool) {
    if context.out.is_json() {
        context
            .out
            .json(&json!({ "node": node, "key_protected": protected }));
        return;
    }
    if protected {
        context.out.line(
            "The node's key is under the passphrase. Each start needs it: on the terminal, or from the file \
             that --key-passphrase-file or key_passphrase_file in the config file names. Nobody can restore \
             it.",
        );
    } else {
        context.out.line("The node's key is under no passphrase.");
    }
}

/// The settings, with what opens the key, where no node runs.
pub(super) async fn stopped(context: &Context) -> Result<NodeConfig, Problem> {
    let settings = context.settings(Overrides::default())?.node;
    if Access::is_served(&settings).await {
        let problem = Problem::usage("a node runs in this data directory").exit(Exit::Store);
        return Err(problem.hint("stop it first"));
    }
    context.unlocked(&settings)
}

async fn rotate(context: &Context, args: &RotateArgs) -> Result<Exit, Problem> {
    let config = stopped(context).await?;
    confirm(
        context,
        "The node gets another id: peers, tickets and mandates that name the present one no longer reach \
         it, a receipt of its work that has not come yet can no longer be booked, and no backup of its \
         wallet from before can be restored.",
    )?;
    let rotated = keys::rotate(&config, args.successor.as_deref()).await?;
    if context.out.is_json() {
        context.out.json(&rotated);
        return Ok(Exit::Ok);
    }
    context.out.facts(&[
        ("before", rotated.before.to_string()),
        ("node", rotated.node.to_string()),
        (
            "successor key",
            data_dir::successor_key(&config.data_dir)
                .display()
                .to_string(),
        ),
    ]);
    context.out.line(
        "The network's witness learns of it when the node runs next. Keep successor.key where nobody who \
         reads this directory finds it: it is what the next change takes.",
    );
    Ok(Exit::Ok)
}
