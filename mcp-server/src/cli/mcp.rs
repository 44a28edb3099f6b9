//! MCP on standard input and output. Nothing else may be written to standard output here.

use super::context::Context;
use super::exit::{Exit, Problem};
use super::up::{NodeArgs, Stop};
use crate::access::Need;
use crate::mcp::serve_stdio;

pub(super) async fn mcp(context: &Context, args: NodeArgs) -> Result<Exit, Problem> {
    let settings = context.settings(args.overrides())?;
    let stop = Stop::prepare(false)?;
    let session = context.open_with(&settings.node, Need::Mesh).await?;
    let served = tokio::select! {
        served = serve_stdio(session.access.clone(), session.token.clone()) => served,
        () = stop.wait() => Ok(()),
    };
    session.close().await;
    match served {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => {
            let error = anyhow::Error::new(error);
            Err(Problem::usage(format!("{error:#}"))
                .exit(Exit::Failure)
                .hint(
                    "an MCP client starts it; try it with 'claude mcp add tirami -- tirami-agent \
                     mcp'",
                ))
        }
    }
}
