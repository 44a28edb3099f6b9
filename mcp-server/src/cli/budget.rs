//! The agent's limits. Tightening needs nobody; loosening needs the owner.

use clap::{Args, Subcommand};
use tirami_agent_runtime::ops::{Budget, BudgetOutput, TightenBudget};
use tirami_manifest::Amount;
use tirami_manifest::mandate::Limits;
use tirami_manifest::owner::Decision;

use super::balance::say_frozen;
use super::context::Context;
use super::exit::{Exit, Problem};
use super::output::Output;
use super::owner::decide;
use super::passphrase::PassphraseArgs;
use super::table::{Align, Table};
use crate::access::Need;

#[derive(Debug, Subcommand)]
pub(super) enum BudgetCommand {
    /// The limits and what is left of them
    Show,
    /// Change limits; a looser one needs the owner
    Set(SetArgs),
}

#[derive(Debug, Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct LimitArgs {
    /// Most that one request may cost
    #[arg(long, value_name = "TRM", allow_hyphen_values = true)]
    per_request: Option<Amount>,
    /// Most in any 60 minutes
    #[arg(long, value_name = "TRM", allow_hyphen_values = true)]
    hour: Option<Amount>,
    /// Most in all
    #[arg(long, value_name = "TRM", allow_hyphen_values = true)]
    lifetime: Option<Amount>,
}

impl LimitArgs {
    fn over(&self, limits: &Limits) -> Limits {
        Limits {
            per_request_trm: self.per_request.unwrap_or(limits.per_request_trm),
            hour_trm: self.hour.unwrap_or(limits.hour_trm),
            lifetime_trm: self.lifetime.unwrap_or(limits.lifetime_trm),
        }
    }
}

pub(super) async fn run(context: &Context, command: BudgetCommand) -> Result<Exit, Problem> {
    let budget = match command {
        BudgetCommand::Show => context.ask(Need::Books, Budget {}).await?,
        BudgetCommand::Set(args) => set(context, &args).await?,
    };
    show(&context.out, &budget);
    Ok(Exit::Ok)
}

async fn set(context: &Context, args: &SetArgs) -> Result<BudgetOutput, Problem> {
    let present = context.ask(Need::Books, Budget {}).await?;
    let limits = args.limits.over(&present.limits);
    if limits.is_within(&present.limits) {
        return context.ask(Need::Books, TightenBudget { limits }).await;
    }
    let decision = Decision::SetLimits {
        agent: present.agent_id,
        limits,
    };
    decide(context, &args.passphrase, decision).await?;
    context.ask(Need::Books, Budget {}).await
}

fn show(out: &Output, budget: &BudgetOutput) {
    if out.is_json() {
        out.json(budget);
        return;
    }
    let mut table = Table::new(&[
        ("limit", Align::Left),
        ("TRM", Align::Right),
        ("used", Align::Right),
        ("left", Align::Right),
    ]);
    let Limits {
        per_request_trm,
        hour_trm,
        lifetime_trm,
    } = budget.limits;
    table.row([
        "per request".into(),
        per_request_trm.to_string(),
        String::new(),
        String::new(),
    ]);
    for (name, limit, used) in [
        ("any 60 minutes", hour_trm, budget.trm_used_hour),
        ("lifetime", lifetime_trm, budget.trm_used_lifetime),
    ] {
        let left = limit.saturating_sub(used);
        table.row([
            name.into(),
            limit.to_string(),
            used.to_string(),
            left.to_string(),
        ]);
    }
    out.table(&table);
    out.line(&format!(
        "one request of agent {} may cost {} TRM now",
        budget.agent, budget.trm_left
    ));
    say_frozen(out, budget.frozen.as_deref());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_not_named_stay_as_they_are() {
        let args = LimitArgs {
            per_request: None,
            hour: "7".parse().ok(),
            lifetime: None,
        };
        let limits = args.over(&Limits::DEFAULT);
        assert_eq!(limits.hour_trm, Amount::from_trm(7));
        assert_eq!(limits.per_request_trm, Limits::DEFAULT.per_request_trm);
        assert!(limits.is_within(&Limits::DEFAULT));
    }
}
