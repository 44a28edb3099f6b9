//! Real nodes in network namespaces of their own, joined by a cable that is pulled out and put back.
//!
//! Needs `ip` (iproute2) and the right to make namespaces, which root has. Where that is not so the
//! tests fail and say why; with `TIRAMI_NO_NETNS=1` they pass there without having tried anything.
//! `TIRAMI_OUTAGES` says for how many seconds the cable is out, one time after the other.

use std::future::pending;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::cli::{EXE, Home, finish};
use crate::mcp::Mcp;
use crate::nodes::{LOAN, Pair, Up, question, ticket, trm, until};

/// Seconds for which the cable is out, unless the environment says otherwise.
const OUTAGES: &str = "8";

/// A node says that it hears nothing of a peer after 5 s. Asking for that takes up to 2 s more, because
/// the peer is asked too, and what is looked at is looked at every half second.
const NOTICED_WITHIN: Duration = Duration::from_secs(8);

/// Shorter outages may be over before that.
const NOTICED_FROM: Duration = Duration::from_secs(12);

/// From the cable being back until a purchase is made.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// Words of the jobs that run when the cable is pulled out; `echo` answers with as many.
const JOBS: [usize; 4] = [1_000, 999, 998, 20];

/// Begins the names of the namespaces, before the number of the process that made them.
const PREFIX: &str = "tirami-";

/// Runs `ip`. What it says when it fails.
fn ip(words: &[&str]) -> Result<String, String> {
    let output = Command::new("ip").args(words).output();
    let output = output.map_err(|error| format!("ip (iproute2) does not run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("'ip {}' failed: {said}", words.join(" ")))
}

/// Namespaces without any network; they are gone with this value.
#[derive(Debug)]
struct Namespaces {
    names: Vec<String>,
}

impl Namespaces {
    /// `None` where there can be none and the environment says that this is known.
    #[track_caller]
    fn make(test: &str, sides: &[&str]) -> Option<Self> {
        remove_what_others_left();
        let pid = std::process::id();
        let mut made = Self { names: Vec::new() };
        for side in sides {
            let name = format!("{PREFIX}{pid}-{test}-{side}");
            if let Err(why) = ip(&["netns", "add", &name]) {
                assert_eq!(
                    std::env::var("TIRAMI_NO_NETNS").as_deref(),
                    Ok("1"),
                    "\n\nNOT TRIED: this machine makes no network namespaces: {why}.\nRun as root \
                     with iproute2, or set TIRAMI_NO_NETNS=1 to pass without trying.\n"
                );
                println!("NOT TRIED, because TIRAMI_NO_NETNS=1: {why}");
                return None;
            }
            made.names.push(name);
        }
        Some(made)
    }

    /// What a command begins with to run in one of them.
    fn inside(&self, side: usize) -> [&str; 5] {
        ["ip", "netns", "exec", &self.names[side], EXE]
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            if let Err(why) = ip(&["netns", "delete", name]) {
                eprintln!("a namespace is left over: {why}");
            }
        }
    }
}

/// A test that was killed removes nothing.
fn remove_what_others_left() {
    let all = ip(&["netns", "list"]).unwrap_or_default();
    let names = all
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    for name in names {
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            drop(ip(&["netns", "delete", name]));
        }
    }
}

/// Two namespaces and the cable between them.
#[derive(Debug)]
struct Cable(Namespaces);

impl Cable {
    /// The addresses at its ends.
    const ENDS: [&str; 2] = ["10.73.1.1", "10.73.1.2"];

    fn lay(test: &str) -> Option<Self> {
        let namespaces = Namespaces::make(test, &["a", "b"])?;
        let [a, b] = [&namespaces.names[0], &namespaces.names[1]];
        let pair = ["type", "veth", "peer", "name", "cable", "netns", b];
        ip(&[&["link", "add", "cable", "netns", a][..], &pair].concat()).unwrap();
        for (name, end) in [(a, Self::ENDS[0]), (b, Self::ENDS[1])] {
            let address = format!("{end}/24");
            ip(&["-n", name, "address", "add", &address, "dev", "cable"]).unwrap();
            for link in ["lo", "cable"] {
                ip(&["-n", name, "link", "set", link, "up"]).unwrap();
            }
        }
        Some(Self(namespaces))
    }

    /// Pulls it out, or puts it back.
    fn set(&self, state: &str) {
        ip(&["-n", &self.0.names[0], "link", "set", "cable", state]).unwrap();
    }
}

/// Two nodes at the ends of a cable; `a` founded the network and sells, `b` buys.
struct World {
    pair: Pair,
    mcp: Arc<Mcp>,
    _buyer: Up,
    // Goes last: the nodes are inside.
    cable: Cable,
}

