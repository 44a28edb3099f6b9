//! The welcome loan between whole nodes over a wire in memory: earned back, due, in default, repaid.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's fixtures stop it when they fail"
)]

use std::sync::Arc;
use std::time::Duration;

use tirami_agent_runtime::ops::{
    Audit, Balance, Caller, Chat, Freeze, Join, LoanOutput, Loans, MakeTicket, Obey, Operation,
    Quote, RepayLoan, SetOwner,
};
use tirami_agent_runtime::{Builder, Failure, FailureCode, NodeConfig, Runtime};
use tirami_manifest::id::to_hex;
use tirami_manifest::job::{Message, Role};
use tirami_manifest::key::SecretKey;
use tirami_manifest::loan::LOAN_GRACE_MS;
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::signed::Signed;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{Amount, Timestamp, trm};
use tirami_mesh::engine::echo::Echo;
use tirami_mesh::net::memory::MemoryNetwork;
use tirami_wallet::keystore::node_key;

const TERM: u64 = 72 * 3_600_000;

/// A founder that has come to a little money, a member that sold it something, and the time.
struct Net {
    network: MemoryNetwork,
    clock: Arc<ManualClock>,
    folders: [tempfile::TempDir; 3],
}

impl Net {
    fn new() -> Self {
        Self {
            network: MemoryNetwork::new(),
            clock: Arc::new(ManualClock::at(Timestamp::from_ms(1_800_000_000_000))),
            folders: std::array::from_fn(|_| tempfile::tempdir().unwrap()),
        }
    }

    /// Starts the founder (0), the member (1) or a customer (2).
    async fn node(&self, n: usize, sells: bool) -> Runtime {
        let folder = &self.folders[n];
        let key = node_key(&folder.path().join("node.key"), None).unwrap();
        let mut config = NodeConfig::new(folder.path());
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

    /// The founder sells to a customer, then buys from the member: who has earned `.2` so.
    async fn member_that_earned(&self) -> (Runtime, Runtime, Amount) {
        let founder = self.node(0, true).await;
        let customer = self.node(2, false).await;
        join(&founder, &customer).await;
        for _ in 0..8 {
            run(&customer, chat(&"word ".repeat(40))).await.unwrap();
        }
        customer.shutdown().await;
        founder.shutdown().await;
        let founder = self.node(0, false).await;
        let member = self.node(1, true).await;
        join(&founder, &member).await;
        let mut bought = chat(&"word ".repeat(20));
        bought.max_tokens = Some(20);
        let earned = run(&founder, bought).await.unwrap().trm_cost;
        assert!(earned > Amount::ZERO);
        (founder, member, earned)
    }
}

async fn join(founder: &Runtime, member: &Runtime) {
    let ticket = run(founder, MakeTicket {}).await.unwrap().ticket;
    let joined = run(member, Join { ticket }).await.unwrap();
    assert_eq!(joined.trm_welcome_loan, Some(trm!("1000")));
}

fn me(runtime: &Runtime) -> Caller {
    runtime.caller(runtime.token()).unwrap()
}

async fn run<O: Operation>(runtime: &Runtime, mut op: O) -> Result<O::Output, Failure> {
    op.prepare();
    op.run(runtime, me(runtime), None).await
}

fn chat(text: &str) -> Chat {
    Chat::new(vec![Message {
        role: Role::User,
        content: text.into(),
    }])
}

fn quote() -> Quote {
    Quote {
        prompt: "may I".into(),
        model: None,
        max_tokens: Some(1),
    }
}

/// The loan in the borrower's books.
async fn owed(member: &Runtime) -> LoanOutput {
    let loans = run(member, Loans {}).await.unwrap();
    assert_eq!(loans.lent, Vec::new());
    loans.loans.into_iter().next().unwrap()
}

/// The loan of `member` in the lender's books.
async fn lent(founder: &Runtime, member: &Runtime) -> LoanOutput {
    let loans = run(founder, Loans {}).await.unwrap();
    assert_eq!(loans.loans, Vec::new());
    let mut lent = loans.lent.into_iter();
    lent.find(|loan| loan.borrower == member.node()).unwrap()
}

/// Waits for what the nodes do by themselves.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let met = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), met).await;
    in_time.unwrap_or_else(|_| panic!("{what} did not happen"));
}

/// Both books say the same of the loan and of what the member has.
async fn agree(founder: &Runtime, member: &Runtime) {
    let (theirs, ours) = (lent(founder, member).await, owed(member).await);
    assert_eq!(
        (theirs.trm_owed, theirs.trm_repaid, theirs.state),
        (ours.trm_owed, ours.trm_repaid, ours.state)
    );
    let members = run(founder, Balance {}).await.unwrap().members;
    let kept = members.iter().find(|m| m.node == member.node()).unwrap();
    let has = run(member, Balance {}).await.unwrap();
    assert_eq!(
        Some(kept.trm_balance),
        has.trm_balance.checked_add(has.trm_held)
    );
    for node in [founder, member] {
        assert!(run(node, Audit::default()).await.unwrap().holds);
    }
}

