//! The kill switch: anyone with a token turns it on, only the owner turns it off.

use clap::Args;
use serde_json::json;
use tirami_agent_runtime::ops::{Freeze, Status};
use tirami_manifest::owner::Decision;

use super::context::Context;
use super::exit::{Exit, Problem};
use super::local_time;
use super::output::Style;
use super::owner::decide;
use super::passphrase::PassphraseArgs;
use crate::access::Need;

#[derive(Debug, Args)]
pub(super) struct FreezeArgs {
    /// Why, in a few words; shown to whoever is refused
    #[arg(long)]
    reason: Option<String>,
}

pub(super) async fn freeze(context: &Context, args: FreezeArgs) -> Result<Exit, Problem> {
    let given = args.reason.clone();
    let frozen = context
        .ask(
            Need::Books,
            Freeze {
                reason: args.reason,
            },
        )
        .await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&frozen);
    } else {
        let text = format!(
            "{} (since {})",
            frozen.reason,
            local_time::exact(&frozen.since)
        );
        out.marked(Style::Bad, "frozen:", &text);
        out.line(&frozen.lifted_by);
        if given.is_some_and(|given| given != frozen.reason) {
            out.note("it was frozen before; the first reason stays");
        }
    }
    Ok(Exit::Ok)
}

pub(super) async fn unfreeze(context: &Context, args: PassphraseArgs) -> Result<Exit, Problem> {
    let was = context.ask(Need::Books, Status {}).await?.frozen;
    decide(context, &args, Decision::Unfreeze).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&json!({ "frozen": false, "was_frozen": was.is_some() }));
    } else if let Some(reason) = was {
        out.line(&format!("the freeze is lifted ({reason})"));
    } else {
        out.line("nothing was frozen");
    }
    Ok(Exit::Ok)
}
