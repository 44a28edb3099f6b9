//! Processes that are measured: started, looked at in /proc, and ended.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

/// Longest wait for anything; then something is broken.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);

/// Name of what [`Folder::flush`] measures: starts and commits wait for it more than once, and other
/// programs make it slow.
pub(crate) const FLUSH: &str = "disk, 4 KiB written and flushed";

/// Clock ticks in a second in /proc: 100 on Linux wherever Rust runs.
const TICKS_PER_SECOND: u64 = 100;

/// A temporary folder, removed at the end.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tirami-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Milliseconds until a little is on the disk.
    pub(crate) fn flush(&self) -> Result<f64> {
        flush(&self.join("flush"))
    }
}

/// Milliseconds until a little is on the disk, in this file.
pub(crate) fn flush(path: &Path) -> Result<f64> {
    let start = Instant::now();
    let mut file = fs::File::create(path)?;
    file.write_all(&[1; 4_096])?;
    file.sync_data()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed from the temporary folder stays there.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The program that is measured.
#[derive(Debug)]
pub(crate) struct Agent {
    program: PathBuf,
    log: PathBuf,
}

impl Agent {
    pub(crate) fn new(program: PathBuf, folder: &Folder) -> Result<Self> {
        ensure!(program.is_file(), "{} is no file", program.display());
        let log = folder.join("agent.log");
        fs::write(&log, "")?;
        Ok(Self { program, log })
    }

    /// Starts it on a data directory. Time runs from here.
    pub(crate) fn start(&self, data_dir: &Path, words: &[&str]) -> Result<Running> {
        let log = fs::File::options().append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .arg("--data-dir")
            .arg(data_dir)
            .stderr(log);
        for name in ["TIRAMI_DATA_DIR", "TIRAMI_TOKEN", "TIRAMI_LOG"] {
            command.env_remove(name);
        }
        Running::start(command)
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A process that runs, and ends with its standard input.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    started: Instant,
    pid: u32,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let started = Instant::now();
        let mut child = command.spawn().context("starting a process")?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let pid = child.id().context("no process id")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
            started,
            pid,
        })
    }

    /// Time since before the process was made.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) async fn say(&mut self, lines: &str) -> Result<()> {
        self.input.write_all(lines.as_bytes()).await?;
        Ok(self.input.flush().await?)
    }

    pub(crate) async fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = timeout(WITHIN, self.output.read_line(&mut line)).await??;
        ensure!(read > 0, "the process said nothing and ended");
        Ok(line)
    }

    /// Ends it by closing its standard input, and expects that it is content.
    pub(crate) async fn stop(mut self) -> Result<()> {
        drop(self.input);
        let status = timeout(WITHIN, self.child.wait()).await??;
        ensure!(status.success(), "a process ended with {status}");
        Ok(())
    }

    /// Processor time used so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu(self.pid)
    }

    /// A row of `/proc/PID/smaps_rollup`, such as `Rss`, in bytes.
    pub(crate) fn memory(&self, row: &str) -> Result<u32> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid))?;
        let kib: u32 = text
            .lines()
            .filter_map(|line| line.strip_prefix(row)?.strip_prefix(':'))
            .find_map(|rest| rest.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("smaps_rollup has no {row}"))?;
        Ok(kib.saturating_mul(1_024))
    }
}

/// Processor time that a process used so far, by all threads and in the kernel as well.
///
/// `stat` counts ended threads and cuts to ticks; `schedstat` has nanoseconds of threads that
/// live. Neither says too much, so the larger one is nearer.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may have spaces; utime and stime are the 12th and 13th after it.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let coarse = Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND);
    Ok(coarse.max(cpu_of_threads(pid)?))
}

fn cpu_of_threads(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile, and not every kernel has this file.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let ran = text.split_whitespace().next();
        nanoseconds += ran.and_then(|ran| ran.parse().ok()).unwrap_or(0_u64);
    }
    Ok(Duration::from_nanos(nanoseconds))
}
