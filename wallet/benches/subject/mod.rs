//! Every use that a benchmark makes of the wallet, and the only file of one that names its types:
//! when the wallet changes shape, this is what follows.
//!
//! `ledger`, `instructions` and `examples/ledger-bench` include it; none of them uses all of it.
#![expect(dead_code, reason = "each program that includes this uses a part")]

use std::sync::Arc;

use redb::StorageBackend;
use tirami_manifest::mandate::{
    Action, Breakers, Limits, List, Pot, PotRule, QuietHours, Scope, Terms,
};
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::signed::Signed;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{
    AgentId, Amount, ModelId, Multiplier, NodeId, QuoteId, Timestamp, TransferId,
};
use tirami_wallet::hold::VoidReason;
use tirami_wallet::intent::{Attempt, Intent, IntentKey};
use tirami_wallet::ledger::account::Account;
use tirami_wallet::ledger::apply::{apply, apply_group};
use tirami_wallet::ledger::gate::check;
use tirami_wallet::ledger::mandate::MandateRow;
use tirami_wallet::ledger::tables::{MemoryTables, Order, Overlay, ReadTables, Table, Tables};
use tirami_wallet::ledger::transfer::{self, Kind, Spend, Transfer, TransferCode};
use tirami_wallet::store::{self, Storage};
use tirami_wallet::token::main_agent;
use tirami_wallet::{Hold, HoldRequest, Wallet};

#[expect(clippy::unwrap_used, reason = "it is written for tests")]
#[path = "../../tests/world/mod.rs"]
mod world;

use world::{START, TIMEOUT_MS, Trade, WORK, fund, genesis, key};

/// Terms that nothing here reaches, every one of them set.
fn terms() -> Terms {
    let most = Amount::from_trm(1_000_000_000);
    Terms {
        limits: Limits {
            per_request_trm: most,
            minute_trm: Some(most),
            hour_trm: most,
            day_trm: Some(most),
            lifetime_trm: most,
            payee_day_trm: Some(most),
            in_flight: Some(u32::MAX),
            reserve_trm: utrm(1),
            price_ceiling_trm: Some(Amount::from_trm(2)),
            approval_above_trm: Some(most),
        },
        scope: Scope {
            payees: List {
                allow: Some((0..4).map(node).collect()),
                deny: [node(99)].into(),
            },
            actions: List {
                allow: Some([Action::Chat].into()),
                deny: [].into(),
            },
            models: List {
                allow: None,
                deny: [ModelId::from_bytes([99; 32])].into(),
            },
        },
        breakers: Breakers {
            errors_in_row: 5,
            spends_per_minute: u32::MAX,
            same_request: 32,
        },
        quiet_hours: Some(QuietHours {
            from_minute: 0,
            to_minute: 1,
            utc_offset_minutes: 0,
        }),
        expires: Some(Timestamp::from_ms(u64::MAX)),
        pots: vec![PotRule::only(vec![Pot::Earned, Pot::Seed])],
    }
}

/// Figures that nothing here reaches, and nothing else said.
fn figures() -> Terms {
    let most = Amount::from_trm(1_000_000_000);
    Terms {
        breakers: Breakers {
            errors_in_row: 0,
            spends_per_minute: 0,
            same_request: 0,
        },
        ..Terms::of(Limits {
            per_request_trm: most,
            hour_trm: most,
            lifetime_trm: most,
            approval_above_trm: None,
            ..Limits::DEFAULT
        })
    }
}

/// What is bought, by `agent`; the `n`th of its kind.
fn spend(agent: AgentId, n: u64) -> Spend {
    Spend {
        agent,
        action: Action::Chat,
        payee: Some(node(2)),
        model: Some(ModelId::from_bytes([1; 32])),
        price: Some(Multiplier::PAR),
        request: n,
        approval: None,
    }
}

fn utrm(amount: u64) -> Amount {
    Amount::from_utrm(amount).expect("a small amount")
}

