//! Where the demo plays: a directory, this program, and the commands it is asked to run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tirami_agent_runtime::Failure;
use tokio::process::Command;

use crate::cli::exit::Problem;

/// How long one command, or one change that is waited for, may take.
pub(super) const WITHIN: Duration = Duration::from_secs(20);

/// How often something that is waited for is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The owner's passphrase on node B; everybody may know it, the node is gone in a minute.
const PASSPHRASE: &str = "only for this demo";

/// Why the demo ends early.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(String);

impl Broken {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// For errors of libraries: what was tried, and why it failed.
    pub(super) fn because(what: &str, error: impl fmt::Display) -> Self {
        Self(format!("{what}: {error}"))
    }
}

/// Ends the demo when something is not as promised.
pub(super) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(what())) }
}

/// Ends the demo when two things that must be equal are not.
#[expect(
    clippy::needless_pass_by_value,
    reason = "callers then read like sentences"
)]
pub(super) fn equal<T: PartialEq + fmt::Debug>(what: &str, is: T, must: T) -> Result<(), Broken> {
    ensure(is == must, || {
        format!("{what} is {is:?}, and must be {must:?}")
    })
}

/// One of the two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Founder, with a model to sell.
    A,
    /// Newcomer, without one.
    B,
}

impl Who {
    /// Its directory's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Where the demo plays. A directory that need not be kept goes when this does.
#[derive(Debug)]
pub(super) struct Stage {
    exe: PathBuf,
    dir: PathBuf,
    keep: bool,
}

impl Stage {
    pub(super) fn set(keep: Option<PathBuf>) -> Result<Self, Problem> {
        let exe = std::env::current_exe()
            .map_err(|error| Problem::internal(format!("this program's path: {error}")))?;
        let (dir, keep) = match keep {
            Some(dir) => (dir, true),
            None => (
                std::env::temp_dir().join(format!("tirami-demo-{}", std::process::id())),
                false,
            ),
        };
        let dir = std::path::absolute(&dir).map_err(|error| Problem::file(&dir, &error))?;
        make_private(&dir).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                let text = format!("{} exists already and was left alone", dir.display());
                Problem::usage(text).hint("give --keep a new directory")
            }
            _ => Problem::file(&dir, &error),
        })?;
        let stage = Self { exe, dir, keep };
        for (name, text) in [("passphrase", PASSPHRASE), ("wrong", "not the passphrase")] {
            let path = stage.path(name);
            write_private(&path, text).map_err(|error| Problem::file(&path, &error))?;
        }
        Ok(stage)
    }

    pub(super) fn exe(&self) -> &Path {
        &self.exe
    }

    /// A file or directory of the demo.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The same as text.
    pub(super) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The directory, when it stays.
    pub(super) fn kept(&self) -> Option<&Path> {
        self.keep.then_some(self.dir.as_path())
    }

    pub(super) fn advice(&self) -> String {
        match self.kept() {
            Some(dir) => format!("logs of both nodes are in {}", dir.display()),
            None => "run it again with --keep DIR to look at both nodes' logs".to_owned(),
        }
    }

    /// This program, to be run on a node's data directory, or on none.
    pub(super) fn command(&self, who: Option<Who>) -> Command {
        let mut command = Command::new(&self.exe);
        for name in ["TIRAMI_DATA_DIR", "TIRAMI_TOKEN", "TIRAMI_LOG"] {
            command.env_remove(name);
        }
        if let Some(who) = who {
            command.arg("--data-dir").arg(self.path(who.name()));
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command on a node's data directory to its end.
    pub(super) async fn run(&self, who: Who, words: &[&str]) -> Result<Ended, Broken> {
        let mut command = self.command(Some(who));
        command.arg("--json").args(words);
        finish(command, words).await
    }

    /// What a command answers.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        who: Who,
        words: &[&str],
    ) -> Result<T, Broken> {
        let ended = self.run(who, words).await?;
        ended.read(words)
    }

    /// With which exit code and why a command is refused.
    pub(super) async fn refused(&self, who: Who, words: &[&str]) -> Result<(i32, Failure), Broken> {
        #[derive(Deserialize)]
        struct Refused {
            error: Failure,
        }
        let ended = self.run(who, words).await?;
        let name = words.join(" ");
        match ended.code {
            Some(code) if code != 0 => serde_json::from_str(&ended.stdout)
                .map(|refused: Refused| (code, refused.error))
                .map_err(|error| Broken::because(&name, error)),
            _ => Err(Broken(format!("'{name}' was allowed and must not be"))),
        }
    }
}

impl Ended {
    /// Its standard output as JSON, when it went well.
    pub(super) fn read<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T, Broken> {
        let name = words.first().copied().unwrap_or_default();
        ensure(self.code == Some(0), || {
            format!(
                "'{name}' failed: {} {}",
                self.stdout.trim(),
                self.stderr.trim()
            )
        })?;
        serde_json::from_str(&self.stdout).map_err(|error| Broken::because(name, error))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "the demo's directory is left behind");
        }
    }
}

/// Runs a command to its end, within the time a command may take.
pub(super) async fn finish(mut command: Command, words: &[&str]) -> Result<Ended, Broken> {
    let name = words.first().copied().unwrap_or_default();
    let output = tokio::time::timeout(WITHIN, command.output())
        .await
        .map_err(|_| Broken(format!("'{name}' did not end in {} s", WITHIN.as_secs())))?
        .map_err(|error| Broken::because(name, error))?;
    Ok(Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Looks until there is something to see.
pub(super) async fn wait_for<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>, Broken>,
) -> Result<T, Broken> {
    let until = tokio::time::Instant::now() + WITHIN;
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        let late = || format!("{what} did not happen in {} s", WITHIN.as_secs());
        ensure(tokio::time::Instant::now() < until, late)?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A directory only this user enters; fails when it exists.
fn make_private(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// A file only this user reads; fails when it exists.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    std::io::Write::write_all(&mut options.open(path)?, text.as_bytes())
}
