//! Nodes that run: started as processes, watched, killed.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tirami_manifest::Amount;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::cli::{EXE, Home};
use crate::http::Http;

/// Longer than anything here takes, on a machine that is busy with other things.
pub(crate) const WITHIN: Duration = Duration::from_mins(1);
/// Within which a node that is told to stop has ended.
const SOON: Duration = Duration::from_secs(5);

/// How often what is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something to see: the one place that waits for time to pass.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    let seen = async {
        loop {
            ticks.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    let seen = timeout(WITHIN, seen).await;
    seen.unwrap_or_else(|_| panic!("{what}: not within {} s", WITHIN.as_secs()))
}

/// An amount out of JSON.
#[track_caller]
pub(crate) fn trm(value: &Value) -> Amount {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is not an amount"));
    text.parse().unwrap()
}

/// A sum of amounts.
pub(crate) fn sum(amounts: impl IntoIterator<Item = Amount>) -> Amount {
    amounts
        .into_iter()
        .fold(Amount::ZERO, |sum, amount| sum.checked_add(amount).unwrap())
}

/// A node that serves: `tirami-agent up`. It dies with this value, and with the test.
#[derive(Debug)]
pub(crate) struct Up {
    child: Child,
    /// What it said when it was ready.
    pub(crate) ready: Value,
    /// It stops when this closes, which happens whatever ends the test.
    _input: ChildStdin,
    _output: Lines<BufReader<ChildStdout>>,
}

impl Up {
    /// Starts the node of a home and waits until it is ready.
    pub(crate) async fn start(home: &Home) -> Self {
        Self::start_by(home, &[EXE]).await
    }

    /// The same, started by another program that `by` begins with.
    pub(crate) async fn start_by(home: &Home, by: &[&str]) -> Self {
        let words = ["--json", "up", "--listen", "127.0.0.1:0", "--until-eof"];
        let mut command = home.command_by(by, &words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = String::new();
        let ready: Value = loop {
            let line = timeout(WITHIN, output.next_line()).await;
            let line = line.expect("a node that gets ready").unwrap();
            said += &line.unwrap_or_else(|| panic!("the node ended: {said}"));
            // One line when all is well; an error has several.
            if let Ok(ready) = serde_json::from_str(&said) {
                break ready;
            }
        };
        assert_eq!(ready["event"], "ready", "{ready}");
        let input = child.stdin.take().unwrap();
        Self {
            child,
            ready,
            _input: input,
            _output: output,
        }
    }

    /// SIGKILL, and the end of the process.
    pub(crate) async fn kill(mut self) {
        self.kill_now().await;
    }

    /// The same for a node that another is to take the place of.
    pub(crate) async fn kill_now(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and again as somebody does who will not wait; it ends well, and soon.
    pub(crate) async fn stop(&mut self) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .unwrap();
        for _ in 0..2 {
            kill_process(pid, Signal::TERM).unwrap();
        }
        let ended = timeout(SOON, self.child.wait()).await;
        let ended = ended
            .expect("a node that stops when it is told to")
            .unwrap();
        assert!(ended.success(), "{ended}");
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u64 {
        self.ready["pid"].as_u64().unwrap()
    }

    /// Its HTTP door.
    pub(crate) fn http(&self, home: &Home) -> Http {
        Http::new(self.ready["http"].as_str().unwrap(), &home.token())
    }
}

/// Two nodes in one network: `a` founded it and sells, `b` was lent the welcome loan and buys.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) a: Home,
    pub(crate) b: Home,
    pub(crate) up: Up,
}

/// What a newcomer is lent, in TRM.
pub(crate) const LOAN: u64 = 1_000;

impl Pair {
    /// A pair whose `a` sells `echo`; only `a` runs.
    pub(crate) async fn start() -> Self {
        Self::of(Home::seller(), Home::buyer()).await
    }

    /// A pair of these homes.
    pub(crate) async fn of(a: Home, b: Home) -> Self {
        let up = Up::start(&a).await;
        let joined = b.ask(&["join", &ticket(&a).await]).await;
        assert_eq!(
            trm(&joined["trm_welcome_loan"]),
            Amount::from_trm(LOAN),
            "{joined}"
        );
        Self { a, b, up }
    }

    /// Asserts that both have booked the same, and that the books agree with themselves. Says what
    /// was paid in all.
    pub(crate) async fn agree(&self) -> Amount {
        let (a, b) = until("both sides book the same", async || {
            let (a, b) = (
                self.a.ask(&["balance"]).await,
                self.b.ask(&["balance"]).await,
            );
            let out = [&b["trm_balance"], &b["trm_held"], &b["trm_unclaimed"]];
            let has = out
                .map(trm)
                .into_iter()
                .fold(Amount::ZERO, |sum, part| sum.checked_add(part).unwrap());
            let spent = Amount::from_trm(LOAN).checked_sub(has).unwrap();
            (trm(&a["trm_earned"]) == spent).then_some((a, b))
        })
        .await;
        let spent = trm(&a["trm_earned"]);
        let left = Amount::from_trm(LOAN).checked_sub(spent).unwrap();
        // A promise that never arrived costs nothing, and comes back in time.
        let has = trm(&b["trm_balance"]).checked_add(trm(&b["trm_unclaimed"]));
        assert_eq!(has, Some(left), "{b}");
        assert_eq!(trm(&b["trm_held"]), Amount::ZERO, "{b}");
        assert!(trm(&b["trm_spent"]) >= spent, "{b}");
        assert_eq!(trm(&a["members"][0]["trm_balance"]), left, "{a}");
        self.a.audit().await;
        self.b.audit().await;
        spent
    }
}

/// A running node as others name it.
pub(crate) fn at(up: &Up) -> String {
    let address = up.ready["addresses"][0].as_str().unwrap();
    format!("{}@{address}", up.ready["node"].as_str().unwrap())
}

/// A new ticket of a node.
pub(crate) async fn ticket(home: &Home) -> String {
    home.ask(&["ticket"]).await["ticket"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The input of the tool `chat`: a prompt of `count` words, to be answered in full.
pub(crate) fn question(count: usize, key: &str) -> Value {
    json!({ "prompt": words(count), "max_tokens": count, "idempotency_key": key })
}

/// A text of `count` words, which `echo` answers with as many tokens.
pub(crate) fn words(count: usize) -> String {
    let words: Vec<&str> = ["a", "b", "c", "d"]
        .into_iter()
        .cycle()
        .take(count)
        .collect();
    words.join(" ")
}