/// Ids of transfers that were begun a millisecond apart, as real ones are.
fn number_id(purpose: &str, n: u64) -> TransferId {
    transfer::id_at(START.after_ms(n), purpose, &[&n.to_be_bytes()])
}

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

// --- rules alone ------------------------------------------------------------------------------------

/// One decision of the ledger's rules.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Case {
    /// A transfer between two accounts that are nobody's to limit.
    Bare,
    /// A hold between two such accounts.
    BareHold,
    /// A hold on an agent's account, `depth` mandates deep, every limit set.
    Hold { depth: usize },
    /// A transfer out of such an account at once.
    Spend { depth: usize },
    /// Transfers that succeed or fail together, this many.
    Group(u64),
    /// The end of a hold that moves half of it.
    Post,
    /// The end of a hold that gives it back.
    Void,
}

/// How deep mandates lie in each other in the deepest case.
pub(crate) const DEEPEST: usize = 5;

/// Tables in memory, and what is to be decided over them.
#[derive(Clone, Debug)]
pub(crate) struct Decisions {
    tables: MemoryTables,
    transfers: Vec<Transfer>,
    /// How many of them make one decision.
    group: usize,
}

/// Recorded before the first decision.
const RECORDED: u64 = 16;

/// Bought and paid for before the first decision, a second apart: a mandate in use, not a new one.
const BOUGHT: u64 = 5;

impl Decisions {
    /// `count` decisions of a kind, ready to be taken.
    #[expect(clippy::too_many_lines, reason = "every case beside the others")]
    pub(crate) fn new(case: Case, count: u64) -> Self {
        let mut tables = MemoryTables::default();
        let rich = Account::Clearing(node(1));
        let agent = mandates(
            &mut tables,
            match case {
                Case::Hold { depth } | Case::Spend { depth } => depth,
                _ => 1,
            },
        );
        for n in 0..RECORDED {
            let credit = if n % 2 == 0 {
                rich
            } else {
                Account::Agent(main_agent())
            };
            let give = single(number_id("give", n), Account::Position, credit, 1_000_000);
            apply(&mut tables, &give, START).expect("there is enough");
        }
        let hold = |n| hold(agent, n);
        for n in 0..BOUGHT {
            let then = Timestamp::from_ms(START.ms() - 1_000 * (BOUGHT - n));
            let (id, of) = (number_id("earlier end", n), number_id("earlier", n));
            let earlier = Transfer {
                id: of,
                ..hold(u64::MAX - n)
            };
            let amount = utrm(5);
            let kind = Kind::Post { hold: of, amount };
            let post = Transfer {
                id,
                kind,
                ..earlier
            };
            for one in [earlier, post] {
                apply(&mut tables, &one, then).expect("there is enough");
            }
        }
        let bare = |n| single(number_id("bare", n), rich, Account::Clearing(node(2)), 10);
        let end = |n, kind| Transfer {
            id: number_id("end", n),
            kind,
            ..hold(n)
        };
        let group = match case {
            Case::Group(group) => group,
            _ => 1,
        };
        if matches!(case, Case::Post | Case::Void) {
            for n in 0..count {
                apply(&mut tables, &hold(n), START).expect("there is enough");
            }
        }
        let transfers = (0..count * group)
            .map(|n| {
                let of = number_id("hold", n);
                match case {
                    Case::Bare | Case::Group(_) => bare(n),
                    Case::BareHold => Transfer {
                        kind: Kind::Hold {
                            debit: rich,
                            credit: Account::Revenue,
                            amount: utrm(10),
                            timeout_ms: TIMEOUT_MS,
                            spend: None,
                        },
                        ..hold(n)
                    },
                    Case::Hold { .. } => hold(n),
                    Case::Spend { .. } => Transfer {
                        kind: Kind::Single {
                            debit: Account::Agent(main_agent()),
                            credit: Account::Outgoing,
                            amount: utrm(10),
                            spend: Some(spend(agent, n)),
                        },
                        ..hold(n)
                    },
                    Case::Post => end(
                        n,
                        Kind::Post {
                            hold: of,
                            amount: utrm(5),
                        },
                    ),
                    Case::Void => end(
                        n,
                        Kind::Void {
                            hold: of,
                            failed: false,
                        },
                    ),
                }
            })
            .collect();
        Self {
            tables,
            transfers,
            group: usize::try_from(group).expect("a small group"),
        }
    }