impl World {
    async fn new(test: &str) -> Option<Self> {
        let cable = Cable::lay(test)?;
        let [a, b] = Cable::ENDS.map(|end| format!("mesh_listen = \"{end}:0\"\n"));
        let seller =
            format!("model = \"echo\"\nprice_ppm = 100000\nhold_timeout_seconds = 10\n{a}");
        let buyer = format!("no_local = true\nhold_timeout_seconds = 10\n{b}");
        let (a, b) = (Home::new(&seller), Home::new(&buyer));
        let up = Up::start_by(&a, &cable.0.inside(0)).await;
        let up_b = Up::start_by(&b, &cable.0.inside(1)).await;
        b.without_breakers().await;
        // Sockets of a data directory are files, which are the same in every namespace.
        let joined = b.ask(&["join", &ticket(&a).await]).await;
        assert_eq!(
            trm(&joined["trm_welcome_loan"]).to_string(),
            LOAN.to_string(),
            "{joined}"
        );
        let mcp = Arc::new(Mcp::start(&b).await);
        Some(Self {
            pair: Pair { a, b, up },
            mcp,
            _buyer: up_b,
            cable,
        })
    }

    /// Asks under one key until there is an answer.
    async fn bought(&self, words: usize, key: &str) -> Value {
        until("a purchase is made", async || {
            let answer = self.mcp.call("chat", question(words, key)).await;
            answer.map_err(|error| may_be_asked_again(&error.0)).ok()
        })
        .await
    }

    /// The cable is pulled out while jobs run, and put back.
    async fn outage(&self, seconds: u64) {
        let whole = Duration::from_secs(seconds);
        self.bought(2, &format!("before-{seconds}")).await;
        let key = |words: usize| format!("during-{seconds}-{words}");
        let jobs = JOBS.map(|words| {
            let (mcp, question) = (self.mcp.clone(), question(words, &key(words)));
            tokio::spawn(async move { mcp.call("chat", question).await })
        });
        until("a job runs, or all are over already", async || {
            let holds = self.pair.a.ask(&["status"]).await["open_holds"].clone();
            let over = jobs.iter().all(tokio::task::JoinHandle::is_finished);
            (holds != 0 || over).then_some(())
        })
        .await;
        let over = jobs.iter().filter(|job| job.is_finished()).count();
        self.cable.set("down");
        let began = Instant::now();
        let noticed = timeout(whole, async {
            loop {
                let peers = self.pair.b.ask(&["peers"]).await;
                if peers["peers"][0]["path"].is_null() {
                    return began.elapsed();
                }
            }
        })
        .await
        .ok();
        // For how long the cable is out is what this test is about.
        let rest = whole.saturating_sub(began.elapsed());
        drop(timeout(rest, pending::<()>()).await);
        self.cable.set("up");
        let healed = Instant::now();
        self.bought(2, &format!("after-{seconds}")).await;
        let back = healed.elapsed();
        println!(
            "{seconds} s, {over} of {} jobs over before: noticed after {noticed:?}, a purchase {} ms \
             after the cable was back",
            JOBS.len(),
            back.as_millis()
        );
        if whole >= NOTICED_FROM {
            assert!(
                noticed.is_some_and(|took| took <= NOTICED_WITHIN),
                "{noticed:?}"
            );
        }
        assert!(back <= BACK_WITHIN, "{back:?}");
        // The jobs that ran ended one way or the other, and asking again pays once.
        for (job, words) in jobs.into_iter().zip(JOBS) {
            match job.await.unwrap() {
                Ok(answer) => println!("  a job ended: {} tokens", answer["tokens_out"]),
                Err(error) => may_be_asked_again(&error.0),
            }
            let answer = self.bought(words, &key(words)).await;
            assert_eq!(answer["tokens_out"], words, "{answer}");
        }
        let seen = self.pair.b.ask(&["peers"]).await;
        assert_eq!(seen["peers"][0]["path"], "direct", "{seen:#}");
    }
}

#[track_caller]
fn may_be_asked_again(error: &Value) {
    println!("  again, after: {}", error["message"]);
    assert_eq!(error["retryable"], true, "{error}");
}

#[tokio::test]
async fn nodes_trade_again_within_5_s_after_the_cable_was_out() {
    let Some(world) = World::new("trade").await else {
        return;
    };
    let outages = std::env::var("TIRAMI_OUTAGES").unwrap_or_else(|_| OUTAGES.to_owned());
    for seconds in outages.split(',') {
        world.outage(seconds.trim().parse().unwrap()).await;
    }
    world.pair.agree().await;
}

#[tokio::test]
async fn net_check_ends_with_7_where_nobody_can_reach_the_node() {
    let Some(alone) = Namespaces::make("alone", &["a"]) else {
        return;
    };
    let home = Home::new("no_local = true\nmesh_listen = \"0.0.0.0:0\"\n");
    let ended = finish(home.command_by(&alone.inside(0), &["net", "check", "--json"])).await;
    assert_eq!(ended.code, 7, "{ended:?}");
    let seen: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(seen["reachable"], false, "{seen:#}");
    assert_eq!(seen["addresses"], json!([]), "{seen:#}");
    assert_eq!(seen["loopback"]["reached"], false, "{seen:#}");
}
