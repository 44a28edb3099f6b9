//! The only place that writes to standard output and standard error.
//!
//! Text can come from models and peers, so control characters never reach a terminal. A reader that
//! went away (`| head`) ends nothing: what is left to say is dropped.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tirami_manifest::NodeId;
use tokio::task::AbortHandle;

use super::exit::Problem;
use super::table::Table;

/// How a piece of text looks on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// A heading.
    Bold,
    /// Less important.
    Dim,
    /// It holds.
    Good,
    /// Look at it.
    Warn,
    /// It does not hold.
    Bad,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// Where a command speaks.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts about two streams, each asked alone"
)]
#[derive(Debug)]
pub struct Output {
    json: bool,
    colour_out: bool,
    colour_err: bool,
    terminal_err: bool,
    failed: AtomicBool,
    /// What names the data directory in a command, when the user's did.
    place: Option<String>,
}

impl Output {
    /// Speaks JSON on standard output when `json`, else words; in colour only on a terminal whose
    /// user did not set `NO_COLOR`.
    pub fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let terminal_err = std::io::stderr().is_terminal();
        Self {
            json,
            colour_out: wanted && std::io::stdout().is_terminal(),
            colour_err: wanted && terminal_err,
            terminal_err,
            failed: AtomicBool::new(false),
            place: None,
        }
    }

    /// The commands that it tells people to run are then for this data directory.
    #[must_use]
    pub fn at(mut self, data_dir: Option<&Path>) -> Self {
        self.place = data_dir.map(|dir| format!("--data-dir {}", shell_word(dir)));
        self
    }

    /// Text for people, safe for a terminal, whose commands can be run as they are.
    fn words(&self, text: &str) -> String {
        self.placed(clean(text))
    }

    /// The same text, its commands for the data directory that the user named.
    fn placed(&self, text: String) -> String {
        match &self.place {
            Some(place) => ["'", "-- "].into_iter().fold(text, |text, before| {
                let command = format!("{before}tirami-agent ");
                text.replace(&command, &format!("{command}{place} "))
            }),
            None => text,
        }
    }

    /// Whether only JSON may go to standard output.
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Whether something could not be written for another reason than a reader that went away.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether standard error shows colours.
    pub const fn colours_errors(&self) -> bool {
        self.colour_err
    }

    /// One JSON document on standard output.
    pub fn json(&self, value: &impl Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.out(&format!("{text}\n")),
            Err(error) => self.note(&format!("the answer could not be written as JSON: {error}")),
        }
    }

    /// One JSON document on one line of standard output.
    pub fn event(&self, value: &serde_json::Value) {
        self.out(&format!("{value}\n"));
    }

    /// One line for people on standard output; nothing in JSON mode.
    pub fn line(&self, text: &str) {
        self.styled(Style::Plain, text);
    }

    /// One line for people on standard output, in a style; nothing in JSON mode.
    pub fn styled(&self, style: Style, text: &str) {
        if !self.json {
            self.out(&format!(
                "{}\n",
                paint(style, &self.words(text), self.colour_out)
            ));
        }
    }

    /// One line of which only the first word has a style; nothing in JSON mode.
    pub fn marked(&self, style: Style, mark: &str, text: &str) {
        if !self.json {
            let mark = paint(style, &clean(mark), self.colour_out);
            self.out(&format!("{mark} {}\n", self.words(text)));
        }
    }

    /// Facts with their names in front, aligned; nothing in JSON mode.
    pub fn facts(&self, facts: &[(&str, String)]) {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
        for (name, value) in facts {
            let name = format!("{name}:");
            self.marked(Style::Dim, &format!("{name:<width$}"), value);
        }
    }

    /// A table; nothing in JSON mode.
    pub fn table(&self, table: &Table) {
        for (i, line) in table.lines().iter().enumerate() {
            self.styled(if i == 0 { Style::Bold } else { Style::Plain }, line);
        }
    }

    /// Text as it comes, without a line end; nothing in JSON mode.
    pub fn piece(&self, text: &str) {
        if !self.json {
            self.out(&clean(text));
        }
    }

    /// A document as it is, whatever the mode: it is meant for a file or another program.
    pub fn document(&self, text: &str) {
        self.out(text);
    }

    /// One line on standard error.
    pub fn note(&self, text: &str) {
        write_err(&format!(
            "{}\n",
            paint(Style::Dim, &self.words(text), self.colour_err)
        ));
    }

    /// One line on standard error of which only the first word has a style.
    pub fn tell(&self, style: Style, mark: &str, text: &str) {
        let mark = paint(style, mark, self.colour_err);
        write_err(&format!("{mark} {}\n", self.words(text)));
    }

    /// A warning on standard error.
    pub fn warn(&self, text: &str) {
        self.tell(Style::Warn, "warning:", text);
    }

    /// Why the command ends: a JSON object on standard output, or words on standard error.
    pub fn problem(&self, problem: &Problem) {
        if self.json {
            let mut failure = problem.failure.clone();
            failure.message = self.placed(failure.message);
            failure.hint = failure.hint.map(|hint| self.placed(hint));
            self.json(&json!({ "error": failure }));
            return;
        }
        let mark = paint(Style::Bad, "error:", self.colour_err);
        let text = format!("{mark} {}\n", self.words(&problem.failure.message));
        let seen_by = problem.failure.seen_by.iter().map(NodeId::short);
        let seen_by: Vec<String> = seen_by.collect();
        let seen = match seen_by.as_slice() {
            [] => String::new(),
            nodes => format!("the prompt was sent to {}\n", nodes.join(", ")),
        };
        let hint = problem.failure.hint.as_ref().map(|hint| {
            let mark = paint(Style::Good, "hint:", self.colour_err);
            format!("{mark} {}\n", self.words(hint))
        });
        write_err(&(text + &seen + &hint.unwrap_or_default()));
    }

    /// Says every second that something is still being waited for, until dropped; only on a
    /// terminal.
    pub fn progress(&self, what: &'static str) -> Progress {
        if self.json || !self.terminal_err {
            return Progress(None);
        }
        let told = Arc::new(AtomicBool::new(false));
        let telling = told.clone();
        let task = tokio::spawn(async move {
            let mut seconds = 0_u32;
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                seconds = seconds.saturating_add(1);
                telling.store(true, Ordering::Relaxed);
                write_err(&format!("\r{what} ({seconds} s)\x1b[K"));
            }
        });
        Progress(Some((task.abort_handle(), told)))
    }

    fn out(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        self.remember(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }

    /// Says once that something could not be written.
    fn remember(&self, result: std::io::Result<()>) {
        let Err(error) = result else { return };
        let gone = error.kind() == ErrorKind::BrokenPipe;
        if !gone && !self.failed.swap(true, Ordering::Relaxed) {
            write_err(&format!("error: standard output: {error}\n"));
        }
    }
}

