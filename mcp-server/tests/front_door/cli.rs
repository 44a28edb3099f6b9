//! A data directory, and the program run on it from a shell.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tirami_agent_runtime::data_dir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::nodes::WITHIN;

/// The program.
pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_tirami-agent");

/// The owner's passphrase, where there is an owner.
pub(crate) const PASSPHRASE: &str = "correct horse battery staple";

/// A node's home: its data directory, its config file, and room for files beside them.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// How a command was refused.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) exit: i32,
    pub(crate) code: String,
    /// Message and hint.
    pub(crate) text: String,
}

impl Home {
    /// A home with this config file.
    pub(crate) fn new(config: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("tirami-")
            .tempdir()
            .unwrap();
        let home = Self { dir };
        home.write("config.toml", config);
        home.write("passphrase", PASSPHRASE);
        home.write("wrong", "not the passphrase at all");
        home
    }

    /// Of a node that sells the model `echo`.
    pub(crate) fn seller() -> Self {
        Self::new("model = \"echo\"\n")
    }

    /// Of a node that only buys.
    pub(crate) fn buyer() -> Self {
        Self::new("no_local = true\n")
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// A file beside the data directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file beside the data directory that only its user can read.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    /// The main agent's token.
    pub(crate) fn token(&self) -> String {
        data_dir::read_token(&self.data()).unwrap()
    }

    /// Makes the program's command line for this home; `words` follow.
    pub(crate) fn command<W: AsRef<str>>(&self, words: &[W]) -> Command {
        self.command_by(&[EXE], words)
    }

    /// The same, started by another program that `by` begins with.
    pub(crate) fn command_by<W: AsRef<str>>(&self, by: &[&str], words: &[W]) -> Command {
        let mut command = bare(by);
        command.arg("--data-dir").arg(self.data());
        command.arg("--config").arg(self.path("config.toml"));
        command.args(words.iter().map(AsRef::as_ref));
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run<W: AsRef<str>>(&self, words: &[W]) -> Ended {
        let mut command = self.command(words);
        command.arg("--json");
        finish(command).await
    }

    /// What a command answers.
    pub(crate) async fn ask<W: AsRef<str>>(&self, words: &[W]) -> Value {
        let ended = self.run(words).await;
        let name = words
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<_>>()
            .join(" ");
        assert_eq!(
            ended.code, 0,
            "'{name}' failed: {} {}",
            ended.stdout, ended.stderr
        );
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// How a command is refused.
    pub(crate) async fn refused<W: AsRef<str>>(&self, words: &[W]) -> Refused {
        self.run(words).await.refused()
    }

    /// The same without a terminal to ask a passphrase on.
    pub(crate) async fn refused_without_terminal<W: AsRef<str>>(&self, words: &[W]) -> Refused {
        let mut command = self.command_by(&["setsid", "--wait", EXE], words);
        command.arg("--json");
        finish(command).await.refused()
    }

    /// Everything that money, limits and membership are about.
    pub(crate) async fn books(&self) -> Value {
        let status = self.ask(&["status"]).await;
        json!({
            "balance": self.ask(&["balance"]).await,
            "history": self.ask(&["history", "--limit", "100"]).await,
            "budget": self.ask(&["budget", "show"]).await,
            "node": status["node"],
            "network": status["network"],
            "owner": status["owner"],
            "next_order": status["next_order"],
        })
    }

    /// Asserts that the books agree with themselves.
    pub(crate) async fn audit(&self) {
        let audit = self.ask(&["wallet", "audit"]).await;
        assert_eq!(audit["holds"], true, "{audit:#}");
        let rules = audit["checks"].as_array().unwrap().iter();
        let of_pages = rules.filter(|check| check["rule"].as_str().unwrap().contains("every page"));
        assert_eq!(of_pages.count(), 1, "{audit:#}");
    }

    /// Every receipt the history speaks of, for what this node bought (`purchase`) or sold
    /// (`earnings`); a receipt that was booked twice is there twice.
    pub(crate) async fn receipts(&self, reason: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut words: Vec<String> = ["history", "--limit", "100"].map(str::to_owned).into();
        loop {
            let page = self.ask(&words).await;
            let entries = page["entries"].as_array().unwrap().iter();
            found.extend(
                entries
                    .filter(|entry| entry["reason"] == reason)
                    .map(|entry| entry["receipt"].as_str().unwrap().to_owned()),
            );
            let Some(before) = page["next_before"].as_u64() else {
                return found;
            };
            words.truncate(3);
            words.extend(["--before".to_owned(), before.to_string()]);
        }
    }

    /// What a command prints for people, once it did what was asked.
    pub(crate) async fn screen<W: AsRef<str>>(&self, words: &[W]) -> String {
        let mut command = self.command(words);
        // Nine hours ahead, wherever the test runs and whatever is known of places there.
        command.env("TZ", "JST-9");
        let ended = finish(command).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout
    }

    /// What a command that needs the owner answers.
    pub(crate) async fn ask_as_owner<W: AsRef<str>>(&self, words: &[W]) -> Value {
        let file = self.text("passphrase");
        let words = words.iter().map(AsRef::as_ref);
        let words: Vec<&str> = words.chain(["--passphrase-file", &file]).collect();
        self.ask(&words).await
    }

    /// Makes an owner, who takes away what would stop a test that buys much.
    pub(crate) async fn without_breakers(&self) {
        self.init_owner().await;
        self.ask_as_owner(&[
            "budget",
            "loosen",
            "--errors-in-row",
            "none",
            "--spends-per-minute",
            "none",
            "--same-request",
            "none",
        ])
        .await;
    }

    /// Makes an owner with [`PASSPHRASE`].
    pub(crate) async fn init_owner(&self) {
        let passphrase = self.text("passphrase");
        self.ask(&["owner", "init", "--passphrase-file", &passphrase])
            .await;
    }
}

/// Writes a file that only its user can read.
pub(crate) fn private(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A command in an environment that says nothing to the program.
pub(crate) fn bare(by: &[&str]) -> Command {
    let (program, first) = by.split_first().unwrap();
    let mut command = Command::new(program);
    for name in ["TIRAMI_DATA_DIR", "TIRAMI_TOKEN", "TIRAMI_LOG"] {
        command.env_remove(name);
    }
    command.args(first).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub(crate) async fn finish(mut command: Command) -> Ended {
    let output = timeout(WITHIN, command.output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("{command:?} does not end"))
        .unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn refused(&self) -> Refused {
        assert!(self.code > 0, "not refused: {self:?}");
        let answer: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let text = |field: &str| answer["error"][field].as_str().unwrap_or_default();
        Refused {
            exit: self.code,
            code: text("code").to_owned(),
            text: format!("{}; {}", text("message"), text("hint")),
        }
    }
}

impl Refused {
    /// Asserts exit code, code and what the text has to say.
    #[track_caller]
    pub(crate) fn is(&self, exit: i32, code: &str, says: &[&str]) {
        assert_eq!(
            (self.exit, self.code.as_str()),
            (exit, code),
            "{}",
            self.text
        );
        for part in says {
            assert!(
                self.text.contains(part),
                "'{part}' is not said: {}",
                self.text
            );
        }
    }
}

/// What is in a directory: names, owners, modes and bytes.
pub(crate) fn contents(dir: &Path) -> Vec<(PathBuf, u32, u32, Vec<u8>)> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let about = std::fs::symlink_metadata(&path).unwrap();
        let bytes = if about.is_file() {
            std::fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        found.push((path, about.uid(), about.mode(), bytes));
    }
    found.sort();
    found
}
