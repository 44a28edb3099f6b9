//! Reads Rust source as text, just well enough to tell what it names.
//!
//! No parser: comments and literals are blanked, `use` trees are unfolded, and everything else is
//! taken as it stands. Lines keep their numbers.

use std::fs;
use std::path::Path;

/// A file, with its path from the workspace's root, `/` between folders.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// True when the whole file is tests or benchmarks.
    pub(crate) fn is_test(&self) -> bool {
        ["/tests/", "/benches/", "/fuzz/"]
            .iter()
            .any(|folder| self.path.contains(folder))
            || self.path.ends_with("/tests.rs")
    }

    /// Its code without comments, literals and tests.
    pub(crate) fn production(&self) -> String {
        if self.is_test() {
            String::new()
        } else {
            split_tests(&code(&self.text)).0
        }
    }

    /// The code of its tests, without comments and literals.
    pub(crate) fn tests(&self) -> String {
        let code = code(&self.text);
        if self.is_test() {
            code
        } else {
            split_tests(&code).1
        }
    }

    /// Where `line` is, for a message.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }
}

/// Every Rust file under the members' folders.
pub(crate) fn rust_files(root: &Path, members: &[&str]) -> Vec<File> {
    let mut files = Vec::new();
    for member in members {
        walk(&root.join(member), member, &mut files);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn walk(folder: &Path, name: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{name}: {e}")) {
        let entry = entry.unwrap_or_else(|e| panic!("{name}: {e}"));
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{name}/{file_name}");
        if entry.path().is_dir() {
            if !file_name.starts_with('.') && file_name != "target" {
                walk(&entry.path(), &path, files);
            }
        } else if entry.path().extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(entry.path()).unwrap_or_else(|e| panic!("{path}: {e}"));
            files.push(File { path, text });
        }
    }
}

/// `text` with comments and the contents of literals turned into blanks.
pub(crate) fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_name = false;
    while let Some(c) = rest.chars().next() {
        let length = literal(rest, after_name);
        let (skipped, tail) = rest.split_at(length.max(c.len_utf8()));
        if length > 0 {
            out.extend(skipped.chars().map(|c| if c == '\n' { c } else { ' ' }));
        } else {
            out.push(c);
        }
        after_name = length == 0 && (c.is_alphanumeric() || c == '_');
        rest = tail;
    }
    out
}

/// Bytes of the comment or literal that `text` starts with; 0 when it starts with code.
fn literal(text: &str, after_name: bool) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment(text);
    }
    if text.starts_with('"') {
        return quoted(text, 1, '"');
    }
    if text.starts_with('\'') {
        return character(text);
    }
    if after_name {
        return 0;
    }
    let prefix = text
        .bytes()
        .take_while(|b| matches!(b, b'b' | b'c' | b'r'))
        .count();
    let Some(tail) = text.get(prefix..).filter(|_| (1..=2).contains(&prefix)) else {
        return 0;
    };
    let hashes = tail.bytes().take_while(|b| *b == b'#').count();
    if text.get(..prefix).is_some_and(|p| p.ends_with('r')) {
        if !tail.get(hashes..).is_some_and(|t| t.starts_with('"')) {
            return 0;
        }
        let open = prefix + hashes + 1;
        let close = format!("\"{}", "#".repeat(hashes));
        let body = text.get(open..).unwrap_or_default();
        return body
            .find(&close)
            .map_or(text.len(), |end| open + end + close.len());
    }
    match tail.chars().next() {
        Some('"') => quoted(text, prefix + 1, '"'),
        Some('\'') => prefix + character(tail),
        _ => 0,
    }
}

