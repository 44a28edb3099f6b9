//! Where this was measured.

use std::fs;
use std::process::Command;

/// What a reader needs to judge the figures. No names of hosts or people.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism();
    vec![
        (
            "cores",
            cores.map_or_else(|_| "?".to_owned(), |n| n.to_string()),
        ),
        ("processor", row("/proc/cpuinfo", "model name")),
        ("memory", row("/proc/meminfo", "MemTotal")),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("rustc", output("rustc", "--version")),
        ("file system of data", file_system()),
        ("load average at the start", load()),
    ]
}

pub(crate) fn load() -> String {
    let text = first_line("/proc/loadavg");
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or("?").to_owned()
}

fn row(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut rows = text.lines().filter_map(|line| line.split_once(':'));
    rows.find(|(key, _)| key.trim() == name)
        .map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
}

fn output(program: &str, word: &str) -> String {
    let output = Command::new(program).arg(word).output();
    output.map_or_else(
        |_| "?".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// The type of the mount that has the temporary folder: every commit is flushed to it.
fn file_system() -> String {
    let folder = std::env::temp_dir();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let holds = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (mount, kind) = (fields.next()?, fields.next()?);
        folder
            .starts_with(mount)
            .then(|| (mount.len(), kind.to_owned()))
    };
    let best = mounts.lines().filter_map(holds).max();
    best.map_or_else(|| "?".to_owned(), |(_, kind)| kind)
}
