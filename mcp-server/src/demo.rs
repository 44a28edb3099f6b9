//! `tirami-agent demo`: two nodes as two processes, a trade through every door, and each promise
//! checked on the way. Nothing it says is written down beforehand: figures come from the nodes, and
//! one that is not as promised ends the demo with the step it belongs to.

mod client;
mod crash;
mod limits;
mod process;
mod report;
mod stage;
mod stream;
mod trade;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tirami_agent_runtime::FailureCode;

use crate::cli::exit::{Exit, Problem};
use crate::cli::output::Output;
use crate::cli::up::Stop;
use process::Nodes;
use report::Report;
use stage::{Broken, Stage};

/// Longer than this nothing in here takes; chosen, several times what a slow machine needs.
const ALL_WITHIN: Duration = Duration::from_mins(2);

/// What the demo takes.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the two data directories, logs and the receipt in this new directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Runs the demo and says what was proven.
pub(crate) async fn run(args: DemoArgs, out: &Output) -> Result<Exit, Problem> {
    let stop = Stop::prepare(false)?;
    let stage = Stage::set(args.keep)?;
    let mut report = Report::new(out);
    let mut nodes = Nodes::default();
    let outcome = tokio::select! {
        played = play(&stage, &mut nodes, &mut report) => played,
        () = stop.wait() => Err(Broken::new("it was interrupted")),
        () = tokio::time::sleep(ALL_WITHIN) => Err(Broken::new("it took too long")),
    };
    nodes.kill().await;
    match outcome {
        Ok(()) => {
            report.finish(&stage);
            Ok(Exit::Ok)
        }
        Err(broken) => {
            let what = format!("the demo stopped in step {}: {broken}", report.fail());
            let problem = Problem::new(FailureCode::Internal, what).hint(stage.advice());
            if out.is_json() {
                report.failed_json(&problem.failure);
                return Ok(Exit::Failure);
            }
            Err(problem)
        }
    }
}

/// The six steps.
async fn play(stage: &Stage, nodes: &mut Nodes, report: &mut Report<'_>) -> Result<(), Broken> {
    report.step("two nodes, two processes, one private network");
    let scene = trade::open(stage, nodes, report).await?;
    report.step("a welcome loan of the founder, and both balances");
    trade::balances(stage, &scene, report).await?;
    report.step("an MCP client buys an answer that the other node makes");
    let mut client = client::Client::connect(stage).await?;
    let sales = trade::buy(stage, &scene, &mut client, report).await?;
    report.step("limits that hold, and a freeze only the owner can lift");
    let sales = Box::pin(limits::hold(stage, &scene, &mut client, sales, report)).await?;
    client.close().await?;
    report.step("SIGKILL to both, then the same books again");
    crash::survive(stage, nodes, &scene, &sales, report).await?;
    report.step("what was proven");
    Ok(())
}
