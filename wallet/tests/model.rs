//! The ledger against a model a reader can check in one sitting: maps, vectors and loops.
//!
//! The model of a limit is the definition itself: the list of everything charged, and a sum over
//! the last 60 minutes. The ledger may refuse what the model allows for less than a minute (its
//! buckets are conservative); it may never allow what the model refuses.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use tirami_manifest::mandate::Limits;
use tirami_manifest::{AgentId, Amount, NodeId, Timestamp, TransferId};
use tirami_wallet::ledger::account::{Account, Totals};
use tirami_wallet::ledger::apply::{Applied, apply_group, expire_due, renew};
use tirami_wallet::ledger::audit::audit;
use tirami_wallet::ledger::gate::{Freeze, MandateRow};
use tirami_wallet::ledger::refusal::{ApplyError, Limit, Refusal};
use tirami_wallet::ledger::rows::ReadRows;
use tirami_wallet::ledger::tables::{MemoryTables, Order, ReadTables, Table, Tables};
use tirami_wallet::ledger::transfer::{Kind, Transfer, TransferCode};

const HOUR: u64 = 3_600_000;
const START: u64 = 1_000 * HOUR + 12_345;
const QUOTA: u64 = 5_000;
const PER_REQUEST: u64 = 400;
const PER_HOUR: u64 = 600;
const LIFETIME: u64 = 900;

const AGENTS: [Account; 2] = [
    Account::Agent(AgentId::from_bytes([1; 16])),
    Account::Agent(AgentId::from_bytes([2; 16])),
];
const PEER: Account = Account::Clearing(NodeId::from_bytes([3; 32]));

#[derive(Clone, Debug)]
enum Op {
    /// One transfer, or a group of them.
    Apply(Vec<Transfer>),
    Renew(TransferId),
    Expire,
    Step(u64),
    Freeze(bool),
    /// Does an earlier transfer again, as it was.
    Again(prop::sample::Index),
}

// ---- the model ----

#[derive(Clone, Debug, Default)]
struct Account4 {
    out: u64,
    out_held: u64,
    into: u64,
    into_held: u64,
}

#[derive(Clone, Debug)]
struct ModelHold {
    from: Account,
    to: Account,
    amount: u64,
    timeout: u64,
    expires: u64,
    ended: bool,
    /// Which charge it made.
    charge: Option<usize>,
}

#[derive(Clone, Debug, Default)]
struct Model {
    now: u64,
    frozen: bool,
    accounts: BTreeMap<Account, Account4>,
    /// Who was charged, when, and how much of it was not given back.
    charges: Vec<(Account, u64, u64)>,
    holds: BTreeMap<TransferId, ModelHold>,
    done: BTreeMap<TransferId, Transfer>,
}

impl Model {
    fn charged(&self, who: Account, within: u64) -> u64 {
        let inside = |c: &&(Account, u64, u64)| c.0 == who && self.now - c.1 < within;
        self.charges.iter().filter(inside).map(|c| c.2).sum()
    }

