//! Two nodes as processes: a founder sells, and a member without a model buys from it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tirami_agent_runtime::owner::{MAIN_AGENT, agent_id};
use tirami_manifest::id::to_hex;
use tirami_manifest::key::SecretKey;
use tirami_manifest::mandate::Terms;
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::signed::Signed;

use crate::process::{Agent, Folder, Running, WITHIN};
use crate::start::up;

/// What is asked, relative to par in parts per million: so little that the welcome loan lasts.
pub(crate) const CHEAP: u32 = 10_000;

/// The owner's key: the node lives as long as this program.
pub(crate) const OWNER: [u8; 32] = [7; 32];

/// A node's local socket, through which its own commands come.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    pub(crate) token: String,
}

impl Socket {
    fn of(data_dir: &Path) -> Result<Self> {
        let token = fs::read_to_string(data_dir.join("agent.token"))?;
        Ok(Self {
            path: data_dir.join("node.sock"),
            token: token.trim().to_owned(),
        })
    }

    /// One operation, from the connection to the answer.
    pub(crate) fn ask(&self, op: &str, input: &Value) -> Result<Value> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(WITHIN))?;
        let request = json!({ "token": self.token, "op": op, "input": input });
        stream.write_all(format!("{request}\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let mut answer: Value = serde_json::from_str(&line)?;
        match answer.get_mut("done") {
            Some(done) => Ok(done.take()),
            None => bail!("{op}: {line}"),
        }
    }

    /// Has the node obey its owner.
    pub(crate) fn order(&self, decision: Decision) -> Result<Value> {
        let status = self.ask("status", &json!({}))?;
        let field = |name: &str| status.get(name).cloned().context("a status without it");
        let order = OwnerOrder {
            node: serde_json::from_value(field("node")?)?,
            number: serde_json::from_value(field("next_order")?)?,
            decision,
        };
        let signed = Signed::new(order, &SecretKey::from_bytes(&OWNER));
        self.ask("obey", &json!({ "order": to_hex(&signed.to_bytes()) }))
    }

    /// Takes away what would stop a program that buys much.
    fn without_breakers(&self) -> Result<()> {
        let owner = SecretKey::from_bytes(&OWNER).owner_id();
        self.ask("set_owner", &json!({ "owner": owner }))?;
        let budget = self.ask("budget", &json!({}))?;
        let terms = budget.get("terms").cloned().context("a budget's terms")?;
        let terms = unbroken(serde_json::from_value(terms)?);
        self.order(Decision::SetTerms {
            agent: agent_id(MAIN_AGENT),
            terms: Box::new(terms),
        })?;
        Ok(())
    }
}

/// The same terms for a program that buys much and always the same.
pub(crate) const fn unbroken(mut terms: Terms) -> Terms {
    terms.breakers.errors_in_row = 0;
    terms.breakers.spends_per_minute = 0;
    terms.breakers.same_request = 0;
    terms
}

/// A node that runs, and the ways to it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) process: Running,
    pub(crate) data_dir: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) socket: Socket,
}

impl Node {
    async fn start(agent: &Agent, data_dir: PathBuf, words: &[&str]) -> Result<Self> {
        let (process, address) = up(agent, &data_dir, words).await?;
        let socket = Socket::of(&data_dir)?;
        Ok(Self {
            process,
            data_dir,
            address,
            socket,
        })
    }
}

/// Who sells, and who buys from it.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) seller: Node,
    pub(crate) buyer: Node,
}

impl Pair {
    /// Starts both, in folders with this name in theirs; `model` says what is sold.
    pub(crate) async fn start(
        agent: &Agent,
        folder: &Folder,
        (name, model): (&str, &[&str]),
    ) -> Result<Self> {
        let price = CHEAP.to_string();
        let words = [model, &["--price", &price]].concat();
        let seller = Node::start(agent, folder.join(&format!("seller{name}")), &words).await?;
        let ticket = seller.socket.ask("ticket", &json!({}))?;
        let ticket = ticket.get("ticket").context("a ticket")?.clone();
        let dir = folder.join(&format!("buyer{name}"));
        let buyer = Node::start(agent, dir, &["--no-local"]).await?;
        buyer.socket.ask("join", &json!({ "ticket": ticket }))?;
        buyer.socket.without_breakers()?;
        Ok(Self { seller, buyer })
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.buyer.process.stop().await?;
        self.seller.process.stop().await
    }
}
