//! Agent manifests: this node's own, and a check of somebody else's.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use serde_json::json;
use tirami_agent_runtime::FailureCode;
use tirami_agent_runtime::ops::GetManifest;
use tirami_manifest::Timestamp;
use tirami_manifest::agent::{AgentManifest, PATH, SIZE_MAX};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::local_time;
use super::output::{Output, Style};
use super::table::{Align, Table};
use super::web;
use crate::access::Need;

/// How long a host may take to hand out its manifest, in all; chosen.
const FETCH_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct ManifestArgs {
    /// Check another's: a URL (without a path, /.well-known/tirami-agent.json is added) or a file
    #[arg(long, value_name = "URL|FILE")]
    verify: Option<String>,
}

pub(super) async fn manifest(context: &Context, args: ManifestArgs) -> Result<Exit, Problem> {
    if let Some(from) = args.verify {
        return verify(&context.out, &from).await;
    }
    let answer = context.ask(Need::Mesh, GetManifest {}).await?;
    context.out.document(&format!("{}\n", answer.manifest));
    Ok(Exit::Ok)
}

async fn verify(out: &Output, from: &str) -> Result<Exit, Problem> {
    let text = if from.starts_with("http://") || from.starts_with("https://") {
        let progress = out.progress("fetching");
        let text = tokio::time::timeout(FETCH_WITHIN, fetch(from)).await;
        drop(progress);
        text.map_err(|_| unreachable(from, "it took too long"))??
    } else {
        read(Path::new(from))?
    };
    let manifest = AgentManifest::verify(&text, super::clock::now()).map_err(|error| {
        Problem::invalid(format!("the manifest of {from} does not hold: {error}"))
    })?;
    if out.is_json() {
        out.json(&json!({ "valid": true, "manifest": manifest }));
    } else {
        show(out, &manifest);
    }
    Ok(Exit::Ok)
}

fn show(out: &Output, manifest: &AgentManifest) {
    let until = manifest
        .expires_at_ms
        .parse()
        .map(Timestamp::from_ms)
        .unwrap_or_default();
    out.marked(Style::Good, "valid:", "signed by the node it names");
    let mut facts = vec![
        ("node", manifest.node_id.to_string()),
        ("network", manifest.network_id.to_string()),
        ("until", local_time::exact(&until.to_rfc3339())),
    ];
    facts.extend(
        manifest
            .endpoints
            .iter()
            .map(|at| ("reached at", at.url.clone())),
    );
    out.facts(&facts);
    if manifest.offers.is_empty() {
        out.line("It sells nothing.");
        return;
    }
    let mut table = Table::new(&[
        ("sells", Align::Left),
        ("context", Align::Right),
        ("TRM for 100 in, 100 out", Align::Right),
    ]);
    for offer in &manifest.offers {
        table.row([
            offer.model.clone(),
            offer.context.to_string(),
            offer.trm_per_100_in_100_out.to_string(),
        ]);
    }
    out.table(&table);
}

fn unreachable(from: &str, what: impl std::fmt::Display) -> Problem {
    Problem::new(
        FailureCode::NoProvider,
        format!("{from} could not be fetched: {what}"),
    )
}

/// Fetches a manifest: no redirects, no proxy, no more bytes than a manifest may have.
async fn fetch(url: &str) -> Result<String, Problem> {
    let mut url = reqwest::Url::parse(url).map_err(|error| Problem::usage(error.to_string()))?;
    if url.path() == "/" {
        url.set_path(PATH);
    }
    let client = web::client().map_err(|error| Problem::internal(web::chain(error)))?;
    let response = client
        .get(url.clone())
        .send()
        .await
        .map_err(|e| unreachable(url.as_str(), web::chain(e)))?;
    if !response.status().is_success() {
        let status = response.status();
        return Err(unreachable(
            url.as_str(),
            format!("the host answered {status}"),
        ));
    }
    let mut bytes = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(
            &chunk.map_err(|error| unreachable(url.as_str(), web::chain(error)))?,
        );
        if bytes.len() > SIZE_MAX {
            return Err(Problem::invalid(format!(
                "the manifest of {url} does not hold: larger than {SIZE_MAX} bytes"
            )));
        }
    }
    text(url.as_str(), bytes)
}

fn read(path: &Path) -> Result<String, Problem> {
    use std::io::Read;
    let failed = |error| Problem::file(path, &error);
    let limit = u64::try_from(SIZE_MAX)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(failed)?;
    text(&path.display().to_string(), bytes)
}

fn text(from: &str, bytes: Vec<u8>) -> Result<String, Problem> {
    String::from_utf8(bytes)
        .map_err(|_| Problem::invalid(format!("the manifest of {from} does not hold: not text")))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes.
    async fn host(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 2_048];
            let count = stream.read(&mut request).await.unwrap();
            assert!(request[..count].starts_with(format!("GET {PATH} ").as_bytes()));
            // The reader may go away early.
            drop(stream.write_all(&answer).await);
        });
        url
    }

    #[tokio::test]
    async fn a_host_cannot_send_us_elsewhere() {
        let url =
            host(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n".to_vec()).await;
        let problem = fetch(&url).await.unwrap_err();
        assert_eq!(problem.exit, Exit::Unreachable);
        assert!(problem.failure.message.contains("302"), "{problem}");
    }

    #[tokio::test]
    async fn a_manifest_without_end_is_given_up() {
        let mut answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
        answer.resize(SIZE_MAX * 2, b'x');
        let problem = fetch(&host(answer).await).await.unwrap_err();
        assert_eq!(problem.exit, Exit::Invalid, "{problem}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_manifest_is_invalid() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}").unwrap();
        let from = file.path().display().to_string();
        let problem = verify(&Output::new(false), &from).await.unwrap_err();
        assert_eq!(problem.exit, Exit::Invalid, "{problem}");
    }
}