fn write_err(text: &str) {
    // Standard error may be closed; there is nowhere left to say so.
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

/// Says that something is waited for, until dropped.
#[derive(Debug)]
pub struct Progress(Option<(AbortHandle, Arc<AtomicBool>)>);

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((task, told)) = &self.0 {
            task.abort();
            if told.load(Ordering::Relaxed) {
                write_err("\r\x1b[K");
            }
        }
    }
}

fn paint(style: Style, text: &str, colour: bool) -> String {
    if colour && style != Style::Plain {
        format!("{}{text}\x1b[0m", style.code())
    } else {
        text.to_owned()
    }
}

/// A path as a shell reads it back, within a text that is in single quotes itself.
fn shell_word(path: &Path) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    let mut word = String::new();
    for c in path.display().to_string().chars() {
        if !plain(c) {
            word.push('\\');
        }
        word.push(c);
    }
    word
}

/// Text without what could steer a terminal or turn its reading direction.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_model_cannot_steer_the_terminal() {
        assert_eq!(
            clean("a\x1b[2Jb\r\u{9b}c\u{202e}d"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}d"
        );
        assert_eq!(
            clean("two\nlines\tand umlauts \u{e4}"),
            "two\nlines\tand umlauts \u{e4}"
        );
    }

    #[test]
    fn a_command_names_the_data_directory_that_the_users_did() {
        let hint = "'tirami-agent approve 7'; then ask again";
        assert_eq!(Output::new(false).words(hint), hint);
        let there = |dir: &str| Output::new(false).at(Some(Path::new(dir))).words(hint);
        assert_eq!(
            there("/srv/node"),
            "'tirami-agent --data-dir /srv/node approve 7'; then ask again"
        );
        assert!(
            there("/srv/my $node").starts_with(r"'tirami-agent --data-dir /srv/my\ \$node approve")
        );
    }

    #[test]
    fn colour_is_only_added_where_it_is_wanted() {
        assert_eq!(paint(Style::Bad, "x", false), "x");
        assert_eq!(paint(Style::Bad, "x", true), "\x1b[31mx\x1b[0m");
    }
}
