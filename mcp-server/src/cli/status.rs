//! What the node is and how it does.

use tirami_agent_runtime::ops::{Status, StatusOutput};

use super::balance::say_frozen;
use super::context::Context;
use super::exit::{Exit, Problem};
use crate::access::Need;

pub(super) async fn status(context: &Context) -> Result<Exit, Problem> {
    let status = context.ask(Need::Books, Status {}).await?;
    if context.out.is_json() {
        context.out.json(&status);
        return Ok(Exit::Ok);
    }
    context.out.facts(&facts(&status));
    say_frozen(&context.out, status.frozen.as_deref());
    for warning in &status.warnings {
        context.out.warn(warning);
    }
    Ok(Exit::Ok)
}

/// What it sells, and why not now.
fn sells(status: &StatusOutput) -> String {
    let models = status.models.join(", ");
    match &status.selling_closed {
        _ if models.is_empty() => "nothing".to_owned(),
        None => models,
        Some(why) => format!("{models}, but not now: {why}"),
    }
}

fn facts(status: &StatusOutput) -> Vec<(&'static str, String)> {
    let or = |texts: &[String], none: &str| match texts {
        [] => none.to_owned(),
        texts => texts.join(", "),
    };
    // Without addresses no other process serves: this command opened the books itself.
    let running = !status.addresses.is_empty();
    let mut facts = vec![
        ("node", status.node.to_string()),
        (
            "network",
            format!(
                "{} ({}), {}",
                status.network_name,
                status.network.short(),
                status.role
            ),
        ),
        ("data", status.data_dir.clone()),
        (
            "running",
            if running {
                format!("yes, process {}", status.pid)
            } else {
                "no".into()
            },
        ),
        ("peers reach it at", or(&status.addresses, "nowhere")),
        (
            "clients reach it at",
            status.http.clone().unwrap_or_else(|| "nowhere".into()),
        ),
        ("sells", sells(status)),
        (
            "owner",
            status
                .owner
                .map_or_else(|| "none".into(), |owner| owner.to_string()),
        ),
        (
            "in progress",
            format!(
                "{} holds, {} jobs, {} receipts to send",
                status.open_holds, status.open_jobs, status.outbox
            ),
        ),
    ];
    if let Some(authority) = status.authority {
        facts.push(("authority", authority.to_string()));
    }
    if status.joining {
        facts.push(("joining", "the welcome loan is still to be fetched".into()));
    }
    facts
}
