//! A founder that sells, a parent that hands out, a child that spends on another node, and whoever the
//! child hands it on to, over a wire in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tirami_agent_runtime::ops::{
    AcceptMandate, Audit, Backup, Balance, Caller, Chat, ChatOutput, GetReceipt, HandOutMandate,
    HandOutOutput, HandedOutOutput, HeldOutput, Join, MakeTicket, Operation, Status,
    TravellingMandates,
};
use tirami_agent_runtime::{Builder, Failure, NodeConfig, Runtime};
use tirami_manifest::job::{Message, Role};
use tirami_manifest::key::SecretKey;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{Amount, GrantId, NodeId, Timestamp};
use tirami_mesh::engine::echo::Echo;
use tirami_mesh::net::memory::MemoryNetwork;
use tirami_mesh::net::transport::{PeerAddr, Transport};
use tirami_mesh::proto::message::Frame;
use tirami_wallet::keystore::node_key;

/// The founder sells; parent, child and grandchild do not.
const NODES: usize = 4;

pub(crate) struct Net {
    pub(crate) network: MemoryNetwork,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folders: [tempfile::TempDir; NODES],
}

impl Net {
    pub(crate) fn new() -> Self {
        Self {
            network: MemoryNetwork::new(),
            clock: Arc::new(ManualClock::at(Timestamp::from_ms(1_800_000_000_000))),
            folders: std::array::from_fn(|_| tempfile::tempdir().unwrap()),
        }
    }

    pub(crate) async fn node(&self, n: usize) -> Runtime {
        self.node_at(self.folders[n].path(), n == 0).await
    }

    pub(crate) async fn node_at(&self, folder: &Path, sells: bool) -> Runtime {
        let key = node_key(&folder.join("node.key"), None).unwrap();
        let mut config = NodeConfig::new(folder);
        config.model = sells.then_some(tirami_mesh::models::Source::Echo);
        let builder = Builder::new(config)
            .clock(self.clock.clone())
            .transport(Arc::new(self.network.transport(key.id())));
        let builder = if sells {
            builder.engine(Arc::new(Echo))
        } else {
            builder
        };
        builder.start().await.unwrap()
    }

    /// The secret of a node.
    pub(crate) fn key(&self, n: usize) -> SecretKey {
        node_key(&self.folders[n].path().join("node.key"), None).unwrap()
    }

    /// A folder like a node's, with its books as they are now.
    pub(crate) async fn copy(&self, n: usize, node: &Runtime) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in ["node.key", "agent.token"] {
            let from = self.folders[n].path().join(file);
            std::fs::copy(from, folder.path().join(file)).unwrap();
        }
        let to = folder.path().join("wallet.redb");
        run(node, Backup { to }).await.unwrap();
        folder
    }

    /// Founder, parent and child, members both, with 1,000 TRM each.
    pub(crate) async fn three(&self) -> [Runtime; 3] {
        let founder = self.node(0).await;
        let parent = self.node(1).await;
        let child = self.node(2).await;
        join(&founder, &parent).await;
        join(&founder, &child).await;
        [founder, parent, child]
    }
}

pub(crate) async fn join(founder: &Runtime, member: &Runtime) {
    let ticket = run(founder, MakeTicket {}).await.unwrap().ticket;
    run(member, Join { ticket }).await.unwrap();
}

pub(crate) fn me(runtime: &Runtime) -> Caller {
    runtime.caller(runtime.token()).unwrap()
}

pub(crate) async fn run<O: Operation>(runtime: &Runtime, mut op: O) -> Result<O::Output, Failure> {
    op.prepare();
    op.run(runtime, me(runtime), None).await
}

pub(crate) fn hand_out(to: &Runtime, amount: Amount, pinned: Option<NodeId>) -> HandOutMandate {
    HandOutMandate {
        to: to.node(),
        trm_amount: amount,
        from: None,
        agent: None,
        pinned,
        per_request_trm: None,
        price_ceiling_trm: None,
        models: Vec::new(),
        payees: Vec::new(),
        valid_s: Some(86_400),
        depth_left: 1,
        idempotency_key: None,
    }
}