    /// All of `transfers`, or nothing; the name of the first refusal.
    fn group(&mut self, transfers: &[Transfer]) -> Result<bool, &'static str> {
        let (mut next, mut changed) = (self.clone(), false);
        for transfer in transfers {
            changed |= next.one(transfer)?;
        }
        *self = next;
        Ok(changed)
    }

    fn one(&mut self, transfer: &Transfer) -> Result<bool, &'static str> {
        if let Some(earlier) = self.done.get(&transfer.id) {
            return if earlier == transfer {
                Ok(false)
            } else {
                Err("taken")
            };
        }
        match transfer.kind {
            Kind::Single {
                debit,
                credit,
                amount,
            } => {
                self.take(debit, credit, amount.utrm(), false)?;
            }
            Kind::Hold {
                debit,
                credit,
                amount,
                timeout_ms,
            } => {
                self.take(debit, credit, amount.utrm(), true)?;
                let charge = AGENTS.contains(&debit).then(|| self.charges.len() - 1);
                let hold = ModelHold {
                    from: debit,
                    to: credit,
                    amount: amount.utrm(),
                    timeout: timeout_ms,
                    expires: self.now + timeout_ms,
                    ended: false,
                    charge,
                };
                self.holds.insert(transfer.id, hold);
            }
            Kind::Post { amount, .. } if amount.is_zero() => return Err("zero"),
            Kind::Post { hold, amount } => {
                if self.open(hold)?.amount < amount.utrm() {
                    return Err("more than held");
                }
                self.end(hold, amount.utrm());
            }
            Kind::Void { hold } => {
                self.open(hold)?;
                self.end(hold, 0);
            }
            Kind::Expire { .. } => unreachable!("only time expires holds here"),
        }
        self.done.insert(transfer.id, *transfer);
        Ok(true)
    }

    fn take(&mut self, from: Account, to: Account, n: u64, hold: bool) -> Result<(), &'static str> {
        if n == 0 {
            return Err("zero");
        }
        if from == to {
            return Err("same account");
        }
        if AGENTS.contains(&from) {
            if self.frozen {
                return Err("frozen");
            }
            if n > PER_REQUEST {
                return Err("per request");
            }
            if self.charged(from, HOUR) + n > PER_HOUR {
                return Err("hour");
            }
            if self.charged(from, u64::MAX) + n > LIFETIME {
                return Err("lifetime");
            }
            self.charges.push((from, self.now, n));
        }
        let account = self.accounts.entry(from).or_default();
        *(if hold {
            &mut account.out_held
        } else {
            &mut account.out
        }) += n;
        let used = account.out + account.out_held;
        if from == Account::Issuer && used > QUOTA {
            return Err("cap");
        }
        if from != Account::Issuer && from != Account::Position && used > account.into {
            return Err("funds");
        }
        let account = self.accounts.entry(to).or_default();
        *(if hold {
            &mut account.into_held
        } else {
            &mut account.into
        }) += n;
        if to == Account::Position && account.into + account.into_held > account.out {
            return Err("funds");
        }
        Ok(())
    }

    fn open(&self, id: TransferId) -> Result<&ModelHold, &'static str> {
        match self.holds.get(&id) {
            None => Err("unknown hold"),
            Some(hold) if hold.ended || hold.expires <= self.now => Err("ended"),
            Some(hold) => Ok(hold),
        }
    }

    fn end(&mut self, id: TransferId, posted: u64) {
        let hold = self.holds.get_mut(&id).expect("the caller looked");
        assert!(!hold.ended, "a hold ended twice");
        hold.ended = true;
        let from = self.accounts.entry(hold.from).or_default();
        (from.out_held, from.out) = (from.out_held - hold.amount, from.out + posted);
        let to = self.accounts.entry(hold.to).or_default();
        (to.into_held, to.into) = (to.into_held - hold.amount, to.into + posted);
        if let Some(charge) = hold.charge {
            self.charges[charge].2 = posted;
        }
    }

    fn expire(&mut self) -> usize {
        let due = |h: &ModelHold| !h.ended && h.expires <= self.now;
        let ids: Vec<_> = self
            .holds
            .iter()
            .filter(|(_, h)| due(h))
            .map(|(id, _)| *id)
            .collect();
        for id in &ids {
            self.end(*id, 0);
        }
        ids.len()
    }
}

// ---- what is asked ----

fn account() -> impl Strategy<Value = Account> {
    prop_oneof![
        4 => prop::sample::select(AGENTS.to_vec()),
        2 => Just(Account::Outgoing),
        1 => Just(PEER),
        1 => Just(Account::Position),
        1 => Just(Account::Issuer),
        1 => Just(Account::Revenue),
    ]
}

fn id() -> impl Strategy<Value = TransferId> {
    (0_u8..60).prop_map(|n| TransferId::from_bytes([n; 16]))
}

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![1 => 0_u64..3, 6 => 1_u64..420, 1 => 400_u64..2_000]
        .prop_map(|n| Amount::from_utrm(n).unwrap())
}

fn transfer(id: TransferId, kind: Kind) -> Transfer {
    Transfer {
        id,
        kind,
        code: TransferCode::Budget,
        reference: [0; 32],
    }
}

