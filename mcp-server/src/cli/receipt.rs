//! Receipts: fetching one, and checking one offline with nothing but its bytes.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tirami_agent_runtime::ops::{GetReceipt, History};
use tirami_manifest::ReceiptId;
use tirami_manifest::receipt_file::{ReceiptFile, SIZE_MAX};

use super::context::{Context, Session};
use super::exit::{Exit, Problem};
use super::local_time;
use super::output::{Output, Style};
use crate::access::Need;

/// Pages of history that are searched for the beginning of an id; chosen: 1,000 entries.
const PAGES_MAX: usize = 10;

/// Fewest digits that name a receipt.
const PREFIX_MIN: usize = 6;

#[derive(Debug, Args)]
pub(super) struct ReceiptArgs {
    /// The receipt's id, or the beginning of a recent one
    id: String,
    /// Write it to this file instead of standard output; an existing file is left alone
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The receipt file, or '-' for standard input
    file: PathBuf,
}

pub(super) async fn receipt(context: &Context, args: ReceiptArgs) -> Result<Exit, Problem> {
    let session = context.open(Need::Books).await?;
    let found = find(&session, &args.id).await;
    session.close().await;
    let file = found?;
    let text = serde_json::to_string_pretty(&file)
        .map_err(|error| Problem::internal(error.to_string()))?
        + "\n";
    let Some(path) = &args.out else {
        context.out.document(&text);
        return Ok(Exit::Ok);
    };
    write_new(path, &text)?;
    if context.out.is_json() {
        context
            .out
            .json(&json!({ "receipt": file.receipt, "file": path }));
    } else {
        context
            .out
            .line(&format!("{} written; check it with", path.display()));
        context
            .out
            .line(&format!("  tirami-agent verify {}", path.display()));
    }
    Ok(Exit::Ok)
}

async fn find(session: &Session, id: &str) -> Result<ReceiptFile, Problem> {
    let receipt = match id.parse() {
        Ok(receipt) => receipt,
        Err(_) if is_prefix(id) => resolve(session, id).await?,
        Err(error) => return Err(Problem::usage(error.to_string())),
    };
    session.call(GetReceipt { receipt }).await
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

fn write_new(path: &Path, text: &str) -> Result<(), Problem> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Problem::usage(format!(
            "{} exists already and was left alone",
            path.display()
        ))
        .hint("choose another --out"),
        _ => Problem::file(path, &error).exit(Exit::Store),
    };
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

/// Checks a receipt file. Needs no data directory, no network and nobody's word.
pub(super) fn verify(out: &Output, args: &VerifyArgs) -> Result<Exit, Problem> {
    let stdin = args.file.as_os_str() == "-";
    let name = if stdin {
        Path::new("standard input")
    } else {
        &args.file
    };
    let text = read(&args.file, name)?;
    let (file, _) = ReceiptFile::verify(&text)
        .map_err(|error| Problem::invalid(format!("{} does not hold: {error}", name.display())))?;
    if out.is_json() {
        out.json(&json!({ "valid": true, "receipt": file }));
        return Ok(Exit::Ok);
    }
    out.marked(
        Style::Good,
        "valid:",
        "signed by both, under a quote signed by the provider",
    );
    out.facts(&[
        ("receipt", file.receipt.to_string()),
        ("network", file.network.to_string()),
        ("provider", file.provider.to_string()),
        ("consumer", file.consumer.to_string()),
        ("model", file.model_id.to_string()),
        (
            "tokens",
            format!("{} in, {} out", file.tokens_in, file.tokens_out),
        ),
        (
            "work",
            format!("{} kFLOP at {} ppm of par", file.kflop, file.multiplier_ppm),
        ),
        (
            "paid",
            format!("{} TRM of at most {}", file.trm_amount, file.trm_quoted_max),
        ),
        (
            "ended",
            format!("{} ({})", local_time::exact(&file.ended_at), file.finish),
        ),
    ]);
    Ok(Exit::Ok)
}

fn read(path: &Path, name: &Path) -> Result<String, Problem> {
    let failed = |error: std::io::Error| Problem::file(name, &error);
    let limit = u64::try_from(SIZE_MAX)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    String::from_utf8(bytes)
        .map_err(|_| Problem::invalid(format!("{} does not hold: it is not text", name.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_receipt_ends_with_its_own_number() {
        let dir = tempfile::tempdir().unwrap();
        let out = Output::new(false);
        for (name, bytes) in [
            ("empty", b"".to_vec()),
            ("cut", b"{\"tirami_receipt\":1,".to_vec()),
            ("binary", vec![0xff; 100]),
            ("large", vec![b' '; SIZE_MAX + 10]),
        ] {
            let file = dir.path().join(name);
            std::fs::write(&file, bytes).unwrap();
            let problem = verify(&out, &VerifyArgs { file }).unwrap_err();
            assert_eq!(problem.exit, Exit::Invalid, "{name}: {problem}");
        }
        let missing = verify(
            &out,
            &VerifyArgs {
                file: dir.path().join("missing"),
            },
        );
        assert_eq!(missing.unwrap_err().exit, Exit::NotFound);
    }

    #[test]
    fn a_prefix_is_hexadecimal_and_long_enough() {
        assert!(is_prefix("abcdef0123") && !is_prefix("abc") && !is_prefix("xyzxyz"));
        assert!(!is_prefix(&"a".repeat(64)));
    }
}
