//! What the demo says: each step as it happens, and at the end what was proven.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use tirami_agent_runtime::Failure;
use tokio::time::Instant;

use super::stage::Stage;
use crate::cli::output::{Output, Style};

/// One step and what was seen in it.
#[derive(Debug, Serialize)]
struct Step {
    number: usize,
    title: &'static str,
    passed: bool,
    milliseconds: u64,
    facts: Vec<Fact>,
}

/// A name and what was measured or read.
#[derive(Debug, Serialize)]
struct Fact {
    name: &'static str,
    value: String,
}

/// What the demo says.
#[derive(Debug)]
pub(super) struct Report<'a> {
    out: &'a Output,
    steps: Vec<Step>,
    proven: Vec<String>,
    started: Instant,
    step_started: Instant,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a Output) -> Self {
        let now = tokio::time::Instant::now();
        Self {
            out,
            steps: Vec::new(),
            proven: Vec::new(),
            started: now,
            step_started: now,
        }
    }

    /// The next step begins; the one before has passed.
    pub(super) fn step(&mut self, title: &'static str) {
        self.close(true);
        let number = self.steps.len().saturating_add(1);
        self.out.line("");
        self.out.styled(Style::Bold, &format!("{number}. {title}"));
        self.steps.push(Step {
            number,
            title,
            passed: false,
            milliseconds: 0,
            facts: Vec::new(),
        });
    }

    fn close(&mut self, passed: bool) {
        let now = tokio::time::Instant::now();
        if let Some(step) = self.steps.last_mut() {
            step.passed = passed;
            step.milliseconds = milliseconds(self.step_started, now);
        }
        self.step_started = now;
    }

    /// Something that was measured or read.
    pub(super) fn fact(&mut self, name: &'static str, value: impl Into<String>) {
        let value = value.into();
        self.out
            .marked(Style::Dim, &format!("   {name:<17}"), &value);
        if let Some(step) = self.steps.last_mut() {
            step.facts.push(Fact { name, value });
        }
    }

    /// Something that was checked and holds.
    pub(super) fn proven(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.out.marked(Style::Good, "   ok", &what);
        self.proven.push(what);
    }

    /// Ends in failure; says in which step.
    pub(super) fn fail(&mut self) -> usize {
        self.close(false);
        self.steps.len()
    }

    /// The failure and all that was seen before it, as JSON.
    pub(super) fn failed_json(&self, failure: &Failure) {
        self.out.json(&json!({
            "passed": false, "error": failure, "proven": self.proven, "steps": self.steps,
            "milliseconds": milliseconds(self.started, tokio::time::Instant::now()),
        }));
    }

    /// Ends in success: the checklist, and how to go on.
    pub(super) fn finish(mut self, stage: &Stage) {
        self.close(true);
        let took = milliseconds(self.started, tokio::time::Instant::now());
        let config = Config::of(stage.exe());
        if self.out.is_json() {
            self.out.json(&json!({
                "passed": true, "proven": self.proven, "steps": self.steps, "milliseconds": took,
                "connect": config.json(), "kept": stage.kept(),
            }));
            return;
        }
        for what in &self.proven {
            self.out.marked(Style::Good, "   [x]", what);
        }
        let (count, seconds, rest) = (self.proven.len(), took / 1_000, took % 1_000);
        self.out.line("");
        self.out.styled(
            Style::Bold,
            &format!("{count} promises held, in {seconds}.{rest:03} s."),
        );
        self.out.line("");
        self.out
            .line("Give your own agent a wallet. It starts with the embedded model, and spends");
        self.out
            .line("nothing until it joins a network with 'tirami-agent join TICKET'.");
        for (what, text) in config.texts() {
            self.out.line("");
            self.out.styled(Style::Bold, what);
            self.out.line(&text);
        }
        if let Some(dir) = stage.kept() {
            self.out.line("");
            self.out.line(&format!(
                "Both nodes, their logs and the receipt are in {}.",
                dir.display()
            ));
        }
    }
}

/// The beginning of a long text that nobody reads whole.
pub(super) fn short(text: &str) -> String {
    crate::cli::table::shorten(text, 18)
}

fn milliseconds(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX)
}

/// How editors and agents are told about this program.
struct Config {
    exe: String,
}

impl Config {
    fn of(exe: &Path) -> Self {
        Self {
            exe: exe.display().to_string(),
        }
    }

    fn claude(&self) -> String {
        format!("claude mcp add tirami -- {} mcp", shell(&self.exe))
    }

    fn cursor(&self) -> Value {
        json!({ "mcpServers": { "tirami": { "command": self.exe, "args": ["mcp"] } } })
    }

    fn codex(&self) -> String {
        let exe = toml::Value::String(self.exe.clone());
        format!("[mcp_servers.tirami]\ncommand = {exe}\nargs = [\"mcp\"]")
    }

    fn texts(&self) -> [(&'static str, String); 3] {
        [
            ("Claude Code, in a shell:", self.claude()),
            ("Cursor, in .cursor/mcp.json:", self.cursor().to_string()),
            ("Codex, in ~/.codex/config.toml:", self.codex()),
        ]
    }

    fn json(&self) -> Value {
        json!({ "claude_code": self.claude(), "cursor": self.cursor(), "codex": self.codex() })
    }
}

/// A path as one word of a shell.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_survives_a_path_with_a_space() {
        let config = Config::of(Path::new("/opt/my tools/tirami-agent"));
        assert_eq!(
            config.claude(),
            "claude mcp add tirami -- '/opt/my tools/tirami-agent' mcp"
        );
        let codex: toml::Table = config.codex().parse().unwrap();
        let command = &codex["mcp_servers"]["tirami"]["command"];
        assert_eq!(command.as_str(), Some("/opt/my tools/tirami-agent"));
    }
}