    /// Asks the gate about every hold, without making one.
    pub(crate) fn judge(&self) {
        for transfer in &self.transfers {
            if let Kind::Hold {
                spend: Some(spend),
                amount,
                ..
            } = transfer.kind
            {
                check(&self.tables, &main_agent(), &spend, amount, START)
                    .expect("nothing is refused");
            }
        }
    }

    /// Takes them all; answers the tables, so that dropping them is not part of it.
    pub(crate) fn take(mut self) -> MemoryTables {
        for group in self.transfers.chunks(self.group) {
            apply_group(&mut self.tables, group, START).expect("nothing is refused");
        }
        self.tables
    }
}

fn hold(agent: AgentId, n: u64) -> Transfer {
    Transfer {
        id: number_id("hold", n),
        kind: Kind::Hold {
            debit: Account::Agent(main_agent()),
            credit: Account::Outgoing,
            amount: utrm(10),
            timeout_ms: TIMEOUT_MS,
            spend: Some(spend(agent, n)),
        },
        code: TransferCode::Budget,
        reference: [3; 32],
    }
}

fn single(id: TransferId, debit: Account, credit: Account, amount: u64) -> Transfer {
    Transfer {
        id,
        kind: Kind::Single {
            debit,
            credit,
            amount: utrm(amount),
            spend: None,
        },
        code: TransferCode::Acknowledged,
        reference: [4; 32],
    }
}

/// An agent whose mandate lies `depth` deep, every limit of every level set.
fn mandates(tables: &mut impl Tables, depth: usize) -> AgentId {
    assert!(
        (1..=DEEPEST).contains(&depth),
        "mandates lie at most {DEEPEST} deep"
    );
    let mut agent = main_agent();
    for level in 0..u8::try_from(depth).expect("it is small") {
        let (above, below) = (agent, AgentId::from_bytes([level; 16]));
        let mut row = MandateRow::from_owner(main_agent(), terms(), START);
        if level > 0 {
            agent = below;
            row.parent = Some(above);
            row.parent_epoch = row.epoch;
            row.depth = level;
        }
        tables
            .put_row(Table::Mandates, agent.as_bytes(), &row)
            .expect("memory takes it");
    }
    agent
}

// --- rules over a file ------------------------------------------------------------------------------

/// What is decided over a file: without the wallet's thread and its callers, so that the rules and the
/// store's own cost are all there is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Move {
    /// A transfer between two accounts that are nobody's to limit.
    Bare,
    /// A hold on an agent's account under the deepest mandate, every limit set.
    HoldDeepest,
}

/// The ledger's tables in a file.
pub(crate) struct Books {
    opened: store::Opened,
    agent: AgentId,
    next: u64,
}

impl Books {
    /// New ones, with money in two accounts.
    pub(crate) fn new(backend: Box<dyn StorageBackend>) -> Self {
        let opened = store::open(Storage::Backend(backend)).expect("the file opens");
        let mut write = opened.write().expect("the file writes");
        let agent = mandates(&mut write, DEEPEST);
        for (n, credit) in [Account::Agent(main_agent()), Account::Clearing(node(1))]
            .into_iter()
            .enumerate()
        {
            let n = u64::try_from(n).expect("it is small");
            let most = 1_000_000_000_000;
            let give = single(number_id("give", n), Account::Position, credit, most);
            apply(&mut write, &give, START).expect("there is enough");
        }
        write.commit().expect("the file commits");
        let next = 0;
        Self {
            opened,
            agent,
            next,
        }
    }

