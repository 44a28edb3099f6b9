//! What the tests of the rules begin with: books, a tree of mandates, and short names for transfers.

use tirami_manifest::mandate::{Action, Breakers, Limits, Terms};
use tirami_manifest::{
    AgentId, Amount, ApprovalId, ModelId, Multiplier, NodeId, Timestamp, TransferId,
};

use super::account::Account;
use super::apply::{Applied, apply, apply_group};
use super::approval::{APPROVAL_MS, Approval, Verdict};
use super::audit::audit;
use super::gate::Freeze;
use super::mandate::MandateRow;
use super::refusal::{ApplyError, Refusal};
use super::rows::{ReadRows, WriteRows};
use super::tables::MemoryTables;
use super::transfer::{self, Kind, Spend, Transfer, TransferCode};
use super::usage::Usage;

pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;
/// A time in the middle of a minute, so that windows start inside one; it is 16:00 UTC.
pub(crate) const T0: u64 = 1_000 * HOUR + 30_500;
pub(crate) const TIMEOUT: u64 = 120_000;

pub(crate) const ALICE: Account = Account::Agent(ROOT);
/// Has money and no mandate.
pub(crate) const BOB: Account = Account::Agent(AgentId::from_bytes([2; 16]));
pub(crate) const PEER: Account = Account::Clearing(PAYEE);
pub(crate) const OUT: Account = Account::Outgoing;

/// The tree: Alice's own mandate, two below it, and one below the first of these. Alice pays.
pub(crate) const ROOT: AgentId = AgentId::from_bytes([1; 16]);
pub(crate) const CHILD: AgentId = AgentId::from_bytes([11; 16]);
pub(crate) const SIBLING: AgentId = AgentId::from_bytes([12; 16]);
pub(crate) const LEAF: AgentId = AgentId::from_bytes([111; 16]);

pub(crate) const PAYEE: NodeId = NodeId::from_bytes([3; 32]);
pub(crate) const MODEL: ModelId = ModelId::from_bytes([5; 32]);
pub(crate) const APPROVAL: ApprovalId = ApprovalId::from_bytes([6; 16]);

pub(crate) const LIMITS: Limits = Limits {
    per_request_trm: Amount::from_trm(50),
    hour_trm: Amount::from_trm(100),
    lifetime_trm: Amount::from_trm(400),
    ..Limits::DEFAULT
};

/// No breaker stops anything.
pub(crate) const OFF: Breakers = Breakers {
    errors_in_row: 0,
    spends_per_minute: 0,
    same_request: 0,
};

pub(crate) fn terms(limits: Limits) -> Terms {
    Terms {
        breakers: OFF,
        ..Terms::of(limits)
    }
}

pub(crate) const fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(T0).after_ms(ms)
}

pub(crate) const fn trm(n: u64) -> Amount {
    Amount::from_trm(n)
}

pub(crate) fn id(name: &str) -> TransferId {
    transfer::id("test", &[name.as_bytes()])
}

pub(crate) fn make(name: &str, kind: Kind) -> Transfer {
    Transfer {
        id: id(name),
        kind,
        code: TransferCode::Budget,
        reference: [0; 32],
    }
}

/// An agent's ordinary purchase.
pub(crate) const fn spend(agent: AgentId) -> Spend {
    Spend {
        agent,
        action: Action::Chat,
        payee: Some(PAYEE),
        model: Some(MODEL),
        price: Some(Multiplier::PAR),
        request: 7,
        approval: Some(APPROVAL),
    }
}

const fn own_spend(debit: &Account) -> Option<Spend> {
    match debit {
        Account::Agent(agent) => Some(spend(*agent)),
        _ => None,
    }
}

pub(crate) fn single(name: &str, debit: Account, credit: Account, n: u64) -> Transfer {
    let kind = Kind::Single {
        debit,
        credit,
        amount: trm(n),
        spend: own_spend(&debit),
    };
    make(name, kind)
}

pub(crate) fn hold(name: &str, debit: Account, credit: Account, n: u64) -> Transfer {
    let kind = Kind::Hold {
        debit,
        credit,
        amount: trm(n),
        timeout_ms: TIMEOUT,
        spend: own_spend(&debit),
    };
    make(name, kind)
}

/// Holds out of Alice's account, as `spend` says.
pub(crate) fn buys(name: &str, spend: Spend, n: u64) -> Transfer {
    let kind = Kind::Hold {
        debit: ALICE,
        credit: OUT,
        amount: trm(n),
        timeout_ms: TIMEOUT,
        spend: Some(spend),
    };
    make(name, kind)
}

pub(crate) fn post(name: &str, hold: &str, n: u64) -> Transfer {
    let (hold, amount) = (id(hold), trm(n));
    make(name, Kind::Post { hold, amount })
}

pub(crate) fn vouch(name: &str, hold: &str, n: u64) -> Transfer {
    let (hold, amount) = (id(hold), trm(n));
    make(name, Kind::Vouch { hold, amount })
}