fn op() -> impl Strategy<Value = Op> {
    let timeout = prop_oneof![Just(1), 1_000_u64..200_000, Just(HOUR), Just(2 * HOUR)];
    let single =
        (account(), account(), amount()).prop_map(|(debit, credit, amount)| Kind::Single {
            debit,
            credit,
            amount,
        });
    let hold = (account(), account(), amount(), timeout).prop_map(|(debit, credit, amount, ms)| {
        Kind::Hold {
            debit,
            credit,
            amount,
            timeout_ms: ms,
        }
    });
    let post = (id(), amount()).prop_map(|(hold, amount)| Kind::Post { hold, amount });
    let void = id().prop_map(|hold| Kind::Void { hold });
    let kind = prop_oneof![4 => single, 8 => hold, 6 => post, 3 => void];
    let one = (id(), kind).prop_map(|(id, kind)| vec![transfer(id, kind)]);
    // As a purchase: the post and the way on belong together.
    let pay = (id(), id(), amount()).prop_map(|(id, hold, amount)| {
        let mut next = *id.as_bytes();
        next[0] = 128 + next[1];
        let (debit, credit) = (Account::Outgoing, PEER);
        let on = Kind::Single {
            debit,
            credit,
            amount,
        };
        vec![
            transfer(id, Kind::Post { hold, amount }),
            transfer(TransferId::from_bytes(next), on),
        ]
    });
    let step = prop_oneof![
        6 => 0_u64..3_000,
        4 => 50_000_u64..70_000,
        1 => Just(HOUR - 60_000),
        1 => Just(HOUR - 1),
        1 => Just(HOUR),
        1 => HOUR - 90_000..HOUR + 90_000,
    ];
    prop_oneof![
        12 => one.prop_map(Op::Apply),
        3 => pay.prop_map(Op::Apply),
        1 => id().prop_map(Op::Renew),
        1 => Just(Op::Expire),
        4 => step.prop_map(Op::Step),
        1 => prop::bool::weighted(0.3).prop_map(Op::Freeze),
        3 => any::<prop::sample::Index>().prop_map(Op::Again),
    ]
}

/// The refusal's name in the model.
fn name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::IdTaken { .. } => "taken",
        Refusal::Zero => "zero",
        Refusal::SameAccount => "same account",
        Refusal::UnknownHold { .. } => "unknown hold",
        Refusal::HoldEnded { .. } => "ended",
        Refusal::MoreThanHeld { .. } => "more than held",
        Refusal::Frozen { .. } => "frozen",
        Refusal::OverBudget {
            limit: Limit::PerRequest,
            ..
        } => "per request",
        Refusal::OverBudget {
            limit: Limit::Hour, ..
        } => "hour",
        Refusal::OverBudget {
            limit: Limit::Lifetime,
            ..
        } => "lifetime",
        Refusal::OverCap { .. } => "cap",
        Refusal::NotEnough { .. } => "funds",
        other => panic!("{other} cannot happen here"),
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, ApplyError>) -> Result<T, &'static str> {
    match outcome {
        Ok(done) => Ok(done),
        Err(ApplyError::Refused(refusal)) => Err(name(&refusal)),
        Err(ApplyError::Store(error)) => panic!("{error}"),
    }
}

/// Both begin with 3000 for one agent and 1500 for the other.
fn begin() -> (MemoryTables, Model) {
    let (mut books, mut model) = (
        MemoryTables::default(),
        Model {
            now: START,
            ..Model::default()
        },
    );
    let trm = |n| Amount::from_utrm(n).unwrap();
    let limits = Limits {
        per_request_trm: trm(PER_REQUEST),
        hour_trm: trm(PER_HOUR),
        lifetime_trm: trm(LIFETIME),
    };
    for (n, agent) in (200_u8..).zip(AGENTS) {
        let Account::Agent(id) = agent else {
            unreachable!()
        };
        books
            .put_row(Table::Mandates, id.as_bytes(), &MandateRow::new(limits))
            .unwrap();
        let amount = trm(if n == 200 { 3_000 } else { 1_500 });
        let kind = Kind::Single {
            debit: Account::Position,
            credit: agent,
            amount,
        };
        let grant = [transfer(TransferId::from_bytes([n; 16]), kind)];
        apply_group(&mut books, &grant, Timestamp::from_ms(START)).unwrap();
        model.group(&grant).unwrap();
    }
    books
        .put_row(Table::Meta, b"issuer-quota", &trm(QUOTA))
        .unwrap();
    (books, model)
}

