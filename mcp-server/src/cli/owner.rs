//! The owner: making one, and signing orders. The key is opened in this process and never in the
//! node.

use clap::Subcommand;
use serde_json::json;
use tirami_agent_runtime::ops::{BudgetOutput, Obey, SetOwner, Status};
use tirami_agent_runtime::{data_dir, owner};
use tirami_manifest::owner::{Decision, OwnerOrder};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::passphrase::PassphraseArgs;
use crate::access::Need;

#[derive(Debug, Subcommand)]
pub(super) enum OwnerCommand {
    /// Make the owner key and put it under a passphrase
    Init(PassphraseArgs),
    /// Who the owner is, and what that means
    Status,
}

pub(super) async fn run(context: &Context, command: OwnerCommand) -> Result<Exit, Problem> {
    match command {
        OwnerCommand::Init(args) => init(context, &args).await,
        OwnerCommand::Status => status(context).await,
    }
}

async fn init(context: &Context, args: &PassphraseArgs) -> Result<Exit, Problem> {
    let dir = &context.data_dir()?;
    if let Some(owner) = context.ask(Need::Books, Status {}).await?.owner {
        return Err(
            Problem::owner(format!("this node has an owner already: {owner}"))
                .hint("an owner is for good; nobody can take the place"),
        );
    }
    // A key without an owner is left behind when the process ended between the two steps.
    let owner = if data_dir::owner_key(dir).exists() {
        owner::id(dir, &args.read(context)?)?
    } else {
        owner::create(dir, &args.read_new(context)?)?
    };
    context.ask(Need::Books, SetOwner { owner }).await?;
    let key = data_dir::owner_key(dir).display().to_string();
    if context.out.is_json() {
        context
            .out
            .json(&json!({ "owner": owner, "owner_key": key }));
    } else {
        context
            .out
            .facts(&[("owner", owner.to_string()), ("key", key)]);
        context
            .out
            .line("Nobody can restore the passphrase. Keep it, and a copy of the key file.");
    }
    Ok(Exit::Ok)
}

async fn status(context: &Context) -> Result<Exit, Problem> {
    let status = context.ask(Need::Books, Status {}).await?;
    let path = data_dir::owner_key(&context.data_dir()?);
    let (here, key) = (path.exists(), path.display().to_string());
    let meaning = match (status.owner.is_some(), here) {
        (true, true) => "limits are loosened and a freeze is lifted with the owner's passphrase",
        (true, false) => {
            "the owner's key is not in this data directory; put owner.key back to give orders"
        }
        (false, _) => {
            "the node runs at the default limits, and whoever runs 'tirami-agent owner init' \
             first owns it; do that now"
        }
    };
    if context.out.is_json() {
        context.out.json(&json!({
            "owner": status.owner, "owner_key": key, "owner_key_here": here,
            "next_order": status.next_order, "meaning": meaning,
        }));
    } else {
        context.out.facts(&[
            (
                "owner",
                status
                    .owner
                    .map_or_else(|| "none".to_owned(), |id| id.to_string()),
            ),
            (
                "key",
                if here {
                    key
                } else {
                    format!("{key} (missing)")
                },
            ),
            ("orders obeyed", status.next_order.to_string()),
            ("meaning", meaning.to_owned()),
        ]);
    }
    Ok(Exit::Ok)
}

/// Signs a decision with the owner's key and has the node obey it. Answers the caller's budget.
///
/// The node is let go while a person types: a freeze must not wait for a passphrase.
pub(super) async fn decide(
    context: &Context,
    args: &PassphraseArgs,
    decision: Decision,
) -> Result<BudgetOutput, Problem> {
    let status = context.ask(Need::Books, Status {}).await?;
    if status.owner.is_none() {
        return Err(
            Problem::owner("only an owner can do this, and this node has none")
                .hint("run 'tirami-agent owner init' first"),
        );
    }
    let order = OwnerOrder {
        node: status.node,
        number: status.next_order,
        decision,
    };
    let passphrase = args.read(context)?;
    let order = owner::sign(&context.data_dir()?, &passphrase, order)?;
    context.ask(Need::Books, Obey { order }).await
}