pub(crate) async fn accept(runtime: &Runtime, out: &HandOutOutput) -> HeldOutput {
    let accept = AcceptMandate {
        text: out.text.clone(),
        agent: None,
    };
    run(runtime, accept).await.unwrap()
}

/// Hands out and accepts.
pub(crate) async fn handed(from: &Runtime, to: &Runtime, op: HandOutMandate) -> GrantId {
    let out = run(from, op).await.unwrap();
    assert_eq!(accept(to, &out).await.mandate, out.mandate);
    out.mandate
}

pub(crate) fn chat(text: &str, mandate: GrantId) -> Chat {
    Chat {
        mandate: Some(mandate),
        max_tokens: Some(20),
        ..Chat::new(vec![Message {
            role: Role::User,
            content: text.into(),
        }])
    }
}

pub(crate) async fn balance(runtime: &Runtime) -> (Amount, Amount, Amount) {
    let balance = run(runtime, Balance {}).await.unwrap();
    (balance.trm_balance, balance.trm_held, balance.trm_spent)
}

pub(crate) async fn out(runtime: &Runtime, mandate: GrantId) -> HandedOutOutput {
    let all = run(runtime, TravellingMandates {}).await.unwrap();
    let found = all.handed_out.into_iter().find(|o| o.mandate == mandate);
    found.unwrap()
}

pub(crate) async fn held(runtime: &Runtime, mandate: GrantId) -> HeldOutput {
    let all = run(runtime, TravellingMandates {}).await.unwrap();
    all.held.into_iter().find(|o| o.mandate == mandate).unwrap()
}

/// Waits until a node has a receipt: its payer hears of it through the outbox of its provider.
pub(crate) async fn heard(runtime: &Runtime, answer: &ChatOutput) {
    let receipt = answer.receipt.unwrap();
    let booked = async {
        while run(runtime, GetReceipt { receipt }).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let booked = tokio::time::timeout(Duration::from_secs(30), booked).await;
    booked.unwrap();
}

/// Every book holds, and what the founder keeps for each member is what the member has.
pub(crate) async fn agree(founder: &Runtime, members: &[&Runtime]) {
    let kept = run(founder, Balance {}).await.unwrap().members;
    assert!(run(founder, Audit::default()).await.unwrap().holds);
    for member in members {
        assert!(run(member, Audit::default()).await.unwrap().holds);
        let (available, held, _) = balance(member).await;
        let there = kept.iter().find(|kept| kept.node == member.node());
        let has = available.checked_add(held).unwrap();
        assert_eq!(there.unwrap().trm_balance, has);
    }
}

pub(crate) fn sum(amounts: &[Amount]) -> Amount {
    amounts
        .iter()
        .fold(Amount::ZERO, |sum, n| sum.checked_add(*n).unwrap())
}

/// Waits until `done`.
pub(crate) async fn until(done: impl AsyncFn() -> bool) {
    let waited = async {
        while !done().await {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waited).await;
    waited.unwrap();
}

/// Where a node is.
pub(crate) async fn address(runtime: &Runtime) -> PeerAddr {
    let status = run(runtime, Status {}).await.unwrap();
    PeerAddr {
        id: runtime.node(),
        addresses: status
            .addresses
            .iter()
            .map(|at| at.parse().unwrap())
            .collect(),
    }
}

/// One question on a stream of its own, and the answer.
pub(crate) async fn exchange(from: &impl Transport, to: &PeerAddr, frame: Frame) -> Frame {
    let mut link = from.open(to).await.unwrap();
    link.send(&frame).await.unwrap();
    link.finish().unwrap();
    link.receive_within(Duration::from_secs(30))
        .await
        .unwrap()
        .unwrap()
}