fn same(books: &MemoryTables, model: &Model) {
    for check in audit(books).unwrap() {
        assert!(check.holds, "{}: {}", check.rule, check.detail);
    }
    let wide = u128::from;
    for (account, m) in &model.accounts {
        let totals = Totals {
            debits_posted: wide(m.out),
            debits_pending: wide(m.out_held),
            credits_posted: wide(m.into),
            credits_pending: wide(m.into_held),
        };
        assert_eq!(books.totals(account).unwrap(), totals, "{account}");
        if !matches!(account, Account::Issuer | Account::Position) {
            assert!(m.out + m.out_held <= m.into, "{account} is overdrawn");
        }
    }
    let (out, into) = model
        .accounts
        .values()
        .fold((0, 0), |s, a| (s.0 + a.out, s.1 + a.into));
    assert_eq!(out, into, "debits equal credits");
    for agent in AGENTS {
        let Account::Agent(id) = agent else {
            unreachable!()
        };
        let row = books.mandate(&id).unwrap().unwrap();
        assert_eq!(
            row.used,
            wide(model.charged(agent, u64::MAX)),
            "lifetime of {agent}"
        );
        // Every window that ends at a charge, of what was not given back.
        for (_, end, _) in model.charges.iter().filter(|c| c.0 == agent) {
            let inside = |c: &&(Account, u64, u64)| c.0 == agent && c.1 <= *end && end - c.1 < HOUR;
            let sum: u64 = model.charges.iter().filter(inside).map(|c| c.2).sum();
            assert!(sum <= PER_HOUR, "{sum} in the hour that ends at {end}");
        }
    }
    let open = |h: &&ModelHold| !h.ended;
    let index = books
        .scan(Table::OpenHolds, &[], None, Order::Ascending, usize::MAX)
        .unwrap();
    assert_eq!(index.len(), model.holds.values().filter(open).count());
}

fn agrees(books: &mut MemoryTables, model: &mut Model, transfers: &[Transfer]) {
    let before = (books.clone(), model.clone());
    let now = Timestamp::from_ms(model.now);
    let ours = refused(apply_group(books, transfers, now)).map(|done| done == Applied::Now);
    let theirs = model.group(transfers);
    if ours == Err("hour") && theirs != ours {
        // Late by a bucket, at most: with a minute more in the window the model refuses too.
        let late = transfers.iter().any(|transfer| match transfer.kind {
            Kind::Single { debit, amount, .. } | Kind::Hold { debit, amount, .. } => {
                before.1.charged(debit, HOUR + 60_000) + amount.utrm() > PER_HOUR
            }
            _ => false,
        });
        assert!(
            late,
            "{transfers:?} was refused by the hour, {theirs:?} without reason"
        );
        *model = before.1;
    } else {
        assert_eq!(ours, theirs, "{transfers:?}");
    }
    if ours.is_err() {
        assert_eq!(*books, before.0, "a refusal wrote something");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_ledger_does_what_the_model_does(ops in prop::collection::vec(op(), 1..120)) {
        let (mut books, mut model) = begin();
        let mut asked: Vec<Vec<Transfer>> = Vec::new();
        for op in ops {
            let now = Timestamp::from_ms(model.now);
            match op {
                Op::Apply(transfers) => {
                    agrees(&mut books, &mut model, &transfers);
                    asked.push(transfers);
                }
                Op::Again(_) if asked.is_empty() => {}
                Op::Again(index) => agrees(&mut books, &mut model, index.get(&asked[..]).as_slice()),
                Op::Renew(id) => {
                    let ours = refused(renew(&mut books, &id, now));
                    let theirs = model.open(id).map(drop);
                    prop_assert_eq!(ours, theirs);
                    if let (Ok(()), Some(hold)) = (theirs, model.holds.get_mut(&id)) {
                        hold.expires = now.ms() + hold.timeout;
                    }
                }
                Op::Expire => {
                    let ours = refused(expire_due(&mut books, now, usize::MAX));
                    prop_assert_eq!(ours, Ok(model.expire()));
                }
                Op::Step(ms) => model.now += ms,
                Op::Freeze(on) => {
                    model.frozen = on;
                    let freeze = Freeze { reason: "test".into(), since: now };
                    if on {
                        books.put_row(Table::Meta, b"freeze", &freeze).unwrap();
                    } else {
                        books.remove(Table::Meta, b"freeze").unwrap();
                    }
                }
            }
            same(&books, &model);
        }
    }
}
