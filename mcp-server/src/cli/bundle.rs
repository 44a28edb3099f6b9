//! Taking the node to another machine.

use std::path::PathBuf;

use clap::Args;
use tirami_agent_runtime::bundle::{self, Bundled};

use super::confirm::confirm;
use super::context::Context;
use super::exit::{Exit, Problem};
use super::{key, passphrase};

/// Where the bundle's passphrase comes from.
#[derive(Debug, Args)]
pub(super) struct BundleArgs {
    /// The bundle
    file: PathBuf,
    /// Read the bundle's passphrase from this file instead of asking on the terminal
    #[arg(long, value_name = "FILE")]
    bundle_passphrase_file: Option<PathBuf>,
}

/// Whose passphrase it is, and the flag of its file.
const WHOSE: (&str, &str) = ("the bundle's", "--bundle-passphrase-file");

pub(super) async fn export(context: &Context, args: &BundleArgs) -> Result<Exit, Problem> {
    let to = std::path::absolute(&args.file).map_err(|error| Problem::file(&args.file, &error))?;
    let config = key::stopped(context).await?;
    confirm(
        context,
        "The node moves into the file: here it starts no more, until that file is imported here again. Who \
         has the file and its passphrase has all its money.",
    )?;
    let passphrase = match &args.bundle_passphrase_file {
        Some(file) => passphrase::from_file(file, &context.out)?,
        None => passphrase::ask_twice(context, WHOSE)?,
    };
    let progress = context
        .out
        .progress("writing the bundle, and reading it again");
    let made = bundle::export(&config, &to, &passphrase).await;
    drop(progress);
    said(context, &made?);
    if !context.out.is_json() {
        context.out.note(
            "import it where the node is to go on, once: two nodes with one key are proved a fraud",
        );
    }
    Ok(Exit::Ok)
}

pub(super) fn import(context: &Context, args: &BundleArgs) -> Result<Exit, Problem> {
    std::fs::File::open(&args.file).map_err(|error| Problem::file(&args.file, &error))?;
    let dir = context.data_dir()?;
    let passphrase = match &args.bundle_passphrase_file {
        Some(file) => passphrase::from_file(file, &context.out)?,
        None => passphrase::ask_once(context, WHOSE)?,
    };
    let progress = context.out.progress("reading the bundle");
    let came = bundle::import(&dir, &args.file, &passphrase);
    drop(progress);
    said(context, &came?);
    Ok(Exit::Ok)
}

fn said(context: &Context, bundled: &Bundled) {
    if context.out.is_json() {
        context.out.json(bundled);
        return;
    }
    let node = bundled.node.map_or_else(
        || "its key is under a passphrase of its own".to_owned(),
        |node| node.to_string(),
    );
    context.out.facts(&[
        ("file", bundled.file.display().to_string()),
        ("node", node),
        ("wallet bytes", bundled.wallet_bytes.to_string()),
    ]);
}
