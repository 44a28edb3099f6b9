//! Whether a spend would pass, and what every rule says of it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tirami_agent_runtime::ops::{Chat, ExplainBudget, ExplainOutput, Models, RuleOutput};
use tirami_manifest::mandate::Action;
use tirami_manifest::{Amount, NodeId};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::local_time;
use super::output::{Output, Style};
use super::table::{Align, Table};
use super::terms::{Model, ModelNames, action, text_of};
use crate::access::Need;
use crate::http::openai::error::ApiError;
use crate::http::openai::request::ChatRequest;

#[expect(clippy::doc_markdown, reason = "help is shown as it is written")]
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// How much would be set aside
    #[arg(value_name = "TRM", allow_hyphen_values = true)]
    amount: Amount,
    /// Which agent would spend, by name; the one that asks when absent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Who would be paid; nobody is known when absent
    #[arg(long, value_name = "NODE")]
    payee: Option<NodeId>,
    /// The model, by name or id; none is known when absent
    #[arg(long)]
    model: Option<String>,
    /// What would be done: chat or local_chat
    #[arg(long, value_parser = action)]
    action: Option<Action>,
    /// What 10^9 FLOP would cost
    #[arg(long, value_name = "TRM", allow_hyphen_values = true)]
    price: Option<Amount>,
    /// The request itself, as JSON for /v1/chat/completions, or '-' for standard input: says whether
    /// it is one too many of the same
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
}

/// Reads a request as the HTTP door does, so that it stands for the same purchase.
fn request(path: &Path) -> Result<Chat, Problem> {
    let text = text_of(path)?;
    let body = serde_json::from_str(&text)
        .map_err(|error| Problem::usage(format!("{}: {error}", path.display())))?;
    let read = ChatRequest::read(Some(body), None).map_err(ApiError::into_failure)?;
    Ok(Chat {
        idempotency_key: None,
        ..read.chat
    })
}

async fn ask(context: &Context, args: ExplainArgs) -> Result<ExplainOutput, Problem> {
    let model = match args.model.as_deref().map(Model::parse) {
        None => None,
        Some(model) => {
            let names = if model.is_name() {
                ModelNames::new(context.ask(Need::Mesh, Models {}).await?.models)
            } else {
                ModelNames::default()
            };
            Some(names.id(&model)?)
        }
    };
    let request = args.request.as_deref().map(request).transpose()?;
    let question = ExplainBudget {
        trm_amount: args.amount,
        agent: args.agent,
        action: args.action,
        payee: args.payee,
        model,
        trm_per_gflop: args.price,
        request,
    };
    context.ask(Need::Books, question).await
}

/// The number to end with.
const fn exit(answer: &ExplainOutput) -> Exit {
    if answer.passes {
        Exit::Ok
    } else {
        Exit::Refused
    }
}

pub(super) async fn explain(context: &Context, args: ExplainArgs) -> Result<Exit, Problem> {
    let answer = ask(context, args).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&answer);
        return Ok(exit(&answer));
    }
    out.styled(
        Style::Dim,
        &format!("agent {}, {} TRM", answer.agent, answer.trm_amount),
    );
    out.table(&table(&answer.rules));
    for rule in answer.rules.iter().filter(|rule| !rule.passes) {
        if let Some(at) = &rule.passes_at {
            let text = format!(
                "{} of agent {}: {}",
                rule.rule,
                rule.mandate,
                local_time::exact(at)
            );
            out.marked(Style::Warn, "passes again:", &text);
        }
    }
    verdict(out, &answer);
    Ok(exit(&answer))
}

pub(super) async fn dry_run(context: &Context, args: ExplainArgs) -> Result<Exit, Problem> {
    let answer = ask(context, args).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&json!({
            "agent": answer.agent, "trm_amount": answer.trm_amount, "passes": answer.passes,
            "refusal_number": answer.refusal_number, "refusal": answer.refusal,
            "passes_at": answer.passes_at,
        }));
    } else {
        verdict(out, &answer);
    }
    Ok(exit(&answer))
}

fn verdict(out: &Output, answer: &ExplainOutput) {
    let Some(refusal) = &answer.refusal else {
        let text = format!("{} TRM would pass now", answer.trm_amount);
        out.marked(Style::Good, "yes:", &text);
        return;
    };
    let number = answer.refusal_number.unwrap_or_default();
    let when = answer.passes_at.as_ref().map_or_else(String::new, |at| {
        format!("; it passes from {}", local_time::exact(at))
    });
    let text = format!("refused by rule {number}: {}{when}", refusal.message);
    out.marked(Style::Bad, "no:", &text);
}

fn table(rules: &[RuleOutput]) -> Table {
    let mut table = Table::new(&[
        ("#", Align::Right),
        ("rule", Align::Whole),
        ("mandate", Align::Left),
        ("with it", Align::Amount),
        ("limit", Align::Amount),
        ("passes", Align::Whole),
    ]);
    let figure = |text: &str| local_time::minute(text.trim_end_matches(" TRM"));
    for rule in rules {
        table.row([
            rule.number.to_string(),
            rule.rule.clone(),
            rule.mandate.clone(),
            figure(&rule.observed),
            figure(&rule.limit),
            if rule.passes { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::fits;

    fn rule(observed: &str, limit: &str) -> RuleOutput {
        RuleOutput {
            number: 18,
            rule: "spends_per_minute".into(),
            mandate: "x".repeat(32),
            observed: observed.into(),
            limit: limit.into(),
            passes: false,
            passes_at: None,
        }
    }

    #[test]
    fn the_longest_rules_fit_the_screen() {
        fits(&table(&[
            rule("20999999999.999999 TRM", "20999999999.999999 TRM"),
            rule("an unknown payee", "no limit"),
            rule("not allowed", "by its list"),
            rule("closed", "2026-01-31T12:00:00.250Z"),
        ]));
    }
}
