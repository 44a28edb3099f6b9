//! Receipts: fetching one.

use clap::Args;
use serde_json::json;
use tirami_agent_runtime::ops::{GetReceipt, History};
use tirami_manifest::ReceiptId;
use tirami_manifest::receipt_file::ReceiptFile;

use super::context::{Context, Session};
use super::exit::{Exit, Problem};
use super::out_file::{self, OutArgs};
use crate::access::Need;

/// Pages of history that are searched for the beginning of an id; chosen: 1,000 entries.
const PAGES_MAX: usize = 10;

/// Fewest digits that name a receipt.
const PREFIX_MIN: usize = 6;

#[derive(Debug, Args)]
pub(super) struct ReceiptArgs {
    /// The receipt's id, or the beginning of a recent one
    id: String,
    #[command(flatten)]
    to: OutArgs,
}

pub(super) async fn receipt(context: &Context, args: ReceiptArgs) -> Result<Exit, Problem> {
    let session = context.open(Need::Books).await?;
    let found = find(&session, &args.id).await;
    session.close().await;
    let file = found?;
    if let Some(path) = out_file::document(context, &args.to, &file)? {
        let facts = json!({ "receipt": file.receipt, "file": path });
        out_file::written(context, path, &facts);
    }
    Ok(Exit::Ok)
}

async fn find(session: &Session, id: &str) -> Result<ReceiptFile, Problem> {
    let receipt = id_of(session, id).await?;
    session.call(GetReceipt { receipt }).await
}

/// The id that was named, whole or by its beginning.
pub(super) async fn named(context: &Context, id: &str) -> Result<ReceiptId, Problem> {
    if let Ok(receipt) = id.parse() {
        return Ok(receipt);
    }
    let session = context.open(Need::Books).await?;
    let receipt = id_of(&session, id).await;
    session.close().await;
    receipt
}

async fn id_of(session: &Session, id: &str) -> Result<ReceiptId, Problem> {
    match id.parse() {
        Ok(receipt) => Ok(receipt),
        Err(_) if is_prefix(id) => resolve(session, id).await,
        Err(error) => Err(Problem::usage(error.to_string())),
    }
}

fn is_prefix(id: &str) -> bool {
    let digits = id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    digits && (PREFIX_MIN..2 * ReceiptId::LEN).contains(&id.len())
}

/// The one receipt in recent history whose id begins so.
async fn resolve(session: &Session, prefix: &str) -> Result<ReceiptId, Problem> {
    let mut before = None;
    let mut found: Option<ReceiptId> = None;
    for _ in 0..PAGES_MAX {
        let page = session
            .call(History {
                limit: Some(100),
                before,
                ..History::default()
            })
            .await?;
        for id in page.entries.iter().filter_map(|entry| entry.receipt) {
            if !id.to_string().starts_with(prefix) || found == Some(id) {
                continue;
            }
            if found.is_some() {
                return Err(Problem::usage(format!(
                    "more than one receipt begins with {prefix}"
                )));
            }
            found = Some(id);
        }
        before = page.next_before;
        if before.is_none() {
            break;
        }
    }
    found.ok_or_else(|| {
        let code = tirami_agent_runtime::FailureCode::NotFound;
        Problem::new(code, format!("no recent receipt begins with {prefix}"))
            .hint("look for it with 'tirami-agent history', or give the whole id")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_hexadecimal_and_long_enough() {
        assert!(is_prefix("abcdef0123") && !is_prefix("abc") && !is_prefix("xyzxyz"));
        assert!(!is_prefix(&"a".repeat(64)));
    }
}
