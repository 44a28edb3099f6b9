//! The tools an agent sees. A tool is a file: its input, and a handler that calls one operation.
//!
//! Outputs are the operations' own types; schemas come from types, never from hand-written JSON.

mod answer;
mod audit_log;
mod balance;
mod budget;
pub(crate) mod chat;
pub(crate) mod freeze;
mod history;
mod identity;
pub(crate) mod input;
mod models;
mod network;
mod peers;
mod quote;
mod receipt;
mod schedule;
mod schema;
mod statement;
mod verify;

use std::sync::LazyLock;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::model::Tool;
use tirami_agent_runtime::failure::{Failure, FailureCode};

use crate::mcp::TiramiServer;

pub(crate) use answer::{answer, failed};

/// Every tool. Built once: rmcp would otherwise build the schemas anew for each call.
pub(crate) static ROUTER: LazyLock<ToolRouter<TiramiServer>> = LazyLock::new(|| {
    TiramiServer::balance_router()
        + TiramiServer::history_router()
        + TiramiServer::receipt_router()
        + TiramiServer::quote_router()
        + TiramiServer::chat_router()
        + TiramiServer::schedule_router()
        + TiramiServer::peers_router()
        + TiramiServer::models_router()
        + TiramiServer::budget_router()
        + TiramiServer::freeze_router()
        + TiramiServer::verify_router()
        + TiramiServer::identity_router()
        + TiramiServer::network_router()
        + TiramiServer::audit_log_router()
        + TiramiServer::statement_router()
});

/// What `tools/list` answers, by name.
pub fn list() -> Vec<Tool> {
    ROUTER.list_all()
}

/// The answer to a call of a tool that does not exist: it names the nearest one.
pub(crate) fn unknown(name: &str) -> Failure {
    let tools = ROUTER.list_all();
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    let shown: String = name.chars().take(64).collect();
    let failure = Failure::new(
        FailureCode::NotFound,
        format!(
            "there is no tool '{shown}'; the tools are {}",
            names.join(", ")
        ),
    );
    match nearest(&shown, &names) {
        Some(near) => failure
            .hint(format!("call '{near}' if that is what you meant"))
            .next_tool(near),
        None => failure.hint("call one of the tools named in the message"),
    }
}

/// The name that is within two edits of `name`, or a part of it, or the other way round.
fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    let part = |known: &&&str| name.len() > 2 && (name.contains(**known) || known.contains(&name));
    let close = names
        .iter()
        .map(|known| (edits(&name, known), *known))
        .min()?;
    if close.0 <= 2 && close.0 < close.1.chars().count() {
        return Some(close.1);
    }
    names.iter().find(part).copied()
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in b.chars().zip(row.iter_mut().skip(1)) {
            let substituted = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = substituted.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_tool_names_the_nearest() {
        for (asked, near) in [
            ("balence", Some("balance")),
            ("get_balance", Some("balance")),
            ("CHAT", Some("chat")),
            ("recipt", Some("receipt")),
            ("model", Some("models")),
            ("launch_rocket", None),
            ("", None),
        ] {
            let failure = unknown(asked);
            assert_eq!(failure.next_tool.as_deref(), near, "{asked}");
            assert!(
                failure.message.contains("balance, budget, chat"),
                "{}",
                failure.message
            );
        }
    }

    #[test]
    fn edits_are_counted() {
        for (a, b, n) in [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("chat", "chat", 0),
        ] {
            assert_eq!(edits(a, b), n);
        }
    }
}