    /// Commits, `at_once` moves in each.
    pub(crate) fn commits(&mut self, what: Move, commits: u64, at_once: u64) {
        for _ in 0..commits {
            let mut write = self.opened.write().expect("the file writes");
            let mut all = Overlay::new(&mut write);
            for _ in 0..at_once {
                let n = self.next;
                self.next += 1;
                let one = match what {
                    Move::Bare => {
                        let (rich, other) = (node(1), node(2));
                        let (rich, other) = (Account::Clearing(rich), Account::Clearing(other));
                        single(number_id("bare", n), rich, other, 10)
                    }
                    Move::HoldDeepest => hold(self.agent, n),
                };
                apply(&mut all, &one, START).expect("nothing is refused");
            }
            all.keep().expect("the file writes");
            write.commit().expect("the file commits");
        }
    }
}

// --- a whole wallet ---------------------------------------------------------------------------------

/// Transactions of the wallet that one payment takes: begin, hold, settle.
pub(crate) const COMMITS_PER_PAYMENT: u32 = 3;

/// A wallet with money in it.
#[derive(Clone)]
pub(crate) struct Node {
    wallet: Wallet,
    clock: Arc<ManualClock>,
    trade: Arc<Trade>,
}

/// An intent that was begun.
#[derive(Debug)]
pub(crate) struct Begun(Attempt);

/// Money set aside.
#[derive(Debug)]
pub(crate) struct Held(Hold);

/// What proves that a payment is owed.
#[derive(Debug)]
pub(crate) struct Paper(tirami_manifest::commerce::VerifiedReceipt);

impl Node {
    /// Opens a wallet, or makes one, with money if it is new.
    pub(crate) async fn open(backend: Box<dyn StorageBackend>) -> Self {
        Self::from(Storage::Backend(backend)).await
    }

    /// The same, of a file.
    pub(crate) async fn open_file(path: &std::path::Path) -> Self {
        Self::from(Storage::File(path.into())).await
    }

    async fn from(storage: Storage) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let wallet = world::open(storage, &clock, key(1)).expect("the wallet opens");
        if wallet.network().expect("the wallet reads").is_none() {
            fund(&wallet, 90_000, || ()).await.expect("it is funded");
            let owner = key(100);
            wallet
                .set_owner(owner.owner_id())
                .await
                .expect("it has none");
            let order = OwnerOrder {
                node: wallet.node(),
                number: 0,
                decision: Decision::SetTerms {
                    agent: main_agent(),
                    terms: Box::new(figures()),
                },
            };
            let order = Signed::new(order, &owner);
            wallet.obey(order).await.expect("the owner is obeyed");
        }
        let trade = Arc::new(Trade::new(genesis().id(), &key(2), &key(1), (1_000, 1)));
        Self {
            wallet,
            clock,
            trade,
        }
    }

    /// The first commit of a payment.
    pub(crate) async fn begin(&self, name: &str) -> Begun {
        // Purchases begin one after the other, as they do; ids of one moment would lie scattered.
        self.clock.advance_ms(1);
        let intent = IntentKey::new(main_agent(), name);
        match self.wallet.begin(intent, [9; 32]).await {
            Ok(Intent::Attempt(attempt)) => Begun(attempt),
            Ok(Intent::Answered(_)) => panic!("{name} was paid for before"),
            Err(error) => panic!("{name} does not begin: {error}"),
        }
    }

    /// The second.
    pub(crate) async fn hold(&self, begun: Begun, amount: u64) -> Held {
        let request = HoldRequest {
            attempt: begun.0,
            amount: utrm(amount),
            quote: self.trade.quote.id(),
            work: WORK,
            under: None,
        };
        Held(self.wallet.hold(request).await.expect("there is enough"))
    }

    /// What both parties sign: one TRM was used.
    pub(crate) fn sign(&self, held: &Held) -> Paper {
        Paper(self.trade.receipt(held.0.id(), 1))
    }

    /// The third: pays one TRM.
    pub(crate) async fn settle(&self, held: Held, paper: Paper) {
        let answer = vec![b'a'; 200];
        held.0.settle(paper.0, answer).await.expect("it is owed");
    }

    /// Asks the writer for something that changes nothing.
    pub(crate) async fn nothing(&self) {
        self.wallet.sweep().await.expect("the wallet reads");
    }

    /// Gives a hold back.
    pub(crate) async fn void(&self, held: Held) {
        held.0
            .void(VoidReason::CalledOff)
            .await
            .expect("it is open");
    }

    pub(crate) async fn close(self) {
        self.wallet.close().await;
    }
}

