//! Moving money between agents, or between two pots of one: the owner's doing.

use clap::Args;
use serde_json::json;
use tirami_agent_runtime::FailureCode;
use tirami_agent_runtime::ops::BudgetOutput;
use tirami_manifest::Amount;
use tirami_manifest::mandate::Pot;
use tirami_manifest::owner::Decision;

use super::budget::present;
use super::context::Context;
use super::exit::{Exit, Problem};
use super::owner::decide;
use super::passphrase::PassphraseArgs;
use super::terms::pot;

#[derive(Debug, Args)]
pub(super) struct FundArgs {
    /// From this agent
    #[arg(long, value_name = "NAME")]
    from: String,
    /// Out of this pot: seed, earned, borrowed or restricted
    #[arg(long, value_name = "POT", value_parser = pot)]
    from_pot: Pot,
    /// To this agent
    #[arg(long, value_name = "NAME")]
    to: String,
    /// Into this pot
    #[arg(long, value_name = "POT", value_parser = pot)]
    to_pot: Pot,
    /// How much
    #[arg(value_name = "TRM", allow_hyphen_values = true)]
    amount: Amount,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

pub(super) async fn fund(context: &Context, args: FundArgs) -> Result<Exit, Problem> {
    let from = present(context, Some(args.from)).await?;
    let to = present(context, Some(args.to)).await?;
    for one in [&from, &to] {
        if one.payer != one.agent {
            let text = format!(
                "agent {} has no account: agent {} pays",
                one.agent, one.payer
            );
            return Err(Problem::usage(text));
        }
    }
    if args.amount.is_zero() {
        return Err(Problem::usage("TRM is 0; it must be more"));
    }
    let decision = Decision::Fund {
        from: from.agent_id,
        from_pot: args.from_pot,
        to: to.agent_id,
        to_pot: args.to_pot,
        amount: args.amount,
    };
    let funded = decide(context, &args.passphrase, decision).await;
    funded.map_err(|problem| match problem.failure.code {
        FailureCode::InsufficientFunds => short(&from, args.from_pot, args.amount),
        _ => problem,
    })?;
    let out = &context.out;
    let (from_pot, to_pot) = (args.from_pot.name(), args.to_pot.name());
    if out.is_json() {
        out.json(&json!({
            "from": from.agent, "from_pot": from_pot,
            "to": to.agent, "to_pot": to_pot,
            "trm_amount": args.amount,
        }));
    } else {
        out.line(&format!(
            "{} TRM moved from {from_pot} of agent {} to {to_pot} of agent {}",
            args.amount, from.agent, to.agent
        ));
    }
    Ok(Exit::Ok)
}

/// The pot holds less than was asked for.
fn short(from: &BudgetOutput, pot: Pot, asked: Amount) -> Problem {
    let pots: Vec<String> = from
        .pots
        .iter()
        .map(|one| format!("{} {}", one.pot.name(), one.trm_available))
        .collect();
    let text = format!(
        "{} of agent {} does not hold {asked} TRM",
        pot.name(),
        from.agent
    );
    Problem::new(FailureCode::InsufficientFunds, text)
        .hint(format!("its pots in TRM: {}", pots.join(", ")))
}