/// Bytes up to and with the `close` that no backslash precedes, looking from `from` on.
fn quoted(text: &str, from: usize, close: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().filter(|(at, _)| *at >= from) {
        if !escaped && c == close {
            return at + c.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

/// Bytes of a character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => quoted(text, 1, '\''),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = text.get(at..).filter(|t| !t.is_empty()) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Code outside and inside the items under `#[cfg(test)]`, each with the other blanked.
fn split_tests(code: &str) -> (String, String) {
    let mut production = String::new();
    let mut tests = String::new();
    let blank = |part: &str| {
        part.chars()
            .map(|c| if c == '\n' { c } else { ' ' })
            .collect::<String>()
    };
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        let (before, item) = rest.split_at(start);
        let (item, after) = item.split_at(item_length(item));
        production.push_str(before);
        tests.push_str(&blank(before));
        production.push_str(&blank(item));
        tests.push_str(item);
        rest = after;
    }
    production.push_str(rest);
    tests.push_str(&blank(rest));
    (production, tests)
}

/// Bytes of the item that `code` starts with: to its closing brace, or to its semicolon.
fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// A path as it is written in code, such as `std::fs::read`; `use` trees are unfolded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
    /// Part of a `pub use`.
    pub(crate) reexport: bool,
}

impl Name {
    /// True when `wanted`, a path such as `std::fs`, is a part of this one.
    pub(crate) fn has(&self, wanted: &str) -> bool {
        let wanted: Vec<&str> = wanted.split("::").collect();
        self.segments
            .windows(wanted.len())
            .any(|part| part == wanted)
    }

    pub(crate) fn text(&self) -> String {
        self.segments.join("::")
    }
}

/// Everything that `code` names.
pub(crate) fn names(code: &str) -> Vec<Name> {
    let mut reader = Tokens {
        tokens: tokens(code),
        at: 0,
    };
    let mut found = Vec::new();
    let mut public = false;
    while let Some((line, token)) = reader.next() {
        match token.as_str() {
            // `use<'a>` in a type captures; it imports nothing.
            "use" if reader.peek(0) != "<" => reader.use_tree(&[], public, &mut found),
            "pub" => {
                reader.skip_restriction();
                public = true;
                continue;
            }
            word if is_word(word) => {
                let mut segments = vec![token];
                while let Some(next) = reader.segment() {
                    segments.push(next);
                }
                found.push(Name {
                    line,
                    segments,
                    reexport: false,
                });
            }
            _ => {}
        }
        public = false;
    }
    found
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single characters, each with its line.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let word = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let length = match c {
                _ if word > 0 => word,
                ':' if rest.starts_with("::") => 2,
                _ => c.len_utf8(),
            };
            let (token, tail) = rest.split_at(length);
            if !c.is_whitespace() {
                found.push((number + 1, token.to_owned()));
            }
            rest = tail;
        }
    }
    found
}

struct Tokens {
    tokens: Vec<(usize, String)>,
    at: usize,
}

impl Tokens {
    fn next(&mut self) -> Option<(usize, String)> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn peek(&self, ahead: usize) -> &str {
        self.tokens
            .get(self.at + ahead)
            .map_or("", |(_, token)| token)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |(line, _)| *line)
    }

    /// The word after a `::`, when that is what follows.
    fn segment(&mut self) -> Option<String> {
        if self.peek(0) != "::" || !is_word(self.peek(1)) {
            return None;
        }
        self.at += 1;
        self.next().map(|(_, word)| word)
    }

    /// The `(crate)` of `pub(crate)`.
    fn skip_restriction(&mut self) {
        if self.peek(0) == "(" {
            while !matches!(self.peek(0), ")" | "") {
                self.at += 1;
            }
            self.at += 1;
        }
    }

    /// One tree of a `use` under `prefix`, up to the `,`, `}` or `;` that ends it.
    fn use_tree(&mut self, prefix: &[String], reexport: bool, found: &mut Vec<Name>) {
        let line = self.line();
        let mut segments = prefix.to_vec();
        loop {
            match self.peek(0) {
                "::" => self.at += 1,
                "{" => {
                    self.at += 1;
                    while !matches!(self.peek(0), "}" | ";" | "") {
                        self.use_tree(&segments, reexport, found);
                        if self.peek(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "as" => self.at += 2,
                "self" if !segments.is_empty() => self.at += 1,
                "," | "}" | ";" | "" => break,
                word => {
                    segments.push(word.to_owned());
                    self.at += 1;
                }
            }
        }
        found.push(Name {
            line,
            segments,
            reexport,
        });
    }
}