/// What one settled payment of one TRM holds at most.
pub(crate) const PAYMENT_UTRM: u64 = 1_000_000;

/// Bytes that one hold writes into the ledger's tables, keys included.
pub(crate) fn bytes_of_a_hold() -> usize {
    let before = Decisions::new(Case::Hold { depth: 1 }, 1);
    let tables = |tables: &MemoryTables| {
        let mut rows = Vec::new();
        for (table, _) in Table::ALL {
            let all = tables.scan(table, &[], None, Order::Ascending, usize::MAX);
            rows.extend(
                all.expect("memory reads")
                    .into_iter()
                    .map(|row| (table, row)),
            );
        }
        rows
    };
    let old = tables(&before.tables);
    let new = tables(&before.take());
    let changed = new.iter().filter(|row| !old.contains(row));
    changed
        .map(|(_, (key, value))| key.len() + value.len())
        .sum()
}

/// Adds settled payments until about `transfers` more are recorded, many to a transaction: what a
/// wallet holds after as many, with its receipts, once the intents are over a day old and gone.
///
/// The file must be a closed wallet of [`Node`] in which at least one payment was settled.
pub(crate) fn fill(path: &std::path::Path, from: u64, transfers: u64) {
    const TRANSFERS_EACH: u64 = 3;
    const AT_ONCE: u64 = 4_000;
    const PAST_MS: u64 = 100_000_000;
    let opened = store::open(Storage::File(path.into())).expect("the wallet opens");
    let mut receipt = opened
        .read()
        .and_then(|read| read.scan(Table::Receipts, &[], None, Order::Ascending, usize::MAX))
        .expect("the wallet reads");
    let (_, receipt) = receipt.pop().expect("something was settled");
    let provider = key(2).id();
    let payments: Vec<u64> = (from..from + transfers / TRANSFERS_EACH).collect();
    for some in payments.chunks(AT_ONCE.try_into().expect("it is small")) {
        let mut write = opened.write().expect("the wallet writes");
        for n in some {
            // Before everything that is measured, as a past is.
            let then = Timestamp::from_ms(START.ms() - PAST_MS + *n);
            let id = transfer::id_at(then, "past", &[&n.to_be_bytes()]);
            let quote = QuoteId::from_bytes([7; 32]);
            let step = |purpose, kind| Transfer {
                id: transfer::id_after(&id, purpose, &[id.as_bytes()]),
                kind,
                code: TransferCode::Budget,
                reference: *quote.as_bytes(),
            };
            let hold = Kind::Hold {
                debit: Account::Agent(main_agent()),
                credit: Account::Outgoing,
                amount: utrm(1),
                timeout_ms: TIMEOUT_MS,
                spend: Some(spend(main_agent(), *n)),
            };
            let hold = step("hold", hold);
            let post = Kind::Post {
                hold: hold.id,
                amount: utrm(1),
            };
            let owe = Kind::Single {
                debit: Account::Outgoing,
                credit: Account::Clearing(provider),
                amount: utrm(1),
                spend: None,
            };
            for one in [hold, step("post", post), step("purchase", owe)] {
                apply(&mut write, &one, Timestamp::from_ms(START.ms())).expect("there is enough");
            }
            let name = [id.as_bytes().as_slice(), post_half(&id)].concat();
            write
                .put(Table::Receipts, &name, &receipt)
                .expect("it is written");
        }
        write.commit().expect("the wallet commits");
    }
}

/// A receipt's id has 32 bytes and a transfer's 16.
fn post_half(id: &TransferId) -> &[u8] {
    id.as_bytes().as_slice()
}
