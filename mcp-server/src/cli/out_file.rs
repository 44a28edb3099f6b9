//! Where a document goes: standard output, or a new file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Problem};

#[derive(Debug, Args)]
pub(super) struct OutArgs {
    /// Write it to this file instead of standard output ('-'); an existing file is left alone
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl OutArgs {
    /// The file, when it is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.out.as_deref().filter(|path| path.as_os_str() != "-")
    }
}

/// A new file; what is there is left alone.
pub(super) fn create(path: &Path) -> Result<File, Problem> {
    File::create_new(path).map_err(|error| failed(path, &error))
}

pub(super) fn failed(path: &Path, error: &std::io::Error) -> Problem {
    match error.kind() {
        std::io::ErrorKind::AlreadyExists => Problem::usage(format!(
            "{} exists already and was left alone",
            path.display()
        ))
        .hint("choose another file"),
        _ => Problem::file(path, error).exit(Exit::Store),
    }
}

/// Writes a document to where it should go; the file, when it went to one.
pub(super) fn document<'a>(
    context: &Context,
    to: &'a OutArgs,
    document: &impl Serialize,
) -> Result<Option<&'a Path>, Problem> {
    let Some(path) = to.file() else {
        context.out.document(&text(document)?);
        return Ok(None);
    };
    write(path, document)?;
    Ok(Some(path))
}

/// Writes a document to a new file.
pub(super) fn write(path: &Path, document: &impl Serialize) -> Result<(), Problem> {
    let text = text(document)?;
    let mut file = create(path)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| failed(path, &error))
}

fn text(document: &impl Serialize) -> Result<String, Problem> {
    let text = serde_json::to_string_pretty(document);
    Ok(text.map_err(|error| Problem::internal(error.to_string()))? + "\n")
}

/// Says that a file was written: the given facts as JSON, or how it is checked.
pub(super) fn written(context: &Context, path: &Path, facts: &serde_json::Value) {
    let out = &context.out;
    if out.is_json() {
        out.json(facts);
        return;
    }
    out.line(&format!("{} written; check it with", path.display()));
    out.line(&format!("  tirami-agent verify {}", path.display()));
}
