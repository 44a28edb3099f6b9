//! Asking for a passphrase, the owner's or the node key's: on the terminal, or in a file named for it.
//! Never in the environment or among the arguments, where other programs can read it.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use tirami_agent_runtime::owner::{PASSPHRASE_MIN, Passphrase};
use zeroize::Zeroizing;

use super::context::Context;
use super::exit::{Exit, Problem};
use super::output::Output;

/// Largest passphrase file; chosen.
const FILE_MAX: u64 = 4_096;
const FILE_ROOM: usize = 4_097;

/// Where the passphrase comes from.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct PassphraseArgs {
    /// Read the owner's passphrase from this file instead of asking on the terminal
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// The passphrase of the owner there is.
    pub(super) fn read(&self, context: &Context) -> Result<Passphrase, Problem> {
        match &self.passphrase_file {
            Some(path) => from_file(path, &context.out),
            None => {
                ask(context, ("the owner's", FLAG), "owner's passphrase: ").map(Passphrase::new)
            }
        }
    }

    /// The passphrase of an owner to be, asked for twice.
    pub(super) fn read_new(&self, context: &Context) -> Result<Passphrase, Problem> {
        if let Some(path) = &self.passphrase_file {
            return from_file(path, &context.out);
        }
        ask_twice(context, ("the owner's", FLAG))
    }
}

/// The flag that names the owner's.
const FLAG: &str = "--passphrase-file";

/// The passphrase of the node's key, asked for.
pub(super) fn of_node_key(context: &Context) -> Result<Passphrase, Problem> {
    let whose = ("the node key's", "--key-passphrase-file");
    ask(context, whose, "node key's passphrase: ").map(Passphrase::new)
}

/// A passphrase that there is: whose, and the flag of its file.
pub(super) fn ask_once(context: &Context, whose: (&str, &str)) -> Result<Passphrase, Problem> {
    let prompt = format!("{} passphrase: ", whose.0);
    ask(context, whose, &prompt).map(Passphrase::new)
}

/// A passphrase to be, asked for twice: whose, and the flag of its file.
pub(super) fn ask_twice(context: &Context, whose: (&str, &str)) -> Result<Passphrase, Problem> {
    let prompt = format!("new passphrase (at least {PASSPHRASE_MIN} characters): ");
    let mut first = Zeroizing::new(ask(context, whose, &prompt)?);
    let again = Zeroizing::new(ask(context, whose, "the same again: ")?);
    if first != again {
        return Err(Problem::usage(
            "the two passphrases differ; nothing was changed",
        ));
    }
    Ok(Passphrase::new(std::mem::take(&mut first)))
}

fn ask(context: &Context, (whose, flag): (&str, &str), prompt: &str) -> Result<String, Problem> {
    let nobody = |why: &str| {
        Problem::owner(format!("{whose} passphrase is needed, and {why}"))
            .hint(format!("give {flag} FILE"))
    };
    if context.globals.no_input {
        return Err(nobody("--no-input says not to ask for it"));
    }
    rpassword::prompt_password(prompt).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData => {
            nobody(&format!("what was typed could not be read ({error})"))
        }
        _ => nobody("there is no terminal to ask on"),
    })
}

/// The passphrase in a file.
pub(super) fn from_file(path: &Path, out: &Output) -> Result<Passphrase, Problem> {
    let way_out =
        "name another file with the passphrase in it, or leave the option out and type it";
    let failed = |error| Problem::file(path, &error).hint(way_out);
    let file = std::fs::File::open(path).map_err(failed)?;
    let exposed = exposed(&file);
    // With room for all of it: what grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(FILE_ROOM));
    file.take(FILE_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(
            Problem::usage(format!("no passphrase is in {}", path.display())).exit(Exit::Owner),
        );
    }
    if line.contains(['\r', '\n']) {
        let text = format!("{} has more than one line", path.display());
        return Err(Problem::usage(text)
            .hint("a passphrase is one line: what is typed on a terminal could not be the same"));
    }
    if exposed {
        let path = path.display();
        out.warn(&format!(
            "{path} can be read by others; run: chmod 600 {path}"
        ));
    }
    Ok(Passphrase::new(std::mem::take(&mut text)))
}

#[cfg(unix)]
fn exposed(file: &std::fs::File) -> bool {
    use std::os::unix::fs::MetadataExt;
    // Pipes and the like have no owner who could read them later.
    file.metadata()
        .is_ok_and(|about| about.is_file() && about.mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn exposed(_: &std::fs::File) -> bool {
    false
}
