//! Networks: inviting into one, entering one.

use clap::Args;
use tirami_agent_runtime::FailureCode;
use tirami_agent_runtime::ops::{Join, MakeTicket, Status};
use tirami_manifest::ticket::Ticket;

use super::context::Context;
use super::exit::{Exit, Problem};
use super::up::NodeArgs;
use crate::access::Need;

#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    /// The ticket, as the inviting node printed it
    ticket: String,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) async fn join(context: &Context, args: JoinArgs) -> Result<Exit, Problem> {
    // A damaged ticket is told apart before anything is started.
    let ticket: Ticket =
        args.ticket
            .parse()
            .map_err(|error: tirami_manifest::ticket::TicketError| {
                Problem::new(FailureCode::Ticket, error.to_string())
            })?;
    let settings = context.settings(args.node.overrides())?;
    let session = context.open_with(&settings.node, Need::Mesh).await?;
    let progress = context.out.progress("joining");
    let joined = session
        .call(Join {
            ticket: ticket.to_string(),
        })
        .await;
    drop(progress);
    let runs_on = session.access.is_attached().await;
    let waits = session.call(Status {}).await.is_ok_and(|it| it.joining);
    session.close().await;
    let joined = joined?;
    if waits && !runs_on {
        context
            .out
            .warn("the welcome loan is not fetched yet; 'tirami-agent up' goes on asking for it");
    }
    if context.out.is_json() {
        context.out.json(&joined);
        return Ok(Exit::Ok);
    }
    let mut facts = vec![("network", format!("{} ({})", joined.name, joined.network))];
    if let Some(amount) = joined.trm_welcome_loan {
        facts.push(("welcome loan", format!("{amount} TRM, to be paid back")));
    }
    facts.push(("state", joined.note));
    context.out.facts(&facts);
    Ok(Exit::Ok)
}

pub(super) async fn ticket(context: &Context) -> Result<Exit, Problem> {
    let session = context.open(Need::Mesh).await?;
    let attached = session.access.is_attached().await;
    let made = session.call(MakeTicket {}).await;
    session.close().await;
    let made = made?;
    if context.out.is_json() {
        context.out.json(&made);
    } else {
        context.out.line(&made.ticket);
        context.out.note(&format!(
            "good for one newcomer, who is lent {} TRM and enters with: tirami-agent join TICKET",
            made.trm_welcome_loan
        ));
    }
    if !attached {
        context.out.warn(
            "no node is running here; newcomers get in only while 'tirami-agent up' or \
             'tirami-agent mcp' runs on this data directory",
        );
    }
    Ok(Exit::Ok)
}