#[tokio::test]
async fn a_member_that_earns_repays_before_it_has_more() {
    let net = Net::new();
    let (founder, member, earned) = net.member_that_earned().await;
    until("the sale", async || {
        owed(&member).await.trm_repaid == earned
    })
    .await;
    let loan = owed(&member).await;
    assert_eq!(loan.trm_owed, trm!("1000").checked_sub(earned).unwrap());
    assert_eq!(loan.state, "open");
    let balance = run(&member, Balance {}).await.unwrap();
    assert_eq!(
        (balance.trm_earned, balance.trm_balance),
        (earned, trm!("1000"))
    );
    assert_eq!(balance.loans, vec![loan]);
    agree(&founder, &member).await;
}

#[tokio::test]
async fn a_defaulted_member_is_refused_with_the_reason_and_buys_again_once_it_repaid() {
    let net = Net::new();
    let (founder, member, earned) = net.member_that_earned().await;
    until("the sale", async || {
        owed(&member).await.trm_repaid == earned
    })
    .await;
    for node in [founder, member] {
        node.shutdown().await;
    }
    let (founder, member) = (net.node(0, true).await, net.node(1, false).await);
    // Frozen, so that it cannot pay when it should.
    let owner = SecretKey::from_bytes(&[42; 32]);
    let set = SetOwner {
        owner: owner.owner_id(),
    };
    run(&member, set).await.unwrap();
    run(&member, Freeze { reason: None }).await.unwrap();
    run(&member, quote()).await.unwrap();
    net.clock.advance_ms(TERM);
    assert_eq!(owed(&member).await.state, "overdue");
    run(&member, quote()).await.unwrap();
    net.clock.advance_ms(LOAN_GRACE_MS);
    for loan in [owed(&member).await, lent(&founder, &member).await] {
        assert_eq!((loan.state.as_str(), loan.overdue), ("defaulted", true));
    }
    let refused = run(&member, quote()).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::LoanDefault, "{refused}");
    let amount = owed(&member).await.trm_owed.to_string();
    assert!(refused.message.contains(&amount), "{refused}");
    assert!(refused.message.contains("loan_default"), "{refused}");
    let hint = refused.hint.clone().unwrap();
    assert!(hint.contains("tirami-agent loans repay"), "{refused:?}");
    let frozen = run(&member, RepayLoan::default()).await.unwrap_err();
    assert_eq!(frozen.code, FailureCode::Frozen);
    let order = OwnerOrder {
        node: member.node(),
        number: 0,
        decision: Decision::Unfreeze,
    };
    let order = to_hex(&Signed::new(order, &owner).to_bytes());
    run(&member, Obey { order }).await.unwrap();
    // By hand, unless the node itself was faster: either way it is repaid, once.
    let repaid = run(&member, RepayLoan::default()).await.unwrap();
    assert_eq!(repaid.loan.state, "repaid");
    assert_eq!(repaid.trm_balance, earned);
    until("the repayment", async || {
        lent(&founder, &member).await.state == "repaid"
    })
    .await;
    agree(&founder, &member).await;
    run(&member, quote()).await.unwrap();
    let mut request = chat("again");
    request.max_tokens = Some(1);
    let answer = run(&member, request).await.unwrap();
    assert_eq!(answer.provider, founder.node());
}

#[tokio::test]
async fn a_running_node_pays_back_what_is_left_when_its_loan_is_due() {
    let net = Net::new();
    let (founder, member) = (net.node(0, true).await, net.node(1, false).await);
    join(&founder, &member).await;
    let spent = run(&member, chat("one two")).await.unwrap().trm_cost;
    net.clock.advance_ms(TERM);
    until("the payment", async || {
        owed(&member).await.trm_owed == spent
    })
    .await;
    until("its arrival", async || {
        lent(&founder, &member).await.trm_owed == spent
    })
    .await;
    assert_eq!(owed(&member).await.state, "overdue");
    agree(&founder, &member).await;
}

#[tokio::test]
async fn a_repayment_whose_wire_breaks_at_any_frame_arrives_once_it_is_whole() {
    for frame in 0..3 {
        let net = Net::new();
        let (founder, member) = (net.node(0, true).await, net.node(1, false).await);
        join(&founder, &member).await;
        net.network.cut_after(founder.node(), member.node(), frame);
        let repay = RepayLoan {
            trm: Some(trm!("300.5")),
            idempotency_key: Some("once".into()),
        };
        run(&member, repay.clone()).await.unwrap();
        let repaid = run(&member, repay).await.unwrap();
        assert_eq!(repaid.trm_paid, trm!("300.5"));
        assert_eq!(repaid.loan.trm_owed, trm!("699.5"));
        assert_eq!(repaid.trm_balance, trm!("699.5"));
        net.network.heal(founder.node(), member.node());
        until("the repayment", async || {
            lent(&founder, &member).await.trm_owed == trm!("699.5")
        })
        .await;
        agree(&founder, &member).await;
        let other = Caller {
            agent: tirami_agent_runtime::owner::agent_id("writer"),
        };
        let refused = RepayLoan::default().run(&member, other, None).await;
        assert_eq!(refused.unwrap_err().code, FailureCode::Unauthorized);
    }
}
