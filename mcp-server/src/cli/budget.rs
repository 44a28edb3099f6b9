//! An agent's mandate and what is left of it. Tightening needs nobody; loosening needs the owner.

use clap::{Args, Subcommand};
use tirami_agent_runtime::ops::{Alerts, AlertsOutput, Budget, BudgetOutput, TightenBudget};
use tirami_manifest::owner::Decision;

use super::context::Context;
use super::exit::{Exit, Problem};
use super::explain::{self, ExplainArgs};
use super::local_time;
use super::owner::decide;
use super::passphrase::PassphraseArgs;
use super::table::{Align, Table};
use super::terms::{self, TermArgs};
use crate::access::Need;

#[derive(Debug, Subcommand)]
pub(super) enum BudgetCommand {
    /// The mandate's terms, what was used of them and what is left
    Show(WhoseArgs),
    /// Change terms; whatever is looser than before needs the owner
    Set(Box<LoosenArgs>),
    /// Make terms stricter; needs nobody
    Tighten(Box<TightenArgs>),
    /// Change terms as the owner
    Loosen(Box<LoosenArgs>),
    /// Whether a spend would pass now, rule by rule; nothing is spent
    Explain(Box<ExplainArgs>),
    /// Whether a spend would pass now, in one line; nothing is spent
    DryRun(Box<ExplainArgs>),
    /// Limits that were used up to 50, 80 or 95 percent, newest first
    Alerts(AlertsArgs),
}

#[derive(Debug, Args)]
pub(super) struct WhoseArgs {
    /// Which agent, by name; the one that asks when absent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct TightenArgs {
    #[command(flatten)]
    whose: WhoseArgs,
    #[command(flatten)]
    terms: TermArgs,
}

#[derive(Debug, Args)]
pub(super) struct LoosenArgs {
    #[command(flatten)]
    whose: WhoseArgs,
    #[command(flatten)]
    terms: TermArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub(super) struct AlertsArgs {
    /// Most alerts to show
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: Option<u32>,
}

pub(super) async fn run(context: &Context, command: BudgetCommand) -> Result<Exit, Problem> {
    let budget = match command {
        BudgetCommand::Show(whose) => present(context, whose.agent).await?,
        BudgetCommand::Set(args) => Box::pin(change(context, *args, false)).await?,
        BudgetCommand::Tighten(args) => Box::pin(tighten(context, *args)).await?,
        BudgetCommand::Loosen(args) => Box::pin(change(context, *args, true)).await?,
        BudgetCommand::Explain(args) => return explain::explain(context, *args).await,
        BudgetCommand::DryRun(args) => return explain::dry_run(context, *args).await,
        BudgetCommand::Alerts(args) => return alerts(context, &args).await,
    };
    show(context, &budget);
    Ok(Exit::Ok)
}

/// An agent's mandate as it is now.
pub(super) async fn present(
    context: &Context,
    agent: Option<String>,
) -> Result<BudgetOutput, Problem> {
    context.ask(Need::Books, Budget { agent }).await
}

/// Shows a mandate.
pub(super) fn show(context: &Context, budget: &BudgetOutput) {
    if context.out.is_json() {
        context.out.json(budget);
    } else {
        terms::show(&context.out, budget);
    }
}

async fn tighten(context: &Context, args: TightenArgs) -> Result<BudgetOutput, Problem> {
    args.terms.must_say_something()?;
    let before = present(context, args.whose.agent.clone()).await?;
    let tighten = TightenBudget {
        terms: args.terms.over(context, &before.terms).await?,
        agent: args.whose.agent,
    };
    context.ask(Need::Books, tighten).await
}

/// Changes terms: by the owner's order, when they are looser or the owner is to decide anyway.
async fn change(
    context: &Context,
    args: LoosenArgs,
    by_owner: bool,
) -> Result<BudgetOutput, Problem> {
    args.terms.must_say_something()?;
    let agent = args.whose.agent;
    let before = present(context, agent.clone()).await?;
    let terms = args.terms.over(context, &before.terms).await?;
    if !by_owner && terms.is_within(&before.terms) {
        return context
            .ask(Need::Books, TightenBudget { agent, terms })
            .await;
    }
    let decision = Decision::SetTerms {
        agent: before.agent_id,
        terms: Box::new(terms),
    };
    decide(context, &args.passphrase, decision).await?;
    present(context, agent).await
}

async fn alerts(context: &Context, args: &AlertsArgs) -> Result<Exit, Problem> {
    let alerts = context
        .ask(Need::Books, Alerts { limit: args.limit })
        .await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&alerts);
    } else if alerts.alerts.is_empty() {
        out.line("no spend brought a limit to half of it in the last 30 days");
    } else {
        out.table(&alert_table(&alerts));
    }
    Ok(Exit::Ok)
}

fn alert_table(alerts: &AlertsOutput) -> Table {
    let mut table = Table::new(&[
        ("when", Align::Whole),
        ("agent", Align::Left),
        ("limit", Align::Left),
        ("%", Align::Right),
        ("used", Align::Amount),
        ("allowed", Align::Amount),
    ]);
    let figure = |text: &str| text.trim_end_matches(" TRM").to_owned();
    for alert in &alerts.alerts {
        table.row([
            local_time::minute(&alert.at),
            alert.agent.clone(),
            alert.limit.clone(),
            alert.percent.to_string(),
            figure(&alert.used),
            figure(&alert.allowed),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use tirami_agent_runtime::ops::AlertOutput;

    use super::*;
    use crate::cli::table::fits;

    #[test]
    fn alerts_fit_the_screen() {
        let alert = AlertOutput {
            at: "2026-01-31T12:00:00.250Z".into(),
            agent: "x".repeat(32),
            limit: "spends_per_minute".into(),
            percent: 95,
            used: "20999999999.999999 TRM".into(),
            allowed: "20999999999.999999 TRM".into(),
        };
        fits(&alert_table(&AlertsOutput {
            alerts: vec![alert],
        }));
    }
}
