//! Requests that wait for the owner. Anyone says no; only the owner says yes.

use clap::Args;
use tirami_agent_runtime::FailureCode;
use tirami_agent_runtime::ops::{ApprovalOutput, Approvals, ApprovalsOutput, Deny};
use tirami_manifest::owner::Decision;
use tirami_manifest::{ApprovalId, ModelId, NodeId};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::local_time;
use super::output::Output;
use super::owner::decide;
use super::passphrase::PassphraseArgs;
use super::table::{Align, Table};
use crate::access::Need;

#[derive(Debug, Args)]
pub(super) struct ApprovalsArgs {
    /// Those that were decided too, until a day after they were asked
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    /// Which, as 'tirami-agent approvals' shows it
    #[arg(value_name = "ID")]
    approval: ApprovalId,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub(super) struct DenyArgs {
    /// Which, as 'tirami-agent approvals' shows it
    #[arg(value_name = "ID")]
    approval: ApprovalId,
}

async fn every(context: &Context) -> Result<ApprovalsOutput, Problem> {
    context.ask(Need::Books, Approvals {}).await
}

pub(super) async fn approvals(context: &Context, args: &ApprovalsArgs) -> Result<Exit, Problem> {
    let mut approvals = every(context).await?;
    if !args.all {
        approvals.approvals.retain(|one| one.state == "waiting");
    }
    let out = &context.out;
    if out.is_json() {
        out.json(&approvals);
    } else if approvals.approvals.is_empty() {
        out.line("nothing waits for the owner");
    } else {
        out.table(&table(&approvals.approvals, args.all));
        if approvals.approvals.iter().any(|one| one.state == "waiting") {
            out.note("yes: 'tirami-agent approve ID'; no: 'tirami-agent deny ID'");
        }
    }
    Ok(Exit::Ok)
}

fn table(approvals: &[ApprovalOutput], with_state: bool) -> Table {
    let mut table = Table::new(&[
        ("id", Align::Whole),
        ("agent", Align::Left),
        ("at most, TRM", Align::Amount),
        (if with_state { "state" } else { "until" }, Align::Whole),
    ]);
    for one in approvals {
        let last = if with_state {
            one.state.clone()
        } else {
            local_time::minute(&one.expires_at)
        };
        table.row([
            one.approval.to_string(),
            one.agent.clone(),
            one.trm_amount.to_string(),
            last,
        ]);
    }
    table
}

/// Everything that the owner decides about.
fn facts(out: &Output, one: &ApprovalOutput) {
    let unknown = || "not known".to_owned();
    out.facts(&[
        ("approval", one.approval.to_string()),
        ("agent", one.agent.clone()),
        ("key", one.idempotency_key.clone()),
        ("action", one.action.name().to_owned()),
        (
            "payee",
            one.payee.as_ref().map_or_else(unknown, NodeId::to_string),
        ),
        (
            "model",
            one.model.as_ref().map_or_else(unknown, ModelId::to_string),
        ),
        ("at most", format!("{} TRM", one.trm_amount)),
        ("asked", local_time::exact(&one.asked_at)),
        ("void from", local_time::exact(&one.expires_at)),
        ("state", one.state.clone()),
    ]);
}

async fn one(context: &Context, id: ApprovalId) -> Result<ApprovalOutput, Problem> {
    let approvals = every(context).await?.approvals;
    let found = approvals.into_iter().find(|one| one.approval == id);
    found.ok_or_else(|| {
        let text = format!("no request waits for approval under {id}");
        Problem::new(FailureCode::NotFound, text)
            .hint("'tirami-agent approvals' lists those that do; each is void after a day")
    })
}

pub(super) async fn approve(context: &Context, args: ApproveArgs) -> Result<Exit, Problem> {
    let asked = one(context, args.approval).await?;
    let out = &context.out;
    facts(out, &asked);
    // The order names what was shown, so that nothing else is approved by it.
    let decision = Decision::Approve {
        approval: asked.approval,
        amount: asked.trm_amount,
    };
    decide(context, &args.passphrase, decision).await?;
    if out.is_json() {
        out.json(&one(context, args.approval).await?);
    } else {
        out.line(&format!(
            "approved: agent {} may ask again with the same idempotency key, for a day",
            asked.agent
        ));
    }
    Ok(Exit::Ok)
}

pub(super) async fn deny(context: &Context, args: &DenyArgs) -> Result<Exit, Problem> {
    let deny = Deny {
        approval: args.approval,
    };
    let denied = context.ask(Need::Books, deny).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&denied);
    } else {
        facts(out, &denied);
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use tirami_manifest::Amount;
    use tirami_manifest::mandate::Action;

    use super::*;
    use crate::cli::table::fits;

    #[test]
    fn the_largest_request_fits_the_screen() {
        let one = ApprovalOutput {
            approval: ApprovalId::from_bytes([0xab; 16]),
            agent: "x".repeat(32),
            idempotency_key: "k".repeat(128),
            action: Action::Chat,
            payee: None,
            model: None,
            trm_amount: Amount::from_utrm(20_999_999_999_999_999).unwrap(),
            state: "approved".into(),
            asked_at: "2026-01-31T12:00:00.250Z".into(),
            expires_at: "2026-01-31T12:00:00.250Z".into(),
            decided_at: None,
        };
        for with_state in [false, true] {
            fits(&table(std::slice::from_ref(&one), with_state));
        }
    }
}