pub(crate) fn draw(name: &str, hold: &str, n: u64) -> Transfer {
    let (hold, amount) = (id(hold), trm(n));
    make(name, Kind::Draw { hold, amount })
}

pub(crate) fn void(name: &str, hold: &str) -> Transfer {
    let (hold, failed) = (id(hold), false);
    make(name, Kind::Void { hold, failed })
}

pub(crate) fn fails(name: &str, hold: &str) -> Transfer {
    let (hold, failed) = (id(hold), true);
    make(name, Kind::Void { hold, failed })
}

pub(crate) fn expire(name: &str, hold: &str) -> Transfer {
    make(name, Kind::Expire { hold: id(hold) })
}

pub(crate) fn agent(account: &Account) -> AgentId {
    match account {
        Account::Agent(id) => *id,
        other => panic!("{other} is not an agent"),
    }
}

/// Alice has 1000 TRM and a mandate, Bob has 500 and none; the issuer may make 2000 and made none.
pub(crate) fn books() -> MemoryTables {
    let mut books = MemoryTables::default();
    books.set_quota(trm(2_000)).unwrap();
    grant(&mut books, ROOT, &terms(LIMITS));
    let group = [
        single("a", Account::Position, ALICE, 1_000),
        single("b", Account::Position, BOB, 500),
    ];
    apply_group(&mut books, &group, at(0)).unwrap();
    books
}

/// A mandate straight from the owner, on the agent's own account.
pub(crate) fn grant(books: &mut MemoryTables, agent: AgentId, terms: &Terms) {
    let row = MandateRow::from_owner(agent, terms.clone(), at(0));
    books.set_mandate(&agent, &row).unwrap();
}

/// Terms under which all that a test asks for passes.
pub(crate) fn roomy() -> Terms {
    terms(Limits {
        per_request_trm: trm(1_000),
        hour_trm: trm(10_000),
        approval_above_trm: None,
        ..Limits::DEFAULT
    })
}

/// The books with the whole tree, everybody under [`roomy`] terms.
pub(crate) fn tree() -> MemoryTables {
    let mut books = books();
    grant(&mut books, ROOT, &roomy());
    for (agent, parent, depth) in [(CHILD, ROOT, 1), (SIBLING, ROOT, 1), (LEAF, CHILD, 2)] {
        let row = MandateRow {
            parent: Some(parent),
            payer: ROOT,
            depth,
            parent_epoch: 1,
            ..MandateRow::from_owner(agent, roomy(), at(0))
        };
        books.set_mandate(&agent, &row).unwrap();
    }
    books
}

/// Changes an agent's mandate.
pub(crate) fn change(books: &mut MemoryTables, agent: AgentId, how: impl FnOnce(&mut MandateRow)) {
    let mut row = books.mandate(&agent).unwrap().unwrap();
    how(&mut row);
    books.set_mandate(&agent, &row).unwrap();
}

/// The owner approved up to `n` TRM for the first epoch of an agent's mandate.
pub(crate) fn approved(books: &mut MemoryTables, agent: AgentId, n: u64) -> Approval {
    let spend = spend(agent);
    let approval = Approval {
        agent,
        key: "key".into(),
        action: spend.action,
        payee: spend.payee,
        model: spend.model,
        amount: trm(n),
        epoch: 1,
        asked: at(0),
        expires: at(APPROVAL_MS),
        verdict: Verdict::Approved { at: at(0) },
    };
    books.set_approval(&APPROVAL, Some(&approval)).unwrap();
    approval
}

pub(crate) fn freeze(books: &mut MemoryTables) {
    let (reason, since) = ("stop".into(), at(0));
    books.set_freeze(Some(&Freeze { reason, since })).unwrap();
}

pub(crate) fn usage(books: &MemoryTables, agent: AgentId) -> Usage {
    books.usage(&agent).unwrap()
}

/// What an agent's mandate counts in the hour that ends at `ms`, in whole TRM.
pub(crate) fn used_in_hour(books: &MemoryTables, agent: AgentId, ms: u64) -> u64 {
    usage(books, agent).hour().sum(at(ms)) / 1_000_000
}

pub(crate) fn available(books: &MemoryTables, account: &Account) -> Amount {
    books.totals(account).unwrap().available()
}

pub(crate) fn sound(books: &MemoryTables) {
    for check in audit(books).unwrap() {
        assert!(check.holds, "{}: {}", check.rule, check.detail);
    }
}

/// Applies, and checks that a refusal wrote nothing and that the books hold.
pub(crate) fn does(
    books: &mut MemoryTables,
    transfer: &Transfer,
    now: Timestamp,
) -> Result<Applied, Refusal> {
    let before = books.clone();
    match apply(books, transfer, now) {
        Ok(applied) => {
            assert_eq!(applied == Applied::Already, *books == before);
            sound(books);
            Ok(applied)
        }
        Err(ApplyError::Refused(refusal)) => {
            assert_eq!(*books, before, "a refusal wrote something");
            Err(refusal)
        }
        Err(ApplyError::Store(error)) => panic!("{error}"),
    }
}
